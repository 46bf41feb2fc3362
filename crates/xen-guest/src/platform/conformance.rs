//! Whether a [`Platform`] keeps its contract, as far as that can be found out from inside the domain.
//!
//! An implementor runs [`check`] once, on the machine itself, before any driver is started:
//!
//! ```
//! use xen9p::platform::{Platform, conformance};
//!
//! fn self_test<P: Platform>(platform: &P, print: impl Fn(core::fmt::Arguments<'_>)) -> bool {
//!     let failures = conformance::check(platform, |rule, result| match result {
//!         Ok(()) => print(format_args!("ok {rule}")),
//!         Err(violation) => print(format_args!("FAILED {rule}: {violation}")),
//!     });
//!     failures == 0
//! }
//! ```
//!
//! It takes some twenty pages, two ports and a few grants for a moment, and gives all back. Each wait in it
//! has a deadline of at most a second; a `wait` that never returns hangs it. What can't be
//! checked from inside stays the implementor's word: that no other code uses the pages, and that grant frames
//! and rings stay mapped.

mod windows;

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use core::time::Duration;

use super::{PAGE_SIZE, Page, Platform};
use crate::event::{Events, Port};
use crate::grant::{GrantRef, Grants};
use crate::hypercall::event_channel::{self, Status};
use crate::hypercall::grant_table::{self, Memory};
use crate::hypercall::{XenError, version};
use crate::shared::SharedMemory;
use crate::store::wire::{self, Kind};
use xen_abi as sys;

/// What a platform does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// What was found, and what it should be.
    pub what: &'static str,
    /// The value that shows it: an address, a frame number, a count; its meaning is up to `what`.
    pub value: u64,
    /// Xen's answer, where Xen was asked.
    pub xen: Option<XenError>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.what, self.value)?;
        match self.xen {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Violation {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.xen.as_ref().map(|error| error as _)
    }
}

/// The outcome of one rule.
pub type Outcome = Result<(), Violation>;

fn violation<T>(what: &'static str, value: u64) -> Result<T, Violation> {
    let xen = None;
    Err(Violation { what, value, xen })
}

/// An error of Xen's where there should be none.
fn refused(what: &'static str) -> impl Fn(XenError) -> Violation {
    move |error| Violation {
        what,
        value: 0,
        xen: Some(error),
    }
}

/// Pages that go back when they are dropped.
struct Pages<'a, P: Platform> {
    platform: &'a P,
    first: NonNull<Page>,
    count: NonZeroUsize,
}

impl<'a, P: Platform> Pages<'a, P> {
    fn new(platform: &'a P, count: usize) -> Result<Self, Violation> {
        let count = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let Some(first) = platform.alloc_pages(count) else {
            return violation("there is no memory for so many pages", count.get() as u64);
        };
        Ok(Pages {
            platform,
            first,
            count,
        })
    }

    /// Where the pages are; nothing is read or written before this was found in order.
    fn range(&self) -> Result<core::ops::Range<usize>, Violation> {
        let start = self.first.addr().get();
        if !start.is_multiple_of(PAGE_SIZE) {
            return violation(
                "alloc_pages returned an address that is not page-aligned",
                start as u64,
            );
        }
        match start.checked_add(self.count.get() * PAGE_SIZE) {
            Some(end) => Ok(start..end),
            None => violation(
                "alloc_pages returned pages beyond the address space",
                start as u64,
            ),
        }
    }

    fn page(&self, index: usize) -> NonNull<Page> {
        assert!(index < self.count.get());
        // SAFETY: below the count.
        unsafe { self.first.add(index) }
    }

