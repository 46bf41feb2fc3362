//! Files for programs that run directly on Xen.
//!
//! The library is a stack of floors; each knows only the ones below it:
//!
//! | floor | what it does |
//! |---|---|
//! | [`ns`] | a private name space: several mounts as one tree, binds, union directories |
//! | [`std`](mod@std) | the functions, streams and paths of `std`, on the files of an app; [`prelude`] has what it uses all the time |
//! | [`fs`] | `File`, `OpenOptions`, `ReadDir` …: the names and habits of `std::fs` |
//! | [`server`] | a 9P server for any tree of files |
//! | [`p9`] | the 9P codec and the client session; knows nothing of Xen |
//! | [`transport`] | how 9P messages travel: the Xen 9pfs rings, vchans, or anything that implements [`transport::Transport`] |
//! | [`xen`] | grant table, event channels, xenstore, xenbus, console, clock, shutdown |
//! | [`hypercall`] | typed hypercalls |
//! | [`sys`] | Xen's public ABI, generated |
//!
//! # Three ways to use it
//!
//! **An image.** With the feature `rt` a program is a bare PVH or PV domain, and its `main` gets files: `xen9p::entry!(main)`.
//! The directory `template/` of the source is such a program to copy; `make run` boots it under Xen in an emulator.
//!
//! **A library in another kernel.** Without default features the crate is `no_std`, needs `alloc`, and defines neither entry,
//! allocator nor panic handler. The kernel implements [`platform::Platform`], whose page has the contract and a checklist,
//! and runs [`platform::conformance`] to see whether it keeps it. From there on it is four calls:
//!
//! ```
//! use xen9p::fs::{Fs, MountOptions};
//! use xen9p::platform::Platform;
//! use xen9p::transport::xen9pfs::{self, Config};
//! use xen9p::xen::{Xen, event::Events};
//!
//! fn mount(platform: impl Platform) -> Result<Fs, Box<dyn core::error::Error>> {
//!     let xen = Xen::new(Events::new(platform))?;
//!     let device = xen9pfs::device(&xen, Some("share"))?;
//!     let transport = xen9pfs::connect(&xen, device, &Config::for_memory(32 << 20))?;
//!     Ok(Fs::mount(transport, &MountOptions::new())?)
//! }
//!
//! fn use_it(fs: &Fs) -> xen9p::fs::Result<()> {
//!     for entry in fs.read_dir("/")? {
//!         let name = entry?.file_name_lossy().into_owned();
//!         fs.write("/last-seen.txt", name)?;
//!     }
//!     fs.rename("/last-seen.txt", "/seen.txt")
//! }
//! ```
//!
//! **A 9P client anywhere.** [`fs`] runs over whatever implements [`transport::Transport`], on a host too. Every operation is there
//! twice: blocking in [`fs::Fs`], and as futures of one session in [`fs::aio`], for any executor that polls on one thread:
//!
//! ```
//! use xen9p::fs::{Result, aio};
//! use xen9p::time::Instant;
//!
//! async fn both(fs: &aio::Fs) -> Result<Vec<u8>> {
//!     let mut all = fs.read("/a").await?;
//!     all.extend(fs.read("/b").await?);
//!     Ok(all)
//! }
//!
//! /// Between rounds of an executor: sends, takes in replies, and sleeps when there is nothing else to do.
//! fn idle(fs: &aio::Fs) {
//!     fs.session().wait(Instant::NEVER);
//! }
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `rt` | what an image needs: entry, page tables, heap, panic, console, `entry!` |
//! | `embedded-io` | the traits `Read`, `Write` and `Seek` of that crate for [`fs::File`] |
//! | `recovery` | with `rt`: `recovery=reattach`, going on after the connection to a backend is lost |
//! | `cache` | with `rt`: `cache=open`, a cache of what was asked of shares |
//! | `trace` | with `rt`: `log=p9=trace` shows each 9P message as a line, `trace=` captures them in a file |
//! | `vchan` | with `rt`: `vchan!` addresses, trees of other domains, and `export=`, trees for other domains |
//! | `argo` | `transport::argo`, 9P by Argo, for a Xen that has it; with `rt`: `argo!` addresses, and `export=` by them |
//! | `idc` | [`transport`]`::idc`: messages, transactions and remote buffers between two programs |
//! | `toolbox` | the toolbox image; of no use to others |
//!
//! None is on by default. Rust 1.95 or newer; a newer one needed is a new minor version.
//!
//! # Errors
//!
//! Files fail with [`fs::Error`], which has the Linux error number of everything ([`errno::Errno`]) and says in words what a peer did
//! wrong. Nothing that a peer sends leads to a panic, and every wait has a bound.
#![no_std]

extern crate alloc;

pub mod prelude;
pub mod std;
pub mod transport;

pub use p9_client::{fs, ns};
pub use p9_server as server;
pub use p9_tree as tree;
pub use xen_abi as sys;
pub use xen_guest::{hypercall, platform};
pub use xen9p_time as time;

/// What the records of `log::info!` and its like go through.
pub use log;

/// Linux error numbers, the common currency of all three dialects of 9P.
pub mod errno {
    pub use p9_wire::Errno;
}

/// 9P: the codec and the client session.
pub mod p9 {
    pub use p9_client::{Dialect, Error, session, trace};
    pub use p9_wire as wire;
}

/// Drivers for what every Xen domain has.
pub mod xen {
    pub use xen_guest::{
        Xen, argo, clock, console, event, grant, log, ring, shared, shutdown, store, suspend,
        xenbus,
    };
}

#[cfg(feature = "rt")]
#[path = "../boot/mod.rs"]
pub mod rt;
