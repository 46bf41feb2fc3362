//! How much a peer can use up.

use p9_tree::{Node, OpenFile};
use p9_wire::{Errno, OpenFlags, UnlinkFlags};
use std::path::Path;

use xen9pd::host::{Directory, Ledger, Limits, ProcFd};

use super::*;

fn limited(limits: Limits) -> Share {
    Share::new(Options {
        limits,
        ..Options::default()
    })
}

fn unlink(share: &Share, name: &str) {
    now(share.root.unlink(name.as_bytes(), UnlinkFlags::empty())).unwrap();
}

#[test]
fn files_are_counted_until_they_are_gone() {
    // The root and four more.
    let share = limited(Limits {
        max_files: Some(5),
        ..Limits::default()
    });
    let root = &share.root;
    create(root, "1", 0o644, NO_GROUP).unwrap();
    now(root.mkdir(b"2", 0o755, NO_GROUP)).unwrap();
    now(root.symlink(b"3", b"x", NO_GROUP)).unwrap();
    let last = now(root.mknod(b"4", 0o10644, 0, 0, NO_GROUP)).unwrap();
    let full = [
        errno(create(root, "5", 0o644, NO_GROUP)),
        errno(now(root.mkdir(b"5", 0o755, NO_GROUP))),
        errno(now(root.symlink(b"5", b"x", NO_GROUP))),
        errno(now(root.mknod(b"5", 0o10644, 0, 0, NO_GROUP))),
    ];
    assert_eq!(full, [Errno::EDQUOT; 4]);
    // Names are free, and so is a create of what is there.
    now(root.link(&share.node("1").unwrap(), b"1b")).unwrap();
    now(root.create(b"1", OpenFlags::empty(), 0, NO_GROUP)).unwrap();
    unlink(&share, "1b");
    assert_eq!(errno(create(root, "5", 0o644, NO_GROUP)), Errno::EDQUOT);
    // A file that is still in use still counts.
    unlink(&share, "4");
    assert_eq!(errno(create(root, "5", 0o644, NO_GROUP)), Errno::EDQUOT);
    drop(last);
    create(root, "5", 0o644, NO_GROUP).unwrap();
    assert_eq!(errno(create(root, "6", 0o644, NO_GROUP)), Errno::EDQUOT);
    now(root.unlink(b"2", UnlinkFlags::REMOVE_DIR)).unwrap();
    create(root, "6", 0o644, NO_GROUP).unwrap();
    // What a rename replaces is gone, too.
    assert_eq!(errno(create(root, "7", 0o644, NO_GROUP)), Errno::EDQUOT);
    now(root.rename(b"6", root, b"5")).unwrap();
    create(root, "7", 0o644, NO_GROUP).unwrap();
    // An attempt that fails takes no place.
    unlink(&share, "7");
    for _ in 0..10 {
        assert_eq!(errno(create(root, "5", 0o644, NO_GROUP)), Errno::EEXIST);
    }
    create(root, "7", 0o644, NO_GROUP).unwrap();
    assert_eq!(share.tree.usage(), Some((0, 5)));
}

#[test]
fn space_is_counted_before_it_is_used() {
    let share = limited(Limits {
        max_space: Some(40 << 10),
        ..Limits::default()
    });
    let flags = OpenFlags::READ_WRITE;
    let made = now(share.root.create(b"file", flags, 0o644, NO_GROUP)).unwrap();
    let chunk = [1; 8 << 10];
    for part in 0..5 {
        now(made.file.write(&chunk, part * (8 << 10))).unwrap();
    }
    assert_eq!(share.tree.usage(), Some((40 << 10, 2)));
    assert_eq!(errno(now(made.file.write(b"x", 40 << 10))), Errno::EDQUOT);
    assert_eq!(errno(set_len(&made.node, 1 << 30)), Errno::EDQUOT);
    let other = create(&share.root, "other", 0o644, NO_GROUP).unwrap();
    assert_eq!(errno(set_len(&other, 1)), Errno::EDQUOT);
    let append = now(other.open(OpenFlags::WRITE_ONLY | OpenFlags::APPEND)).unwrap();
    assert_eq!(errno(now(append.write(b"x", 0))), Errno::EDQUOT);
    // What is there can be written again.
    now(made.file.write(&chunk, 0)).unwrap();
    set_len(&made.node, 20 << 10).unwrap();
    assert_eq!(share.tree.usage(), Some((20 << 10, 3)));
    now(append.write(&chunk, 0)).unwrap();
    now(append.write(&chunk, 0)).unwrap();
    assert_eq!(share.tree.usage(), Some((36 << 10, 3)));
    assert_eq!(errno(now(append.write(&chunk, 0))), Errno::EDQUOT);
    // Removed but open: still there.
    unlink(&share, "file");
    assert_eq!(errno(now(append.write(&chunk, 0))), Errno::EDQUOT);
    drop(made);
    now(append.write(&chunk, 0)).unwrap();
    now(other.open(OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE)).unwrap();
    assert_eq!(share.tree.usage(), Some((0, 2)));
}

