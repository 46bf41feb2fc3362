//! The machine's part of being saved: what has to be put back when the domain runs again, perhaps as another one.
//!
//! A PVH domain takes its page tables along, and finds shared_info and grant table missing. The page tables of a PV
//! domain are rewritten by the toolstack, which finds the domain's frames by the list in shared_info, and takes no
//! entry for a frame that is not the domain's own: these are taken out before and put back afterwards.

use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::BarePlatform;
use super::emergency::crash_without_console;
use super::machine::{Machine, Mode, machine};
use super::memory::memory;
use super::paging::MachineFrames;
use super::platform::{map_grant_frames, unmap_grant_frames};
use super::pvh;
use crate::hypercall::sched::{self, SuspendReturn, Suspended};
use crate::hypercall::{XenError, vcpu};
use crate::platform::{Frame, PAGE_SIZE};
use crate::sys;

/// Frame numbers in a page.
const PER_PAGE: usize = PAGE_SIZE / size_of::<u64>();

/// Where a PV domain's list of frames is shown to the toolstack: the address of a page with the frames of the pages
/// that follow it, which have the frames of the list's own pages. 0 where there is no memory for them.
static FRAME_LISTS: AtomicUsize = AtomicUsize::new(0);

/// Whether the domain can be saved.
pub(super) fn is_possible() -> bool {
    let machine = machine();
    let listed = machine.mode == Mode::Pvh || FRAME_LISTS.load(Ordering::Relaxed) != 0;
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
    let resumed = is_resumed(&outcome);
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

fn is_resumed(outcome: &Result<SuspendReturn, XenError>) -> bool {
    matches!(outcome, Ok(returned) if returned.how() == Suspended::Resumed)
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
    let info = info.as_ptr();
    let at = memory().tables.frame(info.addr());
    // SAFETY: the builder's structure, mapped for good; only the toolstack uses it besides, while the domain is
    // suspended. The variant of the console's union is that of every domain but the first, which is never saved. The
    // frames in it are those of the rings, or 0. What is taken out of the page tables is not used before it is put back, here and by our caller.
    let outcome = unsafe {
        let (store, console) = ((*info).store_mfn, (*info).console.domU.mfn);
        let found = |frame| match frame {
            0 => 0,
            frame => MachineFrames::find(frame) as u64,
        };
        (&raw mut (*info).store_mfn).write_volatile(found(store));
        (&raw mut (*info).console.domU.mfn).write_volatile(found(console));
        unmap_grant_frames();
        memory().remap_device(address, None);
        let outcome = sched::suspend(&BarePlatform, at);
        if !is_resumed(&outcome) {
            (&raw mut (*info).store_mfn).write_volatile(store);
            (&raw mut (*info).console.domU.mfn).write_volatile(console);
        }
        outcome
    };
    // SAFETY: as above; the frame is ours to map, by start_info.
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

/// Shows the toolstack which frames a PV domain has: without that it can't save it (public/arch-x86/xen.h,
/// `arch_shared_info`).
pub(super) fn list_frames() {
    let machine = machine();
    let Some(info) = machine.start_info else {
        return;
    };
    // SAFETY: the builder's structure, mapped for good; the toolstack writes to it only while the domain is suspended.
    let (frames, list) = unsafe {
        let info = info.as_ptr();
        ((*info).nr_pages as usize, (*info).mfn_list as usize)
    };
    let pages = frames.div_ceil(PER_PAGE);
    let inner = pages.div_ceil(PER_PAGE);
    if inner > PER_PAGE {
        return;
    }
    let mut memory = memory();
    let mut root = FRAME_LISTS.load(Ordering::Relaxed);
    if root == 0 {
        let count = NonZeroUsize::MIN.saturating_add(inner);
        let Some(first) = memory.allocate(count.get()) else {
            return;
        };
        root = first.as_ptr().expose_provenance();
        FRAME_LISTS.store(root, Ordering::Relaxed);
    }
    let frame_at = |address: usize| memory.tables.frame(address).0;
    let put = |place: usize, index: usize, frame: u64| {
        // SAFETY: `index` is below the number of entries in the pages from `place` on, which are ours alone.
        unsafe { (place as *mut u64).add(index).write_volatile(frame) };
    };
    for index in 0..inner {
        put(root, index, frame_at(root + (1 + index) * PAGE_SIZE));
    }
    for index in 0..pages {
        put(root + PAGE_SIZE, index, frame_at(list + index * PAGE_SIZE));
    }
    let arch = offset_of!(sys::shared_info, arch);
    let put = |field, value: u64| {
        let word = machine.shared_info.word(arch + field);
        word.store(value, Ordering::Relaxed);
    };
    put(offset_of!(sys::arch_shared_info, max_pfn), frames as u64);
    put(
        offset_of!(sys::arch_shared_info, pfn_to_mfn_frame_list_list),
        frame_at(root),
    );
    // No other form of the list.
    put(offset_of!(sys::arch_shared_info, p2m_cr3), 0);
}
