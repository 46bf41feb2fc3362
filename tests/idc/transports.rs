//! What it costs to bring bytes from one domain to another, in hypercalls, events and copies: exact counts, which
//! docs/transports.md has.

use std::num::NonZeroUsize;
use std::path::Path;

use xen9p::platform::PAGE_SIZE;
use xen9p::sys;
use xen9p::transport::stream::ByteStream;
use xen9p::transport::vchan::{self, Listener, Orders};
use xen9p::xen::grant::Remote;
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::random::content;

use crate::domains::{DOMAINS, Drivers, domain};

const SIZES: [(usize, &str); 4] = [
    (64, "64 B"),
    (4096, "4 KiB"),
    (64 << 10, "64 KiB"),
    (1 << 20, "1 MiB"),
];

/// Two domains: bytes go from the first to the second.
struct Bed {
    fake: FakeXen,
    from: Drivers,
    to: Drivers,
}

/// Hypercalls, those of them that are events, and bytes copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    calls: u64,
    events: u64,
    copied: u64,
}

impl Bed {
    fn new() -> Bed {
        let fake = FakeXen::new();
        let [from, to] = DOMAINS.map(|id| domain(&fake, id));
        Bed { fake, from, to }
    }

    /// What was called up to now, sleeping aside.
    fn calls(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for id in DOMAINS {
            for ((number, op), count) in self.fake.hypercalls(id) {
                let is_event =
                    (number, op) == (sys::__HYPERVISOR_event_channel_op, sys::EVTCHNOP_send);
                counts[0] += if number == sys::__HYPERVISOR_sched_op {
                    0
                } else {
                    count
                };
                counts[1] += if is_event { count } else { 0 };
            }
            counts[2] += self.fake.copied_by_xen(id);
        }
        counts
    }

    /// What a transfer costs, which says how many bytes it copied itself. The second time it is done: the first one may have to
    /// do with how it began.
    fn cost(&self, mut transfer: impl FnMut() -> usize) -> Cost {
        let mut once = || {
            let before = self.calls();
            let copied = transfer() as u64;
            let after = self.calls();
            Cost {
                calls: after[0] - before[0],
                events: after[1] - before[1],
                copied: copied + after[2] - before[2],
            }
        };
        once();
        let cost = once();
        assert_eq!(once(), cost, "each costs the same");
        cost
    }

    /// Granted pages with these bytes in them.
    fn lent(
        &self,
        bytes: &[u8],
    ) -> (
        xen9p::xen::grant::OwnPages<FakePlatform>,
        xen9p::xen::grant::Lent<FakePlatform>,
    ) {
        let count = NonZeroUsize::new(bytes.len().div_ceil(PAGE_SIZE)).unwrap();
        let pages = self.from.grants.own_pages(count).unwrap();
        pages.memory().copy_in(0, bytes);
        let lent = pages.lend(DOMAINS[1]).unwrap();
        (pages, lent)
    }
}

/// Through a vchan whose rings have 2^order bytes. Each side sleeps when it can do nothing.
fn vchan(size: usize, order: u8) -> Cost {
    let bed = Bed::new();
    let orders = Orders::new(order, order).unwrap();
    let mut listener = Listener::new(&bed.to, DOMAINS[0], "x", orders).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let timeout = std::time::Duration::from_secs(1);
    let mut sender = vchan::connect(&bed.from, DOMAINS[1], "x", timeout).unwrap();
    let mut receiver = listener.accept().unwrap().expect("a client is there");
    let bytes = content(size);
    bed.cost(|| {
        let mut got = vec![0; size];
        let (mut sent, mut read) = (0, 0);
        receiver.ask(false);
        while read < size {
            sent += sender.write(&bytes[sent..]).unwrap();
            sender.flush().unwrap();
            if sent < size {
                sender.ask(true);
            }
            while let count @ 1.. = receiver.read(&mut got[read..]).unwrap() {
                read += count;
            }
            receiver.flush().unwrap();
            receiver.ask(false);
        }
        assert!(got == bytes);
        sent + read
    })
}

