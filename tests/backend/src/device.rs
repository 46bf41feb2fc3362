//! /dev/xen/evtchn and /dev/xen/gntdev, as Linux's include/uapi/xen/evtchn.h and gntdev.h have them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use rustix::fs::OFlags;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use xen9p::platform::PAGE_SIZE;
use xen9p_testing::backend::MappedPage;

/// Opens a device of Xen's; reads don't block.
pub fn open(name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(format!("/dev/xen/{name}"))
}

/// An ioctl with a structure that goes in and comes back, and an answer.
struct Control<'a, T> {
    group: u8,
    number: u8,
    argument: &'a mut T,
}

// SAFETY: the opcode has the size of the argument, and the argument lives as long as the call; the answer does not point
// anywhere.
unsafe impl<T: Copy> Ioctl for Control<'_, T> {
    type Output = u32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        // These headers give no direction, but a size.
        opcode::from_components(Direction::None, self.group, self.number, size_of::<T>())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(self.argument).cast()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        Ok(answer as u32)
    }
}

/// # Safety
/// The device has an ioctl of this group and number whose argument is a `T`.
unsafe fn control<T: Copy>(
    file: &File,
    (group, number): (u8, u8),
    argument: &mut T,
) -> rustix::io::Result<u32> {
    let call = Control {
        group,
        number,
        argument,
    };
    // SAFETY: as the caller says; the kernel reads and writes the argument and nothing else.
    unsafe { rustix::ioctl::ioctl(file, call) }
}

const BIND_INTERDOMAIN: (u8, u8) = (b'E', 1);
const UNBIND: (u8, u8) = (b'E', 3);
const NOTIFY: (u8, u8) = (b'E', 4);
const MAP_GRANT_REF: (u8, u8) = (b'G', 0);
const UNMAP_GRANT_REF: (u8, u8) = (b'G', 1);

/// Event channels.
pub struct EventChannels {
    pub file: File,
    /// Ports that are bound, and whether they have fired and were not taken.
    ports: RefCell<BTreeMap<u32, bool>>,
}

impl EventChannels {
    pub fn open() -> io::Result<EventChannels> {
        Ok(EventChannels {
            file: open("evtchn")?,
            ports: RefCell::default(),
        })
    }

    /// Binds to a port of another domain's.
    pub fn bind(&self, domain: u32, port: u32) -> rustix::io::Result<u32> {
        let mut remote = [domain, port];
        // SAFETY: struct ioctl_evtchn_bind_interdomain.
        let port = unsafe { control(&self.file, BIND_INTERDOMAIN, &mut remote) }?;
        self.ports.borrow_mut().insert(port, false);
        Ok(port)
    }

    /// Tells the other end; one that is gone is told nothing.
    pub fn notify(&self, mut port: u32) {
        // SAFETY: struct ioctl_evtchn_notify.
        let _ = unsafe { control(&self.file, NOTIFY, &mut port) };
    }

    /// Closes a port.
    pub fn unbind(&self, mut port: u32) {
        // SAFETY: struct ioctl_evtchn_unbind.
        let _ = unsafe { control(&self.file, UNBIND, &mut port) };
        self.ports.borrow_mut().remove(&port);
    }

    /// Takes note of all ports that have fired.
    pub fn collect(&self) {
        let mut fired = [0; 256];
        while let Ok(count @ 4..) = (&self.file).read(&mut fired) {
            // A port that was read stays masked until it is written.
            let _ = (&self.file).write(&fired[..count]);
            let mut ports = self.ports.borrow_mut();
            for port in fired[..count].as_chunks().0 {
                // One that was closed meanwhile has no owner.
                if let Some(fired) = ports.get_mut(&u32::from_ne_bytes(*port)) {
                    *fired = true;
                }
            }
        }
    }

    /// Whether a port has fired; forgets that it did.
    pub fn take(&self, port: u32) -> bool {
        self.collect();
        let mut ports = self.ports.borrow_mut();
        ports.get_mut(&port).is_some_and(std::mem::take)
    }

    /// Whether any port has fired and was not taken.
    pub fn any(&self) -> bool {
        self.collect();
        self.ports.borrow().values().any(|&fired| fired)
    }
}

/// Pages of other domains.
#[derive(Clone)]
pub struct Grants {
    file: Rc<File>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapGrantRef {
    count: u32,
    pad: u32,
    index: u64,
    domain: u32,
    reference: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct UnmapGrantRef {
    index: u64,
    count: u32,
    pad: u32,
}

/// A page's mapping.
struct Mapping {
    file: Rc<File>,
    index: u64,
    address: NonNull<c_void>,
}

impl Grants {
    pub fn open() -> io::Result<Grants> {
        let file = Rc::new(open("gntdev")?);
        Ok(Grants { file })
    }

    /// Maps a page that a domain has granted.
    pub fn map(&self, domain: u32, reference: u32) -> rustix::io::Result<MappedPage> {
        let mut map = MapGrantRef {
            count: 1,
            pad: 0,
            index: 0,
            domain,
            reference,
        };
        // SAFETY: struct ioctl_gntdev_map_grant_ref with one reference.
        unsafe { control(&self.file, MAP_GRANT_REF, &mut map) }?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                PAGE_SIZE,
                access,
                MapFlags::SHARED,
                &self.file,
                map.index,
            )
        };
        let address = address.and_then(|at| NonNull::new(at).ok_or(rustix::io::Errno::NOMEM));
        let address = address.inspect_err(|_| forget(&self.file, map.index))?;
        let mapping = Mapping {
            file: Rc::clone(&self.file),
            index: map.index,
            address,
        };
        // SAFETY: the page is mapped, page-aligned, until the mapping is dropped.
        Ok(unsafe { MappedPage::new(address.cast(), mapping) })
    }
}

fn forget(file: &File, index: u64) {
    let mut unmap = UnmapGrantRef {
        index,
        count: 1,
        pad: 0,
    };
    // SAFETY: struct ioctl_gntdev_unmap_grant_ref.
    let _ = unsafe { control(file, UNMAP_GRANT_REF, &mut unmap) };
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, unmapped once; `MappedPage` hands out its address only as long as it lives.
        let _ = unsafe { munmap(self.address.as_ptr(), PAGE_SIZE) };
        forget(&self.file, self.index);
    }
}
