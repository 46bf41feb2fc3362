//! Each operation of the files API does what its documentation says, over a server in memory.

mod directories;

use xen9p::errno::Errno;
use xen9p::fs::{Error, FileTimes, OpenOptions, Permissions, SeekFrom, SystemTime};
use xen9p_testing::bed::memory::{bed, bed_with};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    match result {
        Err(Error::Errno(errno)) => errno,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn writes_and_reads_back() {
    let bed = bed();
    bed.fs.write("/a", b"hello").unwrap();
    assert_eq!(bed.server.borrow().get("/a").unwrap(), b"hello");
    assert_eq!(bed.fs.read("/a").unwrap(), b"hello");
    assert_eq!(bed.fs.read_to_string("a").unwrap(), "hello");
    bed.fs.write("/a", b"").unwrap();
    assert_eq!(bed.fs.read("/a").unwrap(), b"");
    bed.finish();
}

#[test]
fn missing_files_are_enoent() {
    let bed = bed();
    assert_eq!(errno(bed.fs.open("/nope")), Errno::ENOENT);
    assert_eq!(errno(bed.fs.open("/nope/deeper")), Errno::ENOENT);
    assert!(!bed.fs.exists("/nope").unwrap());
    assert_eq!(errno(bed.fs.remove_file("/nope")), Errno::ENOENT);
    bed.finish();
}

#[test]
fn a_file_on_the_way_is_enotdir() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    assert_eq!(errno(bed.fs.open("/f/g")), Errno::ENOTDIR);
    assert_eq!(errno(bed.fs.write("/f/g", b"")), Errno::ENOTDIR);
    assert_eq!(errno(bed.fs.read_dir("/f").map(drop)), Errno::ENOTDIR);
    assert_eq!(errno(bed.fs.create_dir_all("/f/g/h")), Errno::ENOTDIR);
    bed.finish();
}

#[test]
fn open_options_mean_what_they_mean_in_std() {
    let bed = bed();
    let fs = &bed.fs;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let file = options.open(fs, "/new").unwrap();
    file.write_all(b"0123456789").unwrap();
    file.close().unwrap();
    assert_eq!(errno(options.open(fs, "/new").map(drop)), Errno::EEXIST);

    let file = OpenOptions::new().write(true).open(fs, "/new").unwrap();
    file.write_all(b"ab").unwrap();
    drop(file);
    assert_eq!(fs.read("/new").unwrap(), b"ab23456789");

    let file = OpenOptions::new()
        .append(true)
        .read(true)
        .open(fs, "/new")
        .unwrap();
    file.write_all(b"XY").unwrap();
    assert_eq!(file.stream_position().unwrap(), 12);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ab23456789XY");
    drop(file);

    let mut options = OpenOptions::new();
    options.write(true).truncate(true);
    options.open(fs, "/new").unwrap().close().unwrap();
    assert_eq!(fs.metadata("/new").unwrap().len(), 0);
    assert_eq!(errno(options.open(fs, "/none").map(drop)), Errno::ENOENT);

    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options.open(fs, "/log").unwrap().write_all(b"1").unwrap();
    options.open(fs, "/log").unwrap().write_all(b"2").unwrap();
    assert_eq!(fs.read("/log").unwrap(), b"12");

    for bad in [
        OpenOptions::new(),
        *OpenOptions::new().read(true).truncate(true),
        *OpenOptions::new().read(true).create(true),
        *OpenOptions::new().append(true).truncate(true),
    ] {
        assert!(matches!(bad.open(fs, "/new"), Err(Error::InvalidInput(_))));
    }
    bed.finish();
}

