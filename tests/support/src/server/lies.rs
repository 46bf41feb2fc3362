//! What a hostile or broken server of 9P2000.L may do to a client, to be told to
//! [`Control::tamper`](super::lanes::Control::tamper).

use xen9p::p9::wire::*;

/// One way to break the protocol. Replies that it can't be done to stay honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The tag belongs to no request.
    UnknownTag,
    /// The reply comes twice.
    Duplicate,
    /// The reply is to another kind of request.
    WrongType,
    /// The message type is none at all.
    NoType,
    /// The size says that the message is shorter than a header.
    TinySize,
    /// The size says that the message is larger than anything agreed.
    HugeSize,
    /// The last byte of the body is missing.
    CutShort,
    /// There is a byte after the body.
    TooLong,
    /// Rread, Rreaddir: more bytes than were asked for. Rwrite: more than were sent.
    MoreThanAsked,
    /// Rread, Rreaddir: the count says more than the message holds.
    CountBeyondMessage,
    /// Rwalk: a qid for a name that wasn't asked for.
    MoreQidsThanNames,
    /// Rwalk: as many qids as the count can say.
    ManyQids,
    /// Rreaddir: the last entry is not all there.
    SplitEntry,
    /// Rreaddir: a name's length goes beyond the data.
    NameBeyondData,
    /// Rreaddir: names that no directory can have: "", "a/b", "a\0b".
    ImpossibleNames,
    /// Rreaddir: there is always one entry more.
    EndlessDirectory,
    /// Rreaddir: the cookie leads back to where it came from.
    CircularDirectory,
    /// Instead of a reply, an error whose number is 0.
    ErrorZero,
    /// Instead of a reply, an error whose number is none.
    ErrorBeyondRange,
    /// After Rflush, a reply to the request that was flushed.
    ReplyAfterFlush,
    /// Rversion: a larger msize than was offered.
    MsizeGrows,
    /// Rversion: no msize.
    MsizeZero,
    /// Rversion: a dialect that wasn't asked for.
    OtherDialect,
    /// Nothing comes back.
    Silence,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 24] = [
        Lie::UnknownTag,
        Lie::Duplicate,
        Lie::WrongType,
        Lie::NoType,
        Lie::TinySize,
        Lie::HugeSize,
        Lie::CutShort,
        Lie::TooLong,
        Lie::MoreThanAsked,
        Lie::CountBeyondMessage,
        Lie::MoreQidsThanNames,
        Lie::ManyQids,
        Lie::SplitEntry,
        Lie::NameBeyondData,
        Lie::ImpossibleNames,
        Lie::EndlessDirectory,
        Lie::CircularDirectory,
        Lie::ErrorZero,
        Lie::ErrorBeyondRange,
        Lie::ReplyAfterFlush,
        Lie::MsizeGrows,
        Lie::MsizeZero,
        Lie::OtherDialect,
        Lie::Silence,
    ];

    /// What is sent instead of the honest `reply`.
    pub fn tell(self, request: &[u8], reply: Vec<u8>) -> Vec<Vec<u8>> {
        self.instead(request, &reply).unwrap_or_else(|| vec![reply])
    }

    fn instead(self, request: &[u8], honest: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (tag, asked) = Request::decode(Reader::new(request, Dialect::Linux)).ok()?;
        let (_, answer) = Reply::decode(Reader::new(honest, Dialect::Linux)).ok()?;
        let mut bytes = honest.to_vec();
        let one = |reply: Reply<'_>| Some(vec![encode(tag, &reply)]);
        match (self, asked, answer) {
            (Lie::UnknownTag, ..) => bytes[5..7].copy_from_slice(&(tag.0 ^ 0x4000).to_le_bytes()),
            (Lie::Duplicate, ..) => return Some(vec![bytes.clone(), bytes]),
            (Lie::WrongType, _, Reply::Clunk) => return one(Reply::Remove),
            (Lie::WrongType, ..) => return one(Reply::Clunk),
            (Lie::NoType, ..) => bytes[4] = 200,
            (Lie::TinySize, ..) => bytes[..4].copy_from_slice(&6u32.to_le_bytes()),
            (Lie::HugeSize, ..) => bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes()),
            (Lie::CutShort, ..) if bytes.len() > HEADER_LEN => {
                bytes.pop();
                set_size(&mut bytes);
            }
            (Lie::TooLong, ..) => {
                bytes.push(0);
                set_size(&mut bytes);
            }
            (Lie::MoreThanAsked, Request::Read { count, .. }, Reply::Read { .. }) => {
                let data = vec![b'?'; count as usize + 1];
                return one(Reply::Read {
                    data: Payload::from(&data[..]),
                });
            }
            (Lie::MoreThanAsked, Request::Readdir { count, .. }, Reply::Readdir { .. }) => {
                let names = vec![&b"more"[..]; count as usize / 28 + 1];
                return one(Reply::Readdir {
                    data: Payload::from(&entries(&names, 1)[..]),
                });
            }
            (Lie::MoreThanAsked, _, Reply::Write { count }) => {
                return one(Reply::Write { count: count + 1 });
            }
            (Lie::CountBeyondMessage, _, Reply::Read { .. } | Reply::Readdir { .. }) => {
                bytes[10] = 0x7f;
            }
            (Lie::MoreQidsThanNames, _, Reply::Walk { mut qids }) => {
                if !qids.push(Qid::default()) {
                    return None;
                }
                return one(Reply::Walk { qids });
            }
            (Lie::ManyQids, _, Reply::Walk { .. }) => {
                bytes[7..9].fill(0xff);
                bytes.resize(9 + 13 * 65535, 0);
                bytes.truncate(4000);
                set_size(&mut bytes);
            }
            (Lie::SplitEntry, _, Reply::Readdir { .. }) => {
                let data = entries(&[b"whole", b"split"], 1);
                return one(Reply::Readdir {
                    data: Payload::from(&data[..data.len() - 2]),
                });
            }
            (Lie::NameBeyondData, _, Reply::Readdir { .. }) => {
                let mut data = entries(&[b"name"], 1);
                data[22..24].fill(0xff);
                return one(Reply::Readdir {
                    data: Payload::from(&data[..]),
                });
            }
            (Lie::ImpossibleNames, Request::Readdir { offset: 0, .. }, Reply::Readdir { .. }) => {
                let data = entries(&[b"", b"a/b", b"a\0b"], 1);
                return one(Reply::Readdir {
                    data: Payload::from(&data[..]),
                });
            }
            (Lie::EndlessDirectory, Request::Readdir { offset, .. }, Reply::Readdir { .. }) => {
                let name = format!("entry {offset}");
                let data = entries(&[name.as_bytes()], offset + 1);
                return one(Reply::Readdir {
                    data: Payload::from(&data[..]),
                });
            }
            (Lie::CircularDirectory, Request::Readdir { offset, .. }, Reply::Readdir { .. }) => {
                let data = entries(&[b"again"], offset);
                return one(Reply::Readdir {
                    data: Payload::from(&data[..]),
                });
            }
            (Lie::ErrorZero, ..) => return one(Reply::Lerror { ecode: 0 }),
            (Lie::ErrorBeyondRange, ..) => {
                return one(Reply::Lerror {
                    ecode: u32::MAX - 1,
                });
            }
            (Lie::ReplyAfterFlush, Request::Flush { oldtag }, _) => {
                return Some(vec![bytes, encode(oldtag, &Reply::Clunk)]);
            }
            (Lie::MsizeGrows, _, Reply::Version { msize, version }) => {
                return one(Reply::Version {
                    msize: msize.saturating_mul(2),
                    version,
                });
            }
            (Lie::MsizeZero, _, Reply::Version { version, .. }) => {
                return one(Reply::Version { msize: 0, version });
            }
            (Lie::OtherDialect, _, Reply::Version { msize, .. }) => {
                return one(Reply::Version {
                    msize,
                    version: b"9P2000.X",
                });
            }
            (Lie::Silence, ..) => return Some(Vec::new()),
            _ => return None,
        }
        Some(vec![bytes])
    }
}

fn set_size(bytes: &mut [u8]) {
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&size.to_le_bytes());
}

fn encode(tag: Tag, reply: &Reply<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1024 + reply.payload().len()];
    let len = reply
        .encode(tag, Dialect::Linux, &mut bytes)
        .expect("short");
    bytes.truncate(len);
    bytes
}

/// Entries with cookies from `cookie` on.
fn entries(names: &[&[u8]], cookie: u64) -> Vec<u8> {
    let mut data = vec![0; 300 * names.len()];
    let mut len = 0;
    for (offset, name) in (cookie..).zip(names) {
        let entry = DirEntry {
            qid: Qid::default(),
            offset,
            kind: DirEntryKind::UNKNOWN,
            name,
        };
        len += entry.encode(&mut data[len..]).expect("short");
    }
    data.truncate(len);
    data
}
