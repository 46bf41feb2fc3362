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
        word(kind, 0).unwrap_or("unknown message")
    }

    /// The name of the field of that number, from 0 on, in messages of a type; "data" for what is none: it is within one.
    pub fn field(kind: u8, number: u8) -> &'static str {
        word(kind, usize::from(number) + 1).unwrap_or("data")
    }

    fn word(kind: u8, number: usize) -> Option<&'static str> {
        super::super::request::words(kind)
            .or_else(|| super::super::reply::words(kind))?
            .split_ascii_whitespace()
            .nth(number)
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
            got: u32::try_from(got).unwrap_or(u32::MAX),
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
    /// The number of the next field.
    next: u8,
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
            next: 0,
            wrong: None,
        }
    }

    pub(super) fn field<'f>(&mut self, value: &impl Field<'f>) {
        value.put(&mut self.w);
        self.check();
    }

    /// Notes whether the field that was put is wrong.
    fn check(&mut self) {
        let field = self.next;
        self.next += 1;
        if self.w.take_failure() {
            self.wrong = self.wrong.or(Some(WireError::Invalid {
                kind: self.kind,
                field,
            }));
        }
    }

    /// A field that 9P2000 lacks.
    pub(super) fn extended_field<'f>(&mut self, value: &impl Field<'f>) {
        if self.w.dialect().is_extended() {
            self.field(value);
        } else {
            self.next += 1;
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
                needed: count(self.w.len()),
            });
        }
        let size = u32::try_from(self.w.len().saturating_add(payload));
        self.w.patch_size(size.map_err(|_| WireError::Invalid {
            kind: self.kind,
            field: self.next.saturating_sub(1),
        })?);
        Ok(self.w.len())
    }
}

/// A message that is read: its header, the fields from the next one on, and what has gone wrong so far.
pub(super) struct Decoder<'r, 'a> {
    r: &'r mut Reader<'a>,
    pub(super) header: Header,
    /// The number of the next field.
    next: u8,
    wrong: Option<WireError>,
}

impl<'r, 'a> Decoder<'r, 'a> {
    /// Reads the header and checks that the size is that of the reader's bytes.
    pub(super) fn new(r: &'r mut Reader<'a>) -> Result<Self, WireError> {
        let got = r.remaining();
        let header = parse_header(&r.array());
        let sound = r.take_fault().is_none();
        match usize::try_from(header.size) {
            Ok(said) if sound && said == got => Ok(Decoder {
                r,
                header,
                next: 0,
                wrong: None,
            }),
            _ => Err(WireError::Size {
                said: header.size,
                got: count(got),
            }),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.r.dialect()
    }

    /// Reads one field: a value of no meaning once something is [wrong](Self::close).
    pub(super) fn field<T: Field<'a>>(&mut self) -> T {
        let value = T::get(self.r);
        self.check();
        value
    }

    /// Notes whether the field that was read is wrong.
    fn check(&mut self) {
        let field = self.next;
        self.next += 1;
        if let Some(fault) = self.r.take_fault()
            && self.wrong.is_none()
        {
            self.wrong = Some(wrong(self.header.kind, field, fault));
        }
    }

    /// Reads a field that may be missing from the end of a message.
    pub(super) fn late_field<T: Field<'a>>(&mut self, absent: T) -> T {
        if self.r.remaining() == 0 {
            self.next += 1;
            return absent;
        }
        self.field()
    }

    /// Checks that all fields were there, and that nothing is left.
    pub(super) fn close(&self) -> Result<(), WireError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        match self.r.remaining() {
            0 => Ok(()),
            bytes => Err(WireError::Trailing {
                kind: self.header.kind,
                bytes: count(bytes),
            }),
        }
    }
}

#[cold]
fn wrong(kind: u8, field: u8, fault: Fault) -> WireError {
    match fault {
        Fault::Short => WireError::Truncated { kind, field },
        Fault::Invalid => WireError::Invalid { kind, field },
        Fault::Seam => WireError::Seam { kind, field },
    }
}

/// A number of bytes as errors have it.
pub(super) fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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

        /// The names of the message and of its fields.
        pub(super) fn words(kind: u8) -> Option<&'static str> {
            match kind {
                $($number => Some(concat!($name $($(, " ", stringify!($field))*)?)),)*
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
                let room = into.get_mut(head..needed).ok_or(WireError::Room { needed: count(needed) })?;
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
                let mut decoder = Decoder::new(&mut reader)?;
                let kind = decoder.header.kind;
                let dialect = decoder.dialect();
                let message = match kind {
                    $($number if Spoken::$spoken.in_dialect(dialect) => $enum::$variant $({
                        $($field: messages!(@get decoder $($absent)?),)*
                    })?,)*
                    _ => return Err(WireError::Kind { kind, dialect }),
                };
                decoder.close()?;
                Ok((Tag(decoder.header.tag), message))
            }
        }
    };
    (@put $encoder:ident $field:ident) => {
        $encoder.field($field)
    };
    (@put $encoder:ident $field:ident $absent:expr) => {
        $encoder.extended_field($field)
    };
    (@get $decoder:ident) => {
        $decoder.field()
    };
    (@get $decoder:ident $absent:expr) => {
        $decoder.late_field($absent)
    };
}
pub(super) use messages;
