//! Any bytes are decoded to something or refused, and what is decoded is what was encoded.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use xen9p::p9::wire::*;

use super::fuzz::codec::{check, set_size};
use super::samples::{L, P, TAG, U, replies, requests, stat};

/// One message of each kind, encoded.
fn encoded() -> Vec<(Dialect, Vec<u8>)> {
    let mut buf = [0; 512];
    let mut all = Vec::new();
    for (dialect, message, _, _) in requests() {
        let len = message.encode(TAG, dialect, &mut buf).unwrap();
        all.push((dialect, buf[..len].to_vec()));
    }
    for (dialect, message, _, _) in replies() {
        let len = message.encode(TAG, dialect, &mut buf).unwrap();
        all.push((dialect, buf[..len].to_vec()));
    }
    all
}

fn check_at_every_cut(bytes: &[u8], dialect: Dialect) {
    for cut in 0..=bytes.len() {
        check(bytes, dialect, cut);
    }
}

fn dialects() -> impl Strategy<Value = Dialect> {
    select(&Dialect::ALL)
}

proptest! {
    #[test]
    fn noise(mut bytes in vec(any::<u8>(), 7..200), dialect in dialects(), honest in any::<bool>()) {
        if honest {
            set_size(&mut bytes);
        }
        check_at_every_cut(&bytes, dialect);
    }

    #[test]
    fn noise_behind_a_good_header(
        mut bytes in vec(prop_oneof![Just(0u8), 0u8..20, any::<u8>()], 7..200),
        (dialect, like) in select(encoded()),
    ) {
        set_size(&mut bytes);
        bytes[4] = like[4];
        check_at_every_cut(&bytes, dialect);
    }

    #[test]
    fn messages_with_wrong_bytes(
        (dialect, mut bytes) in select(encoded()),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            if at >= 7 {
                bytes[at] = byte;
            }
        }
        if cuts {
            bytes.truncate(7 + cut.index(bytes.len() - 6));
        }
        set_size(&mut bytes);
        check_at_every_cut(&bytes, dialect);
    }

    #[test]
    fn strings_of_any_length(
        name in vec(any::<u8>(), 0..300),
        other in vec(any::<u8>(), 0..300),
        data in vec(any::<u8>(), 0..300),
        seam in any::<prop::sample::Index>(),
        n in any::<u64>(),
        count in 0usize..=16,
    ) {
        let fid = Fid(n as u32);
        let (name, other) = (&name[..], &other[..]);
        let (front, back) = data.split_at(seam.index(data.len() + 1));
        let mut names = Names::new();
        for at in 0..count {
            let pushed = names.push([name, other][at % 2]);
            prop_assert!(pushed);
        }
        let all = [
            (L, Request::Walk { fid, newfid: Fid::NONE, names }),
            (L, Request::Symlink { dfid: fid, name, target: other, gid: n as u32 }),
            (L, Request::Renameat { olddirfid: fid, oldname: name, newdirfid: fid, newname: other }),
            (L, Request::Write { fid, offset: n, data: Payload(front, back) }),
            (U, Request::Create { fid, name, perm: DirMode::SYMLINK, mode: OpenMode::EXECUTE, extension: other }),
            (U, Request::Wstat { fid, stat: Stat { name, extension: other, length: n, ..stat() } }),
            (P, Request::Attach { fid, afid: fid, uname: name, aname: other, n_uname: NO_USER }),
        ];
        let mut buf = vec![0; 8192];
        let mut scratch = [0; 300];
        for (dialect, request) in all {
            let len = request.encode(TAG, dialect, &mut buf).unwrap();
            let (head, tail) = buf[..len].split_at(seam.index(len + 1));
            let decoded = Request::decode(Reader::split(head, tail, &mut scratch, dialect));
            prop_assert_eq!(decoded, Ok((TAG, request)));
        }
    }
}
