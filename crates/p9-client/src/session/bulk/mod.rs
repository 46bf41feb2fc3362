//! Data in bulk: large transfers, bytes written behind, and replies read where they are.

mod borrowed;
mod transfer;
mod write_behind;

pub(super) use borrowed::Bytes;
pub use borrowed::Span;
pub(super) use transfer::answer_written;
pub(crate) use write_behind::WriteBehindQueue;
