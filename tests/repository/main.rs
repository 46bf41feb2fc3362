//! The repository is as it says of itself.

mod documents;
mod house;
mod rows;
