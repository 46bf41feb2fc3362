//! The devices of Xen that Linux has in dom0 (and in a driver domain): xenstore, grants, event channels, on the system
//! calls of Linux alone.

pub mod evtchn;
pub mod gntdev;
mod ioctl;
pub mod ring;
pub mod span;
pub mod store;

use std::fs::{File, OpenOptions};
use std::io;

use rustix::fs::OFlags;

/// Opens a device of Xen's. What is opened does not survive an exec.
fn open(name: &str, flags: OFlags) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let path = format!("/dev/xen/{name}");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(&path);
    file.map_err(|error| io::Error::new(error.kind(), format!("cannot open {path}: {error}")))
}
