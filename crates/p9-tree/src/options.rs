//! How to open a file.

use p9_wire::{Errno, OpenFlags, Qid, QidKind};

use crate::{Error, Result};

/// Where files can be opened by a path: a mount, a name space. Calls of it block.
pub trait OpenPath {
    /// An open file.
    type File;

    /// Opens the file at `path` as the options say.
    ///
    /// # Errors
    /// Those of `open_with` of the type.
    fn open_path(&self, path: &[u8], options: &OpenOptions) -> Result<Self::File>;
}

/// How to open a file: the options and the meaning of `std::fs::OpenOptions`.
///
/// ```
/// # use xen9p::fs::{Fs, OpenOptions, Result};
/// # fn demo(fs: &Fs) -> Result<()> {
/// let log = OpenOptions::new().append(true).create(true).open(fs, "/var/log")?;
/// log.write_all(b"started\n")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    directory: bool,
    write_behind: usize,
    mode: u32,
    custom_flags: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Everything off, new files with mode 0666 less the mount's umask.
    pub const fn new() -> Self {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            directory: false,
            write_behind: 0,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// For reading.
    pub const fn read(&mut self, on: bool) -> &mut Self {
        self.read = on;
        self
    }

    /// For writing.
    pub const fn write(&mut self, on: bool) -> &mut Self {
        self.write = on;
        self
    }

    /// For writing at the end, wherever the end is when the server writes.
    pub const fn append(&mut self, on: bool) -> &mut Self {
        self.append = on;
        self
    }

    /// Empties the file; needs [`write`](Self::write).
    pub const fn truncate(&mut self, on: bool) -> &mut Self {
        self.truncate = on;
        self
    }

    /// Makes the file if there is none; needs [`write`](Self::write) or [`append`](Self::append).
    pub const fn create(&mut self, on: bool) -> &mut Self {
        self.create = on;
        self
    }

    /// Makes the file and fails with EEXIST if the name is taken, even by a dangling link.
    /// [`create`](Self::create) and [`truncate`](Self::truncate) are then ignored.
    pub const fn create_new(&mut self, on: bool) -> &mut Self {
        self.create_new = on;
        self
    }

    /// Fails with ENOTDIR on anything but a directory.
    pub const fn directory(&mut self, on: bool) -> &mut Self {
        self.directory = on;
        self
    }

    /// How many bytes `File::write` may keep for the server to get later; less than 2 for none. Small
    /// writes, each where the one before ended, are put together to large requests that no call waits
    /// for.
    ///
    /// * What else is done with the file waits for those bytes first, and so finds them written.
    ///   By another way (a second handle, a path, another client) they may be missed.
    /// * An error is told by a later `write`, by `flush`,
    ///   `sync_all`, `sync_data` or `close`, whichever
    ///   is first; until then every other use of the file fails with it. Of what was written since the
    ///   last of these that went well, any part may be missing then.
    /// * `close` the file, or flush it: dropping it loses what is not sent yet, and
    ///   errors; the log is warned of both.
    ///
    /// Without effect on a file that is opened to [`append`](Self::append), whose writes have to keep
    /// their order, or with O_SYNC, O_DSYNC or O_DIRECT, which ask for the contrary.
    pub const fn write_behind(&mut self, bytes: usize) -> &mut Self {
        self.write_behind = bytes;
        self
    }

    /// The bytes to be written behind, when all is considered.
    pub fn write_behind_limit(&self) -> usize {
        let at_once = OpenFlags::SYNC | OpenFlags::DATA_SYNC | OpenFlags::DIRECT;
        let flags = OpenFlags::from_bits_retain(self.custom_flags);
        if self.append || !self.write || flags.intersects(at_once) {
            return 0;
        }
        self.write_behind
    }

    /// The mode of a file that is made, less the mount's umask.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Further Linux open flags (asm-generic numbers) for the server: O_SYNC, O_DIRECT, O_NOATIME …
    /// Access mode, O_CREAT, O_EXCL, O_TRUNC and O_APPEND are ignored here. Only 9P2000.L can
    /// carry them.
    pub const fn custom_flags(&mut self, flags: u32) -> &mut Self {
        self.custom_flags = flags;
        self
    }

    /// Whether to read the file.
    pub const fn is_read(&self) -> bool {
        self.read
    }

    /// Whether to write to the file, at its end or anywhere.
    pub const fn is_write(&self) -> bool {
        self.write || self.append
    }

    /// Whether all that is written goes to the end.
    pub const fn is_append(&self) -> bool {
        self.append
    }

    /// Whether to empty a file that exists.
    pub const fn is_truncate(&self) -> bool {
        self.truncate && !self.create_new
    }

    /// Whether to make a file that does not exist.
    pub const fn is_create(&self) -> bool {
        self.create || self.create_new
    }

    /// Whether a file that is there is an error.
    pub const fn is_create_new(&self) -> bool {
        self.create_new
    }

    /// Whether anything but a directory is an error.
    pub const fn is_directory(&self) -> bool {
        self.directory
    }

    /// The mode of a file that is made, before any umask.
    pub const fn new_mode(&self) -> u32 {
        self.mode
    }

    /// The further Linux open flags; those that decide about access come from the other options alone.
    pub fn further_flags(&self) -> OpenFlags {
        let ours = OpenFlags::WRITE_ONLY
            | OpenFlags::READ_WRITE
            | OpenFlags::CREATE
            | OpenFlags::EXCLUSIVE
            | OpenFlags::TRUNCATE
            | OpenFlags::APPEND;
        OpenFlags::from_bits_retain(self.custom_flags) - ours
    }

    /// Linux's open flags for a file that is there, without [`OpenFlags::TRUNCATE`].
    pub fn open_flags(&self) -> OpenFlags {
        let mut flags = self.further_flags();
        match (self.read, self.is_write()) {
            (true, true) => flags |= OpenFlags::READ_WRITE,
            (false, true) => flags |= OpenFlags::WRITE_ONLY,
            (_, false) => {}
        }
        flags.set(OpenFlags::APPEND, self.append);
        flags.set(OpenFlags::DIRECTORY, self.directory);
        flags
    }

    /// Opens `path` on the mount or in the name space `fs`. Same as its `open_with`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options that contradict each other (those that `std` refuses); else those of
    /// `fs`.
    pub fn open<F: OpenPath>(&self, fs: &F, path: impl AsRef<[u8]>) -> Result<F::File> {
        fs.open_path(path.as_ref(), self)
    }

    /// Whether the file, which this qid is of, is what the options are for. Not every server checks that: QEMU opens
    /// directories for writing.
    ///
    /// # Errors
    /// EISDIR for writing to a directory, ENOTDIR for anything else where a directory is asked for.
    pub fn check_kind(&self, qid: Qid) -> Result<()> {
        let is_dir = qid.kind.contains(QidKind::DIR);
        if is_dir && (self.write || self.append) {
            return Err(Errno::EISDIR.into());
        }
        if self.directory && !is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(())
    }

    /// Whether the options go together: the checks that `std` makes on Unix.
    ///
    /// # Errors
    /// [`Error::InvalidInput`].
    pub fn check(&self) -> Result<()> {
        if !(self.read || self.write || self.append) {
            return Err(Error::InvalidInput(
                &"a file has to be opened for reading, writing or appending",
            ));
        }
        let makes = self.truncate || self.create || self.create_new;
        if makes && !(self.write || self.append) {
            return Err(Error::InvalidInput(
                &"creating or truncating needs write or append access",
            ));
        }
        if self.truncate && self.append && !self.create_new {
            return Err(Error::InvalidInput(&"truncate and append contradict"));
        }
        if self.directory && makes {
            return Err(Error::InvalidInput(
                &"a directory is not made by opening it; see create_dir",
            ));
        }
        Ok(())
    }
}
