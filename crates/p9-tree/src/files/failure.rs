//! What failed, in words for people: the operation, its paths and the error.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use crate::Error;

/// An operation that failed.
///
/// Its text has the form `rename "/a" to "/b": Permission denied (EACCES)`; bytes of a path that are not printable ASCII are
/// escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    operation: &'static str,
    path: Vec<u8>,
    /// Empty for operations of one path.
    other_path: Vec<u8>,
    error: Error,
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
            error,
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.operation, self.path.escape_ascii())?;
        if !self.other_path.is_empty() {
            write!(f, " to \"{}\"", self.other_path.escape_ascii())?;
        }
        write!(f, ": {}", self.error)
    }
}

impl core::error::Error for Failure {}

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
