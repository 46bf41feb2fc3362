//! What a static library for a kernel has to define.

use alloc::string::ToString;
use core::panic::PanicInfo;

use crate::platform::callback;
use crate::reserve::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // The message is formatted without memory when it is a plain one, as that of a failed allocation.
    match info.message().as_str() {
        Some(text) => callback!(panic, (), text.as_ptr().cast(), text.len()),
        None => {
            let text = info.to_string();
            callback!(panic, (), text.as_ptr().cast(), text.len());
        }
    }
    loop {
        core::hint::spin_loop();
    }
}

/// The prebuilt alloc crate mentions it; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
