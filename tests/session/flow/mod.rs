//! With many requests in flight each operation gets its own reply, or ends at its deadline; lanes are shared, flushes
//! and interruptions do no harm.

mod ends;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::fs::{Error, Fs, OpenOptions};
use xen9p::p9::wire::kind;
use xen9p_testing::bed::memory::{Bed, bed, bed_with};
use xen9p_testing::random::content;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

/// Several lanes of 64 KiB that answer in any order.
fn wild(seed: u64) -> Bed {
    let options = LaneOptions {
        lanes: 4,
        capacity: 64 << 10,
        latency: (Duration::from_micros(1), Duration::from_millis(50)),
        in_order: seed.is_multiple_of(2),
        seed,
        ..LaneOptions::default()
    };
    bed_with(options, MemOptions::default(), |server| {
        server.put("/big", &content(1_500_000));
        server.put("/small", b"tiny");
    })
}

/// Polls all futures to their end, as an executor would.
fn join<T>(fs: &Fs, futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    fs.to_async().session().block_on(poll_fn(|cx| {
        for (future, result) in &mut futures {
            if result.is_none()
                && let Poll::Ready(done) = future.as_mut().poll(cx)
            {
                *result = Some(done);
            }
        }
        if futures.iter().all(|(_, result)| result.is_some()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    futures
        .into_iter()
        .map(|(_, result)| result.unwrap())
        .collect()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn large_transfers_use_all_lanes_at_once() {
    for seed in 1..6 {
        let bed = wild(seed);
        let wanted = content(1_500_000);
        assert_eq!(bed.fs.read("/big").unwrap(), wanted);
        assert!(bed.control.most_in_flight() >= 4);
        let lanes: std::collections::HashSet<u16> = bed
            .control
            .served()
            .iter()
            .filter(|(served, _)| *served == kind::TREAD)
            .map(|(_, tag)| tag % 4)
            .collect();
        assert_eq!(lanes.len(), 4);

        bed.fs.write("/copy", &wanted).unwrap();
        assert!(bed.server.borrow().get("/copy").unwrap() == wanted);
        bed.fs.copy("/copy", "/copy2").unwrap();
        assert!(bed.server.borrow().get("/copy2").unwrap() == wanted);
        assert_eq!(bed.fs.stats().spills, 0);
        bed.finish();
    }
}

/// All that a file lends, however its answers come.
fn lent(fs: &Fs, path: &str, at_once: usize) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let see = |span: &mut xen9p::fs::Span<'_>| {
            // Beyond the end there is nothing.
            assert_eq!(span.read(span.len(), &mut [0; 4]), 0);
            span.for_each_piece::<1000>(|piece| all.extend_from_slice(piece));
        };
        let count = file.read_lent_at(before as u64, at_once, see).unwrap();
        assert_eq!(all.len() - before, count);
        if count == 0 {
            return all;
        }
    }
}

#[test]
fn lent_data_comes_in_order() {
    for seed in 1..6 {
        let bed = wild(seed);
        let wanted = content(1_500_000);
        for at_once in [1, 5000, 300_000, 4_000_000] {
            // One at a time would take for ever.
            if at_once == 1 {
                assert_eq!(lent(&bed.fs, "/small", at_once), b"tiny");
            } else {
                assert!(lent(&bed.fs, "/big", at_once) == wanted);
            }
        }
        bed.finish();
    }
    let options = MemOptions {
        io_limit: 777,
        ..MemOptions::default()
    };
    let bed = bed_with(LaneOptions::default(), options, |server| {
        server.put("/big", &content(20_000));
    });
    assert!(lent(&bed.fs, "/big", 20_000) == content(20_000));
    let dir = bed.fs.open("/").unwrap();
    assert!(dir.read_lent_at(0, 10, |_| panic!("no data")).is_err());
    drop(dir);
    bed.finish();
}

#[test]
fn short_answers_are_not_the_end_of_file() {
    let options = MemOptions {
        io_limit: 777,
        ..MemOptions::default()
    };
    let bed = bed_with(LaneOptions::default(), options, |server| {
        server.put("/f", &content(50_000));
    });
    assert_eq!(bed.fs.read("/f").unwrap(), content(50_000));
    bed.fs.write("/g", content(20_000)).unwrap();
    assert_eq!(bed.server.borrow().get("/g").unwrap(), content(20_000));
    let file = bed.fs.open("/f").unwrap();
    let mut buffer = vec![0; 3000];
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, content(3000));
    drop(file);
    bed.finish();
}

#[test]
fn appending_in_many_requests_keeps_the_order() {
    for seed in 1..5 {
        let bed = wild(seed);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&bed.fs, "/log")
            .unwrap();
        let text = content(300_000);
        file.write_all(&text).unwrap();
        file.write_all(b"end").unwrap();
        drop(file);
        let mut wanted = text;
        wanted.extend_from_slice(b"end");
        assert!(bed.server.borrow().get("/log").unwrap() == wanted);
        bed.finish();
    }
}

#[test]
fn many_operations_at_once_get_their_own_replies() {
    for seed in 1..5 {
        let bed = wild(seed);
        let fs = bed.fs.to_async();
        let mut work: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        for index in 0..100usize {
            let fs = fs.clone();
            work.push(Box::pin(async move {
                let path = format!("/file-{index}");
                let text = content(index * 997);
                fs.write(&path, &text).await.unwrap();
                assert!(fs.read(&path).await.unwrap() == text);
                let size = fs.metadata(&path).await.unwrap().len();
                assert_eq!(size as usize, text.len());
                fs.remove_file(&path).await.unwrap();
            }));
        }
        join(&bed.fs, work);
        assert!(bed.control.most_in_flight() > 30);
        drop(fs);
        bed.finish();
    }
}

