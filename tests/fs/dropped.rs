//! A future that is dropped half-way leaves the mount as sound as before.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use xen9p::errno::Errno;
use xen9p::fs::Error;
use xen9p::p9::wire::kind;
use xen9p_testing::bed::memory::{Bed, bed, bed_with};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

/// Begins something, and gives it up where the server is silent: at the next request of this type.
fn give_up<T>(bed: &Bed, kind: u8, work: impl Future<Output = T>) {
    bed.control.hold(&[kind]);
    {
        let mut work = pin!(work);
        for _ in 0..10 {
            let poll = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(poll, Poll::Pending), "nothing was waited for");
            bed.fs.to_async().session().pump();
        }
    }
    bed.control.release();
}

/// A directory of some hundred files, more than one answer has room for.
fn many() -> Bed {
    let options = MemOptions {
        msize: 4096,
        ..MemOptions::default()
    };
    bed_with(LaneOptions::default(), options, |server| {
        for number in 0..200 {
            server.put(&format!("/dir/{number:03}"), b"");
        }
    })
}

#[test]
fn a_listing_goes_on_where_it_was_given_up() {
    let bed = many();
    let fs = bed.fs.to_async();
    let session = fs.session();
    let mut listing = session.block_on(fs.read_dir("/dir")).unwrap();
    let mut names = Vec::new();
    give_up(&bed, kind::TREADDIR, listing.next());
    while let Some(entry) = session.block_on(listing.next()) {
        names.push(entry.unwrap().file_name().to_vec());
    }
    check_names(names);
    drop((listing, fs));
    bed.finish();
}

#[test]
fn a_listing_with_attributes_misses_nothing_where_it_was_given_up() {
    let bed = many();
    let fs = bed.fs.to_async();
    let session = fs.session();
    let listing = session.block_on(fs.read_dir("/dir")).unwrap();
    let mut listing = listing.with_metadata();
    // The way to the directory is looked up for the first entry's attributes.
    give_up(&bed, kind::TWALK, listing.next());
    let mut names = Vec::new();
    while let Some(entry) = session.block_on(listing.next()) {
        let (entry, metadata) = entry.unwrap();
        metadata.unwrap();
        names.push(entry.file_name().to_vec());
    }
    check_names(names);
    drop((listing, fs));
    bed.finish();
}

fn check_names(names: Vec<Vec<u8>>) {
    let all: Vec<Vec<u8>> = (0..200).map(|n| format!("{n:03}").into_bytes()).collect();
    let mut names = names;
    names.sort();
    assert_eq!(names, all);
}

#[test]
fn a_directory_is_not_kept_where_it_may_have_been_moved_from() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir_all("/a/b").unwrap();
    for name in ["1", "2", "3"] {
        fs.write(format!("/a/b/{name}"), name).unwrap();
    }
    let ((), cost) = bed.cost(|fs| fs.remove_file("/a/b/3").unwrap());
    assert_eq!(cost, 1, "the directory is not kept");
    let other = fs.to_async();
    // The server does it, but no task waits for the answer any more.
    bed.control.hold(&[kind::TRENAMEAT]);
    {
        let mut rename = pin!(other.rename("/a/b", "/a/c"));
        let mut poll = || {
            rename
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        };
        for _ in 0..10 {
            assert!(poll().is_pending());
            other.session().pump();
        }
        bed.control.release();
        other.session().pump();
    }
    assert_eq!(fs.write("/a/b/4", "4"), Err(Error::Errno(Errno::ENOENT)));
    assert_eq!(fs.read("/a/c/1").unwrap(), b"1");
    drop(other);
    bed.finish();
}

#[test]
fn nothing_stays_of_a_read_that_was_given_up() {
    let content: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
    let bed = bed();
    bed.fs.write("/file", &content).unwrap();
    let fs = bed.fs.to_async();
    let session = fs.session();
    let file = session.block_on(fs.open("/file")).unwrap();
    let mut bytes = b"front".to_vec();
    give_up(&bed, kind::TREAD, file.read_to_end(&mut bytes));
    assert_eq!(bytes, b"front");
    // The size is asked for when the first piece has come.
    give_up(&bed, kind::TGETATTR, file.read_to_end(&mut bytes));
    assert_eq!(bytes, b"front");
    let count = session.block_on(file.read_to_end(&mut bytes)).unwrap();
    assert_eq!(count, content.len());
    assert!(bytes.starts_with(b"front") && bytes.ends_with(&content));
    drop((file, fs));
    bed.finish();
}
