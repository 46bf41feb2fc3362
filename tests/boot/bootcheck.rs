//! bootcheck
#![no_std]
#![no_main]

use xen9p::platform::Platform;
use xen9p::rt;

xen9p::bare_entry!(main);

fn main() -> u8 {
    rt::emergency_print(format_args!(
        "hello {:?} {:?} {:?} {:?} {}\n",
        rt::mode(),
        rt::memory_info(),
        rt::started_at(),
        rt::BarePlatform.now(),
        str::from_utf8(rt::command_line()).unwrap()
    ));
    0
}
