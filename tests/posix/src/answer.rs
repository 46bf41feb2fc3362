//! The answers to the kernel's requests.

use std::time::Duration;

use fuser::*;
use xen9p::fs::{Error, StatFs};

use crate::tree::Handle;

/// How long the kernel may keep what it was told. Nothing of a file: every look at it is a question to
/// the server. A directory it may keep, as no other user changes it; without that, the kernel asks for
/// each name of a path of 4,095 bytes again, from the root, in every call that takes the path.
fn kept_for(attributes: &FileAttr) -> Duration {
    match attributes.kind {
        FileType::Directory => Duration::from_secs(1),
        _ => Duration::ZERO,
    }
}

/// A place for the answer to a request.
pub trait Answer: Send + 'static {
    type Value;

    fn value(self, value: Self::Value);
    fn refuse(self, error: Errno);
}

macro_rules! answers {
    ($($reply:ty, $value:ty: |$to:ident, $it:ident| $give:expr;)*) => {$(
        impl Answer for $reply {
            type Value = $value;

            fn value(self, $it: $value) {
                let $to = self;
                $give
            }

            fn refuse(self, error: Errno) {
                self.error(error);
            }
        }
    )*};
}

answers! {
    ReplyEmpty, (): |to, _it| to.ok();
    ReplyEntry, FileAttr: |to, it| to.entry(&kept_for(&it), &it, Generation(0));
    ReplyAttr, FileAttr: |to, it| to.attr(&kept_for(&it), &it);
    ReplyData, Vec<u8>: |to, it| to.data(&it);
    ReplyWrite, u32: |to, it| to.written(it);
    ReplyOpen, (Handle, FopenFlags): |to, it| to.opened(FileHandle(it.0), it.1);
    ReplyCreate, (FileAttr, Handle, FopenFlags):
        |to, it| to.created(&kept_for(&it.0), &it.0, Generation(0), FileHandle(it.1), it.2);
    ReplyStatfs, StatFs: |to, it| to.statfs(
        it.blocks, it.blocks_free, it.blocks_available, it.files, it.files_free,
        it.block_size, it.name_max, it.block_size,
    );
}

/// An attribute's value, or its size, as the kernel asked.
pub struct Xattr(ReplyXattr, u32);

impl Xattr {
    /// What the kernel has room for; 0: it asks for the size.
    pub fn new(reply: ReplyXattr, room: u32) -> Self {
        Xattr(reply, room)
    }
}

impl Answer for Xattr {
    type Value = Vec<u8>;

    fn value(self, value: Vec<u8>) {
        match self.1 {
            0 => self.0.size(value.len() as u32),
            room if value.len() > room as usize => self.0.error(Errno::ERANGE),
            _ => self.0.data(&value),
        }
    }

    fn refuse(self, error: Errno) {
        self.0.error(error);
    }
}

/// The kernel's number for an error. Any that is not the server's plain refusal is worth a line:
/// no test should bring the connection or the protocol into trouble.
pub fn number(error: Error) -> Errno {
    if !matches!(
        error,
        Error::Errno(_) | Error::Unsupported { .. } | Error::NameTooLong
    ) {
        eprintln!("posix: the client says: {error}");
    }
    Errno::from_i32(error.errno().number().into())
}
