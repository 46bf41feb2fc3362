//! Trees in memory, made-up files, read-only views, overlays: what each promises, called as a server calls it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use p9_tree::trees::{MemNode, MemTree, OverlayNode, ReadOnlyNode, Synthetic};
use p9_tree::{
    DynNode, Error, FileTimes, NeverWaits, Node, OpenFile, Result, SystemTime, Walked, block_on,
};
use p9_wire::{
    AttrMask, Errno, FileKind, OpenFlags, QidKind, SetAttr, SetAttrMask, UnlinkFlags, XattrFlags,
};

const READ: OpenFlags = OpenFlags::empty();
const WRITE: OpenFlags = OpenFlags::WRITE_ONLY;
const FILE: UnlinkFlags = UnlinkFlags::empty();
const DIR: UnlinkFlags = UnlinkFlags::REMOVE_DIR;

fn run<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    block_on(&NeverWaits, operation)
}

fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    match result {
        Err(Error::Errno(errno)) => errno,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Walks from one node to another.
fn at<N: Node>(root: &N, path: &str) -> Result<N> {
    let mut node = root.clone();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        node = run(node.walk(name.as_bytes()))?;
    }
    Ok(node)
}

fn content<N: Node>(root: &N, path: &str) -> Result<String> {
    let file = run(at(root, path)?.open(READ))?;
    let mut content = Vec::new();
    let mut buffer = [0; 7];
    loop {
        match run(file.read(&mut buffer, content.len() as u64))? {
            0 => break,
            count => content.extend_from_slice(&buffer[..count]),
        }
    }
    run(file.close())?;
    Ok(String::from_utf8(content).unwrap())
}

fn write<N: Node>(root: &N, path: &str, content: &str) -> Result<()> {
    let (dir, name) = path.rsplit_once('/').unwrap();
    let dir = at(root, dir)?;
    let flags = OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    let file = run(dir.into_create(name.as_bytes(), flags, 0o644, 0))?;
    assert_eq!(run(file.write(content.as_bytes(), 0))?, content.len());
    run(file.close())
}

fn names<N: Node>(root: &N, path: &str) -> Result<Vec<String>> {
    let dir = run(at(root, path)?.open(OpenFlags::DIRECTORY))?;
    let mut names = Vec::new();
    // In pieces of two, as a small message would have it.
    let mut offset = 0;
    loop {
        let before = names.len();
        run(dir.readdir(offset, &mut |entry| {
            if names.len() == before + 2 {
                return false;
            }
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            offset = entry.offset;
            true
        }))?;
        if names.len() == before {
            names.sort();
            return Ok(names);
        }
    }
}

fn tree(files: &[(&str, &str)]) -> MemNode {
    let tree = MemTree::new();
    for (path, content) in files {
        tree.put(path, content).unwrap();
    }
    tree.root()
}

#[test]
fn nodes_stay_with_their_files() {
    let root = tree(&[("/a/f", "1"), ("/b/g", "2")]);
    let (a, b, f) = (
        at(&root, "a").unwrap(),
        at(&root, "b").unwrap(),
        at(&root, "a/f").unwrap(),
    );
    run(a.rename(b"f", &b, b"h")).unwrap();
    let open = run(f.open(READ)).unwrap();
    assert_eq!(run(open.read(&mut [0; 4], 0)), Ok(1));
    assert_eq!(at(&root, "b/h").unwrap().qid(), f.qid());
    run(b.unlink(b"h", FILE)).unwrap();
    // Removed, and still there for those who have it.
    assert_eq!(run(f.getattr(AttrMask::ALL)).unwrap().nlink, 0);
    assert_eq!(run(open.read(&mut [0; 4], 0)), Ok(1));
    assert_eq!(errno(at(&root, "b/h")), Errno::ENOENT);

    // A directory that was removed takes no new names.
    run(root.unlink(b"a", DIR)).unwrap();
    assert_eq!(errno(run(a.mkdir(b"x", 0o755, 0))), Errno::ENOENT);
    assert_eq!(errno(run(b.rename(b"g", &a, b"g"))), Errno::ENOENT);
}

