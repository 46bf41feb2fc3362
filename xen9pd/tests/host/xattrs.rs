//! Extended attributes, and which of them a peer sees.

use p9_tree::Node;
use p9_wire::{Errno, XattrFlags};
use xen9pd::host::Xattrs;

use super::*;

fn with(xattrs: Xattrs) -> Share {
    Share::new(Options {
        xattrs,
        ..Options::default()
    })
}

fn set(node: &HostNode, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<(), Error> {
    now(node.set_xattr(name, value, flags))
}

#[test]
fn users_attributes_come_and_go() {
    let share = default_share();
    std::fs::create_dir(share.path("dir")).unwrap();
    for node in [share.make("file", b""), share.node("dir").unwrap()] {
        let any = XattrFlags::empty();
        assert_eq!(now(node.list_xattrs(1000)).unwrap(), b"");
        assert_eq!(errno(now(node.xattr(b"user.x", 10))), Errno::ENODATA);
        assert_eq!(
            errno(set(&node, b"user.x", b"1", XattrFlags::REPLACE)),
            Errno::ENODATA
        );
        set(&node, b"user.x", b"12345", XattrFlags::CREATE).unwrap();
        assert_eq!(
            errno(set(&node, b"user.x", b"1", XattrFlags::CREATE)),
            Errno::EEXIST
        );
        assert_eq!(now(node.xattr(b"user.x", 5)).unwrap(), b"12345");
        for max in [0, 4] {
            assert_eq!(
                errno(now(node.xattr(b"user.x", max))),
                Errno::E2BIG,
                "{max}"
            );
        }
        set(&node, b"user.empty", b"", any).unwrap();
        assert_eq!(now(node.xattr(b"user.empty", 0)).unwrap(), b"");
        let names = now(node.list_xattrs(1000)).unwrap();
        let mut names: Vec<_> = names.split_inclusive(|&byte| byte == 0).collect();
        names.sort();
        assert_eq!(names, [&b"user.empty\0"[..], b"user.x\0"]);
        assert_eq!(errno(now(node.list_xattrs(17))), Errno::E2BIG);
        assert_eq!(now(node.list_xattrs(18)).unwrap().len(), 18);
        now(node.remove_xattr(b"user.x")).unwrap();
        assert_eq!(errno(now(node.remove_xattr(b"user.x"))), Errno::ENODATA);
        for name in [&b""[..], b"user.\0x", &[b'x'; 256]] {
            assert_eq!(errno(set(&node, name, b"", any)), Errno::EINVAL);
        }
        assert_eq!(errno(set(&node, b"nonsense", b"", any)), Errno::EPERM);
    }
}

#[test]
fn those_that_mean_something_to_this_machine_are_hidden() {
    if !is_root() {
        return;
    }
    let share = default_share();
    let node = share.make("file", b"");
    let host = std::fs::File::open(share.path("file")).unwrap();
    let any = rustix::fs::XattrFlags::empty();
    for name in ["trusted.x", "security.x", "user.x"] {
        rustix::fs::fsetxattr(&host, name, b"value", any).unwrap();
    }
    assert_eq!(now(node.list_xattrs(1000)).unwrap(), b"user.x\0");
    for name in [&b"trusted.x"[..], b"security.x", b"security.capability"] {
        assert_eq!(errno(now(node.xattr(name, 100))), Errno::ENODATA);
        assert_eq!(
            errno(set(&node, name, b"", XattrFlags::empty())),
            Errno::EPERM
        );
        assert_eq!(errno(now(node.remove_xattr(name))), Errno::ENODATA);
    }
    // Asked for, they are there.
    let all = HostTree::open(
        &share.inside,
        Options {
            xattrs: Xattrs::All,
            ..Options::default()
        },
    )
    .unwrap();
    let node = now(all.root(None).unwrap().walk(b"file")).unwrap();
    assert_eq!(now(node.xattr(b"trusted.x", 100)).unwrap(), b"value");
    let names = now(node.list_xattrs(1000)).unwrap();
    assert_eq!(names.iter().filter(|&&byte| byte == 0).count(), 3);
}

#[test]
fn a_share_can_have_none() {
    let share = with(Xattrs::None);
    let node = share.make("file", b"");
    let results = [
        errno(now(node.xattr(b"user.x", 10))),
        errno(now(node.list_xattrs(10))),
        errno(set(&node, b"user.x", b"", XattrFlags::empty())),
        errno(now(node.remove_xattr(b"user.x"))),
    ];
    assert_eq!(results, [Errno::EOPNOTSUPP; 4]);
}

#[test]
fn links_and_special_files_have_none() {
    let share = default_share();
    let link = now(share.root.symlink(b"link", b"file", NO_GROUP)).unwrap();
    let pipe = now(share.root.mknod(b"pipe", 0o10600, 0, 0, NO_GROUP)).unwrap();
    for node in [link, pipe] {
        assert_eq!(now(node.list_xattrs(10)).unwrap(), b"");
        assert_eq!(errno(now(node.xattr(b"user.x", 10))), Errno::ENODATA);
        assert_eq!(
            errno(set(&node, b"user.x", b"", XattrFlags::empty())),
            Errno::EPERM
        );
    }
}
