//! A mount as a tree of nodes: what a server that passes it on, and a name space, ask of it.

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::aio::RemoteNode;
use xen9p::fs::{Error, Fs, MountOptions, Result};
use xen9p::ns::{MemTree, Namespace, NsNode, ReadOnly};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{
    AttrMask, OpenFlags, QidKind, SetAttr, SetAttrMask, UnlinkFlags, XattrFlags,
};
use xen9p::tree::{DynNode, Make, Node, OpenFile, Walked};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;
use xen9p_testing::server::qemu::{QemuOptions, qemu};

const READ: OpenFlags = OpenFlags::empty();

fn run<T>(fs: &Fs, operation: impl Future<Output = Result<T>>) -> Result<T> {
    fs.to_async().session().block_on(operation)
}

fn bed() -> Bed {
    let lanes = LaneOptions {
        lanes: 3,
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    bed_with(lanes, MemOptions::default(), |server| {
        server.put("/d/e/f", b"content");
        server.put("/d/g", b"g");
    })
}

fn root(fs: &Fs) -> RemoteNode {
    fs.to_async().node()
}

/// The requests of an operation, and for how many answers it waits one after the other.
fn cost<T>(bed: &Bed, operation: impl Future<Output = Result<T>>) -> (T, u64, u64) {
    let session = bed.fs.to_async().session().clone();
    let before = session.now();
    let (result, requests) = bed.cost(|fs| run(fs, operation).unwrap());
    let waits = (session.now() - before).as_millis() as u64;
    (result, requests, waits)
}

fn walked<T>(walked: Walked<T>) -> T {
    match walked {
        Walked::Through(found, _) => found,
        Walked::Link(at) => panic!("a link at {at}"),
        Walked::Blocked(at, error) => panic!("blocked at {at}: {error}"),
    }
}

/// Also behind `DynNode`, and through a name space.
#[test]
fn nodes_take_few_requests() {
    let bed = bed();
    let plain = root(&bed.fs);
    let names: [&[u8]; 3] = [b"d", b"e", b"f"];
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE_ONLY;

    let (attr, requests, waits) = cost(&bed, plain.getattr_at(&names, AttrMask::ALL));
    assert_eq!(walked(attr).size, 7);
    assert_eq!((requests, waits), (3, 1), "walk, getattr, clunk");
    let erased = DynNode::new(plain.clone());
    let (file, requests, waits) = cost(&bed, erased.open_at(&names, READ));
    assert_eq!((requests, waits), (2, 1), "walk and open");
    let file = walked(file);
    let mut buffer = [0; 16];
    let (count, requests, _) = cost(&bed, file.read(&mut buffer, 0));
    assert_eq!((count, requests), (7, 1));
    let ((), requests, _) = cost(&bed, file.close());
    assert_eq!(requests, 1);

    let (dir, requests, waits) = cost(&bed, erased.walk_at(&names[..2]));
    assert_eq!((requests, waits), (1, 1));
    let dir = walked(dir);
    let ((), requests, _) = cost(&bed, dir.clone().make(b"new", Make::Dir, 0o755, 0));
    assert_eq!(requests, 2, "whose group new files get, and mkdir");
    let ((), requests, _) = cost(&bed, dir.rename(b"new", &dir, b"dir"));
    assert_eq!(requests, 1);
    let ((), requests, _) = cost(&bed, dir.unlink(b"dir", UnlinkFlags::REMOVE_DIR));
    assert_eq!(requests, 1);
    // The fid of the directory becomes that of the file.
    let (file, requests, _) = cost(&bed, dir.into_create(b"made", flags, 0o644, 0));
    assert_eq!(requests, 1, "create: whose group is known");
    drop((file, erased, plain));
    bed.finish();
}

/// What makes, moves or removes a name takes as many requests through a name space as without, and waits as often.
#[test]
fn names_are_changed_through_a_name_space_as_without() {
    let bed = bed();
    let ns = Namespace::new(bed.fs.clone());
    ns.mount(MemTree::new(), "/mnt").unwrap();
    let session = bed.fs.to_async().session().clone();
    let measure = |work: &dyn Fn(&Fs)| {
        // The directory is known as one that names are changed in.
        for _ in 0..2 {
            bed.fs.write("/d/e/again", "x").unwrap();
        }
        let before = session.now();
        let requests = bed.cost(work).1;
        (requests, (session.now() - before).as_millis())
    };
    type Row<'a> = (&'a str, &'a dyn Fn(&Fs), &'a dyn Fn(&Fs));
    let rows: [Row<'_>; 9] = [
        (
            "make a directory",
            &|fs| fs.create_dir("/d/e/a").unwrap(),
            &|_| ns.create_dir("/d/e/b").unwrap(),
        ),
        (
            "make a link",
            &|fs| fs.symlink("f", "/d/e/la").unwrap(),
            &|_| ns.symlink("f", "/d/e/lb").unwrap(),
        ),
        (
            "make a file",
            &|fs| drop(fs.create("/d/e/fa").unwrap()),
            &|_| drop(ns.create("/d/e/fb").unwrap()),
        ),
        (
            "rename",
            &|fs| fs.rename("/d/e/fa", "/d/e/fc").unwrap(),
            &|_| ns.rename("/d/e/fb", "/d/e/fd").unwrap(),
        ),
        (
            "remove a file",
            &|fs| fs.remove_file("/d/e/fc").unwrap(),
            &|_| ns.remove_file("/d/e/fd").unwrap(),
        ),
        (
            "write a whole file",
            &|fs| fs.write("/d/e/wa", "x").unwrap(),
            &|_| ns.write("/d/e/wb", "x").unwrap(),
        ),
        (
            "copy",
            &|fs| assert_eq!(fs.copy("/d/g", "/d/e/ga"), Ok(1)),
            &|_| assert_eq!(ns.copy("/d/g", "/d/e/gb"), Ok(1)),
        ),
        (
            "remove a directory with what is in it",
            &|fs| {
                fs.create_dir_all("/d/e/ra/x").unwrap();
                fs.remove_dir_all("/d/e/ra").unwrap();
            },
            &|_| {
                ns.create_dir_all("/d/e/rb/x").unwrap();
                ns.remove_dir_all("/d/e/rb").unwrap();
            },
        ),
        (
            "remove a directory",
            &|fs| fs.remove_dir("/d/e/a").unwrap(),
            &|_| ns.remove_dir("/d/e/b").unwrap(),
        ),
    ];
    for (name, plain, within) in rows {
        let expected = measure(plain);
        assert_eq!(measure(within), expected, "{name}");
    }
    drop((ns, session));
    bed.finish();
}