#[test]
fn a_directory_is_never_moved_below_itself() {
    let root = tree(&[("/a/b/c/f", "1")]);
    let (a, c) = (at(&root, "a").unwrap(), at(&root, "a/b/c").unwrap());
    assert_eq!(errno(run(root.rename(b"a", &c, b"x"))), Errno::EINVAL);
    assert_eq!(errno(run(root.rename(b"a", &a, b"x"))), Errno::EINVAL);
    // Up is no circle, and what was above may go below then.
    run(at(&root, "a/b").unwrap().rename(b"c", &root, b"c")).unwrap();
    run(root.rename(b"a", &c, b"a")).unwrap();
    assert_eq!(names(&root, "c/a"), Ok(vec!["b".into()]));
    let other = tree(&[]);
    assert_eq!(errno(run(root.rename(b"c", &other, b"c"))), Errno::EXDEV);
}

#[test]
fn attributes_are_set_all_or_none() {
    let clock = Rc::new(Cell::new(5));
    let now = clock.clone();
    let tree = MemTree::with_clock(4096, move || SystemTime::new(now.get(), 0));
    tree.put("/f", "123").unwrap();
    let f = at(&tree.root(), "f").unwrap();
    let version = f.qid().version;
    clock.set(6);
    let mut change = FileTimes::now().to_setattr();
    change.valid |= SetAttrMask::SIZE | SetAttrMask::MODE | SetAttrMask::UID;
    (change.mode, change.uid, change.size) = (0o100_600, 7, 1 << 30);
    assert_eq!(errno(run(f.setattr(&change))), Errno::ENOSPC);
    assert_eq!(run(f.getattr(AttrMask::ALL)).unwrap().mode, 0o100_644);
    change.size = 1;
    run(f.setattr(&change)).unwrap();
    let attr = run(f.getattr(AttrMask::ALL)).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o100_600, 7, 0));
    assert_eq!((attr.size, attr.mtime.secs, attr.ctime.secs), (1, 6, 6));
    assert!(f.qid().version > version, "the content has changed");
}

#[test]
fn a_directory_with_a_group_gives_it_to_what_is_made_there() {
    let root = tree(&[]);
    let dir = run(root.mkdir(b"d", 0o2775, 5)).unwrap();
    let sub = run(dir.mkdir(b"s", 0o755, 0)).unwrap();
    let file = run(dir.create(b"f", WRITE, 0o644, 9)).unwrap().node;
    for (node, mode) in [(sub, 0o042_755), (file, 0o100_644)] {
        let attr = run(node.getattr(AttrMask::ALL)).unwrap();
        assert_eq!((attr.mode, attr.gid), (mode, 5));
    }
}

#[test]
fn what_is_no_regular_file_or_no_directory_is_told_so() {
    let root = tree(&[("/f", "1"), ("/d/g", "")]);
    let link = run(root.symlink(b"l", b"f", 0)).unwrap();
    assert_eq!(run(link.readlink()).unwrap(), b"f");
    assert!(link.qid().kind.contains(QidKind::SYMLINK));
    assert_eq!(errno(run(link.open(READ))), Errno::ELOOP);
    let (f, d) = (at(&root, "f").unwrap(), at(&root, "d").unwrap());
    assert_eq!(errno(run(f.open(OpenFlags::DIRECTORY))), Errno::ENOTDIR);
    assert_eq!(errno(run(d.open(WRITE))), Errno::EISDIR);
    assert_eq!(errno(run(f.walk(b"x"))), Errno::ENOTDIR);
    assert_eq!(errno(run(f.readlink())), Errno::EINVAL);
    assert_eq!(errno(run(root.unlink(b"d", FILE))), Errno::EISDIR);
    assert_eq!(errno(run(root.unlink(b"d", DIR))), Errno::ENOTEMPTY);
    assert_eq!(errno(run(root.unlink(b"f", DIR))), Errno::ENOTDIR);
    assert_eq!(
        errno(run(root.create(b"f", OpenFlags::EXCLUSIVE, 0o644, 0))),
        Errno::EEXIST
    );
    let fifo = FileKind::FIFO.bits() | 0o644;
    assert_eq!(errno(run(root.mknod(b"p", fifo, 0, 0, 0))), Errno::EPERM);
    let open = run(d.open(READ)).unwrap();
    assert_eq!(errno(run(open.read(&mut [0; 4], 0))), Errno::EISDIR);
    let open = run(f.open(READ)).unwrap();
    assert_eq!(errno(run(open.write(b"x", 0))), Errno::EBADF);
    assert_eq!(errno(run(open.readdir(0, &mut |_| true))), Errno::ENOTDIR);
}

