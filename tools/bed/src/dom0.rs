//! The dom0 image: Xen, a Linux kernel and a RAM file system with xl, xenstored and the 9pfs backend, taken from
//! Debian's packages, built once and cached.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::host::{self, Context, Result};
use crate::release::Release;
use crate::{fail, say};

/// First process of dom0.
const INIT: &str = include_str!("../dom0/init");

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
    "fs/netfs/netfs",
    "fs/fscache/fscache",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "fs/9p/9p",
];

/// Kernel modules a Linux guest needs for its share, in the order they are loaded.
const GUEST_MODULES: &[&str] = &[
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

/// MiB of disk the unpacked packages and the image take while it is built.
const BUILD_SPACE_MIB: u64 = 1200;

/// What QEMU is given to boot.
pub struct Image {
    /// The hypervisor, an ELF file.
    pub xen: PathBuf,
    /// dom0's kernel, an ELF file.
    pub kernel: PathBuf,
    /// dom0's file system.
    pub initrd: PathBuf,
    /// A Linux guest's file system, with the modules for its share; its first process is still to be added by
    /// appending another archive.
    pub guest: PathBuf,
    /// The packages it was made of, with versions.
    pub versions: String,
}

/// Hands out the cached image, or builds it.
pub fn prepare(cache: &Path, release: &Release) -> Result<Image> {
    fs::create_dir_all(cache).during("create", cache)?;
    let _turn = host::exclusive(cache)?;
    let directory = cache.join(format!("dom0-{}-{:016x}", release.suite, recipe(release)));
    let cached = directory.is_dir();
    if !cached {
        build(release, cache, &directory)?;
    }
    let versions = directory.join("versions");
    let versions = fs::read_to_string(&versions).during("read", &versions)?;
    say!(
        "dom0 image: {} ({})",
        if cached { "cached" } else { "built" },
        summary(&versions)
    );
    Ok(Image {
        xen: directory.join("xen"),
        kernel: directory.join("vmlinux"),
        initrd: directory.join("initrd"),
        guest: directory.join("guest"),
        versions,
    })
}

/// Stands for everything in this program that shapes the image. Package versions are not part of it: they vanish
/// from the mirrors, an image once built stays good.
fn recipe(release: &Release) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        INIT,
        include_str!("dom0.rs"),
        include_str!("cpio.rs"),
        include_str!("release.rs"),
        release.suite,
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// The versions a person wants to see at each run.
fn summary(versions: &str) -> String {
    let shown = ["xen-hypervisor", "linux-image-6", "qemu-system-xen"];
    versions
        .lines()
        .filter(|line| shown.iter().any(|name| line.starts_with(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn build(release: &Release, cache: &Path, directory: &Path) -> Result<()> {
    let free = host::free_mib(cache)?;
    if free < BUILD_SPACE_MIB {
        return Err(fail!(
            "building the dom0 image takes {BUILD_SPACE_MIB} MiB of disk, {} has {free} MiB left",
            cache.display()
        ));
    }
    // Left-overs of killed builds, and images of older recipes; a running QEMU has read its image into memory.
    for old in fs::read_dir(cache)
        .during("list", cache)?
        .flatten()
        .map(|entry| entry.path())
    {
        if old.file_name().is_some_and(|name| {
            name.to_string_lossy()
                .starts_with(&format!("dom0-{}", release.suite))
        }) {
            fs::remove_dir_all(&old).during("remove", &old)?;
        }
    }
    let work = cache.join(format!("dom0-{}.new", release.suite));
    let root = work.join("root");
    fs::create_dir_all(&work).during("create", &work)?;
    let versions = unpack_packages(release, &work, &root)?;
    merge_usr(&root)?;
    say!("dom0 image: packing");
    let kernel = kernel_version(&root)?;
    let xen = format!("boot/xen-{}-amd64.gz", release.xen);
    write(
        &work.join("xen"),
        &decompress("gzip", &read(&root.join(xen))?)?,
    )?;
    write(
        &work.join("vmlinux"),
        &unpack_kernel(&read(&root.join(format!("boot/vmlinuz-{kernel}")))?)?,
    )?;
    write_initrd(release, &root, &kernel, &work.join("initrd"))?;
    write_guest(release, &root, &kernel, &work.join("guest"))?;
    write(&work.join("versions"), versions.as_bytes())?;
    fs::remove_dir_all(&root).during("remove", &root)?;
    fs::rename(&work, directory).during("create", directory)
}

/// Downloads the packages and what they depend on and unpacks them, running none of their scripts. Returns one line
/// per package, "NAME VERSION".
fn unpack_packages(release: &Release, work: &Path, root: &Path) -> Result<String> {
    say!(
        "dom0 image: downloading and unpacking Debian packages ({})",
        release.suite
    );
    let names = work.join("packages");
    let mut command = host::tied("mmdebstrap");
    command
        .arg("--variant=extract")
        // Unpacking needs no root; which mode runs without it depends on who asks.
        .arg(if host::is_root()? {
            "--mode=root"
        } else {
            "--mode=chrootless"
        })
        .args(apt_options())
        .arg(format!("--include={}", release.packages.join(",")))
        .arg(format!(
            "--extract-hook=ls \"$1\"/var/cache/apt/archives > '{}'",
            names.display()
        ))
        .arg(release.suite)
        .arg(root);
    host::output_of(
        &mut command,
        "getting dom0's packages from the Debian mirror (is it reachable?)",
    )?;
    let names = fs::read_to_string(&names).during("read", &names)?;
    let mut lines = String::new();
    for name in names.lines().filter_map(|name| name.strip_suffix(".deb")) {
        let mut parts = name.splitn(3, '_');
        let (Some(package), Some(version)) = (parts.next(), parts.next()) else {
            continue;
        };
        lines += &format!("{package} {}\n", version.replace("%3a", ":"));
    }
    Ok(lines)
}

/// Makes the links into /usr that newer releases have, and that come with a package which is not needed.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64"] {
        let (path, target) = (root.join(name), Path::new("usr").join(name));
        if !path.exists() {
            std::os::unix::fs::symlink(target, &path).during("create", &path)?;
        }
    }
    Ok(())
}

/// How this machine's apt reaches the network (proxies and such), for mmdebstrap, which starts from nothing.
fn apt_options() -> Vec<String> {
    let dump = Command::new("apt-config").arg("dump").output();
    let dump = dump.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&dump)
        .lines()
        .filter(|line| line.starts_with("Acquire::http") && !line.ends_with(" \"\";"))
        .map(|line| format!("--aptopt={line}"))
        .collect()
}

fn kernel_version(root: &Path) -> Result<String> {
    let boot = root.join("boot");
    fs::read_dir(&boot)
        .during("list", &boot)?
        .flatten()
        .find_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("vmlinuz-")
                .map(str::to_owned)
        })
        .ok_or_else(|| fail!("the package linux-image-amd64 brought no kernel"))
}

