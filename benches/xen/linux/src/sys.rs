//! Linux's system calls that `std` does not have, and the few of Xen's that dom0 needs.

use std::ffi::{CString, OsStr, c_char, c_int, c_long, c_ulong, c_void};
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn reboot(how: c_int) -> c_int;
    fn sync();
    fn syscall(number: c_long, ...) -> c_long;
    fn inotify_init1(flags: c_int) -> c_int;
    fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn mlock(address: *const c_void, length: usize) -> c_int;
}

fn checked(result: impl Into<i64>) -> Result<i64> {
    match result.into() {
        -1 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}

fn text(text: impl AsRef<OsStr>) -> Result<CString> {
    Ok(CString::new(text.as_ref().as_bytes())?)
}

/// mount(2)
pub fn mount_at(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    let (source, target, kind, options) =
        (text(source)?, text(target)?, text(kind)?, text(options)?);
    // SAFETY: four strings that end with NUL and live until the call is over.
    let result = unsafe {
        mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    checked(result).map(drop)
}

/// umount(2)
pub fn unmount(target: &str) -> Result<()> {
    let target = text(target)?;
    // SAFETY: a string that ends with NUL.
    checked(unsafe { umount2(target.as_ptr(), 0) }).map(drop)
}

/// Loads a kernel module.
pub fn load_module(file: &File) -> Result<()> {
    const FINIT_MODULE: c_long = 313;
    // SAFETY: finit_module takes a file, a string that ends with NUL, and flags.
    checked(unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), c"".as_ptr(), 0) }).map(drop)
}

/// Ends the machine.
pub fn power_off() -> ! {
    const POWER_OFF: c_int = 0x4321_fedc;
    loop {
        // SAFETY: takes no pointer; nothing of this program is needed any more.
        unsafe {
            sync();
            reboot(POWER_OFF);
        }
        std::thread::yield_now();
    }
}

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: i16,
    revents: i16,
}

/// Tells of files made in directories.
pub struct Watch {
    file: File,
    /// What inotify calls the directories, in the order they were added.
    known: Vec<i32>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Result<Watch> {
        // SAFETY: takes no pointer.
        let fd = checked(unsafe { inotify_init1(0) })? as RawFd;
        // SAFETY: a descriptor that was just made and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Watch {
            file: fd.into(),
            known: Vec::new(),
        })
    }

    /// Watches this directory as well.
    pub fn add(&mut self, directory: &Path) -> Result<()> {
        const CREATED: u32 = 0x100;
        let path = text(directory)?;
        // SAFETY: a string that ends with NUL.
        let number = unsafe { inotify_add_watch(self.file.as_raw_fd(), path.as_ptr(), CREATED) };
        self.known.push(checked(number)? as i32);
        Ok(())
    }

    /// Waits for files to be made, so many milliseconds at most. Says in which directory, from 0, and the names.
    pub fn next(&mut self, timeout: i32) -> Result<Vec<(usize, String)>> {
        const READABLE: i16 = 1;
        /// Bytes of struct inotify_event in front of the name.
        const HEAD: usize = 16;
        let mut fd = PollFd {
            fd: self.file.as_raw_fd(),
            events: READABLE,
            revents: 0,
        };
        // SAFETY: one structure, which lives until the call is over.
        if checked(unsafe { poll(&mut fd, 1, timeout) })? == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = [0; 16 << 10];
        let count = self.file.read(&mut buffer)?;
        let mut rest = &buffer[..count];
        let mut made = Vec::new();
        while let Some(head) = rest.first_chunk::<HEAD>() {
            let number = |at: usize| {
                i32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
            };
            let (watch, length) = (number(0), number(12) as usize);
            let name = &rest[HEAD..HEAD + length];
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            if let Some(index) = self.known.iter().position(|&known| known == watch) {
                made.push((index, String::from_utf8_lossy(name).into_owned()));
            }
            rest = &rest[HEAD + length..];
        }
        Ok(made)
    }
}

/// A page that Xen may write to, which stays where it is.
#[repr(align(4096))]
struct Page([u64; 512]);

/// Xen's operations on domains (public/domctl.h), in the version of Xen 4.17.
pub struct Domctl {
    file: File,
    page: Box<Page>,
}

/// What Xen knows of a domain.
pub struct Info {
    /// Processor time, in nanoseconds.
    pub cpu_time: u64,
    /// Memory, in pages.
    pub pages: u64,
    /// Whether it has shut down or is being destroyed.
    pub over: bool,
}

impl Domctl {
    /// Gets at Xen, as root of dom0.
    pub fn open() -> Result<Domctl> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open("/dev/xen/privcmd")?;
        let page = Box::new(Page([0; 512]));
        let address: *const Page = &raw const *page;
        // SAFETY: a page of ours.
        checked(unsafe { mlock(address.cast(), size_of::<Page>()) })?;
        Ok(Domctl { file, page })
    }

    /// Lets a domain run.
    pub fn unpause(&mut self, domain: u16) -> Result<()> {
        const UNPAUSE: u64 = 4;
        self.call(UNPAUSE, domain)
    }

    /// Asks what is known of a domain.
    pub fn info(&mut self, domain: u16) -> Result<Info> {
        const GET_INFO: u64 = 5;
        self.call(GET_INFO, domain)?;
        // struct xen_domctl_getdomaininfo starts behind 16 bytes of header.
        let flags = self.page.0[2] >> 32;
        Ok(Info {
            cpu_time: self.page.0[9],
            pages: self.page.0[3],
            over: flags & 0b101 != 0,
        })
    }

    fn call(&mut self, command: u64, domain: u16) -> Result<()> {
        const DOMCTL: u64 = 36;
        const VERSION: u64 = 0x15;
        /// _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))
        const HYPERCALL: c_ulong = 48 << 16 | (b'P' as c_ulong) << 8;
        self.page.0.fill(0);
        self.page.0[0] = VERSION << 32 | command;
        self.page.0[1] = u64::from(domain);
        let address: *mut Page = &raw mut *self.page;
        // struct privcmd_hypercall: the number and five arguments.
        let mut arguments: [u64; 6] = [DOMCTL, address as u64, 0, 0, 0, 0];
        // SAFETY: Xen reads and writes one struct xen_domctl, which is smaller than the page; the page is locked in
        // memory and lent for the call.
        checked(unsafe { ioctl(self.file.as_raw_fd(), HYPERCALL, arguments.as_mut_ptr()) })?;
        // What Xen wrote, it wrote behind the compiler's back.
        std::hint::black_box(ptr::from_mut(&mut *self.page));
        Ok(())
    }
}
