//! A kernel that has nothing of xen9p's feature `rt`: its own entry, page tables, heap and interrupts. It boots as a
//! PVH or a PV domain, checks that its platform keeps the contract, mounts the first 9pfs device, and uses it; with the
//! command line `lose` it does so until its backend is gone, and with `save` before and after it is saved and restored.
#![no_std]
#![no_main]

extern crate alloc;

mod interrupts;
mod kernel;
mod pv;
mod work;

use alloc::string::String;
use core::arch::global_asm;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::time::Duration;

use linked_list_allocator::LockedHeap;
use xen9p::hypercall::sched::{self, ShutdownReason};
use xen9p::hypercall::{console_io, memory};
use xen9p::platform::{PAGE_SIZE, Platform, conformance};
use xen9p::sys::{hvm_start_info, start_info};
use xen9p::xen::console::Console;
use xen9p::xen::event::Events;

use kernel::Kernel;

global_asm!(include_str!("start.s"));

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

unsafe extern "C" {
    static kernel_end: u8;
}

/// The console, for `write!`.
struct Out<'a>(&'a Console<Kernel>);

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.replace('\n', "\r\n").as_bytes());
        Ok(())
    }
}

/// Called by start.s in a PVH domain.
#[unsafe(no_mangle)]
extern "C" fn start(info: &hvm_start_info) -> ! {
    let memory = usable_memory(info);
    // SAFETY: memory behind everything that is in use, mapped one to one; what is above it is none.
    unsafe {
        HEAP.lock().init(memory.start as *mut u8, memory.len());
        Kernel::init((memory.end / PAGE_SIZE) as u64)
            .expect("Xen provides what every PVH domain has");
    }
    run(command_line(info))
}

/// Called by start.s in a PV domain.
#[unsafe(no_mangle)]
extern "C" fn start_pv(info: NonNull<start_info>) -> ! {
    // SAFETY: Xen's structure, which stays mapped; the memory is for the heap alone.
    let text = unsafe {
        let (memory, size) = pv::init(info).expect("Xen lets a PV domain map its pages");
        HEAP.lock().init(memory, size);
        (*info.as_ptr()).cmd_line.map(|byte| byte as u8)
    };
    let end = text.iter().position(|&byte| byte == 0);
    run(&text[..end.unwrap_or(text.len())])
}

fn run(command_line: &[u8]) -> ! {
    let events = Events::new(Kernel);
    // The rule that drivers own what they use: the check has to be over before the first starts.
    let mut violations = String::new();
    conformance::check(&Kernel, |rule, outcome| {
        if let Err(violation) = outcome {
            let _ = writeln!(violations, "FAILED {rule}: {violation}");
        }
    });
    let console = Console::open(&events).expect("there is a console");
    let mut out = Out(&console);
    let done = match violations.as_str() {
        "" => work::work(&events, command_line, &mut out),
        violations => Err(String::from(violations)),
    };
    let status = match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(out, "embed-rust: {error}");
            1
        }
    };
    let _ = writeln!(out, "[xen9p] exit {status}");
    console.drain(Kernel.now() + Duration::from_secs(2));
    end(ShutdownReason::PowerOff)
}

fn command_line(info: &hvm_start_info) -> &'static [u8] {
    if info.cmdline_paddr == 0 {
        return b"";
    }
    // SAFETY: Xen's loader left a text with a NUL there, in memory that is mapped one to one and that the heap keeps away
    // from (see `usable_memory`).
    unsafe { CStr::from_ptr(info.cmdline_paddr as *const _) }.to_bytes()
}

/// The memory from the end of all that is in use to the end of its region.
fn usable_memory(info: &hvm_start_info) -> core::ops::Range<usize> {
    let region = memory::MapEntry::default();
    let mut map = [region; 32];
    let count = memory::memory_map(&Kernel, &mut map).unwrap_or(0);
    let image_end = (&raw const kernel_end).addr();
    let pages = memory::current_reservation(&Kernel).unwrap_or(0);
    let end = map[..count.min(map.len())]
        .iter()
        .filter(|entry| entry.kind == 1 && entry.start as usize <= image_end)
        .map(|entry| (entry.start + entry.length) as usize)
        .max();
    // The loader puts what it has to say behind the image: a page or two.
    let told = [
        core::ptr::from_ref(info).addr(),
        info.cmdline_paddr as usize,
        info.memmap_paddr as usize,
    ];
    let start = told.into_iter().fold(image_end, usize::max) + 2 * PAGE_SIZE;
    // With maxmem= above memory= the map shows more than there is.
    let end = end.unwrap_or(0).min(pages * PAGE_SIZE) & !(PAGE_SIZE - 1);
    start.next_multiple_of(PAGE_SIZE)..end.min(3 << 30)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    /// Xen's own console: works in any state.
    struct Emergency;
    impl Write for Emergency {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let _ = console_io::write(&Kernel, text.as_bytes());
            Ok(())
        }
    }
    let _ = writeln!(Emergency, "embed-rust: {info}");
    end(ShutdownReason::Crash)
}

fn end(reason: ShutdownReason) -> ! {
    let _ = sched::shutdown(&Kernel, reason);
    // Xen refused, which it never does.
    loop {
        core::hint::spin_loop();
    }
}
