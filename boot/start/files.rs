//! What an app's main function gets: the root share, or the name space that the command line describes.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::fmt;
use core::ops::Deref;

use super::cmdline::Options;
use super::shares::{Mounted, is_of_domain};
#[cfg(feature = "vchan")]
use super::vchan;
use super::{
    ExitCode, ShareError, ShareInfo, StartError, options, print_bytes, read_console, system,
    uptime, wall_clock,
};
use crate::fs::aio::RemoteNode;
use crate::fs::{self, Fs, SystemTime};
use crate::ns::{DialError, MemTree, Namespace, Synthetic, Tree};
use crate::platform::{PAGE_SIZE, Platform};
use crate::rt::{BarePlatform, memory_info};
use crate::transport::xen9pfs;
use crate::tree::{DynNode, Node, files};
use crate::xen::xenbus::Device;

/// What memory a tree made by the source `#mem` may take, as a share of the domain's.
const MEM_SHARE: usize = 4;

/// What a node of a [`MemTree`] counts.
const NODE: usize = 512;

/// What the main function of an app may take, by reference.
///
/// [`Fs`] is the share that `share=` names, or the first one; the options `mount=`, `bind=` and `export=` are then
/// refused. [`Namespace`] has that share at its root, and whatever `mount=` and `bind=` add, and serves what `export=`
/// says; a part of the image only when it is asked for.
pub trait Files: Deref<Target = files::Fs<Self::Node>> + Sized + 'static {
    /// What they are made of.
    #[doc(hidden)]
    type Node: Node;

    /// Mounts them.
    #[doc(hidden)]
    fn open() -> Result<Self, StartError>;

    /// Those of one share, as files of the same kind: an image has code for one kind.
    #[doc(hidden)]
    fn of_share(share: Fs) -> Self;
}

impl Files for Fs {
    type Node = RemoteNode;

    fn open() -> Result<Self, StartError> {
        let Options {
            layout,
            exports,
            cache,
            ..
        } = options();
        let mounts = !layout.mounts().is_empty() || !layout.binds().is_empty();
        if mounts || !exports.is_empty() || cache.is_some() {
            return Err(StartError::new(
                ExitCode::USAGE,
                &"this app works on one share: the options mount=, bind=, export= and cache= are not for it",
            ));
        }
        let root = system().shares.root().map(|share| share.fs);
        root.map_err(|error| StartError::new(ExitCode::FAILURE, &error))
    }

    fn of_share(share: Fs) -> Self {
        share
    }
}

impl Files for Namespace {
    type Node = DynNode;

    fn open() -> Result<Self, StartError> {
        let fails = |error: &dyn fmt::Display| StartError::new(ExitCode::FAILURE, error);
        let layout = &options().layout;
        #[cfg(feature = "vchan")]
        {
            vchan::Exports::install();
            vchan::start(None)?;
        }
        let ns = if layout.has_root() {
            layout.build(tree)
        } else {
            let root = system().shares.root().map_err(|error| fails(&error))?;
            layout.build_over(root.tree(), tree)
        };
        let ns = ns.map_err(|error| fails(&error))?;
        #[cfg(feature = "vchan")]
        vchan::start(Some(&ns))?;
        system().files.replace(Some(ns.clone()));
        crate::std::set_files(|| system().files.borrow().clone());
        Ok(ns)
    }

    fn of_share(share: Fs) -> Self {
        Namespace::new(share)
    }
}

