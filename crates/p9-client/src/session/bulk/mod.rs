//! Data in bulk: large transfers, and bytes written behind.

mod transfer;
mod write_behind;

pub(super) use transfer::answer_written;
pub(crate) use write_behind::WriteBehindQueue;
