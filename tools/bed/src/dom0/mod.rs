//! The dom0 image: Xen, a Linux kernel and a RAM file system with xl, xenstored and the 9pfs backend, taken from
//! Debian's packages, built once and cached.

pub mod argo;
mod kernel;
mod pack;
pub mod packages;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::host::{self, Context, Result};
use crate::leave::Doomed;
use crate::release::Release;
use crate::{cache, fail, say, scratch};

/// First process of dom0.
const INIT: &str = include_str!("../../dom0/init");

/// What has the other machine of a pair run a command, and what runs it there.
const PEER: &str = include_str!("../../dom0/peer");
const PEER_SERVE: &str = include_str!("../../dom0/peer-serve");

/// First process of a Linux guest.
const GUEST_INIT: &str = include_str!("../../dom0/guest-init");

/// MiB of disk the unpacked packages and the image take while it is built.
const BUILD_SPACE_MIB: u64 = 1200;

/// How long an image of another recipe that no one uses is kept.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// What QEMU is given to boot. It is not removed from the cache while this lives.
pub struct Image {
    /// The hypervisor, an ELF file.
    pub xen: PathBuf,
    /// What the hypervisor is told because of what it is.
    pub xen_options: &'static str,
    /// dom0's kernel, an ELF file.
    pub kernel: PathBuf,
    /// dom0's file system.
    pub initrd: PathBuf,
    /// A Linux guest's file system, with the modules for its share; its first process is still to be added by
    /// appending another archive.
    pub guest: PathBuf,
    /// The same with a first process that gives a shell on the console.
    pub guest_shell: PathBuf,
    /// The packages it was made of, with versions.
    pub versions: String,
    used: Vec<File>,
}

/// Where an image is, or will be.
fn directory_in(cache: &Path, release: &Release) -> PathBuf {
    cache.join(format!("dom0-{}-{:016x}", release.suite, recipe(release)))
}

/// The directory of an image that needs no building, in this cache or in that of all users.
pub fn cached(cache: &Path, release: &Release) -> Option<PathBuf> {
    let directories = [cache, Path::new(cache::OF_ALL)].map(|cache| directory_in(cache, release));
    directories.into_iter().find(|path| path.is_dir())
}

/// Hands out the cached image, or builds it.
pub fn prepare(cache: &Path, release: &Release) -> Result<Image> {
    if !release.has_argo {
        return prepare_packaged(cache, release);
    }
    // First what may not be had.
    let hypervisor = argo::prepare(cache)?.map_err(host::Fail)?;
    let mut image = prepare_packaged(cache, release)?;
    hypervisor.put_into(&mut image);
    Ok(image)
}

/// Of packages alone.
fn prepare_packaged(cache: &Path, release: &Release) -> Result<Image> {
    if let Some(directory) = cached(cache, release) {
        return open(&directory, "cached");
    }
    let building = cache.join("build");
    let _turn = take_turn(&building)?;
    // It may just have been built.
    if let Some(directory) = cached(cache, release) {
        return open(&directory, "cached");
    }
    sweep(cache);
    let directory = directory_in(cache, release);
    build(release, &building, &directory)?;
    open(&directory, "built")
}

/// Makes the directory that building is done in, and waits until no other process builds.
fn take_turn(building: &Path) -> Result<File> {
    fs::create_dir_all(building).during("create", building)?;
    let turn = scratch::lock_file(building)?;
    if turn.try_lock().is_err() {
        say!("dom0 image: another xen-bed is building; waiting for it");
        turn.lock().during("lock", building)?;
    }
    Ok(turn)
}

/// Keeps a directory in the cache as long as the result lives.
fn hold(directory: &Path) -> Result<File> {
    let used = scratch::lock_file(directory)?;
    used.lock_shared().during("lock", directory)?;
    // Another user's keeps the time of its owner's last use.
    let _ = used.set_modified(SystemTime::now());
    Ok(used)
}

fn open(directory: &Path, how: &str) -> Result<Image> {
    let used = hold(directory)?;
    let versions = directory.join("versions");
    let versions = fs::read_to_string(&versions).during("read", &versions)?;
    say!("dom0 image: {how} ({})", summary(&versions));
    Ok(Image {
        xen: directory.join("xen"),
        xen_options: "",
        kernel: directory.join("vmlinux"),
        initrd: directory.join("initrd"),
        guest: directory.join("guest"),
        guest_shell: directory.join("guest-shell"),
        versions,
        used: vec![used],
    })
}

/// Stands for everything in this program that shapes the image. Package versions are not part of it: they vanish
/// from the mirrors, an image once built stays good.
fn recipe(release: &Release) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        [INIT, PEER, PEER_SERVE, GUEST_INIT],
        include_str!("mod.rs"),
        include_str!("kernel.rs"),
        include_str!("pack.rs"),
        include_str!("packages.rs"),
        include_str!("../cpio.rs"),
        include_str!("../release.rs"),
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

/// Whether a directory in the cache that is named so is an image of dom0 or a hypervisor.
fn is_image(name: &str) -> bool {
    ["dom0-", "argo-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Removes images that were not used for long and are not in use.
fn sweep(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_image = path
            .file_name()
            .is_some_and(|name| is_image(&name.to_string_lossy()));
        let lock = path.join("lock");
        let age = fs::metadata(&lock).and_then(|lock| lock.modified());
        let age = age.ok().and_then(|used| used.elapsed().ok());
        if is_image
            && age.is_some_and(|age| age > KEPT)
            && File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            // Another user's stays.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Builds an image in the directory `building`, which is this process's alone, and moves it to its place.
fn build(release: &Release, building: &Path, directory: &Path) -> Result<()> {
    let free = host::free_mib(building)?;
    if free < BUILD_SPACE_MIB {
        return Err(fail!(
            "building the dom0 image takes {BUILD_SPACE_MIB} MiB of disk, {} has {free} MiB left",
            building.display()
        ));
    }
    let work = Doomed::new(building.join("image"));
    // A build that was killed has left it.
    if work.path().exists() {
        fs::remove_dir_all(work.path()).during("remove", work.path())?;
    }
    let image = work.path().join("new");
    let root = work.path().join("root");
    fs::create_dir_all(&image).during("create", &image)?;
    let versions = packages::unpack(release, work.path(), &root)?;
    say!("dom0 image: packing");
    let version = kernel::version(&root)?;
    let xen = read(&root.join(format!("boot/xen-{}-amd64.gz", release.xen)))?;
    write(&image.join("xen"), &kernel::decompress("gzip", &xen)?)?;
    let linux = read(&root.join(format!("boot/vmlinuz-{version}")))?;
    write(&image.join("vmlinux"), &kernel::unpack(&linux)?)?;
    pack::write_initrd(release, &root, &version, &image.join("initrd"))?;
    pack::write_guest(release, &root, &version, None, &image.join("guest"))?;
    let shell = Some(GUEST_INIT);
    pack::write_guest(release, &root, &version, shell, &image.join("guest-shell"))?;
    write(&image.join("versions"), versions.as_bytes())?;
    write(&image.join("lock"), &[])?;
    fs::rename(&image, directory).during("create", directory)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).during("read", path)
}

fn write(path: &Path, data: &[u8]) -> Result<()> {
    fs::write(path, data).during("write", path)
}
