//! Vchans on the simulated Xen: both ends ours, and either end against a model of libxenvchan with its faults; peers that
//! lie, go or die; and every order of the steps of both sides.

mod circles;
mod common;
mod files;
mod interop;
mod libxenvchan;
mod lies;
mod life;
mod schedule;
mod ways;
