//! Drivers that a kernel has already, and that this crate's drivers go through then.

use alloc::vec::Vec;

use xen_abi::{DomId, Frame, GrantRef};

use crate::hypercall::XenError;
use crate::store::StoreError;

/// A kernel's own driver of the domain's grant table: it alone hands references out, to this crate as to its other
/// frontends.
///
/// # Safety
/// Pages go back to the kernel on the strength of [`end`](Self::end).
pub unsafe trait GrantDriver {
    /// Lets a domain map a frame for reading and writing.
    ///
    /// # Errors
    /// No reference is free: [`XenError::ENOSPC`].
    fn grant(&self, remote: DomId, frame: Frame) -> Result<GrantRef, XenError>;

    /// Ends a grant and takes the reference back, if the other domain does not have the frame mapped. Called again later
    /// where it has, which is `false`.
    ///
    /// # Implementation safety
    /// After `true` the other domain can't get at the frame any more by this reference.
    fn end(&self, reference: GrantRef) -> bool;
}

/// A kernel's own connection to xenstore.
pub trait StoreDriver {
    /// Makes a request of this type (`XS_*`), other than `XS_WATCH` and `XS_UNWATCH`, in a transaction (0: none), and
    /// returns the payload of its answer. Payloads are those on the wire, of at most `XENSTORE_PAYLOAD_MAX` bytes.
    ///
    /// May block, for a bounded time, and may have [`XenStore::watch_fired`](crate::store::XenStore::watch_fired) called
    /// meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Refused`] as xenstore refuses it; others when there is no answer.
    fn request(&self, kind: u32, transaction: u32, payload: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Has xenstore watch a path under a number, the token. What fires is told to
    /// [`XenStore::watch_fired`](crate::store::XenStore::watch_fired), the first time at once.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError>;

    /// Ends a watch. Does not wait.
    fn unwatch(&self, path: &str, token: u32);
}
