//! Grants as the other side sees them: mapping, and what Xen does to the table meanwhile.

use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use xen9p::hypercall::DomId;
use xen9p::platform::{PAGE_SIZE, Page};
use xen9p::sys;

use super::{FakeXen, World};

/// Entries in a frame of the table.
const PER_FRAME: u32 = 512;

/// Why a grant can't be mapped (`GNTST_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no such domain or no such entry in its table.
    BadReference,
    /// The entry is not valid, for another domain, or read-only.
    NotPermitted,
    /// There is no memory behind the frame in the entry.
    BadFrame,
}

/// One entry of a domain's table.
#[derive(Clone, Copy)]
struct Entry(NonNull<sys::grant_entry_v1>);

impl Entry {
    fn flags(self) -> &'static AtomicU16 {
        // SAFETY: entries lie in pages that live as long as the simulated machine, which no
        // holder of an entry outlives; the flags are only accessed atomically.
        unsafe { AtomicU16::from_ptr(&raw mut (*self.0.as_ptr()).flags) }
    }

    fn domain(self) -> DomId {
        // SAFETY: as above; domains write this field by volatile stores before the flags.
        DomId(unsafe { (&raw const (*self.0.as_ptr()).domid).read_volatile() })
    }

    fn frame(self) -> u64 {
        // SAFETY: as above.
        let frame = unsafe { AtomicU32::from_ptr(&raw mut (*self.0.as_ptr()).frame) };
        frame.load(Ordering::Acquire).into()
    }
}

/// What the table of a domain has, and what becomes of copies.
impl FakeXen {
    /// The references that a domain has granted something by, and what frame that is.
    pub fn grants(&self, id: DomId) -> Vec<(u32, u64)> {
        self.world.active_grants(id)
    }

    /// Has one copy by grants refused with this status (`GNTST_*`), after so many more; the others of its hypercall are done.
    pub fn refuse_copy(&self, after: u32, status: i16) {
        let mut refused = self.world.refused_copies.borrow_mut();
        refused.push((after, status));
    }
}

impl World {
    /// What the copy that is made now is refused with, if it is.
    pub(super) fn refused_copy(&self) -> Option<i16> {
        let mut refused = self.refused_copies.borrow_mut();
        let now = refused.iter().position(|(after, _)| *after == 0);
        let status = now.map(|index| refused.remove(index).1);
        refused
            .iter_mut()
            .for_each(|(after, _)| *after = after.saturating_sub(1));
        status
    }

    fn entry(&self, granter: DomId, reference: u32) -> Option<Entry> {
        let domains = self.domains.borrow();
        let frames = &domains.get(&granter)?.grant_frames;
        let frame = frames.get((reference / PER_FRAME) as usize)?;
        let index = (reference % PER_FRAME) as usize;
        // SAFETY: a frame has 512 entries.
        Some(Entry(unsafe { frame.cast().add(index) }))
    }

    /// Active entries in a domain's table.
    pub(super) fn active_grants(&self, granter: DomId) -> Vec<(u32, u64)> {
        let frames = match self.domains.borrow().get(&granter) {
            Some(domain) => domain.grant_frames.len() as u32,
            None => 0,
        };
        (0..frames * PER_FRAME)
            .filter_map(|reference| Some((reference, self.entry(granter, reference)?)))
            .filter(|(_, entry)| entry.flags().load(Ordering::Acquire) != 0)
            .map(|(reference, entry)| (reference, entry.frame()))
            .collect()
    }

    /// The frame that an entry lets `domain` copy from or, if `writable`, to; or a `GNTST_*`.
    pub(super) fn copied_by(
        &self,
        domain: DomId,
        granter: DomId,
        reference: u32,
        writable: bool,
    ) -> Result<u64, i16> {
        if !self.domains.borrow().contains_key(&granter) {
            return Err(sys::GNTST_bad_domain);
        }
        let entry = self.entry(granter, reference);
        let entry = entry.ok_or(sys::GNTST_bad_gntref)?;
        let current = entry.flags().load(Ordering::Acquire);
        let permitted = current & sys::GTF_type_mask == sys::GTF_permit_access
            && entry.domain() == domain
            && !(writable && current & sys::GTF_readonly != 0);
        match permitted {
            true => Ok(entry.frame()),
            false => Err(sys::GNTST_general_error),
        }
    }

