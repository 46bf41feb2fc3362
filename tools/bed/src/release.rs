//! The Debian releases that dom0 can be made of, and what differs between them.

use crate::domain::Backend;
use crate::fail;
use crate::host::Result;

/// A Debian release.
#[derive(Debug)]
pub struct Release {
    /// Its name, which is also what the user asks for.
    pub suite: &'static str,
    /// The packages that make up dom0.
    pub packages: &'static [&'static str],
    /// Version in the name of Xen's directories.
    pub xen: &'static str,
    /// Programs of its Xen directory besides those that all have.
    pub xen_programs: &'static [&'static str],
    /// Kernel modules that are part of others there.
    pub merged_modules: &'static [&'static str],
    /// What serves 9pfs devices there, the usual one first.
    pub backends: &'static [Backend],
}

/// Debian 12.
pub const BOOKWORM: Release = Release {
    suite: "bookworm",
    packages: &[
        "xen-hypervisor-4.17-amd64",
        "xen-utils-4.17",
        "xenstore-utils",
        "qemu-system-xen",
        "linux-image-amd64",
        "busybox-static",
    ],
    xen: "4.17",
    xen_programs: &[],
    merged_modules: &[],
    backends: &[Backend::Qemu],
};

/// Debian 13.
pub const TRIXIE: Release = Release {
    suite: "trixie",
    packages: &[
        "xen-hypervisor-4.20-amd64",
        "xen-utils-4.20",
        "xenstore-utils",
        "qemu-system-xen",
        "linux-image-amd64",
        "busybox-static",
    ],
    xen: "4.20",
    xen_programs: &["xen-9pfsd"],
    merged_modules: &["fs/fscache/fscache"],
    backends: &[Backend::Daemon, Backend::QemuByHand],
};

impl Release {
    /// Reads BED.
    pub fn named(name: &str) -> Result<&'static Release> {
        match name {
            "" | "bookworm" => Ok(&BOOKWORM),
            "trixie" => Ok(&TRIXIE),
            other => Err(fail!("BED={other}: it is bookworm or trixie")),
        }
    }

    /// What serves 9pfs devices unless something else is asked for.
    pub fn backend(&self) -> Backend {
        self.backends[0]
    }
}
