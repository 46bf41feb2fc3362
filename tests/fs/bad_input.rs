//! Every operation that takes a path refuses paths that lead nowhere, with the error that its documentation names, and
//! changes nothing.

use xen9p::errno::Errno;
use xen9p::fs::{Error, FileTimes, Fs, MountOptions, OpenOptions, Permissions};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{Reply, Tag, kind, parse_header};
use xen9p_testing::bed::memory::{Bed, bed};
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

type Operation = fn(&Fs, &[u8]) -> Result<(), Error>;

/// Those that follow a link at the end of the path.
const FOLLOWING: &[(&str, Operation)] = &[
    ("open", |fs, path| fs.open(path).map(drop)),
    ("create", |fs, path| fs.create(path).map(drop)),
    ("open_with", |fs, path| {
        let mut options = OpenOptions::new();
        fs.open_with(path, options.append(true).create(true))
            .map(drop)
    }),
    ("read", |fs, path| fs.read(path).map(drop)),
    ("read_to_string", |fs, path| {
        fs.read_to_string(path).map(drop)
    }),
    ("write", |fs, path| fs.write(path, b"x")),
    ("metadata", |fs, path| fs.metadata(path).map(drop)),
    ("exists", |fs, path| fs.exists(path).map(drop)),
    ("read_dir", |fs, path| fs.read_dir(path).map(drop)),
    ("copy from", |fs, path| fs.copy(path, "/new").map(drop)),
    ("copy to", |fs, path| fs.copy("/file", path).map(drop)),
    ("canonicalize", |fs, path| fs.canonicalize(path).map(drop)),
    ("set_permissions", |fs, path| {
        fs.set_permissions(path, Permissions::from_mode(0o600))
    }),
    ("set_times", |fs, path| fs.set_times(path, FileTimes::new())),
    ("chown", |fs, path| fs.chown(path, Some(0), None)),
    ("truncate", |fs, path| fs.truncate(path, 0)),
    ("statfs", |fs, path| fs.statfs(path).map(drop)),
    ("xattr", |fs, path| fs.xattr(path, "user.a").map(drop)),
    ("list_xattrs", |fs, path| fs.list_xattrs(path).map(drop)),
    ("set_xattr", |fs, path| fs.set_xattr(path, "user.a", b"1")),
    ("remove_xattr", |fs, path| fs.remove_xattr(path, "user.a")),
];

/// Those that mean the link itself, or make what the path names.
const NOT_FOLLOWING: &[(&str, Operation)] = &[
    ("symlink_metadata", |fs, path| {
        fs.symlink_metadata(path).map(drop)
    }),
    ("create_dir", |fs, path| fs.create_dir(path)),
    ("create_dir_all", |fs, path| fs.create_dir_all(path)),
    ("remove_file", |fs, path| fs.remove_file(path)),
    ("remove_dir", |fs, path| fs.remove_dir(path)),
    ("remove_dir_all", |fs, path| fs.remove_dir_all(path)),
    ("rename from", |fs, path| fs.rename(path, "/new")),
    ("rename to", |fs, path| fs.rename("/file", path)),
    ("hard_link of", |fs, path| fs.hard_link(path, "/new")),
    ("hard_link as", |fs, path| fs.hard_link("/file", path)),
    ("symlink", |fs, path| fs.symlink("file", path)),
    ("read_link", |fs, path| fs.read_link(path).map(drop)),
    ("mknod", |fs, path| fs.mknod(path, 0o010_600, 0, 0)),
    ("set_times_nofollow", |fs, path| {
        fs.set_times_nofollow(path, FileTimes::new())
    }),
    ("lchown", |fs, path| fs.lchown(path, Some(0), None)),
];

fn every() -> impl Iterator<Item = &'static (&'static str, Operation)> {
    FOLLOWING.iter().chain(NOT_FOLLOWING)
}

/// A mount with a file, a directory that isn't empty, and a link to itself.
fn populated() -> Bed {
    let bed = bed();
    bed.fs.write("/file", b"precious").unwrap();
    bed.fs.create_dir("/dir").unwrap();
    bed.fs.write("/dir/inner", b"too").unwrap();
    bed.fs.symlink("loop", "/loop").unwrap();
    bed
}

/// Nothing is lost and nothing new.
fn unharmed(bed: Bed) {
    let mut names: Vec<_> = bed
        .fs
        .read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["dir", "file", "loop"]);
    assert_eq!(bed.fs.read("/file").unwrap(), b"precious");
    assert_eq!(bed.fs.read("/dir/inner").unwrap(), b"too");
    assert_eq!(bed.fs.read_link("/loop").unwrap(), b"loop");
    bed.finish();
}

#[test]
fn paths_that_no_server_is_asked_about() {
    let bed = populated();
    for (name, operation) in every() {
        let bad = |path: &[u8]| operation(&bed.fs, path).expect_err(name);
        assert!(matches!(bad(b""), Error::InvalidPath(_)), "{name}");
        assert!(matches!(bad(b"/a\0b"), Error::InvalidPath(_)), "{name}");
        assert!(matches!(bad(b"/a\0/b"), Error::InvalidPath(_)), "{name}");
        assert_eq!(bad(&b"/x".repeat(32 << 10)), Error::NameTooLong, "{name}");
        assert_eq!(bad(&[b'y'; 256]), Error::NameTooLong, "{name}");
        assert_eq!(
            bad(&[&b"/dir/"[..], &[b'y'; 256], b"/z"].concat()),
            Error::NameTooLong,
            "{name}"
        );
    }
    unharmed(bed);
}

