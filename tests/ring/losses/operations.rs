//! Operations whose request is in flight when the connection is lost, on lanes without a Xen.

use std::ops::Deref;

use xen9p::fs::{Error, File, LockRange, MountOptions, OpenOptions};
use xen9p::p9::wire::kind;
use xen9p_testing::bed::recovering::{self, site_on, two_lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// Operations and what they have in flight.
pub type Act = fn(&Site) -> Result<(), Error>;

pub const ACTS: [(&str, u8, Act); 35] = [
    ("stat, open: the walk", kind::TWALK, |site| {
        site.fs.metadata("/d/f").map(drop)
    }),
    ("stat: the question", kind::TGETATTR, |site| {
        site.fs.metadata("/d/f").map(drop)
    }),
    ("open", kind::TLOPEN, |site| site.fs.open("/d/f").map(drop)),
    ("read", kind::TREAD, |site| {
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("read a link", kind::TREADLINK, |site| {
        site.fs.read_link("/d/l").map(drop)
    }),
    ("list from the beginning", kind::TREADDIR, |site| {
        site.fs
            .read_dir("/d")?
            .try_for_each(|entry| entry.map(drop))
    }),
    ("go on with a listing", kind::TREADDIR, |site| {
        let mut listing = site.fs.read_dir("/many")?;
        listing.next().expect("many")?;
        site.doom(kind::TREADDIR);
        listing.try_for_each(|entry| entry.map(drop))
    }),
    ("statistics of the file system", kind::TSTATFS, |site| {
        site.fs.statfs("/d").map(drop)
    }),
    ("read an extended attribute", kind::TXATTRWALK, |site| {
        site.fs.list_xattrs("/d/f").map(drop)
    }),
    (
        "read an extended attribute: its value",
        kind::TREAD,
        |site| {
            let value = site.fs.xattr("/d/f", "user.set")?;
            assert_eq!(value, b"value");
            Ok(())
        },
    ),
    ("write at a place", kind::TWRITE, |site| {
        site.file.write_all_at(b"xy", 1)
    }),
    ("write behind, then sync", kind::TWRITE, |site| {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .write_behind(4096)
            .open(&site.fs, "/d/f")?;
        file.write_all(b"behind")?;
        file.sync_all()
    }),
    ("sync", kind::TFSYNC, |site| site.file.sync_all()),
    ("close", kind::TCLUNK, |site| site.fs.open("/d/f")?.close()),
    ("append", kind::TWRITE, |site| {
        OpenOptions::new()
            .append(true)
            .open(&site.fs, "/d/f")?
            .write_all(b"more")
    }),
    ("open with truncation", kind::TLOPEN, |site| {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .truncate(true)
            .open(&site.fs, "/d/f")
            .map(drop)
    }),
    ("create", kind::TLCREATE, |site| {
        site.fs.create("/d/new").map(drop)
    }),
    ("make a directory", kind::TMKDIR, |site| {
        site.fs.create_dir("/d/new")
    }),
    ("make a device or pipe", kind::TMKNOD, |site| {
        site.fs.mknod("/d/new", 0o010_600, 0, 0)
    }),
    ("make a symbolic link", kind::TSYMLINK, |site| {
        site.fs.symlink("f", "/d/new")
    }),
    ("make a hard link", kind::TLINK, |site| {
        site.fs.hard_link("/d/f", "/d/new")
    }),
    ("rename", kind::TRENAMEAT, |site| {
        site.fs.rename("/d/f", "/d/new")
    }),
    ("remove a file", kind::TUNLINKAT, |site| {
        site.fs.remove_file("/d/f")
    }),
    ("remove a directory", kind::TUNLINKAT, |site| {
        site.fs.remove_dir("/empty")
    }),
    ("truncate", kind::TSETATTR, |site| {
        site.fs.truncate("/d/f", 1)
    }),
    ("change of attributes", kind::TSETATTR, |site| {
        let mode = xen9p::fs::Permissions::from_mode(0o640);
        site.fs.set_permissions("/d/f", mode)
    }),
    (
        "begin to set an extended attribute",
        kind::TXATTRCREATE,
        |site| site.fs.set_xattr("/d/f", "user.a", b"1"),
    ),
    (
        "set an extended attribute: its value",
        kind::TWRITE,
        |site| site.fs.set_xattr("/d/f", "user.a", b"1"),
    ),
    (
        "set an extended attribute: closing it",
        kind::TCLUNK,
        |site| site.fs.set_xattr("/d/f", "user.a", b"1"),
    ),
    ("lock", kind::TLOCK, |site| {
        site.file.try_lock(LockRange::ALL, true).map(drop)
    }),
    ("nothing: a file with a lock, used next", 0, |site| {
        let lock = site.file.try_lock(LockRange::ALL, true)?;
        site.lose();
        let result = site.file.write_all_at(b"z", 0);
        drop(lock);
        result
    }),
    ("nothing: an open file, used next", 0, |site| {
        site.lose();
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("nothing: a file that is removed meanwhile", 0, |site| {
        site.lose_and(|fs| fs.remove_file("/d/f").unwrap());
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("nothing: another file in its place", 0, |site| {
        site.lose_and(|fs| {
            fs.write("/foreign", b"foreign").unwrap();
            fs.rename("/foreign", "/d/f").unwrap();
        });
        site.file.read_at(&mut [0; 7], 0).map(drop)
    }),
    ("nothing: its path, used next", 0, |site| {
        site.lose();
        site.fs.read("/d/f").map(drop)
    }),
];

pub struct Site {
    mount: recovering::Site,
    file: File,
    done: bool,
}

impl Deref for Site {
    type Target = recovering::Site;

    fn deref(&self) -> &recovering::Site {
        &self.mount
    }
}

fn site(recovers: bool, done: bool) -> Site {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/d/f", b"content");
    for index in 0..2000 {
        server.put(&format!("/many/{index:0100}"), b"");
    }
    let mount = site_on(server, two_lanes(), &MountOptions::new(), recovers);
    let fs = &mount.fs;
    fs.symlink("f", "/d/l").unwrap();
    fs.create_dir("/empty").unwrap();
    fs.set_xattr("/d/f", "user.set", b"value").unwrap();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(fs, "/d/f").unwrap();
    // What was given up until now is not to be taken for what comes.
    fs.to_async().session().pump();
    fs.metadata("/").unwrap();
    Site { mount, file, done }
}

impl Site {
    fn doom(&self, kind: u8) {
        self.lose_at(&[kind], 0, self.done);
    }
}

/// What becomes of an operation, with and without recovery.
pub fn treatment(act: &(&str, u8, Act), recovers: bool, done: bool) -> String {
    let &(what, request, run) = act;
    let site = site(recovers, done);
    if request != 0 && !what.starts_with("go on") {
        site.doom(request);
    }
    let result = run(&site);
    // Some know what became of theirs before there is another connection; on that, the open file is had again.
    let again = match site.fs.stats().recoveries {
        0 => 0,
        _ => site.control.borrow().count(request) - usize::from(request == kind::TLOPEN),
    };
    let text = match result {
        Ok(()) if request == 0 => "goes on".into(),
        Ok(()) if again > 0 => "made again".into(),
        Ok(()) => "done".into(),
        Err(Error::Transport(_)) => "a transport error".into(),
        Err(error @ (Error::MaybeApplied | Error::Stale)) => format!("`{error:?}`"),
        Err(error) => panic!("{what}: {error}"),
    };
    if text == "`MaybeApplied`" {
        assert_eq!(again, 0, "{what} is not asked for again");
    }
    // Whatever came of it: the mount works.
    if recovers {
        site.fs.metadata("/").unwrap();
        let stats = site.fs.stats();
        assert_eq!((stats.losses, stats.recoveries), (1, 1), "{what}");
    }
    text
}
