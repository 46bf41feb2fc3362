//! The machine's part of being saved: what has to be put back when the domain runs again, perhaps as another one.
//!
//! A PVH domain takes its page tables along, and finds shared_info and grant table missing. The page tables of a PV
//! domain are rewritten by the toolstack, which finds the domain's frames by the list in shared_info, and takes no
//! entry for a frame that is not the domain's own: these are taken out before and put back afterwards.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::BarePlatform;
use super::emergency::crash_without_console;
use super::machine::{Machine, Mode, machine};
use super::memory::memory;
use super::platform::{map_grant_frames, unmap_grant_frames};
use super::pvh;
use crate::hypercall::sched::{self, SuspendReturn};
use crate::hypercall::{XenError, vcpu};
use crate::platform::{Frame, PAGE_SIZE, Page};
use crate::sys;
use crate::xen::suspend::pv;

/// The pages in which a PV domain shows the toolstack its frames; null where there is no memory for them.
static FRAME_LISTS: AtomicPtr<Page> = AtomicPtr::new(null_mut());

/// Whether the domain can be saved.
pub(super) fn is_possible() -> bool {
    let machine = machine();
    let listed = machine.mode == Mode::Pvh || !FRAME_LISTS.load(Ordering::Relaxed).is_null();
    listed && !machine.first_domain
}

/// Suspends the domain. When it runs again everything that the drivers' platform answers for is back: shared_info,
/// the grant table, the builder's rings with their new ports, and a clock that has stood still.
///
/// # Errors
/// What Xen says; nothing has changed then.
pub(super) fn suspend() -> Result<SuspendReturn, XenError> {
    let machine = machine();
    let now = machine.now();
    let outcome = match machine.start_info {
        Some(info) => suspend_pv(machine, info),
        // SAFETY: nothing uses shared_info or the grant table until they are put back below. The return goes to
        // `Xen::suspend`, our caller's caller.
        None => unsafe { sched::suspend(&BarePlatform, Frame(0)) },
    };
    let resumed = pv::is_resumed(&outcome);
    let back = match machine.mode {
        Mode::Pvh if resumed => pvh::resumed().and_then(|()| map_grant_frames(true)),
        Mode::Pvh => Ok(()),
        Mode::Pv => map_grant_frames(resumed),
    };
    if let Err(error) = back {
        crash_without_console(format_args!(
            "resumed, but Xen does not share its pages with us: {error}"
        ));
    }
    if resumed {
        machine.mask_events();
        machine.set_clock(now);
        stop_ticking();
        list_frames();
    }
    outcome
}

/// Stops the timer that a PV domain is made with: nothing here wants a tick. An older Xen without this call ticks on,
/// and no event is lost.
pub(super) fn stop_ticking() {
    let _ = vcpu::stop_periodic_timer(&BarePlatform, 0);
}

/// Suspends a PV domain. Afterwards shared_info is mapped, and the builder's rings have their ports.
fn suspend_pv(
    machine: &Machine,
    info: NonNull<sys::start_info>,
) -> Result<SuspendReturn, XenError> {
    let address = machine.shared_info.as_ptr().addr().get();
    // SAFETY: what is taken out of the page tables is not used before it is put back, here and by our caller. The
    // frames are listed, or `is_possible` denies that the domain can be saved.
    let outcome = unsafe {
        unmap_grant_frames();
        memory().remap_device(address, None);
        pv::suspend(&BarePlatform, info)
    };
    let info = info.as_ptr();
    // SAFETY: the builder's structure, mapped for good; only the toolstack uses it besides, while the domain is suspended.
    // The frame is ours to map, by start_info. The variant of the union is that of every domain but the first.
    unsafe {
        let frame = (&raw const (*info).shared_info).read_volatile() / PAGE_SIZE as u64;
        memory().remap_device(address, Some(Frame(frame)));
        if let Some(ring) = &machine.xenstore {
            ring.set_port((&raw const (*info).store_evtchn).read_volatile());
        }
        if let Some(ring) = &machine.console {
            ring.set_port((&raw const (*info).console.domU.evtchn).read_volatile());
        }
    }
    outcome
}

/// Shows the toolstack which frames a PV domain has: without that it can't save it.
pub(super) fn list_frames() {
    let machine = machine();
    let Some(info) = machine.start_info else {
        return;
    };
    let mut lists = FRAME_LISTS.load(Ordering::Relaxed);
    if lists.is_null() {
        // SAFETY: the builder's structure, mapped for good.
        let pages = unsafe { (&raw const (*info.as_ptr()).nr_pages).read_volatile() };
        let Some(count) = pv::frame_list_pages(pages as usize) else {
            return;
        };
        let Some(first) = memory().allocate(count.get()) else {
            return;
        };
        lists = first.as_ptr();
        FRAME_LISTS.store(lists, Ordering::Relaxed);
    }
    if let Some(lists) = NonNull::new(lists) {
        // SAFETY: our start_info and shared_info, mapped for good; the pages were allocated for this, and are never
        // given back.
        unsafe { pv::list_frames(&BarePlatform, info, machine.shared_info, lists) };
    }
}