/// All that a server asks of a tree, in this dialect.
fn essentials(fs: &Fs, dialect: Dialect) {
    assert_eq!(fs.dialect(), dialect);
    let root = root(fs);
    let errno = |result: Result<()>| match result {
        Err(error) => error.errno(),
        Ok(()) => panic!("expected a refusal"),
    };
    let dir = run(fs, root.mkdir(b"dir", 0o755, 0)).unwrap();
    assert!(dir.qid().kind.contains(QidKind::DIR));
    let flags = OpenFlags::READ_WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let made = run(fs, dir.create(b"file", flags, 0o640, 0)).unwrap();
    assert_eq!(run(fs, made.file.write(b"0123456789", 0)), Ok(10));
    assert_eq!(run(fs, made.file.getattr(AttrMask::ALL)).unwrap().size, 10);
    assert_eq!(
        errno(run(fs, dir.create(b"file", flags, 0o640, 0)).map(drop)),
        Errno::EEXIST
    );
    // Without EXCLUSIVE it is the one that is there.
    let again = run(fs, dir.create(b"file", OpenFlags::WRITE_ONLY, 0, 0)).unwrap();
    assert_eq!(again.node.qid().path, made.node.qid().path);
    assert_eq!(
        run(fs, again.node.getattr(AttrMask::ALL)).unwrap().mode & 0o777,
        0o640
    );

    let change = SetAttr {
        valid: SetAttrMask::SIZE | SetAttrMask::MODE,
        size: 4,
        mode: 0o600,
        ..SetAttr::default()
    };
    run(fs, made.node.setattr(&change)).unwrap();
    let attr = run(fs, made.node.getattr(AttrMask::ALL)).unwrap();
    assert_eq!((attr.size, attr.mode & 0o170_777), (4, 0o100_600));

    // The node goes with its file.
    run(fs, dir.rename(b"file", &dir, b"renamed")).unwrap();
    let node = match dialect {
        // QEMU forgets to tell the other fids of the file.
        Dialect::Unix => run(fs, dir.walk(b"renamed")).unwrap(),
        _ => made.node.clone(),
    };
    let file = run(fs, node.open(READ)).unwrap();
    assert_eq!(run(fs, file.read(&mut [0; 16], 1)), Ok(3));
    assert_eq!(errno(run(fs, dir.walk(b"file")).map(drop)), Errno::ENOENT);
    assert_eq!(
        errno(run(fs, dir.open(OpenFlags::WRITE_ONLY)).map(drop)),
        Errno::EISDIR
    );
    assert_eq!(
        errno(run(fs, node.open(OpenFlags::DIRECTORY)).map(drop)),
        Errno::ENOTDIR
    );
    assert_eq!(errno(run(fs, node.walk(b"x")).map(drop)), Errno::ENOTDIR);

    // A listing, from each entry on.
    for number in 0..40 {
        run(
            fs,
            dir.clone()
                .make(format!("{number}").as_bytes(), Make::Dir, 0o755, 0),
        )
        .unwrap();
    }
    let open = run(fs, dir.open(OpenFlags::DIRECTORY)).unwrap();
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let (before, start) = (names.len(), offset);
        let mut each = |entry: &xen9p::p9::wire::DirEntry<'_>| {
            if names.len() == before + 7 {
                return false;
            }
            offset = entry.offset;
            names.push(entry.name.to_vec());
            true
        };
        run(fs, open.readdir(start, &mut each)).unwrap();
        if names.len() == before {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 41);

    let link = run(fs, dir.symlink(b"link", b"renamed", 0)).unwrap();
    assert!(link.qid().kind.contains(QidKind::SYMLINK));
    assert_eq!(run(fs, link.readlink()).unwrap(), b"renamed");
    let way: [&[u8]; 3] = [b"dir", b"link", b"x"];
    assert_eq!(
        run(fs, root.walk_at(&way)).unwrap().map(drop),
        Walked::Link(1)
    );
    let way: [&[u8]; 3] = [b"dir", b"none", b"x"];
    let blocked = Walked::Blocked(1, Errno::ENOENT.into());
    assert_eq!(run(fs, root.walk_at(&way)).unwrap().map(drop), blocked);

    run(fs, dir.unlink(b"link", UnlinkFlags::empty())).unwrap();
    run(fs, dir.unlink(b"0", UnlinkFlags::REMOVE_DIR)).unwrap();
    assert_eq!(
        errno(run(fs, dir.unlink(b"1", UnlinkFlags::empty()))),
        Errno::EISDIR
    );
    let other = MemTree::new();
    let ns = Namespace::new(ReadOnly::new(fs.clone()));
    ns.mount(other, "/dir").unwrap();
    assert_eq!(errno(ns.rename("/dir", "/x")), Errno::EBUSY, "mounted on");
}

