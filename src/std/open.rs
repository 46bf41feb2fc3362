//! Opening files, and making directories, as `std::fs` has it.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;

use super::files;
use super::path::Path;
use crate::ns;
use crate::tree::io::{Read, Seek, Write};
use crate::tree::{self, Result, SeekFrom};

/// An open file: a [`ns::File`], which has all its methods but those that open it.
///
/// ```
/// # use xen9p::ns::{MemTree, Namespace};
/// # thread_local!(static FILES: Namespace = Namespace::new(MemTree::new()));
/// # xen9p::std::set_files(|| FILES.try_with(Namespace::clone).ok());
/// use xen9p::std::fs::File;
/// use xen9p::std::io::{Read, Seek, SeekFrom, Write};
///
/// let mut file = File::options().read(true).write(true).create(true).open("/f")?;
/// file.write_all(b"0123456789")?;
/// file.seek(SeekFrom::Start(4))?;
/// let mut rest = String::new();
/// file.read_to_string(&mut rest)?;
/// assert_eq!(rest, "456789");
/// file.set_len(2)?;
/// assert_eq!(file.metadata()?.len(), 2);
/// // Dropping closes a file, too, but tells of no error.
/// file.close()?;
/// # Ok::<(), xen9p::std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct File {
    inner: ns::File,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of [`files`], and ENOENT, EACCES …
    pub fn open<P: AsRef<Path>>(path: P) -> Result<File> {
        File::options().read(true).open(path)
    }

    /// Opens a file for writing; makes it, or empties the one that is there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn create<P: AsRef<Path>>(path: P) -> Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file, and opens it for reading and writing.
    ///
    /// # Errors
    /// As [`open`](Self::open), and EEXIST.
    pub fn create_new<P: AsRef<Path>>(path: P) -> Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(path)
    }

    /// How to open a file, everything off.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Closes the file, waits for the server and reports what it says. The file is closed even then.
    ///
    /// # Errors
    /// What the server says.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }

    /// The file as other functions of this library take it.
    pub fn into_inner(self) -> ns::File {
        self.inner
    }
}

impl From<ns::File> for File {
    fn from(inner: ns::File) -> File {
        File { inner }
    }
}

impl Deref for File {
    type Target = ns::File;

    fn deref(&self) -> &ns::File {
        &self.inner
    }
}

macro_rules! streams {
    ($($of:ty),*) => {$(
        impl Read for $of {
            fn read(&mut self, into: &mut [u8]) -> Result<usize> {
                self.inner.read(into)
            }

            fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
                self.inner.read_exact(into)
            }

            fn read_to_end(&mut self, into: &mut Vec<u8>) -> Result<usize> {
                self.inner.read_to_end(into)
            }

            fn read_to_string(&mut self, into: &mut String) -> Result<usize> {
                self.inner.read_to_string(into)
            }
        }

        impl Write for $of {
            fn write(&mut self, from: &[u8]) -> Result<usize> {
                self.inner.write(from)
            }

            fn write_all(&mut self, from: &[u8]) -> Result<()> {
                self.inner.write_all(from)
            }

            fn flush(&mut self) -> Result<()> {
                self.inner.flush()
            }
        }

        impl Seek for $of {
            fn seek(&mut self, to: SeekFrom) -> Result<u64> {
                self.inner.seek(to)
            }
        }
    )*};
}

streams!(File, &File);

/// How to open a file. What else can be chosen is in [`tree::OpenOptions`].
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    inner: tree::OpenOptions,
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident: $ty:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self, value: $ty) -> &mut Self {
            self.inner.$name(value);
            self
        }
    )*};
}

impl OpenOptions {
    /// Everything off, new files with mode 0666 less the umask.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    choices! {
        /// For reading.
        read: bool;
        /// For writing.
        write: bool;
        /// For writing at the end.
        append: bool;
        /// Empties the file.
        truncate: bool;
        /// Makes the file if there is none.
        create: bool;
        /// Makes the file and fails if there is one.
        create_new: bool;
        /// The mode of a file that is made, less the umask.
        mode: u32;
        /// Further Linux open flags for the server.
        custom_flags: u32;
    }

    /// Opens a file like that.
    ///
    /// # Errors
    /// Those of [`files`] and of [`tree::OpenOptions::open`].
    pub fn open<P: AsRef<Path>>(&self, path: P) -> Result<File> {
        let file = files()?.open_with(path.as_ref(), &self.inner)?;
        Ok(File::from(file))
    }
}

/// How to make a directory.
#[derive(Clone, Debug)]
pub struct DirBuilder {
    recursive: bool,
    mode: u32,
}

impl Default for DirBuilder {
    fn default() -> DirBuilder {
        DirBuilder {
            recursive: false,
            mode: 0o777,
        }
    }
}

impl DirBuilder {
    /// Not recursive, with mode 0777 less the umask.
    pub fn new() -> DirBuilder {
        DirBuilder::default()
    }

    /// Whether to make what is missing on the way, and to be content with a directory that is there.
    pub fn recursive(&mut self, recursive: bool) -> &mut Self {
        self.recursive = recursive;
        self
    }

    /// The mode of the directory, less the umask. Those on the way have 0777.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Makes one.
    ///
    /// # Errors
    /// Those of [`files`], and EEXIST, EROFS …
    pub fn create<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        let (files, path) = (files()?, path.as_ref());
        if self.recursive && files.exists(path)? {
            return files.create_dir_all(path);
        }
        if self.recursive
            && let Some(parent) = path.parent()
            && parent != ""
        {
            files.create_dir_all(parent)?;
        }
        files.create_dir_with_mode(path, self.mode)
    }
}
