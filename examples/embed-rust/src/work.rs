//! What this kernel does with files.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use core::time::Duration;

use xen9p::fs::{Fs, MountOptions, OpenOptions};
use xen9p::p9::session::Recovery;
use xen9p::platform::Platform;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Config, ConnectError, Xen9pfs};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::shutdown::{ShutdownRequest, ShutdownWatch};

use crate::Out;
use crate::interrupts;
use crate::kernel::Kernel;

/// How long one look for something that has not happened yet is from the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long a backend is looked for that is gone.
const RECOVERY: Duration = Duration::from_secs(60);

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Does what the command line says.
pub fn work(events: &Events<Kernel>, line: &[u8], out: &mut Out<'_>) -> Result<(), String> {
    let xen = Xen::new(events.clone()).map_err(text)?;
    match line {
        b"lose" => lose_backend(&mount(&xen)?, out),
        b"save" => be_saved(&xen, out),
        _ => use_files(&mount(&xen)?, out),
    }
}

fn connect(xen: &Xen<Kernel>) -> Result<Xen9pfs<Kernel>, ConnectError> {
    let device = xen9pfs::device(xen, None)?;
    xen9pfs::connect(xen, device, &Config::for_memory(16 << 20))
}

fn mount(xen: &Xen<Kernel>) -> Result<Fs, String> {
    Fs::mount(connect(xen).map_err(text)?, &MountOptions::new()).map_err(text)
}

/// Reads until that fails, and goes on.
fn lose_backend(fs: &Fs, out: &mut Out<'_>) -> Result<(), String> {
    let _ = writeln!(out, "waits for its backend to die");
    let error = loop {
        match fs.read("/hello.txt") {
            Ok(_) => Kernel.wait(&[], Kernel.now() + INTERVAL),
            Err(error) => break error,
        }
    };
    let _ = writeln!(out, "lost: {error}");
    match fs.metadata("/") {
        Err(again) if again == error => Ok(()),
        other => Err(format!("then there was another end: {other:?}")),
    }
}

/// Keeps a file open while it is saved and restored, which takes another backend: the mount looks for it.
fn be_saved(xen: &Xen<Kernel>, out: &mut Out<'_>) -> Result<(), String> {
    let asked = ShutdownWatch::new(&xen.store, true).map_err(text)?;
    let dialing = xen.clone();
    let redial = move || {
        dialing.events.sleep_until(Kernel.now() + INTERVAL);
        let connected = connect(&dialing).ok();
        Ok(connected.map(|transport| Box::new(transport) as Box<dyn Transport>))
    };
    let recovery = Recovery::new(redial, RECOVERY);
    let transport = connect(xen).map_err(text)?;
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).map_err(text)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    let file = fs.open_with("/kept.txt", &options).map_err(text)?;
    file.write_all_at(b"before", 0).map_err(text)?;
    let _ = writeln!(out, "waits to be saved");
    while asked.take().map_err(text)? != Some(ShutdownRequest::Suspend) {
        xen.events.sleep_until(Kernel.now() + INTERVAL);
    }
    let how = xen.suspend(Kernel::suspend).map_err(text)?;
    let _ = writeln!(out, "goes on, {how:?}");
    file.write_all_at(b" after", 6).map_err(text)?;
    let mut kept = [0; 12];
    file.read_exact_at(&mut kept, 0).map_err(text)?;
    file.close().map_err(text)?;
    fs.unmount().map_err(text)?;
    match &kept {
        b"before after" => Ok(()),
        other => Err(format!("the file has {other:?}")),
    }
}

/// Lists, reads, writes, renames and copies.
fn use_files(fs: &Fs, out: &mut Out<'_>) -> Result<(), String> {
    let mut work = || {
        for entry in fs.read_dir("/")? {
            let _ = writeln!(out, "entry {}", entry?.file_name_lossy());
        }
        let greeting = fs.read_to_string("/hello.txt")?;
        let _ = writeln!(out, "read {}", greeting.trim_end());
        fs.copy("/large.bin", "/copy.bin")?;
        fs.write("/new", "Written by a kernel of its own.\n")?;
        fs.rename("/new", "/from-rust.txt")
    };
    work().map_err(|e: xen9p::fs::Error| text(e))?;
    let count = interrupts::COUNT.load(Ordering::Relaxed);
    let _ = writeln!(out, "{count} interrupts, {} waits", fs.stats().waits);
    fs.clone().unmount().map_err(text)
}
