//! The search for a server is bounded, can be interrupted, and refuses a server that can do less than the lost one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use xen9p::fs::{Error, Fs, MountOptions};
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::kind;
use xen9p::transport::TransportError;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

use xen9p_testing::bed::recovering::{RECOVERY_TIMEOUT, site, site_with};
use xen9p_testing::random::content;

#[test]
fn losses_while_it_is_found_again() {
    let site = site();
    for index in 0..10 {
        site.fs
            .write(format!("/{index}"), format!("{index}"))
            .unwrap();
    }
    let files: Vec<_> = (0..10)
        .map(|index| site.fs.open(format!("/{index}")).unwrap())
        .collect();
    // Lost at the first request of the new connection, then at the second …
    site.while_away(|number, control| {
        if number <= 25 {
            control.lose_at(&[], number - 1, number % 2 == 0);
        }
    });
    site.lose();
    for (index, file) in files.iter().enumerate() {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, index.to_string());
    }
    assert_eq!(*site.tries.borrow(), 26);
    drop(files);
    site.end();
}

#[test]
fn a_request_that_is_lost_each_time_ends() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    site.while_away(|_, control| control.lose_at(&[kind::TGETATTR], 0, false));
    site.lose_at(&[kind::TGETATTR], 0, false);
    assert!(matches!(
        site.fs.metadata("/file"),
        Err(Error::Transport(_))
    ));
    *site.outage.borrow_mut() = None;
    site.lose();
    assert!(site.fs.metadata("/file").is_ok());
    site.end();
}

#[test]
fn what_a_new_server_cannot_do_is_refused() {
    type Bend = fn(&mut LaneOptions, &mut MemOptions);
    type Expected = fn(&Error) -> bool;
    let bends: [(&str, Bend, Expected); 4] = [
        (
            "no dialect of ours",
            |_, server| server.lacks = vec![kind::TVERSION],
            |error| matches!(error, Error::NoCommonDialect),
        ),
        (
            "smaller messages of the transport",
            |lanes, _| lanes.capacity /= 2,
            |error| matches!(error, Error::MessageSize(_)),
        ),
        (
            "smaller messages of the server",
            |_, server| server.msize = 8192,
            |error| matches!(error, Error::MessageSize(8192)),
        ),
        (
            "another number of rings",
            |lanes, _| lanes.lanes = 3,
            |error| matches!(error, Error::InvalidInput(_)),
        ),
    ];
    for (name, bend, expected) in bends {
        let site = site();
        site.fs.write("/file", b"x").unwrap();
        let mut server = MemOptions::default();
        bend(&mut site.options.borrow_mut(), &mut server);
        *site.server.borrow_mut() = MemServer::new(server);
        site.lose();
        let error = site.fs.read("/file").unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        assert_eq!(site.fs.read("/file").unwrap_err(), error, "{name}");
    }
}

#[test]
fn another_dialect_is_refused() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    site.while_away(|_, control| {
        control.tamper(|request, mut reply| {
            if request[4] == kind::TVERSION {
                *reply.last_mut().unwrap() = b'u';
            }
            vec![reply]
        });
    });
    site.lose();
    assert_eq!(site.fs.read("/file"), Err(Error::NoCommonDialect));
    assert_eq!(site.fs.read("/file"), Err(Error::NoCommonDialect));
    assert_eq!(*site.tries.borrow(), 1);
}

/// What makes no sense is no server: perhaps the next try finds one.
#[test]
fn lies_while_it_is_found_again() {
    let lies: [fn(&mut Vec<u8>); 4] = [
        |reply| reply[4] = kind::RSTATFS,
        |reply| reply[5] ^= 1,
        |reply| reply.truncate(7),
        |reply| reply.extend([0; 1]),
    ];
    for lie in lies {
        let site = site();
        site.fs.write("/file", b"content").unwrap();
        let file = site.fs.open("/file").unwrap();
        // About Rversion, then about Rattach, Rwalk and Rlopen.
        site.while_away(move |number, control| {
            let mut honest = number - 1;
            control.tamper(move |_, mut reply| {
                if honest == 0 && number <= 4 {
                    lie(&mut reply);
                    let size = reply.len() as u32;
                    reply[..4].copy_from_slice(&size.to_le_bytes());
                }
                honest = honest.wrapping_sub(1);
                vec![reply]
            });
        });
        site.lose();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert_eq!(*site.tries.borrow(), 5);
        drop(file);
        site.end();
    }
}

/// A new server may take its time for each answer, but not for all of them.
#[test]
fn a_slow_server_is_not_waited_for_without_end() {
    let site = site();
    let files: Vec<_> = (0..50)
        .map(|number| site.fs.create(format!("/{number}")).unwrap())
        .collect();
    let slow = Duration::from_secs(20);
    site.options.borrow_mut().latency = (slow, slow);
    let before = site.control.borrow().now();
    site.lose();
    let lost = Err(Error::Transport(TransportError::Lost(&"for a test")));
    assert_eq!(files[0].sync_all(), lost);
    let timeout = site.fs.to_async().session().timeout();
    assert!(site.control.borrow().now() - before <= RECOVERY_TIMEOUT + timeout + slow);
}

