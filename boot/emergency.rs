//! Output that needs nothing but Xen, and the ways to end.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use super::BarePlatform;
use super::machine::try_machine;
use crate::hypercall::sched::ShutdownReason;
use crate::hypercall::{console_io, sched};
use crate::platform::Platform;
use crate::time::Instant;
use crate::xen::console::{emergency_drain, emergency_write};

/// How long one text waits for someone to read the console before the rest of it is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the end waits for everything to be read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Prints to the console, whatever state the machine is in: to the console's ring if there is one,
/// to Xen's own console otherwise (for dom0 that is the serial line, for others it is heard if Xen
/// was started with `guest_loglvl=all`).
///
/// Waits for room for half a second at most, then drops the rest. Goes around a
/// [`Console`](crate::xen::console::Console): use it before there is one, or where it will not be
/// used any more, or the two overwrite each other's text.
pub fn emergency_print(text: fmt::Arguments<'_>) {
    // The writer never fails.
    let _ = match has_console() {
        true => RingWriter {
            deadline: BarePlatform.now() + WRITE_TIMEOUT,
        }
        .write_fmt(text),
        false => HypervisorWriter.write_fmt(text),
    };
}

fn has_console() -> bool {
    try_machine().is_some_and(|machine| machine.console.is_some())
}

/// To Xen's own console.
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

/// To the console's ring.
struct RingWriter {
    deadline: Instant,
}

impl fmt::Write for RingWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        emergency_write(&BarePlatform, text, self.deadline - BarePlatform.now());
        Ok(())
    }
}

/// Waits until what was printed has been read, for a second at most.
fn drain() {
    if has_console() {
        emergency_drain(&BarePlatform, DRAIN_TIMEOUT);
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
/// been read (a second at most), and powers off. A first domain reboots instead, since Xen does not leave
/// when that powers off.
pub fn exit(status: u8) -> ! {
    exit_for(status, ShutdownReason::PowerOff)
}

/// As [`exit`], but stops for another reason than being done: to be started again, as a rule.
pub(super) fn exit_for(status: u8, reason: ShutdownReason) -> ! {
    emergency_print(format_args!("[xen9p] exit {status}\n"));
    drain();
    let alone = try_machine().is_some_and(|machine| machine.first_domain);
    stop(if alone {
        ShutdownReason::Reboot
    } else {
        reason
    })
}

/// Ends the domain with status 1 and a line that says why the machine can't be used.
pub(super) fn fail(why: fmt::Arguments<'_>) -> ! {
    emergency_print(format_args!("xen9p: {why}\n"));
    match try_machine() {
        Some(_) => exit(1),
        // Too early for a console that the toolstack shows. A crash it does show; and unlike
        // another start, which would end here again, it ends for good.
        None => {
            emergency_print(format_args!("[xen9p] exit 1\n"));
            stop(ShutdownReason::Crash)
        }
    }
}

/// Crashes the domain when not even the clock can be used: the reason is heard if Xen was started with
/// `guest_loglvl=all`.
pub(super) fn crash_without_console(why: fmt::Arguments<'_>) -> ! {
    // The writer never fails.
    let _ = HypervisorWriter.write_fmt(format_args!("xen9p: {why}\n"));
    stop(ShutdownReason::Crash)
}

/// Ends the domain as crashed (`on_crash` in its configuration says what happens then), after
/// waiting for the console to be read, a second at most.
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
