//! Frames: what two endpoints say to each other on a stream of bytes.
//!
//! A frame is 8 bytes (its whole length as a u32, its kind, a zero, and a number of a slot as a u16), fields by kind, and then
//! what has no fixed length. Numbers are little-endian.
//!
//! ```
//! use xen9p::transport::idc::frame::{Frame, frame_len, seal};
//!
//! let mut bytes = Vec::new();
//! let frame = Frame::Message { slot: 3, body: b"hello" };
//! frame.encode(&mut bytes);
//! seal(&mut bytes);
//! assert_eq!(frame_len(&bytes, 64), Ok(Some(bytes.len())));
//! assert_eq!(Frame::decode(&bytes), Ok(frame));
//! assert!(Frame::decode(&bytes[..6]).is_err());
//! ```

use alloc::vec::Vec;

use super::limits::Limits;

/// The version of this protocol.
const VERSION: u32 = 1;

/// Bytes before the fields.
pub(super) const HEADER: usize = 8;

/// Bytes of a frame but for what has no fixed length, at most.
pub(super) const MAX_HEAD: usize = HEADER + 48;

/// A registered buffer of the frame's receiver, or of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The slot.
    pub id: u16,
    /// Which use of the slot.
    pub generation: u64,
}

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Tells this endpoint from earlier ones in its place. Not 0.
    pub incarnation: u64,
    /// That of the other side, as far as known; else 0.
    pub known: u64,
    /// How often the two were connected.
    pub connects: u64,
    /// Whether buffers are granted, or go in frames.
    pub grants: bool,
    /// What the sender can hold.
    pub limits: Limits,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frame<'a> {
    /// The first frame of either side.
    Hello(Hello),
    /// The sender has done with all earlier connections, and agrees to be connected for this many times.
    Ready {
        epoch: u64,
    },
    /// The sender's endpoint is being destroyed. Answered by the same.
    Bye,
    Message {
        slot: u16,
        body: &'a [u8],
    },
    /// The message in that slot is completed.
    Taken {
        slot: u16,
    },
    Request {
        slot: u16,
        parameters: &'a [u8],
    },
    Reply {
        slot: u16,
        error: u32,
        status: &'a [u8],
    },
    /// The sender has a buffer of this length, with as many grant references as it has pages, or none.
    Register {
        name: Name,
        len: u64,
        refs: &'a [u8],
    },
    Unregister {
        name: Name,
    },
    /// The answer to that: the sender will not use its references again.
    Forgotten {
        name: Name,
    },
    /// Bytes for a buffer of the receiver's.
    Put {
        slot: u16,
        name: Name,
        offset: u64,
        data: &'a [u8],
    },
    /// Asks for bytes of a buffer of the receiver's.
    Get {
        slot: u16,
        name: Name,
        offset: u64,
        len: u32,
    },
    /// What came of a `Put` or `Get`.
    Answer {
        slot: u16,
        outcome: u32,
        data: &'a [u8],
    },
}

const HELLO: u8 = 1;
const READY: u8 = 2;
const BYE: u8 = 3;
const MESSAGE: u8 = 4;
const TAKEN: u8 = 5;
const REQUEST: u8 = 6;
const REPLY: u8 = 7;
const REGISTER: u8 = 8;
const UNREGISTER: u8 = 9;
const FORGOTTEN: u8 = 10;
const PUT: u8 = 11;
const GET: u8 = 12;
const ANSWER: u8 = 13;

/// The bytes of a frame that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or("a frame that is too short")?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.take().map(u64::from_le_bytes)
    }

    fn name(&mut self, id: u16) -> Result<Name, &'static str> {
        let generation = self.u64()?;
        Ok(Name { id, generation })
    }

    fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    fn hello(&mut self) -> Result<Hello, &'static str> {
        if self.u32()? != VERSION {
            return Err("it speaks another version");
        }
        let [incarnation, known, connects] = [self.u64()?, self.u64()?, self.u64()?];
        let grants = match self.u16()? {
            0 => false,
            1 => true,
            _ => return Err("buffers go in a way that is not known"),
        };
        let [body, chunk] = [self.u32()?, self.u32()?];
        let mut next = || self.u16();
        let [messages, transactions] = [next()?, next()?];
        let [buffers, pages, transfers] = [next()?, next()?, next()?];
        if incarnation == 0 || chunk == 0 {
            return Err("a greeting that makes no sense");
        }
        Ok(Hello {
            incarnation,
            known,
            connects,
            grants,
            limits: Limits {
                body,
                messages,
                transactions,
                buffers,
                pages,
                transfers,
                chunk,
            },
        })
    }
}

/// How long the frame is that begins with these bytes; `None` if that is not known yet.
///
/// # Errors
/// It is shorter than a header or longer than `max`.
pub fn frame_len(bytes: &[u8], max: usize) -> Result<Option<usize>, &'static str> {
    let Some(len) = bytes.first_chunk().copied().map(u32::from_le_bytes) else {
        return Ok(None);
    };
    match len as usize {
        len if len < HEADER => Err("a frame shorter than its header"),
        len if len > max => Err("a frame that is too long"),
        len => Ok(Some(len)),
    }
}

