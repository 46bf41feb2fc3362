//! A program that was written for `std` behaves the same on the files of an app when two of its lines are changed, and each
//! function that docs/from-std.md lists takes what its namesake takes.

mod ours;
mod paths;
mod std;
mod table;

use ::std::cell::RefCell;
use ::std::collections::BTreeMap;
use ::std::fs;
use ::std::path::Path;

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::{MemTree, Namespace};
use xen9p::std::set_files;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::{diod, xen9pd};

thread_local!(static FILES: RefCell<Option<Namespace>> = const { RefCell::new(None) });

/// Runs `work` with the functions of `xen9p::std` on these files.
pub fn with_files<T>(files: Namespace, work: impl FnOnce() -> T) -> T {
    set_files(|| FILES.with_borrow(Option::clone));
    FILES.set(Some(files));
    let done = work();
    FILES.set(None);
    done
}

/// Names, modes and contents below a directory of this machine.
fn snapshot(directory: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    use ::std::os::unix::fs::PermissionsExt;

    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mut content = Vec::new();
            match metadata.is_dir() {
                true => directories.push(path.clone()),
                false => content = fs::read(&path).unwrap(),
            }
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            found.insert(name, (metadata.permissions().mode(), content));
        }
    }
    found
}

#[test]
fn the_two_programs_differ_in_two_lines() {
    let (theirs, ours) = (include_str!("std.rs"), include_str!("ours.rs"));
    assert_eq!(theirs.lines().count(), ours.lines().count());
    let differ = theirs.lines().zip(ours.lines()).filter(|(a, b)| a != b);
    let differ: Vec<_> = differ.collect();
    assert_eq!(differ.len(), 2, "{differ:?}");
    for (theirs, ours) in differ {
        assert_eq!(theirs.replace("use std::", "use xen9p::std::"), ours);
    }
}

#[test]
fn a_program_for_std_behaves_the_same() {
    let host = TempDir::new().unwrap();
    let told = std::journal(host.path()).unwrap();
    assert!(told.lines().count() > 5, "{told}");
    let tree = snapshot(host.path());
    assert_eq!(tree.len(), 4, "{tree:?}");

    let in_memory = Namespace::new(MemTree::new());
    let run = || ours::journal(xen9p::std::path::Path::new("/")).unwrap();
    assert_eq!(with_files(in_memory, run), told);
    for server in ["qemu", "diod", "xen9pd"] {
        let export = TempDir::new().unwrap();
        let options = MountOptions::new();
        let fs = match server {
            "qemu" => qemu(export.path(), QemuOptions::default())
                .unwrap()
                .map(|transport| Fs::mount(transport, &options)),
            "diod" => diod(export.path()).unwrap().map(|transport| {
                Fs::mount(transport, &options.tree(export.path().to_str().unwrap()))
            }),
            _ => xen9pd(export.path())
                .unwrap()
                .map(|transport| Fs::mount(transport, &options)),
        };
        let Some(fs) = fs else { continue };
        assert_eq!(
            with_files(Namespace::new(fs.unwrap()), run),
            told,
            "{server}"
        );
        assert!(snapshot(export.path()) == tree, "{server}");
    }
}

/// Without files, with files that are gone, and on a server that is lost, every function has a defined error.
#[test]
fn without_files_there_is_an_error() {
    use xen9p::std::{fs, io};

    let calls: [fn() -> io::Result<()>; 6] = [
        || fs::read("/a").map(drop),
        || fs::File::open("/a").map(drop),
        || fs::File::create("/a").map(drop),
        || fs::read_dir("/").map(drop),
        || fs::walk_dir("/").map(drop),
        || fs::DirBuilder::new().recursive(true).create("/a/b"),
    ];
    set_files(|| FILES.with_borrow(Option::clone));
    for call in calls {
        assert_eq!(call(), Err(io::Error::Closed));
    }
    with_files(Namespace::new(MemTree::new()), || {
        assert_eq!(fs::read("").unwrap_err().kind(), io::ErrorKind::NotFound);
        let nul = fs::File::create("/a\0b").map(drop);
        assert_eq!(nul.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let long = fs::create_dir("/".to_string() + &"n".repeat(256));
        assert_eq!(long.unwrap_err().kind(), io::ErrorKind::InvalidFilename);
        fs::write(b"/\xff\xfe", "x").unwrap();
        let entry = fs::read_dir("/").unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().to_str(), None);
        assert_eq!(entry.path_lossy(), "/\u{fffd}\u{fffd}");
        assert_eq!(entry.file_name().display().to_string(), "\u{fffd}\u{fffd}");
        let mut options = fs::OpenOptions::new();
        let nothing = options.open("/\u{fffd}").map(drop);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let both = options.append(true).truncate(true).open("/x").map(drop);
        assert_eq!(both.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

/// What `std` makes of an error number of Linux is what it is here, where there is a kind for it.
#[test]
fn error_numbers_are_of_the_kinds_that_std_has() {
    use xen9p::errno::Errno;
    use xen9p::fs::{Error, ErrorKind};

    let mut same = 0;
    for number in 1..134 {
        let kind = Error::Errno(Errno::from_wire(number)).kind();
        let theirs = ::std::io::Error::from_raw_os_error(number as i32).kind();
        match kind {
            ErrorKind::Other => {}
            // std has no kind for these.
            ErrorKind::InvalidData => {}
            kind => {
                assert_eq!(format!("{kind:?}"), format!("{theirs:?}"), "{number}");
                same += 1;
            }
        }
    }
    assert!(same > 20);
    for kind in [
        ErrorKind::NotFound,
        ErrorKind::WriteZero,
        ErrorKind::StorageFull,
    ] {
        assert_eq!(Error::from(kind).kind(), kind);
    }
}
