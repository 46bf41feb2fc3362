//! Numbers in a file that several processes have mapped.

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// How many numbers there are.
pub const COUNT: usize = SIZE / 8;

/// Bytes of the file.
pub const SIZE: usize = 4096;

/// A file of [`COUNT`] numbers, which are 0 in a new one.
#[derive(Debug)]
pub struct Words {
    at: NonNull<AtomicU64>,
    file: File,
}

// SAFETY: the file stays mapped, and is accessed atomically.
unsafe impl Send for Words {}
// SAFETY: likewise.
unsafe impl Sync for Words {}

impl Words {
    /// Maps a file, and makes it as long as it has to be.
    ///
    /// # Errors
    /// Those of ftruncate(2) and mmap(2).
    pub fn map(file: File) -> io::Result<Words> {
        file.set_len(SIZE as u64)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let at = unsafe { mmap(ptr::null_mut(), SIZE, access, MapFlags::SHARED, &file, 0) };
        let at = NonNull::new(at?).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Words {
            at: at.cast(),
            file,
        })
    }

    /// A number, of the first [`COUNT`]; counting goes on from 0 again behind those.
    pub fn get(&self, index: usize) -> &AtomicU64 {
        // SAFETY: within the mapping, which is there as long as this is, and which all of this machine accesses atomically or by
        // system calls.
        unsafe { self.at.add(index % COUNT).as_ref() }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, unmapped once; references to the numbers do not outlive `self`.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), SIZE) };
    }
}
