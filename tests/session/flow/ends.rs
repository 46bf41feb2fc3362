//! Each operation ends: at its deadline, with the connection, by an interruption, or dropped half-way; and the others
//! go on.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::fs::{Error, Fs};
use xen9p::p9::wire::kind;
use xen9p::time::Instant;
use xen9p::transport::TransportError;
use xen9p_testing::bed::memory::{bed, bed_with};
use xen9p_testing::count::with_memory;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

use super::{join, poll_once, wild};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_request_without_answer_ends_at_its_deadline() {
    let bed = wild(2);
    let session = bed.fs.to_async().session().clone();
    bed.control.hold(&[kind::TGETATTR]);
    assert_eq!(bed.fs.metadata("/"), Err(Error::TimedOut));
    assert_eq!(session.stats().flushes, 1);
    // Other requests are not affected.
    assert_eq!(bed.fs.read("/small").unwrap(), b"tiny");
    bed.control.release();
    assert!(bed.fs.metadata("/").is_ok());
    drop(session);
    bed.finish();
}

#[test]
fn an_overdue_request_that_nobody_polls_keeps_nobody_awake() {
    let bed = wild(2);
    let fs = bed.fs.to_async();
    let session = fs.session().clone();
    bed.control.hold(&[kind::TGETATTR]);
    let mut left = Box::pin(fs.metadata("/"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(left.as_mut().poll(&mut cx).is_pending());
    session.pump();
    bed.control.advance(10 * SECOND);
    // The one that is left alone is overdue while this one waits, and time passes only in waits.
    let waits = session.stats().waits;
    assert_eq!(bed.fs.metadata("/"), Err(Error::TimedOut));
    assert!(session.stats().waits - waits < 10);
    let late = left.as_mut().poll(&mut cx);
    assert!(matches!(late, Poll::Ready(Err(Error::TimedOut))));
    drop(left);
    bed.control.release();
    assert!(bed.fs.metadata("/").is_ok());
    drop((fs, session));
    bed.finish();
}

#[test]
fn when_nothing_answers_nothing_hangs() {
    let bed = wild(2);
    bed.control
        .hold(&[kind::TGETATTR, kind::TWALK, kind::TFLUSH]);
    let fs = bed.fs.to_async();
    let timeout = fs.session().timeout();
    let before = bed.control.now();
    // More than there are tags for: the later ones time out without having been sent.
    type Looks<'a> = Vec<Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>>;
    let looks: Looks<'_> = (0..70)
        .map(|_| Box::pin(async { fs.metadata("/").await.map(drop) }) as _)
        .collect();
    let results = join(&bed.fs, looks);
    assert_eq!(results, [Err(Error::TimedOut); 70]);
    assert!(bed.control.now() - before < timeout + SECOND);
    // A server that does not even answer Tflush is lost, and that is told at once from then on.
    let lost = bed.fs.open("/small").map(drop).unwrap_err();
    assert!(matches!(lost, Error::Transport(TransportError::Lost(_))));
    let after = bed.control.now();
    assert!(after - before < timeout * 2 + SECOND);
    bed.control.release();
    assert_eq!(bed.fs.read("/small"), Err(lost));
    assert_eq!(bed.control.now(), after);
}

/// The session waits for answers that no task waits for: they show that the server is there.
#[test]
fn a_clunk_without_answer_is_a_loss_in_the_end() {
    let bed = wild(3);
    let file = bed.fs.open("/small").unwrap();
    bed.control.hold(&[kind::TCLUNK]);
    drop(file);
    let session = bed.fs.to_async().session().clone();
    let before = bed.control.now();
    while session.error().is_none() {
        let waited = bed.control.now() - before;
        assert!(waited < session.timeout() * 2 + SECOND);
        session.wait(bed.control.now() + SECOND);
    }
    assert!(bed.fs.metadata("/").is_err());
}

#[test]
fn a_lost_connection_ends_everything_with_one_error() {
    let bed = wild(3);
    let file = bed.fs.open("/big").unwrap();
    bed.control.lose(&"pulled the plug");
    let mut buffer = vec![0; 1_000_000];
    for _ in 0..2 {
        assert!(matches!(file.read(&mut buffer), Err(Error::Transport(_))));
        assert!(matches!(bed.fs.metadata("/"), Err(Error::Transport(_))));
    }
    assert!(matches!(file.close(), Err(Error::Transport(_))));
}

#[test]
fn a_dropped_future_takes_its_request_back() {
    for flush_cancels in [true, false] {
        for in_order in [true, false] {
            let options = LaneOptions {
                lanes: 2,
                flush_cancels,
                in_order,
                latency: (Duration::from_millis(1), Duration::from_millis(20)),
                seed: 5,
                ..LaneOptions::default()
            };
            let bed = bed_with(options, MemOptions::default(), |server| {
                server.put("/a/b", b"x");
            });
            let fs = bed.fs.to_async();
            let session = fs.session().clone();
            // Each stage of an operation, from its first request to its last.
            for rounds in 0..12 {
                {
                    let mut work = pin!(fs.write("/a/new", b"12345"));
                    for _ in 0..rounds {
                        if poll_once(work.as_mut()).is_ready() {
                            break;
                        }
                        session.pump();
                        bed.control.advance(Duration::from_millis(7));
                        session.pump();
                    }
                }
                assert_eq!(bed.fs.read("/a/b").unwrap(), b"x");
            }
            for _ in 0..20 {
                session.pump();
                bed.control.advance(SECOND);
            }
            session.pump();
            // The root, the directory that names were made in, and nothing else.
            assert_eq!(session.fids_in_use(), 2);
            assert_eq!(bed.server.borrow().fids(), 2);
            assert_eq!(bed.control.reserved(), 0);
            drop((fs, session));
            bed.finish();
        }
    }
}

#[test]
fn a_forgotten_future_does_no_harm() {
    let bed = wild(4);
    let fs = bed.fs.to_async();
    let session = fs.session().clone();
    let file = Box::leak(Box::new(session.block_on(fs.open("/big")).unwrap()));
    let buffer = Box::leak(Box::new(vec![0u8; 200_000]));
    let mut work = Box::pin(file.read_at(buffer, 0));
    assert!(poll_once(work.as_mut()).is_pending());
    std::mem::forget(work);
    // Its replies stand at the heads of the lanes, and must not block them.
    for _ in 0..20 {
        assert_eq!(bed.fs.read("/small").unwrap(), b"tiny");
        assert_eq!(bed.fs.read("/big").unwrap().len(), 1_500_000);
    }
    assert!(session.stats().spills > 0);
}

/// A reply that stands in the way stays there where no memory is left to set it aside, as long as a task comes for it.
#[test]
fn without_memory_a_reply_waits_for_its_task() {
    let bed = wild(4);
    let fs = bed.fs.to_async();
    let session = fs.session().clone();
    let file = session.block_on(fs.open("/big")).unwrap();
    let mut buffer = vec![0u8; 200_000];
    let mut work = Box::pin(file.read_at(&mut buffer, 0));
    assert!(poll_once(work.as_mut()).is_pending());
    for _ in 0..40 {
        bed.control.advance(Duration::from_millis(10));
        with_memory(2048, || session.pump());
    }
    assert_eq!(session.stats().spills, 0);
    assert_eq!(session.block_on(work), Ok(200_000));
}

#[test]
fn an_interrupt_ends_what_waits_and_what_comes_but_not_closing() {
    let bed = wild(6);
    let fs = &bed.fs;
    let file = fs.open("/big").unwrap();
    let interrupt = fs.interrupt();
    let hook_interrupt = interrupt.clone();
    let rounds = Rc::new(Cell::new(0));
    let counted = rounds.clone();
    bed.control.hold(&[kind::TGETATTR]);
    fs.set_idle_hook(Some(Box::new(move || {
        counted.set(counted.get() + 1);
        if counted.get() == 5 {
            hook_interrupt.set();
        }
    })));
    let begin = fs_now(fs);
    assert_eq!(fs.metadata("/"), Err(Error::Interrupted));
    assert!(fs_now(fs) - begin < SECOND);
    assert_eq!(rounds.get(), 5);
    assert_eq!(fs.metadata("/"), Err(Error::Interrupted));
    assert_eq!(fs.open("/small").map(drop), Err(Error::Interrupted));
    bed.control.release();
    file.close().unwrap();
    interrupt.clear();
    assert!(fs.metadata("/").is_ok());
    fs.set_idle_hook(None);
    bed.finish();
}

fn fs_now(fs: &Fs) -> Instant {
    fs.to_async().session().now()
}

#[test]
fn a_closed_session_says_so() {
    let bed = bed();
    let file = bed.fs.create("/f").unwrap();
    bed.fs.to_async().session().abort();
    assert!(matches!(file.write(b"x"), Err(Error::Transport(_))));
    assert!(matches!(file.close(), Err(Error::Transport(_))));
}