#[test]
fn nodes_of_a_server_in_memory() {
    let bed = bed();
    essentials(&bed.fs, Dialect::Linux);
    let node = run(&bed.fs, root(&bed.fs).walk(b"d")).unwrap();
    run(
        &bed.fs,
        node.set_xattr(b"user.x", b"1", XattrFlags::empty()),
    )
    .unwrap();
    assert_eq!(run(&bed.fs, node.xattr(b"user.x", 8)).unwrap(), b"1");
    assert_eq!(
        run(&bed.fs, node.xattr(b"user.x", 0)),
        Err(Errno::E2BIG.into())
    );
    run(&bed.fs, node.remove_xattr(b"user.x")).unwrap();
    // Of another mount of the same server.
    let other = bed.fs.attach(&MountOptions::new()).unwrap();
    let there = root(&other);
    assert_eq!(
        run(&bed.fs, node.rename(b"g", &there, b"g")),
        Err(Error::Errno(Errno::EXDEV))
    );
    drop((node, there, other));
    bed.finish();
}

#[test]
fn nodes_of_qemu_in_both_dialects() {
    for dialect in [Dialect::Linux, Dialect::Unix] {
        let export = TempDir::new().unwrap();
        let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() else {
            return;
        };
        let options = MountOptions::new().dialects(&[dialect]);
        essentials(&Fs::mount(transport, &options).unwrap(), dialect);
    }
}

/// The same name space asynchronously, as a server has it: two servers and memory behind one tree.
#[test]
fn a_name_space_is_a_tree_that_is_polled() {
    let (first, second) = (bed(), bed());
    let ns = Namespace::new(first.fs.clone());
    ns.mount(second.fs.clone(), "/d/second").unwrap();
    let memory = MemTree::new();
    memory.put("/m", "memory").unwrap();
    ns.mount(memory, "/memory").unwrap();
    let root: NsNode = ns.node();
    // The one who polls waits for either server: here for one after the other.
    let on = |fs: &Fs, way: [&[u8]; 3]| {
        let file = run(fs, root.open_at(&way, READ)).unwrap();
        let mut buffer = [0; 16];
        let count = run(fs, walked(file).read(&mut buffer, 0)).unwrap();
        buffer[..count].to_vec()
    };
    assert_eq!(on(&first.fs, [b"d", b"e", b"f"]), b"content");
    let d = run(&first.fs, root.walk(b"d")).unwrap();
    let second_root = run(&first.fs, d.walk(b"second")).unwrap();
    let g = run(&second.fs, second_root.walk_at(&[b"d", b"g"])).unwrap();
    assert_eq!(
        run(&second.fs, walked(g).getattr(AttrMask::ALL))
            .unwrap()
            .size,
        1
    );
    // The same file of two servers has two numbers.
    let mine = run(&first.fs, d.walk(b"g")).unwrap();
    let theirs = walked(run(&second.fs, second_root.walk_at(&[b"d", b"g"])).unwrap());
    assert_ne!(mine.qid().path, theirs.qid().path);
    assert_eq!(
        run(&first.fs, d.rename(b"second", &root, b"x")),
        Err(Error::Errno(Errno::EBUSY))
    );
    drop((d, second_root, mine, theirs, root, ns));
    first.finish();
    second.finish();
}
