//! The name space: trees that are mounted and bound.

mod bad_input;
mod common;
mod model;
mod rules;
mod trees;
