//! `selftest`: every operation of the file system against the live server, one line each.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen9p::errno::Errno;
use xen9p::fs::{self, FileTimes, OpenOptions, Permissions, SeekFrom, SystemTime};
use xen9p::ns::Namespace;

use super::place::Place;
use super::{Args, Fail, Shell, sort};

/// Where the checks work: an empty directory that goes away afterwards.
struct Scratch<'a> {
    fs: &'a Namespace,
    top: &'a Place,
}

impl Scratch<'_> {
    fn path(&self, name: &str) -> Vec<u8> {
        [self.top.path.as_slice(), b"/", name.as_bytes()].concat()
    }
}

/// Why a check did not pass.
enum Wrong {
    Fs(fs::Error),
    Found(String),
}

impl From<fs::Error> for Wrong {
    fn from(error: fs::Error) -> Self {
        Wrong::Fs(error)
    }
}

type Checked = Result<(), Wrong>;
type Check = fn(&Scratch<'_>) -> Checked;

static CHECKS: &[(&str, Check)] = &[
    ("write and read a small file", small_file),
    ("empty file", empty_file),
    ("large file, byte for byte", large_file),
    ("read and write at offsets", offsets),
    ("append", append),
    ("change the size", sizes),
    ("create only a new file", create_new),
    ("attributes", attributes),
    ("permissions", permissions),
    ("times", times),
    ("names with blanks, UTF-8, 255 bytes", names),
    ("directories: make, list, remove", directories),
    ("a directory of 60 entries", many_entries),
    ("directories 20 deep", deep),
    ("rename and replace", rename),
    ("symbolic links", symlinks),
    ("hard links", hard_links),
    ("errors have the right numbers", errors),
    ("write to stable storage", sync),
    ("file system's size", statfs),
    ("many files open at once", many_open),
    ("file removed while open", removed_while_open),
];

pub fn selftest(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let directory = match *args.operands {
        [] => "/",
        [directory] => directory,
        _ => return Err(Fail::usage(format_args!("one directory is expected"))),
    };
    let parent = shell.place(directory)?;
    let name = format!(".selftest-{:x}", shell.host.now().as_nanos());
    let top = parent.join(name.as_bytes())?;
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (title, check) in CHECKS {
        top.ns
            .create_dir(&top.path)
            .map_err(|error| Fail::from_fs(format_args!("cannot create '{top}'"), error))?;
        let scratch = Scratch {
            fs: &top.ns,
            top: &top,
        };
        match check(&scratch) {
            Ok(()) => {
                passed += 1;
                shell.say(format_args!("ok    {title}\n"));
            }
            Err(Wrong::Fs(fs::Error::Interrupted)) => return Err(Fail::Interrupted),
            Err(Wrong::Fs(error)) if error.errno() == Errno::EOPNOTSUPP => {
                skipped += 1;
                shell.say(format_args!("skip  {title}: {error}\n"));
            }
            Err(Wrong::Fs(error)) => {
                failed += 1;
                shell.say(format_args!("FAIL  {title}: {error}\n"));
            }
            Err(Wrong::Found(text)) => {
                failed += 1;
                shell.say(format_args!("FAIL  {title}: {text}\n"));
            }
        }
        top.ns
            .remove_dir_all(&top.path)
            .map_err(|error| Fail::from_fs(format_args!("cannot remove '{top}'"), error))?;
    }
    shell.say(format_args!(
        "selftest: {passed} passed, {skipped} skipped, {failed} failed\n"
    ));
    if failed == 0 {
        Ok(())
    } else {
        Err(Fail::Reported(1))
    }
}

/// Passes when `found` is what was expected.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Checked {
    if found == expected {
        Ok(())
    } else {
        Err(Wrong::Found(format!(
            "{what} is {found:?}, expected {expected:?}"
        )))
    }
}

/// Passes when `condition` holds; contents that are too long to print are compared so.
fn holds(condition: bool, otherwise: &str) -> Checked {
    if condition {
        Ok(())
    } else {
        Err(Wrong::Found(otherwise.to_string()))
    }
}

