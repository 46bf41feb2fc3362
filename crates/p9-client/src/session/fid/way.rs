//! What the answers to walks mean.

use p9_tree::Walked;
use p9_wire::{Errno, MAX_ELEMENTS, Qid, QidKind};

use super::{Fid, Walk};
use crate::Error;

/// The way from a file along names, as far as it was walked.
pub(super) struct Way {
    names: usize,
    /// What the last of them leads to.
    at: Qid,
}

impl Way {
    /// The beginning of a way, at a file of this identity.
    pub(super) fn new(at: Qid) -> Self {
        Way { names: 0, at }
    }

    /// Goes on by the answer to a walk of so many names, and says where that ended.
    ///
    /// # Errors
    /// What does not come of the names.
    pub(super) fn go(
        &mut self,
        walk: Result<Walk, Error>,
        names: usize,
    ) -> Result<Walked<()>, Error> {
        let refusal = match walk {
            Ok(walk) => {
                self.names += walk.names;
                self.at = walk.last.unwrap_or(self.at);
                if walk.names == names {
                    return Ok(Walked::Through((), self.at));
                }
                None
            }
            Err(error @ Error::Errno(_)) => Some(error),
            Err(error) => return Err(error),
        };
        if self.at.kind.contains(QidKind::SYMLINK)
            && let Some(link) = self.names.checked_sub(1)
        {
            return Ok(Walked::Link(link));
        }
        // The protocol does not tell why a way ends behind its first name.
        let error = refusal.unwrap_or(match self.at.kind.contains(QidKind::DIR) {
            true => Errno::ENOENT.into(),
            false => Errno::ENOTDIR.into(),
        });
        Ok(Walked::Blocked(self.names, error))
    }
}

impl Fid {
    /// Walks `names`, at least one, from this file, which has the identity `qid`: 16 names with each request.
    ///
    /// # Errors
    /// What does not come of the names.
    pub async fn walk_all(&self, qid: Qid, names: &[&[u8]]) -> Result<Walked<Fid>, Error> {
        let mut way = Way::new(qid);
        let mut fid: Option<Fid> = None;
        for names in names.chunks(MAX_ELEMENTS) {
            let walk = match &mut fid {
                Some(fid) => fid.walk_on(names).await,
                None => self.walk(names).await.map(|(new, walk)| {
                    fid = Some(new);
                    walk
                }),
            };
            match way.go(walk, names.len())? {
                Walked::Through(..) => {}
                Walked::Link(at) => return Ok(Walked::Link(at)),
                Walked::Blocked(at, error) => return Ok(Walked::Blocked(at, error)),
            }
        }
        match fid {
            Some(fid) => Ok(Walked::Through(fid, way.at)),
            None => Err(Error::InvalidPath(&"empty path")),
        }
    }
}
