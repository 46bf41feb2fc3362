//! How a walk ended.

use p9_wire::{Errno, Qid, QidKind};

use crate::{Error, Result};

/// How a walk along several names ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked<T> {
    /// Behind the last name: what was asked for, and the identity of the file that the names lead to. That can be a
    /// symbolic link.
    Through(T, Qid),
    /// At a symbolic link that more names come behind; the index of its name.
    Link(usize),
    /// At the name with this index, which can't be walked to, for this reason.
    Blocked(usize, Error),
}

impl<T> Walked<T> {
    /// Does the next thing with what was walked to.
    pub async fn then<U>(self, next: impl AsyncFnOnce(T) -> Result<U>) -> Result<Walked<U>> {
        match self {
            Walked::Through(found, qid) => Ok(Walked::Through(next(found).await?, qid)),
            Walked::Link(at) => Ok(Walked::Link(at)),
            Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
        }
    }

    /// The same, but a link at the end of so many names is told as one on the way.
    #[must_use]
    pub fn stop_at_link(self, names: usize) -> Self {
        match self {
            Walked::Through(_, qid) if qid.kind.contains(QidKind::SYMLINK) => {
                Walked::Link(names.saturating_sub(1))
            }
            walked => walked,
        }
    }

    /// What was walked to.
    ///
    /// # Errors
    /// What is in the way; ENOENT for a link.
    pub fn through(self) -> Result<T> {
        match self {
            Walked::Through(found, _) => Ok(found),
            Walked::Link(_) => Err(Errno::ENOENT.into()),
            Walked::Blocked(_, error) => Err(error),
        }
    }

    /// The same with another form of what was asked for.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Walked<U> {
        match self {
            Walked::Through(found, qid) => Walked::Through(form(found), qid),
            Walked::Link(at) => Walked::Link(at),
            Walked::Blocked(at, error) => Walked::Blocked(at, error),
        }
    }
}
