//! The checks. Each returns what it found, or what is wrong.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::hint::black_box;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::time::Duration;

use xen9p::hypercall::grant_table::{self, Memory};
use xen9p::hypercall::sched::MAX_POLL_PORTS;
use xen9p::hypercall::{DomId, XenError, memory, vcpu, version};
use xen9p::platform::{PAGE_SIZE, Page, Platform, conformance};
use xen9p::rt::{self, BarePlatform};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::xen::event::Events;
use xen9p::xen::grant::{GrantRef, Grants};

use crate::{Failure, ensure, failed};

type Verdict = Result<Failure, Failure>;

const MIB: usize = 1 << 20;

/// Memory as told on the command line, and the time from the first instruction until all was `up`.
pub fn start(up: Instant, expected_mib: Option<usize>) -> Verdict {
    let info = rt::memory_info();
    if let Some(expected) = expected_mib {
        // Xen keeps some pages of what it was told to give, and a PVH map has a hole below 1 MiB.
        let (least, most) = (expected * MIB - MIB, expected * MIB + MIB);
        ensure!(
            (least..=most).contains(&info.total),
            "{} KiB of memory instead of {expected} MiB",
            info.total / 1024
        );
    }
    let took = up - rt::started_at();
    ensure!(
        rt::started_at() < up,
        "the first instruction is in the future"
    );
    ensure!(took < Duration::from_secs(10), "booting took {took:?}");
    Ok(format!(
        "{} KiB of {} KiB in use, up in {} us",
        info.used() / 1024,
        info.total / 1024,
        took.as_micros()
    ))
}

/// Calls that answer, calls that are refused, and other virtual CPUs left alone.
pub fn hypercalls() -> Verdict {
    let xen = version::version(&BarePlatform).map_err(|e| failed("version")(&e))?;
    let pages = memory::current_reservation(&BarePlatform).map_err(|e| failed("memory")(&e))?;
    ensure!(
        pages * PAGE_SIZE + MIB >= rt::memory_info().total,
        "Xen counts {pages} pages, we {} bytes",
        rt::memory_info().total
    );
    // SAFETY: there is no such operation, so nothing happens.
    let refused =
        unsafe { BarePlatform.hypercall(sys::__HYPERVISOR_event_channel_op, [999, 0, 0, 0, 0]) };
    ensure!(
        XenError::check(refused) == Err(XenError::ENOSYS),
        "an operation that does not exist was answered with {refused}"
    );
    let others = (1..8)
        .filter_map(|id| vcpu::is_up(&BarePlatform, id).ok())
        .collect::<Vec<_>>();
    ensure!(!others.contains(&true), "another virtual CPU is up");
    Ok(format!(
        "Xen {xen:?}, {} more virtual CPUs, parked",
        others.len()
    ))
}

/// What the compiler calls for copying and comparing, as linked into this image.
pub fn memory_functions() -> Verdict {
    for size in [0, 1, 3, 7, 15, 16, 17, 63, 64, 100, 4096, 5000] {
        let from = (0..size)
            .map(|i| black_box(i * 31 % 251) as u8)
            .collect::<Vec<_>>();
        let mut to = vec![0_u8; black_box(size)];
        to.copy_from_slice(black_box(&from));
        ensure!(to == from, "copies of {size} bytes differ");
        if size > 1 {
            to.copy_within(..size - 1, 1);
            ensure!(to[1..] == from[..size - 1], "{size} bytes moved up differ");
            to.copy_within(1.., 0);
            ensure!(
                to[..size - 1] == from[..size - 1],
                "{size} bytes moved down differ"
            );
        }
        to.fill(black_box(7));
        ensure!(
            to.iter().all(|&byte| byte == 7),
            "{size} bytes were not all filled"
        );
    }
    Ok("copy, move, fill, compare".into())
}

