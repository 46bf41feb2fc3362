//! The engine over a file system in memory, one message at a time.

mod attach;
mod classic;
mod files;
mod flush;
mod limits;
mod names;
mod peer;
mod random;
mod stream;
mod version;
