//! A domain that is saved goes on, in its own place or in a new domain's, with its open files.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::{XenError, sched};
use xen9p::p9::session::Recovery;
use xen9p::platform::Frame;
use xen9p::sys;
use xen9p::transport::{Transport, TransportError};
use xen9p::xen::console::Console;
use xen9p::xen::shutdown::{ShutdownRequest, ShutdownWatch};
use xen9p::xen::store::wire::Kind;
use xen9p::xen::store::{Refusal, StoreError};
use xen9p::xen::suspend::{SuspendError, Suspended};
use xen9p_testing::backend::{Faults, Handler, Program, echo};
use xen9p_testing::bed::guest::{Bed, GUEST, bed, bed_serving, bed_with, exchange};
use xen9p_testing::fake::{FakeXen, Peer};
use xen9p_testing::server::mem::{MemOptions, MemServer};

#[test]
fn the_hypercall_says_that_it_suspends() {
    let bed = bed(Program::Qemu);
    // SAFETY: nothing is shared in a way that the simulated Xen would change here.
    let outcome = unsafe { sched::suspend(&bed.xen.platform, Frame(0)) };
    assert_eq!(outcome.unwrap().how(), Suspended::Resumed);
    assert_eq!(bed.fake.shutdown_reason(GUEST), Some(sys::SHUTDOWN_suspend));
}

#[test]
fn a_cancelled_suspend_changes_nothing() {
    let bed = bed(Program::Qemu);
    let mut transport = bed.connect().unwrap();
    exchange(&mut transport, 1).unwrap();
    let before = bed.fake.usage(GUEST);
    bed.fake.cancel_suspend(GUEST);
    let outcome = bed.xen.suspend(|| Ok(bed.suspend()));
    assert_eq!(outcome, Ok(Suspended::Cancelled));
    for seed in 0..10 {
        exchange(&mut transport, seed).unwrap();
    }
    assert_eq!(bed.fake.usage(GUEST), before);
    drop(transport);
    assert_eq!(bed.share.borrow().connections(), 1);
    bed.flat();
}

#[test]
fn a_suspend_that_xen_refuses_changes_nothing() {
    let bed = bed(Program::Qemu);
    let mut transport = bed.connect().unwrap();
    let outcome = bed.xen.suspend(|| Err(XenError::EPERM));
    assert_eq!(outcome, Err(SuspendError::Machine(XenError::EPERM)));
    exchange(&mut transport, 1).unwrap();
    drop(transport);
    bed.flat();
}

/// Nothing of the old domain touches the new one, whose ports and grants have the same numbers.
#[test]
fn numbers_of_before_are_not_touched_again() {
    for clears_rings in [true, false] {
        let bed = bed(Program::Qemu);
        let mut old = bed.connect().unwrap();
        exchange(&mut old, 1).unwrap();
        let outcome = bed
            .xen
            .suspend(|| Ok(bed.restore(clears_rings, echo::handler())));
        assert_eq!(outcome, Ok(Suspended::Resumed));

        let mut new = bed.connect().unwrap();
        exchange(&mut new, 2).unwrap();
        let error = old.wait(old.now() + Duration::from_secs(1)).unwrap_err();
        assert!(
            matches!(error, TransportError::Lost(how) if how.contains("saved and restored")),
            "{error}"
        );
        assert_eq!(old.flush(), Err(error));
        // Closing it neither closes the other's ports nor ends its grants, nor tells the new backend.
        drop(old);
        for seed in 3..20 {
            exchange(&mut new, seed).unwrap();
        }
        assert_eq!(bed.share.borrow().troubles(), []);
        drop(new);
        bed.flat();
    }
}

