//! A name space refuses bad binds, addresses, options and layouts with an error that says what is wrong.

use std::cell::Cell;
use std::rc::Rc;

use xen9p::errno::Errno;
use xen9p::fs::Error;
use xen9p::ns::{
    Bind, DialError, Dialers, Layout, LayoutError, MemTree, Namespace, NsError, OptionError,
    Synthetic, Tree,
};

fn enoent() -> Error {
    Errno::ENOENT.into()
}

fn ns() -> Namespace {
    let tree = MemTree::new();
    tree.put("/d/f", "f").unwrap();
    tree.put("/e/g", "g").unwrap();
    Namespace::new(tree)
}

#[test]
fn binds_onto_nothing_and_of_nothing() {
    let ns = ns();
    let replace = Bind::REPLACE;
    assert_eq!(
        ns.bind("/d", "/no", replace),
        Err(NsError::NoPlace(enoent()))
    );
    assert_eq!(
        ns.bind("/d", "/no/no", replace),
        Err(NsError::NoPlace(enoent()))
    );
    assert_eq!(
        ns.bind("/no", "/d", replace),
        Err(NsError::NoSource(enoent()))
    );
    let enotdir = NsError::NoPlace(Errno::ENOTDIR.into());
    assert_eq!(ns.bind("/d", "/d/f/x", replace), Err(enotdir));
    assert_eq!(ns.mount(MemTree::new(), "/d/f/x"), Err(enotdir));
    assert_eq!(ns.bind("/d", "/e/g", replace), Err(NsError::KindDiffers));
    assert_eq!(ns.bind("/d/f", "/e", replace), Err(NsError::KindDiffers));
    assert_eq!(ns.mount(MemTree::new(), "/d/f"), Err(NsError::KindDiffers));
    assert_eq!(
        ns.bind("/d/f", "/e/g", Bind::BEFORE),
        Err(NsError::FileUnion)
    );
    assert!(matches!(
        ns.bind("", "/d", replace),
        Err(NsError::NoSource(_))
    ));
    assert!(matches!(
        ns.bind("/d", "/\0", replace),
        Err(NsError::NoPlace(_))
    ));
    assert!(matches!(
        ns.mount(MemTree::new(), ""),
        Err(NsError::NoPlace(_))
    ));
    ns.symlink("/loop", "/loop").unwrap();
    let links = NsError::NoPlace(Error::TooManyLinks);
    assert_eq!(ns.bind("/d", "/loop", replace), Err(links));
    assert_eq!(ns.mount(MemTree::new(), "/loop/x"), Err(links));
    assert!(ns.mount_points().is_empty());

    // A directory of mount points alone is nothing to bind.
    ns.mount(MemTree::new(), "/mnt/m").unwrap();
    assert_eq!(
        ns.bind("/mnt", "/d", replace),
        Err(NsError::NoSource(enoent()))
    );
    ns.bind("/d", "/mnt", Bind::AFTER).unwrap();
    assert!(ns.exists("/mnt/f").unwrap());
    assert!(ns.exists("/mnt/m").unwrap());
}

#[test]
fn unmounts_of_nothing_and_of_what_is_busy() {
    let ns = ns();
    assert_eq!(ns.unmount("/d"), Err(NsError::NotMounted));
    assert_eq!(ns.unmount("/no"), Err(NsError::NotMounted));
    assert_eq!(ns.unmount("/no/no"), Err(NsError::NoPlace(enoent())));
    assert_eq!(ns.unmount("/"), Err(NsError::Root));
    ns.mount(MemTree::new(), "/m").unwrap();
    ns.mount(MemTree::new(), "/m/below/it").unwrap();
    assert_eq!(ns.unmount("/m"), Err(NsError::Busy));
    assert_eq!(ns.unmount_from("/m", "/m"), Err(NsError::Busy));
    assert_eq!(ns.unmount_from("/d", "/m"), Err(NsError::NoSuchElement));
    assert_eq!(
        ns.unmount_from("/no", "/m"),
        Err(NsError::NoSource(enoent()))
    );
    ns.unmount("/m/below/it").unwrap();
    ns.unmount_from("/m", "/m").unwrap();
    assert!(!ns.exists("/m").unwrap());
}

