//! Files, with the names and habits of `std::fs`.
//!
//! [`Fs`] is a mounted tree, [`File`] an open file; their methods block. [`aio`] has the same
//! operations as `async` functions for any executor; both are thin faces of one engine, the
//! [session](crate::session), and can be used side by side.
//!
//! # What servers do differently, and what is done about it
//! | what | whose | here |
//! |---|---|---|
//! | ".." leads out of the exported tree | diod 1.0.24, `p9` 0.3.2 | "." and ".." are resolved in the client and never sent |
//! | a name is cut at a NUL | QEMU | such names are refused |
//! | a walk that ends half way leaves its fid behind | diod | the fid is clunked whatever the server says |
//! | 17 names in a walk end the connection | diod | at most 16 |
//! | creating gives an existing file a new mode and owner | QEMU | files are made with EXCL, and opened if they exist |
//! | a directory can be opened for writing | QEMU | refused by its qid |
//! | a mode without a file type is stored like that | QEMU, mapped security models | the type is sent along |
//! | types are missing in listings | QEMU, mapped security models | asked for when needed |
//! | an entry that does not fit looks like the end | all | listings are asked for with room for any name |
//! | a short read is not the end of file | diod, `p9`, synthetic files | only an empty one is |
//! | no Tunlinkat, no Trenameat | diod 1.0.24 | Tremove and Trename in their place |
//! | Tremove ends the fid even if it fails | all | never used on a root |
//! | every lock is granted | QEMU, `p9` | can't be told from here: see [`File::try_lock`] |
//! | an answer of no bytes to "wstat nothing" | QEMU in 9P2000.u | no fsync in that dialect |
//! | death by Tstat of the root | xen-9pfsd | in 9P2000.u the attributes of the root are made up |
//! | four fids at most beside the root | xen-9pfsd | in 9P2000.u, fids given up are clunked before new ones are made |
//! | directory data in a layout of its own | xen-9pfsd | recognised |
//! | no Tremove, and the fid survives it | xen-9pfsd | opened to be removed on close; the fid is clunked |
//! | no Tflush | xen-9pfsd | the reply is waited for in the background |
//! | append is refused | xen-9pfsd, 9P2000 | written at the size the file has; others may come in between |
//! | Twstat wants the file's own qid | `ninep` | sent in 9P2000 |
#![forbid(unsafe_code)]

pub mod aio;
mod blocking;
mod options;

pub use blocking::{DirEntry, File, FileLock, Fs, ReadDir, WithMetadata};
pub use options::MountOptions;
pub use p9_tree::{
    FileTimes, FileType, LockRange, Metadata, OpenOptions, OpenPath, Permissions, Probe, Result,
    SeekFrom, StatFs, SystemTime,
};

pub use crate::Error;
pub use crate::session::Span;