#[test]
fn xenstore_console_and_wishes_go_on() {
    for clears_rings in [true, false] {
        let bed = bed(Program::Qemu);
        let console = Console::open(&bed.xen.events).unwrap();
        let stop = ShutdownWatch::new(&bed.xen.store, true).unwrap();
        let watch = bed.xen.store.watch("data/watched").unwrap();
        bed.fake.settle();
        while watch.take().unwrap().is_some() {}
        assert_eq!(stop.take(), Ok(None));
        console.write(b"before ");
        assert!(console.drain(bed.xen.events.now() + Duration::from_secs(1)));

        bed.fake
            .dom0()
            .write("/local/domain/5/control/shutdown", "suspend");
        bed.fake.settle();
        assert_eq!(stop.take(), Ok(Some(ShutdownRequest::Suspend)));
        let outcome = bed
            .xen
            .suspend(|| Ok(bed.restore(clears_rings, echo::handler())));
        assert_eq!(outcome, Ok(Suspended::Resumed));

        bed.fake.settle();
        assert!(watch.take().unwrap().is_some(), "each watch fires");
        bed.xen.store.write("data/watched/new", b"1").unwrap();
        bed.fake.settle();
        assert!(watch.take().unwrap().is_some(), "and is a watch");
        assert_eq!(stop.take(), Ok(None));
        let suspends = "/local/domain/5/control/feature-suspend";
        assert_eq!(bed.fake.dom0().read_text(suspends).unwrap(), "1");
        bed.fake
            .dom0()
            .write("/local/domain/5/control/shutdown", "poweroff");
        bed.fake.settle();
        assert_eq!(stop.take(), Ok(Some(ShutdownRequest::PowerOff)));

        console.write(b"after");
        assert!(console.drain(bed.xen.events.now() + Duration::from_secs(1)));
        assert_eq!(bed.fake.console_output(GUEST), b"before after");
        bed.fake.console_input(GUEST, b"typed");
        bed.fake.settle();
        let mut into = [0; 8];
        assert_eq!(console.read(&mut into), 5);
        drop((watch, stop, console));
        bed.flat();
    }
}

/// The pages that the former backend had not unmapped are free: no domain maps them any more.
#[test]
fn the_quarantine_ends() {
    let bed = bed_with(Program::Qemu, |share| {
        share.faulty(Faults {
            keeps_maps: true,
            ..Faults::default()
        })
    });
    drop(bed.connect().unwrap());
    assert_ne!(bed.xen.grants.counters().quarantined_pages, 0);
    bed.xen
        .suspend(|| Ok(bed.restore(true, echo::handler())))
        .unwrap();
    assert_eq!(bed.xen.grants.counters().quarantined_pages, 0);
    bed.flat();
}

#[test]
fn a_xenstore_that_is_silent_is_an_error() {
    let bed = bed(Program::Qemu);
    // An abandoned request is still under way.
    drop(bed.xen.store.watch("data/x").unwrap());
    bed.fake.store_faults(|faults| faults.mute = true);
    drop(bed.xen.store.watch("data/y"));
    let outcome = bed.xen.suspend(|| panic!("it is not suspended"));
    assert_eq!(outcome, Err(SuspendError::Busy(StoreError::Timeout)));
    bed.fake.store_faults(|faults| faults.mute = false);
    let outcome = bed.xen.suspend(|| {
        bed.fake.store_faults(|faults| faults.mute = true);
        let watched = bed.xen.store.open_watches();
        assert_eq!(watched, 0);
        Ok(bed.restore(true, echo::handler()))
    });
    // Nothing was watched, and a ring that says that it is served is believed.
    assert_eq!(outcome, Ok(Suspended::Resumed));
    bed.fake.store_faults(|faults| faults.mute = false);
    let watch = bed.xen.store.watch("data/z").unwrap();
    let other = bed.xen.store.watch("data/other").unwrap();
    let outcome = bed.xen.suspend(|| {
        bed.fake.store_faults(|faults| faults.mute = true);
        Ok(bed.restore(true, echo::handler()))
    });
    assert_eq!(outcome, Err(SuspendError::Lost(StoreError::Timeout)));
    bed.fake.store_faults(|faults| faults.mute = false);
    // Everything is watched as soon as it speaks.
    for watch in [watch, other] {
        bed.fake.settle();
        while watch.take().unwrap().is_some() {}
        bed.xen.store.write(watch.path(), b"changed").unwrap();
        bed.fake.settle();
        assert!(watch.take().unwrap().is_some(), "{}", watch.path());
    }
}

