//! The small types that messages are made of.

use core::fmt;
use core::ops::Deref;

use super::buffer::{Fault, Field, Reader, Writer};
use super::flags::QidKind;

/// The most names in one Twalk and qids in one Rwalk (`MAXWELEM`).
pub const MAX_ELEMENTS: usize = 16;

/// In Tauth and Tattach, a user without a number (`NONUNAME`).
pub const NO_USER: u32 = u32::MAX;

/// Which 9P is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 9P2000.L: Linux's system calls, numeric errors, getattr and readdir.
    Linux,
    /// 9P2000.u: 9P2000 with numeric users and errors, symbolic links and devices.
    Unix,
    /// 9P2000, as in Plan 9's manual.
    Plan9,
}

impl Dialect {
    /// All dialects, the richest first.
    pub const ALL: [Dialect; 3] = [Dialect::Linux, Dialect::Unix, Dialect::Plan9];

    /// The name in Tversion and Rversion.
    pub const fn version(self) -> &'static str {
        match self {
            Dialect::Linux => "9P2000.L",
            Dialect::Unix => "9P2000.u",
            Dialect::Plan9 => "9P2000",
        }
    }

    /// The dialect with exactly this name; `None` for "unknown" and anything else.
    pub fn from_version(version: &[u8]) -> Option<Dialect> {
        Dialect::ALL
            .into_iter()
            .find(|dialect| dialect.version().as_bytes() == version)
    }

    /// Whether messages carry numeric users, as all but 9P2000 do.
    pub(super) const fn is_extended(self) -> bool {
        !matches!(self, Dialect::Plan9)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version())
    }
}

/// Pairs a reply with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

impl Tag {
    /// The tag of Tversion (`NOTAG`).
    pub const NONE: Tag = Tag(u16::MAX);
}

/// The client's number for a file on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fid(pub u32);

impl Fid {
    /// No fid (`NOFID`): in Tattach, that no authentication took place.
    pub const NONE: Fid = Fid(u32::MAX);
}

/// The server's identity of a file. Two files are the same exactly if kind and path are; servers
/// that export several file systems may nevertheless give the same path twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Qid {
    /// What it is; see [`QidKind`] for how far to trust it.
    pub kind: QidKind,
    /// Changes with the content; 0 from servers that don't keep track.
    pub version: u32,
    /// Unique among all files of the server that ever were.
    pub path: u64,
}

/// Up to [`MAX_ELEMENTS`] values in place. Dereferences to a slice.
#[derive(Clone, Copy)]
pub struct Elements<T> {
    items: [T; MAX_ELEMENTS],
    len: u8,
}

/// The names of a Twalk.
pub type Names<'a> = Elements<&'a [u8]>;

/// The qids of an Rwalk.
pub type Qids = Elements<Qid>;

impl<T: Copy + Default> Elements<T> {
    /// None yet.
    pub fn new() -> Self {
        Elements {
            items: [T::default(); MAX_ELEMENTS],
            len: 0,
        }
    }

    /// Adds one at the end; `false`, with nothing changed, when there are [`MAX_ELEMENTS`] already.
    #[must_use]
    pub fn push(&mut self, item: T) -> bool {
        match self.items.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = item;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// A copy of `items`; `None` when there are more than [`MAX_ELEMENTS`].
    pub fn from_slice(items: &[T]) -> Option<Self> {
        let mut all = Self::new();
        items.iter().all(|&item| all.push(item)).then_some(all)
    }
}

impl<T: Copy + Default> Default for Elements<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // `len` never exceeds the array's length.
        self.items.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl<T: PartialEq> PartialEq for Elements<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Elements<T> {}

impl<T: fmt::Debug> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The bulk data of a Twrite, Rread or Rreaddir, in one or two pieces; the second is empty unless
/// the message wraps around a ring.
#[derive(Clone, Copy, Default, Debug)]
pub struct Payload<'a>(pub &'a [u8], pub &'a [u8]);

impl<'a> Payload<'a> {
    /// Bytes in both pieces.
    pub const fn len(&self) -> usize {
        self.0.len() + self.1.len()
    }

    /// Copies the bytes to `into`, as far as there are bytes and room.
    pub(super) fn copy_to(&self, into: &mut [u8]) {
        for (place, byte) in into.iter_mut().zip(self.bytes()) {
            *place = byte;
        }
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + 'a {
        self.0.iter().chain(self.1).copied()
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Payload(bytes, &[])
    }
}

/// Equal when the bytes are, wherever the seam is.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.bytes().eq(other.bytes())
    }
}

impl Eq for Payload<'_> {}

impl Field<'_> for Fid {
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
    }

    fn get(r: &mut Reader<'_>) -> Self {
        Fid(Field::get(r))
    }
}

impl Field<'_> for Tag {
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
    }

    fn get(r: &mut Reader<'_>) -> Self {
        Tag(Field::get(r))
    }
}

impl Field<'_> for Qid {
    fn put(&self, w: &mut Writer<'_>) {
        self.kind.put(w);
        self.version.put(w);
        self.path.put(w);
    }

    fn get(r: &mut Reader<'_>) -> Self {
        Qid {
            kind: Field::get(r),
            version: Field::get(r),
            path: Field::get(r),
        }
    }
}

impl<'a, T: Field<'a> + Copy + Default> Field<'a> for Elements<T> {
    fn put(&self, w: &mut Writer<'_>) {
        u16::from(self.len).put(w);
        for item in self.iter() {
            item.put(w);
        }
    }

    fn get(r: &mut Reader<'a>) -> Self {
        let count: u16 = Field::get(r);
        let mut all = Self::new();
        for _ in 0..count {
            if !all.push(T::get(r)) {
                r.fail(Fault::Invalid);
                break;
            }
        }
        all
    }
}

/// On the wire only the count is a field; the bytes follow the message's fixed part.
impl<'a> Field<'a> for Payload<'a> {
    fn put(&self, w: &mut Writer<'_>) {
        match u32::try_from(self.len()) {
            Ok(count) => count.put(w),
            Err(_) => w.fail(),
        }
    }

    fn get(r: &mut Reader<'a>) -> Self {
        let count: u32 = Field::get(r);
        r.pieces(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
