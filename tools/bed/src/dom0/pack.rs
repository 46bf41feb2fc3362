//! What goes into the file systems of dom0 and of a Linux guest, and how they are packed.

use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kernel::decompress;
use super::{INIT, PEER, PEER_SERVE, read};
use crate::cpio::Archive;
use crate::host::{self, Context, Result};
use crate::release::Release;

/// Kernel modules dom0 loads, by path under the kernel's module directory, unless they are built in. The init script has
/// their order.
const MODULES: &[&str] = &[
    "drivers/xen/xen-privcmd",
    "drivers/xen/xenfs/xenfs",
    "drivers/xen/xen-evtchn",
    "drivers/xen/xen-gntdev",
    "drivers/xen/xen-gntalloc",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/char/virtio_console",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "fs/netfs/netfs",
    "fs/fscache/fscache",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "net/9p/9pnet_fd",
    "fs/9p/9p",
];

/// Kernel modules a Linux guest needs for its share, or to serve one, in the order they are loaded.
const GUEST_MODULES: &[&str] = &[
    "drivers/xen/xen-evtchn",
    "drivers/xen/xen-gntdev",
    "fs/netfs/netfs",
    "fs/fscache/fscache",
    "net/9p/9pnet",
    "net/9p/9pnet_xen",
    "fs/9p/9p",
];

/// Programs dom0 needs from the release's Xen directory.
const XEN_PROGRAMS: &[&str] = &[
    "xl",
    "xenstored",
    "xen-init-dom0",
    "xenconsoled",
    "xenconsole",
    "libxl-save-helper",
    "vchan-socket-proxy",
];

/// Other programs dom0 needs.
const PROGRAMS: &[&str] = &[
    "usr/bin/xenstore-read",
    "usr/bin/xenstore-write",
    "usr/bin/xenstore-ls",
    "usr/bin/xenstore-list",
    "usr/bin/xenstore-rm",
    "usr/bin/xenstore-chmod",
    "usr/bin/xenstore-watch",
    "usr/bin/xenstore-exists",
    "usr/sbin/diod",
    "usr/libexec/xen-qemu-system-i386",
];

/// Directories the image starts with; each one's parents come before it.
const DIRECTORIES: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "etc/xen",
    "lib64",
    "modules",
    "usr",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib/xen",
    "usr/lib/xen/bin",
    "usr/libexec",
    "usr/share",
    "usr/share/qemu",
    "usr/share/qemu/keymaps",
    "var",
    "var/lib",
    "var/log",
];

/// Packs dom0's file system.
pub fn write_initrd(release: &Release, root: &Path, kernel: &str, path: &Path) -> Result<()> {
    let mut programs: Vec<(PathBuf, String)> = Vec::new();
    for name in XEN_PROGRAMS.iter().chain(release.xen_programs) {
        programs.push((
            root.join(format!("usr/lib/xen-{}/bin/{name}", release.xen)),
            format!("usr/lib/xen/bin/{name}"),
        ));
    }
    for name in PROGRAMS {
        programs.push((root.join(name), (*name).to_owned()));
    }
    let libraries = libraries(
        release,
        root,
        programs.iter().map(|(from, _)| from.as_path()),
    )?;
    let mut add = Packer::new(path)?;
    for name in DIRECTORIES {
        add.done(|archive| archive.directory(name))?;
    }
    add.done(|archive| archive.char_device("dev/console", 5, 1))?;
    add.done(|archive| archive.file("init", 0o755, INIT.as_bytes()))?;
    add.done(|archive| archive.file("etc/xen/xl.conf", 0o644, b""))?;
    // libxl looks for its helpers under the versioned name.
    add.done(|archive| archive.symlink(&format!("usr/lib/xen-{}", release.xen), "xen"))?;
    add.done(|archive| archive.symlink("lib", "usr/lib"))?;
    add.copy(&root.join("bin/busybox"), "bin/busybox")?;
    add.done(|archive| archive.file("bin/peer", 0o755, PEER.as_bytes()))?;
    add.done(|archive| archive.file("bin/peer-serve", 0o755, PEER_SERVE.as_bytes()))?;
    add.copy(
        &root.join("usr/share/qemu/keymaps/en-us"),
        "usr/share/qemu/keymaps/en-us",
    )?;
    for (from, to) in &programs {
        add.copy(from, to)?;
    }
    for (from, name) in &libraries {
        add.copy(from, &format!("usr/lib/{name}"))?;
    }
    add.copy(
        &inside(root, &root.join("lib64/ld-linux-x86-64.so.2")),
        "lib64/ld-linux-x86-64.so.2",
    )?;
    add.modules(release, root, kernel, MODULES)?;
    add.finish()
}

