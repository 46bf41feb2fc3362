//! What failed, in words for people: the operation, its paths and the error.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;

/// What was tried, in words: `rename "/a" to "/b"`, or `read` of what has no path. Bytes of a path that are not printable ASCII
/// are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    operation: &'a str,
    path: Option<&'a [u8]>,
    other_path: Option<&'a [u8]>,
}

impl<'a> Attempt<'a> {
    /// An operation on a path, on two, or on none.
    pub fn new(
        operation: &'a str,
        path: Option<&'a [u8]>,
        other_path: Option<&'a [u8]>,
    ) -> Attempt<'a> {
        Attempt {
            operation,
            path,
            other_path,
        }
    }
}

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if let Some(path) = self.path {
            write!(f, " \"{}\"", path.escape_ascii())?;
        }
        if let Some(other) = self.other_path {
            write!(f, " to \"{}\"", other.escape_ascii())?;
        }
        Ok(())
    }
}

/// An operation that failed.
///
/// Its text has the form `rename "/a" to "/b": Permission denied (EACCES)`: the [`Attempt`] and the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    operation: &'static str,
    path: Vec<u8>,
    /// Empty for operations of one path.
    other_path: Vec<u8>,
    error: Error,
    /// Which of all failures it was.
    nth: usize,
}

impl Failure {
    fn new(operation: &'static str, [path, other]: [&[u8]; 2], error: Error) -> Option<Failure> {
        Some(Failure {
            // However its options were given.
            operation: match operation {
                "open_with" => "open",
                operation => operation,
            },
            path: copy_of(path)?,
            other_path: copy_of(other)?,
            error: failed(error),
            nth: FAILED.load(Ordering::Relaxed),
        })
    }

    /// The method's name: "read", "create_dir_all"; "open" for `open_with`, too.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The path, as it was given; the first one of `copy`, `rename` and `hard_link`, the target of `symlink`.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The error that the method returned.
    pub fn error(&self) -> Error {
        self.error
    }

    /// Whether nothing that has to do with files failed after it, in the whole program: no operation on an open file or a
    /// listing, which know no path, and none on another tree. Then an error that says the same may be told with this path.
    pub fn is_last(&self) -> bool {
        self.nth == FAILED.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other_path = Some(self.other_path.as_slice()).filter(|path| !path.is_empty());
        let attempt = Attempt::new(self.operation, Some(&self.path), other_path);
        write!(f, "{attempt}: {}", self.error)
    }
}

impl core::error::Error for Failure {}

/// How many errors there were. Where threads count at the same time, some may be missing: each of them has a failure of its own.
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// Counts an error, for [`Failure::is_last`]. For what returns [`Error`]s that don't come from a tree.
#[must_use = "it is the error"]
#[inline(always)] // So that a call hands nothing over and gives nothing back.
pub fn failed(error: Error) -> Error {
    count_failure();
    error
}

#[cold]
#[inline(never)]
pub(crate) fn count_failure() {
    // No processor is asked for more than loads and stores.
    let so_far = FAILED.load(Ordering::Relaxed);
    FAILED.store(so_far.wrapping_add(1), Ordering::Relaxed);
}

/// The last failure of a tree's operations; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LastFailure(Rc<RefCell<Option<Failure>>>);

impl LastFailure {
    /// Notes a failure in place of the last one. Out of line: operations that succeed only pass by.
    #[cold]
    pub(super) fn note(&self, operation: &'static str, paths: [&[u8]; 2], error: Error) {
        *self.0.borrow_mut() = Failure::new(operation, paths, error);
    }

    pub(super) fn get(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }
}

fn copy_of(path: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(path.len()).ok()?;
    copy.extend_from_slice(path);
    Some(copy)
}
