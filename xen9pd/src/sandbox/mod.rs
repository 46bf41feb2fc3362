//! The sandbox of a process that serves a peer: should the peer ever take the process over, it has got hold of the shared
//! directories, of which it could change everything anyway, and of nothing else.
//!
//! [`part`] takes the network, System V IPC and host name: the process gets name spaces that are empty. This can be done
//! before it is known what to share.
//!
//! [`enter`] takes, in this order:
//! - the mount name space: a root that is empty but for the shared directories, each mounted there with nosuid, nodev,
//!   noexec, and ro if it is shared so; the old root is unmounted. Where the root is an initramfs, which can't be
//!   unmounted, the new root is moved over it;
//! - capabilities: all but those that serving files takes, from the bounding set too;
//! - system calls: those on a list. Any other ends the process at once (`SIGSYS`).
//!
//! What a process that is not root can't do is left out: see [`Entered::namespaces`].

mod calls;
mod mounts;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
};

use crate::host::{Directory, Options, Owners, ProcFd, Xattrs};

/// What a process needs in its sandbox.
#[derive(Debug)]
pub struct Plan {
    /// The directories to share. These descriptors are closed: what is above them is outside.
    pub shares: Vec<(Directory, Options)>,
    /// How many descriptors the process may have at once.
    pub max_descriptors: u64,
}

/// What a process has in its sandbox.
#[derive(Debug)]
pub struct Entered {
    /// The shared directories, in the order of the plan.
    pub roots: Vec<OwnedFd>,
    /// For [`HostTree::new`](crate::host::HostTree::new).
    pub proc: ProcFd,
    /// Whether the process is in name spaces of its own, which only root can make.
    pub namespaces: bool,
}

/// Why a process is not in its sandbox. It may be half-way in: it had better end.
#[derive(Debug)]
#[non_exhaustive]
pub enum SandboxError {
    /// The process has several threads already; the others would stay outside.
    Threads(usize),
    /// A shared directory can't be mounted.
    Share(PathBuf, Errno),
    /// A step failed.
    Step(&'static str, Errno),
    /// The list of system calls was refused.
    Calls(String),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SandboxError::Threads(threads) => write!(
                f,
                "the sandbox has to be entered before threads are started, but there are {threads}"
            ),
            SandboxError::Share(path, error) => {
                write!(f, "cannot share {}: {error}", path.display())
            }
            SandboxError::Step(step, error) => write!(f, "cannot {step} for the sandbox: {error}"),
            SandboxError::Calls(error) => write!(f, "cannot restrict system calls: {error}"),
        }
    }
}

impl std::error::Error for SandboxError {}

fn step(name: &'static str) -> impl FnOnce(Errno) -> SandboxError {
    move |error| SandboxError::Step(name, error)
}

/// A process that has no part in the network any more, if it is root, and knows which calls it will make.
#[derive(Debug)]
pub struct Parted {
    namespaces: bool,
    calls: calls::Filters,
}

/// Leaves the network, System V IPC and the host name, for good. The sockets that the process has stay. `ioctls`: the requests of
/// ioctl(2) that it will make in the sandbox; none but these is possible.
///
/// # Errors
/// [`SandboxError::Step`], [`SandboxError::Calls`].
pub fn part(ioctls: &[u32]) -> Result<Parted, SandboxError> {
    let calls = calls::compile(ioctls).map_err(SandboxError::Calls)?;
    let namespaces = rustix::process::geteuid().is_root();
    if namespaces {
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)?;
    }
    Ok(Parted { namespaces, calls })
}

fn unshare(what: UnshareFlags) -> Result<(), SandboxError> {
    let what = what.difference(UnshareFlags::FILES);
    // SAFETY: FILES is not among the flags: descriptors stay as they are.
    unsafe { rustix::thread::unshare_unsafe(what) }.map_err(step("make name spaces"))
}

/// Enters the sandbox: this process, for good. What it needs from outside, such as sockets and mapped rings, it has to have
/// already.
///
/// # Errors
/// [`SandboxError`]; the process is of no more use then.
pub fn enter(plan: Plan, parted: Parted) -> Result<Entered, SandboxError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(SandboxError::Threads(threads));
    }
    limit_descriptors(plan.max_descriptors)?;
    let Parted { namespaces, calls } = parted;
    let proc = match namespaces {
        true => ProcFd::open_alone(),
        false => ProcFd::open(),
    };
    let proc = proc.map_err(step("open /proc/self/fd"))?;
    let roots = if namespaces {
        let trees = mounts::of(&plan.shares)?;
        unshare(UnshareFlags::NEWNS)?;
        mounts::enter(&trees)?
    } else {
        let same = |(directory, _): &(Directory, Options)| {
            rustix::io::fcntl_dupfd_cloexec(directory, 0)
                .map_err(|error| SandboxError::Share(directory.path().to_owned(), error))
        };
        plan.shares.iter().map(same).collect::<Result<_, _>>()?
    };
    if namespaces {
        set_thread_groups(&[]).map_err(step("leave groups"))?;
        drop_capabilities(&plan.shares)?;
    }
    set_no_new_privs(true).map_err(step("give up new privileges"))?;
    calls.apply().map_err(SandboxError::Calls)?;
    Ok(Entered {
        roots,
        proc,
        namespaces,
    })
}

fn limit_descriptors(max: u64) -> Result<(), SandboxError> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let may_raise = capabilities(None)
        .map_err(step("look at capabilities"))?
        .effective
        .contains(CapabilitySet::SYS_RESOURCE);
    let max = match hard {
        Some(hard) if !may_raise => max.min(hard),
        _ => max,
    };
    let limit = Rlimit {
        current: Some(max),
        maximum: Some(max),
    };
    setrlimit(Resource::Nofile, limit).map_err(step("limit descriptors"))
}

/// What serving these shares takes.
fn needed(shares: &[(Directory, Options)]) -> CapabilitySet {
    let mut needed = CapabilitySet::empty();
    for (_, options) in shares {
        // To become the owner of a new file, or the user of all.
        needed |= CapabilitySet::SETUID | CapabilitySet::SETGID;
        if !matches!(options.owners, Owners::Squash { .. }) {
            needed |= CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::CHOWN
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID;
            needed.set(
                CapabilitySet::MKNOD,
                options.devices || needed.contains(CapabilitySet::MKNOD),
            );
        }
        if options.xattrs == Xattrs::All {
            // `trusted.` and `security.` can't be had for less.
            needed |= CapabilitySet::SYS_ADMIN | CapabilitySet::SETFCAP;
        }
    }
    needed
}

fn drop_capabilities(shares: &[(Directory, Options)]) -> Result<(), SandboxError> {
    let needed = needed(shares);
    clear_ambient_capability_set().map_err(step("drop ambient capabilities"))?;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if needed.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // This kernel has no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(SandboxError::Step("bound capabilities", error)),
        }
    }
    let had = capabilities(None).map_err(step("look at capabilities"))?;
    let keep = had.permitted & needed;
    set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        },
    )
    .map_err(step("drop capabilities"))
}
