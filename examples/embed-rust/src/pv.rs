//! As a PV domain. Xen starts it in 64-bit mode with page tables that map the image, each page at its own number: the heap
//! is a part of the image, and pages of Xen's are put in the place of some of its pages. Events are polled for, so that there
//! are no interrupts. To be saved it takes Xen's pages out of their places.

use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use xen9p::hypercall::sched::SuspendReturn;
use xen9p::hypercall::{XenError, grant_table};
use xen9p::platform::{BuilderRing, Frame, PAGE_SIZE, Page, Platform};
use xen9p::sys;
use xen9p::xen::event::Port;
use xen9p::xen::shared::SharedMemory;
use xen9p::xen::suspend::pv;

use crate::kernel::Kernel;

/// Grant frames that can be mapped.
const GRANT_FRAMES: usize = 16;

/// Present, writable, accessed, dirty.
const PAGE_FLAGS: u64 = 0x63;

/// Pages of the image.
#[repr(C, align(4096))]
struct Pages<const COUNT: usize>(UnsafeCell<[[u8; PAGE_SIZE]; COUNT]>);

// SAFETY: reached by raw pointers alone, by the owners of the pages that it hands out.
unsafe impl<const COUNT: usize> Sync for Pages<COUNT> {}

impl<const COUNT: usize> Pages<COUNT> {
    const fn new() -> Self {
        Pages(UnsafeCell::new([[0; PAGE_SIZE]; COUNT]))
    }

    fn page(&self, index: usize) -> *mut u8 {
        self.0.get().cast::<u8>().wrapping_add(index * PAGE_SIZE)
    }
}

/// The memory of the domain.
static HEAP: Pages<{ (16 << 20) / PAGE_SIZE }> = Pages::new();

/// What pages of Xen's take the place of: shared_info, both rings, the grant table.
static PLACES: Pages<{ 3 + GRANT_FRAMES }> = Pages::new();

/// Where the toolstack finds the frames of a domain of up to 512 GiB: as many as a start_info counts here.
static FRAME_LISTS: Pages<2> = Pages::new();

/// What Xen says at the start, and after a restore; null in other domains.
static INFO: AtomicPtr<sys::start_info> = AtomicPtr::new(null_mut());

/// Which grant frames are mapped, a bit each.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Xen's structure, in a PV domain.
pub fn info() -> Option<NonNull<sys::start_info>> {
    NonNull::new(INFO.load(Ordering::Relaxed))
}

/// Whether this is a PV domain.
pub fn is_here() -> bool {
    info().is_some()
}

/// Puts Xen's pages in their places, and returns the memory for the heap.
///
/// # Safety
/// Once, at the start of a PV domain, with Xen's structure, which stays mapped.
pub unsafe fn init(told: NonNull<sys::start_info>) -> Result<(*mut u8, usize), XenError> {
    INFO.store(told.as_ptr(), Ordering::Relaxed);
    let info = told.as_ptr();
    // SAFETY: mapped; the variant of every domain but the first. Frames that Xen made for this domain to map; nothing has
    // used the places.
    unsafe {
        put(1, (*info).store_mfn)?;
        put(2, (*info).console.domU.mfn)?;
        begin(told)?;
    }
    Ok((HEAP.page(0), size_of_val(&HEAP)))
}

/// Puts shared_info in its place, and shows the frames of the domain there: at the start, and after a restore.
///
/// # Safety
/// Nothing uses shared_info meanwhile.
unsafe fn begin(info: NonNull<sys::start_info>) -> Result<(), XenError> {
    // SAFETY: mapped, and its frame made for this domain to map; the pages of the lists are for them alone, and enough.
    unsafe {
        let frame = (&raw const (*info.as_ptr()).shared_info).read_volatile() / PAGE_SIZE as u64;
        let shared = SharedMemory::new(NonNull::new_unchecked(put(0, Some(frame))?), PAGE_SIZE);
        let lists = NonNull::new_unchecked(FRAME_LISTS.page(0).cast());
        pv::list_frames(&Kernel, info, shared, lists);
    }
    Ok(())
}

