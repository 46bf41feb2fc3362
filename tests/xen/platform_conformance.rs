//! The conformance test for platforms: the simulated Xen passes it, and each way to break the contract is found.
//! Where it was not run, such a platform ends in an error of the driver that meets it first, or in files that work all the same.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::conformance::{self, Violation};
use xen9p::platform::{BuilderRing, DomainState, Frame, PAGE_SIZE, Page, Platform, View};
use xen9p::time::Instant;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::{Events, Port};
use xen9p::xen::grant::{GrantError, Grants};
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const GUEST: DomId = DomId(1);

/// How long each step may take, of the simulated time.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a platform does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    MisalignedPages,
    DirtyPages,
    SamePages,
    EndlessPages,
    NoMoreAllocations(u32),
    NextFrame,
    SameFrame,
    ChangingFrame,
    NoSuchFrame,
    NoHypercalls,
    EagerHypercalls,
    WritesNotSeen,
    OtherGrantFrame,
    MovingGrantFrame,
    MisalignedGrantFrame,
    NoGrantFrame,
    MisalignedWindow,
    OneWindow,
    OtherWindow,
    StatePerHandle,
    LostEvents,
    StickyEvents,
    MadeUpEvents,
    BackwardClock,
    StandingClock,
    SameRings,
    UnboundRing,
}

/// A platform with a flaw.
struct Flawed {
    good: FakePlatform,
    flaw: Flaw,
    calls: Rc<Cell<u32>>,
    kept: Rc<RefCell<Vec<NonNull<Page>>>>,
    own: Box<DomainState>,
}

impl Clone for Flawed {
    fn clone(&self) -> Self {
        Flawed {
            good: self.good.clone(),
            calls: self.calls.clone(),
            kept: self.kept.clone(),
            own: Box::default(),
            ..*self
        }
    }
}

impl Flawed {
    fn new(xen: &FakeXen, flaw: Flaw) -> Self {
        Flawed {
            good: xen.platform(GUEST),
            flaw,
            calls: Rc::default(),
            kept: Rc::default(),
            own: Box::default(),
        }
    }

    /// How many calls of this kind there were before.
    fn count(&self) -> u32 {
        self.calls.replace(self.calls.get() + 1)
    }

    fn shifted(page: NonNull<Page>, by: isize) -> NonNull<Page> {
        // SAFETY: the allocation has a page more than was asked for.
        unsafe { page.byte_offset(by) }
    }
}

