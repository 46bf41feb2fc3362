//! Domains that serve each other, by whatever way that is: devices that applications make as files, and what they are asked that makes
//! no sense.

extern crate alloc;

mod bad_input;
mod common;
mod thermometer;
