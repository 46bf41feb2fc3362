//! The servers under the mounted client.

use std::io;
use std::path::{Path, PathBuf};

use xen9p::fs::MountOptions;
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real;

use crate::mount::Mount;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Qemu,
    QemuMapped,
    Diod,
    P9,
    Xen9pd,
}

impl Server {
    pub const ALL: [Server; 5] = [
        Server::Xen9pd,
        Server::Qemu,
        Server::QemuMapped,
        Server::Diod,
        Server::P9,
    ];

    /// Its name in reports and in the list of expected failures.
    pub const fn name(self) -> &'static str {
        match self {
            Server::Qemu => "qemu",
            Server::QemuMapped => "qemu-mapped",
            Server::Diod => "diod",
            Server::P9 => "p9",
            Server::Xen9pd => "xen9pd",
        }
    }

    /// Which tests of pjdfstest to run on it, by parts of their names; `None`: it is too far from a
    /// POSIX file system for any.
    pub const fn pjdfstest(self) -> Option<&'static [&'static str]> {
        match self {
            Server::Qemu | Server::Diod | Server::Xen9pd => Some(&[]),
            // What QEMU refuses when it serves files as they are: devices, pipes and sockets.
            Server::QemuMapped => Some(&[
                "::block", "::char", "::fifo", "::socket", "mkfifo", "mknod", "open",
            ]),
            Server::P9 => None,
        }
    }

    /// The program that it is, if it is one, and the Debian package that brings it.
    pub const fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Server::Qemu | Server::QemuMapped => Some(("qemu-system-x86_64", "qemu-system-x86")),
            Server::Diod => Some(("diod", "diod")),
            Server::P9 | Server::Xen9pd => None,
        }
    }

    /// Serves `export` and mounts the client's view of it on `at`.
    pub fn mount(self, export: &Path, at: &Path, direct: bool) -> io::Result<Mount> {
        let options = MountOptions::new().umask(0);
        let dir: PathBuf = export.into();
        match self {
            Server::Qemu | Server::QemuMapped => {
                let security_model = if self == Server::Qemu {
                    "none"
                } else {
                    "mapped-xattr"
                };
                let config = QemuOptions {
                    security_model,
                    ..QemuOptions::default()
                };
                Mount::new(at, options, direct, move || there(qemu(&dir, config)?))
            }
            Server::Diod => {
                let options = options.tree(export.as_os_str().as_encoded_bytes());
                Mount::new(at, options, direct, move || there(real::diod(&dir)?))
            }
            Server::P9 => Mount::new(at, options, direct, move || real::p9(&dir)),
            Server::Xen9pd => Mount::new(at, options, direct, move || there(real::xen9pd(&dir)?)),
        }
    }
}

fn there<T>(server: Option<T>) -> io::Result<T> {
    server.ok_or_else(|| io::Error::other("the server is not installed"))
}