impl<'a> Frame<'a> {
    /// Reads a whole frame.
    ///
    /// # Errors
    /// Which rule is broken.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut fields = Fields(bytes);
        if fields.u32()? as usize != bytes.len() {
            return Err("a frame of another length than it says");
        }
        let [kind, zero] = fields.take()?;
        let slot = fields.u16()?;
        if zero != 0 {
            return Err("a header that makes no sense");
        }
        let frame = match kind {
            HELLO => Frame::Hello(fields.hello()?),
            READY => Frame::Ready {
                epoch: fields.u64()?,
            },
            BYE => Frame::Bye,
            MESSAGE => Frame::Message {
                slot,
                body: fields.rest(),
            },
            TAKEN => Frame::Taken { slot },
            REQUEST => Frame::Request {
                slot,
                parameters: fields.rest(),
            },
            REPLY => Frame::Reply {
                slot,
                error: fields.u32()?,
                status: fields.rest(),
            },
            REGISTER => Frame::Register {
                name: fields.name(slot)?,
                len: fields.u64()?,
                refs: fields.rest(),
            },
            UNREGISTER => Frame::Unregister {
                name: fields.name(slot)?,
            },
            FORGOTTEN => Frame::Forgotten {
                name: fields.name(slot)?,
            },
            PUT => {
                let id = fields.u16()?;
                Frame::Put {
                    slot,
                    name: fields.name(id)?,
                    offset: fields.u64()?,
                    data: fields.rest(),
                }
            }
            GET => {
                let id = fields.u16()?;
                Frame::Get {
                    slot,
                    name: fields.name(id)?,
                    offset: fields.u64()?,
                    len: fields.u32()?,
                }
            }
            ANSWER => Frame::Answer {
                slot,
                outcome: fields.u32()?,
                data: fields.rest(),
            },
            _ => return Err("a frame of a kind that is not known"),
        };
        match fields.0 {
            [] => Ok(frame),
            _ => Err("a frame that is too long for its kind"),
        }
    }

    fn kind_and_slot(&self) -> (u8, u16) {
        match *self {
            Frame::Hello(_) => (HELLO, 0),
            Frame::Ready { .. } => (READY, 0),
            Frame::Bye => (BYE, 0),
            Frame::Message { slot, .. } => (MESSAGE, slot),
            Frame::Taken { slot } => (TAKEN, slot),
            Frame::Request { slot, .. } => (REQUEST, slot),
            Frame::Reply { slot, .. } => (REPLY, slot),
            Frame::Register { name, .. } => (REGISTER, name.id),
            Frame::Unregister { name } => (UNREGISTER, name.id),
            Frame::Forgotten { name } => (FORGOTTEN, name.id),
            Frame::Put { slot, .. } => (PUT, slot),
            Frame::Get { slot, .. } => (GET, slot),
            Frame::Answer { slot, .. } => (ANSWER, slot),
        }
    }

    /// Writes the frame in the place of what is in `out`. More may be put behind it before it is [sealed](seal).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, slot) = self.kind_and_slot();
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[kind, 0]);
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        put(&slot.to_le_bytes());
        match *self {
            Frame::Hello(hello) => {
                put(&VERSION.to_le_bytes());
                let Hello { limits, .. } = hello;
                for number in [hello.incarnation, hello.known, hello.connects] {
                    put(&number.to_le_bytes());
                }
                put(&u16::from(hello.grants).to_le_bytes());
                for number in [limits.body, limits.chunk] {
                    put(&number.to_le_bytes());
                }
                let counts = [
                    limits.messages,
                    limits.transactions,
                    limits.buffers,
                    limits.pages,
                    limits.transfers,
                ];
                for number in counts {
                    put(&number.to_le_bytes());
                }
            }
            Frame::Ready { epoch } => put(&epoch.to_le_bytes()),
            Frame::Bye | Frame::Taken { .. } => {}
            Frame::Message { body, .. } => put(body),
            Frame::Request { parameters, .. } => put(parameters),
            Frame::Reply { error, status, .. } => {
                put(&error.to_le_bytes());
                put(status);
            }
            Frame::Register { name, len, refs } => {
                put(&name.generation.to_le_bytes());
                put(&len.to_le_bytes());
                put(refs);
            }
            Frame::Unregister { name } | Frame::Forgotten { name } => {
                put(&name.generation.to_le_bytes());
            }
            Frame::Put {
                name, offset, data, ..
            } => {
                put(&name.id.to_le_bytes());
                put(&name.generation.to_le_bytes());
                put(&offset.to_le_bytes());
                put(data);
            }
            Frame::Get {
                name, offset, len, ..
            } => {
                put(&name.id.to_le_bytes());
                put(&name.generation.to_le_bytes());
                put(&offset.to_le_bytes());
                put(&len.to_le_bytes());
            }
            Frame::Answer { outcome, data, .. } => {
                put(&outcome.to_le_bytes());
                put(data);
            }
        }
    }
}

/// Writes the length of the frame that is in `out`.
pub fn seal(out: &mut [u8]) {
    let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
    if let Some(start) = out.first_chunk_mut() {
        *start = len.to_le_bytes();
    }
}
