//! Writes a log that is rotated: `/log/app.log`, and when that has 1 KiB, `app.log.1` to `app.log.3` before it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;

use xen9p::fs::{File, Fs, OpenOptions, Result};
use xen9p::rt;

xen9p::entry!(main);

const PATH: &str = "/log/app.log";
const LIMIT: u64 = 1024;
const KEPT: u32 = 3;

fn main(fs: &Fs) -> Result<()> {
    fs.create_dir_all("/log")?;
    let mut log = open(fs)?;
    let mut size = log.metadata()?.len();
    for number in 0..150 {
        let seconds = rt::uptime().as_micros();
        let line = format!("{seconds:>9} us: event {number}\n");
        if size + line.len() as u64 > LIMIT {
            log.close()?;
            rotate(fs)?;
            log = open(fs)?;
            size = 0;
        }
        log.write_all(line.as_bytes())?;
        size += line.len() as u64;
    }
    // What is in the log survives even a crash of the host from here on.
    log.sync_all()?;
    log.close()
}

fn open(fs: &Fs) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(fs, PATH)
}

/// Gives each old log the next number; the oldest is overwritten.
fn rotate(fs: &Fs) -> Result<()> {
    for number in (1..KEPT).rev() {
        let from = format!("{PATH}.{number}");
        if fs.exists(&from)? {
            fs.rename(&from, format!("{PATH}.{}", number + 1))?;
        }
    }
    fs.rename(PATH, format!("{PATH}.1"))
}