#[test]
fn several_names_at_once_tell_where_the_way_ends() {
    let root = tree(&[("/d/f", "1")]);
    run(at(&root, "d").unwrap().symlink(b"l", b"/", 0)).unwrap();
    let way = |names: &[&str]| {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        run(root.walk_at(&names)).unwrap().map(drop)
    };
    let through = |path| Walked::Through((), at(&root, path).unwrap().qid());
    assert_eq!(way(&[]), through(""));
    assert_eq!(way(&["d", "f"]), through("d/f"));
    assert_eq!(way(&["d", "l"]), through("d/l"));
    assert_eq!(way(&["d", "l", "x"]), Walked::Link(1));
    assert_eq!(
        way(&["d", "no", "x"]),
        Walked::Blocked(1, Errno::ENOENT.into())
    );
    assert_eq!(
        way(&["d", "f", "x"]),
        Walked::Blocked(2, Errno::ENOTDIR.into())
    );
    let open = run(root.open_at(&[b"d", b"l"], READ)).unwrap();
    assert_eq!(open.map(drop), Walked::Link(1));
    let attr = run(root.getattr_at(&[b"d", b"f"], AttrMask::SIZE)).unwrap();
    assert_eq!(
        attr.map(|attr| attr.size),
        match through("d/f") {
            Walked::Through((), qid) => Walked::Through(1, qid),
            other => panic!("{other:?}"),
        }
    );
}

#[test]
fn made_up_files_are_made_up_by_functions() {
    let said = Rc::new(RefCell::new(Vec::new()));
    let (count, into) = (Cell::new(0), said.clone());
    let dev = MemTree::new();
    let produce = move || {
        count.set(count.get() + 1);
        Ok(format!("{}\n", count.get()).into_bytes())
    };
    dev.put_synthetic("/count", Synthetic::new().read(produce))
        .unwrap();
    let take = move |bytes: &[u8]| {
        into.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    };
    dev.put_synthetic("/say", Synthetic::new().write(take))
        .unwrap();
    let root = dev.root();
    assert_eq!(content(&root, "count").unwrap(), "1\n");
    assert_eq!(content(&root, "count").unwrap(), "2\n");
    assert_eq!(errno(content(&root, "say")), Errno::EACCES);
    assert_eq!(
        errno(run(at(&root, "count").unwrap().open(WRITE))),
        Errno::EACCES
    );
    // As a shell of a Linux guest does it.
    let say = at(&root, "say").unwrap();
    let empty = SetAttr {
        valid: SetAttrMask::SIZE,
        ..SetAttr::default()
    };
    run(say.setattr(&empty)).unwrap();
    let open = run(say.open(WRITE | OpenFlags::TRUNCATE)).unwrap();
    assert_eq!(run(open.write(b"hello", 100)), Ok(5));
    assert_eq!(*said.borrow(), b"hello");
}