/// Passes when `done` was refused with `expected`.
fn refused<T>(what: &str, done: fs::Result<T>, expected: Errno) -> Checked {
    match done {
        Err(fs::Error::Errno(errno)) if errno == expected => Ok(()),
        Err(error) => Err(Wrong::Found(format!(
            "{what}: {error}, expected {expected}"
        ))),
        Ok(_) => Err(Wrong::Found(format!("{what} worked, expected {expected}"))),
    }
}

/// Bytes that repeat nowhere near: a wrong offset shows.
fn pattern(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 4);
    while bytes.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&(state ^ state >> 15).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn small_file(at: &Scratch<'_>) -> Checked {
    let path = at.path("small");
    at.fs.write(&path, "hello\n")?;
    same("content", at.fs.read_to_string(&path)?.as_str(), "hello\n")?;
    at.fs.write(&path, "bye")?;
    same("content", at.fs.read_to_string(&path)?.as_str(), "bye")?;
    at.fs.remove_file(&path)?;
    same("its existence", at.fs.exists(&path)?, false)
}

fn empty_file(at: &Scratch<'_>) -> Checked {
    let path = at.path("empty");
    at.fs.create(&path)?.close()?;
    same("size", at.fs.metadata(&path)?.len(), 0)?;
    same("bytes read", at.fs.open(&path)?.read(&mut [0; 16])?, 0)?;
    same("content", at.fs.read(&path)?, Vec::new())
}

fn large_file(at: &Scratch<'_>) -> Checked {
    // Not a multiple of anything; small enough for a domain of a few MiB.
    const SIZE: usize = 300_011;
    let path = at.path("large");
    let bytes = pattern(SIZE, 1);
    at.fs.write(&path, &bytes)?;
    same("size", at.fs.metadata(&path)?.len(), SIZE as u64)?;
    holds(
        at.fs.read(&path)? == bytes,
        "what was read is not what was written",
    )
}

fn offsets(at: &Scratch<'_>) -> Checked {
    let path = at.path("offsets");
    let file = at.fs.open_with(
        &path,
        OpenOptions::new().read(true).write(true).create(true),
    )?;
    file.write_all(b"0123456789")?;
    file.write_all_at(b"AB", 4)?;
    file.write_all_at(b"end", 5000)?;
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 3)?;
    same("bytes 3 to 6", &bytes, b"3AB6")?;
    same("position", file.stream_position()?, 10)?;
    file.seek(SeekFrom::End(-5))?;
    same("bytes read", file.read(&mut bytes)?, 4)?;
    same("bytes before the end", &bytes, b"\0\0en")?;
    same("bytes beyond the end", file.read_at(&mut bytes, 6000)?, 0)?;
    same("size", file.metadata()?.len(), 5003)?;
    Ok(file.close()?)
}

fn append(at: &Scratch<'_>) -> Checked {
    let path = at.path("log");
    for line in ["one\n", "two\n", "three\n"] {
        let file = at
            .fs
            .open_with(&path, OpenOptions::new().append(true).create(true))?;
        file.write_all(line.as_bytes())?;
        file.close()?;
    }
    let content = at.fs.read_to_string(&path)?;
    same("content", content.as_str(), "one\ntwo\nthree\n")
}

fn sizes(at: &Scratch<'_>) -> Checked {
    let path = at.path("sizes");
    at.fs.write(&path, "0123456789")?;
    at.fs.truncate(&path, 4)?;
    same("content", at.fs.read(&path)?.as_slice(), b"0123")?;
    let file = at.fs.open_with(&path, OpenOptions::new().write(true))?;
    file.set_len(6)?;
    file.close()?;
    same("content", at.fs.read(&path)?.as_slice(), b"0123\0\0")
}

fn create_new(at: &Scratch<'_>) -> Checked {
    let path = at.path("new");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    at.fs.open_with(&path, &options)?.close()?;
    refused(
        "making it again",
        at.fs.open_with(&path, &options),
        Errno::EEXIST,
    )
}

