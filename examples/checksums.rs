//! Writes the checksums (FNV-1a, 64 bits) of all files below the root to `/CHECKSUMS`, in the order of their names.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xen9p::fs::{Fs, Result};
use xen9p::println;

xen9p::entry!(main);

const OUTPUT: &str = "/CHECKSUMS";

fn main(fs: &Fs) -> Result<()> {
    let mut files = Vec::new();
    // A list instead of recursion: a tree may be deeper than the stack.
    let mut directories = vec![b"/".to_vec()];
    while let Some(directory) = directories.pop() {
        for entry in fs.read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && entry.path() != OUTPUT.as_bytes() {
                files.push(entry.path());
            }
        }
    }
    files.sort_unstable();
    let mut list = String::new();
    for path in &files {
        let sum = checksum(fs, path)?;
        list += &format!("{sum:016x}  {}\n", String::from_utf8_lossy(path));
    }
    fs.write(OUTPUT, &list)?;
    println!("{} files", files.len());
    Ok(())
}

fn checksum(fs: &Fs, path: &[u8]) -> Result<u64> {
    let file = fs.open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(sum);
        }
        for byte in &buffer[..count] {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