#[test]
fn what_was_there_counts() {
    let share = default_share();
    for dir in ["a", "a/b", "c"] {
        std::fs::create_dir(share.path(dir)).unwrap();
    }
    std::fs::write(share.path("a/b/file"), [0; 5000]).unwrap();
    std::fs::hard_link(share.path("a/b/file"), share.path("c/same")).unwrap();
    std::os::unix::fs::symlink(&share.outside, share.path("link")).unwrap();
    let limits = Limits {
        max_files: Some(6),
        max_space: Some(8 << 10),
        max_open_files: None,
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let tree = HostTree::open(&share.inside, options).unwrap();
    // The root, three directories, one file of two names, the link.
    assert_eq!(tree.usage(), Some((8 << 10, 6)));
    let root = tree.root(None).unwrap();
    assert_eq!(errno(create(&root, "new", 0o644, NO_GROUP)), Errno::EDQUOT);
    let c = now(root.walk(b"c")).unwrap();
    now(c.unlink(b"same", UnlinkFlags::empty())).unwrap();
    assert_eq!(tree.usage(), Some((8 << 10, 6)), "it has another name");
}

#[test]
fn open_files_have_a_limit_of_their_own() {
    let share = limited(Limits {
        max_open_files: Some(3),
        ..Limits::default()
    });
    let node = share.make("file", b"");
    let mut open: Vec<_> = (0..3)
        .map(|_| now(node.open(OpenFlags::empty())).unwrap())
        .collect();
    assert_eq!(errno(now(node.open(OpenFlags::empty()))), Errno::EMFILE);
    assert_eq!(
        errno(now(share.root.open(OpenFlags::DIRECTORY))),
        Errno::EMFILE
    );
    assert_eq!(
        errno(create(&share.root, "new", 0o644, NO_GROUP)),
        Errno::EMFILE
    );
    assert!(!share.path("new").exists());
    open.pop();
    now(node.open(OpenFlags::empty())).unwrap();
    drop(open);
    assert_eq!(share.tree.open_files(), 0);
}

/// Descriptors that run out are an error of the request, and the server goes on.
#[test]
fn running_out_of_descriptors_is_an_error_like_others() {
    // In a process of its own: the limit holds for all threads.
    let exe = std::env::current_exe().unwrap();
    let status = std::process::Command::new(exe)
        .args(["--ignored", "--exact", "limits::with_few_descriptors"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "lowers this process's limit: run by the test before it"]
fn with_few_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let share = default_share();
    for number in 0..100 {
        share.make(&number.to_string(), b"");
    }
    let few = Rlimit {
        current: Some(50),
        maximum: Some(50),
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut held = Vec::new();
    let error = loop {
        match share.node(&held.len().to_string()) {
            Ok(node) => held.push(node),
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Errno::EMFILE);
    assert_eq!(errno(now(held[0].open(OpenFlags::empty()))), Errno::EMFILE);
    assert_eq!(
        errno(create(&share.root, "new", 0o644, NO_GROUP)),
        Errno::EMFILE
    );
    held.truncate(10);
    read(&held[0]).unwrap();
    create(&share.root, "new2", 0o644, NO_GROUP).unwrap();
}

/// The share as another process serves it, which has the same numbers.
fn counted_in(ledgers: &Path, inside: &Path, limits: Limits) -> (HostTree, HostNode) {
    let directory = Directory::open(inside).unwrap();
    let ledger = Ledger::shared(ledgers, &directory).unwrap();
    let options = Options {
        limits,
        ..Options::default()
    };
    let proc = ProcFd::open().unwrap();
    let tree = HostTree::new(directory.into(), proc, options, Some(ledger)).unwrap();
    let root = tree.root(None).unwrap();
    (tree, root)
}

#[test]
fn limits_hold_for_all_processes_that_serve_the_directory() {
    let share = default_share();
    let ledgers = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_files: Some(4),
        max_space: Some(40 << 10),
        max_open_files: None,
    };
    let join = || counted_in(ledgers.path(), &share.inside, limits);
    let ((tree, one), (_, two)) = (join(), join());
    let flags = OpenFlags::READ_WRITE;
    let made = now(one.create(b"file", flags, 0o644, NO_GROUP)).unwrap();
    now(made.file.write(&[1; 16 << 10], 0)).unwrap();
    // The same file by two ways counts once, however far each has written.
    let same = now(now(two.walk(b"file")).unwrap().open(flags)).unwrap();
    now(same.write(&[2; 24 << 10], 0)).unwrap();
    now(made.file.write(&[3; 24 << 10], 0)).unwrap();
    assert_eq!(tree.usage(), Some((24 << 10, 2)));
    let other = now(two.create(b"other", flags, 0o644, NO_GROUP)).unwrap();
    assert_eq!(
        errno(now(other.file.write(&[1; 20 << 10], 0))),
        Errno::EDQUOT
    );
    now(other.file.write(&[1; 16 << 10], 0)).unwrap();
    create(&one, "third", 0o644, NO_GROUP).unwrap();
    assert_eq!(
        errno(create(&two, "fourth", 0o644, NO_GROUP)),
        Errno::EDQUOT
    );
    // One removes what the other has open: it counts until that is closed.
    drop(same);
    now(two.unlink(b"file", UnlinkFlags::empty())).unwrap();
    assert_eq!(tree.usage(), Some((40 << 10, 4)));
    assert_eq!(errno(now(other.file.write(b"x", 16 << 10))), Errno::EDQUOT);
    drop(made);
    assert_eq!(tree.usage(), Some((16 << 10, 3)));
    now(two.mkdir(b"dir", 0o755, NO_GROUP)).unwrap();
    // A rename to itself removes nothing.
    now(one.rename(b"dir", &two, b"dir")).unwrap();
    now(one.rename(b"other", &two, b"other")).unwrap();
    assert_eq!(tree.usage(), Some((16 << 10, 4)));
    now(one.unlink(b"dir", UnlinkFlags::REMOVE_DIR)).unwrap();
    assert_eq!(tree.usage(), Some((16 << 10, 3)));
}

#[test]
fn what_others_did_counts_when_the_first_process_begins_anew() {
    let share = default_share();
    let ledgers = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_files: Some(100),
        ..Limits::default()
    };
    let join = || counted_in(ledgers.path(), &share.inside, limits);
    let first = join();
    share.make("behind its back", &[0; 5000]);
    let second = join();
    assert_eq!(second.0.usage(), Some((0, 1)));
    drop((first, second));
    assert_eq!(join().0.usage(), Some((8 << 10, 2)));
}

/// Changes that meet one another leave the numbers that counting anew would.
#[test]
fn numbers_stay_right_while_two_processes_work_on_the_same_files() {
    let share = default_share();
    let ledgers = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_space: Some(1 << 30),
        ..Limits::default()
    };
    let join = || counted_in(ledgers.path(), &share.inside, limits);
    let processes = [join(), join()];
    std::thread::scope(|scope| {
        for number in 0_u64..4 {
            let root = &processes[number as usize % 2].1;
            scope.spawn(move || {
                let flags = OpenFlags::READ_WRITE;
                let mut random = number + 1;
                for _ in 0..500 {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(7);
                    let name = [b'a' + (random >> 33) as u8 % 3];
                    let Ok(made) = now(root.create(&name, flags, 0o644, NO_GROUP)) else {
                        continue;
                    };
                    let size = (random >> 40) % 50_000;
                    match (random >> 60) % 4 {
                        // Another may have been quicker.
                        0 if random & 1 << 20 == 0 => {
                            let _ = now(root.rename(&name, root, b"a"));
                        }
                        0 => {
                            let _ = now(root.unlink(&name, UnlinkFlags::empty()));
                        }
                        1 => set_len(&made.node, size).unwrap(),
                        2 => drop(now(made.node.open(flags | OpenFlags::TRUNCATE)).unwrap()),
                        _ => drop(now(made.file.write(&vec![1; 5000], size)).unwrap()),
                    }
                }
            });
        }
    });
    let counted = processes[0].0.usage();
    drop(processes);
    assert_eq!(counted, join().0.usage());
}
