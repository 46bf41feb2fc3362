//! What the ground costs that requests stand on: the clock, a hypercall, and ways to copy out of shared memory, as the
//! least of several tries. `make bench-costs` runs it; what followed from it is in docs/speed.md.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xen9p::hypercall::event_channel;
use xen9p::platform::{PAGE_SIZE, Platform};
use xen9p::println;
use xen9p::rt::BarePlatform;
use xen9p::xen::event::Port;

xen9p::bare_entry!(main);

const TRIES: usize = 15;
const TIMES: u64 = 200;
const SIZE: usize = 1 << 20;

/// Copies so many bytes, a multiple of 64, from one place to another, both of them valid for that and aligned.
type Copy = unsafe fn(to: *mut u8, from: *const u8, count: usize);

/// One word per turn of the loop: what the compiler makes of a plain loop when it builds for size.
unsafe fn word_by_word(to: *mut u8, from: *const u8, count: usize) {
    for at in (0..count).step_by(8) {
        // SAFETY: inside the areas, aligned, by the caller's promise.
        unsafe {
            let word = AtomicU64::from_ptr(from.add(at).cast_mut().cast()).load(Relaxed);
            to.add(at).cast::<u64>().write_volatile(word);
        }
    }
}

/// Eight words read, then eight written: what the library does.
unsafe fn eight_words(to: *mut u8, from: *const u8, count: usize) {
    for at in (0..count).step_by(64) {
        // SAFETY: inside the areas, aligned, by the caller's promise.
        let load = |word: usize| unsafe {
            AtomicU64::from_ptr(from.add(at + 8 * word).cast_mut().cast()).load(Relaxed)
        };
        // SAFETY: as above.
        let store = |word: usize, value| unsafe {
            to.add(at + 8 * word).cast::<u64>().write_volatile(value);
        };
        let (a, b, c, d) = (load(0), load(1), load(2), load(3));
        let (e, f, g, h) = (load(4), load(5), load(6), load(7));
        store(0, a);
        store(1, b);
        store(2, c);
        store(3, d);
        store(4, e);
        store(5, f);
        store(6, g);
        store(7, h);
    }
}

/// Four times sixteen bytes.
unsafe fn sse(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: reads and writes `count` bytes inside the areas.
    unsafe {
        asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {count}, 64",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            count = inout(reg) count => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// The processor's own loop, by words.
unsafe fn rep_movsq(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: as in `sse`; the direction flag is clear.
    unsafe {
        asm!("rep movsq", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") count / 8 => _, options(nostack));
    }
}

/// The processor's own loop, by bytes.
unsafe fn rep_movsb(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: as in `sse`; the direction flag is clear.
    unsafe {
        asm!("rep movsb", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") count => _, options(nostack));
    }
}

/// A word of each page: what finding the pages costs.
unsafe fn a_word_per_page(to: *mut u8, from: *const u8, count: usize) {
    for at in (0..count).step_by(PAGE_SIZE) {
        // SAFETY: inside the areas, aligned, by the caller's promise.
        unsafe {
            let word = from.add(at).cast::<u64>().read_volatile();
            to.add(at).cast::<u64>().write_volatile(word);
        }
    }
}

/// The least time that something took, in nanoseconds.
fn least(mut work: impl FnMut()) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..TRIES {
        let begun = BarePlatform.now();
        work();
        let took = BarePlatform.now() - begun;
        least = least.min(took.as_nanos() as u64);
    }
    least
}

fn main() -> u8 {
    let platform = BarePlatform;
    let clock = least(|| {
        for _ in 0..TIMES {
            black_box(platform.now());
        }
    });
    println!("look at the clock: {} ns", clock / TIMES);
    let call = least(|| {
        for _ in 0..TIMES {
            // Never open: refused without any work.
            let _ = black_box(event_channel::send(&platform, Port(0)));
        }
    });
    println!("hypercall: {} ns", call / TIMES);
    let count = NonZeroUsize::new(SIZE / PAGE_SIZE).expect("it is a megabyte");
    let (Some(from), Some(to)) = (platform.alloc_pages(count), platform.alloc_pages(count)) else {
        println!("there is no memory for twice {SIZE} bytes");
        return 1;
    };
    let copies: [(&str, Copy); 6] = [
        ("word by word", word_by_word),
        ("eight words", eight_words),
        ("SSE", sse),
        ("rep movsq", rep_movsq),
        ("rep movsb", rep_movsb),
        ("a word per page", a_word_per_page),
    ];
    for (name, copy) in copies {
        // SAFETY: both areas are that long, aligned to pages, and used here alone.
        let took = least(|| unsafe { copy(to.cast().as_ptr(), from.cast().as_ptr(), SIZE) });
        println!("1 MiB, {name}: {} us", took / 1000);
    }
    0
}
