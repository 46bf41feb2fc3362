//! The client's numbers for files: which are free, bound, in use, and which may be used again.
//!
//! A number is used again only when the reply that ended it has come, no request that names it is
//! in flight, and no handle to it exists: otherwise a late request could act on the wrong file.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::journal::{FidSnapshot, Root};
use crate::Error;
use p9_wire::{Fid, Request, kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Free.
    Free,
    /// Given out; the server does not know it, or no longer.
    Unbound,
    /// The server knows it.
    Bound,
    /// A request that ends it is queued or in flight.
    Ending,
}

/// State of a fid after a reconnect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FidStatus {
    /// As the server gave it.
    #[default]
    Original,
    /// Another server has given it again.
    Reopened,
    /// The file could not be had again.
    Stale,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Requests in flight that name it.
    busy: u16,
    /// Whether someone holds a handle.
    held: bool,
    /// Whether the server has said that it knows it; [`State::Bound`] may be mere caution.
    confirmed: bool,
    status: FidStatus,
    /// Whether it was attached.
    root: bool,
    /// What it stands for; in sessions that recover.
    snapshot: Option<Box<FidSnapshot>>,
}

/// All fids of a session. A fid's number is its index.
#[derive(Debug, Default)]
pub(super) struct FidTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Bound fids without a handle.
    to_clunk: VecDeque<Fid>,
    /// There is no server that knows any.
    offline: bool,
    /// How often something was attached.
    attaches: u64,
}

impl FidTable {
    /// A number for a handle; `None` when memory is short.
    pub(super) fn alloc(&mut self) -> Option<Fid> {
        let fresh = Entry {
            state: State::Unbound,
            busy: 0,
            held: true,
            confirmed: false,
            status: FidStatus::Original,
            root: false,
            snapshot: None,
        };
        if let Some(number) = self.free.pop() {
            *self.entries.get_mut(number as usize)? = fresh;
            return Some(Fid(number));
        }
        let number = u32::try_from(self.entries.len()).ok()?;
        if Fid(number) == Fid::NONE {
            return None;
        }
        self.entries.try_reserve(1).ok()?;
        // Room for every number at once: giving one back must not need memory.
        self.free.try_reserve(self.entries.len() + 1).ok()?;
        self.to_clunk.try_reserve(self.entries.len() + 1).ok()?;
        self.entries.push(fresh);
        Some(Fid(number))
    }