    /// The pages as memory that Xen may write to, after [`range`](Self::range) was found in order.
    fn memory(&self) -> SharedMemory<'_> {
        // SAFETY: allocated for this, and accessed by nothing else in this domain before they are freed.
        unsafe { SharedMemory::new(self.first.cast(), self.count.get() * PAGE_SIZE) }
    }

    /// Writes a number to the beginning of each page.
    fn mark(&self, seed: u64) {
        for index in 0..self.count.get() {
            let word = self.memory().word(index * PAGE_SIZE);
            word.store(seed + index as u64, Ordering::Relaxed);
        }
    }

    fn word(&self, index: usize, at: usize) -> u64 {
        let word = self.memory().word(index * PAGE_SIZE + at * 8);
        word.load(Ordering::Relaxed)
    }
}

impl<P: Platform> Drop for Pages<'_, P> {
    fn drop(&mut self) {
        // SAFETY: allocated with this count, and not granted.
        unsafe { self.platform.free_pages(self.first, self.count) };
    }
}

/// Runs all checks, tells the outcome of each, and returns how many failed. See the [module](self).
///
/// A check that rests on another fails where that one fails.
pub fn check<P: Platform>(platform: &P, mut tell: impl FnMut(&'static str, Outcome)) -> usize {
    let mut failures = 0;
    let mut rule = |name, outcome: Outcome| {
        failures += usize::from(outcome.is_err());
        tell(name, outcome);
    };
    let setup = pages(platform);
    rule("pages are aligned, zeroed, writable, and apart", setup);
    rule("too many pages are refused", absurd(platform));
    rule(
        "hypercalls reach Xen and bring answers back",
        calls(platform),
    );
    // What follows lets Xen read and write pages: not before these are known to be pages.
    if setup.is_ok() {
        let framed = frames(platform);
        rule("frames are those behind the pages", framed);
        rule("the grant table is this domain's", grants(platform));
        if framed.is_ok() {
            let shown = windows::check(platform);
            rule("windows show the page that is set", shown);
        }
    }
    rule("all handles have one domain state", one_state(platform));
    rule("events are neither lost nor made up", events(platform));
    rule("time goes forward", clock(platform));
    rule("the builder's rings are pages with ports", rings(platform));
    rule("the kernel's xenstore driver answers", store(platform));
    failures
}

fn pages<P: Platform>(platform: &P) -> Outcome {
    for round in 0..2 {
        let runs = [1, 2, 7].map(|count| Pages::new(platform, count));
        let mut seen = Vec::new();
        for run in runs {
            let run = run?;
            let range = run.range()?;
            let overlaps = |other: &(Pages<'_, P>, core::ops::Range<usize>)| {
                other.1.start < range.end && range.start < other.1.end
            };
            if seen.iter().any(overlaps) {
                return violation("pages were handed out twice", range.start as u64);
            }
            for index in 0..run.count.get() {
                // In the second round these are pages that were written and freed.
                if (0..PAGE_SIZE / 8).any(|at| run.word(index, at) != 0) {
                    return violation("a new page is not zeroed", round);
                }
            }
            run.mark(range.start as u64);
            seen.push((run, range));
        }
        for (run, range) in &seen {
            for index in 0..run.count.get() {
                if run.word(index, 0) != (range.start + index) as u64 {
                    return violation(
                        "a page does not keep what is written to it",
                        range.start as u64,
                    );
                }
            }
        }
    }
    Ok(())
}

fn absurd<P: Platform>(platform: &P) -> Outcome {
    for count in [1 << 40, usize::MAX / PAGE_SIZE, usize::MAX] {
        let count = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MAX);
        if platform.alloc_pages(count).is_some() {
            return violation(
                "more pages were handed out than any machine has",
                count.get() as u64,
            );
        }
    }
    Ok(())
}

fn calls<P: Platform>(platform: &P) -> Outcome {
    let found = version::version(platform).map_err(refused("Xen does not tell its version"))?;
    if found.major < 3 {
        return violation("Xen's major version makes no sense", found.major.into());
    }
    // SAFETY: there is no such operation, so nothing happens.
    let answer =
        unsafe { platform.hypercall(sys::__HYPERVISOR_event_channel_op, [999, 0, 0, 0, 0]) };
    if XenError::check(answer) != Err(XenError::ENOSYS) {
        return violation(
            "an operation that does not exist was not refused",
            answer as u64,
        );
    }
    Ok(())
}

