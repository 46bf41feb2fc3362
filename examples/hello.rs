//! An app of one's own: reads a file, prints it, writes one.
#![no_std]
#![no_main]

use xen9p::fs::{Fs, Result};
use xen9p::println;

xen9p::entry!(main);

fn main(fs: &Fs) -> Result<()> {
    let greeting = fs.read_to_string("/hello.txt")?;
    println!("The share says: {}", greeting.trim_end());
    fs.write("/answer.txt", "Hello back, with no system below.\n")
}
