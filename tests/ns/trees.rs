//! Servers, trees in memory, synthetic files and read-only views can be mounted and keep what they promise.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::common::{errno, names, served, tree};
use xen9p::errno::Errno;
use xen9p::fs::{Error, FileTimes, OpenOptions, Permissions, SeekFrom, SystemTime};
use xen9p::ns::{MemTree, Namespace, ReadOnly, Synthetic};
use xen9p::p9::wire::kind;
use xen9p_testing::bed::memory::bed;

#[test]
fn files_have_positions() {
    let bed = bed();
    let ns = Namespace::new(bed.fs.clone());
    ns.mount(MemTree::new(), "/mem").unwrap();
    for path in ["/f", "/mem/f"] {
        let file = ns.create(path).unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(file.stream_position().unwrap(), 10);
        assert_eq!(errno(file.read(&mut [0; 4])), Errno::EBADF, "{path}");
        file.close().unwrap();
        let mut options = OpenOptions::new();
        let file = ns.open_with(path, options.read(true).append(true)).unwrap();
        let mut four = [0; 4];
        file.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"0123");
        file.write_all(b"ab").unwrap();
        assert_eq!(file.stream_position().unwrap(), 12);
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 9);
        let mut rest = Vec::new();
        assert_eq!(file.read_to_end(&mut rest).unwrap(), 3);
        assert_eq!(rest, b"9ab");
        assert_eq!(file.read_exact(&mut four), Err(Error::UnexpectedEof));
        assert!(file.seek(SeekFrom::Current(-100)).is_err());
        file.rewind().unwrap();
        assert_eq!(file.read_at(&mut four, 8).unwrap(), 4);
        file.set_len(2).unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2);
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        let time = SystemTime::new(1_000, 0);
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        file.close().unwrap();
        let metadata = ns.metadata(path).unwrap();
        assert_eq!(metadata.permissions().mode(), 0o600, "{path}");
        assert_eq!(metadata.modified(), time, "{path}");
        ns.truncate(path, 5).unwrap();
        assert_eq!(ns.read(path).unwrap(), b"01\0\0\0");
        ns.chown(path, Some(7), None).unwrap();
        assert_eq!(ns.metadata(path).unwrap().uid(), 7);
    }
    // What is written behind is there after a flush.
    let mut options = OpenOptions::new();
    options.write(true).create(true).write_behind(1 << 20);
    let file = ns.open_with("/behind", &options).unwrap();
    file.write_all(b"soon").unwrap();
    file.flush().unwrap();
    assert_eq!(ns.read("/behind").unwrap(), b"soon");
    file.close().unwrap();
    let mut big = vec![0; 3 << 20];
    for (at, byte) in big.iter_mut().enumerate() {
        *byte = (at / 251) as u8;
    }
    ns.write("/mem/big", &big).unwrap();
    let all = Permissions::from_mode(0o777);
    ns.set_permissions("/mem/big", all).unwrap();
    ns.copy("/mem/big", "/big").unwrap();
    assert_eq!(ns.metadata("/big").unwrap().permissions(), all);
    assert!(ns.read("/big").unwrap() == big);
    ns.create_dir_all("/mem/x/y/z").unwrap();
    ns.create_dir_all("/mem/x/y/z").unwrap();
    assert_eq!(errno(ns.create_dir_all("/mem/big/x")), Errno::ENOTDIR);
    assert_eq!(errno(ns.create_dir_all("/mem/big")), Errno::EEXIST);
    ns.write("/mem/x/y/f", "").unwrap();
    assert_eq!(errno(ns.remove_dir("/mem/x")), Errno::ENOTEMPTY);
    assert_eq!(errno(ns.remove_dir_all("/mem/big")), Errno::ENOTDIR);
    ns.remove_dir_all("/mem/x").unwrap();
    assert_eq!(names(&ns, "/mem"), ["big", "f"]);
    drop(ns);
    bed.finish();
}

