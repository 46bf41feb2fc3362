//! Pages of other domains: `/dev/xen/gntdev`.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use rustix::fs::OFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::evtchn::EventChannel;
use super::ioctl::Control;

/// Bytes of a page.
pub const PAGE_SIZE: usize = xen_guest::platform::PAGE_SIZE;

/// struct ioctl_gntdev_map_grant_ref, with its first reference.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapGrantRef {
    count: u32,
    pad: u32,
    index: u64,
    first: GrantRef,
}

/// struct ioctl_gntdev_grant_ref.
#[repr(C)]
#[derive(Clone, Copy)]
struct GrantRef {
    domain: u32,
    reference: u32,
}

/// struct ioctl_gntdev_unmap_notify.
#[repr(C)]
#[derive(Clone, Copy)]
struct UnmapNotify {
    index: u64,
    action: u32,
    port: u32,
}

/// struct ioctl_gntdev_unmap_grant_ref.
#[repr(C)]
#[derive(Clone, Copy)]
struct UnmapGrantRef {
    index: u64,
    count: u32,
    pad: u32,
}

const MAP_GRANT_REF: Control<MapGrantRef> = Control::new(b'G', 0);
const UNMAP_GRANT_REF: Control<UnmapGrantRef> = Control::new(b'G', 1);
const SET_UNMAP_NOTIFY: Control<UnmapNotify> = Control::new(b'G', 7);

/// The request of ioctl(2) that a process makes when it drops a mapping.
pub const UNMAP_REQUEST: u32 = UNMAP_GRANT_REF.opcode();

/// UNMAP_NOTIFY_SEND_EVENT.
const SEND_EVENT: u32 = 2;

/// Pages of another domain, mapped one behind the other. Dropping it unmaps them.
#[derive(Debug)]
pub struct Mapping {
    file: File,
    /// What the device calls it.
    index: u64,
    address: NonNull<c_void>,
    pages: usize,
}

// SAFETY: the pages stay mapped at the same address for all threads, and nothing here hands out references to them.
unsafe impl Send for Mapping {}
// SAFETY: as above: through a shared reference only the address and the size are to be had.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps pages that `domain` has granted to this one, for reading and writing, in this order.
    ///
    /// # Errors
    /// There is no such grant, or it is for reading only, or not for this domain; no page is mapped then.
    pub fn new(domain: u16, references: &[u32]) -> io::Result<Mapping> {
        let file = super::open("gntdev", OFlags::empty())?;
        let grant = |&reference: &u32| [u32::from(domain), reference];
        // Four words of header, then two words per reference. In words of 64 bits, as the structure is aligned.
        let count = references.len() as u32;
        let words = [count, 0, 0, 0].into_iter();
        let words: Vec<u32> = words.chain(references.iter().flat_map(grant)).collect();
        let mut argument: Vec<u64> = words
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[low, high]| u64::from(low) | u64::from(high) << 32)
            .collect();
        if references.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = NonNull::from(&mut argument[..]).cast();
        // SAFETY: struct ioctl_gntdev_map_grant_ref with `count` references: 16 bytes and 8 for each, as `argument` has.
        unsafe { MAP_GRANT_REF.call_on(&file, at) }?;
        let index = argument[1];
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let size = references.len() * PAGE_SIZE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                size,
                access,
                MapFlags::SHARED,
                &file,
                index,
            )
        };
        // Closing the file takes back what the ioctl has prepared.
        let address = NonNull::new(address?).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping {
            file,
            index,
            address,
            pages: references.len(),
        })
    }

    /// Where the pages are.
    pub fn address(&self) -> NonNull<u8> {
        self.address.cast()
    }

    /// How many bytes they have.
    pub fn size(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// Has the kernel send an event over `channel` when the pages are unmapped, however that comes about: a frontend learns
    /// at once of a backend that died.
    ///
    /// # Errors
    /// Those of the device.
    pub fn notify_at_unmap(&self, channel: &EventChannel) -> io::Result<()> {
        let mut argument = UnmapNotify {
            index: self.index,
            action: SEND_EVENT,
            port: channel.port(),
        };
        // SAFETY: struct ioctl_gntdev_unmap_notify; with this action no byte of the mapping is written.
        unsafe { SET_UNMAP_NOTIFY.call(&self.file, &mut argument) }?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, unmapped once; users of the address hold the mapping.
        let _ = unsafe { munmap(self.address.as_ptr(), self.size()) };
        let mut argument = UnmapGrantRef {
            index: self.index,
            count: self.pages as u32,
            pad: 0,
        };
        // SAFETY: struct ioctl_gntdev_unmap_grant_ref.
        let _ = unsafe { UNMAP_GRANT_REF.call(&self.file, &mut argument) };
    }
}