// SAFETY: none of the flaws makes the simulated domain's memory anything but memory of this process; who is
// misled is the code under test, which is what this is for.
unsafe impl Platform for Flawed {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        let one_more = count.saturating_add(1);
        match self.flaw {
            Flaw::EndlessPages if count.get() > 1 << 30 => self.good.alloc_pages(NonZeroUsize::MIN),
            _ if count.get() > 1 << 30 => None,
            Flaw::NoMoreAllocations(after) if self.count() >= after => None,
            Flaw::MisalignedPages => Some(Self::shifted(self.good.alloc_pages(one_more)?, 8)),
            Flaw::DirtyPages => {
                let first = self.good.alloc_pages(count)?;
                // SAFETY: the last byte of the pages just allocated.
                unsafe { first.cast::<u8>().add(count.get() * PAGE_SIZE - 1).write(1) };
                Some(first)
            }
            Flaw::SamePages => {
                let mut kept = self.kept.borrow_mut();
                if kept.is_empty() {
                    let pages = NonZeroUsize::new(32).unwrap();
                    kept.push(self.good.alloc_pages(pages)?);
                }
                Some(kept[0])
            }
            _ => self.good.alloc_pages(count),
        }
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        let (first, count) = match self.flaw {
            Flaw::MisalignedPages => (Self::shifted(first, -8), count.saturating_add(1)),
            Flaw::SamePages => return,
            _ => (first, count),
        };
        // SAFETY: as they were allocated above.
        unsafe { self.good.free_pages(first, count) };
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        let frame = self.good.frame(page);
        match self.flaw {
            // Right in number and kind, but another page's.
            Flaw::NextFrame => Frame(frame.0 ^ 1),
            Flaw::SameFrame => Frame(0x1_0000),
            Flaw::ChangingFrame => Frame(frame.0 + u64::from(self.count())),
            Flaw::NoSuchFrame => Frame(frame.0 + 0x100_0000),
            _ => frame,
        }
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        match self.flaw {
            Flaw::NoHypercalls => return -(XenError::ENOSYS.0 as isize),
            Flaw::EagerHypercalls => return 4 << 16,
            Flaw::WritesNotSeen if number == xen9p::sys::__HYPERVISOR_event_channel_op => {
                // Xen is given a copy, as by a platform whose assembly hides what Xen writes.
                let mut copy = [0_u64; 4];
                let original: *const u64 = std::ptr::with_exposed_provenance(args[1]);
                if args[0] as u32 == xen9p::sys::EVTCHNOP_status {
                    // SAFETY: the structure is 24 bytes of integers.
                    unsafe { copy.as_mut_ptr().copy_from(original, 3) };
                    let copy = copy.as_mut_ptr().expose_provenance();
                    // SAFETY: the caller's promise, for the copy.
                    return unsafe { self.good.hypercall(number, [args[0], copy, 0, 0, 0]) };
                }
            }
            _ => {}
        }
        // SAFETY: the caller's promise.
        unsafe { self.good.hypercall(number, args) }
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        let page = self.good.grant_frame(index)?;
        Ok(match self.flaw {
            Flaw::NoGrantFrame => return Err(XenError::ENOSPC),
            Flaw::OtherGrantFrame => {
                let mut kept = self.kept.borrow_mut();
                if kept.is_empty() {
                    let page = self.good.alloc_pages(NonZeroUsize::MIN);
                    kept.push(page.ok_or(XenError::ENOMEM)?);
                }
                kept[0]
            }
            Flaw::MovingGrantFrame => {
                let page = self.good.alloc_pages(NonZeroUsize::MIN);
                page.ok_or(XenError::ENOMEM)?
            }
            Flaw::MisalignedGrantFrame => Self::shifted(page, 16),
            _ => page,
        })
    }

    fn alloc_window(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        match self.flaw {
            Flaw::MisalignedWindow => {
                let first = self.good.alloc_window(count.saturating_add(1))?;
                Some(Self::shifted(first, 8))
            }
            _ => self.good.alloc_window(count),
        }
    }

    unsafe fn free_window(&self, first: NonNull<Page>, count: NonZeroUsize) {
        if self.flaw != Flaw::MisalignedWindow {
            // SAFETY: as it was allocated above.
            unsafe { self.good.free_window(first, count) };
        }
    }

    fn window_address(&self, page: NonNull<Page>) -> u64 {
        match self.flaw {
            Flaw::OneWindow => 0x1000,
            _ => self.good.window_address(page),
        }
    }

    unsafe fn set_window(&self, page: NonNull<Page>, view: View) {
        let view = match (self.flaw, view) {
            // Another page: where there is none, the check faults.
            (Flaw::OtherWindow, View::Own(_)) => {
                let mut kept = self.kept.borrow_mut();
                if kept.is_empty() {
                    kept.extend(self.good.alloc_pages(NonZeroUsize::MIN));
                }
                View::Own(self.good.frame(kept[0]))
            }
            _ => view,
        };
        // SAFETY: the caller's promise; pages of this simulated domain at all events.
        unsafe { self.good.set_window(page, view) };
    }

    fn domain_state(&self) -> &DomainState {
        match self.flaw {
            Flaw::StatePerHandle => &self.own,
            _ => self.good.domain_state(),
        }
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        let mut ring = self.good.xenstore_ring()?;
        if self.flaw == Flaw::UnboundRing {
            ring.port = Port(999);
        }
        Some(ring)
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        match self.flaw {
            Flaw::SameRings => self.good.xenstore_ring(),
            _ => self.good.console_ring(),
        }
    }

    fn now(&self) -> Instant {
        match self.flaw {
            Flaw::BackwardClock => Instant::from_nanos(u64::MAX / 2 - u64::from(self.count())),
            Flaw::StandingClock => Instant::from_nanos(1),
            _ => self.good.now(),
        }
    }

    fn wall_clock(&self) -> u64 {
        self.good.wall_clock()
    }

    fn take_pending(&self, port: Port) -> bool {
        match self.flaw {
            Flaw::LostEvents => {
                self.good.take_pending(port);
                false
            }
            Flaw::StickyEvents => {
                let fired = u32::from(self.good.take_pending(port)) << (port.0 % 32);
                self.calls.set(self.calls.get() | fired);
                self.calls.get() & 1 << (port.0 % 32) != 0
            }
            Flaw::MadeUpEvents => port.0 == u32::MAX || self.good.take_pending(port),
            _ => self.good.take_pending(port),
        }
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        if self.flaw != Flaw::StandingClock {
            self.good.wait(ports, deadline);
        }
    }
}

