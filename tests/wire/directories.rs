//! The data of directories is read entry by entry, and refused where it is malformed.

use proptest::collection::vec;
use proptest::prelude::*;
use xen9p::p9::wire::*;

use super::samples::{QID, U};

fn entry(name: &[u8], offset: u64) -> DirEntry<'_> {
    let kind = DirEntryKind::of(FileKind::DIR);
    DirEntry {
        qid: QID,
        offset,
        kind,
        name,
    }
}

fn entries(names: &[&[u8]]) -> Vec<u8> {
    let mut data = vec![0; 4096];
    let mut len = 0;
    for (at, name) in names.iter().enumerate() {
        len += entry(name, at as u64 + 1).encode(&mut data[len..]).unwrap();
    }
    data.truncate(len);
    data
}

fn stat(name: &[u8]) -> Stat<'_> {
    Stat {
        kind: 0,
        dev: 0,
        qid: QID,
        length: 7,
        name,
        n_uid: 0,
        n_gid: 0,
        n_muid: 0,
        ..Stat::UNCHANGED
    }
}

fn packed(dialect: Dialect, names: &[&[u8]]) -> Vec<u8> {
    let mut data = vec![0; 4096];
    let mut len = 0;
    for name in names {
        len += stat(name).encode(dialect, &mut data[len..]).unwrap();
    }
    data.truncate(len);
    data
}

/// What xen-9pfsd sends: its `fill_p9_stat` counts five string lengths twice, and its directory
/// reads put the size in front of each stat once more.
fn xen9pfsd(names: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for name in names {
        let stat = packed(U, &[name]);
        let size = stat.len() as u16 - 2 + 10;
        data.extend((size + 2).to_le_bytes());
        data.extend(size.to_le_bytes());
        data.extend(&stat[2..]);
    }
    data.extend(vec![0xa5; 8 * names.len()]);
    data
}

fn names_of(data: &[u8], dialect: Dialect, layout: StatLayout) -> Vec<Option<Vec<u8>>> {
    let entries = StatEntries::new(data, dialect, layout);
    entries
        .map(|entry| entry.ok().map(|stat| stat.name.to_vec()))
        .collect()
}

#[test]
fn an_entry_takes_24_bytes_and_its_name() {
    assert_eq!(entries(&[b"name"]).len(), 24 + 4);
    let mut small = [0; 27];
    assert_eq!(
        entry(b"name", 1).encode(&mut small),
        Err(WireError::Room { needed: 28 })
    );
}

#[test]
fn entries_come_out_as_they_went_in() {
    let names: [&[u8]; 4] = [b".", b"..", b"", b"\xff\0/"];
    let data = entries(&names);
    let found: Vec<_> = DirEntries::new(&data).map(Result::unwrap).collect();
    assert_eq!(found.len(), 4);
    for (at, found) in found.iter().enumerate() {
        assert_eq!(*found, entry(names[at], at as u64 + 1));
    }
    assert_eq!(DirEntries::new(&[]).count(), 0);
}

#[test]
fn a_split_entry_is_an_error_and_the_end() {
    let data = entries(&[b"one", b"two"]);
    for end in 28..data.len() {
        let found: Vec<_> = DirEntries::new(&data[..end]).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].is_ok());
        assert!(matches!(
            found[1],
            Err(WireError::Truncated {
                kind: kind::RREADDIR,
                ..
            })
        ));
    }
}

#[test]
fn kinds_of_entries_are_kinds_of_files() {
    for kind in [
        FileKind::DIR,
        FileKind::REGULAR,
        FileKind::SYMLINK,
        FileKind::FIFO,
        FileKind::SOCKET,
    ] {
        assert_eq!(DirEntryKind::of(kind).file_kind(), Some(kind));
    }
    assert_eq!(DirEntryKind::of(FileKind::REGULAR), DirEntryKind(8));
    assert_eq!(DirEntryKind::UNKNOWN.file_kind(), None);
    assert_eq!(DirEntryKind(255).file_kind(), None);
}

#[test]
fn stats_come_out_as_they_went_in() {
    for dialect in [U, Dialect::Plan9] {
        let data = packed(dialect, &[b".", b"file"]);
        let size = if dialect == U { 63 } else { 49 };
        assert_eq!(data.len(), 2 * size + 5);
        let found: Vec<_> = StatEntries::new(&data, dialect, StatLayout::Packed).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].unwrap().name, b"file");
        assert_eq!(found[1].unwrap().length, 7);
        assert_eq!(StatLayout::of(&data, dialect), StatLayout::Packed);
    }
    assert_eq!(StatLayout::of(&[], U), StatLayout::Packed);
}

#[test]
fn what_xen_9pfsd_sends_is_read_and_recognised() {
    let names: [&[u8]; 3] = [b".", b"..", b"qemu-dm.log"];
    let data = xen9pfsd(&names);
    assert_eq!(
        data.len(),
        names.iter().map(|name| 73 + name.len()).sum::<usize>()
    );
    assert_eq!(StatLayout::of(&data, U), StatLayout::Xen9pfsd);
    let found = names_of(&data, U, StatLayout::Xen9pfsd);
    let expected: Vec<_> = names.iter().map(|name| Some(name.to_vec())).collect();
    assert_eq!(found, expected);
    // Read as what it ought to be, it is noticed to be wrong.
    assert!(names_of(&data, U, StatLayout::Packed).contains(&None));
}

#[test]
fn sizes_that_do_not_fit_together_are_an_error_and_the_end() {
    let mut data = packed(U, &[b"one", b"two"]);
    for size in [0u16, 65, 67, 68, u16::MAX] {
        data[..2].copy_from_slice(&size.to_le_bytes());
        assert_eq!(names_of(&data, U, StatLayout::Packed), [None]);
    }
    let good = xen9pfsd(&[b"one", b"two"]);
    for end in [good.len() - 1, good.len() - 17, 70, 3] {
        let found = names_of(&good[..end], U, StatLayout::Xen9pfsd);
        assert_eq!(found.last(), Some(&None), "{end}");
    }
}

proptest! {
    #[test]
    fn noise_ends(data in vec(prop_oneof![Just(0u8), 0u8..80, any::<u8>()], 0..400)) {
        super::fuzz::directory::run(&data);
    }
}