/// Suspends the domain: Xen's pages leave their places before, for the page tables of a saved domain are to have frames of
/// its own alone.
///
/// # Safety
/// The return goes to the drivers, and nothing uses shared_info or the grant table before.
pub unsafe fn suspend(info: NonNull<sys::start_info>) -> Result<SuspendReturn, XenError> {
    let mapped = MAPPED.swap(0, Ordering::Relaxed);
    // SAFETY: as the caller promises; the grant frames that were there come back below, in the same places.
    unsafe {
        put(0, None)?;
        for index in (0..GRANT_FRAMES).filter(|index| mapped & 1 << index != 0) {
            put(3 + index, None)?;
        }
        let outcome = pv::suspend(&Kernel, info);
        begin(info)?;
        for index in (0..GRANT_FRAMES).filter(|index| mapped & 1 << index != 0) {
            grant_frame(index as u32)?;
        }
        outcome
    }
}

/// Puts a frame in one of the places, or nothing.
///
/// # Safety
/// The domain may map the frame, and nothing uses what was there.
unsafe fn put(index: usize, frame: impl Into<Option<u64>>) -> Result<*mut u8, XenError> {
    let address = PLACES.page(index);
    let entry = frame.into().map_or(0, |frame| frame << 12 | PAGE_FLAGS);
    let flags = sys::UVMF_INVLPG | sys::UVMF_LOCAL;
    // SAFETY: the caller's promise; the page of the image that was there is used by nothing.
    XenError::check(unsafe {
        Kernel.hypercall(
            sys::__HYPERVISOR_update_va_mapping,
            [address.addr(), entry as usize, flags as usize, 0, 0],
        )
    })?;
    Ok(address)
}

/// Where shared_info is.
pub fn shared_info() -> *const sys::shared_info {
    PLACES.page(0).cast()
}

/// The machine's frame behind a page of the image.
pub fn frame(info: NonNull<sys::start_info>, page: usize) -> Frame {
    // SAFETY: Xen's list has a frame for each page of the domain, by its number, and stays mapped. The toolstack writes
    // others there while the domain is suspended.
    unsafe {
        let list = (*info.as_ptr()).mfn_list as *const u64;
        Frame(list.add(page / PAGE_SIZE).read_volatile())
    }
}

pub fn grant_frame(index: u32) -> Result<NonNull<Page>, XenError> {
    let number = index as usize;
    if number >= GRANT_FRAMES {
        return Err(XenError::ENOSPC);
    }
    if MAPPED.load(Ordering::Relaxed) & 1 << number == 0 {
        let mut frames = [Frame(0); GRANT_FRAMES];
        let frames = &mut frames[..=number];
        grant_table::setup_table(&Kernel, frames)?;
        // SAFETY: a frame of this domain's grant table, whose place nothing has used.
        unsafe { put(3 + number, frames[number].0)? };
        MAPPED.fetch_or(1 << number, Ordering::Relaxed);
    }
    NonNull::new(PLACES.page(3 + number).cast()).ok_or(XenError::EINVAL)
}

/// The ring in the place of this number.
fn ring(index: usize, port: u32) -> Option<BuilderRing> {
    Some(BuilderRing {
        page: NonNull::new(PLACES.page(index).cast())?,
        port: Port(port),
    })
}

pub fn xenstore_ring(info: NonNull<sys::start_info>) -> Option<BuilderRing> {
    // SAFETY: mapped for good; the toolstack writes there while the domain is suspended.
    ring(1, unsafe {
        (&raw const (*info.as_ptr()).store_evtchn).read_volatile()
    })
}

pub fn console_ring(info: NonNull<sys::start_info>) -> Option<BuilderRing> {
    // SAFETY: as above; the variant of every domain but the first.
    ring(2, unsafe {
        (&raw const (*info.as_ptr()).console.domU.evtchn).read_volatile()
    })
}

/// Whether a port fired since this was asked the last time: Xen sets a bit of shared_info.
pub fn take(port: u32) -> bool {
    let bit = 1_u64 << (port % 64);
    let index = port as usize / 64;
    if index >= 64 {
        return false;
    }
    // SAFETY: a word of shared_info, which is mapped for good and accessed atomically by both sides.
    let word = unsafe {
        let word: *const AtomicU64 = (&raw const (*shared_info()).evtchn_pending[index]).cast();
        &*word
    };
    word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
}