/// What is found wrong, by rule.
fn violations(xen: &FakeXen, flaw: Flaw) -> Vec<(&'static str, Violation)> {
    let mut found = Vec::new();
    let platform = Flawed::new(xen, flaw);
    let failures = conformance::check(&platform, |rule, outcome| {
        found.extend(outcome.err().map(|violation| (rule, violation)));
    });
    assert_eq!(failures, found.len());
    found
}

fn machine() -> FakeXen {
    let xen = FakeXen::new();
    xen.add_domain(GUEST);
    xen
}

#[test]
fn a_good_platform_passes_and_gets_everything_back() {
    let xen = machine();
    let before = xen.usage(GUEST);
    assert_eq!(violations(&xen, Flaw::None), []);
    assert_eq!(xen.usage(GUEST), before);
}

#[test]
fn each_violation_is_found_under_its_rule() {
    for (flaw, rule, what) in [
        (Flaw::MisalignedPages, "pages", "not page-aligned"),
        (Flaw::DirtyPages, "pages", "not zeroed"),
        (Flaw::SamePages, "pages", "twice"),
        (Flaw::EndlessPages, "too many pages", "more pages"),
        (Flaw::NextFrame, "frames", "frame"),
        (Flaw::SameFrame, "frames", "two pages have one frame"),
        (Flaw::ChangingFrame, "frames", "changes"),
        (Flaw::NoSuchFrame, "frames", "does not find the frame"),
        (Flaw::NoHypercalls, "hypercalls", "version"),
        (Flaw::EagerHypercalls, "hypercalls", "not refused"),
        (
            Flaw::WritesNotSeen,
            "the grant table",
            "not seen afterwards",
        ),
        (
            Flaw::OtherGrantFrame,
            "the grant table",
            "does not find a grant",
        ),
        (Flaw::MovingGrantFrame, "the grant table", "two addresses"),
        (
            Flaw::MisalignedGrantFrame,
            "the grant table",
            "not page-aligned",
        ),
        (Flaw::NoGrantFrame, "the grant table", "can't be mapped"),
        (Flaw::MisalignedWindow, "windows", "not page-aligned"),
        (Flaw::OneWindow, "windows", "one to Xen"),
        (Flaw::OtherWindow, "windows", "does not show the page"),
        (Flaw::StatePerHandle, "all handles", "for each handle"),
        (Flaw::LostEvents, "events", "lost"),
        (Flaw::StickyEvents, "events", "twice"),
        (Flaw::MadeUpEvents, "events", "can't exist"),
        (Flaw::BackwardClock, "time", "went back"),
        (Flaw::StandingClock, "time", "stands still"),
        (Flaw::SameRings, "the builder's rings", "one"),
        (Flaw::UnboundRing, "the builder's rings", "not connected"),
    ] {
        let found = violations(&machine(), flaw);
        assert!(
            found
                .iter()
                .any(|(name, violation)| name.starts_with(rule) && violation.what.contains(what)),
            "{flaw:?}: {found:?}"
        );
    }
}

