//! The Xen 9pfs frontend: interface pages, data rings, and the xenbus handshake.

pub mod ring;
mod shared;
