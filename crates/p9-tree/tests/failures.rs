//! A failure that is told with its path is the last one of the program: whatever fails after it, on whatever tree, is noticed.
//!
//! One test in a program of its own, as failures of all threads are counted.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p9_tree::files::{Copying, DirEntry, Fs};
use p9_tree::io::{BufRead, BufReader, BufWriter, Read, Write};
use p9_tree::trees::{MemNode, MemTree};
use p9_tree::{Error, LockRange, NeverWaits, Result, block_on};
use p9_wire::Errno;

/// Takes nothing and has nothing.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> Result<usize> {
        Ok(0)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An entry of a file that is not there any more.
fn gone(fs: &Fs<MemNode>) -> DirEntry<MemNode> {
    fs.write("/gone", "").unwrap();
    let entry = fs.read_dir("/").unwrap().next().unwrap().unwrap();
    fs.remove_file("/gone").unwrap();
    entry
}

#[test]
fn nothing_fails_unnoticed_after_a_failure() {
    let fs = Fs::new(MemTree::new().root());
    let other = Fs::new(MemTree::new().root());
    fs.write("/f", [0xff, b'\n']).unwrap();
    fs.create_dir_all("/d/a").unwrap();
    fs.create_dir_all("/d/b").unwrap();

    type Step<'a> = (&'a str, &'a dyn Fn() -> Result<()>);
    let open = |fs: &Fs<MemNode>| fs.open("/f").unwrap();
    let steps: [Step<'_>; 16] = [
        ("File::write", &|| open(&fs).write_all(b"x")),
        ("File::read", &|| {
            fs.create("/new").unwrap().read(&mut [0]).map(drop)
        }),
        ("File::read_exact", &|| open(&fs).read_exact(&mut [0; 9])),
        ("File::read_to_string", &|| {
            open(&fs).read_to_string(&mut String::new()).map(drop)
        }),
        ("File::set_len", &|| open(&fs).set_len(0)),
        ("File::lock", &|| {
            open(&fs).lock(LockRange::ALL, true).map(drop)
        }),
        ("Lines", &|| {
            BufReader::new(open(&fs)).lines().next().unwrap().map(drop)
        }),
        ("a stream that ends", &|| (&b""[..]).read_exact(&mut [0])),
        ("a stream that takes nothing", &|| Full.write_all(b"x")),
        ("a buffer before it", &|| {
            let mut buffer = BufWriter::new(Full);
            buffer.write_all(b"x")?;
            buffer.flush()
        }),
        ("an entry that is gone", &|| {
            gone(&other).metadata().map(drop)
        }),
        ("attributes of what is gone", &|| {
            let mut entries = fs.read_dir("/d").unwrap();
            entries.next().unwrap()?;
            fs.remove_dir_all("/d").unwrap();
            entries.with_metadata().next().unwrap()?.1.map(drop)
        }),
        ("a copy", &|| {
            let (from, to) = (open(&fs), open(&fs));
            match Copying::begin(from, 2)?.finish(to, |_| ()) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }),
        ("another tree", &|| other.read("/app.conf").map(drop)),
        ("an asynchronous operation", &|| {
            let operation = pin!(fs.as_async().metadata("/none"));
            match operation.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => done.map(drop),
                Poll::Pending => panic!("it waits"),
            }
        }),
        ("what is run by hand", &|| {
            block_on(&NeverWaits, async { Err(Error::Stale) })
        }),
    ];
    for (what, step) in steps {
        assert_eq!(fs.read("/app.conf"), Err(Errno::ENOENT.into()));
        let failure = fs.last_failure().unwrap();
        assert!(failure.is_last(), "before {what}");
        fs.metadata("/f").unwrap();
        assert!(failure.is_last(), "a success is no failure");
        step().expect_err(what);
        assert!(!failure.is_last(), "{what} failed unnoticed");
        assert_eq!(fs.last_failure().as_ref(), Some(&failure), "{what}");
    }
}
