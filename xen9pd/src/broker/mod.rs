//! The broker: it follows the devices of all domains in xenstore, and has a worker serve each.

pub mod machine;
