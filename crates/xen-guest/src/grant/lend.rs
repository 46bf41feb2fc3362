//! Pages that are lent: granted to other domains for a time, and used by this one before and after.
//!
//! [`Grants::own_pages`] allocates them. [`OwnPages::lend`] lets another domain copy to and from them, or map them, until
//! the [`Lent`] is dropped. [`OwnPages::copy_to`] and [`OwnPages::copy_from`] have Xen copy between such pages and those
//! that another domain lends to this one; nothing is mapped for it.
//!
//! A grant reference is a number. Who kept one after the grant has ended can copy to whatever is granted to it by the
//! same number next. So the numbers of a grant that has ended are [`Retired`]: they serve nothing else before the other domain
//! is known to have forgotten them.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::mem;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::NonNull;

use super::{Block, CopyError, GrantError, GrantRef, Grants};
use crate::hypercall::DomId;
use crate::hypercall::grant_table::{self, GrantStatus};
use crate::platform::{Frame, PAGE_SIZE, Page, Platform};
use crate::shared::SharedMemory;
use xen_abi as sys;

/// Pieces that one hypercall copies: 64 KiB and more, however the two ends lie in their pages.
const TOGETHER: usize = 64;

struct Owned<P: Platform> {
    grants: Grants<P>,
    first: NonNull<Page>,
    count: NonZeroUsize,
    /// Who holds on to pages, and the grants that could not be ended.
    held: RefCell<(DomId, Vec<GrantRef>)>,
    /// The domain's [`resumes`](crate::platform::DomainState::resumes) when a grant was added to `held`.
    resumes: Cell<u64>,
}

impl<P: Platform> Owned<P> {
    /// Grants that could not be ended were of a table that is no more, if the domain was resumed elsewhere since.
    fn follow_resume(&self) {
        self.grants.follow_resume();
        let now = self.grants.table.resumes.get();
        if self.resumes.replace(now) != now {
            self.held.borrow_mut().1.clear();
        }
    }
}

impl<P: Platform> Drop for Owned<P> {
    fn drop(&mut self) {
        self.follow_resume();
        let table = &*self.grants.table;
        let pages = self.count.get();
        table.shared_pages.set(table.shared_pages.get() - pages);
        let (remote, refs) = mem::replace(self.held.get_mut(), (DomId::SELF, Vec::new()));
        self.grants.take_back(Block {
            remote,
            first: self.first,
            count: self.count,
            refs,
        });
    }
}

/// Whole pages of this domain's own. Clones are the same pages; they are given back with the last one, and with the last
/// [`Lent`] of them.
///
/// Other domains may write to them while they are lent: see [`SharedMemory`].
pub struct OwnPages<P: Platform>(Rc<Owned<P>>);

impl<P: Platform> Clone for OwnPages<P> {
    fn clone(&self) -> Self {
        OwnPages(Rc::clone(&self.0))
    }
}

impl<P: Platform> fmt::Debug for OwnPages<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnPages({:?}, {} bytes)", self.0.first, self.size())
    }
}

/// Bytes of another domain's: what it lends by these references, from `offset` of the first page on.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// The other domain.
    pub domain: DomId,
    /// The references of its pages, one after the other.
    pub refs: &'a [GrantRef],
    /// Where in these pages.
    pub offset: usize,
}

impl<P: Platform> Grants<P> {
    /// Allocates `count` zeroed pages, adjacent in the address space, which no other domain can reach yet. They count as
    /// shared ones.
    ///
    /// # Errors
    /// See [`GrantError`].
    pub fn own_pages(&self, count: NonZeroUsize) -> Result<OwnPages<P>, GrantError> {
        self.drain();
        self.check_limit(count)?;
        let block = self.alloc(count, DomId::SELF)?;
        Ok(OwnPages(Rc::new(Owned {
            grants: self.clone(),
            first: block.first,
            count,
            held: RefCell::new((DomId::SELF, Vec::new())),
            resumes: Cell::new(self.table.resumes.get()),
        })))
    }

    /// Gives numbers back whose grants have ended: to be used next, or last of all.
    fn give_back(&self, refs: Vec<GrantRef>, next: bool) {
        let mut free = self.table.free.borrow_mut();
        match next {
            true => free.extend(refs),
            false => drop(free.splice(..0, refs)),
        }
    }
}

