//! The devices of Xen that Linux has in dom0 (and in a driver domain): xenstore, grants, event channels.