#[test]
fn fewer_rings_will_do() {
    let site = site_with(LaneOptions {
        lanes: 8,
        ..LaneOptions::default()
    });
    let expected = content(2_000_000);
    site.fs.write("/file", &expected).unwrap();
    let file = site.fs.open("/file").unwrap();
    site.options.borrow_mut().lanes = 4;
    site.lose_at(&[kind::TREAD], 1, false);
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found == expected);
    drop(file);
    site.finish(1);
}

#[test]
fn patience_ends() {
    let (transport, control) = {
        let mut server = MemServer::new(MemOptions::default());
        lanes(LaneOptions::default(), move |request| {
            server.handle(request)
        })
    };
    let watch = control.clone();
    let tries = Rc::new(Cell::new(0));
    let counted = tries.clone();
    let redial = move || {
        counted.set(counted.get() + 1);
        watch.advance(Duration::from_secs(1));
        Ok(None)
    };
    let recovery = Recovery::new(redial, RECOVERY_TIMEOUT);
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
    let before = control.now();
    control.lose(&"for ever");
    let lost = Error::Transport(TransportError::Lost(&"for ever"));
    assert_eq!(fs.metadata("/").map(drop), Err(lost));
    assert_eq!(control.now() - before, RECOVERY_TIMEOUT);
    assert_eq!(fs.create_dir("/x"), Err(lost));
    // Given up is given up: an idle loop that looks after the session is not kept from its work again.
    let session = fs.to_async().session().clone();
    assert_eq!(tries.get(), 10);
    session.pump();
    session.wait(session.now() + Duration::from_secs(1));
    assert_eq!(session.error(), Some(lost));
    assert_eq!(tries.get(), 10);
}

#[test]
fn an_abort_ends_the_search() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let session = site.fs.to_async().session().clone();
    site.while_away(|_, control| control.lose(&"not yet"));
    site.fs.set_idle_hook(Some(Box::new({
        let (session, tries) = (session.clone(), site.tries.clone());
        move || {
            if *tries.borrow() == 3 {
                session.abort();
            }
        }
    })));
    site.lose();
    let closed = Err(Error::Transport(TransportError::Closed));
    assert_eq!(site.fs.metadata("/file").map(drop), closed);
    assert_eq!(*site.tries.borrow(), 3);
    site.fs.set_idle_hook(None);
    drop(session);
}

#[test]
fn an_interrupt_ends_the_search_and_another_operation_takes_it_up() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let file = site.fs.open("/file").unwrap();
    let interrupt = site.fs.interrupt();
    site.fs.set_idle_hook(Some(Box::new({
        let interrupt = interrupt.clone();
        move || interrupt.set()
    })));
    site.lose();
    assert_eq!(file.read(&mut [0; 1]), Err(Error::Interrupted));
    assert_eq!(*site.tries.borrow(), 0);
    site.fs.set_idle_hook(None);
    interrupt.clear();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    file.close().unwrap();
    let stats = site.fs.stats();
    assert_eq!((stats.losses, stats.recoveries), (1, 1));
    site.end();
}

#[test]
fn who_asks_from_within_the_search_is_told_at_once() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    site.fs.set_idle_hook(Some(Box::new({
        let (fs, told) = (site.fs.clone(), told.clone());
        move || told.borrow_mut().push(fs.metadata("/file").map(drop))
    })));
    site.lose();
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    site.fs.set_idle_hook(None);
    assert!(matches!(told.borrow()[0], Err(Error::Transport(_))));
    site.finish(1);
}

/// As one of another thread does, which can sleep until the search is over: it is polled, and not driven to its end from within.
#[test]
fn an_operation_that_begins_during_the_search_waits_for_its_end() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let (other, polls) = (site.fs.to_async().clone(), Rc::new(Cell::new(0)));
    let asked = async move { other.metadata("/file").await.map(|found| found.len()) };
    let asked = Rc::new(RefCell::new(Box::pin(asked)));
    site.while_away({
        let (asked, polls) = (asked.clone(), polls.clone());
        move |_, _| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(asked.borrow_mut().as_mut().poll(&mut cx).is_pending());
            polls.set(polls.get() + 1);
        }
    });
    site.lose();
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    assert!(polls.get() > 0);
    *site.outage.borrow_mut() = None;
    let mut asked = asked.borrow_mut();
    let found = site.fs.to_async().session().block_on(asked.as_mut());
    assert_eq!(found, Ok(7));
    site.finish(1);
}

#[test]
fn nobody_is_needed_to_close() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    let file = site.fs.open("/file").unwrap();
    site.lose();
    let interrupt = site.fs.interrupt();
    interrupt.set();
    assert_eq!(file.metadata().map(drop), Err(Error::Interrupted));
    interrupt.clear();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(site.fs.clone().unmount(), Ok(()));
    assert_eq!(*site.tries.borrow(), 0);
    let control = site.control.borrow().clone();
    drop(site);
    assert!(control.is_closed());
}
