//! A connection that is lost and found again: what goes on, what ends, and what is never done twice.

mod endurance;
mod files;
#[path = "../fs_common/mod.rs"]
mod fs_common;
mod noticed;
mod requests;
mod search;
mod site;