#[test]
fn made_up_files_may_be_lines_of_text() {
    let number = Rc::new(Cell::new(0));
    let (shown, set) = (number.clone(), number);
    let take = move |line: &str| {
        set.set(line.parse().map_err(|_| Errno::ERANGE)?);
        Ok(())
    };
    let dev = MemTree::new();
    let file = Synthetic::new()
        .read_text(move || shown.get())
        .write_text(take);
    dev.put_synthetic("/number", file).unwrap();
    let root = dev.root();
    assert_eq!(content(&root, "number").unwrap(), "0\n");
    let open = run(at(&root, "number").unwrap().open(WRITE)).unwrap();
    assert_eq!(run(open.write(b"-17\r\n", 0)), Ok(5));
    assert_eq!(content(&root, "number").unwrap(), "-17\n");
    assert_eq!(errno(run(open.write(b"1\xff", 0))), Errno::EINVAL);
    assert_eq!(errno(run(open.write(b"1\n2\n", 0))), Errno::ERANGE);
    assert_eq!(content(&root, "number").unwrap(), "-17\n");
}

#[test]
fn a_read_only_view_changes_nothing() {
    let below = tree(&[("/d/f", "1")]);
    let view = ReadOnlyNode::new(below.clone());
    assert_eq!(content(&view, "d/f").unwrap(), "1");
    assert_eq!(names(&view, "d").unwrap(), ["f"]);
    let (d, f) = (at(&view, "d").unwrap(), at(&view, "d/f").unwrap());
    let erofs = |result: Result<()>| assert_eq!(errno(result), Errno::EROFS);
    erofs(run(f.open(WRITE)).map(drop));
    erofs(run(f.open(OpenFlags::TRUNCATE)).map(drop));
    erofs(run(f.setattr(&SetAttr::default())));
    erofs(run(f.set_xattr(b"user.x", b"1", XattrFlags::empty())));
    erofs(run(f.remove_xattr(b"user.x")));
    erofs(run(d.create(b"g", WRITE, 0o644, 0)).map(drop));
    erofs(run(d.mkdir(b"g", 0o755, 0)).map(drop));
    erofs(run(d.symlink(b"g", b"f", 0)).map(drop));
    erofs(run(d.mknod(b"g", 0o644, 0, 0, 0)).map(drop));
    erofs(run(d.link(&f, b"g")));
    erofs(run(d.rename(b"f", &d, b"g")));
    erofs(run(d.unlink(b"f", FILE)));
    erofs(run(view.open_at(&[b"d", b"f"], WRITE)).map(drop));
    assert_eq!(errno(run(d.open(WRITE))), Errno::EISDIR);
    let open = run(f.open(READ)).unwrap();
    assert_eq!(errno(run(open.write(b"x", 0))), Errno::EBADF);
    erofs(run(open.setattr(&SetAttr::default())));
    assert_eq!(content(&below, "d/f").unwrap(), "1");
    assert_eq!(names(&below, "d").unwrap(), ["f"]);
}

/// An overlay, its lower and its upper tree.
fn overlay(
    lower: &[(&str, &str)],
    upper: &[(&str, &str)],
) -> (OverlayNode<MemNode, MemNode>, MemNode, MemNode) {
    let (lower, upper) = (tree(lower), tree(upper));
    let both = OverlayNode::new(lower.clone(), upper.clone()).unwrap();
    (both, lower, upper)
}

#[test]
fn an_overlay_is_both_trees() {
    let (both, ..) = overlay(
        &[("/d/low", "l"), ("/d/both", "old"), ("/mixed/f", "l")],
        &[("/d/up", "u"), ("/d/both", "new"), ("/mixed", "file")],
    );
    assert_eq!(names(&both, "").unwrap(), ["d", "mixed"]);
    assert_eq!(names(&both, "d").unwrap(), ["both", "low", "up"]);
    for (path, text) in [
        ("d/low", "l"),
        ("d/up", "u"),
        ("d/both", "new"),
        ("mixed", "file"),
    ] {
        assert_eq!(content(&both, path).unwrap(), text);
    }
    assert_eq!(errno(at(&both, "mixed/f")), Errno::ENOTDIR);
    // The numbers in a listing are those of the nodes.
    let dir = run(at(&both, "d").unwrap().open(READ)).unwrap();
    let mut numbers = Vec::new();
    run(dir.readdir(0, &mut |entry| {
        numbers.push((entry.name.to_vec(), entry.qid.path));
        true
    }))
    .unwrap();
    for (name, number) in numbers {
        let node = at(&both, &format!("d/{}", str::from_utf8(&name).unwrap())).unwrap();
        assert_eq!(node.qid().path, number, "{name:?}");
        assert_eq!(run(node.getattr(AttrMask::ALL)).unwrap().qid.path, number);
    }
}

