//! The toolbox's commands on the host, over a 9P server.

extern crate alloc;

#[path = "../../boot/start/cmdline.rs"]
#[allow(dead_code, reason = "only the quoting is needed here")]
mod cmdline;
#[path = "../../toolbox/commands/mod.rs"]
mod commands;

mod backends;
mod desk;
mod errors;
mod gnu;
mod hidden_links;
mod large;
mod lines;
mod serving;
mod terminal;
mod waits;
mod walks;

// What the options of the command line name.
use xen9p::{ns, transport};
use xen9p_testing::count::Counting;

// It counts for each thread, and each test has a thread of its own.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests of the commands on files, on each kind of server.
macro_rules! on {
    ($($name:ident: $backend:ident),*) => {$(
        #[path = "each"]
        #[allow(clippy::duplicate_mod, reason = "each kind of server has its own")]
        mod $name {
            type Desk = crate::desk::Desk<crate::backends::$backend>;

            mod files;
            mod groups;
            mod losses;
            mod odd;
            mod slashes;
        }
    )*};
}

on!(memory: Memory, unkind: Unkind, qemu: Qemu, qemu_small: QemuSmall, diod: Diod, xen9pd: Xen9pd);