impl<P: Platform> OwnPages<P> {
    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.count.get() * PAGE_SIZE
    }

    /// Their frames, in order.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let frame = |index| {
            // SAFETY: a page below their number.
            let page = unsafe { self.0.first.add(index) };
            self.0.grants.table.platform.frame(page)
        };
        (0..self.0.count.get()).map(frame).collect()
    }

    /// All of them as one piece of memory.
    pub fn memory(&self) -> SharedMemory<'_> {
        // SAFETY: allocated for this owner, mapped until it is dropped, and accessed by this type alone: their address is
        // given to no one.
        unsafe { SharedMemory::new(self.0.first.cast(), self.size()) }
    }

    /// Whether a domain that they were lent to has some of them mapped and did not let go: it can read and write them still.
    pub fn is_held(&self) -> bool {
        self.0.follow_resume();
        let mut held = self.0.held.borrow_mut();
        let mut block = Block {
            remote: held.0,
            first: self.0.first,
            count: self.0.count,
            refs: mem::take(&mut held.1),
        };
        self.0.grants.revoke_all(&mut block);
        held.1 = block.refs;
        !held.1.is_empty()
    }

    /// Lets `remote` copy to and from all of them.
    ///
    /// # Errors
    /// See [`GrantError`]; nothing is lent then.
    pub fn lend(&self, remote: DomId) -> Result<Lent<P>, GrantError> {
        let (grants, count) = (&self.0.grants, self.0.count);
        grants.drain();
        grants.check_quarantine(remote)?;
        if grants.table.platform.grant_driver().is_none() {
            grants.reserve(count.get())?;
        }
        let mut block = Block {
            remote,
            first: self.0.first,
            count,
            refs: Vec::new(),
        };
        let granted = grants.grant_all(&mut block);
        let lent = Lent {
            pages: self.clone(),
            remote,
            refs: block.refs.into_boxed_slice(),
            resumes: grants.table.resumes.get(),
        };
        // What was granted before an error ends with it.
        granted.map(|()| lent)
    }

    /// Has Xen copy the bytes of this `range` to another domain's pages.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn copy_to(&self, range: Range<usize>, to: Remote<'_>) -> Result<(), CopyError> {
        self.copy(range, to, true)
    }

    /// Has Xen copy as many bytes of another domain's pages as are in this `range` there.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn copy_from(&self, range: Range<usize>, from: Remote<'_>) -> Result<(), CopyError> {
        self.copy(range, from, false)
    }

    fn copy(&self, range: Range<usize>, remote: Remote<'_>, out: bool) -> Result<(), CopyError> {
        let end = |start: usize| start.checked_add(range.len());
        let theirs = remote.refs.len().checked_mul(PAGE_SIZE);
        let inside = range.start <= range.end
            && range.end <= self.size()
            && end(remote.offset).is_some_and(|end| theirs.is_some_and(|theirs| end <= theirs));
        if !inside {
            return Err(CopyError::OutOfBounds);
        }
        let mut batch = [EMPTY; TOGETHER];
        let (mut ours, mut theirs) = (range.start, remote.offset);
        while ours < range.end {
            let mut count = 0;
            for entry in &mut batch {
                let room = (PAGE_SIZE - ours % PAGE_SIZE).min(PAGE_SIZE - theirs % PAGE_SIZE);
                let len = room.min(range.end - ours);
                if len == 0 {
                    break;
                }
                *entry = self.piece(ours, remote, theirs, len, out);
                (ours, theirs, count) = (ours + len, theirs + len, count + 1);
            }
            let batch = batch.get_mut(..count).unwrap_or(&mut []);
            // SAFETY: each entry has a frame of these pages, which are accessed as memory that changes by itself, and a
            // reference of another domain, none of whose memory is any Rust code's here but as such memory, too.
            unsafe { grant_table::copy_all(&self.0.grants.table.platform, batch) }
                .map_err(CopyError::Xen)?;
            let refused = batch.iter().find(|entry| entry.status != sys::GNTST_okay);
            if let Some(entry) = refused {
                let end = if out { &entry.dest } else { &entry.source };
                // SAFETY: that end is the one with the reference; either field is an integer.
                let reference = GrantRef(unsafe { end.u.ref_ });
                return Err(CopyError::Refused(reference, GrantStatus(entry.status)));
            }
        }
        Ok(())
    }

    /// A copy of `len` bytes, which are in one page on either side.
    fn piece(
        &self,
        ours: usize,
        remote: Remote<'_>,
        theirs: usize,
        len: usize,
        out: bool,
    ) -> sys::gnttab_copy {
        // SAFETY: a page below their number: the caller has checked where the bytes end.
        let page = unsafe { self.0.first.add(ours / PAGE_SIZE) };
        let frame = self.0.grants.table.platform.frame(page);
        let reference = remote
            .refs
            .get(theirs / PAGE_SIZE)
            .map_or(0, |found| found.0);
        let own = sys::gnttab_copy_gnttab_copy_ptr {
            u: sys::gnttab_copy_gnttab_copy_ptr__bindgen_ty_1 { gmfn: frame.0 },
            domid: DomId::SELF.0,
            offset: (ours % PAGE_SIZE) as u16,
        };
        let other = sys::gnttab_copy_gnttab_copy_ptr {
            u: sys::gnttab_copy_gnttab_copy_ptr__bindgen_ty_1 { ref_: reference },
            domid: remote.domain.0,
            offset: (theirs % PAGE_SIZE) as u16,
        };
        let (source, dest, flags) = match out {
            true => (own, other, grant_table::DEST_IS_REFERENCE),
            false => (other, own, grant_table::SOURCE_IS_REFERENCE),
        };
        sys::gnttab_copy {
            source,
            dest,
            len: len as u16,
            flags,
            status: sys::GNTST_general_error,
        }
    }
}