#[test]
fn unions_are_bounded() {
    let ns = ns();
    // Each doubles the union.
    let mut done = 0;
    while ns.bind("/d", "/d", Bind::AFTER).is_ok() {
        done += 1;
        assert!(done < 10);
    }
    assert_eq!(
        ns.bind("/d", "/d", Bind::BEFORE),
        Err(NsError::TooManyElements)
    );
    assert_eq!(ns.mount_points()[0].elements, 32);
    assert_eq!(ns.read_dir("/d").unwrap().count(), 1);
    for _ in 0..8 {
        ns.bind("/e", "/d", Bind::AFTER).unwrap();
    }
    assert_eq!(
        ns.bind("/e", "/d", Bind::AFTER),
        Err(NsError::TooManyElements)
    );
    ns.unmount("/d").unwrap();
    assert!(ns.mount_points().is_empty());
}

#[test]
fn a_sealed_name_space_stays_as_it_is() {
    let ns = ns();
    ns.bind("/d", "/e", Bind::REPLACE).unwrap();
    ns.clone().seal();
    let copy = ns.fork();
    for ns in [ns, copy] {
        assert!(ns.is_sealed());
        assert_eq!(ns.mount(MemTree::new(), "/x"), Err(NsError::Sealed));
        assert_eq!(ns.bind("/e", "/d", Bind::AFTER), Err(NsError::Sealed));
        assert_eq!(ns.unmount("/e"), Err(NsError::Sealed));
        assert_eq!(ns.unmount_from("/d", "/e"), Err(NsError::Sealed));
        // Files are not sealed.
        ns.write("/e/new", "").unwrap();
        assert!(ns.exists("/d/new").unwrap());
    }
}

#[test]
fn malformed_addresses() {
    let mut dialers = Dialers::new();
    for (scheme, kind) in [("xen!9pfs", "9pfs"), ("xen", "any"), ("vchan", "vchan")] {
        dialers
            .register(scheme, move |target| Ok(format!("{kind} {target}")))
            .unwrap();
    }
    assert_eq!(dialers.dial("xen!9pfs!share").unwrap(), "9pfs share");
    assert_eq!(dialers.dial("xen!9pfs!0").unwrap(), "9pfs 0");
    assert_eq!(dialers.dial("xen!console!0").unwrap(), "any console!0");
    assert_eq!(
        dialers.dial("vchan!3!/local/9p").unwrap(),
        "vchan 3!/local/9p"
    );
    for address in [
        "",
        "share",
        "xen!",
        "!9pfs!x",
        "xen!9pfs!",
        "xen!!x",
        "xen!9pfs!a b",
        "xen!9pfs!\0",
    ] {
        let result = dialers.dial(address);
        assert!(
            matches!(result, Err(DialError::Malformed(_))),
            "{address:?}: {result:?}"
        );
    }
    assert_eq!(dialers.dial("xen9!x"), Err(DialError::UnknownScheme));
    assert_eq!(
        dialers.dial("tcp!localhost!564"),
        Err(DialError::UnknownScheme)
    );
    let bad = dialers.register("", |_| Ok(String::new()));
    assert!(matches!(bad, Err(DialError::Malformed(_))));
    // The last one registered counts.
    let gone = |_: &str| Err(DialError::NoSuchTarget);
    dialers.register("xen!9pfs", gone).unwrap();
    assert_eq!(dialers.dial("xen!9pfs!share"), Err(DialError::NoSuchTarget));
}

#[test]
fn malformed_options() {
    use OptionError::{Bind as B, How, Mount, Path, Twice};
    let mut layout = Layout::new();
    let long = format!("t:/{}", "n".repeat(256));
    for (value, error) in [
        ("", Mount(1)),
        ("share", Mount(1)),
        (":/x", Mount(1)),
        ("ro=:/x", Mount(1)),
        ("share:rel", Mount(1)),
        ("share:/,", Mount(2)),
        ("a:/,b:/x,c:/x/", Twice(3)),
        (&long, Path(1)),
        ("a:/x\0", Path(1)),
    ] {
        assert_eq!(layout.add_mounts(value), Err(error), "{value:?}");
    }
    for (value, error) in [
        ("", B(1)),
        ("before", B(1)),
        ("before:/a", B(1)),
        ("before:a:/b", How(1)),
        ("above:/a:/b", How(1)),
        ("create:/a:/b", How(1)),
        ("before+make:/a:/b", How(1)),
        ("before:/a:/b,:/a:/b", How(2)),
        ("after:/a:/\0", Path(1)),
    ] {
        assert_eq!(layout.add_binds(value), Err(error), "{value:?}");
    }
    assert_eq!(layout, Layout::new(), "nothing of a bad option counts");
    layout.add_mounts("a:/").unwrap();
    assert_eq!(layout.add_mounts("b:/"), Err(Twice(1)));
}