/// Takes the ELF file out of a bzImage, sparing Xen the slow work (Linux Documentation/arch/x86/boot.rst: setup_sects,
/// payload_offset, payload_length).
fn unpack_kernel(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| {
        image
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
    };
    let payload = || {
        let sectors = match *image.get(0x1f1)? {
            0 => 4,
            n => usize::from(n),
        };
        let start = (sectors + 1) * 512 + word(0x248)?;
        image.get(start..start + word(0x24c)?)
    };
    let payload = payload().ok_or_else(|| fail!("dom0's kernel is not a bzImage"))?;
    match payload {
        [0xfd, b'7', b'z', ..] => decompress("xz", payload),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => decompress("zstd", payload),
        _ => Err(fail!(
            "dom0's kernel is compressed in a way this program does not know"
        )),
    }
}

/// Runs `data` through a decompressor. Trailing bytes that are not compressed data (a kernel's payload ends with its
/// length) are ignored.
fn decompress(program: &str, data: &[u8]) -> Result<Vec<u8>> {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let mut child = host::tied(program)
        .args(["-dcq"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| fail!("cannot run {program}: {error}"))?;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(fail!("cannot talk to {program}"));
    };
    let mut plain = Vec::new();
    std::thread::scope(|scope| {
        // The reader closes early on trailing bytes: a broken pipe here is no news.
        scope.spawn(move || input.write_all(data));
        output.read_to_end(&mut plain)
    })
    .map_err(|error| fail!("cannot read from {program}: {error}"))?;
    child.wait().map_err(|error| fail!("{program}: {error}"))?;
    if plain.is_empty() {
        Err(fail!("{program} could not unpack part of dom0"))
    } else {
        Ok(plain)
    }
}

fn write_initrd(release: &Release, root: &Path, kernel: &str, path: &Path) -> Result<()> {
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

/// Packs what a Linux guest has besides its first process.
fn write_guest(release: &Release, root: &Path, kernel: &str, path: &Path) -> Result<()> {
    let mut add = Packer::new(path)?;
    for name in ["dev", "modules"] {
        add.done(|archive| archive.directory(name))?;
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

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).during("read", path)
}

fn write(path: &Path, data: &[u8]) -> Result<()> {
    fs::write(path, data).during("write", path)
}