const NOWHERE: sys::gnttab_copy_gnttab_copy_ptr = sys::gnttab_copy_gnttab_copy_ptr {
    u: sys::gnttab_copy_gnttab_copy_ptr__bindgen_ty_1 { gmfn: 0 },
    domid: 0,
    offset: 0,
};

const EMPTY: sys::gnttab_copy = sys::gnttab_copy {
    source: NOWHERE,
    dest: NOWHERE,
    len: 0,
    flags: 0,
    status: 0,
};

/// Pages that one other domain may copy to and from, and map, until this is dropped.
#[must_use = "dropping the handle ends the grants"]
pub struct Lent<P: Platform> {
    pages: OwnPages<P>,
    remote: DomId,
    refs: Box<[GrantRef]>,
    resumes: u64,
}

impl<P: Platform> Lent<P> {
    /// The grant reference of each page, in order.
    pub fn refs(&self) -> &[GrantRef] {
        &self.refs
    }

    /// Ends the grants: from now on every copy by these references fails. Waits for nothing. If the other domain has a
    /// page mapped, the pages are [held](OwnPages::is_held), and not given back before it lets go.
    pub fn end(mut self) -> Retired<P> {
        Retired {
            refs: self.revoke(),
            grants: self.pages.0.grants.clone(),
            resumes: self.resumes,
        }
    }

    /// Ends the grants, and returns the references that are free.
    fn revoke(&mut self) -> Vec<GrantRef> {
        let mut refs = mem::take(&mut self.refs).into_vec();
        self.pages.0.follow_resume();
        let grants = &self.pages.0.grants;
        if self.resumes != grants.table.resumes.get() {
            // These references may be others' by now.
            return Vec::new();
        }
        let mut held = self.pages.0.held.borrow_mut();
        let driver = grants.table.platform.grant_driver().is_some();
        refs.retain(|&reference| {
            if !grants.revoke(reference) {
                *held = (self.remote, mem::take(&mut held.1));
                held.1.push(reference);
                return false;
            }
            if driver {
                let usable = &grants.table.usable;
                usable.set(usable.get() - 1);
            }
            !driver
        });
        refs
    }
}

impl<P: Platform> Drop for Lent<P> {
    fn drop(&mut self) {
        let refs = self.revoke();
        self.pages.0.grants.give_back(refs, false);
    }
}

impl<P: Platform> fmt::Debug for Lent<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent")
            .field("pages", &self.pages)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// Grant references whose grants have ended, and which nothing else uses while this exists. Dropping it lets them be used
/// again, but after all others. Where the kernel has a [driver](crate::platform::GrantDriver) of its own for the grant table,
/// that decides when a number is used again, and there is none in here.
pub struct Retired<P: Platform> {
    grants: Grants<P>,
    refs: Vec<GrantRef>,
    resumes: u64,
}

impl<P: Platform> Retired<P> {
    /// The other domain has forgotten them.
    pub fn forgotten(mut self) {
        self.give_back(true);
    }

    fn give_back(&mut self, next: bool) {
        self.grants.follow_resume();
        let refs = mem::take(&mut self.refs);
        if self.resumes == self.grants.table.resumes.get() {
            self.grants.give_back(refs, next);
        }
    }
}

impl<P: Platform> Drop for Retired<P> {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

impl<P: Platform> fmt::Debug for Retired<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retired").field(&self.refs).finish()
    }
}