/// Packs what a Linux guest has: with a first process also the programs that it calls.
pub fn write_guest(
    release: &Release,
    root: &Path,
    kernel: &str,
    init: Option<&str>,
    path: &Path,
) -> Result<()> {
    let mut add = Packer::new(path)?;
    for name in ["dev", "modules"] {
        add.done(|archive| archive.directory(name))?;
    }
    if let Some(init) = init {
        add.done(|archive| archive.directory("bin"))?;
        add.copy(&root.join("bin/busybox"), "bin/busybox")?;
        add.done(|archive| archive.file("init", 0o755, init.as_bytes()))?;
    }
    add.done(|archive| archive.char_device("dev/console", 5, 1))?;
    add.modules(release, root, kernel, GUEST_MODULES)?;
    add.finish()
}

/// The archive, with errors that name it.
struct Packer<'a> {
    archive: Archive<Out>,
    path: &'a Path,
}

type Out = BufWriter<fs::File>;

impl Packer<'_> {
    fn new(path: &Path) -> Result<Packer<'_>> {
        let out = fs::File::create(path).during("create", path)?;
        Ok(Packer {
            archive: Archive::new(BufWriter::new(out)),
            path,
        })
    }

    fn done(&mut self, add: impl FnOnce(&mut Archive<Out>) -> std::io::Result<()>) -> Result<()> {
        add(&mut self.archive).during("write", self.path)
    }

    fn modules(
        &mut self,
        release: &Release,
        root: &Path,
        kernel: &str,
        modules: &[&str],
    ) -> Result<()> {
        let directory = root.join("lib/modules").join(kernel);
        let built_in = directory.join("modules.builtin");
        let built_in = fs::read_to_string(&built_in).during("read", &built_in)?;
        for module in modules {
            let file = format!("kernel/{module}.ko");
            if built_in.lines().any(|line| line == file) || release.merged_modules.contains(module)
            {
                continue;
            }
            let name = module.rsplit('/').next().unwrap_or(module);
            let (plain, packed) = (directory.join(&file), directory.join(format!("{file}.xz")));
            let data = match packed.exists() {
                true => decompress("xz", &read(&packed)?)?,
                false => read(&plain)?,
            };
            self.done(|archive| archive.file(&format!("modules/{name}.ko"), 0o644, &data))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let out = self.archive.finish().during("write", self.path)?;
        let file = out.into_inner().map_err(|error| error.into_error());
        file.during("write", self.path).map(drop)
    }

    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let mode = fs::metadata(from)
            .during("read", from)?
            .permissions()
            .mode()
            & 0o777;
        let data = read(from)?;
        self.done(|archive| archive.file(to, mode, &data))
    }
}

/// All shared libraries the programs need, as (file, name the loader looks for), found by the release's own loader.
fn libraries<'a>(
    release: &Release,
    root: &Path,
    programs: impl Iterator<Item = &'a Path>,
) -> Result<Vec<(PathBuf, String)>> {
    let triplet = "x86_64-linux-gnu";
    let path = [
        root.join("lib").join(triplet),
        root.join("usr/lib").join(triplet),
        root.join(format!("usr/lib/xen-{}/lib/{triplet}", release.xen)),
    ];
    let path = path
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(":");
    let loader = inside(root, &root.join("lib64/ld-linux-x86-64.so.2"));
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for program in programs {
        let mut command = Command::new(&loader);
        command
            .args(["--library-path", &path, "--list"])
            .arg(program);
        let text = host::output_of(
            &mut command,
            &format!("listing the libraries of {}", program.display()),
        )?;
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((name, file)) = line.trim().split_once(" => ") else {
                continue;
            };
            let file = file.split(" (").next().unwrap_or(file);
            if name.starts_with("lib") && found.iter().all(|(_, known)| known != name) {
                found.push((inside(root, Path::new(file)), name.to_owned()));
            }
        }
    }
    Ok(found)
}

/// Follows a symbolic link of the unpacked tree whose target is absolute: it means the tree, not this machine.
fn inside(root: &Path, path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) if target.is_absolute() => {
            root.join(target.strip_prefix("/").unwrap_or(&target))
        }
        _ => path.to_owned(),
    }
}
