//! What requests and replies have in common: the header, the type numbers, and the table language
//! in which both are written down.

use super::buffer::{Fault, Field, Reader, Writer};
use super::error::WireError;
use super::types::{Dialect, Tag};

/// The first seven bytes of every 9P message, read once into private memory and checked:
/// as a transport hands it out, 7 ≤ `size` ≤ the agreed msize, and all `size` bytes have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the whole message in bytes, these seven included.
    pub size: u32,
    /// Message type, not interpreted.
    pub kind: u8,
    /// The tag, not interpreted.
    pub tag: u16,
}

/// Bytes of size, type and tag at the front of every message.
pub const HEADER_LEN: usize = 7;

/// Bytes of an Rread or Rreaddir in front of the data.
pub const READ_HEADER_LEN: usize = 11;

/// Bytes of a Twrite in front of the data.
pub const WRITE_HEADER_LEN: usize = 23;

/// What to keep free of msize in every read and write (`IOHDRSZ`). More than either header: some
/// servers count no more than msize − 24 as legal, and one of them dies of it.
pub const IO_HEADER_LEN: u32 = 24;

/// Message types, and their names for people.
pub mod kind {
    pub use super::super::reply::kind::*;
    pub use super::super::request::kind::*;

    /// The name of a message type, such as "Tversion"; "unknown message" for a number that is none.
    pub fn name(kind: u8) -> &'static str {
        super::super::request::name(kind)
            .or_else(|| super::super::reply::name(kind))
            .unwrap_or("unknown message")
    }
}

/// Size, type and tag of the message that starts with these bytes; nothing is checked.
pub fn parse_header(bytes: &[u8; HEADER_LEN]) -> Header {
    let [s0, s1, s2, s3, kind, t0, t1] = *bytes;
    Header {
        size: u32::from_le_bytes([s0, s1, s2, s3]),
        kind,
        tag: u16::from_le_bytes([t0, t1]),
    }
}

/// How many bytes of data follow these first bytes of an Rread or Rreaddir, so that they can be
/// copied straight to where they are wanted.
///
/// # Errors
/// [`WireError::Size`] when the message's size isn't exactly that of header and data. The type is
/// not looked at.
pub fn payload_len(bytes: &[u8; READ_HEADER_LEN]) -> Result<u32, WireError> {
    let [s0, s1, s2, s3, _, _, _, c0, c1, c2, c3] = *bytes;
    let said = u32::from_le_bytes([s0, s1, s2, s3]);
    let count = u32::from_le_bytes([c0, c1, c2, c3]);
    let got = u64::from(count) + READ_HEADER_LEN as u64;
    if u64::from(said) != got {
        return Err(WireError::Size {
            said,
            got: usize::try_from(got).unwrap_or(usize::MAX),
        });
    }
    Ok(count)
}

/// Which dialects have a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Everywhere,
    /// 9P2000 and 9P2000.u.
    Classic,
    /// 9P2000.L.
    Linux,
}

impl Spoken {
    pub(super) fn in_dialect(self, dialect: Dialect) -> bool {
        match self {
            Spoken::Everywhere => true,
            Spoken::Classic => dialect != Dialect::Linux,
            Spoken::Linux => dialect == Dialect::Linux,
        }
    }
}

/// A message in the making: its type and what has gone wrong so far.
pub(super) struct Encoder<'a> {
    w: Writer<'a>,
    kind: u8,
    wrong: Option<WireError>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(kind: u8, tag: Tag, dialect: Dialect, into: &'a mut [u8]) -> Self {
        let mut w = Writer::new(into, dialect);
        0u32.put(&mut w);
        kind.put(&mut w);
        tag.put(&mut w);
        Encoder {
            w,
            kind,
            wrong: None,
        }
    }

    pub(super) fn field<'f>(&mut self, field: &'static str, value: &impl Field<'f>) {
        value.put(&mut self.w);
        if self.w.take_failure() {
            self.wrong = self.wrong.or(Some(WireError::Invalid {
                kind: self.kind,
                field,
            }));
        }
    }

    /// A field that 9P2000 lacks.
    pub(super) fn extended_field<'f>(&mut self, field: &'static str, value: &impl Field<'f>) {
        if self.w.dialect().is_extended() {
            self.field(field, value);
        }
    }

    /// Fills in the size, counting `payload` more bytes than were encoded; returns the length of
    /// what was encoded.
    pub(super) fn finish(mut self, payload: usize) -> Result<usize, WireError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if !self.w.fits() {
            return Err(WireError::Room {
                needed: self.w.len(),
            });
        }
        let size = u32::try_from(self.w.len().saturating_add(payload));
        self.w.patch_size(size.map_err(|_| WireError::Invalid {
            kind: self.kind,
            field: "data",
        })?);
        Ok(self.w.len())
    }
}

/// Reads the header and checks that the size is that of the reader's bytes.
pub(super) fn open(r: &mut Reader<'_>) -> Result<Header, WireError> {
    let got = r.remaining();
    let size = |said| WireError::Size { said, got };
    let header = parse_header(&r.array().map_err(|_| size(0))?);
    match usize::try_from(header.size) {
        Ok(said) if said == got => Ok(header),
        _ => Err(size(header.size)),
    }
}