#[test]
fn positions_move_as_in_std() {
    let bed = bed();
    bed.fs.write("/f", b"0123456789").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&bed.fs, "/f")
        .unwrap();
    assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
    let mut buffer = [0; 8];
    assert_eq!(file.read(&mut buffer).unwrap(), 3);
    assert_eq!(file.read(&mut buffer).unwrap(), 0);
    assert_eq!(file.seek(SeekFrom::Current(-10)).unwrap(), 0);
    assert!(file.seek(SeekFrom::Current(-1)).is_err());
    assert!(file.seek(SeekFrom::Start(u64::MAX)).is_err());
    assert_eq!(file.stream_position().unwrap(), 0);
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"01234567");
    assert_eq!(file.read_exact(&mut buffer), Err(Error::UnexpectedEof));
    // A hole.
    file.seek(SeekFrom::Start(12)).unwrap();
    file.write_all(b"ab").unwrap();
    assert_eq!(bed.fs.read("/f").unwrap(), b"0123456789\0\0ab");
    assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 4);
    file.write_all_at(b"Z", 0).unwrap();
    assert_eq!(file.stream_position().unwrap(), 14);
    drop(file);
    bed.finish();
}

#[test]
fn offsets_at_the_end_of_the_world() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    let file = bed.fs.open("/f").unwrap();
    let mut buffer = [0; 4];
    for offset in [i64::MAX as u64 - 3, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        assert!(matches!(
            file.read_at(&mut buffer, offset),
            Err(Error::InvalidInput(_))
        ));
    }
    assert_eq!(file.read_at(&mut buffer, i64::MAX as u64 - 4).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    drop(file);
    bed.finish();
}

#[test]
fn changes_attributes() {
    let bed = bed();
    let fs = &bed.fs;
    fs.write("/f", b"0123456789").unwrap();
    assert_eq!(fs.metadata("/f").unwrap().permissions().mode(), 0o644);
    fs.chown("/f", Some(12), None).unwrap();
    fs.chown("/f", None, Some(34)).unwrap();
    fs.chown("/f", None, None).unwrap();
    fs.set_permissions("/f", Permissions::from_mode(0o4711))
        .unwrap();
    let time = SystemTime::new(1_234_567_890, 0);
    fs.set_times("/f", FileTimes::new().set_modified(time))
        .unwrap();
    let metadata = fs.metadata("/f").unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o4711);
    assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
    assert_eq!(metadata.modified(), time);
    fs.truncate("/f", 4).unwrap();
    let file = OpenOptions::new().write(true).open(fs, "/f").unwrap();
    file.set_len(6).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 6);
    assert_eq!(fs.read("/f").unwrap(), b"0123\0\0");
    drop(file);
    let file = fs.open("/f").unwrap();
    assert!(matches!(file.set_len(0), Err(Error::InvalidInput(_))));
    drop(file);
    assert!(fs.statfs("/").unwrap().name_max >= 255);
    bed.finish();
}

#[test]
fn opening_an_existing_file_to_create_leaves_mode_and_owner_alone() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    bed.fs
        .set_permissions("/f", Permissions::from_mode(0o600))
        .unwrap();
    bed.fs.chown("/f", Some(7), Some(8)).unwrap();
    bed.fs.write("/f", b"y").unwrap();
    let metadata = bed.fs.metadata("/f").unwrap();
    assert_eq!(metadata.permissions().mode(), 0o600);
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    bed.finish();
}

#[test]
fn copies_content_and_mode() {
    let bed = bed();
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    bed.fs.write("/from", &content).unwrap();
    bed.fs
        .set_permissions("/from", Permissions::from_mode(0o751))
        .unwrap();
    assert_eq!(bed.fs.copy("/from", "/to").unwrap(), content.len() as u64);
    assert_eq!(bed.server.borrow().get("/to").unwrap(), content);
    assert_eq!(bed.fs.metadata("/to").unwrap().mode() & 0o7777, 0o751);
    bed.fs.create_dir("/d").unwrap();
    assert_eq!(errno(bed.fs.copy("/d", "/x")), Errno::EISDIR);
    bed.finish();
}

#[test]
fn extended_attributes() {
    let bed = bed();
    let fs = &bed.fs;
    fs.write("/f", b"x").unwrap();
    assert_eq!(errno(fs.xattr("/f", "user.a")), Errno::ENODATA);
    fs.set_xattr("/f", "user.a", b"1").unwrap();
    fs.set_xattr("/f", "user.b", vec![7; 60_000]).unwrap();
    fs.set_xattr("/f", "user.a", b"22").unwrap();
    assert_eq!(fs.xattr("/f", "user.a").unwrap(), b"22");
    assert_eq!(fs.xattr("/f", "user.b").unwrap(), vec![7; 60_000]);
    let mut list = fs.list_xattrs("/f").unwrap();
    list.sort();
    assert_eq!(list, [b"user.a".to_vec(), b"user.b".to_vec()]);
    fs.remove_xattr("/f", "user.a").unwrap();
    assert_eq!(errno(fs.remove_xattr("/f", "user.a")), Errno::ENODATA);
    assert_eq!(
        errno(fs.set_xattr("/f", "user.c", vec![0; 65_537])),
        Errno::E2BIG
    );
    bed.finish();
}