#[test]
fn what_changes_is_copied_up_and_the_lower_tree_stays() {
    let (both, lower, upper) = overlay(&[("/a/b/f", "old"), ("/a/b/g", "g")], &[]);
    let f = at(&both, "a/b/f").unwrap();
    let number = f.qid().path;
    let reader = run(f.open(READ)).unwrap();
    let writer = run(f.open(WRITE)).unwrap();
    run(writer.write(b"new!", 0)).unwrap();
    assert_eq!(content(&both, "a/b/f").unwrap(), "new!");
    assert_eq!(content(&upper, "a/b/f").unwrap(), "new!");
    assert_eq!(content(&lower, "a/b/f").unwrap(), "old");
    assert_eq!(names(&upper, "a/b").unwrap(), ["f"]);
    // As the documentation has it, and as overlayfs does.
    let mut four = [0; 4];
    assert_eq!(run(reader.read(&mut four, 0)), Ok(3));
    assert_eq!(run(reader.getattr(AttrMask::ALL)).unwrap().size, 4);
    assert_eq!(at(&both, "a/b/f").unwrap().qid().path, number);

    let change = SetAttr {
        valid: SetAttrMask::MODE,
        mode: 0o100_600,
        ..SetAttr::default()
    };
    run(at(&both, "a/b/g").unwrap().setattr(&change)).unwrap();
    assert_eq!(content(&upper, "a/b/g").unwrap(), "g");
    let mode = |root: &MemNode| {
        run(at(root, "a/b/g").unwrap().getattr(AttrMask::MODE))
            .unwrap()
            .mode
    };
    assert_eq!((mode(&upper), mode(&lower)), (0o100_600, 0o100_644));
    // What is emptied is not copied before.
    write(&both, "/a/b/g", "").unwrap();
    assert_eq!(content(&both, "a/b/g").unwrap(), "");
}

#[test]
fn what_is_removed_from_an_overlay_stays_so_and_can_be_made_again() {
    let (both, lower, upper) = overlay(
        &[("/d/f", "old"), ("/d/g", "g"), ("/e/x", "x")],
        &[("/d/h", "h")],
    );
    let d = at(&both, "d").unwrap();
    assert_eq!(errno(run(both.unlink(b"d", DIR))), Errno::ENOTEMPTY);
    for name in [b"f", b"g", b"h"] {
        run(d.unlink(name, FILE)).unwrap();
        assert_eq!(errno(run(d.walk(name))), Errno::ENOENT);
    }
    assert_eq!(names(&both, "d").unwrap(), [""; 0]);
    write(&both, "/d/f", "again").unwrap();
    assert_eq!(names(&both, "d").unwrap(), ["f"]);
    run(d.unlink(b"f", FILE)).unwrap();
    drop(d);
    run(both.unlink(b"d", DIR)).unwrap();
    assert_eq!(names(&both, "").unwrap(), ["e"]);
    // A directory of the same name is a new one.
    run(both.mkdir(b"d", 0o755, 0)).unwrap();
    assert_eq!(names(&both, "d").unwrap(), [""; 0]);
    drop(both);

    // Put together again later, it is the same.
    let both = OverlayNode::new(lower.clone(), upper.clone()).unwrap();
    assert_eq!(names(&both, "").unwrap(), ["d", "e"]);
    assert_eq!(names(&both, "d").unwrap(), [""; 0]);
    assert_eq!(names(&lower, "d").unwrap(), ["f", "g"]);
    assert_eq!(errno(at(&both, ".wh.d")), Errno::ENOENT);
    assert_eq!(errno(run(both.mkdir(b".wh.e", 0o755, 0))), Errno::EPERM);
}

