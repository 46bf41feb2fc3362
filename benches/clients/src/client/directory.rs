//! The system's own files: the directory itself, which no client of a server can be faster than, and the same directory over
//! Linux's 9P client, where the kernel has one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Client, Done, Failed, New};

/// A directory, and the file that is open.
pub struct Directory {
    root: PathBuf,
    file: Option<File>,
}

impl Directory {
    /// The tree below a directory.
    pub fn new(root: &Path) -> Directory {
        Directory {
            root: root.into(),
            file: None,
        }
    }

    fn file(&self) -> Done<&File> {
        let file = self.file.as_ref();
        file.ok_or_else(|| Failed::Error("no file is open".into()))
    }
}

impl Client for Directory {
    fn stat(&mut self, path: &str) -> Done<u64> {
        Ok(fs::metadata(self.root.join(path))?.len())
    }

    fn stat_held(&mut self) -> Done<u64> {
        Ok(self.file()?.metadata()?.len())
    }

    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize> {
        let content = fs::read(self.root.join(path))?;
        into[..content.len()].copy_from_slice(&content);
        Ok(content.len())
    }

    fn open(&mut self, path: &str, write: bool) -> Done<()> {
        let mut options = OpenOptions::new();
        options.read(!write).write(write);
        self.file = Some(options.open(self.root.join(path))?);
        Ok(())
    }

    fn read_next(&mut self, into: &mut [u8]) -> Done<()> {
        Ok(self.file()?.read_exact(into)?)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()> {
        Ok(self.file()?.read_exact_at(into, offset)?)
    }

    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()> {
        Ok(self.file()?.write_all_at(from, offset)?)
    }

    fn close(&mut self) -> Done<()> {
        self.file = None;
        Ok(())
    }

    fn make_and_remove(&mut self, new: &New<'_>, content: &[u8]) -> Done<()> {
        let path = self.root.join(new.path);
        fs::write(&path, content)?;
        Ok(fs::remove_file(path)?)
    }

    fn list(&mut self, directory: &str) -> Done<usize> {
        let mut count = 0;
        for entry in fs::read_dir(self.root.join(directory))? {
            count += usize::from(!entry?.file_name().is_empty());
        }
        Ok(count)
    }

    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in fs::read_dir(self.root.join(directory))? {
            bytes += entry?.metadata()?.len();
            count += 1;
        }
        Ok((count, bytes))
    }
}

/// A mount of Linux's 9P client, until this is dropped.
pub struct V9fs {
    at: PathBuf,
}

impl V9fs {
    /// Mounts the server at a socket on an empty directory, without a cache.
    ///
    /// # Errors
    /// What mount says: the kernel has no such file system, or the caller may not mount.
    pub fn mount(socket: &Path, at: PathBuf) -> io::Result<V9fs> {
        fs::create_dir_all(&at)?;
        let options = "trans=unix,version=9p2000.L,msize=1048576,cache=none,access=any";
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "9p", "-o", options])
            .arg(socket)
            .arg(&at)
            .env("LC_ALL", "C");
        let out = mount.output()?;
        match out.status.success() {
            true => Ok(V9fs { at }),
            false => {
                let text = String::from_utf8_lossy(&out.stderr);
                let first = text.lines().next().unwrap_or_default();
                // In front of it stands where.
                let reason = first.rsplit(": ").next().unwrap_or_default();
                Err(io::Error::other(reason.trim_end_matches('.').to_owned()))
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The options that it has in the end, as the kernel says them.
    ///
    /// # Errors
    /// What is mounted can't be read, or this is not among it.
    pub fn options(&self) -> io::Result<String> {
        let at = self.at.canonicalize()?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let options = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let path = words.nth(1)?.replace("\\040", " ");
            (Path::new(&path) == at).then(|| words.nth(1))?
        });
        let options = options.ok_or(io::ErrorKind::NotFound)?;
        Ok(options.to_owned())
    }
}

impl Drop for V9fs {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(&self.at).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.at.display());
        }
    }
}
