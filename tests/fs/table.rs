//! The table in docs/9p-support.md says what each operation comes to with each server and dialect. With
//! `XEN9P_WRITE_TABLE` set, the file is written instead of compared.

use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xen9p::fs::{
    Error, FileTimes, FileType, Fs, LockRange, MountOptions, OpenOptions, Permissions, Result,
    SeekFrom, SystemTime,
};
use xen9p::p9::Dialect;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::{diod, ninep, p9};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/9p-support.md");
const BEGIN: &str = "<!-- table: written by tests/fs/table.rs -->\n";
const END: &str = "<!-- end of table -->\n";

/// What the table says of an operation that succeeded and did what it should.
const WORKS: &str = "works";

/// An operation to try; what it says if it succeeds goes into the table.
type Operation = fn(&Fs, &Path) -> Result<&'static str>;

/// "works" if it did what it should, else that it did something else.
fn works(so: bool) -> Result<&'static str> {
    Ok(if so { WORKS } else { "no effect" })
}

/// "works" if the server told, else that it did not.
fn told(so: bool) -> Result<&'static str> {
    Ok(if so { WORKS } else { "not told" })
}

/// What an operation finds: `file` ("content") and `dir` with `inside`. Those that are about links
/// also `link` to `file` and `hard`, its other name: ninep takes a link and its target for one file.
fn prepare(host: &Path, links: bool) {
    fs::write(host.join("file"), b"content").expect("a file");
    fs::create_dir(host.join("dir")).expect("a directory");
    fs::write(host.join("dir/inside"), b"").expect("a file");
    if links {
        std::os::unix::fs::symlink("file", host.join("link")).expect("a link");
        fs::hard_link(host.join("file"), host.join("hard")).expect("a link");
    }
}

const WHEN: SystemTime = SystemTime::new(1_234_567_890, 0);

