//! What the fuzz targets do: plain functions that panic when a contract is broken, whatever their
//! input.
//!
//! A nightly compiler and cargo-fuzz look for such input, starting from what is known:
//! `cargo +nightly fuzz run codec fuzz/corpus/codec fuzz/seeds/codec`. `cargo test` of the library
//! goes through `seeds/` on stable; an input that once broke something belongs there.

pub mod argo;
pub mod backend;
pub mod backend_ring;
pub mod codec;
pub mod directory;
#[cfg(feature = "idc")]
pub mod idc;
pub mod input;
pub mod ring;
pub mod server;
pub mod session;
pub mod store;
pub mod vchan;
pub mod xenbus;

/// Does something with any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its directory in `seeds/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("argo", argo::run),
    ("backend", backend::run),
    ("backend_ring", backend_ring::run),
    ("codec", codec::run),
    ("directory", directory::run),
    #[cfg(feature = "idc")]
    ("idc", idc::run),
    ("ring", ring::run),
    ("server", server::run),
    ("session", session::run),
    ("store", store::run),
    ("vchan", vchan::run),
    ("xenbus", xenbus::run),
];