#[test]
fn files_of_an_overlay_are_renamed_and_its_lower_directories_are_not() {
    let (both, lower, upper) = overlay(
        &[("/d/f", "f"), ("/d/t", "t"), ("/low/x", "x")],
        &[("/up/y", "y")],
    );
    let (d, up) = (at(&both, "d").unwrap(), at(&both, "up").unwrap());
    let f = at(&both, "d/f").unwrap();
    run(d.rename(b"f", &up, b"g")).unwrap();
    assert_eq!(errno(at(&both, "d/f")), Errno::ENOENT);
    assert_eq!(content(&both, "up/g").unwrap(), "f");
    assert_eq!(at(&both, "up/g").unwrap().qid(), f.qid());
    run(up.rename(b"g", &d, b"t")).unwrap();
    assert_eq!(content(&both, "d/t").unwrap(), "f");
    assert_eq!(errno(run(both.rename(b"low", &both, b"z"))), Errno::EXDEV);
    // A directory of the upper tree goes in the place of an emptied one of the lower tree, and nothing shines through.
    let low = at(&both, "low").unwrap();
    assert_eq!(
        errno(run(both.rename(b"up", &both, b"low"))),
        Errno::ENOTEMPTY
    );
    run(low.unlink(b"x", FILE)).unwrap();
    drop(low);
    run(both.rename(b"up", &both, b"low")).unwrap();
    assert_eq!(names(&both, "low").unwrap(), ["y"]);
    drop((d, up, f, both));
    let both = OverlayNode::new(lower.clone(), upper).unwrap();
    assert_eq!(names(&both, "low").unwrap(), ["y"]);
    assert_eq!(names(&both, "d").unwrap(), ["t"]);
    assert_eq!(names(&lower, "d").unwrap(), ["f", "t"]);
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let lower = tree(&[("/d/f", &"x".repeat(8000))]);
    let upper = MemTree::with_limit(4000);
    let both = OverlayNode::new(lower, upper.root()).unwrap();
    let f = at(&both, "d/f").unwrap();
    assert_eq!(errno(run(f.open(WRITE))), Errno::ENOSPC);
    assert_eq!(names(&upper.root(), "d").unwrap(), [""; 0]);
    assert_eq!(content(&both, "d/f").unwrap().len(), 8000);
    // What needs no content has room.
    run(f.open(WRITE | OpenFlags::TRUNCATE)).unwrap();
    assert_eq!(content(&both, "d/f").unwrap(), "");
}

#[test]
fn trees_of_all_types_are_one_type() {
    let mem = tree(&[("/d/f", "1")]);
    let over = OverlayNode::new(ReadOnlyNode::new(mem.clone()), tree(&[])).unwrap();
    let (mem, over) = (DynNode::new(mem), DynNode::new(over));
    for root in [&mem, &over] {
        assert_eq!(content(root, "d/f").unwrap(), "1");
        write(root, "/d/g", "2").unwrap();
        assert_eq!(names(root, "d").unwrap(), ["f", "g"]);
        let d = at(root, "d").unwrap();
        run(d.rename(b"g", root, b"h")).unwrap();
        run(root.unlink(b"h", FILE)).unwrap();
    }
    assert_eq!(errno(run(mem.rename(b"d", &over, b"x"))), Errno::EXDEV);
    assert_eq!(
        errno(run(over.link(&at(&mem, "d/f").unwrap(), b"x"))),
        Errno::EXDEV
    );
    assert!(mem.downcast::<MemNode>().is_some());
}