const OPERATIONS: [(&str, Operation); 37] = [
    ("open, read", |fs, _| works(fs.read("file")? == b"content")),
    ("read_at", |fs, _| {
        let mut some = [0; 4];
        fs.open("file")?.read_exact_at(&mut some, 3)?;
        works(some == *b"tent")
    }),
    ("seek from the end", |fs, _| {
        works(fs.open("file")?.seek(SeekFrom::End(-1))? == 6)
    }),
    ("create, write", |fs, host| {
        fs.write("new", b"new")?;
        works(there(host, "new", b"new"))
    }),
    ("create_new", |fs, _| {
        let open = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(fs, "only")
        };
        open()?;
        works(open().is_err())
    }),
    ("mode of a new file", |fs, _| {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o751)
            .open(fs, "moded")?;
        works(mode(fs, "moded")? == 0o751)
    }),
    ("truncate by opening", |fs, host| {
        fs.write("cut", b"long")?;
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(fs, "cut")?;
        works(there(host, "cut", b""))
    }),
    ("append", |fs, host| {
        fs.write("log", b"a")?;
        let log = || OpenOptions::new().append(true).open(fs, "log");
        let (one, two) = (log()?, log()?);
        one.write_all(b"b")?;
        two.write_all(b"c")?;
        works(there(host, "log", b"abc"))
    }),
    ("set_len", |fs, host| {
        fs.write("sized", b"long")?;
        OpenOptions::new()
            .write(true)
            .open(fs, "sized")?
            .set_len(2)?;
        works(there(host, "sized", b"lo"))
    }),
    ("sync_all", |fs, _| {
        OpenOptions::new()
            .write(true)
            .open(fs, "file")?
            .sync_all()
            .map(|()| WORKS)
    }),
    ("sync_data", |fs, _| {
        OpenOptions::new()
            .write(true)
            .open(fs, "file")?
            .sync_data()
            .map(|()| WORKS)
    }),
    ("metadata", |fs, _| works(fs.metadata("file")?.len() == 7)),
    ("metadata: owner", |fs, host| {
        let theirs = host
            .join("file")
            .metadata()
            .map_or(0, |metadata| metadata.uid());
        told(fs.metadata("file")?.uid() == theirs)
    }),
    ("metadata: number of links", |fs, _| {
        told(fs.metadata("hard")?.nlink() == 2)
    }),
    ("metadata: time of change", |fs, _| {
        told(fs.metadata("file")?.changed().is_some())
    }),
    ("metadata of an unlinked open file", |fs, _| {
        fs.write("gone", b"x")?;
        let file = fs.open("gone")?;
        fs.remove_file("gone")?;
        works(file.metadata()?.len() == 1)
    }),
    ("reading an unlinked open file", |fs, _| {
        fs.write("gone2", b"x")?;
        let file = fs.open("gone2")?;
        fs.remove_file("gone2")?;
        works(file.read(&mut [0; 2])? == 1)
    }),
    ("set_permissions", |fs, _| {
        fs.write("chmod", b"")?;
        fs.set_permissions("chmod", Permissions::from_mode(0o604))?;
        works(mode(fs, "chmod")? == 0o604)
    }),
    ("set_times", |fs, host| {
        fs.write("timed", b"")?;
        fs.set_times("timed", FileTimes::new().set_modified(WHEN))?;
        works(
            host.join("timed")
                .metadata()
                .is_ok_and(|m| m.mtime() == WHEN.secs()),
        )
    }),
    ("chown", |fs, host| {
        let host = host
            .join("file")
            .metadata()
            .map_or((0, 0), |m| (m.uid(), m.gid()));
        fs.chown("file", Some(host.0), Some(host.1)).map(|()| WORKS)
    }),
    ("read_dir", |fs, _| works(fs.read_dir("dir")?.count() == 1)),
    ("read_dir, resumed by cookie", |fs, _| {
        let first = fs.read_dir("/")?.next().ok_or(Error::UnexpectedEof)??;
        let mut again = fs.read_dir("/")?;
        let second = again.by_ref().nth(1).ok_or(Error::UnexpectedEof)??;
        again.seek(first.cookie());
        let resumed = again.next().ok_or(Error::UnexpectedEof)??;
        works(resumed.file_name() == second.file_name())
    }),
    ("create_dir", |fs, host| {
        fs.create_dir("made")?;
        works(host.join("made").is_dir())
    }),
    ("remove_file", |fs, host| {
        fs.write("rm", b"")?;
        fs.remove_file("rm")?;
        works(!host.join("rm").exists())
    }),
    ("remove_dir", |fs, host| {
        fs.create_dir("rmdir")?;
        fs.remove_dir("rmdir")?;
        works(!host.join("rmdir").exists())
    }),
    ("rename in a directory", |fs, host| {
        fs.write("old", b"x")?;
        fs.rename("old", "renamed")?;
        works(there(host, "renamed", b"x"))
    }),
    ("rename to another directory", |fs, host| {
        fs.write("old2", b"x")?;
        fs.rename("old2", "dir/moved")?;
        works(there(host, "dir/moved", b"x"))
    }),
    ("hard_link", |fs, host| {
        fs.hard_link("file", "second")?;
        works(host.join("second").metadata().is_ok_and(|m| m.nlink() == 3))
    }),
    ("symlink, read_link", |fs, _| {
        fs.symlink("somewhere", "made-link")?;
        works(fs.read_link("made-link")? == b"somewhere")
    }),
    ("read_link of a link that the host made", |fs, _| {
        works(fs.read_link("link")? == b"file")
    }),
    ("following links", |fs, _| {
        works(fs.read("link")? == b"content")
    }),
    ("mknod: named pipe", |fs, _| {
        fs.mknod("pipe", 0o010_644, 0, 0)?;
        works(fs.symlink_metadata("pipe")?.file_type() == FileType::from_mode(0o010_000))
    }),
    ("statfs", |fs, _| works(fs.statfs("/")?.total_bytes() > 0)),
    ("set_xattr, xattr", |fs, _| {
        fs.set_xattr("file", "user.key", b"value")?;
        works(fs.xattr("file", "user.key")? == b"value")
    }),
    ("list_xattrs", |fs, _| {
        works(
            fs.list_xattrs("file")?
                .iter()
                .any(|name| name == b"user.key"),
        )
    }),
    ("remove_xattr", |fs, _| {
        fs.remove_xattr("file", "user.key")?;
        works(fs.xattr("file", "user.key").is_err())
    }),
    ("try_lock", |fs, _| {
        let open = || OpenOptions::new().read(true).write(true).open(fs, "file");
        let (one, two) = (open()?, open()?);
        let held = one.try_lock(LockRange::ALL, true)?;
        let second = two.try_lock(LockRange::ALL, true)?;
        Ok(match (held, second) {
            (Some(_), None) => WORKS,
            (Some(_), Some(_)) => "grants every lock",
            (None, _) => "never granted",
        })
    }),
];