#[test]
fn read_only_views_refuse_every_change() {
    let bed = served(&[("/f", "f"), ("/d/g", "")]);
    let ns = Namespace::new(MemTree::new());
    ns.mount(ReadOnly::new(bed.fs.clone()), "/ro").unwrap();
    assert_eq!(ns.read("/ro/f").unwrap(), b"f");
    assert_eq!(names(&ns, "/ro"), ["d", "f"]);
    let mode = Permissions::from_mode(0o777);
    let changes = [
        ns.write("/ro/f", ""),
        ns.write("/ro/new", ""),
        ns.create_dir("/ro/new"),
        ns.remove_file("/ro/f"),
        ns.remove_dir("/ro/d"),
        ns.remove_dir_all("/ro/d"),
        ns.rename("/ro/f", "/ro/h"),
        ns.hard_link("/ro/f", "/ro/h"),
        ns.symlink("f", "/ro/h"),
        ns.mknod("/ro/h", 0o010_666, 0, 0),
        ns.set_permissions("/ro/f", mode),
        ns.set_times("/ro/f", FileTimes::now()),
        ns.chown("/ro/f", Some(1), Some(1)),
        ns.lchown("/ro/f", Some(1), Some(1)),
        ns.truncate("/ro/f", 0),
        ns.set_xattr("/ro/f", "user.a", "1"),
        ns.remove_xattr("/ro/f", "user.a"),
        ns.open("/ro/f").unwrap().set_permissions(mode),
        ns.open("/ro/f").unwrap().set_times(FileTimes::now()),
        ns.open("/ro/f").unwrap().set_len(0),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert_eq!(errno(change), Errno::EROFS, "change {at}");
    }
    let mut options = OpenOptions::new();
    options.append(true);
    assert_eq!(errno(ns.open_with("/ro/none", &options)), Errno::ENOENT);
    assert_eq!(errno(ns.open_with("/ro/d", &options)), Errno::EISDIR);
    assert_eq!(bed.server.borrow().get("/f").unwrap(), b"f");
}

#[test]
fn extended_attributes_are_those_of_the_tree() {
    let bed = served(&[("/f", "f")]);
    let ns = Namespace::new(tree(&[("/m", "")]));
    ns.mount(bed.fs.clone(), "/s").unwrap();
    ns.mount(ReadOnly::new(bed.fs.clone()), "/ro").unwrap();
    ns.set_xattr("/s/f", "user.a", "1").unwrap();
    assert_eq!(ns.xattr("/ro/f", "user.a").unwrap(), b"1");
    assert_eq!(ns.list_xattrs("/ro/f").unwrap(), [b"user.a"]);
    ns.remove_xattr("/s/f", "user.a").unwrap();
    assert_eq!(errno(ns.xattr("/s/f", "user.a")), Errno::ENODATA);
    let refused = [
        ns.xattr("/m", "user.a").map(drop),
        ns.list_xattrs("/m").map(drop),
        ns.set_xattr("/m", "user.a", "1"),
        ns.remove_xattr("/m", "user.a"),
    ];
    for result in refused {
        assert_eq!(errno(result), Errno::EOPNOTSUPP);
    }
    drop(ns);
    bed.finish();
}