/// Blocks of many sizes and alignments, freed in another order, all with their content intact.
pub fn heap() -> Verdict {
    let before = rt::memory_info().free;
    let mut blocks = BTreeMap::new();
    let mut size = 1;
    for i in 0..400_usize {
        size = (size * 7 + i) % 3000 + 1;
        blocks.insert(i, vec![i as u8; size]);
        if i % 3 == 2 {
            blocks.remove(&(i * 5 % i));
        }
    }
    for (&i, block) in &blocks {
        ensure!(
            block.iter().all(|&byte| byte == i as u8),
            "block {i} was overwritten"
        );
    }
    let count = blocks.len();
    drop(blocks);
    let large = vec![0_u64; 40_000];
    ensure!(
        large.iter().all(|&word| word == 0),
        "a large block is not zero"
    );
    drop(large);
    let mut grown = Vec::new();
    for word in 0..50_000_u32 {
        grown.push(word);
    }
    ensure!(
        grown.iter().copied().eq(0..50_000),
        "a growing block lost its content"
    );
    drop(grown);
    let after = rt::memory_info().free;
    // What the heap took from the pages is free in the heap; tables and its own notes are not.
    ensure!(
        after + 64 * 1024 >= before,
        "{} bytes are missing",
        before - after
    );
    Ok(format!("{count} blocks"))
}

/// Time goes forward, and sleep takes as long as it should.
pub fn clock() -> Verdict {
    let mut last = BarePlatform.now();
    for _ in 0..20_000 {
        let now = BarePlatform.now();
        ensure!(now >= last, "{now:?} came after {last:?}");
        last = now;
    }
    let mut report = alloc::string::String::new();
    for millis in [1, 20, 100] {
        let asked = Duration::from_millis(millis);
        let start = BarePlatform.now();
        let deadline = start + asked;
        let mut calls = 0;
        while BarePlatform.now() < deadline {
            BarePlatform.wait(&[], deadline);
            calls += 1;
        }
        let slept = BarePlatform.now() - start;
        ensure!(
            slept < asked + Duration::from_millis(500),
            "{millis} ms took {slept:?}"
        );
        ensure!(
            calls <= 50,
            "{millis} ms took {calls} calls: waiting does not wait"
        );
        report += &format!("{millis} ms took {} us, ", slept.as_micros());
    }
    let seconds = BarePlatform.wall_clock() / 1_000_000_000;
    // 2020 to 2100: Xen reads the machine's clock.
    ensure!(
        (1_577_836_800..4_102_444_800).contains(&seconds),
        "{seconds} s since 1970"
    );
    Ok(report + &format!("{seconds} s since 1970"))
}

/// Floating point and SSE work and survive a hypercall that sleeps.
pub fn floating_point() -> Verdict {
    let mut sum = 0.0;
    for i in 1..=50_u32 {
        sum += 1.0 / f64::from(black_box(i)).powi_by_hand(2);
        if i % 10 == 0 {
            BarePlatform.wait(&[], BarePlatform.now() + Duration::from_micros(200));
        }
    }
    let text = format!("{sum:.9}");
    ensure!(text == "1.625132734", "the sum is {text}");
    let wide = black_box(u128::MAX / 3) / black_box(1_000_000_007);
    ensure!(
        wide == 113427454846320637230213741865,
        "the quotient is {wide}"
    );
    Ok(text)
}

/// `powi` without std.
trait Power {
    fn powi_by_hand(self, exponent: u32) -> f64;
}

impl Power for f64 {
    fn powi_by_hand(self, exponent: u32) -> f64 {
        (0..exponent).fold(1.0, |product, _| product * self)
    }
}

