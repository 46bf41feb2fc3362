//! The toolbox's commands on the host, over a 9P server.

extern crate alloc;

#[path = "../../boot/start/cmdline.rs"]
#[allow(dead_code, reason = "only the splitting into commands is needed here")]
mod cmdline;
#[path = "../../toolbox/commands/mod.rs"]
mod commands;

mod desk;
mod files;
mod losses;
mod terminal;

// What the splitting into commands names.
use xen9p::ns;