#[test]
fn functions_stand_behind_synthetic_files() {
    let ticks = Rc::new(Cell::new(0));
    let console = Rc::new(RefCell::new(Vec::new()));
    let ns = Namespace::new(MemTree::new());
    let dev = MemTree::new();
    let (counter, screen, own) = (ticks.clone(), console.clone(), ns.clone());
    let produce = move || {
        counter.set(counter.get() + 1);
        // They may use the name space that they are seen in.
        let points = own.mount_points().len();
        Ok(format!("tick {} of {points}", counter.get()).into_bytes())
    };
    dev.put_synthetic("/time", Synthetic::new().read(produce))
        .unwrap();
    let cons = Synthetic::new()
        .stream(|buffer| {
            buffer[..3].copy_from_slice(b"key");
            Ok(3)
        })
        .write(move |bytes| {
            screen.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        });
    dev.put_synthetic("/cons", cons).unwrap();
    dev.put_synthetic("/fail", Synthetic::new().read(|| Err(Errno::EIO.into())))
        .unwrap();
    ns.mount(dev, "/dev").unwrap();

    assert_eq!(ns.read_to_string("/dev/time").unwrap(), "tick 1 of 1");
    let file = ns.open("/dev/time").unwrap();
    let (mut some, mut rest) = ([0; 4], String::new());
    file.read_exact(&mut some).unwrap();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " 2 of 1", "one handle reads one content");
    file.rewind().unwrap();
    rest.clear();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "tick 3 of 1");

    ns.write("/dev/cons", "hello").unwrap();
    assert_eq!(*console.borrow(), b"hello");
    let cons = ns.open("/dev/cons").unwrap();
    for _ in 0..3 {
        let mut buffer = [0; 8];
        assert_eq!(cons.read(&mut buffer).unwrap(), 3);
    }
    assert_eq!(errno(ns.read("/dev/fail")), Errno::EIO);
    assert_eq!(errno(ns.write("/dev/time", "")), Errno::EACCES);
    let metadata = ns.metadata("/dev/time").unwrap();
    assert_eq!((metadata.mode(), metadata.len()), (0o100_444, 0));
    assert_eq!(ns.copy("/dev/time", "/time").unwrap(), 11);
    assert_eq!(ns.copy("/time", "/dev/cons").unwrap(), 11);
    assert_eq!(*console.borrow(), b"hellotick 4 of 1");
    assert_eq!(ns.read("/time").unwrap(), b"tick 4 of 1");
}

#[test]
fn memory_is_limited_and_given_back() {
    let limit = 64 << 10;
    let memory = MemTree::with_clock(limit, || SystemTime::new(77, 0));
    let ns = Namespace::new(memory.clone());
    ns.write("/a", vec![1; 60 << 10]).unwrap();
    assert_eq!(errno(ns.write("/b", vec![1; 8 << 10])), Errno::ENOSPC);
    assert_eq!(errno(ns.truncate("/a", 1 << 40)), Errno::ENOSPC);
    assert_eq!(ns.metadata("/a").unwrap().len(), 60 << 10);
    assert_eq!(
        ns.metadata("/a").unwrap().modified(),
        SystemTime::new(77, 0)
    );
    let file = ns.open("/a").unwrap();
    ns.remove_file("/a").unwrap();
    ns.remove_file("/b").unwrap();
    assert!(
        ns.statfs("/").unwrap().free_bytes() < 8 << 10,
        "it is still open"
    );
    drop(file);
    assert_eq!(ns.statfs("/").unwrap().free_bytes(), limit as u64);
    let mut made = 0;
    while ns.create_dir(format!("/{made}")).is_ok() {
        made += 1;
    }
    assert_eq!(made, limit / 512);
    for at in 0..made {
        ns.remove_dir(format!("/{at}")).unwrap();
    }
    assert_eq!(ns.statfs("/").unwrap().free_bytes(), limit as u64);

    // A tree deeper than the stack, piece by piece.
    let deep = MemTree::with_limit(usize::MAX);
    let part = "/d".repeat(30_000);
    deep.put(format!("{part}/f"), "").unwrap();
    drop(deep);
}

#[test]
fn a_server_that_goes_away_is_no_file_in_the_way() {
    let bed = served(&[("/dir/f", "")]);
    let ns = Namespace::new(bed.fs.clone());
    // It says that the name is there, and is gone when it is asked what that is.
    bed.control.lose_at(&[kind::TWALK], 0, false);
    let made = ns.create_dir_all("/dir");
    assert!(matches!(made, Err(Error::Transport(_))), "{made:?}");
}