fn attributes(at: &Scratch<'_>) -> Checked {
    let path = at.path("file");
    at.fs.write(&path, "12345")?;
    let found = at.fs.metadata(&path)?;
    holds(found.is_file() && !found.is_dir(), "a file is no file")?;
    same("size", found.len(), 5)?;
    same("links", found.nlink(), 1)?;
    holds(found.modified().secs() > 0, "the file has no time")?;
    let directory = at.fs.metadata(&at.top.path)?;
    holds(directory.is_dir(), "a directory is no directory")?;
    holds(directory.ino() != found.ino(), "two files have one number")
}

fn permissions(at: &Scratch<'_>) -> Checked {
    let path = at.path("file");
    at.fs.write(&path, "")?;
    for mode in [0o600, 0o644, 0o751] {
        at.fs.set_permissions(&path, Permissions::from_mode(mode))?;
        same("mode", at.fs.metadata(&path)?.permissions().mode(), mode)?;
    }
    Ok(())
}

fn times(at: &Scratch<'_>) -> Checked {
    let path = at.path("file");
    at.fs.write(&path, "")?;
    let then = SystemTime::new(1_234_567_890, 0);
    at.fs
        .set_times(&path, FileTimes::new().set_modified(then))?;
    same(
        "time",
        at.fs.metadata(&path)?.modified().secs(),
        then.secs(),
    )
}

fn names(at: &Scratch<'_>) -> Checked {
    let long = "n".repeat(255);
    let names = [
        "a b",
        " ",
        "...",
        "-r",
        "\u{fc}\u{1f600}",
        "tab\there",
        "q'\"\\",
        &long,
    ];
    for name in names {
        at.fs.write(at.path(name), name)?;
    }
    let mut found = listing(at, "")?;
    sort::sort(&mut found);
    let mut expected: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().into()).collect();
    sort::sort(&mut expected);
    same("the listing", found, expected)?;
    for name in names {
        same(
            "content",
            at.fs.read_to_string(at.path(name))?.as_str(),
            name,
        )?;
    }
    Ok(())
}

fn listing(at: &Scratch<'_>, name: &str) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut names = Vec::new();
    for entry in at.fs.read_dir(at.path(name))? {
        names.push(entry?.file_name().to_vec());
    }
    Ok(names)
}

fn directories(at: &Scratch<'_>) -> Checked {
    at.fs.create_dir(at.path("d"))?;
    same("the listing", listing(at, "d")?, Vec::new())?;
    at.fs.create_dir(at.path("d/e"))?;
    at.fs.write(at.path("d/f"), "")?;
    for entry in at.fs.read_dir(at.path("d"))? {
        let entry = entry?;
        let is_dir = entry.file_name() == b"e";
        same("an entry's kind", entry.file_type()?.is_dir(), is_dir)?;
    }
    let full = at.fs.remove_dir(at.path("d"));
    refused("removing a full directory", full, Errno::ENOTEMPTY)?;
    at.fs.remove_file(at.path("d/f"))?;
    at.fs.remove_dir(at.path("d/e"))?;
    at.fs.remove_dir(at.path("d"))?;
    same("its existence", at.fs.exists(at.path("d"))?, false)
}

fn many_entries(at: &Scratch<'_>) -> Checked {
    const COUNT: usize = 60;
    let name = |n: usize| format!("entry-with-a-rather-long-name-{n:05}");
    for n in 0..COUNT {
        at.fs.create(at.path(&name(n)))?;
    }
    let mut found = listing(at, "")?;
    sort::sort(&mut found);
    let expected: Vec<Vec<u8>> = (0..COUNT).map(|n| name(n).into_bytes()).collect();
    same("the number of entries", found.len(), COUNT)?;
    holds(found == expected, "names are missing from the listing")
}

fn deep(at: &Scratch<'_>) -> Checked {
    let directory = vec!["level"; 20].join("/");
    at.fs.create_dir_all(at.path(&directory))?;
    let path = at.path(&format!("{directory}/file"));
    at.fs.write(&path, "deep")?;
    same("content", at.fs.read(&path)?.as_slice(), b"deep")?;
    let up = at.path(&format!("{directory}/../../../file"));
    same(
        "a file's existence three levels up",
        at.fs.exists(up)?,
        false,
    )
}

