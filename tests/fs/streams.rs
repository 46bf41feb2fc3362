//! Streams and their buffers do what those of `std` do, lose nothing, and tell every error once.

use std::cell::RefCell;
use std::io as theirs;
use std::rc::Rc;

use proptest::prelude::*;
use xen9p::errno::Errno;
use xen9p::ns::{MemTree, Namespace};
use xen9p::tree::io::{self, BufRead, BufReader, BufWriter, Error, Read, Seek, SeekFrom, Write};
use xen9p_testing::bed::memory::bed;

/// Gives so many bytes at a time, and fails after the last if it is to.
struct Slow {
    bytes: Vec<u8>,
    step: usize,
    fails: Option<Error>,
}

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(into.len()).min(self.bytes.len());
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.drain(..count);
        match self.fails {
            Some(error) if count == 0 && !into.is_empty() => Err(error),
            _ => Ok(count),
        }
    }
}

/// Takes so many bytes at a time, and none beyond its room.
#[derive(Clone, Default)]
struct Tight {
    taken: Rc<RefCell<Vec<u8>>>,
    step: usize,
    room: usize,
    calls: Rc<RefCell<usize>>,
}

impl Write for Tight {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        *self.calls.borrow_mut() += 1;
        let mut taken = self.taken.borrow_mut();
        let count = self.step.min(from.len()).min(self.room - taken.len());
        if count == 0 && !from.is_empty() {
            return Err(Errno::ENOSPC.into());
        }
        taken.extend_from_slice(&from[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slow(bytes: &[u8], step: usize) -> Slow {
    Slow {
        bytes: bytes.into(),
        step,
        fails: None,
    }
}

proptest! {
    #[test]
    fn lines_are_those_of_std(text in "[a\r\n]{0,40}", step in 1_usize..9, capacity in 1_usize..9) {
        let ours = BufReader::with_capacity(capacity, slow(text.as_bytes(), step)).lines();
        let ours: Vec<String> = ours.collect::<io::Result<_>>().unwrap();
        let theirs = theirs::BufRead::lines(text.as_bytes());
        let theirs: Vec<String> = theirs.collect::<theirs::Result<_>>().unwrap();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn parts_are_those_of_std(text in "[a;]{0,40}", limit in 0_u64..50, step in 1_usize..9, capacity in 1_usize..9) {
        let mut ours = BufReader::with_capacity(capacity, slow(text.as_bytes(), step));
        let mut theirs = text.as_bytes();
        let piece: Vec<u8> = ours.by_ref().take(3).bytes().collect::<io::Result<_>>().unwrap();
        let expected = theirs::Read::bytes(theirs::Read::take(&mut theirs, 3));
        prop_assert_eq!(piece, expected.collect::<theirs::Result<Vec<u8>>>().unwrap());
        let pieces = ours.by_ref().take(limit).split(b';').collect::<io::Result<Vec<_>>>().unwrap();
        let expected = theirs::BufRead::split(theirs::Read::take(&mut theirs, limit), b';');
        prop_assert_eq!(pieces, expected.collect::<theirs::Result<Vec<_>>>().unwrap());
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).unwrap();
        prop_assert_eq!(rest, theirs);
    }

    #[test]
    fn what_is_written_arrives_in_order(pieces in prop::collection::vec("[a-z]{0,12}", 0..20), step in 1_usize..9, capacity in 0_usize..9) {
        let tight = Tight { step, room: usize::MAX, ..Tight::default() };
        let mut out = BufWriter::with_capacity(capacity, tight.clone());
        for piece in &pieces {
            out.write_all(piece.as_bytes()).unwrap();
        }
        out.into_inner().unwrap();
        let expected = pieces.concat();
        prop_assert_eq!(&*tight.taken.borrow(), expected.as_bytes());
    }
}

#[test]
fn readers_keep_their_promises() {
    let mut all = Vec::new();
    assert_eq!(slow(&[7; 100_000], 977).read_to_end(&mut all), Ok(100_000));
    assert!(all == [7; 100_000]);
    let mut four = [0; 4];
    assert_eq!(
        slow(b"abc", 1).read_exact(&mut four),
        Err(Error::UnexpectedEof)
    );
    let mut text = "kept".to_string();
    assert_eq!(
        slow(b"a\xffb", 2).read_to_string(&mut text),
        Err(Error::NotUtf8)
    );
    assert_eq!(text, "kept");
    // What was read before an error is there.
    let mut failing = Slow {
        fails: Some(Error::TimedOut),
        ..slow(b"abc", 2)
    };
    let mut found = Vec::new();
    assert_eq!(failing.read_to_end(&mut found), Err(Error::TimedOut));
    assert_eq!(found, b"abc");
    // A reader that says it gave more than there was room for harms no one.
    struct Liar;
    impl Read for Liar {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            Ok(into.len() + 1)
        }
    }
    let mut reader = BufReader::with_capacity(4, Liar);
    assert_eq!(reader.fill_buf().map(<[u8]>::len), Ok(4));
    reader.consume(usize::MAX);
    assert_eq!(reader.buffer(), b"");
    // The position that is told is the one that the program is at.
    let files = Namespace::new(MemTree::new());
    files.write("/f", "0123456789").unwrap();
    let mut reader = BufReader::new(files.open("/f").unwrap());
    reader.read_exact(&mut four).unwrap();
    assert_eq!(reader.stream_position(), Ok(4));
    assert_eq!(reader.seek(SeekFrom::Current(2)), Ok(6));
    reader.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"6789");
    assert!(reader.seek(SeekFrom::Current(-11)).is_err());
    assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
}

#[test]
fn a_full_disk_is_told_and_nothing_is_written_twice() {
    let tight = Tight {
        step: 3,
        room: 10,
        ..Tight::default()
    };
    let mut out = BufWriter::with_capacity(8, tight.clone());
    out.write_all(b"01234567").unwrap();
    out.write_all(b"89abc").unwrap();
    assert_eq!(out.flush(), Err(Errno::ENOSPC.into()));
    assert_eq!(out.buffer(), b"abc");
    assert_eq!(out.flush(), Err(Errno::ENOSPC.into()));
    assert_eq!(out.into_inner().map(drop), Err(Errno::ENOSPC.into()));
    assert_eq!(&*tight.taken.borrow(), b"0123456789");
    // Dropping writes what is left.
    let tight = Tight {
        step: 100,
        room: 100,
        ..Tight::default()
    };
    let (first, last) = ("the", "end");
    write!(BufWriter::new(tight.clone()), "{first} {last}").unwrap();
    assert_eq!(&*tight.taken.borrow(), b"the end");
}

#[test]
fn formatted_text_is_one_request_for_a_line() {
    let bed = bed();
    let file = bed.fs.create("/log").unwrap();
    let before = bed.fs.stats().requests;
    let (what, done, all) = ("copied", 12, 4711);
    writeln!(file, "{what}: {done:>5} of {all}").unwrap();
    assert_eq!(bed.fs.stats().requests - before, 1);
    let long = "x".repeat(1000);
    write!(file, "{long}{long}").unwrap();
    assert_eq!(bed.fs.stats().requests - before, 5);
    assert_eq!(file.metadata().unwrap().len(), 22 + 2000);
    // A closed handle, and one for reading.
    let read_only = bed.fs.open("/log").unwrap();
    assert_eq!(writeln!(read_only, "{}", 1), Err(Errno::EBADF.into()));
    drop((file, read_only));
    bed.finish();
}

#[test]
fn a_value_that_can_not_be_formatted_is_an_error() {
    struct Broken;
    impl std::fmt::Display for Broken {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    let mut out = Vec::new();
    let error = write!(out, "a{Broken}").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
