//! QEMU's 9P server, the one behind Xen's 9pfs in most dom0s, without Xen and without a guest: an
//! emulated machine whose processor never starts, and whose virtio-9p device is driven from outside
//! through QEMU's test interface.
//!
//! What differs from Xen is only QEMU's transport file: the server's own code is the same.

mod qtest;
mod virtio;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::real::{Process, find};
use qtest::Qtest;
pub use virtio::Virtio;

/// How QEMU exports a directory.
#[derive(Clone, Copy, Debug)]
pub struct QemuOptions {
    /// "none": as files are; "mapped-xattr": owners and modes in extended attributes.
    pub security_model: &'static str,
    /// Refuse every change.
    pub read_only: bool,
    /// The largest message.
    pub msize: u32,
    /// How many requests can be under way at once, at most 64.
    pub slots: u16,
}

impl Default for QemuOptions {
    fn default() -> Self {
        QemuOptions {
            security_model: "none",
            read_only: false,
            msize: 1 << 18,
            slots: 16,
        }
    }
}

/// QEMU serving `export`, in 9P2000.L and 9P2000.u. `None`, and a word about it on stderr, if it
/// isn't installed.
pub fn qemu(export: &Path, options: QemuOptions) -> io::Result<Option<Virtio>> {
    let Some(program) = find("qemu-system-x86_64", "qemu-system-x86") else {
        return Ok(None);
    };
    let mut fsdev = OsString::from("local,id=export,path=");
    // A comma in an option's value is written twice.
    fsdev.push(export.to_string_lossy().replace(',', ",,"));
    fsdev.push(format!(",security_model={}", options.security_model));
    if options.read_only {
        fsdev.push(",readonly=on");
    }
    let mut command = Command::new(program);
    command
        // With one interrupt controller instead of two there are eight virtio slots, all on it.
        .args([
            "-M",
            "microvm,ioapic2=off",
            "-accel",
            "tcg",
            "-S",
            "-nodefaults",
        ])
        .args(["-display", "none", "-m", virtio::MACHINE_MEMORY])
        .args(["-qtest", "stdio", "-qtest-log", "none"])
        .arg("-fsdev")
        .arg(fsdev)
        .args(["-device", "virtio-9p-device,fsdev=export,mount_tag=export"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let machine = Qtest::new(Process::start(&mut command)?);
    Virtio::new(machine, options.msize, options.slots).map(Some)
}