#[test]
fn layouts_are_built_as_written() {
    let open = |tag: &str| {
        if tag == "absent" {
            return Err(DialError::NoSuchTarget);
        }
        let tree = MemTree::new();
        tree.put("/tag", tag).unwrap();
        tree.put("/etc/motd", "m").unwrap();
        Ok::<Rc<dyn Tree>, DialError>(Rc::new(tree))
    };
    let mut layout = Layout::new();
    layout
        .add_mounts("share:/,over:/overlay,ro=logs:/var/log,share:/again")
        .unwrap();
    layout
        .add_binds("before+create:/overlay:/etc,replace:/var/log/tag:/tag")
        .unwrap();
    assert_eq!(layout.mounts().len(), 4);
    assert!(layout.mounts()[2].read_only);
    assert_eq!(layout.mounts()[2].source, "logs");
    assert_eq!(layout.binds()[0].how, Bind::BEFORE.create());
    let ns = layout.build(open).unwrap();
    assert_eq!(ns.read_to_string("/etc/tag").unwrap(), "over");
    assert_eq!(ns.read_to_string("/tag").unwrap(), "logs");
    ns.write("/etc/new", "").unwrap();
    assert!(ns.exists("/overlay/new").unwrap());
    assert_eq!(ns.write("/tag", ""), Err(Errno::EROFS.into()));
    // One tag, one tree.
    ns.rename("/again/etc/motd", "/motd").unwrap();

    let mut absent = layout.clone();
    absent.add_mounts("absent:/x").unwrap();
    let failed = absent.build(open).unwrap_err();
    assert_eq!(failed, LayoutError::Source(5, DialError::NoSuchTarget));
    let mut nowhere = Layout::new();
    nowhere.add_binds("replace:/:/x").unwrap();
    let failed = nowhere.build(open).unwrap_err();
    assert_eq!(failed, LayoutError::Bind(1, NsError::NoPlace(enoent())));
    // Without a root there is an empty one.
    let mut rootless = Layout::new();
    rootless.add_mounts("a:/mnt/a").unwrap();
    let ns = rootless.build(open).unwrap();
    assert_eq!(ns.read_dir("/").unwrap().count(), 1);
    assert_eq!(ns.write("/f", ""), Err(Errno::EROFS.into()));
    let mut file = Layout::new();
    file.add_mounts("a:/,b:/tag").unwrap();
    let failed = file.build(open).unwrap_err();
    assert_eq!(failed, LayoutError::Mount(2, NsError::KindDiffers));
    assert!(failed.to_string().starts_with("mount entry 2: a directory"));
}

#[test]
fn errors_speak_to_people() {
    for (error, text) in [
        (NsError::Busy.to_string(), "unmount that first"),
        (
            NsError::NoPlace(enoent()).to_string(),
            "No such file or directory",
        ),
        (NsError::TooManyElements.to_string(), "40"),
        (OptionError::Mount(3).to_string(), "entry 3"),
        (
            DialError::Malformed("it is empty").to_string(),
            "xen!9pfs!TAG",
        ),
        (DialError::NoSuchTarget.to_string(), "configuration"),
    ] {
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(NsError::NoPlace(enoent()).errno(), Errno::ENOENT);
    assert_eq!(NsError::Busy.errno(), Errno::EBUSY);
    assert_eq!(NsError::Sealed.errno(), Errno::EPERM);
}

/// A tree that is dropped by a change of the name space may use the name space: it is dropped when the change is made.
#[test]
fn a_tree_that_goes_may_use_the_name_space() {
    struct Last(Namespace, Rc<Cell<u32>>);

    impl Drop for Last {
        fn drop(&mut self) {
            // Reads the table, and changes it.
            assert!(self.0.exists("/d").unwrap());
            self.0.mount(MemTree::new(), "/said").unwrap();
            self.1.set(self.1.get() + 1);
        }
    }

    let ns = ns();
    let gone = Rc::new(Cell::new(0));
    let last = || {
        let tree = MemTree::new();
        let last = Last(ns.clone(), gone.clone());
        let file = Synthetic::new().read(move || Ok(vec![u8::from(last.1.get() > 0)]));
        tree.put_synthetic("/f", file).unwrap();
        tree
    };
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 4] = [
        ("mount", &|| ns.mount(MemTree::new(), "/m").unwrap()),
        ("bind", &|| ns.bind("/d", "/m", Bind::REPLACE).unwrap()),
        ("unmount", &|| ns.unmount("/m").unwrap()),
        ("unmount_from", &|| ns.unmount_from("/m", "/m").unwrap()),
    ];
    for (done, (name, change)) in changes.iter().enumerate() {
        ns.mount(last(), "/m").unwrap();
        assert_eq!(gone.get() as usize, done, "{name}");
        change();
        assert_eq!(gone.get() as usize, done + 1, "{name}");
    }
}