#[test]
fn links_without_end() {
    let bed = populated();
    for (name, operation) in FOLLOWING {
        assert_eq!(
            operation(&bed.fs, b"/loop"),
            Err(Error::TooManyLinks),
            "{name}"
        );
    }
    for (name, operation) in every() {
        assert_eq!(
            operation(&bed.fs, b"/loop/x"),
            Err(Error::TooManyLinks),
            "{name}"
        );
    }
    unharmed(bed);
}

#[test]
fn files_as_directories() {
    let bed = populated();
    for (name, operation) in every() {
        let answer = operation(&bed.fs, b"/file/x");
        assert_eq!(answer, Err(Error::Errno(Errno::ENOTDIR)), "{name}");
    }
    let refused = |answer: Result<(), Error>| answer.expect_err("refused").errno();
    let fs = &bed.fs;
    assert_eq!(refused(fs.read_dir("/file").map(drop)), Errno::ENOTDIR);
    assert_eq!(refused(fs.remove_dir("/file")), Errno::ENOTDIR);
    assert_eq!(refused(fs.remove_dir_all("/file")), Errno::ENOTDIR);
    assert_eq!(refused(fs.create_dir("/file")), Errno::EEXIST);
    assert_eq!(refused(fs.create_dir_all("/file")), Errno::EEXIST);
    assert_eq!(refused(fs.rename("/dir", "/file")), Errno::ENOTDIR);
    let mut directory = OpenOptions::new();
    directory.read(true).directory(true);
    assert_eq!(
        refused(fs.open_with("/file", &directory).map(drop)),
        Errno::ENOTDIR
    );
    unharmed(bed);
}

#[test]
fn directories_as_files() {
    let bed = populated();
    let refused = |answer: Result<(), Error>| answer.expect_err("refused").errno();
    let fs = &bed.fs;
    for path in ["/dir", "/", "/dir/"] {
        assert_eq!(refused(fs.read(path).map(drop)), Errno::EISDIR, "{path}");
        assert_eq!(refused(fs.write(path, b"x")), Errno::EISDIR, "{path}");
        assert_eq!(refused(fs.create(path).map(drop)), Errno::EISDIR, "{path}");
        assert_eq!(refused(fs.truncate(path, 0)), Errno::EISDIR, "{path}");
        assert_eq!(refused(fs.copy("/file", path).map(drop)), Errno::EISDIR);
        assert_eq!(refused(fs.copy(path, "/new").map(drop)), Errno::EISDIR);
        assert_eq!(
            refused(fs.read_link(path).map(drop)),
            Errno::EINVAL,
            "{path}"
        );
    }
    assert_eq!(refused(fs.remove_file("/dir")), Errno::EISDIR);
    assert_eq!(refused(fs.rename("/file", "/dir")), Errno::EISDIR);
    assert_eq!(refused(fs.remove_dir("/dir")), Errno::ENOTEMPTY);
    unharmed(bed);
}

#[test]
fn nothing_and_a_gibibyte() {
    let bed = populated();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&bed.fs, "/file")
        .unwrap();
    let ((), cost) = bed.cost(|_| {
        assert_eq!(file.read_at(&mut [], 3), Ok(0));
        assert_eq!(file.write_at(&[], 3), Ok(0));
        assert_eq!(file.read_exact_at(&mut [], 100), Ok(()));
    });
    assert_eq!(cost, 0);
    let mut large = vec![0; 1 << 30];
    assert_eq!(file.read_at(&mut large, 0), Ok(8));
    assert_eq!(large[..9], *b"precious\0");
    assert_eq!(file.read_exact_at(&mut large, 0), Err(Error::UnexpectedEof));
    let beyond = i64::MAX as u64 - 1;
    assert!(matches!(
        file.write_at(&large, beyond),
        Err(Error::InvalidInput(_))
    ));
    assert!(matches!(
        file.set_len(u64::MAX),
        Err(Error::InvalidInput(_))
    ));
    drop(file);
    unharmed(bed);
}

#[test]
fn a_directory_that_is_never_empty() {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/dir/file", b"");
    let mut removals = 0;
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        let header = parse_header(request.first_chunk().unwrap());
        if header.kind != kind::TUNLINKAT {
            return server.handle(request);
        }
        removals += 1;
        assert!(removals < 10_000, "it goes on for ever");
        // The file is said to be removed, and is still there.
        let reply = match request.ends_with(&[0; 4]) {
            true => Reply::Unlinkat,
            false => Reply::Lerror {
                ecode: Errno::ENOTEMPTY.number().into(),
            },
        };
        let mut bytes = vec![0; 16];
        let len = reply.encode(Tag(header.tag), Dialect::Linux, &mut bytes);
        bytes.truncate(len.unwrap());
        bytes
    });
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    assert_eq!(refused(fs.remove_dir_all("/dir")), Errno::ENOTEMPTY);
    assert!(fs.exists("/dir/file").unwrap());
}

#[test]
fn silence_is_not_taken_for_a_file_in_the_way() {
    let bed = bed();
    bed.fs.create_dir("/dir").unwrap();
    bed.control.hold(&[kind::TWALK]);
    assert_eq!(bed.fs.create_dir_all("/dir"), Err(Error::TimedOut));
    bed.control.release();
    assert_eq!(bed.fs.create_dir_all("/dir"), Ok(()));
    bed.fs.symlink("/loop", "/loop").unwrap();
    assert_eq!(refused(bed.fs.create_dir_all("/loop")), Errno::EEXIST);
    bed.finish();
}

fn refused(result: Result<(), Error>) -> Errno {
    match result {
        Err(Error::Errno(errno)) => errno,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
