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
    /// xl there can make devices for a daemon.
    pub has_daemons: bool,
    /// Its hypervisor is replaced by one that is built of its source, with Argo.
    pub has_argo: bool,
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
        "diod",
    ],
    xen: "4.17",
    xen_programs: &[],
    merged_modules: &[],
    backends: &[Backend::Qemu],
    has_daemons: false,
    has_argo: false,
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
        "diod",
    ],
    xen: "4.20",
    xen_programs: &["xen-9pfsd"],
    merged_modules: &["fs/fscache/fscache"],
    backends: &[Backend::Xen9pd, Backend::Daemon, Backend::QemuByHand],
    has_daemons: true,
    has_argo: false,
};

/// Debian 12 with a hypervisor that has Argo.
pub const ARGO: Release = Release {
    has_argo: true,
    ..BOOKWORM
};

impl Release {
    /// The release with this version of Xen, or this name; `argo` is Debian 12 with a hypervisor that has Argo.
    pub fn named(name: &str) -> Result<&'static Release> {
        if name == "argo" {
            return Ok(&ARGO);
        }
        [&BOOKWORM, &TRIXIE]
            .into_iter()
            .find(|release| release.xen == name || release.suite == name)
            .ok_or_else(|| {
                fail!("there is no Xen {name} here: it is 4.17 (Debian bookworm), 4.20 (trixie), or argo (4.17, built with Argo)")
            })
    }

    /// What serves 9pfs devices there if this is asked for; nothing stands for the usual.
    pub fn backends_named(&self, name: &str) -> Result<Vec<Backend>> {
        let all = match name {
            "" => self.backends.to_vec(),
            "xen9pd" if self.has_daemons => vec![Backend::Xen9pd, Backend::Xen9pdInstead],
            "xen9pd" => vec![Backend::Xen9pdInstead],
            "qemu" if self.has_daemons => vec![Backend::QemuByHand],
            "qemu" => vec![Backend::Qemu],
            "9pfsd" if self.has_daemons => vec![Backend::Daemon],
            "9pfsd" => {
                return Err(fail!(
                    "Xen {} has no xen-9pfsd, {} has",
                    self.xen,
                    TRIXIE.xen
                ));
            }
            other => {
                return Err(fail!(
                    "there is no backend {other}: it is xen9pd, qemu or 9pfsd"
                ));
            }
        };
        Ok(all)
    }
}
