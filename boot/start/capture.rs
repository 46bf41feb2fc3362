//! 9P messages as lines of the log, and all of them as a file.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::cmdline::TraceFile;
use super::{Files, memory_info, now, options, print, system};
use crate::fs::Fs;
use crate::p9::trace::{Capture, Traced};
use crate::platform::Platform;
use crate::rt::BarePlatform;
use crate::transport::Transport;

/// What memory a capture of 9P messages may take, as a share of the domain's.
const CAPTURE_SHARE: usize = 8;

/// An empty capture.
pub(super) fn new() -> Capture {
    let epoch = BarePlatform.wall_clock();
    Capture::new(
        memory_info().total / CAPTURE_SHARE,
        epoch.saturating_sub(now().as_nanos()),
    )
}

/// The connection, with each message shown or captured if that is wanted.
pub(super) fn watched(transport: Box<dyn Transport>) -> Box<dyn Transport> {
    let transport: Box<dyn Transport> = Box::new(Traced::new(transport));
    match &system().capture {
        Some(capture) => Box::new(capture.watch(transport)),
        None => transport,
    }
}

/// Writes the capture, if there is one, to the file that the options name, by what the app has for files: generic, and so
/// made for the app, the code for writing a file is in the image once.
pub(super) fn write<F: Files>() {
    let Some((capture, file)) = system().capture.as_ref().zip(options().trace.as_ref()) else {
        return;
    };
    // What writes it is not in it.
    let pieces = capture.end();
    if capture.missed() > 0 {
        log::warn!(
            "{file} begins late: {} messages had to be given up",
            capture.missed()
        );
    }
    let done = share(file).and_then(|fs| {
        let write = || {
            let to = F::of_share(fs).create(&file.path)?;
            for piece in &pieces {
                to.write_all(piece)?;
            }
            to.close()
        };
        write().map_err(|error| format!("{error}"))
    });
    if let Err(error) = done {
        print(format_args!(
            "xen9p: cannot write the trace to {file}: {error}\n"
        ));
    }
}

/// The share that the capture goes to, ready for use even though the app was to stop.
fn share(file: &TraceFile) -> Result<Fs, String> {
    let shares = &system().shares;
    let fs = match &file.share {
        Some(tag) => {
            let share = shares.get(tag).map_err(|error| format!("{error}"))?;
            share.fs
        }
        None => {
            let mut mounted = shares.all().into_iter();
            mounted.next().ok_or("no share is mounted")?.0
        }
    };
    fs.interrupt().clear();
    fs.set_idle_hook(None);
    Ok(fs)
}
