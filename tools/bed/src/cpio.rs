//! Writer for the cpio format the Linux kernel unpacks at boot ("newc"; Linux Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here so that neither root nor a cpio program is needed to own files and make device nodes.

use std::io::{self, Write};

/// An archive under construction.
pub struct Archive<W> {
    out: W,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHAR_DEVICE: u32 = 0o020_000;

impl<W: Write> Archive<W> {
    /// Starts an archive on `out`.
    pub fn new(out: W) -> Self {
        Archive { out, inode: 0 }
    }

    /// Adds a directory; its parents must have been added before.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | permissions, (0, 0), data)
    }

    /// Adds a symbolic link at `path` that says `target`.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device node.
    pub fn char_device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, CHAR_DEVICE | 0o600, (major, minor), &[])
    }

    /// Writes the end mark and hands the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(data.len()).map_err(|_| io::Error::other("file too large for cpio"))?;
        let fields = [
            self.inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            size,
            0, // device the file is on: major
            0, // and minor
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, unused in this variant
        ];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(b"\0")?;
        self.pad(110 + path.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    /// Header with name, and data, each end on a multiple of four bytes.
    fn pad(&mut self, len: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..len.wrapping_neg() % 4])
    }
}
