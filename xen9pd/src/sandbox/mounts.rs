//! The mount name space of the sandbox.

use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::{SandboxError, step};
use crate::host::{Directory, Options};

/// A directory that every system has which got this far. The new root is mounted over it, in this process's own mount name
/// space, until it is the root.
const STAGE: &str = "/proc";

/// Mounts of the shares, not yet anywhere. Made in the name space that the directories were opened in.
pub(super) fn of(shares: &[(Directory, Options)]) -> Result<Vec<OwnedFd>, SandboxError> {
    let of = |(directory, options): &(Directory, Options)| {
        share(directory, options)
            .map_err(|error| SandboxError::Share(directory.path().to_owned(), error))
    };
    shares.iter().map(of).collect()
}

/// Makes these mounts all that there is in this name space, a new one, and returns their roots.
pub(super) fn enter(trees: &[OwnedFd]) -> Result<Vec<OwnedFd>, SandboxError> {
    // What is done here is not done outside.
    let below = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", below).map_err(step("part from the mounts of this machine"))?;
    let root = empty_root(trees.len()).map_err(step("make an empty root"))?;
    // Before Linux 6.15 a mount takes others only once it is somewhere itself.
    attach(&root, CWD, STAGE).map_err(step("mount an empty root"))?;
    for (number, tree) in trees.iter().enumerate() {
        attach(tree, root.as_fd(), &number.to_string())
            .map_err(step("mount a share in the empty root"))?;
    }
    set_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
        .map_err(step("make the root read-only"))?;
    fchdir(&root).map_err(step("enter the new root"))?;
    change_root()?;
    (0..trees.len())
        .map(|number| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(format!("/{number}"), flags, Mode::empty())
                .map_err(step("open a share in the new root"))
        })
        .collect()
}

/// The share's mount, not yet anywhere.
fn share(directory: &Directory, options: &Options) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let flags = match options.cross_mounts {
        true => flags | OpenTreeFlags::AT_RECURSIVE,
        false => flags,
    };
    let tree = open_tree(directory, c"", flags)?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    if options.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    // What the machine unmounts is unmounted there, too, so that a share holds no disk for ever; nothing goes back.
    let propagation = libc::MS_SLAVE;
    set_attributes(tree.as_fd(), attributes, propagation, options.cross_mounts)?;
    Ok(tree)
}

/// A file system with a directory for each share and nothing else, not yet anywhere.
fn empty_root(shares: usize) -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "size", "4096")?;
    fsconfig_set_string(&fs, "mode", "0755")?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    for number in 0..shares {
        rustix::fs::mkdirat(&root, number.to_string(), Mode::from_raw_mode(0o700))?;
    }
    Ok(root)
}

/// Mounts what was nowhere.
fn attach(tree: &OwnedFd, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, c"", directory, name, flags)
}

/// Makes the working directory, which is a mount, the root.
fn change_root() -> Result<(), SandboxError> {
    match pivot_root(".", ".") {
        // The old root lies on the new one now.
        Ok(()) => unmount(".", UnmountFlags::DETACH).map_err(step("unmount the old root"))?,
        // The first root of a machine, an initramfs, can't be taken away.
        Err(Errno::INVAL) => {
            mount_move(".", "/").map_err(step("move the new root over the initramfs"))?;
            chroot(".").map_err(step("change the root"))?;
        }
        Err(error) => return Err(SandboxError::Step("change the root", error)),
    }
    chdir("/").map_err(step("enter the new root"))
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    propagation: u64,
    all_below: bool,
) -> Result<(), Errno> {
    // SAFETY: all zeros are a value of this structure of integers.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = set;
    attributes.propagation = propagation;
    let mut flags = libc::AT_EMPTY_PATH;
    if all_below {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path and the structure are on our stack, or constant, until the call is over, and the size is the
    // structure's own.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if status < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}