/// Xenstored falls silent after so many turns.
struct Silence(u32);

impl Peer for Silence {
    fn step(&mut self, xen: &FakeXen) -> bool {
        xen.store_faults(|faults| faults.mute = self.0 == 0);
        self.0 = self.0.saturating_sub(1);
        false
    }
}

/// Whenever xenstored falls silent after a resume: all is watched and announced once it speaks again.
#[test]
fn a_silence_at_any_moment_of_resuming_is_overcome() {
    let (mut lost, mut resumed) = (0, 0);
    for turns in 0..12 {
        let bed = bed(Program::Qemu);
        let stop = ShutdownWatch::new(&bed.xen.store, true).unwrap();
        let watches = ["data/x", "data/y", "data/z"].map(|path| bed.xen.store.watch(path).unwrap());
        let outcome = bed.xen.suspend(|| {
            let outcome = bed.restore_without_share(turns % 2 == 0);
            bed.fake.store_faults(|faults| faults.chunk = 20);
            bed.fake.add_peer(Silence(turns));
            Ok(outcome)
        });
        match outcome {
            Ok(_) => resumed += 1,
            Err(error) => {
                assert_eq!(error, SuspendError::Lost(StoreError::Timeout));
                lost += 1;
            }
        }
        let _ = stop.take();
        bed.fake.remove_peers();
        bed.fake.store_faults(|faults| faults.mute = false);
        for _ in 0..20 {
            bed.fake.settle();
            bed.xen.store.poll().unwrap();
        }
        for watch in &watches {
            while watch.take().unwrap().is_some() {}
            bed.xen.store.write(watch.path(), b"changed").unwrap();
            bed.fake.settle();
            assert!(watch.take().unwrap().is_some(), "{turns}: {}", watch.path());
        }
        assert_eq!(stop.take(), Ok(None));
        let dom0 = bed.fake.dom0();
        let suspends = "/local/domain/5/control/feature-suspend";
        assert_eq!(dom0.read_text(suspends).unwrap(), "1", "{turns}");
        dom0.write("/local/domain/5/control/shutdown", "poweroff");
        bed.fake.settle();
        assert_eq!(stop.take(), Ok(Some(ShutdownRequest::PowerOff)), "{turns}");
        drop((stop, watches));
        bed.flat();
    }
    assert!(lost > 2 && resumed > 2, "{lost} lost, {resumed} resumed");
}

/// Lets xenstored refuse what it looks at in its first turn, and nothing else.
struct Relents;

impl Peer for Relents {
    fn step(&mut self, xen: &FakeXen) -> bool {
        xen.store_faults(|faults| faults.refuse.clear());
        false
    }
}

#[test]
fn a_watch_that_is_refused_in_the_new_domain_costs_no_other() {
    let bed = bed(Program::Qemu);
    let watches = ["data/x", "data/y"].map(|path| bed.xen.store.watch(path).unwrap());
    for watch in &watches {
        bed.fake.settle();
        assert!(watch.take().unwrap().is_some());
    }
    let outcome = bed.xen.suspend(|| {
        let outcome = bed.restore(true, echo::handler());
        bed.fake.store_faults(|faults| {
            // As much as one request.
            faults.chunk = 25;
            faults.refuse.insert(Kind::WATCH, "ENOSPC");
        });
        bed.fake.add_peer(Relents);
        Ok(outcome)
    });
    let refused = SuspendError::Lost(StoreError::Refused(Refusal::NoSpace));
    assert_eq!(outcome, Err(refused));
    let [refused, watched] = &watches;
    bed.fake.settle();
    while watched.take().unwrap().is_some() {}
    for watch in [refused, watched] {
        bed.xen.store.write(watch.path(), b"changed").unwrap();
    }
    bed.fake.settle();
    assert_eq!(refused.take(), Ok(None));
    assert!(watched.take().unwrap().is_some());
}

