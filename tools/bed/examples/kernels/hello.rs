//! A PV guest in 50 lines: it says hello on Xen's console device, and powers off. Xen enters it in 64-bit mode, with its
//! memory mapped (Xen public/arch-x86/xen.h and xen.h), so that there is nothing to be set up but a stack.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::{read_volatile, write_volatile};

// XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_LOADER and XEN_ELFNOTE_XEN_VERSION; the beginning, with start_info in RSI.
global_asm!(
    ".pushsection .note.Xen, \"a\", @note",
    ".long 4, 8, 1; .asciz \"Xen\"; .quad start",
    ".long 4, 8, 8; .asciz \"Xen\"; .asciz \"generic\"; .balign 4",
    ".long 4, 8, 5; .asciz \"Xen\"; .asciz \"xen-3.0\"; .balign 4",
    ".popsection",
    ".globl start; start: mov rdi, rsi; call {main}",
    main = sym main,
);

/// The table from machine to physical frame numbers that Xen shows to each guest.
const MACHINE_TO_PHYSICAL: *const u64 = 0xffff_8000_0000_0000 as *const u64;

fn hypercall(number: u64, first: u64, second: *const u32) -> i64 {
    let result;
    // SAFETY: Xen reads the one word behind `second`, and keeps all registers but these.
    unsafe {
        asm!("syscall", inout("rax") number => result, in("rdi") first, in("rsi") second, out("rcx") _, out("r11") _)
    };
    result
}

extern "C" fn main(start_info: *const u8) -> ! {
    // SAFETY: start_info has the console's frame and port at these places, Xen has mapped the page, and the ring's
    // output is at 1024, its producer index at 3084 (public/io/console.h).
    unsafe {
        let frame = *MACHINE_TO_PHYSICAL.add(*start_info.add(72).cast::<u64>() as usize);
        let port = *start_info.add(80).cast::<u32>();
        let console = (frame << 12) as *mut u8;
        let produced = console.add(3084).cast::<u32>();
        for &byte in b"Hello from a PV kernel in Rust.\n" {
            let at = read_volatile(produced);
            write_volatile(console.add(1024 + at as usize % 2048), byte);
            write_volatile(produced, at + 1);
        }
        hypercall(32, 4, &port); // event_channel_op, EVTCHNOP_send
    }
    loop {
        hypercall(29, 2, &0); // sched_op, SCHEDOP_shutdown, SHUTDOWN_poweroff
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