/// Xen copies from one frame to another: that the bytes arrive shows that both frames are right.
fn frames<P: Platform>(platform: &P) -> Outcome {
    let (from, to) = (Pages::new(platform, 3)?, Pages::new(platform, 3)?);
    from.range()?;
    to.range()?;
    from.mark(0x5eed);
    let mut seen = Vec::new();
    for pages in [&from, &to] {
        for index in 0..3 {
            let frame = platform.frame(pages.page(index));
            if platform.frame(pages.page(index)) != frame {
                return violation("a page's frame changes", frame.0);
            }
            if seen.contains(&frame) {
                return violation("two pages have one frame", frame.0);
            }
            seen.push(frame);
        }
    }
    for index in 0..3 {
        let source = Memory::Frame(platform.frame(from.page(index)));
        let target = Memory::Frame(platform.frame(to.page(index)));
        // SAFETY: both frames are to be those of pages of ours.
        let copied = unsafe { grant_table::copy(platform, source, target, 8) };
        copied.map_err(refused("Xen does not find the frame of a page"))?;
        if to.word(index, 0) != 0x5eed + index as u64 {
            let frame = platform.frame(to.page(index));
            return violation("a page's frame is another page's", frame.0);
        }
    }
    Ok(())
}

/// The first frame of the grant table is where it was.
fn grant_frames<P: Platform>(platform: &P) -> Outcome {
    let table = |index| {
        let mapped = platform.grant_frame(index);
        mapped.map_err(refused("a frame of the grant table can't be mapped"))
    };
    let first = table(0)?;
    if !first.addr().get().is_multiple_of(PAGE_SIZE) {
        return violation(
            "grant_frame returned an address that is not page-aligned",
            first.addr().get() as u64,
        );
    }
    if table(0)? != first {
        return violation(
            "grant_frame returned two addresses for one frame",
            first.addr().get() as u64,
        );
    }
    Ok(())
}

/// Pages granted to this domain itself can be read, each through its grant, and no more when that is revoked.
fn grants<P: Platform>(platform: &P) -> Outcome {
    if platform.grant_driver().is_none() {
        grant_frames(platform)?;
    }
    let me = event_channel::own_domain(platform).map_err(refused(
        "Xen opens no port, or what it writes during a hypercall is not seen afterwards",
    ))?;
    let Ok(grants) = Grants::new(platform.clone()) else {
        return violation(
            "the grant table has a driver already: check before `Xen::new`",
            0,
        );
    };
    const COUNT: NonZeroUsize = NonZeroUsize::new(2).unwrap();
    let Ok(shared) = grants.share(COUNT, me) else {
        return violation("a page can't be granted", 0);
    };
    let target = Pages::new(platform, 1)?;
    target.range()?;
    let to = Memory::Frame(platform.frame(target.page(0)));
    // SAFETY: the target is a page of ours.
    let copy =
        |reference| unsafe { grant_table::copy(platform, Memory::Grant(me, reference), to, 8) };
    let references: Vec<GrantRef> = shared.refs().to_vec();
    if let [one, other] = references[..]
        && one == other
    {
        return violation("two pages have one grant", one.0.into());
    }
    for (index, &reference) in references.iter().enumerate() {
        let word = shared.memory().word(index * PAGE_SIZE);
        word.store(0xface_u64 + index as u64, Ordering::Relaxed);
        copy(reference).map_err(refused("Xen does not find a grant in this domain's table"))?;
        if target.word(0, 0) != 0xface + index as u64 {
            return violation("a grant leads to another page", reference.0.into());
        }
    }
    if !shared.revoke() {
        return violation("an unused grant can't be revoked", 0);
    }
    match references
        .iter()
        .find(|&&reference| copy(reference).is_ok())
    {
        Some(reference) => violation("a revoked grant still works", reference.0.into()),
        None => Ok(()),
    }
}

