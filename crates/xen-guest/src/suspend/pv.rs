//! The part of being saved that every PV kernel does in the same way.
//!
//! The toolstack rewrites the page tables of a saved PV domain for the frames that it gets in another one. It finds those
//! of this domain by a list that the domain shows in shared_info, and takes no entry for a frame that is not in it.
//!
//! ```
//! use xen_guest::suspend::pv::frame_list_pages;
//!
//! // A domain of 64 MiB has 16,384 pages, whose numbers take 32 pages; these are found by one page, and that by another.
//! assert_eq!(frame_list_pages(16_384).map(|pages| pages.get()), Some(2));
//! ```

use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::hypercall::XenError;
use crate::hypercall::sched::{self, SuspendReturn, Suspended};
use crate::platform::{PAGE_SIZE, Page, Platform};
use crate::shared::SharedMemory;
use xen_abi as sys;

/// Frame numbers in a page.
const PER_PAGE: usize = PAGE_SIZE / size_of::<u64>();

/// How many pages [`list_frames`] needs in a domain that has so many: one, and one for each GiB. `None`: the list
/// has no form for so many.
pub fn frame_list_pages(domain: usize) -> Option<NonZeroUsize> {
    let inner = domain.div_ceil(PER_PAGE).div_ceil(PER_PAGE);
    let has_form = inner <= PER_PAGE;
    has_form.then_some(NonZeroUsize::MIN.saturating_add(inner))
}

/// Shows the toolstack which frames this PV domain has: at the start, and again after it was resumed
/// elsewhere. Without that it can't be saved (public/arch-x86/xen.h, `arch_shared_info`).
///
/// # Safety
/// This is a PV domain, `info` its start_info, and `shared_info` its shared_info, both mapped, as is Xen's list of frames
/// where start_info says. From `lists` on there are as many pages as [`frame_list_pages`] says of `nr_pages`, kept
/// for this alone until the domain ends.
pub unsafe fn list_frames<P: Platform>(
    platform: &P,
    info: NonNull<sys::start_info>,
    shared_info: SharedMemory<'_>,
    lists: NonNull<Page>,
) {
    // SAFETY: the builder's structure, mapped; the toolstack writes to it only while the domain is suspended.
    let (frames, list) = unsafe {
        let info = info.as_ptr();
        let frames = (&raw const (*info).nr_pages).read_volatile() as usize;
        (
            frames,
            (&raw const (*info).mfn_list).read_volatile() as usize,
        )
    };
    let pages = frames.div_ceil(PER_PAGE);
    let frame_of = |page: *mut Page| NonNull::new(page).map_or(0, |page| platform.frame(page).0);
    let put = |page: usize, index: usize, frame: u64| {
        let words = lists.as_ptr().wrapping_add(page).cast::<u64>();
        // SAFETY: `index` is below the number of words in the pages from there on, which are for this alone.
        unsafe { words.add(index).write_volatile(frame) };
    };
    for index in 0..pages.div_ceil(PER_PAGE) {
        put(0, index, frame_of(lists.as_ptr().wrapping_add(1 + index)));
    }
    for index in 0..pages {
        put(1, index, frame_of((list + index * PAGE_SIZE) as *mut Page));
    }
    let arch = offset_of!(sys::shared_info, arch);
    let put = |field, value: u64| {
        (shared_info.word(arch + field)).store(value, Ordering::Relaxed);
    };
    put(offset_of!(sys::arch_shared_info, max_pfn), frames as u64);
    put(
        offset_of!(sys::arch_shared_info, pfn_to_mfn_frame_list_list),
        frame_of(lists.as_ptr()),
    );
    // No other form of the list.
    put(offset_of!(sys::arch_shared_info, p2m_cr3), 0);
}

/// [`sched::suspend`] of a PV domain: with the frames of the builder's rings in start_info as the toolstack wants them.
/// After [`Suspended::Resumed`] start_info tells where shared_info is, and the ports of the rings, whose pages stay
/// mapped where they were.
///
/// # Errors
/// Whatever Xen answered; nothing has changed then.
///
/// # Safety
/// As of [`sched::suspend`], but for start_info: `info` is that of this PV domain, at the beginning of a page, and
/// [`list_frames`] has listed the frames.
pub unsafe fn suspend<P: Platform>(
    platform: &P,
    info: NonNull<sys::start_info>,
) -> Result<SuspendReturn, XenError> {
    let at = platform.frame(info.cast());
    let info = info.as_ptr();
    // SAFETY: the builder's structure, mapped for good; only the toolstack uses it besides, while the domain is suspended.
    // The variant of the console's union is that of every domain but the first, which is never saved. The frames in it are
    // those of the rings, or 0.
    unsafe {
        let (store, console) = (
            &raw mut (*info).store_mfn,
            &raw mut (*info).console.domU.mfn,
        );
        let frames = (store.read_volatile(), console.read_volatile());
        store.write_volatile(number_of(frames.0));
        console.write_volatile(number_of(frames.1));
        let outcome = sched::suspend(platform, at);
        if !is_resumed(&outcome) {
            store.write_volatile(frames.0);
            console.write_volatile(frames.1);
        }
        outcome
    }
}

/// Whether the domain was resumed elsewhere.
pub fn is_resumed(outcome: &Result<SuspendReturn, XenError>) -> bool {
    matches!(outcome, Ok(returned) if returned.how() == Suspended::Resumed)
}

/// The pseudo-physical frame that has this machine frame; of 0, which is none, 0.
///
/// # Safety
/// This is a PV domain, and `frame` one of the host, or 0.
unsafe fn number_of(frame: u64) -> u64 {
    if frame == 0 {
        return 0;
    }
    let table = sys::MACH2PHYS_VIRT_START as *const u64;
    // SAFETY: Xen maps its table of all machine frames there in every 64-bit PV domain, and `frame` is one of them.
    unsafe { table.add(frame as usize).read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_lists_is_enough_for_a_gibibyte() {
        let pages = |domain| frame_list_pages(domain).map(NonZeroUsize::get);
        assert_eq!(pages(1), Some(2));
        assert_eq!(pages(1 << 18), Some(2));
        assert_eq!(pages((1 << 18) + 1), Some(3));
        assert_eq!(pages(1 << 27), Some(513));
        assert_eq!(pages((1 << 27) + 1), None);
    }
}
