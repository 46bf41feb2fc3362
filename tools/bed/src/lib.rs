//! A real Xen with a Linux dom0 in QEMU, on any Linux machine, and guests under it.
//!
//! [`dom0::prepare`] makes an [`Image`](dom0::Image) of Xen and dom0 from Debian's packages, once. [`xen::start`] boots it and
//! gives a [`Bed`](xen::Bed), which runs shell scripts in dom0. [`Domain::create`](domain::Domain::create) has `xl` make a
//! [`Guest`](domain::Guest), whose console is a file here. The program `xen-bed` is made of these; so are the project's own
//! tests.
//!
//! Everything blocks; what may take for ever takes a time limit. Errors are a [`Fail`](host::Fail), one text for people. All
//! sizes of memory are in MiB.

pub mod accel;
pub mod cache;
pub mod cpio;
pub mod daemon;
pub mod doctor;
pub mod dom0;
pub mod domain;
pub mod elf;
pub mod host;
pub mod keyboard;
pub mod leave;
pub mod plan;
pub mod qemu;
pub mod release;
pub mod run;
pub mod scratch;
pub mod share;
pub mod shell;
pub mod tail;
pub mod xen;