/// Copied by Xen from pages that are granted to pages of one's own.
fn grant_copy(size: usize) -> Cost {
    let bed = Bed::new();
    let bytes = content(size);
    let (_pages, lent) = bed.lent(&bytes);
    let count = NonZeroUsize::new(size.div_ceil(PAGE_SIZE)).unwrap();
    let here = bed.to.grants.own_pages(count).unwrap();
    bed.cost(|| {
        let remote = Remote {
            domain: DOMAINS[0],
            refs: lent.refs(),
            offset: 0,
        };
        here.copy_from(0..size, remote).unwrap();
        let mut got = vec![0; size];
        here.memory().copy_out(0, &mut got);
        assert!(got == bytes);
        // That was a look at it.
        0
    })
}

/// Copied out of pages that are mapped for it and unmapped after it, or mapped before.
fn mapped(size: usize, each_time: bool) -> Cost {
    let bed = Bed::new();
    let bytes = content(size);
    let (_pages, lent) = bed.lent(&bytes);
    let map = || bed.to.grants.map(DOMAINS[0], lent.refs()).unwrap();
    let kept = (!each_time).then(map);
    bed.cost(|| {
        let fresh = each_time.then(map);
        let mut got = vec![0; size];
        let pages = fresh.as_ref().or(kept.as_ref()).unwrap();
        pages.memory().copy_out(0, &mut got);
        assert!(got == bytes);
        size
    })
}

/// By Argo, in messages of 64 KiB at most. A sender that is refused, as the ring is full, is told when it is not.
#[cfg(feature = "argo")]
fn argo(size: usize) -> Cost {
    use xen9p::hypercall::XenError;
    use xen9p::xen::argo::{Address, Argo};

    const MESSAGE: usize = 64 << 10;
    let bed = Bed::new();
    bed.fake.refuse_argo(None);
    let [sender, receiver] = [&bed.from, &bed.to].map(|xen| Argo::new(xen).unwrap());
    let mut ring = receiver.register(1, DOMAINS[0], 256 << 10).unwrap();
    let to = Address {
        domain: DOMAINS[1],
        port: 1,
    };
    let bytes = content(size);
    bed.cost(|| {
        let mut got = Vec::new();
        let mut pieces = bytes.chunks(MESSAGE).peekable();
        while got.len() < size {
            while let Some(piece) = pieces.peek() {
                match sender.send(1, to, &[piece], 0) {
                    Ok(()) => drop(pieces.next()),
                    Err(XenError::EAGAIN) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let mut refused = false;
            while let Some(message) = ring.peek().unwrap() {
                let start = got.len();
                got.resize(start + message.len as usize, 0);
                ring.copy_out(0, &mut got[start..]);
                refused |= ring.consume(MESSAGE as u32);
            }
            if refused {
                receiver.wake_senders().unwrap();
            }
        }
        assert!(got == bytes);
        size
    })
}

#[test]
fn the_table_of_transports_is_what_they_cost() {
    type Way = (&'static str, fn(usize) -> Cost);
    let ways: &[Way] = &[
        ("vchan, rings of 4 KiB", |size| vchan(size, 12)),
        ("vchan, rings of 256 KiB", |size| vchan(size, 18)),
        ("grant copy", grant_copy),
        ("mapped for each transfer", |size| mapped(size, true)),
        ("mapped once", |size| mapped(size, false)),
        #[cfg(feature = "argo")]
        ("Argo, a ring of 256 KiB", argo),
    ];
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/transports.md");
    let document = std::fs::read_to_string(document).unwrap_or_default();
    let mut missing = Vec::new();
    for (name, cost) in ways {
        for (size, words) in SIZES {
            let Cost {
                calls,
                events,
                copied,
            } = cost(size);
            let times = copied / size as u64;
            assert_eq!(
                copied,
                times * size as u64,
                "each byte as often as the others"
            );
            let line = format!("| {name} | {words} | {calls} | {events} | {times} |");
            println!("{line}");
            if !document.contains(&line) {
                missing.push(line);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/transports.md lacks:\n{}",
        missing.join("\n")
    );
}