/// Or two grant tables could be made, from two handles.
fn one_state<P: Platform>(platform: &P) -> Outcome {
    let other = platform.clone();
    let (one, two) = (platform.domain_state(), other.domain_state());
    match core::ptr::eq(one, two) && core::ptr::eq(one, platform.domain_state()) {
        true => Ok(()),
        false => violation(
            "domain_state is another for each handle",
            (&raw const *two).addr() as u64,
        ),
    }
}

fn events<P: Platform>(platform: &P) -> Outcome {
    let events = Events::new(platform.clone());
    let bind = || events.bind_ipi().map_err(refused("Xen opens no port"));
    let (port, silent) = (bind()?, bind()?);
    if platform.take_pending(port.port()) {
        return violation("a new port is pending", port.port().0.into());
    }
    let list: [Port; 2] = [silent.port(), port.port()];
    for round in 0..3 {
        port.notify()
            .map_err(refused("Xen does not send an event"))?;
        // Fired before: the wait must see it. Fired while waiting looks the same to it.
        let deadline = platform.now() + Duration::from_secs(1);
        while !platform.take_pending(port.port()) {
            if platform.now() >= deadline {
                return violation("an event was lost", round);
            }
            platform.wait(&list, deadline);
        }
        if platform.take_pending(port.port()) {
            return violation("an event was there twice", round);
        }
        if platform.take_pending(silent.port()) {
            return violation("an event came on a port that never fired", round);
        }
    }
    // A port beyond all that a domain can have is never pending.
    if platform.take_pending(Port(u32::MAX)) {
        return violation("a port that can't exist is pending", u32::MAX.into());
    }
    Ok(())
}

fn clock<P: Platform>(platform: &P) -> Outcome {
    let start = platform.now();
    let mut last = start;
    for _ in 0..1000 {
        let now = platform.now();
        if now < last {
            return violation("the clock went back", now.as_nanos());
        }
        last = now;
    }
    // A sleep ends, and time has passed.
    let deadline = last + Duration::from_millis(5);
    for _ in 0..1_000_000 {
        if platform.now() >= deadline {
            return Ok(());
        }
        platform.wait(&[], deadline);
    }
    violation("the clock stands still", platform.now().as_nanos())
}

/// Every domain may read its number, and no domain what does not exist.
fn store<P: Platform>(platform: &P) -> Outcome {
    let Some(driver) = platform.store_driver() else {
        return Ok(());
    };
    let read = |path: &[u8]| driver.request(Kind::READ.0, 0, path);
    match read(b"domid\0") {
        Ok(number) if wire::decimal(&number).is_some() => {}
        Ok(answer) => return violation("the value of \"domid\" is no number", answer.len() as u64),
        Err(_) => return violation("\"domid\" can't be read", 0),
    }
    match read(b"xen9p-there-is-no-such-node\0") {
        Err(error) if error.is_not_found() => Ok(()),
        Err(_) => violation("a node that is not there is refused with another error", 0),
        Ok(answer) => violation("a node that is not there has a value", answer.len() as u64),
    }
}

fn rings<P: Platform>(platform: &P) -> Outcome {
    let xenstore = match platform.store_driver() {
        Some(_) => None,
        None => platform.xenstore_ring(),
    };
    let rings = [xenstore, platform.console_ring()];
    for ring in rings.into_iter().flatten() {
        let address = ring.page.addr().get();
        if !address.is_multiple_of(PAGE_SIZE) {
            return violation("a ring is not page-aligned", address as u64);
        }
        match event_channel::status(platform, ring.port) {
            Ok(Status::Interdomain(..)) => {}
            _ => return violation("a ring's port is not connected", ring.port.0.into()),
        }
    }
    match rings {
        [Some(a), Some(b)] if a.page == b.page || a.port == b.port => {
            violation("both rings are one", a.port.0.into())
        }
        _ => Ok(()),
    }
}
