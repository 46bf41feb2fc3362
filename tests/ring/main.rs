//! The 9pfs transport on the simulated Xen: rings, devices, and backends that are lost or hostile.

extern crate alloc;

mod connect;
mod files;
mod hostile;
mod life;
mod load;
mod loss;
mod losses;
mod schedule;
mod silence;
mod small;
mod state;
mod threads;