/// A channel to ourselves: both ends tell each other; handlers run; waiting wakes up.
pub fn events() -> Verdict {
    let events = Events::new(BarePlatform);
    let ipi = events.bind_ipi().map_err(|e| failed("bind_ipi")(&e))?;
    ensure!(!ipi.take_pending(), "a new port is pending");
    ipi.notify().map_err(|e| failed("notify")(&e))?;
    let start = BarePlatform.now();
    BarePlatform.wait(&[ipi.port()], start + Duration::from_secs(2));
    ensure!(
        BarePlatform.now() - start < Duration::from_secs(1),
        "a pending port did not wake"
    );
    ensure!(
        ipi.take_pending() && !ipi.take_pending(),
        "the event was not there exactly once"
    );

    let start = BarePlatform.now();
    let deadline = start + Duration::from_millis(20);
    while BarePlatform.now() < deadline {
        BarePlatform.wait(&[ipi.port()], deadline);
    }
    ensure!(!ipi.take_pending(), "an event came from nowhere");

    let near = events
        .alloc_unbound(DomId::SELF)
        .map_err(|e| failed("alloc_unbound")(&e))?;
    // Xen wants the domain's real number or SELF; both ends are ours.
    let far = events
        .bind_interdomain(DomId::SELF, near.port())
        .map_err(|e| failed("bind_interdomain")(&e))?;
    ensure!(
        near.is_connected() && far.is_connected(),
        "the ends are not connected"
    );
    // Binding fires once by itself.
    events.dispatch();
    let heard = Rc::new([Cell::new(0), Cell::new(0)]);
    for (index, channel) in [&near, &far].into_iter().enumerate() {
        let heard = Rc::clone(&heard);
        channel.on_event(move || heard[index].set(heard[index].get() + 1));
    }
    for round in 1..=1000 {
        let seen = events.generation();
        let (from, to) = if round % 2 == 0 {
            (&near, 1)
        } else {
            (&far, 0)
        };
        from.notify().map_err(|e| failed("notify")(&e))?;
        events.wait(seen, BarePlatform.now() + Duration::from_secs(1));
        let expected = (round + usize::from(to == 0)) / 2;
        ensure!(heard[to].get() == expected, "round {round}: {heard:?}");
    }
    drop((near, far, ipi));
    ensure!(
        events.open_ports() == 0,
        "{} ports left",
        events.open_ports()
    );
    Ok("1000 rounds to ourselves".into())
}

/// More ports than one poll takes are still watched.
pub fn many_events() -> Verdict {
    let events = Events::new(BarePlatform);
    let mut channels = Vec::new();
    for _ in 0..MAX_POLL_PORTS + 20 {
        channels.push(events.bind_ipi().map_err(|e| failed("bind_ipi")(&e))?);
    }
    let last = channels.last().ok_or("no channels")?;
    let ports = channels
        .iter()
        .map(|channel| channel.port())
        .collect::<Vec<_>>();
    let fired = Rc::new(Cell::new(false));
    last.on_event({
        let fired = fired.clone();
        move || fired.set(true)
    });
    last.notify().map_err(|e| failed("notify")(&e))?;
    let deadline = BarePlatform.now() + Duration::from_secs(1);
    while !fired.get() {
        ensure!(
            BarePlatform.now() < deadline,
            "port {:?} was forgotten",
            last.port()
        );
        events.wait(events.generation(), deadline);
    }
    Ok(format!("{} ports", ports.len()))
}

/// The first domain's number; grants name domains by their real numbers.
const DOM0: DomId = DomId(0);

/// Pages granted to ourselves are found through the table, in its first frame and beyond.
pub fn grants() -> Verdict {
    if !rt::is_first_domain() {
        return Ok("left out: only the first domain knows its own number here".into());
    }
    let grants = Grants::new(BarePlatform).map_err(|e| format!("{e}"))?;
    let before = rt::memory_info().free;
    {
        let count = NonZeroUsize::new(520).ok_or("0")?;
        let shared = grants.share(count, DOM0).map_err(|e| failed("share")(&e))?;
        let target = BarePlatform
            .alloc_pages(NonZeroUsize::MIN)
            .ok_or("no page")?;
        for index in [0, 1, 503, 504, 519] {
            // SAFETY: the page is ours, and index is below the count.
            unsafe {
                shared
                    .as_ptr()
                    .add(index * PAGE_SIZE)
                    .cast::<usize>()
                    .write_volatile(!index)
            };
            copy_granted(shared.refs()[index], target)?;
            // SAFETY: the page is ours.
            let found = unsafe { target.cast::<usize>().read_volatile() };
            ensure!(
                found == !index,
                "page {index}, {:?}: {found:#x}",
                shared.refs()[index]
            );
        }
        let reference = shared.refs()[0];
        ensure!(shared.revoke(), "the pages are still in use");
        ensure!(
            copy_granted(reference, target).is_err(),
            "a revoked page can still be read"
        );
        // SAFETY: allocated above.
        unsafe { BarePlatform.free_pages(target, NonZeroUsize::MIN) };
    }
    let missing = before.saturating_sub(rt::memory_info().free);
    ensure!(missing < 128 * 1024, "{missing} bytes are missing");
    Ok(format!("520 pages in two frames, {:?}", grants.counters()))
}