    pub(super) fn map(
        self: &Rc<Self>,
        mapper: DomId,
        granter: DomId,
        reference: u32,
        writable: bool,
    ) -> Result<MappedGrant, MapError> {
        let page = self.pin(mapper, granter, reference, writable)?;
        Ok(MappedGrant {
            world: Rc::clone(self),
            granter,
            reference,
            writable,
            page,
        })
    }

    /// Notes that a grant is mapped once more, and says which page it is.
    pub(super) fn pin(
        &self,
        mapper: DomId,
        granter: DomId,
        reference: u32,
        writable: bool,
    ) -> Result<NonNull<Page>, MapError> {
        let entry = self
            .entry(granter, reference)
            .ok_or(MapError::BadReference)?;
        let current = entry.flags().load(Ordering::Acquire);
        if current & sys::GTF_type_mask != sys::GTF_permit_access
            || entry.domain() != mapper
            || (writable && current & sys::GTF_readonly != 0)
        {
            return Err(MapError::NotPermitted);
        }
        let page = self.memory.borrow().page(entry.frame());
        let page = page.ok_or(MapError::BadFrame)?;
        let in_use = if writable {
            sys::GTF_reading | sys::GTF_writing
        } else {
            sys::GTF_reading
        };
        // Nothing runs at the same time, so the entry is still what it was.
        entry.flags().fetch_or(in_use, Ordering::AcqRel);
        let mut maps = self.maps.borrow_mut();
        let count = maps.entry((granter, reference)).or_default();
        count.0 += 1;
        count.1 += usize::from(writable);
        Ok(page)
    }

    /// Notes that a grant is mapped once less.
    pub(super) fn unpin(&self, granter: DomId, reference: u32, writable: bool) {
        let key = (granter, reference);
        let mut maps = self.maps.borrow_mut();
        let count = maps.get_mut(&key).expect("mapped until now");
        count.0 -= 1;
        count.1 -= usize::from(writable);
        let (readers, writers) = *count;
        let mut over = 0;
        if readers == 0 {
            maps.remove(&key);
            over |= sys::GTF_reading;
        }
        if writers == 0 {
            over |= sys::GTF_writing;
        }
        if let Some(entry) = self.entry(granter, reference) {
            entry.flags().fetch_and(!over, Ordering::AcqRel);
        }
    }
}

/// A page of another domain's, mapped until this is dropped. The owner can't get it back as long.
pub struct MappedGrant {
    world: Rc<World>,
    granter: DomId,
    reference: u32,
    writable: bool,
    page: NonNull<Page>,
}

impl MappedGrant {
    /// The first byte of the page: the very memory that the owner has.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.page.cast()
    }

    /// Copies bytes out of the page.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= PAGE_SIZE, "inside the page");
        // SAFETY: inside the page, which is mapped; `into` is private memory.
        unsafe {
            let from = self.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len());
        }
    }

    /// Copies bytes into the page.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "mapped for reading only");
        assert!(offset + from.len() <= PAGE_SIZE, "inside the page");
        // SAFETY: inside the page, which is mapped; `from` is private memory.
        unsafe {
            let into = self.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_ptr(), from.len());
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset < PAGE_SIZE);
        // SAFETY: an aligned word inside the page, which is mapped for as long as `self` lives.
        unsafe { AtomicU32::from_ptr(self.as_ptr().add(offset).cast().as_ptr()) }
    }

    /// Reads a word, such as an index.
    pub fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::SeqCst)
    }

    /// Writes a word, such as an index.
    pub fn store(&self, offset: usize, value: u32) {
        assert!(self.writable, "mapped for reading only");
        self.word(offset).store(value, Ordering::SeqCst);
    }
}

impl Drop for MappedGrant {
    fn drop(&mut self) {
        self.world
            .unpin(self.granter, self.reference, self.writable);
    }
}

impl fmt::Debug for MappedGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedGrant")
            .field("granter", &self.granter)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}
