//! Typed hypercalls.

/// An error number that Xen returned (positive: 1 is EPERM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XenError(pub u16);
