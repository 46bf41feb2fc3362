//! Xen's drivers on the simulated Xen, and the ground that they stand on.

extern crate alloc;

mod bindings;
mod command_line;
mod console;
mod event;
mod grant;
mod lend;
mod map;
mod platform_conformance;
mod shutdown;
mod start;
mod store;
mod store_lies;
mod storm;
mod suspend;
mod xenbus;

// What the kernel command line's grammar (boot/start/cmdline.rs) finds in the library.
use xen9p::{ns, transport};
