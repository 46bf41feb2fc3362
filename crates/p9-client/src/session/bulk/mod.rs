//! Data in bulk: large transfers, bytes read ahead, and bytes written behind.

mod read_ahead;
mod transfer;
mod write_behind;

pub(crate) use read_ahead::ReadAheadQueue;
pub(super) use transfer::answer_written;
pub(crate) use write_behind::WriteBehindQueue;
