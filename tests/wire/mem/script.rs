//! The requests that our server in memory and QEMU's are both asked, and short ways to say them.

use xen9p::p9::wire::*;

use super::{A, B, C, DIR, NOT_DIR, ROOT, RW};

pub(super) fn walk<'a>(fid: Fid, newfid: Fid, names: &[&'a [u8]]) -> Request<'a> {
    Request::Walk {
        fid,
        newfid,
        names: Names::from_slice(names).unwrap(),
    }
}

pub(super) fn clunk(fid: Fid) -> Request<'static> {
    Request::Clunk { fid }
}

fn mkdir(name: &[u8]) -> Request<'_> {
    Request::Mkdir {
        dfid: ROOT,
        name,
        mode: 0o755,
        gid: 0,
    }
}

fn create(fid: Fid, name: &[u8], flags: OpenFlags) -> Request<'_> {
    Request::Lcreate {
        fid,
        name,
        flags: flags | OpenFlags::CREATE,
        mode: 0o640,
        gid: 0,
    }
}

pub(super) fn write(fid: Fid, offset: u64, data: &[u8]) -> Request<'_> {
    Request::Write {
        fid,
        offset,
        data: Payload::from(data),
    }
}

pub(super) fn read(fid: Fid, offset: u64) -> Request<'static> {
    Request::Read {
        fid,
        offset,
        count: 1000,
    }
}

fn getattr(fid: Fid) -> Request<'static> {
    Request::Getattr {
        fid,
        mask: AttrMask::BASIC,
    }
}

pub(super) fn open(fid: Fid, flags: OpenFlags) -> Request<'static> {
    Request::Lopen { fid, flags }
}

pub(super) fn unlink(name: &[u8], flags: UnlinkFlags) -> Request<'_> {
    Request::Unlinkat {
        dirfid: ROOT,
        name,
        flags,
    }
}

fn rename<'a>(oldname: &'a [u8], newname: &'a [u8]) -> Request<'a> {
    Request::Renameat {
        olddirfid: ROOT,
        oldname,
        newdirfid: ROOT,
        newname,
    }
}

fn set(fid: Fid, valid: SetAttrMask, mode: u32, size: u64) -> Request<'static> {
    Request::Setattr {
        fid,
        attr: SetAttr {
            valid,
            mode,
            size,
            ..SetAttr::default()
        },
    }
}

