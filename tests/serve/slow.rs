//! A tree in which requests wait: they keep none of those behind them from being served, and a frontend that goes meanwhile is let
//! go of in time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::fs::{Fs, Result};
use xen9p::xen::xenbus::XenbusState::*;

use crate::common::{Bed, Device, Drivers, FRONTEND, SOON, config, domain, mount};

type Looks = Vec<Pin<Box<dyn Future<Output = Result<()>>>>>;

/// A frontend with so many rings, of the smallest order, and what it has mounted.
fn bed(rings: u16) -> (Bed, Drivers, Device, Fs) {
    let bed = Bed::new();
    let xen = domain(&bed.fake, FRONTEND);
    let device = bed.plug(FRONTEND, 0, "/gate");
    let fs = mount(&xen, &config(rings, 2));
    (bed, xen, device, fs)
}

/// Looks at these files, all at once.
fn look(fs: &Fs, files: impl IntoIterator<Item = u64>) -> Looks {
    let look = |file| {
        let fs = fs.to_async();
        let look = async move { fs.metadata(format!("/{file}")).await.map(drop) };
        Box::pin(look) as Pin<Box<dyn Future<Output = _>>>
    };
    files.into_iter().map(look).collect()
}

/// Lets both sides do what they can. How many looks are over.
fn run(bed: &Bed, fs: &Fs, looks: &mut Looks) -> usize {
    let before = looks.len();
    let session = fs.to_async().session().clone();
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..50 {
        session.pump();
        looks.retain_mut(|look| match look.as_mut().poll(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(looked) => {
                looked.unwrap();
                false
            }
        });
        session.pump();
        bed.fake.settle();
    }
    before - looks.len()
}

#[test]
fn requests_that_wait_keep_none_behind_them_from_being_served() {
    for rings in [1, 3] {
        let (bed, _xen, _, fs) = bed(rings);
        let mut looks = look(&fs, 1..=20);
        assert_eq!(run(&bed, &fs, &mut looks), 0);
        for file in 1000..1020 {
            bed.gate.let_through(file);
        }
        looks.extend(look(&fs, 1000..1020));
        assert_eq!(run(&bed, &fs, &mut looks), 20);
        (1..=20).for_each(|file| bed.gate.let_through(file));
        assert_eq!(run(&bed, &fs, &mut looks), 20);
    }
}

/// In each of the ways in which a frontend goes.
#[test]
fn a_frontend_that_goes_while_its_requests_wait_is_let_go_of_in_time() {
    for way in 0..3 {
        let (bed, xen, device, fs) = bed(2);
        let mut looks = look(&fs, [1, 2, 100, 101]);
        assert_eq!(run(&bed, &fs, &mut looks), 0);
        let state = format!("{}/state", device.back);
        match way {
            // The guest is destroyed.
            0 => {
                bed.fake.dom0().write(&state, "6");
                bed.fake.run_for(Duration::from_millis(100));
                std::mem::forget((looks, fs, xen));
                bed.fake.destroy(FRONTEND);
            }
            // The device is unplugged.
            1 => {
                let online = format!("{}/online", device.back);
                bed.fake.dom0().write(&online, "0");
                bed.fake.dom0().write(&state, "5");
                bed.fake.run_for(Duration::from_secs(5));
                drop((looks, fs));
            }
            // The guest dies, and no toolstack is there.
            _ => {
                std::mem::forget((looks, fs, xen));
                bed.fake.destroy(FRONTEND);
                bed.fake.run_for(SOON);
            }
        }
        assert!(!bed.fake.is_zombie(FRONTEND), "way {way}");
        assert!(!bed.is_there(&device.back), "way {way}");
        bed.is_at_rest(0);
        // What waited is of no account any more.
        [1, 2, 100, 101]
            .iter()
            .for_each(|file| bed.gate.let_through(*file));
        bed.is_at_rest(0);
    }
}

#[test]
fn a_frontend_that_comes_again_gets_nothing_of_what_waited() {
    let (bed, xen, device, fs) = bed(2);
    let mut looks = look(&fs, [1, 2, 100]);
    assert_eq!(run(&bed, &fs, &mut looks), 0);
    drop(looks);
    fs.unmount().unwrap();
    bed.reaches(&device.back, Closed);
    assert_eq!(bed.mapped(), 0);
    let fs = mount(&xen, &config(1, 2));
    [1, 2, 100]
        .iter()
        .for_each(|file| bed.gate.let_through(*file));
    assert!(fs.metadata("/").unwrap().is_dir());
    assert!(fs.metadata("/100").unwrap().is_file());
    fs.unmount().unwrap();
    bed.is_at_rest(1);
}
