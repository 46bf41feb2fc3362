//! The engine over a file system in memory, one message at a time.

mod allocations;
mod attach;
mod classic;
mod documents;
mod files;
mod flush;
mod kinds;
mod limits;
mod names;
mod peer;
mod random;
mod stream;
mod version;

#[global_allocator]
static ALLOCATOR: xen9p_testing::count::Counting = xen9p_testing::count::Counting;
