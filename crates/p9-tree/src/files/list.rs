//! The operations on files and trees of files: what each does, once for both faces.
//!
//! A line of a list says the name of a method, its arguments, its result, and the private function of the
//! [asynchronous](super::aio) types that does the work. What makes methods of a list is in `faces.rs`.

/// Those of a tree.
macro_rules! fs_operations {
    ($face:ident) => {
        $face! {
            /// Opens a file for reading.
            ///
            /// # Errors
            /// As [`open_with`](Self::open_with).
            fn open(path: impl AsRef<[u8]>) -> File<N::File>
                = open_path(path.as_ref(), OpenOptions::new().read(true));

            /// Opens a file for writing; makes it, or empties the one that is there.
            ///
            /// # Errors
            /// As [`open_with`](Self::open_with).
            fn create(path: impl AsRef<[u8]>) -> File<N::File>
                = open_path(path.as_ref(), OpenOptions::new().write(true).create(true).truncate(true));

            /// Opens a file as `options` say. A directory can be opened for reading, for [`File::metadata`] and
            /// [`File::sync_all`].
            ///
            /// # Errors
            /// EISDIR for a directory opened for writing; EROFS where nothing can be made; see also [`OpenOptions::open`].
            fn open_with(path: impl AsRef<[u8]>, options: &OpenOptions) -> File<N::File>
                = open_path(path.as_ref(), options);

            /// The whole content of a file.
            ///
            /// # Errors
            /// EISDIR for a directory.
            fn read(path: impl AsRef<[u8]>) -> Vec<u8> = read_whole(path.as_ref());

            /// The whole content of a text file.
            ///
            /// # Errors
            /// [`Error::NotUtf8`](crate::Error::NotUtf8).
            fn read_to_string(path: impl AsRef<[u8]>) -> String = read_text(path.as_ref());

            /// Makes or replaces a file with this content, and closes it: an error that is found only then is reported.
            ///
            /// # Errors
            /// As [`create`](Self::create).
            fn write(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> ()
                = write_whole(path.as_ref(), content.as_ref());

            /// Attributes of what the path leads to.
            ///
            /// # Errors
            /// ENOENT.
            fn metadata(path: impl AsRef<[u8]>) -> Metadata = stat(path.as_ref(), true);

            /// Attributes of what the path names; of a symbolic link its own.
            ///
            /// # Errors
            /// ENOENT.
            fn symlink_metadata(path: impl AsRef<[u8]>) -> Metadata = stat(path.as_ref(), false);

            /// Whether the path leads to something. Errors other than "no such file" are errors.
            ///
            /// # Errors
            /// ENOTDIR, among others.
            fn exists(path: impl AsRef<[u8]>) -> bool = is_there(path.as_ref());

            /// The entries of a directory, without "." and "..", in the tree's order, fetched as the iteration goes on.
            ///
            /// # Errors
            /// ENOTDIR.
            fn read_dir(path: impl AsRef<[u8]>) -> ReadDir<N> = list(path.as_ref());

            /// Makes an empty directory, mode 0777 less the umask.
            ///
            /// # Errors
            /// EEXIST, EROFS.
            fn create_dir(path: impl AsRef<[u8]>) -> () = make_dir(path.as_ref(), 0o777);

            /// The same with another mode, less the umask.
            ///
            /// # Errors
            /// EEXIST, EROFS.
            fn create_dir_with_mode(path: impl AsRef<[u8]>, mode: u32) -> () = make_dir(path.as_ref(), mode);

            /// Makes a directory and those above it that are missing. One that is there is no error.
            ///
            /// # Errors
            /// As [`create_dir`](Self::create_dir); EEXIST or ENOTDIR when something else is there.
            fn create_dir_all(path: impl AsRef<[u8]>) -> () = make_dirs(path.as_ref());

            /// Removes a file, or a symbolic link itself.
            ///
            /// # Errors
            /// EISDIR.
            fn remove_file(path: impl AsRef<[u8]>) -> () = unlink(path.as_ref());

            /// Removes an empty directory.
            ///
            /// # Errors
            /// ENOTEMPTY, ENOTDIR, EBUSY for a root.
            fn remove_dir(path: impl AsRef<[u8]>) -> () = unlink_dir(path.as_ref());

            /// Removes a directory and all that is in it. Symbolic links are removed, not followed; the last one of the path
            /// neither: that is ENOTDIR.
            ///
            /// # Errors
            /// EBUSY for a root.
            fn remove_dir_all(path: impl AsRef<[u8]>) -> () = remove_tree(path.as_ref());

            /// Renames, replacing a file (or an empty directory by a directory) of the new name. A symbolic link at the end of
            /// either path is not followed.
            ///
            /// # Errors
            /// EXDEV where the dialect cannot move between directories, and between trees.
            fn rename(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> () = move_name(from.as_ref(), to.as_ref());

            /// Gives a file another name. A symbolic link at the end of `original` is not followed.
            ///
            /// # Errors
            /// EEXIST; EXDEV between trees.
            fn hard_link(original: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> ()
                = add_name(original.as_ref(), link.as_ref());

            /// Makes a symbolic link that says `target`, which is taken as it is.
            ///
            /// # Errors
            /// EEXIST, EROFS.
            fn symlink(target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> ()
                = make_link(target.as_ref(), link.as_ref());

            /// What a symbolic link says.
            ///
            /// # Errors
            /// EINVAL for what is no symbolic link.
            fn read_link(path: impl AsRef<[u8]>) -> Vec<u8> = link_target(path.as_ref());

            /// The path from the root, with a leading `/` and without links, "." and "..".
            ///
            /// # Errors
            /// ENOENT.
            fn canonicalize(path: impl AsRef<[u8]>) -> Vec<u8> = real_path(path.as_ref());

            /// Makes a device (`mode` S_IFCHR or S_IFBLK with `major` and `minor`), a named pipe or a socket name.
            ///
            /// # Errors
            /// EEXIST, EROFS, EPERM.
            fn mknod(path: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> ()
                = make_node(path.as_ref(), mode, major, minor);

            /// Changes the permission bits.
            ///
            /// # Errors
            /// What the tree says.
            fn set_permissions(path: impl AsRef<[u8]>, permissions: Permissions) -> ()
                = change(path.as_ref(), true, mode_of(permissions, None));

            /// Changes access and modification time.
            ///
            /// # Errors
            /// What the tree says.
            fn set_times(path: impl AsRef<[u8]>, times: FileTimes) -> ()
                = change(path.as_ref(), true, times.to_setattr());

            /// As [`set_times`](Self::set_times), but of a symbolic link itself.
            ///
            /// # Errors
            /// What the tree says.
            fn set_times_nofollow(path: impl AsRef<[u8]>, times: FileTimes) -> ()
                = change(path.as_ref(), false, times.to_setattr());

            /// Changes owner and group; `None` leaves one as it is.
            ///
            /// # Errors
            /// What the tree says.
            fn chown(path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> ()
                = change(path.as_ref(), true, owner_of(uid, gid));

            /// As [`chown`](Self::chown), but of a symbolic link itself.
            ///
            /// # Errors
            /// What the tree says.
            fn lchown(path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> ()
                = change(path.as_ref(), false, owner_of(uid, gid));

            /// Cuts or extends (with zeros) a file to `size` bytes.
            ///
            /// # Errors
            /// EISDIR.
            fn truncate(path: impl AsRef<[u8]>, size: u64) -> () = resize(path.as_ref(), size);

            /// How full the file system is that the path lies on.
            ///
            /// # Errors
            /// EOPNOTSUPP where that is not known.
            fn statfs(path: impl AsRef<[u8]>) -> StatFs = stat_system(path.as_ref());

            /// The value of an extended attribute.
            ///
            /// # Errors
            /// ENODATA when there is none of this name; EOPNOTSUPP from trees that have none at all.
            fn xattr(path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Vec<u8>
                = get_xattr(path.as_ref(), name.as_ref());

            /// The names of all extended attributes.
            ///
            /// # Errors
            /// EOPNOTSUPP from trees that have none at all.
            fn list_xattrs(path: impl AsRef<[u8]>) -> Vec<Vec<u8>> = xattr_names(path.as_ref());

            /// Sets an extended attribute, new or not; 64 KiB at most.
            ///
            /// # Errors
            /// EOPNOTSUPP from trees that have none at all.
            fn set_xattr(path: impl AsRef<[u8]>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> ()
                = put_xattr(path.as_ref(), name.as_ref(), value.as_ref());

            /// Removes an extended attribute.
            ///
            /// # Errors
            /// ENODATA when there is none of this name.
            fn remove_xattr(path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> ()
                = drop_xattr(path.as_ref(), name.as_ref());
        }
    };
}

/// Those of an open file.
macro_rules! file_operations {
    ($face:ident) => {
        $face! {
            /// Reads at the position and moves it. Returns how many bytes; 0 means end of file (or an empty buffer). Fewer
            /// than asked for does not mean that the end is near.
            ///
            /// # Errors
            /// EBADF for a file that is not open for reading, EISDIR.
            fn read(into: &mut [u8]) -> usize = take(into);

            /// Fills the buffer from the position on.
            ///
            /// # Errors
            /// [`Error::UnexpectedEof`](crate::Error::UnexpectedEof) when the file ends before; the position has then moved
            /// over what was read.
            fn read_exact(into: &mut [u8]) -> () = take_all(into);

            /// Reads from the position to the end of the file and appends it to `into`; returns how many bytes that were. On
            /// an error what was read before it has been appended.
            ///
            /// # Errors
            /// As [`read`](Self::read).
            fn read_to_end(into: &mut Vec<u8>) -> usize = take_rest(into);

            /// As [`read_to_end`](Self::read_to_end), for text.
            ///
            /// # Errors
            /// [`Error::NotUtf8`](crate::Error::NotUtf8); `into` is then unchanged.
            fn read_to_string(into: &mut String) -> usize = take_text(into);

            /// Writes at the position and moves it. Returns how many bytes were taken, which may be fewer; 0 only for an
            /// empty buffer.
            ///
            /// # Errors
            /// EBADF for a file that is not open for writing.
            fn write(from: &[u8]) -> usize = give(from);

            /// Writes all bytes at the position. After an error the position tells how many were taken.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            fn write_all(from: &[u8]) -> () = give_all(from);

            /// Reads at `offset`, whatever the position; else as [`read`](Self::read).
            ///
            /// # Errors
            /// As [`read`](Self::read).
            fn read_at(into: &mut [u8], offset: u64) -> usize = take_at(into, offset);

            /// Reads at `offset`, `len` bytes at most, without a buffer: shows them to `see` where they have arrived, in
            /// order, one [`Span`] for each request of as many as are in flight at once. For programs that look at each byte
            /// once, as a checksum does: that saves copying them. Returns how many there were: 0 at the end of the file.
            ///
            /// # Errors
            /// As [`read`](Self::read).
            ///
            /// # Panics
            /// If `see` uses this mount.
            ///
            /// ```
            /// use xen9p::fs::{File, Result};
            ///
            /// /// Counts the lines of a file.
            /// fn lines(file: &File) -> Result<usize> {
            ///     let (mut lines, mut offset) = (0, 0);
            ///     loop {
            ///         let count = file.read_lent_at(offset, 1 << 20, |span| {
            ///             span.for_each_piece::<1024>(|piece| {
            ///                 lines += piece.iter().filter(|&&byte| byte == b'\n').count();
            ///             });
            ///         })?;
            ///         if count == 0 {
            ///             return Ok(lines);
            ///         }
            ///         offset += count as u64;
            ///     }
            /// }
            /// ```
            fn read_lent_at(offset: u64, len: usize, see: impl FnMut(&mut Span<'_>)) -> usize
                = show_at(offset, len, see);

            /// Fills the buffer from `offset` on.
            ///
            /// # Errors
            /// [`Error::UnexpectedEof`](crate::Error::UnexpectedEof).
            fn read_exact_at(into: &mut [u8], offset: u64) -> () = take_all_at(into, offset);

            /// Writes at `offset`, whatever the position; else as [`write`](Self::write). A file opened to append is written
            /// at its end all the same.
            ///
            /// To a server a large write travels as several requests at once. If one of them fails (ENOSPC, say) the number
            /// that is returned counts the bytes before it; those that came after it may be on the server all the same,
            /// behind a hole, and make the file longer than that number says. Write in pieces of the msize or less where
            /// that matters, or cut the file with [`set_len`](Self::set_len) after such an error.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            fn write_at(from: &[u8], offset: u64) -> usize = give_at(from, offset);

            /// Writes all bytes at `offset`.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            fn write_all_at(from: &[u8], offset: u64) -> () = give_all_at(from, offset);

            /// Moves the position and returns the new one. Beyond the end is legal. Asks the tree only for
            /// [`SeekFrom::End`].
            ///
            /// # Errors
            /// [`Error::InvalidInput`](crate::Error::InvalidInput) for a position before the beginning.
            fn seek(to: SeekFrom) -> u64 = move_to(to);

            /// Moves the position to the beginning.
            ///
            /// # Errors
            /// None in practice.
            fn rewind() -> () = move_back();

            /// The position. Asks the tree only after a write to a file opened to append.
            ///
            /// # Errors
            /// What the tree says.
            fn stream_position() -> u64 = position();

            /// Attributes of the file.
            ///
            /// # Errors
            /// What the tree says.
            fn metadata() -> Metadata = stat();

            /// Cuts or extends (with zeros) the file to `size` bytes. The position stays.
            ///
            /// # Errors
            /// [`Error::InvalidInput`](crate::Error::InvalidInput) for a file that is not open for writing.
            fn set_len(size: u64) -> () = change(size_of(size));

            /// Changes the permission bits.
            ///
            /// # Errors
            /// What the tree says.
            fn set_permissions(permissions: Permissions) -> () = change(mode_of(permissions, None));

            /// Changes access and modification time.
            ///
            /// # Errors
            /// What the tree says.
            fn set_times(times: FileTimes) -> () = change(times.to_setattr());

            /// Returns when the server has all that was [written behind](crate::OpenOptions::write_behind); at once if the
            /// file was not opened for that.
            ///
            /// # Errors
            /// Those of these writes.
            fn flush() -> () = settle();

            /// Returns when content and attributes are on stable storage.
            ///
            /// # Errors
            /// [`Error::Unsupported`](crate::Error::Unsupported) in 9P2000.u: QEMU never answers its way of asking.
            fn sync_all() -> () = sync(false);

            /// Returns when the content is on stable storage.
            ///
            /// # Errors
            /// As [`sync_all`](Self::sync_all).
            fn sync_data() -> () = sync(true);
        }
    };
}

/// Those of an entry of a directory.
macro_rules! dir_entry_operations {
    ($face:ident) => {
        $face! {
            /// What the entry is, symbolic links not followed. Asks the tree only when it left that out of the listing.
            ///
            /// # Errors
            /// What the tree says.
            fn file_type() -> FileType = type_of();

            /// Attributes of the entry, symbolic links not followed; of a mount point, those of what is mounted there.
            ///
            /// # Errors
            /// What the tree says.
            fn metadata() -> Metadata = stat();
        }
    };
}

/// What an entry of a directory is known to be without asking.
macro_rules! dir_entry_facts {
    ($self:ident, $entry:expr) => {
        /// The bare name, as bytes.
        pub fn file_name(&$self) -> &[u8] {
            &$entry.name
        }

        /// The bare name as text; what is not UTF-8 is replaced by U+FFFD.
        pub fn file_name_lossy(&$self) -> Cow<'_, str> {
            String::from_utf8_lossy(&$entry.name)
        }

        /// The directory's path as it was given to [`Fs::read_dir`], and the name.
        pub fn path(&$self) -> Vec<u8> {
            let mut path = $entry.dir.to_vec();
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(&$entry.name);
            path
        }

        /// The same as text, for people; what is not UTF-8 is replaced by U+FFFD.
        pub fn path_lossy(&$self) -> String {
            let path = String::from_utf8($self.path());
            path.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }

        /// What the listing said that the entry is; `None` when it did not.
        pub fn known_type(&$self) -> Option<FileType> {
            $entry.kind
        }

        /// Whether the entry may be a symbolic link to what the listing said that it is: some servers follow links, and do
        /// not tell. A walk through a tree must not enter such a directory.
        pub fn may_be_link(&$self) -> bool {
            $entry.may_be_link
        }

        /// The number that identifies the file in its tree, as the listing says.
        pub fn ino(&$self) -> u64 {
            $entry.ino
        }

        /// Where this entry ends, for [`ReadDir::seek`]: the tree's own number, without meaning for the program.
        pub fn cookie(&$self) -> u64 {
            $entry.cookie
        }
    };
}
