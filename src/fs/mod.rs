//! Files, with the names and habits of `std::fs`.
#![forbid(unsafe_code)]