/// Reads one field of a message.
pub(super) fn field<'a, T: Field<'a>>(
    r: &mut Reader<'a>,
    kind: u8,
    field: &'static str,
) -> Result<T, WireError> {
    T::get(r).map_err(|fault| match fault {
        Fault::Short => WireError::Truncated { kind, field },
        Fault::Invalid => WireError::Invalid { kind, field },
        Fault::Seam => WireError::Seam { kind, field },
    })
}

/// Reads a field that may be missing from the end of a message.
pub(super) fn late_field<'a, T: Field<'a>>(
    r: &mut Reader<'a>,
    kind: u8,
    name: &'static str,
    absent: T,
) -> Result<T, WireError> {
    if r.remaining() == 0 {
        return Ok(absent);
    }
    field(r, kind, name)
}

/// Checks that nothing is left.
pub(super) fn close(r: &Reader<'_>, kind: u8) -> Result<(), WireError> {
    match r.remaining() {
        0 => Ok(()),
        bytes => Err(WireError::Trailing { kind, bytes }),
    }
}

/// Declares the enum of all requests or of all replies from a table of its messages: variant, type
/// number with its constant and name, dialects, and fields in wire order. `= value` behind a field: it is not sent
/// in 9P2000, and `value` is assumed when a message ends before it.
macro_rules! messages {
    (
        $(#[$meta:meta])*
        pub enum $enum:ident<$lt:lifetime> {
            $(
                $(#[$vmeta:meta])*
                $variant:ident = $constant:ident($number:literal, $name:literal) in $spoken:ident
                $({ $($(#[$fmeta:meta])* $field:ident: $t:ty $(= $absent:expr)?,)* })?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        // Lists of 16 names stand in place because nothing here allocates.
        #[allow(clippy::large_enum_variant)]
        pub enum $enum<$lt> {
            $($(#[$vmeta])* $variant $({ $($(#[$fmeta])* $field: $t,)* })?,)*
        }

        /// The type numbers.
        pub mod kind {
            $(
                #[doc = concat!("Type of ", $name, ".")]
                pub const $constant: u8 = $number;
            )*
        }

        /// The message's name for people.
        pub(super) fn name(kind: u8) -> Option<&'static str> {
            match kind {
                $($number => Some($name),)*
                _ => None,
            }
        }

        impl<$lt> $enum<$lt> {
            /// The message type.
            pub const fn kind(&self) -> u8 {
                match self {
                    $($enum::$variant { .. } => $number,)*
                }
            }

            /// Whether the dialect has this message.
            pub fn is_in(&self, dialect: Dialect) -> bool {
                match self {
                    $($enum::$variant { .. } => Spoken::$spoken.in_dialect(dialect),)*
                }
            }

            /// Encodes the message without its bulk data into `into` and returns the length of what
            /// was encoded. The size field counts [`payload`](Self::payload), which has to follow.
            ///
            /// # Errors
            /// [`WireError::Kind`] when the dialect lacks the message, [`WireError::Invalid`] when a
            /// string is longer than 65535 bytes, [`WireError::Room`] when `into` is too small.
            pub fn encode_head(
                &self,
                tag: Tag,
                dialect: Dialect,
                into: &mut [u8],
            ) -> Result<usize, WireError> {
                let kind = self.kind();
                if !self.is_in(dialect) {
                    return Err(WireError::Kind { kind, dialect });
                }
                let mut encoder = Encoder::new(kind, tag, dialect, into);
                match self {
                    $($enum::$variant $({ $($field,)* })? => {
                        $($(messages!(@put encoder $field $($absent)?);)*)?
                    })*
                }
                encoder.finish(self.payload().len())
            }

            /// Encodes the whole message into `into` and returns its length.
            ///
            /// # Errors
            /// As [`encode_head`](Self::encode_head).
            pub fn encode(
                &self,
                tag: Tag,
                dialect: Dialect,
                into: &mut [u8],
            ) -> Result<usize, WireError> {
                let head = self.encode_head(tag, dialect, into)?;
                let Payload(first, second) = self.payload();
                let needed = head + first.len() + second.len();
                let room = into.get_mut(head..needed).ok_or(WireError::Room { needed })?;
                let (front, back) = room.split_at_mut(first.len());
                front.copy_from_slice(first);
                back.copy_from_slice(second);
                Ok(needed)
            }

            /// Decodes the message that `reader` holds.
            ///
            /// # Errors
            /// Whatever is wrong with it; [`WireError::Kind`] when it is not of this sort, or not in
            /// this dialect.
            pub fn decode(mut reader: Reader<$lt>) -> Result<(Tag, Self), WireError> {
                let r = &mut reader;
                let header = open(r)?;
                let kind = header.kind;
                let dialect = r.dialect();
                let message = match kind {
                    $($number if Spoken::$spoken.in_dialect(dialect) => $enum::$variant $({
                        $($field: messages!(@get r kind $field $($absent)?),)*
                    })?,)*
                    _ => return Err(WireError::Kind { kind, dialect }),
                };
                close(r, kind)?;
                Ok((Tag(header.tag), message))
            }
        }
    };
    (@put $encoder:ident $field:ident) => {
        $encoder.field(stringify!($field), $field)
    };
    (@put $encoder:ident $field:ident $absent:expr) => {
        $encoder.extended_field(stringify!($field), $field)
    };
    (@get $r:ident $kind:ident $field:ident) => {
        field($r, $kind, stringify!($field))?
    };
    (@get $r:ident $kind:ident $field:ident $absent:expr) => {
        late_field($r, $kind, stringify!($field), $absent)?
    };
}
pub(super) use messages;