    /// A request that names `fid` is on its way.
    pub(super) fn add_ref(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.busy += 1;
        }
    }

    /// A request that names `fid` is over.
    pub(super) fn unref(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.busy = entry.busy.saturating_sub(1);
        }
        self.reap(fid);
    }

    /// The server knows `fid` from now on, or may do so.
    pub(super) fn bound(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid)
            && entry.state == State::Unbound
        {
            entry.state = State::Bound;
        }
    }

    /// The server has said that it knows `fid`.
    pub(super) fn known(&mut self, fid: Fid) {
        self.bound(fid);
        if let Some(entry) = self.entry(fid) {
            entry.confirmed = entry.state == State::Bound;
        }
    }

    /// `fid` was attached: it is the root of a tree.
    pub(super) fn attached(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.root = true;
        }
    }

    /// A root that the server has said that it knows.
    pub(super) fn root(&self) -> Option<Fid> {
        let mut entries = self.entries.iter();
        let number = entries
            .position(|entry| entry.root && entry.confirmed && entry.state == State::Bound)?;
        Some(Fid(number as u32))
    }

    /// `fid` may become an extended attribute: closing that can fail for reasons of its own.
    pub(super) fn mark_unconfirmed(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.confirmed = false;
        }
    }

    /// Whether the server has said that it knows `fid`, and nothing that was asked for since then can have
    /// ended that, a request of this type being the last.
    pub(super) fn is_confirmed(&self, fid: Fid, kind: u8) -> bool {
        let ends = matches!(kind, kind::TCLUNK | kind::TREMOVE);
        self.entries.get(fid.0 as usize).is_some_and(|entry| {
            entry.confirmed && (entry.state == State::Bound || ends && entry.state == State::Ending)
        })
    }

    /// A request that ends `fid` is on its way.
    pub(super) fn ending(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.state = State::Ending;
        }
    }

    /// The server has forgotten `fid`.
    pub(super) fn ended(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.state = State::Unbound;
            entry.confirmed = false;
            entry.snapshot = None;
        }
    }

    /// The request that should have ended `fid` may not have done so.
    pub(super) fn still_bound(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.state = State::Bound;
            entry.confirmed = false;
        }
    }

    /// The handle to `fid` is gone.
    pub(super) fn dropped(&mut self, fid: Fid) {
        if let Some(entry) = self.entry(fid) {
            entry.held = false;
        }
        self.reap(fid);
    }

    /// The next fid that has to be clunked.
    pub(super) fn next_to_clunk(&mut self) -> Option<Fid> {
        self.to_clunk.pop_front()
    }

    /// Puts back what [`next_to_clunk`](Self::next_to_clunk) gave, in front.
    pub(super) fn clunk_later(&mut self, fid: Fid) {
        self.to_clunk.push_front(fid);
    }

    /// How many fids have to be clunked.
    pub(super) fn to_be_clunked(&self) -> usize {
        self.to_clunk.len()
    }

    /// How many numbers are in use.
    pub(super) fn in_use(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn entry(&mut self, fid: Fid) -> Option<&mut Entry> {
        self.entries.get_mut(fid.0 as usize)
    }

    fn reap(&mut self, fid: Fid) {
        let Some(entry) = self.entries.get_mut(fid.0 as usize) else {
            return;
        };
        if entry.held || entry.busy != 0 {
            return;
        }
        match entry.state {
            State::Free | State::Ending => {}
            State::Unbound => {
                entry.state = State::Free;
                self.free.push(fid.0);
            }
            State::Bound if self.offline => {
                entry.state = State::Free;
                entry.snapshot = None;
                self.free.push(fid.0);
            }
            State::Bound => {
                entry.state = State::Ending;
                self.to_clunk.push_back(fid);
            }
        }
    }

    /// Refuses what makes no sense for a fid that has come through a loss.
    pub(super) fn check(&mut self, fid: Fid, request: &Request<'_>) -> Result<(), Error> {
        let Some(entry) = self.entry(fid) else {
            return Ok(());
        };
        let is_dir = entry
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.is_dir());
        let place = match *request {
            Request::Readdir { offset, .. } => Some(offset),
            Request::Read { offset, .. } if is_dir => Some(offset),
            _ => None,
        };
        match (entry.status, place) {
            (FidStatus::Stale, _) => Err(Error::Stale),
            // Where another server was in a directory says nothing.
            (FidStatus::Reopened, Some(1..)) => Err(Error::Stale),
            (FidStatus::Reopened, Some(0)) => {
                entry.status = FidStatus::Original;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What `fid` stands for, if that is kept.
    pub(super) fn snapshot(&self, fid: Fid) -> Option<&FidSnapshot> {
        self.entries.get(fid.0 as usize)?.snapshot.as_deref()
    }

    pub(super) fn snapshot_mut(&mut self, fid: Fid) -> Option<&mut FidSnapshot> {
        self.entry(fid)?.snapshot.as_deref_mut()
    }

    pub(super) fn snapshots_mut(&mut self) -> impl Iterator<Item = &mut FidSnapshot> {
        self.entries
            .iter_mut()
            .filter_map(|entry| entry.snapshot.as_deref_mut())
    }

    pub(super) fn set_snapshot(&mut self, fid: Fid, snapshot: Option<Box<FidSnapshot>>) {
        if let Some(entry) = self.entry(fid) {
            entry.snapshot = snapshot;
        }
    }

    /// What to call the root that was attached just now.
    pub(super) fn next_root(&mut self) -> Root {
        self.attaches += 1;
        Root(self.attaches)
    }

    /// Whether a tree is attached that could be attached to again.
    pub(super) fn has_roots(&self) -> bool {
        self.entries.iter().any(|entry| {
            let snapshot = entry.snapshot.as_deref();
            snapshot.is_some_and(|snapshot| snapshot.attach.is_some())
        })
    }

    /// The server that knew them all is gone: nothing has to be clunked any more.
    pub(super) fn go_offline(&mut self) {
        self.offline = true;
        for entry in &mut self.entries {
            entry.confirmed = false;
        }
        while let Some(fid) = self.to_clunk.pop_front() {
            self.ended(fid);
            self.reap(fid);
        }
    }

    /// The fids that the new server has to be asked for, and what they stand for. They stay in use until
    /// [`revived`](Self::revived) is called for each.
    pub(super) fn hold_for_revival(&mut self) -> Vec<(Fid, Option<Box<FidSnapshot>>)> {
        let mut list = Vec::new();
        for (number, entry) in self.entries.iter_mut().enumerate() {
            if entry.state == State::Bound {
                entry.busy += 1;
                list.push((Fid(number as u32), entry.snapshot.clone()));
            }
        }
        list
    }

    /// What has become of a fid that [`hold_for_revival`](Self::hold_for_revival) gave.
    pub(super) fn revived(&mut self, fid: Fid, status: FidStatus) {
        if let Some(entry) = self.entry(fid) {
            match status {
                FidStatus::Original => {}
                FidStatus::Reopened => {
                    entry.status = status;
                    entry.confirmed = true;
                }
                FidStatus::Stale => {
                    entry.status = status;
                    entry.state = State::Unbound;
                    entry.snapshot = None;
                }
            }
        }
        self.unref(fid);
    }

    /// There is a server again.
    pub(super) fn go_online(&mut self) {
        self.offline = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fid_never_bound_is_free_at_once() {
        let mut fids = FidTable::default();
        let fid = fids.alloc().unwrap();
        fids.dropped(fid);
        assert_eq!(fids.alloc(), Some(fid));
        assert_eq!(fids.in_use(), 1);
    }

    #[test]
    fn a_bound_fid_is_clunked_and_free_only_after_the_reply() {
        let mut fids = FidTable::default();
        let fid = fids.alloc().unwrap();
        fids.bound(fid);
        fids.dropped(fid);
        assert_eq!(fids.next_to_clunk(), Some(fid));
        fids.add_ref(fid);
        assert_ne!(fids.alloc(), Some(fid));
        fids.ended(fid);
        fids.unref(fid);
        assert_eq!(fids.alloc(), Some(fid));
        assert_eq!(fids.to_be_clunked(), 0);
    }

    #[test]
    fn a_fid_is_not_clunked_while_a_request_names_it() {
        let mut fids = FidTable::default();
        let fid = fids.alloc().unwrap();
        fids.add_ref(fid);
        fids.dropped(fid);
        assert_eq!(fids.to_be_clunked(), 0);
        fids.bound(fid);
        fids.unref(fid);
        assert_eq!(fids.next_to_clunk(), Some(fid));
    }

    #[test]
    fn an_explicit_close_frees_when_handle_and_reply_are_gone() {
        let mut fids = FidTable::default();
        let fid = fids.alloc().unwrap();
        fids.bound(fid);
        fids.add_ref(fid);
        fids.ending(fid);
        fids.dropped(fid);
        assert_eq!(fids.to_be_clunked(), 0);
        fids.ended(fid);
        fids.unref(fid);
        assert_eq!(fids.in_use(), 0);
    }
}