#[test]
fn memory_that_ends_at_any_point_is_told() {
    let mut after = 0;
    loop {
        let xen = machine();
        let before = xen.usage(GUEST);
        let found = violations(&xen, Flaw::NoMoreAllocations(after));
        assert_eq!(xen.usage(GUEST), before, "after {after} allocations");
        if found.is_empty() {
            break;
        }
        assert!(
            found
                .iter()
                .all(|(_, violation)| violation.what.contains("no memory")
                    || violation.what.contains("can't be granted"))
        );
        after += 1;
    }
    assert!(after > 5, "all was checked with {after} allocations");
}

#[test]
fn drivers_refuse_misaligned_pages() {
    let xen = machine();
    let grants = Grants::new(Flawed::new(&xen, Flaw::MisalignedPages)).unwrap();
    let refused = grants.share(NonZeroUsize::MIN, DomId(0));
    assert!(
        matches!(refused, Err(GrantError::Misaligned(_))),
        "{refused:?}"
    );
    assert_eq!(grants.counters().used_refs, 0);
}

/// Connects, mounts, makes a file and reads it back; an error's text.
fn use_files(platform: Flawed) -> Result<(), String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let xen = Xen::new(Events::new(platform)).map_err(text)?;
    let device = xen9pfs::device(&xen, None).map_err(text)?;
    let mut config = Config::for_memory(1 << 20);
    config.timeout = STEP_TIMEOUT;
    let transport = xen9pfs::connect(&xen, device, &config).map_err(text)?;
    let options = MountOptions::new().timeout(STEP_TIMEOUT);
    let fs = Fs::mount(transport, &options).map_err(text)?;
    fs.write("/f", [7; 10_000]).map_err(text)?;
    let bytes = fs.read("/f").map_err(text)?;
    assert_eq!(bytes, [7; 10_000]);
    fs.unmount().map_err(text)
}

/// A machine whose guest has a share.
fn machine_with_share() -> FakeXen {
    let xen = machine();
    let mut server = MemServer::new(MemOptions::default());
    let handler = Box::new(move |request: &[u8]| server.handle(request));
    let share = Share::new(&xen.dom0(), GUEST, 0, "share", Program::Qemu, handler);
    xen.share_peer(Rc::new(RefCell::new(share)));
    xen
}

#[test]
fn files_fail_with_an_error_where_memory_ends() {
    let mut after = 0;
    let mut last = String::new();
    loop {
        let xen = machine_with_share();
        let before = xen.usage(GUEST);
        let done = use_files(Flawed::new(&xen, Flaw::NoMoreAllocations(after)));
        let now = xen.usage(GUEST);
        assert_eq!(
            (now.pages, now.grants),
            (before.pages, before.grants),
            "after {after} allocations: {done:?}"
        );
        match done {
            Ok(()) => break,
            Err(error) => last = error,
        }
        after += 1;
    }
    assert!(after > 0 && last.contains("memory"), "{after}: {last}");
}

#[test]
fn files_fail_with_an_error_on_a_platform_that_breaks_its_contract() {
    let waited = "waited 2 s in vain for the backend to accept the rings";
    for (flaw, told) in [
        (Flaw::MisalignedPages, "not page-aligned"),
        (Flaw::NextFrame, waited),
        (Flaw::SameFrame, waited),
        (Flaw::NoSuchFrame, waited),
        (Flaw::NoHypercalls, "ENOSYS"),
        (Flaw::EagerHypercalls, waited),
        (Flaw::OtherGrantFrame, waited),
        (Flaw::MovingGrantFrame, waited),
        (Flaw::MisalignedGrantFrame, waited),
        (Flaw::NoGrantFrame, "the grant table can't grow"),
        (Flaw::UnboundRing, "xenstore did not answer in time"),
    ] {
        let error = use_files(Flawed::new(&machine_with_share(), flaw)).unwrap_err();
        assert!(error.contains(told), "{flaw:?}: {error}");
    }
    // The rings are looked at once a second, whatever the events say.
    for flaw in [Flaw::None, Flaw::LostEvents, Flaw::MadeUpEvents] {
        assert_eq!(use_files(Flawed::new(&machine_with_share(), flaw)), Ok(()));
    }
}
