//! Ways to end in a report: what the exception handlers have to catch.

use core::arch::asm;
use core::hint::black_box;

use xen9p::rt;

use crate::say;

/// A byte among the data of the image.
static mut CODE_IN_DATA: u8 = 1;

/// Ends in the way that `word` names; a word that names none is ignored.
pub fn end(word: &str) {
    match word {
        "panic" => panic!("as asked"),
        // SAFETY: not safe: that is the test. The page is unmapped, so nothing is read.
        "fault" => unsafe {
            black_box((black_box(16) as *const u64).read_volatile());
        },
        // SAFETY: as above; the page is read-only, so nothing is written.
        "write-code" => unsafe {
            let code = end as fn(&str) as *mut u64;
            black_box(code).write_volatile(0);
        },
        // SAFETY: as above; no code runs in a page of data, so nothing is run.
        "run-data" => unsafe {
            const RETURN: u8 = 0xc3;
            let data = black_box(&raw mut CODE_IN_DATA);
            data.write_volatile(RETURN);
            let call: extern "C" fn() = core::mem::transmute(data);
            call();
        },
        "stack" => say!("{}", deeper(0)),
        // SAFETY: the instruction changes nothing, it raises an exception that ends the domain.
        "ud" => unsafe { asm!("ud2") },
        _ => return,
    }
    say!(
        "FAILED {word}: it went by unnoticed in {:?} mode",
        rt::mode()
    );
    rt::exit(1);
}

/// Uses up the stack, 256 bytes at a time.
fn deeper(depth: usize) -> usize {
    let here = black_box([depth; 32]);
    if depth == usize::MAX {
        return here[0];
    }
    deeper(depth + 1) + black_box(here)[depth % 32]
}
