//! Output that needs nothing but Xen, and the ways to end.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use core::time::Duration;

use super::BarePlatform;
use super::machine::known;
use crate::hypercall::sched::ShutdownReason;
use crate::hypercall::{console_io, event_channel, sched};
use crate::platform::{BuilderRing, Platform};
use crate::sys;

/// How long to wait for someone to read the console before the rest is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints to the console, whatever state the machine is in: to the console's ring if there is one,
/// to Xen's own console otherwise.
///
/// Waits for room for 1 s at most, then drops the rest. Goes around the console driver: use it
/// before the driver exists, or where the driver will not print any more.
pub fn emergency_print(text: fmt::Arguments<'_>) {
    // The writer never fails.
    let _ = match known() {
        Some(machine) => match &machine.console {
            Some(ring) => RingWriter { ring }.write_fmt(text),
            None => HypervisorWriter.write_fmt(text),
        },
        None => HypervisorWriter.write_fmt(text),
    };
}

/// To Xen's console: for dom0 the serial line, for others if Xen was started with
/// `guest_loglvl=all`.
struct HypervisorWriter;

impl fmt::Write for HypervisorWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // In pieces, since Xen stops at a size of its own choice; refused is refused.
        for piece in text.as_bytes().chunks(128) {
            let _ = console_io::write(&BarePlatform, piece);
        }
        Ok(())
    }
}

/// To the console's ring (public/io/console.h), going on where the driver stopped.
struct RingWriter<'a> {
    ring: &'a BuilderRing,
}

/// Nobody reads the console: nothing is waited for any more.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

impl RingWriter<'_> {
    fn interface(&self) -> *mut sys::xencons_interface {
        self.ring.page.as_ptr().cast()
    }

    /// One of the page's counters, which both sides access as a whole.
    fn counter(&self, place: *const u32) -> &AtomicU32 {
        // SAFETY: `place` is inside the page, which is mapped for good.
        unsafe { &*place.cast() }
    }

    fn consumed(&self) -> &AtomicU32 {
        // SAFETY: a place inside the page, no access.
        self.counter(unsafe { &raw const (*self.interface()).out_cons })
    }

    fn produced(&self) -> &AtomicU32 {
        // SAFETY: as above.
        self.counter(unsafe { &raw const (*self.interface()).out_prod })
    }

    /// Wakes the reader and waits until at most `rest` bytes are unread; gives up for good after
    /// [`PATIENCE`].
    fn wait_until_unread(&self, rest: u32) {
        let deadline = BarePlatform.now() + PATIENCE;
        while !GIVEN_UP.load(Ordering::Relaxed) {
            let _ = event_channel::send(&BarePlatform, self.ring.port);
            BarePlatform.take_pending(self.ring.port);
            let consumed = self.consumed().load(Ordering::SeqCst);
            let unread = self
                .produced()
                .load(Ordering::Relaxed)
                .wrapping_sub(consumed);
            if unread <= rest {
                return;
            }
            if BarePlatform.now() >= deadline {
                GIVEN_UP.store(true, Ordering::Relaxed);
                return;
            }
            // Not until the deadline: the reader need not tell us.
            let moment = BarePlatform.now() + Duration::from_millis(5);
            BarePlatform.wait(&[self.ring.port], moment.min(deadline));
        }
    }
}

impl fmt::Write for RingWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const SIZE: u32 = 2048;
        let mut produced = self.produced().load(Ordering::Relaxed);
        for byte in text.bytes() {
            if produced.wrapping_sub(self.consumed().load(Ordering::Acquire)) >= SIZE {
                self.produced().store(produced, Ordering::Release);
                self.wait_until_unread(SIZE / 2);
                if GIVEN_UP.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            // SAFETY: inside the ring's buffer, which is ours to write up to `produced + free`.
            unsafe {
                let buffer = (&raw mut (*self.interface()).out).cast::<u8>();
                buffer.add((produced % SIZE) as usize).write_volatile(byte);
            }
            produced = produced.wrapping_add(1);
        }
        self.produced().store(produced, Ordering::Release);
        fence(Ordering::SeqCst);
        let _ = event_channel::send(&BarePlatform, self.ring.port);
        Ok(())
    }
}

/// Waits until what was printed has been read, for 1 s at most.
fn drain() {
    if let Some(ring) = known().and_then(|machine| machine.console.as_ref()) {
        RingWriter { ring }.wait_until_unread(0);
    }
}

/// Stops the domain.
fn stop(reason: ShutdownReason) -> ! {
    loop {
        // Xen does not come back from this; if it did, nothing else could be done.
        let _ = sched::shutdown(&BarePlatform, reason);
    }
}

/// Ends the domain in good order: prints the verdict `[xen9p] exit N`, waits until the console has
/// been read (1 s at most), and powers off. A first domain reboots instead, since Xen does not leave
/// when that powers off.
pub fn exit(status: u8) -> ! {
    emergency_print(format_args!("[xen9p] exit {status}\n"));
    drain();
    let alone = known().is_none_or(|machine| machine.first_domain);
    stop(if alone {
        ShutdownReason::Reboot
    } else {
        ShutdownReason::PowerOff
    })
}

/// Ends the domain with status 1 and a line that says why the machine can't be used.
pub(super) fn fail(why: fmt::Arguments<'_>) -> ! {
    emergency_print(format_args!("xen9p: {why}\n"));
    exit(1)
}

/// Ends the domain as crashed (`on_crash` in its configuration says what happens then), after
/// waiting for the console to be read, 1 s at most.
pub(super) fn crash() -> ! {
    drain();
    stop(ShutdownReason::Crash)
}

/// Notes that the end is near; at the second time, crashes at once: reporting the first trouble
/// was the second.
pub(super) fn begin_report() {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if REPORTING.swap(true, Ordering::Relaxed) {
        stop(ShutdownReason::Crash);
    }
}

/// Prints the return addresses on the stack, from frame pointer `frame` on, as long as they make
/// sense: code built without frame pointers leaves anything in that register.
pub(super) fn print_callers(mut frame: usize) {
    unsafe extern "C" {
        static xen9p_stack_bottom: u8;
        static xen9p_stack_top: u8;
        static xen9p_image_start: u8;
        static xen9p_rodata_start: u8;
    }
    let stack = (&raw const xen9p_stack_bottom).addr()..(&raw const xen9p_stack_top).addr() - 16;
    let code = (&raw const xen9p_image_start).addr()..(&raw const xen9p_rodata_start).addr();
    emergency_print(format_args!("  callers:"));
    for _ in 0..16 {
        if !stack.contains(&frame) || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: two words inside our stack.
        let [next, caller] = unsafe { (frame as *const [usize; 2]).read_volatile() };
        if !code.contains(&caller) || next <= frame {
            break;
        }
        emergency_print(format_args!(" {caller:#x}"));
        frame = next;
    }
    emergency_print(format_args!("\n"));
}

/// What an image does when it panics: prints `[xen9p] panic: …` with the place and crashes the
/// domain. [`entry!`](crate::entry) makes it the panic handler.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    begin_report();
    let frame: usize;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags));
    }
    print_callers(frame);
    let message = info.message();
    match info.location() {
        Some(place) => emergency_print(format_args!("[xen9p] panic: {message} (at {place})\n")),
        None => emergency_print(format_args!("[xen9p] panic: {message}\n")),
    }
    crash()
}
