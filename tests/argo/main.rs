//! Argo on the simulated Xen: both ends ours, a Xen that has no Argo or refuses it, rings that are full, and peers that lie,
//! go or die.

mod common;
mod files;
mod lies;
mod life;
mod support;