#[test]
fn small_requests_pass_by_bulk_data() {
    let options = LaneOptions {
        lanes: 2,
        capacity: 64 << 10,
        latency: (Duration::from_millis(10), Duration::from_millis(10)),
        ..LaneOptions::default()
    };
    let bed = bed_with(options, MemOptions::default(), |server| {
        server.put("/big", &content(20_000));
    });
    let fs = bed.fs.to_async();
    let session = fs.session().clone();
    let file = session.block_on(fs.open("/big")).unwrap();
    let mut buffer = vec![0; 20_000];
    let mut bulk = Box::pin(file.read_at(&mut buffer, 0));
    assert!(poll_once(bulk.as_mut()).is_pending());
    // The only bulk request is on one lane; all of these take the other.
    for _ in 0..10 {
        let before = bed.control.served().len();
        session.block_on(fs.metadata("/")).unwrap();
        let served = bed.control.served();
        assert!(
            served[before..]
                .iter()
                .any(|(served, _)| *served == kind::TGETATTR)
        );
    }
    assert_eq!(session.block_on(bulk.as_mut()), Ok(20_000));
    drop(bulk);
    drop(file);
    drop((fs, session));
    bed.finish();
}

#[test]
fn the_idle_hook_may_use_the_mount_itself() {
    let bed = wild(8);
    let inner = bed.fs.clone();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    bed.fs.set_idle_hook(Some(Box::new(move || {
        log.borrow_mut().push(inner.read("/small").unwrap());
    })));
    assert_eq!(bed.fs.read("/big").unwrap().len(), 1_500_000);
    assert!(seen.borrow().iter().all(|text| text == b"tiny"));
    assert!(!seen.borrow().is_empty());
    bed.fs.set_idle_hook(None);
    bed.finish();
}

#[test]
fn both_faces_side_by_side() {
    let bed = wild(10);
    let fs = bed.fs.to_async();
    let session = fs.session().clone();
    let mut work = Box::pin(fs.read("/big"));
    assert!(poll_once(work.as_mut()).is_pending());
    assert_eq!(bed.fs.read("/small").unwrap(), b"tiny");
    assert_eq!(session.block_on(work.as_mut()).unwrap().len(), 1_500_000);
    drop(work);
    drop((fs, session));
    bed.finish();
}

#[test]
fn two_mounts_mixed_up() {
    let (one, two) = (bed(), bed());
    let session = one.fs.to_async().session().clone();
    let (first, _) = session.block_on(session.attach(None, b"", 0, b"")).unwrap();
    let other = two.fs.to_async().session().clone();
    let (second, _) = other.block_on(other.attach(None, b"", 0, b"")).unwrap();
    assert_eq!(
        session.block_on(first.link(&second, b"x")),
        Err(Error::Closed)
    );
    assert_eq!(
        session.block_on(first.renameat(b"a", &second, b"b")),
        Err(Error::Closed)
    );
    drop((first, second, session, other));
    one.finish();
    two.finish();
}

#[test]
fn several_attaches_share_a_session() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    let other = bed
        .fs
        .attach(&xen9p::fs::MountOptions::new().user("someone", 7))
        .unwrap();
    assert_eq!(other.read("/f").unwrap(), b"x");
    other.unmount().unwrap();
    assert_eq!(bed.fs.read("/f").unwrap(), b"x");
    bed.finish();
}

#[test]
fn small_reads_in_a_row_are_read_ahead() {
    let bed = bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        server.put("/big", &content(1 << 20));
        server.put("/other", b"");
    });
    let wanted = content(1 << 20);
    let file = bed.fs.open("/big").unwrap();
    let mut buffer = vec![0; 4096];
    let (_, cost) = bed.cost(|_| {
        for piece in wanted.chunks(4096) {
            file.read_exact(&mut buffer).unwrap();
            assert!(buffer == piece);
        }
        assert_eq!(file.read(&mut buffer).unwrap(), 0);
    });
    assert!(cost <= 18, "{cost} requests for 256 reads");

    // What this session changes is seen at once, by whatever handle it does so.
    file.rewind().unwrap();
    for _ in 0..10 {
        file.read_exact(&mut buffer).unwrap();
    }
    let mut options = OpenOptions::new();
    let writer = options.write(true).open(&bed.fs, "/big").unwrap();
    writer.write_all_at(&[0xee; 4096], 10 * 4096).unwrap();
    file.read_exact(&mut buffer).unwrap();
    assert!(buffer == [0xee; 4096]);
    writer.set_len(11 * 4096 + 5).unwrap();
    assert_eq!(file.read(&mut buffer).unwrap(), 5);
    assert_eq!(file.read(&mut buffer).unwrap(), 0);
    drop((file, writer));

    // Reads here and there are what they are.
    let file = bed.fs.open("/big").unwrap();
    let (_, cost) = bed.cost(|_| {
        for at in [3u64, 9, 1, 7, 2, 8] {
            file.seek(xen9p::fs::SeekFrom::Start(at * 4096)).unwrap();
            file.read_exact(&mut buffer).unwrap();
        }
    });
    assert_eq!(cost, 6);
    drop(file);
    bed.finish();
}
