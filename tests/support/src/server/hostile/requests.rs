//! Requests out of any bytes: well-formed, or not, or noise.

use xen9p::p9::wire::*;

use super::MSIZE;

/// What is left of the bytes.
pub(super) struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    pub(super) fn new(bytes: &'i [u8]) -> Self {
        Input(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next of them; 0 where there is none.
    pub(super) fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn fid(&mut self) -> Fid {
        match self.byte() {
            255 => Fid::NONE,
            byte => Fid(u32::from(byte % 12)),
        }
    }

    fn name(&mut self) -> &'static [u8] {
        const NAMES: [&[u8]; 16] = [
            b"a",
            b"b",
            b"c",
            b"d",
            b"a",
            b"b",
            b"dir",
            b"file",
            b"..",
            b"..",
            b".",
            b"",
            b"x/y",
            b"a\0",
            b"link",
            &[b'n'; 300],
        ];
        NAMES[usize::from(self.byte() % 16)]
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..100 => u64::from(byte),
            byte @ 100..180 => u64::from(byte) * 61,
            byte @ 180..220 => u64::from(byte) << 20,
            byte => u64::MAX - u64::from(byte - 220),
        }
    }
}

/// One of all requests.
fn request<'r>(input: &mut Input<'_>, data: &'r [u8]) -> Request<'r> {
    let (fid, other) = (input.fid(), input.fid());
    let name = input.name();
    let (mode, gid) = (input.number() as u32, 0);
    let flags = u32::from(input.byte()) << 3 & 0o3000 | u32::from(input.byte()) & 0o1303;
    let flags = OpenFlags::from_bits_retain(flags);
    let (start, length) = (input.number(), input.number());
    match input.byte() % 40 {
        0..6 => {
            let mut names = Names::new();
            for _ in 0..input.byte() % 5 {
                assert!(names.push(input.name()));
            }
            Request::Walk {
                fid,
                newfid: other,
                names,
            }
        }
        6..9 => Request::Lopen { fid, flags },
        9 => Request::Lcreate {
            fid,
            name,
            flags,
            mode,
            gid,
        },
        10..13 => Request::Read {
            fid,
            offset: start,
            count: length as u32,
        },
        13..16 => Request::Write {
            fid,
            offset: start.min(100_000),
            data: Payload::from(data),
        },
        16..19 => Request::Clunk { fid },
        19 => Request::Remove { fid },
        20 => Request::Attach {
            fid,
            afid: if start < 250 { Fid::NONE } else { other },
            uname: b"",
            aname: input.name(),
            n_uname: 0,
        },
        21..24 => Request::Flush {
            oldtag: Tag(u16::from(input.byte() % 10)),
        },
        24 => Request::Symlink {
            dfid: fid,
            name,
            target: b"a/b",
            gid,
        },
        25 => Request::Mknod {
            dfid: fid,
            name,
            mode,
            major: 1,
            minor: 2,
            gid,
        },
        26 => Request::Rename {
            fid,
            dfid: other,
            name,
        },
        27 => Request::Renameat {
            olddirfid: fid,
            oldname: name,
            newdirfid: other,
            newname: input.name(),
        },
        28 => Request::Unlinkat {
            dirfid: fid,
            name,
            flags: UnlinkFlags::from_bits_retain(mode & 0x300),
        },
        29 => Request::Getattr {
            fid,
            mask: AttrMask::from_bits_retain(length),
        },
        30 => Request::Setattr {
            fid,
            attr: SetAttr {
                valid: SetAttrMask::from_bits_retain(mode),
                size: start,
                ..SetAttr::default()
            },
        },
        31 => Request::Xattrwalk {
            fid,
            newfid: other,
            name,
        },
        32 => Request::Xattrcreate {
            fid,
            name,
            size: length,
            flags: XattrFlags::from_bits_retain(mode & 3),
        },
        33 => Request::Readdir {
            fid,
            offset: start,
            count: length as u32,
        },
        34 => Request::Lock {
            fid,
            kind: LockKind(input.byte() % 4),
            flags: LockFlags::BLOCK,
            start,
            length,
            proc_id: mode & 1,
            client_id: name,
        },
        35 => Request::Getlock {
            fid,
            kind: LockKind(input.byte() % 4),
            start,
            length,
            proc_id: mode & 1,
            client_id: name,
        },
        36 => Request::Link {
            dfid: fid,
            fid: other,
            name,
        },
        37 => Request::Mkdir {
            dfid: fid,
            name,
            mode,
            gid,
        },
        38 => Request::Fsync { fid, datasync: 1 },
        _ => match input.byte() % 6 {
            0 => Request::Statfs { fid },
            1 => Request::Readlink { fid },
            2 => Request::Auth {
                afid: fid,
                uname: name,
                aname: b"",
                n_uname: 0,
            },
            _ => Request::Version {
                msize: MSIZE,
                version: Dialect::ALL[usize::from(input.byte() % 3)]
                    .version()
                    .as_bytes(),
            },
        },
    }
}

/// Those that the other dialects have.
fn classic(input: &mut Input<'_>) -> Option<Request<'static>> {
    let fid = input.fid();
    let name = input.name();
    let mode = OpenMode::from_bits_retain(input.byte());
    Some(match input.byte() % 8 {
        0 => Request::Open { fid, mode },
        1 => Request::Create {
            fid,
            name,
            perm: DirMode::from_bits_retain(
                1u32.unbounded_shl(u32::from(input.byte() % 40)) & !0o777 | 0o755,
            ),
            mode,
            extension: [&b"a/b"[..], b"3", b"c 1 3"][usize::from(input.byte() % 3)],
        },
        2 => Request::Stat { fid },
        3 => {
            let mut stat = Stat::UNCHANGED;
            match input.byte() % 4 {
                0 => stat.name = name,
                1 => stat.length = input.number(),
                2 => stat.mode = DirMode::from_bits_retain(0o700),
                _ => stat.mtime = 9,
            }
            Request::Wstat { fid, stat }
        }
        _ => return None,
    })
}

/// A verdict, and a message.
pub(super) fn message(input: &mut Input<'_>, dialect: Dialect) -> Vec<u8> {
    let verdict = input.byte();
    let data = [verdict; 700];
    let data = &data[..usize::from(verdict) * 2];
    let how = input.byte();
    let tag = Tag(u16::from(input.byte() % 10));
    let request = match how {
        0..200 if dialect != Dialect::Linux || how < 20 => {
            classic(input).unwrap_or_else(|| request(input, data))
        }
        _ => request(input, data),
    };
    let spoken = match request.is_in(dialect) {
        true => dialect,
        false if request.is_in(Dialect::Unix) => Dialect::Unix,
        false => Dialect::Linux,
    };
    let mut bytes = vec![0; 4096];
    let len = request.encode(tag, spoken, &mut bytes).expect("fits");
    bytes.truncate(len);
    if how >= 240 {
        // Somewhere another byte, or fewer of them.
        let at = usize::from(input.byte()) % len;
        let by = input.byte();
        match how % 2 {
            0 if at >= 4 => bytes[at] ^= by,
            _ => {
                bytes.truncate(at.max(7));
                let size = bytes.len() as u32;
                bytes[..4].copy_from_slice(&size.to_le_bytes());
            }
        }
    }
    bytes.insert(0, verdict);
    bytes
}