pub(super) fn script() -> Vec<Request<'static>> {
    const LONG: &[u8] = &[b'n'; 256];
    let attach = |fid| Request::Attach {
        fid,
        afid: Fid::NONE,
        uname: b"root",
        aname: b"",
        n_uname: 0,
    };
    let symlink = |name, target| Request::Symlink {
        dfid: ROOT,
        name,
        target,
        gid: 0,
    };
    let link = |fid, name| Request::Link {
        dfid: ROOT,
        fid,
        name,
    };
    let xattr = |size, flags| Request::Xattrcreate {
        fid: B,
        name: b"user.x",
        size,
        flags,
    };
    let xwalk = |name| Request::Xattrwalk {
        fid: A,
        newfid: B,
        name,
    };
    let none = XattrFlags::empty();
    let readdir = |offset| Request::Readdir {
        fid: A,
        offset,
        count: 8000,
    };
    [
        &[attach(ROOT), attach(ROOT), getattr(ROOT)][..],
        // Names that are none, and names that are taken.
        &[
            mkdir(b"dir"),
            mkdir(b"dir"),
            mkdir(b"."),
            mkdir(b".."),
            mkdir(b""),
            mkdir(b"a/b"),
            mkdir(LONG),
        ],
        &[
            walk(ROOT, A, &[LONG]),
            walk(ROOT, A, &[b"no"]),
            walk(ROOT, A, &[b"dir", b"no", b"no"]),
        ],
        &[
            walk(ROOT, A, &[b"dir"]),
            walk(ROOT, A, &[b"dir"]),
            walk(A, B, &[b".."]),
            clunk(B),
        ],
        &[walk(ROOT, B, &[b".."]), getattr(B), clunk(B), clunk(B)],
        // Fids that are none.
        &[
            getattr(C),
            read(C, 0),
            write(C, 0, b"x"),
            set(C, SetAttrMask::MODE, 0, 0),
            open(C, RW),
            walk(C, A, &[]),
        ],
        &[
            create(C, b"x", RW),
            Request::Readdir {
                fid: C,
                offset: 0,
                count: 900,
            },
            Request::Remove { fid: C },
        ],
        &[
            Request::Readdir {
                fid: A,
                offset: 0,
                count: 900,
            },
            walk(ROOT, A, &[b"dir"]),
            link(C, b"x"),
        ],
        // Files.
        &[
            create(A, b"file", RW),
            create(A, b"again", RW),
            write(A, 3, b"abc"),
            read(A, 0),
            read(A, 100),
        ],
        &[write(A, 1 << 63, b"x"), read(A, 1), open(A, RW), getattr(A)],
        &[
            walk(ROOT, B, &[b"dir", b"file"]),
            read(B, 0),
            write(B, 0, b"x"),
            walk(B, C, &[b"x"]),
        ],
        &[
            open(B, OpenFlags::WRITE_ONLY | OpenFlags::APPEND),
            write(B, 0, b"end"),
            read(B, 0),
            clunk(B),
        ],
        &[
            walk(ROOT, B, &[b"dir"]),
            create(B, b"file", RW | OpenFlags::EXCLUSIVE),
            create(B, b"file", RW),
        ],
        &[
            read(B, 0),
            set(B, SetAttrMask::SIZE, 0, 2),
            set(B, SetAttrMask::MODE, 0o604, 0),
            getattr(A),
            clunk(B),
        ],
        &[
            walk(ROOT, B, &[b"dir", b"file"]),
            open(B, RW | OpenFlags::TRUNCATE),
            read(A, 0),
            clunk(B),
            clunk(A),
        ],
        // Directories.
        &[
            walk(ROOT, A, &[b"dir"]),
            open(A, OpenFlags::DIRECTORY),
            readdir(0),
            clunk(A),
        ],
        &[
            walk(ROOT, A, &[b"dir", b"file"]),
            set(A, SetAttrMask::SIZE, 0, 9),
            open(A, OpenFlags::DIRECTORY),
            clunk(A),
        ],
        &[
            unlink(b"no", NOT_DIR),
            unlink(b"dir", NOT_DIR),
            unlink(b"dir", DIR),
        ],
        // Links.
        &[
            symlink(b"sym", b"/to/where"),
            symlink(b"sym", b"x"),
            walk(ROOT, A, &[b"sym"]),
            open(A, RW),
        ],
        &[
            Request::Readlink { fid: A },
            getattr(A),
            clunk(A),
            walk(ROOT, A, &[b"sym", b"x"]),
        ],
        &[
            walk(ROOT, A, &[b"dir", b"file"]),
            link(A, b"hard"),
            link(A, b"hard"),
            getattr(A),
            clunk(A),
        ],
        &[
            walk(ROOT, A, &[b"dir"]),
            link(A, b"harddir"),
            Request::Readlink { fid: A },
            clunk(A),
        ],
        // Renames.
        &[
            mkdir(b"empty"),
            rename(b"hard", b"empty"),
            rename(b"empty", b"hard"),
            rename(b"empty", b"dir"),
        ],
        &[
            rename(b"dir", b"empty"),
            rename(b"no", b"x"),
            rename(b"hard", b"moved"),
            walk(ROOT, A, &[b"empty"]),
        ],
        &[
            Request::Renameat {
                olddirfid: ROOT,
                oldname: b"empty",
                newdirfid: A,
                newname: b"inside",
            },
            clunk(A),
        ],
        &[
            walk(ROOT, A, &[b"moved"]),
            Request::Rename {
                fid: A,
                dfid: ROOT,
                name: b"again",
            },
            getattr(A),
        ],
        // A file without a name.
        &[
            open(A, RW),
            write(A, 0, b"still here"),
            unlink(b"again", NOT_DIR),
            read(A, 0),
        ],
        &[walk(ROOT, B, &[b"again"]), clunk(A)],
        // Extended attributes.
        &[
            walk(ROOT, A, &[b"empty"]),
            xwalk(b"user.x"),
            walk(A, B, &[]),
            xattr(3, none),
            write(B, 0, b"val"),
            clunk(B),
        ],
        &[
            xwalk(b"user.x"),
            read(B, 0),
            read(B, 1),
            clunk(B),
            walk(A, B, &[]),
            xattr(3, none),
            write(B, 0, b"v"),
            clunk(B),
        ],
        &[
            walk(A, B, &[]),
            xattr(1, XattrFlags::CREATE),
            write(B, 0, b"v"),
            clunk(B),
        ],
        &[
            walk(A, B, &[]),
            xattr(70_000, none),
            clunk(B),
            xwalk(b""),
            read(B, 0),
            clunk(B),
        ],
        &[walk(A, B, &[]), xattr(0, none), clunk(B), xwalk(b"user.x")],
        // Removing the file of a fid takes the fid along.
        &[
            Request::Remove { fid: A },
            clunk(A),
            Request::Statfs { fid: ROOT },
        ],
        &[
            Request::Flush { oldtag: Tag(77) },
            Request::Auth {
                afid: A,
                uname: b"",
                aname: b"",
                n_uname: 0,
            },
        ],
        &[clunk(ROOT)],
    ]
    .concat()
}