/// Why there is no tree for the source of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceError {
    /// The text is the source; it is not one of the trees that an image makes itself.
    NoTree(String),
    /// The text is the address.
    Dial(String, DialError),
    /// The share can't be used.
    Share(ShareError),
    /// A tree could not be made.
    Made(fs::Error),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::NoTree(source) => {
                write!(
                    f,
                    "there is no tree '{source}'; there are #dev, #mem and #xen"
                )
            }
            SourceError::Dial(address, error) => write!(f, "{address}: {error}"),
            SourceError::Share(error) => error.fmt(f),
            SourceError::Made(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SourceError {}

/// The tree that the source of a mount means: the tag of a share, an address such as `xen!9pfs!TAG`,
/// `xen!9pfs!0` (a device's number), `vchan!DOMID!NAME[!TREE]` or `argo!DOMID!PORT[!TREE]` (what another domain serves), or a tree that the image
/// makes itself:
///
/// * `#dev`: `cons`, the console; `null`; `time`, as in Plan 9: seconds and nanoseconds since 1970,
///   nanoseconds since the start, and how many of these there are in a second;
/// * `#mem`: an empty tree in memory, which may take a quarter of the domain's;
/// * `#xen`: `stats`, numbers about memory and shares, a name and a value a line.
///
/// A share that is not mounted yet is mounted now: that may block, for a bounded time.
///
/// # Errors
/// [`SourceError`].
pub fn tree(source: &str) -> Result<Rc<dyn Tree>, SourceError> {
    let made = match source {
        "#dev" => dev(),
        "#mem" => Ok(MemTree::with_clock(memory_info().total / MEM_SHARE, clock)),
        "#xen" => xen(),
        _ if source.starts_with('#') => return Err(SourceError::NoTree(source.into())),
        _ => {
            let share = match source.strip_prefix("xen!9pfs!") {
                Some(target) => by_address(target),
                None if is_of_domain(source) => mounted(source),
                None if source.contains('!') => {
                    let error = DialError::UnknownScheme;
                    return Err(SourceError::Dial(source.into(), error));
                }
                None => mounted(source),
            };
            return Ok(share.map_err(SourceError::Share)?.tree());
        }
    };
    Ok(Rc::new(made.map_err(SourceError::Made)?))
}

/// The share with this tag or address, mounted.
fn mounted(tag: &str) -> Result<Mounted, ShareError> {
    system().shares.get(tag)
}

/// The share of a device's tag or, if no device has such a tag, number.
fn by_address(target: &str) -> Result<Mounted, ShareError> {
    let devices = xen9pfs::devices(&system().xen).map_err(ShareError::Connect)?;
    if devices.iter().any(|device| device.tag() == Some(target)) {
        return mounted(target);
    }
    let numbered = devices.iter().find(|device| device.id() == target);
    let tag = numbered.and_then(Device::tag).unwrap_or(target);
    // Shares are known by their tags.
    let taken = devices.iter().find(|device| device.tag() == Some(tag));
    match taken {
        Some(taken) if numbered.is_some() && taken.id() != target => {
            Err(ShareError::Twin(tag.into(), taken.id().into()))
        }
        _ => mounted(tag),
    }
}

/// Tells the times of files in memory.
fn clock() -> SystemTime {
    wall_clock().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `#dev`.
fn dev() -> fs::Result<MemTree> {
    let tree = MemTree::with_clock(3 * NODE, clock);
    let print = |bytes: &[u8]| {
        print_bytes(bytes);
        Ok(bytes.len())
    };
    tree.put_synthetic("/cons", Synthetic::new().stream(read_console).write(print))?;
    let null = Synthetic::new().stream(|_| Ok(0));
    tree.put_synthetic("/null", null.write(|bytes| Ok(bytes.len())))?;
    let time = || {
        let now = BarePlatform.wall_clock();
        let (seconds, up) = (now / 1_000_000_000, uptime().as_nanos() as u64);
        Ok(format!("{seconds} {now} {up} 1000000000\n").into_bytes())
    };
    tree.put_synthetic("/time", Synthetic::new().read(time))?;
    Ok(tree)
}

/// `#xen`.
fn xen() -> fs::Result<MemTree> {
    let tree = MemTree::with_clock(NODE, clock);
    let stats = || {
        let memory = memory_info();
        let mut text = format!(
            "memory.total {}\nmemory.used {}\nuptime.ns {}\n",
            memory.total,
            memory.used(),
            uptime().as_nanos() as u64
        );
        // As they are: one whose connection is over is not to be mounted anew for this.
        for (fs, info) in system().shares.all() {
            let ShareInfo {
                tag, rings, order, ..
            } = info;
            let requests = fs.stats().requests;
            text += &format!(
                "share.{tag}.msize {}\nshare.{tag}.rings {rings}\nshare.{tag}.ring_bytes {}\n\
                 share.{tag}.requests {requests}\n",
                fs.msize(),
                PAGE_SIZE << order
            );
        }
        Ok(text.into_bytes())
    };
    tree.put_synthetic("/stats", Synthetic::new().read(stats))?;
    Ok(tree)
}