#[test]
fn a_hundred_resumes_leave_nothing_behind() {
    let bed = bed(Program::Qemu);
    let mut transport = bed.connect().unwrap();
    for cycle in 0..100 {
        exchange(&mut transport, cycle).unwrap();
        bed.xen
            .suspend(|| Ok(bed.restore(cycle % 2 == 0, echo::handler())))
            .unwrap();
        // The old one goes after the new one has come.
        transport = bed.connect().unwrap();
    }
    drop(transport);
    bed.flat();
}

/// Files: a mount that recovers, and a server that keeps them.
struct Files {
    bed: Bed,
    server: Rc<RefCell<MemServer>>,
    fs: Fs,
}

fn handler(server: &Rc<RefCell<MemServer>>) -> Handler {
    let server = server.clone();
    Box::new(move |request: &[u8]| server.borrow_mut().handle(request))
}

fn files(recovers: bool) -> Files {
    let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let bed = bed_serving(Program::Qemu, handler(&server));
    let options = MountOptions::new();
    let transport = bed.connect().unwrap();
    let fs = match recovers {
        false => Fs::mount(transport, &options),
        true => {
            let recovery = Recovery::new(bed.redial(|_| {}), Duration::from_secs(10));
            Fs::mount_recovering(transport, &options, recovery)
        }
    };
    Files {
        fs: fs.unwrap(),
        bed,
        server,
    }
}

impl Files {
    /// Restores the domain, with another server for its files.
    fn restore(&self, server: &Rc<RefCell<MemServer>>) {
        let outcome = self
            .bed
            .xen
            .suspend(|| Ok(self.bed.restore(true, handler(server))));
        assert_eq!(outcome, Ok(Suspended::Resumed));
    }

    /// A new server process for the same files.
    fn new_process(&self) {
        self.restore(&self.server);
    }
}

#[test]
fn open_files_go_on_in_the_new_domain() {
    let files = files(true);
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    files.fs.write("/in", &content).unwrap();
    let from = files.fs.open("/in").unwrap();
    let to = files.fs.create("/out").unwrap();
    let mut piece = vec![0; 50_000];
    for (index, expected) in content.chunks(piece.len()).enumerate() {
        if index % 3 == 1 {
            files.new_process();
        }
        let place = (index * piece.len()) as u64;
        let piece = &mut piece[..expected.len()];
        from.read_exact_at(piece, place).unwrap();
        assert!(*piece == *expected);
        to.write_all_at(piece, place).unwrap();
    }
    to.sync_all().unwrap();
    assert!(files.server.borrow().get("/out").unwrap() == content);
    assert!(files.fs.stats().recoveries >= 5);
}

#[test]
fn without_recovery_files_fail_with_the_reason() {
    let files = files(false);
    files.fs.write("/kept", b"synced").unwrap();
    let file = files.fs.open("/kept").unwrap();
    files.new_process();
    let error = file.read_exact_at(&mut [0; 6], 0).unwrap_err();
    assert!(error.to_string().contains("saved and restored"), "{error}");
    let error = files.fs.read("/kept").unwrap_err();
    assert!(error.to_string().contains("saved and restored"), "{error}");
    assert_eq!(files.server.borrow().get("/kept").unwrap(), b"synced");
}

#[test]
fn a_share_that_is_another_one_or_gone_is_told() {
    let files = files(true);
    files.fs.write("/kept", b"synced").unwrap();
    let file = files.fs.open("/kept").unwrap();
    let other = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let elsewhere = files.server.clone();
    files.restore(&other);
    let error = file.read_exact_at(&mut [0; 6], 0).unwrap_err();
    assert!(error.to_string().contains("can't be had again"), "{error}");
    assert_eq!(elsewhere.borrow().get("/kept").unwrap(), b"synced");

    let outcome = files
        .bed
        .xen
        .suspend(|| Ok(files.bed.restore_without_share(false)));
    assert_eq!(outcome, Ok(Suspended::Resumed));
    let begun = files.bed.fake.now();
    let error = files.fs.read("/kept").unwrap_err();
    assert!(error.to_string().contains("saved and restored"), "{error}");
    let took = files.bed.fake.now() - begun;
    assert!(took < Duration::from_secs(12), "{took:?}");
}