fn rename(at: &Scratch<'_>) -> Checked {
    at.fs.create_dir(at.path("d"))?;
    at.fs.write(at.path("a"), "content of a")?;
    at.fs.write(at.path("d/b"), "content of b")?;
    at.fs.rename(at.path("a"), at.path("d/b"))?;
    same("its existence", at.fs.exists(at.path("a"))?, false)?;
    let content = at.fs.read_to_string(at.path("d/b"))?;
    same("content", content.as_str(), "content of a")?;
    at.fs.rename(at.path("d"), at.path("e"))?;
    same("its existence", at.fs.exists(at.path("e/b"))?, true)
}

fn symlinks(at: &Scratch<'_>) -> Checked {
    at.fs.write(at.path("file"), "content")?;
    at.fs.symlink("file", at.path("link"))?;
    same(
        "the link",
        at.fs.read_link(at.path("link"))?.as_slice(),
        b"file",
    )?;
    let kind = at.fs.symlink_metadata(at.path("link"))?.file_type();
    same("its kind", kind.is_symlink(), true)?;
    let content = at.fs.read_to_string(at.path("link"))?;
    same("content behind it", content.as_str(), "content")?;
    at.fs.remove_file(at.path("link"))?;
    same("the file's existence", at.fs.exists(at.path("file"))?, true)
}

fn hard_links(at: &Scratch<'_>) -> Checked {
    at.fs.write(at.path("file"), "content")?;
    match at.fs.hard_link(at.path("file"), at.path("other")) {
        // What a file system without hard links says.
        Err(error) if error.errno() == Errno::EPERM => {
            return Err(fs::Error::from(Errno::EOPNOTSUPP).into());
        }
        linked => linked?,
    }
    same("links", at.fs.metadata(at.path("file"))?.nlink(), 2)?;
    at.fs.remove_file(at.path("file"))?;
    let content = at.fs.read_to_string(at.path("other"))?;
    same("content", content.as_str(), "content")
}

fn errors(at: &Scratch<'_>) -> Checked {
    at.fs.write(at.path("file"), "")?;
    at.fs.create_dir(at.path("d"))?;
    let missing = at.path("missing");
    refused("opening nothing", at.fs.open(&missing), Errno::ENOENT)?;
    refused(
        "removing nothing",
        at.fs.remove_file(&missing),
        Errno::ENOENT,
    )?;
    refused(
        "listing nothing",
        at.fs.read_dir(&missing).map(drop),
        Errno::ENOENT,
    )?;
    let inside = at.fs.metadata(at.path("file/x"));
    refused("a path through a file", inside, Errno::ENOTDIR)?;
    let again = at.fs.create_dir(at.path("d"));
    refused("making a directory again", again, Errno::EEXIST)?;
    refused(
        "writing a directory",
        at.fs.create(at.path("d")),
        Errno::EISDIR,
    )?;
    let file = at.fs.remove_dir(at.path("file"));
    refused("removing a file as a directory", file, Errno::ENOTDIR)
}

fn sync(at: &Scratch<'_>) -> Checked {
    let file = at.fs.create(at.path("file"))?;
    file.write_all(b"safe")?;
    file.sync_data()?;
    file.sync_all()?;
    Ok(file.close()?)
}

fn statfs(at: &Scratch<'_>) -> Checked {
    let found = at.fs.statfs(&at.top.path)?;
    holds(
        found.total_bytes() >= found.free_bytes() && found.total_bytes() > 0,
        "the numbers make no sense",
    )
}

fn many_open(at: &Scratch<'_>) -> Checked {
    let mut files = Vec::new();
    for n in 0_u8..40 {
        let path = at.path(&format!("file-{n}"));
        let file = at.fs.open_with(
            &path,
            OpenOptions::new().read(true).write(true).create(true),
        )?;
        file.write_all(&[n])?;
        files.push(file);
    }
    for (n, file) in files.iter().enumerate() {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0)?;
        same("content", usize::from(byte[0]), n)?;
    }
    files.into_iter().try_for_each(|file| Ok(file.close()?))
}

fn removed_while_open(at: &Scratch<'_>) -> Checked {
    let path = at.path("file");
    at.fs.write(&path, "still here")?;
    let file = at.fs.open(&path)?;
    at.fs.remove_file(&path)?;
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    same("content", content.as_str(), "still here")
}