#[test]
fn bad_paths_never_reach_the_server() {
    let bed = bed();
    let fs = &bed.fs;
    let ((), cost) = bed.cost(|fs| {
        assert_eq!(
            fs.open("").map(drop),
            Err(Error::InvalidPath(&"empty path"))
        );
        assert!(matches!(
            fs.open("/a\0b").map(drop),
            Err(Error::InvalidPath(_))
        ));
        assert_eq!(
            fs.open("/x".repeat(40_000)).map(drop),
            Err(Error::NameTooLong)
        );
        assert_eq!(fs.open("y".repeat(256)).map(drop), Err(Error::NameTooLong));
        assert!(fs.symlink("", "/l").is_err());
        assert!(fs.symlink("a\0", "/l").is_err());
        assert!(fs.set_xattr("/", "", b"x").is_err());
        assert_eq!(errno(fs.remove_dir("/..")), Errno::EBUSY);
        assert_eq!(errno(fs.create_dir("/")), Errno::EEXIST);
        assert_eq!(errno(fs.rename("/", "/a")), Errno::EBUSY);
    });
    assert_eq!(cost, 0);
    let long = "n".repeat(255);
    fs.write(&long, b"x").unwrap();
    assert_eq!(fs.read(format!("./a/../{long}")).unwrap(), b"x");
    let not_utf8 = b"/\xff\xfe\x80";
    fs.write(not_utf8, b"y").unwrap();
    assert_eq!(fs.read(not_utf8).unwrap(), b"y");
    bed.finish();
}

#[test]
fn text_that_is_none() {
    let bed = bed();
    bed.fs.write("/f", b"\xff").unwrap();
    assert_eq!(bed.fs.read_to_string("/f"), Err(Error::NotUtf8));
    let file = bed.fs.open("/f").unwrap();
    let mut text = String::from("before");
    assert_eq!(file.read_to_string(&mut text), Err(Error::NotUtf8));
    assert_eq!(text, "before");
    drop(file);
    bed.finish();
}

#[test]
fn a_read_only_share_says_so() {
    let options = MemOptions {
        read_only: true,
        ..MemOptions::default()
    };
    let bed = bed_with(LaneOptions::default(), options, |server| {
        server.put("/f", b"x");
    });
    assert_eq!(bed.fs.read("/f").unwrap(), b"x");
    assert_eq!(errno(bed.fs.write("/g", b"")), Errno::EROFS);
    assert_eq!(errno(bed.fs.create_dir("/d")), Errno::EROFS);
    assert_eq!(errno(bed.fs.remove_file("/f")), Errno::EROFS);
    bed.finish();
}

#[test]
fn servers_without_the_newer_requests_are_served_by_the_older_ones() {
    use xen9p::p9::wire::kind;
    let options = MemOptions {
        lacks: vec![kind::TUNLINKAT, kind::TRENAMEAT],
        ..MemOptions::default()
    };
    let bed = bed_with(LaneOptions::default(), options, |_| {});
    let fs = &bed.fs;
    fs.create_dir("/d").unwrap();
    fs.write("/f", b"x").unwrap();
    fs.rename("/f", "/d/g").unwrap();
    assert_eq!(fs.read("/d/g").unwrap(), b"x");
    assert_eq!(errno(fs.remove_file("/d")), Errno::EISDIR);
    assert_eq!(errno(fs.remove_dir("/d/g")), Errno::ENOTDIR);
    assert_eq!(errno(fs.remove_dir("/d")), Errno::ENOTEMPTY);
    fs.remove_file("/d/g").unwrap();
    fs.remove_dir("/d").unwrap();
    bed.finish();
}