/// Has Xen copy the first 8 bytes of a granted page of ours to `target`.
fn copy_granted(reference: GrantRef, target: NonNull<Page>) -> Result<(), Failure> {
    let to = Memory::Frame(BarePlatform.frame(target));
    // SAFETY: to a page of ours.
    let copied = unsafe { grant_table::copy(&BarePlatform, Memory::Grant(DOM0, reference), to, 8) };
    copied.map_err(|e| failed("copy")(&e))
}

/// The contract that every platform has to keep.
pub fn conformance() -> Verdict {
    let mut passed = 0;
    let mut violations = alloc::string::String::new();
    conformance::check(&BarePlatform, |rule, outcome| match outcome {
        Ok(()) => passed += 1,
        Err(violation) => violations += &format!("{rule}: {violation}; "),
    });
    ensure!(violations.is_empty(), "{violations}");
    Ok(format!("{passed} rules"))
}

/// All memory: taken, each page written with its own address, found intact, given back.
pub fn memory() -> Verdict {
    let before = rt::memory_info();
    let mut runs: Vec<(NonNull<Page>, NonZeroUsize)> =
        Vec::with_capacity(before.total / MIB + 1024);
    let mut pages = 0;
    for size in [512, 16, 1] {
        let count = NonZeroUsize::new(size).ok_or("0")?;
        while runs.len() < runs.capacity()
            && let Some(first) = BarePlatform.alloc_pages(count)
        {
            runs.push((first, count));
            pages += size;
        }
    }
    let word = |first: NonNull<Page>, page: usize, at: usize| {
        // SAFETY: the pages are in a run of ours, and a page has 512 words.
        unsafe { first.add(page).cast::<usize>().add(at) }
    };
    for &(first, count) in &runs {
        for page in 0..count.get() {
            let (head, tail) = (word(first, page, 0), word(first, page, 511));
            // SAFETY: as above.
            let content = unsafe { head.read_volatile() | tail.read_volatile() };
            ensure!(content == 0, "the page at {head:?} is not zero");
            // SAFETY: as above.
            unsafe {
                head.write_volatile(head.addr().get());
                tail.write_volatile(!head.addr().get());
            }
        }
    }
    for &(first, count) in &runs {
        for page in 0..count.get() {
            let (head, tail) = (word(first, page, 0), word(first, page, 511));
            // SAFETY: as above.
            let content = unsafe { (head.read_volatile(), tail.read_volatile()) };
            let address = head.addr().get();
            ensure!(
                content == (address, !address),
                "the page at {address:#x} holds {content:x?}"
            );
        }
    }
    let low = rt::memory_info().free;
    for (first, count) in runs {
        // SAFETY: allocated above, and not used any more.
        unsafe { BarePlatform.free_pages(first, count) };
    }
    let after = rt::memory_info();
    ensure!(low < MIB, "{low} bytes could not be taken");
    // A PV domain's tables: one page for each 2 MiB, and some above.
    let tables = before.total / 512 + 64 * 1024;
    ensure!(
        after.free + tables >= before.free,
        "{} of {} bytes are missing",
        before.free - after.free,
        before.free
    );
    ensure!(
        pages * PAGE_SIZE + tables + MIB >= before.free,
        "only {pages} pages of {} bytes",
        before.free
    );
    Ok(format!(
        "{} KiB of {} KiB written and read",
        pages * 4,
        before.total / 1024
    ))
}

/// How fast memory is copied and cleared.
pub fn speed() -> Verdict {
    let mut report = alloc::string::String::new();
    for size in [64, 4096, 256 * 1024] {
        let from = vec![1_u8; size];
        let mut to = vec![0_u8; size];
        let rounds = 16 * MIB / size.max(1024);
        let start = BarePlatform.now();
        for _ in 0..rounds {
            black_box(&mut to).copy_from_slice(black_box(&from));
        }
        let copied = BarePlatform.now() - start;
        let start = BarePlatform.now();
        for _ in 0..rounds {
            black_box(&mut to).fill(black_box(0));
        }
        let filled = BarePlatform.now() - start;
        let rate = |took: Duration| (rounds * size) as u128 * 1000 / took.as_nanos().max(1);
        report += &format!(
            "{size}: copy {} MB/s, fill {} MB/s; ",
            rate(copied),
            rate(filled)
        );
    }
    Ok(report)
}
