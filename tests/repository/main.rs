//! The repository is as it says of itself.

mod documents;
mod examples;
mod house;
mod rows;
mod settings;
