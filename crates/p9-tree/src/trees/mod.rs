//! Trees that are made of nothing, or of other trees.
//!
//! | tree | what it is |
//! |---|---|
//! | [`MemTree`] | files in memory |
//! | [`Synthetic`] | a file of such a tree that functions stand behind, as those of a `/dev` |
//! | [`ReadOnlyNode`] | a view of another tree that changes nothing |
//! | [`CachedNode`] | another tree, for programs that ask for the same again and again |
//! | [`OverlayNode`] | two trees as one: the lower one stays as it is, the upper one takes what changes |

mod cached;
mod mem;
mod overlay;
mod read_only;
mod snapshot;
mod synthetic;

pub use cached::{CachedFile, CachedNode};
pub use mem::{MemFile, MemNode, MemTree};
pub use overlay::{OverlayFile, OverlayNode};
pub use read_only::{ReadOnlyFile, ReadOnlyNode};
pub(crate) use snapshot::{Listed, Snapshot, hand_out};
pub use synthetic::Synthetic;

use p9_wire::OpenFlags;

/// Whether flags ask to read.
pub(crate) fn reads(flags: OpenFlags) -> bool {
    !flags.contains(OpenFlags::WRITE_ONLY)
}

/// Whether flags ask to write.
pub(crate) fn writes(flags: OpenFlags) -> bool {
    flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE)
}

/// Copies what `content` has from `offset` on; returns how many bytes.
pub(crate) fn copy_out(content: &[u8], into: &mut [u8], offset: u64) -> usize {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = content.get(start..).unwrap_or(&[]);
    let count = from.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..count), from.get(..count)) {
        into.copy_from_slice(from);
    }
    count
}
