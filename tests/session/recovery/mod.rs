//! A connection that is lost and found again: what goes on, what ends, and what is never done twice.

mod endurance;
mod files;
mod noticed;
mod requests;
mod search;
