//! What a backend program needs of the machine it runs on.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use xen9p::hypercall::DomId;
use xen9p::platform::PAGE_SIZE;

use crate::fake::{FakeDomain, grants};

/// A page of the frontend's, mapped for reading and writing until this is dropped.
pub struct MappedPage {
    address: NonNull<u8>,
    _owner: Box<dyn Any>,
}

impl MappedPage {
    /// # Safety
    /// A page-aligned page lies at `address` for as long as `owner` lives.
    pub unsafe fn new(address: NonNull<u8>, owner: impl Any) -> MappedPage {
        MappedPage {
            address,
            _owner: Box::new(owner),
        }
    }

    /// The first byte of the page. Another domain may write to it at any time.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.address
    }

    /// Reads a word.
    pub fn load(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < PAGE_SIZE);
        // SAFETY: an aligned word of a page that is mapped for as long as `self` lives, by the contract of `new`.
        let word = unsafe { AtomicU32::from_ptr(self.address.add(offset).cast().as_ptr()) };
        word.load(Ordering::SeqCst)
    }
}

/// The doors through which a backend program reaches Xen and xenstore: those of a simulated domain ([`FakeDomain`]),
/// or the devices of a Linux dom0.
pub trait Machine {
    /// The value of a node.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// Writes a node.
    fn write(&self, path: &str, value: &[u8]);
    /// Removes a node and all below, if it is there.
    fn rm(&self, path: &str);
    /// Makes a node, which has to be there, this domain's own and readable for `guest`.
    fn share(&self, path: &str, guest: DomId);
    /// A number that is another one when the nodes of the device may have changed since.
    fn store_generation(&self) -> u64;
    /// Maps a page that `guest` has granted.
    fn map(&self, guest: DomId, reference: u32) -> Option<MappedPage>;
    /// Binds to a port of `guest`'s; the new port's number.
    fn bind(&self, guest: DomId, port: u32) -> Option<u32>;
    /// Tells the other end of a port.
    fn send(&self, port: u32);
    /// Whether a port has fired; forgets that it did.
    fn take_pending(&self, port: u32) -> bool;
    /// Closes a port.
    fn close(&self, port: u32);
}

impl Machine for FakeDomain {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        FakeDomain::read(self, path)
    }

    fn write(&self, path: &str, value: &[u8]) {
        FakeDomain::write(self, path, value);
    }

    fn rm(&self, path: &str) {
        FakeDomain::rm(self, path);
    }

    fn share(&self, path: &str, guest: DomId) {
        self.set_permissions(path, &grants(self.id(), guest));
    }

    fn store_generation(&self) -> u64 {
        FakeDomain::store_generation(self)
    }

    fn map(&self, guest: DomId, reference: u32) -> Option<MappedPage> {
        let grant = self.map_grant(guest, reference, true).ok()?;
        // SAFETY: the page stays mapped as long as the grant is held.
        Some(unsafe { MappedPage::new(grant.as_ptr(), grant) })
    }

    fn bind(&self, guest: DomId, port: u32) -> Option<u32> {
        self.bind_interdomain(guest, port).ok()
    }

    fn send(&self, port: u32) {
        FakeDomain::send(self, port);
    }

    fn take_pending(&self, port: u32) -> bool {
        FakeDomain::take_pending(self, port)
    }

    fn close(&self, port: u32) {
        FakeDomain::close(self, port);
    }
}
