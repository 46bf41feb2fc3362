//! A guest that works until there is a file `/enough`: tests take it to another machine meanwhile.
//!
//! `extra = "recovery=reattach files"`: works on a hundred open files. Ends with status 0 if every file is, through its first
//! handle, what was written. `copies`: copies `/in.bin` to `/copy.bin` again and again.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen9p::fs::{File, Fs, OpenOptions};
use xen9p::println;
use xen9p::rt;

xen9p::entry!(main);

const FILES: usize = 100;

/// Bytes written to each file in a round.
const RECORD: usize = 8;

fn main(fs: &Fs) -> Result<(), String> {
    let arguments = rt::args().map_err(|error| error.to_string())?;
    match arguments.first().map(|word| &**word) {
        Some("files") => files(fs),
        Some("copies") => copies(fs).map_err(|error| error.to_string()),
        _ => Err("usage: files | copies".into()),
    }
}

fn copies(fs: &Fs) -> xen9p::fs::Result<()> {
    let mut times = 0;
    while times == 0 || !fs.exists("/enough")? {
        fs.copy("/in.bin", "/copy.bin")?;
        times += 1;
    }
    println!("copied {times} times");
    Ok(())
}

fn files(fs: &Fs) -> Result<(), String> {
    let mut files = Vec::new();
    for n in 0..FILES {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(fs, format!("/file-{n}"));
        files.push(open.map_err(|error| error.to_string())?);
    }
    println!("{FILES} files are open");
    let mut rounds = 0;
    while !fs.exists("/enough").map_err(|error| error.to_string())? {
        for (n, file) in files.iter().enumerate() {
            work(file, n, rounds).map_err(|error| format!("file {n}, round {rounds}: {error}"))?;
        }
        rounds += 1;
    }
    for (n, file) in files.iter().enumerate() {
        check(file, n, rounds).map_err(|error| format!("file {n}: {error}"))?;
    }
    println!("{FILES} files are right after {rounds} rounds");
    Ok(())
}

/// What a file holds of one round.
fn record(n: usize, round: usize) -> [u8; RECORD] {
    ((n as u64) << 32 | round as u64).to_le_bytes()
}

/// Writes the record of this round, and reads that of a round before.
fn work(file: &File, n: usize, round: usize) -> Result<(), String> {
    let at = |round: usize| (round * RECORD) as u64;
    file.write_all_at(&record(n, round), at(round))
        .map_err(|error| error.to_string())?;
    let before = round / 2;
    let mut found = [0; RECORD];
    file.read_exact_at(&mut found, at(before))
        .map_err(|error| error.to_string())?;
    match found == record(n, before) {
        true => Ok(()),
        false => Err(format!("round {before} reads {found:?}")),
    }
}

/// Compares the whole file.
fn check(file: &File, n: usize, rounds: usize) -> Result<(), String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut found = vec![0; rounds * RECORD];
    file.read_exact_at(&mut found, 0)
        .map_err(|error| error.to_string())?;
    let right = (0..rounds).flat_map(|round| record(n, round));
    match size == found.len() as u64 && right.eq(found.iter().copied()) {
        true => Ok(()),
        false => Err(format!("{size} bytes are not what was written")),
    }
}
