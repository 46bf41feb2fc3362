//! Why a name space could not be changed.

use core::fmt;

use crate::Error;
use p9_wire::Errno;

/// The most directories that a union has.
pub(super) const MAX_ELEMENTS: usize = 40;

/// Why a mount, bind or unmount failed. The name space is then as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NsError {
    /// The name space was sealed.
    Sealed,
    /// What was to be bound is not there.
    NoSource(Error),
    /// The place to be bound onto, or to be united with, is not there.
    NoPlace(Error),
    /// A directory was to replace something that is none, or the other way round.
    KindDiffers,
    /// Only directories can be united.
    FileUnion,
    /// The union would have more than 40 elements.
    TooManyElements,
    /// Nothing is mounted or bound there.
    NotMounted,
    /// The union there has no such element.
    NoSuchElement,
    /// Something else is mounted below it.
    Busy,
    /// The root can be replaced, but not taken away.
    Root,
}

impl NsError {
    /// The Linux error number that comes nearest.
    pub fn errno(self) -> Errno {
        match self {
            NsError::Sealed => Errno::EPERM,
            NsError::NoSource(error) | NsError::NoPlace(error) => error.errno(),
            NsError::KindDiffers | NsError::FileUnion => Errno::ENOTDIR,
            NsError::TooManyElements => Errno::ENOSPC,
            NsError::NotMounted | NsError::NoSuchElement => Errno::EINVAL,
            NsError::Busy | NsError::Root => Errno::EBUSY,
        }
    }
}

impl fmt::Display for NsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NsError::Sealed => f.write_str(
                "the name space is sealed: nothing can be mounted, bound or unmounted any more",
            ),
            NsError::NoSource(error) => write!(f, "cannot find the file to bind: {error}"),
            NsError::NoPlace(error) => write!(f, "cannot find the place to bind onto: {error}"),
            NsError::KindDiffers => f.write_str(
                "a directory can only be bound onto a directory, and a file onto a file",
            ),
            NsError::FileUnion => {
                f.write_str("only directories can be united; a file can only be replaced")
            }
            NsError::TooManyElements => {
                write!(
                    f,
                    "a union has {MAX_ELEMENTS} directories at most; unmount some first"
                )
            }
            NsError::NotMounted => f.write_str("nothing is mounted or bound there"),
            NsError::NoSuchElement => {
                f.write_str("this is not one of the directories united there")
            }
            NsError::Busy => f.write_str("something is mounted below it; unmount that first"),
            NsError::Root => {
                f.write_str("the root of a name space cannot be unmounted; bind another over it")
            }
        }
    }
}

impl core::error::Error for NsError {}
