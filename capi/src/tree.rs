//! The tree that a mount is; with the feature `cache` one that remembers, where the mount's options ask for that.

#[cfg(not(feature = "cache"))]
pub(crate) use plain::*;
#[cfg(feature = "cache")]
pub(crate) use remembering::*;

#[cfg(not(feature = "cache"))]
mod plain {
    use xen9p::errno::Errno;
    use xen9p::fs::aio;

    use crate::error::{Fail, Result};

    pub(crate) use xen9p::fs::aio::{
        Fs as Tree, ReadDir as TreeDir, RemoteFile as TreeFile, RemoteNode as TreeNode,
    };

    /// Whether there can be such a cache: there can be none.
    pub(crate) fn check_cache(bytes: u32) -> Result<()> {
        match bytes {
            0 => Ok(()),
            _ => Err(Fail::new(
                Errno::EOPNOTSUPP,
                "this library is built without a cache: make capi FEATURES=cache",
            )),
        }
    }

    /// The tree of a mount.
    pub(crate) fn of_mount(fs: aio::Fs, _: u32) -> Tree {
        fs
    }
}

#[cfg(feature = "cache")]
mod remembering {
    use xen9p::fs::aio;
    use xen9p::time::Instant;
    use xen9p::tree::files;
    use xen9p::tree::trees::{CachedFile, CachedNode};

    use crate::error::Result;
    use crate::platform;
    use crate::state::with_state;

    pub(crate) type TreeNode = CachedNode<aio::RemoteNode>;
    pub(crate) type TreeFile = CachedFile<aio::RemoteFile>;
    pub(crate) type Tree = files::aio::Fs<TreeNode>;
    pub(crate) type TreeDir = files::aio::ReadDir<TreeNode>;

    /// Whether there can be such a cache.
    pub(crate) fn check_cache(_: u32) -> Result<()> {
        Ok(())
    }

    /// The tree of a mount, with a cache of so many bytes; none for 0.
    pub(crate) fn of_mount(fs: aio::Fs, cache: u32) -> Tree {
        let clock = || platform::now() - Instant::from_nanos(0);
        Tree::new(CachedNode::new(fs.node(), cache as usize, clock))
    }

    /// Has the mounts' caches give memory back; whether that was any. Nothing while the library works on what is mounted.
    pub(crate) fn give_back() -> bool {
        let given = with_state(|state| state.mounts.iter().any(|it| it.tree().root().give_back()));
        given.unwrap_or(false)
    }
}
