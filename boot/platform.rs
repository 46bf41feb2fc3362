//! [`BarePlatform`]: the drivers' host when there is nothing under us but Xen.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;

use spin::Mutex;

use super::counter::Counter;
use super::machine::{Mode, machine};
use super::memory::memory;
use crate::hypercall::memory::Space;
use crate::hypercall::raw::Gate;
use crate::hypercall::{XenError, grant_table, memory as memory_op, sched};
use crate::platform::{BuilderRing, Frame, Page, Platform};
use crate::time::Instant;
use crate::xen::event::Port;

/// The bare PV or PVH domain that this image runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct BarePlatform;

/// The [`Gate`] into Xen: 0 is `syscall`, 1 `vmcall`, 2 `vmmcall`. Set by the first Rust code.
static GATE: AtomicU8 = AtomicU8::new(0);

/// Hypercalls made by the drivers.
pub(super) static HYPERCALLS: Counter = Counter::new();

/// The grant frames that are mapped, by index: addresses, 0 where there is none.
static GRANT_FRAMES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Sets how hypercalls are made from now on.
pub(super) fn set_gate(gate: Gate) {
    let number = match gate {
        Gate::Syscall => 0,
        Gate::Vmcall => 1,
        Gate::Vmmcall => 2,
    };
    GATE.store(number, Ordering::Relaxed);
}

/// Maps grant frame `index`.
fn map_grant_frame(index: u32) -> Result<NonNull<Page>, XenError> {
    let frame = match machine().mode {
        Mode::Pv => {
            let mut frames = vec![Frame(0); index as usize + 1];
            grant_table::setup_table(&BarePlatform, &mut frames)?;
            frames[index as usize]
        }
        Mode::Pvh => {
            let mut memory = memory();
            let frame = Frame(memory.unused_frame);
            // SAFETY: nothing is behind that frame number.
            unsafe {
                memory_op::add_to_physmap(&BarePlatform, Space::GrantTable(index), frame)?;
            }
            memory.unused_frame += 1;
            frame
        }
    };
    // SAFETY: it is a frame of our own grant table, which never shrinks.
    unsafe { memory().map_device(frame) }.ok_or(XenError::ENOMEM)
}

// SAFETY: pages come from the page allocator, which hands out each once, mapped read-write and
// zeroed, on pages of its own; frames are what the page tables say; hypercalls go straight to Xen;
// grant frames are those of this domain, in version 1 since nobody sets another; the rings are
// mapped for good.
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
            0 => Gate::Syscall,
            1 => Gate::Vmcall,
            _ => Gate::Vmmcall,
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
            .and_then(|&addr| NonNull::new(addr as *mut Page))
        {
            return Ok(page);
        }
        let page = map_grant_frame(index)?;
        if frames.len() <= at {
            frames.resize(at + 1, 0);
        }
        frames[at] = page.as_ptr().expose_provenance();
        Ok(page)
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        machine().xenstore
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        machine().console
    }

    fn now(&self) -> Instant {
        machine().now()
    }

    fn wall_clock(&self) -> u64 {
        machine().wall_clock()
    }

    fn take_pending(&self, port: Port) -> bool {
        let (word, bit) = (port.0 as usize / 64, 1 << (port.0 % 64));
        machine()
            .pending()
            .get(word)
            .is_some_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        // More than one poll takes: the caller looks after the others at least every 10 ms.
        let (ports, deadline) = match ports.get(..sched::MAX_POLL_PORTS) {
            Some(first) if ports.len() > first.len() => {
                (first, deadline.min(self.now() + Duration::from_millis(10)))
            }
            _ => (ports, deadline),
        };
        // Xen looks at the pending bits itself, after it has noted who waits: no event is missed.
        // It refuses only a port that is none, which then never fires: early return is allowed.
        let _ = sched::poll(self, ports, deadline);
    }
}
