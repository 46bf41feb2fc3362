//! Operations whose future is dropped half-way: what comes after them finds all as it should be.

mod fs_common;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fs_common::{Bed, bed_with};
use xen9p::p9::wire::kind;
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
