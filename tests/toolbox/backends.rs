//! Servers that the shares come from.

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::Namespace;
use xen9p::p9::wire::kind;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::{diod, xen9pd};
use xen9p_testing::server::xen9pfsd::Daemon;

/// A kind of server.
pub trait Backend {
    /// How deep a tree is that tests make by paths: servers that follow each name of a path on the host take a
    /// time that grows with the square of it.
    const DEPTH: usize = 70;

    /// An empty share of its own, and its directory on this machine if it has one. `None`, and a word about it
    /// on stderr, if the program is not installed.
    fn share() -> Option<(Namespace, Option<TempDir>)>;
}

/// The server in memory, at its kindest.
pub struct Memory;

impl Backend for Memory {
    const DEPTH: usize = 200;

    fn share() -> Option<(Namespace, Option<TempDir>)> {
        Some((share_to_lose().0, None))
    }
}

/// A share in memory, and what can take its server away.
pub fn share_to_lose() -> (Namespace, Control) {
    in_memory(MemOptions {
        checks_modes: true,
        ..MemOptions::default()
    })
}

/// The server in memory with all that other servers make hard: small messages, entries without types, no
/// Tunlinkat and no Trenameat, and what QEMU says of a directory that is read.
pub struct Unkind;

impl Backend for Unkind {
    fn share() -> Option<(Namespace, Option<TempDir>)> {
        let options = MemOptions {
            msize: 4096,
            checks_modes: true,
            untyped_entries: true,
            lacks: vec![kind::TUNLINKAT, kind::TRENAMEAT],
            ..MemOptions::default()
        };
        Some((in_memory(options).0, None))
    }
}

fn in_memory(options: MemOptions) -> (Namespace, Control) {
    let mut server = MemServer::new(options);
    let options = LaneOptions {
        lanes: 3,
        ..LaneOptions::default()
    };
    let (transport, control) = lanes(options, move |request| server.handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    (Namespace::new(fs), control)
}

/// QEMU's server on a directory of this machine.
pub struct Qemu;

impl Backend for Qemu {
    fn share() -> Option<(Namespace, Option<TempDir>)> {
        on_qemu(QemuOptions::default())
    }
}

/// The same, with the smallest messages and with owners and modes in extended attributes.
pub struct QemuSmall;

impl Backend for QemuSmall {
    fn share() -> Option<(Namespace, Option<TempDir>)> {
        on_qemu(QemuOptions {
            security_model: "mapped-xattr",
            msize: 4096,
            ..QemuOptions::default()
        })
    }
}

fn on_qemu(options: QemuOptions) -> Option<(Namespace, Option<TempDir>)> {
    let export = TempDir::new().unwrap();
    let transport = qemu(export.path(), options).unwrap()?;
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    Some((Namespace::new(fs), Some(export)))
}

/// diod on a directory of this machine.
pub struct Diod;

impl Backend for Diod {
    fn share() -> Option<(Namespace, Option<TempDir>)> {
        let export = TempDir::new().unwrap();
        let transport = diod(export.path()).unwrap()?;
        let tree = export.path().to_str().unwrap();
        let fs = Fs::mount(transport, &MountOptions::new().tree(tree)).unwrap();
        Some((Namespace::new(fs), Some(export)))
    }
}

/// Our own daemon on a directory of this machine.
pub struct Xen9pd;

impl Backend for Xen9pd {
    fn share() -> Option<(Namespace, Option<TempDir>)> {
        let export = TempDir::new().unwrap();
        let transport = xen9pd(export.path()).unwrap()?;
        let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
        Some((Namespace::new(fs), Some(export)))
    }
}

/// A server like xen-9pfsd, with these directories, files and links.
pub fn share_of_xen9pfsd(dirs: &[&str], files: &[&str], links: &[(&str, &str)]) -> Namespace {
    let mut daemon = Daemon::default();
    for dir in dirs {
        daemon.files.insert((*dir).into(), None);
    }
    for file in files {
        daemon.files.insert((*file).into(), Some(b"kept\n".into()));
    }
    for (link, target) in links {
        daemon.links.insert((*link).into(), (*target).into());
    }
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        daemon.handle(request)
    });
    Namespace::new(Fs::mount(transport, &MountOptions::new()).unwrap())
}
