//! An app of your own: it boots, and gets its files.
#![no_std]
#![no_main]

use xen9p::ns::Namespace;
use xen9p::{fs, println};

xen9p::entry!(main);

fn main(files: &Namespace) -> fs::Result<()> {
    let greeting = files.read_to_string("/hello.txt")?;
    println!("The share says: {}", greeting.trim_end());
    files.write("/from-my-app.txt", "It works.\n")
}
