//! What a bootable image needs under it: entry, page tables, heap, exceptions, panic, and
//! [`BarePlatform`] for the drivers above.
//!
//! An image names its main function with [`entry!`](crate::entry) (called with the root share mounted) or with
//! [`bare_entry!`](crate::bare_entry) (called as soon as the machine is up, nothing connected). Start-up: the
//! assembly in `head.s`, then `pv` or `pvh`, which find the memory and the shared pages, then the
//! main function, then [`exit`].

mod counter;
mod emergency;
mod heap;
mod machine;
mod mem_functions;
mod memory;
mod pages;
mod paging;
mod platform;
mod pv;
mod pvh;
mod start;
mod suspend;
mod trap;
mod windows;

use core::arch::global_asm;

use crate::hypercall::vcpu::{RunTimes, run_times};
use crate::platform::PAGE_SIZE;
use crate::time::Instant;

pub use emergency::{emergency_print, exit, panic};
pub use heap::Allocator;
pub use machine::Mode;
pub use platform::BarePlatform;
pub use start::*;

use emergency::fail;
use machine::machine;

global_asm!(include_str!("head.s"));
global_asm!(include_str!("trap.s"));

/// Makes a function the main function of an image: `fn() -> u8`, called when the machine is up but
/// nothing is connected yet; what it returns is the exit status.
///
/// Also defines what an image needs and a library must not have: the panic handler and the global
/// allocator.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
///
/// xen9p::bare_entry!(main);
///
/// fn main() -> u8 {
///     0
/// }
/// ```
#[macro_export]
macro_rules! bare_entry {
    ($main:path) => {
        const _: () = {
            #[unsafe(no_mangle)]
            extern "Rust" fn xen9p_main() -> u8 {
                let main: fn() -> u8 = $main;
                main()
            }

            #[global_allocator]
            static ALLOCATOR: $crate::rt::Allocator = $crate::rt::Allocator;

            #[panic_handler]
            fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::rt::panic(info)
            }
        };
    };
}

/// Memory of the domain, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// What the domain was given.
    pub total: usize,
    /// What can still be allocated.
    pub free: usize,
}

impl MemoryInfo {
    /// What is in use, the image and page tables included.
    pub fn used(&self) -> usize {
        self.total - self.free
    }
}

/// How much memory there is, and how much is free.
pub fn memory_info() -> MemoryInfo {
    let heap = heap::free();
    let memory = memory::memory();
    MemoryInfo {
        total: memory.total,
        free: memory.free() + heap,
    }
}

/// Counters of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Hypercalls made.
    pub hypercalls: u64,
    /// Blocks of memory allocated.
    pub allocations: u64,
    /// How long the virtual CPU has run, blocked and waited; `None` where Xen does not tell.
    pub times: Option<RunTimes>,
}

/// What the image has done so far. Costs one hypercall.
pub fn stats() -> Stats {
    Stats {
        hypercalls: platform::HYPERCALLS.get(),
        allocations: heap::ALLOCATIONS.get(),
        times: run_times(&BarePlatform, 0).ok(),
    }
}

/// How the domain runs.
pub fn mode() -> Mode {
    machine().mode
}

/// Whether this is dom0: no xenstore, no console ring, no toolstack that would start us again.
pub fn is_first_domain() -> bool {
    machine().first_domain
}

/// The kernel command line (`cmdline=` or `extra=` in the domain's configuration), without the
/// terminating 0. Bytes, since it need not be UTF-8.
pub fn command_line() -> &'static [u8] {
    machine().command_line
}

/// When the first instruction of this image ran, on the scale of
/// [`Platform::now`](crate::platform::Platform::now).
pub fn started_at() -> Instant {
    machine().started
}

/// Calls the image's main function.
fn call_main() -> ! {
    unsafe extern "Rust" {
        safe fn xen9p_main() -> u8;
    }
    exit(xen9p_main())
}

const _: () = assert!(
    PAGE_SIZE == 4096,
    "linker.ld and head.s take that for granted"
);