fn there(host: &Path, name: &str, content: &[u8]) -> bool {
    fs::read(host.join(name)).is_ok_and(|there| there == content)
}

fn mode(fs: &Fs, name: &str) -> Result<u32> {
    Ok(fs.metadata(name)?.permissions().mode())
}

/// A column: a server, and how to mount it with one dialect; `None` if it isn't installed.
type Column = (&'static str, Dialect, fn(&Path, MountOptions) -> Option<Fs>);

const COLUMNS: [Column; 6] = [
    ("QEMU 7.2", Dialect::Linux, through_qemu),
    ("QEMU 7.2", Dialect::Unix, through_qemu),
    ("QEMU 7.2, mapped-xattr", Dialect::Linux, |host, options| {
        let mapped = QemuOptions {
            security_model: "mapped-xattr",
            ..QemuOptions::default()
        };
        Some(mount(qemu(host, mapped).expect("QEMU")?, options))
    }),
    ("diod 1.0.24", Dialect::Linux, |host, options| {
        let options = options.tree(host.as_os_str().as_encoded_bytes());
        Some(mount(diod(host).expect("diod")?, options))
    }),
    ("p9 0.3", Dialect::Linux, |host, options| {
        Some(mount(p9(host).expect("p9"), options))
    }),
    ("ninep 0.6", Dialect::Plan9, |host, options| {
        Some(mount(ninep(host).expect("ninep"), options))
    }),
];

fn through_qemu(host: &Path, options: MountOptions) -> Option<Fs> {
    Some(mount(
        qemu(host, QemuOptions::default()).expect("QEMU")?,
        options,
    ))
}

fn mount(transport: impl xen9p::transport::Transport + 'static, options: MountOptions) -> Fs {
    Fs::mount(transport, &options).expect("a mount")
}

/// What each operation came to, for one column.
fn try_all((name, dialect, mount): Column) -> Option<Vec<String>> {
    OPERATIONS
        .iter()
        .map(|(operation, work)| {
            // A directory and a connection of its own each: nothing hangs on what was tried before.
            let host = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
            prepare(host.path(), operation.contains("link"));
            if operation.contains("xattr") && *operation != "set_xattr, xattr" {
                rustix::fs::setxattr(
                    host.path().join("file"),
                    "user.key",
                    b"value",
                    rustix::fs::XattrFlags::empty(),
                )
                .expect("a file system with extended attributes");
            }
            let options = MountOptions::new().dialects(&[dialect]).umask(0);
            let fs = mount(host.path(), options)?;
            let outcome = work(&fs, host.path());
            Some(match outcome {
                Ok(text) => text.to_owned(),
                Err(Error::Unsupported { .. }) => "unsupported".to_owned(),
                Err(Error::Errno(errno)) => errno.name().unwrap_or("?").to_owned(),
                Err(error) => panic!("{name}, {dialect}: {operation}: {error}"),
            })
        })
        .collect()
}

fn table(columns: &[(Column, Vec<String>)]) -> String {
    let mut text = String::from("| operation |");
    for ((server, dialect, _), _) in columns {
        let _ = write!(text, " {server}, {} |", dialect.version());
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for (row, (operation, _)) in OPERATIONS.iter().enumerate() {
        let _ = write!(text, "| {operation} |");
        for (_, outcomes) in columns {
            let _ = write!(text, " {} |", outcomes[row]);
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_table_in_the_docs_is_what_happens() {
    let mut columns = Vec::new();
    for column in COLUMNS {
        match try_all(column) {
            Some(outcomes) => columns.push((column, outcomes)),
            None => return eprintln!("skipped: the table takes all servers"),
        }
    }
    let table = table(&columns);
    let document = fs::read_to_string(FILE).expect("docs/9p-support.md");
    let (before, rest) = document.split_once(BEGIN).expect("the table's beginning");
    let (old, after) = rest.split_once(END).expect("the table's end");
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        fs::write(FILE, [before, BEGIN, &table, END, after].concat()).expect("docs/9p-support.md");
        return;
    }
    for (old, new) in old.lines().zip(table.lines()) {
        assert_eq!(
            old, new,
            "docs/9p-support.md; XEN9P_WRITE_TABLE=1 writes it anew"
        );
    }
    assert_eq!(
        old.lines().count(),
        table.lines().count(),
        "rows in docs/9p-support.md"
    );
}
