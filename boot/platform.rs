//! [`BarePlatform`]: the drivers' host when there is nothing under us but Xen.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use spin::Mutex;

use super::counter::Counter;
use super::machine::{Mode, ResumableRing, machine};
use super::memory::memory;
use crate::hypercall::memory::Space;
use crate::hypercall::raw::Gate;
use crate::hypercall::{XenError, grant_table, memory as memory_op, sched};
use crate::platform::{BuilderRing, DomainState, Frame, PAGE_SIZE, Page, Platform, View};
use crate::time::Instant;
use crate::xen::event::Port;

/// The bare PV or PVH domain that this image runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct BarePlatform;

/// The [`Gate`] into Xen: 1 is `syscall`, 2 `vmcall`, 3 `vmmcall`. Set by the first Rust code of an image. 0 is none: a
/// hosted program that calls the drivers over [`BarePlatform`] must not make system calls of its kernel by mistake.
static GATE: AtomicU8 = AtomicU8::new(0);

/// Hypercalls made by the drivers.
pub(super) static HYPERCALLS: Counter = Counter::new();

/// The grant frames that are mapped, by index: address, 0 where there is none, and where Xen has it.
static GRANT_FRAMES: Mutex<Vec<(usize, Frame)>> = Mutex::new(Vec::new());

/// Sets how hypercalls are made from now on.
///
/// # Safety
/// This is an image in a domain that has this gate.
pub(super) unsafe fn set_gate(gate: Gate) {
    let number = match gate {
        Gate::Syscall => 1,
        Gate::Vmcall => 2,
        Gate::Vmmcall => 3,
    };
    GATE.store(number, Ordering::Relaxed);
}

/// Has Xen say where grant frame `index` is, or in a PVH domain put it `there`.
///
/// # Safety
/// Nothing is behind frame number `there` but perhaps that grant frame.
unsafe fn find_grant_frame(index: u32, there: Frame) -> Result<Frame, XenError> {
    match machine().mode {
        Mode::Pv => {
            let mut frames = vec![Frame(0); index as usize + 1];
            grant_table::setup_table(&BarePlatform, &mut frames)?;
            Ok(frames[index as usize])
        }
        Mode::Pvh => {
            // SAFETY: the caller's promise.
            unsafe {
                memory_op::add_to_physmap(&BarePlatform, Space::GrantTable(index), there)?;
            }
            Ok(there)
        }
    }
}

/// Maps grant frame `index`. Returns its address, and where it is.
fn map_grant_frame(index: u32) -> Result<(NonNull<Page>, Frame), XenError> {
    let unused = Frame(memory().unused_frame);
    // SAFETY: nothing is behind an unused frame number.
    let frame = unsafe { find_grant_frame(index, unused) }?;
    let mut memory = memory();
    if frame == unused {
        memory.unused_frame += 1;
    }
    // SAFETY: it is a frame of our own grant table, which never shrinks.
    let page = unsafe { memory.map_device(frame) }.ok_or(XenError::ENOMEM)?;
    Ok((page, frame))
}

/// Takes the grant table out of a PV domain's page tables, which are about to be saved.
///
/// # Safety
/// It is not used before [`map_grant_frames`].
pub(super) unsafe fn unmap_grant_frames() {
    for &(address, _) in GRANT_FRAMES
        .lock()
        .iter()
        .filter(|(address, _)| *address != 0)
    {
        // SAFETY: the caller's promise.
        unsafe { memory().remap_device(address, None) };
    }
}

/// Puts the grant frames that were mapped before a suspend back to where they were; if `anew`, those of the
/// domain's new table.
///
/// # Errors
/// What Xen says. The table can't be used then.
pub(super) fn map_grant_frames(anew: bool) -> Result<(), XenError> {
    let mut frames = GRANT_FRAMES.lock();
    for (index, (address, frame)) in (0..).zip(frames.iter_mut()) {
        if *address == 0 {
            continue;
        }
        if anew {
            // SAFETY: that grant frame was there before the resume.
            *frame = unsafe { find_grant_frame(index, *frame) }?;
        }
        // SAFETY: it is that frame of our own grant table.
        unsafe { memory().remap_device(*address, Some(*frame)) };
    }
    Ok(())
}

// SAFETY: pages come from the page allocator, which hands out each once, mapped read-write and
// zeroed, on pages of its own; frames are what the page tables say; hypercalls go straight to Xen;
// grant frames are those of this domain, in version 1 since no code sets another; the rings are
// mapped for good; windows lie where nothing else is, in frame numbers that are no memory (PVH) or
// with page tables of their own (PV).
unsafe impl Platform for BarePlatform {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        memory().allocate(count.get())
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        // SAFETY: the caller's promise.
        unsafe { memory().release(first, count.get()) };
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        memory().tables.frame(page.addr().get())
    }

    // Counts, too; one thread, so that load and store do.
    #[inline]
    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        let gate = match GATE.load(Ordering::Relaxed) {
            1 => Gate::Syscall,
            2 => Gate::Vmcall,
            3 => Gate::Vmmcall,
            _ => return -(XenError::ENOSYS.0 as isize),
        };
        HYPERCALLS.count();
        // SAFETY: the gate is that of this domain; the rest is the caller's promise.
        unsafe { gate.call(number, args) }
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        let at = index as usize;
        let mut frames = GRANT_FRAMES.lock();
        if let Some(page) = frames
            .get(at)
            .and_then(|&(address, _)| NonNull::new(address as *mut Page))
        {
            return Ok(page);
        }
        let (page, frame) = map_grant_frame(index)?;
        if frames.len() <= at {
            frames.resize(at + 1, (0, Frame(0)));
        }
        frames[at] = (page.as_ptr().expose_provenance(), frame);
        Ok(page)
    }

    fn alloc_window(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        memory().take_window(count.get())
    }

    unsafe fn free_window(&self, first: NonNull<Page>, count: NonZeroUsize) {
        // SAFETY: the caller's promise.
        unsafe { memory().release_window(first, count.get()) };
    }

    fn window_address(&self, page: NonNull<Page>) -> u64 {
        match machine().mode {
            Mode::Pv => page.addr().get() as u64,
            Mode::Pvh => memory().window_frame_of(page).0 * PAGE_SIZE as u64,
        }
    }

    unsafe fn set_window(&self, page: NonNull<Page>, view: View) {
        let mut memory = memory();
        let frame = match (view, machine().mode) {
            (View::Empty, _) => None,
            (View::Own(frame), _) => Some(frame),
            // Xen has put it into the page tables.
            (View::Foreign, Mode::Pv) => return,
            (View::Foreign, Mode::Pvh) => Some(memory.window_frame_of(page)),
        };
        // SAFETY: the caller's promise.
        unsafe { memory.set_window(page, frame) };
    }

    fn domain_state(&self) -> &DomainState {
        static STATE: DomainState = DomainState::new();
        &STATE
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        machine().xenstore.as_ref().map(ResumableRing::ring)
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        machine().console.as_ref().map(ResumableRing::ring)
    }

    fn now(&self) -> Instant {
        machine().now()
    }

    fn wall_clock(&self) -> u64 {
        machine().wall_clock()
    }

    fn take_pending(&self, port: Port) -> bool {
        let bit = 1 << (port.0 % 64);
        let word = machine().pending(port);
        word.is_some_and(|word| word.fetch_and(!bit) & bit != 0)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        // Xen looks at the pending bits itself, after it has noted who waits: no event is missed.
        // It refuses only a port that is none, which then never fires: early return is allowed.
        let _ = sched::poll(self, ports, machine().to_system_time(deadline));
    }
}
