//! What a read costs: as the mail of 2005 has it, into a buffer that was registered before, and as a read of a file over 9P.
//! docs/domains.md has the counts.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::MemTree;
use xen9p::server::{Exports, Limits as ServerLimits, Rights};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::transport::idc::{Event, RemoteBuffer, Way};
use xen9p::transport::vchan::{self, Export, Listener, Orders};
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};
use xen9p_testing::random::content;

use crate::common::{Pair, content_of};
use crate::domains::{DOMAINS, Domains, Drivers, domain};

/// What happened up to now, in both domains together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    notifications: u64,
    copies: u64,
    maps: u64,
    by_xen: u64,
}

impl Counts {
    fn of(fake: &FakeXen) -> Counts {
        let made = |number, op| {
            let calls = DOMAINS.map(|id| fake.hypercalls(id).get(&(number, op)).copied());
            calls.into_iter().flatten().sum()
        };
        Counts {
            notifications: made(sys::__HYPERVISOR_event_channel_op, sys::EVTCHNOP_send),
            copies: made(sys::__HYPERVISOR_grant_table_op, sys::GNTTABOP_copy),
            maps: made(
                sys::__HYPERVISOR_grant_table_op,
                sys::GNTTABOP_map_grant_ref,
            ),
            by_xen: DOMAINS.map(|id| fake.copied_by_xen(id)).into_iter().sum(),
        }
    }

    fn since(self, before: Counts) -> Counts {
        Counts {
            notifications: self.notifications - before.notifications,
            copies: self.copies - before.copies,
            maps: self.maps - before.maps,
            by_xen: self.by_xen - before.by_xen,
        }
    }

    /// The line of a table.
    fn line(self, what: &str, size: usize, ring: u64) -> String {
        let Counts {
            notifications,
            copies,
            maps,
            by_xen,
        } = self;
        assert_eq!(maps, 0, "nothing is mapped for a transfer");
        format!("| {what} | {size} | 2 | {notifications} | {copies} | {ring} | {by_xen} |")
    }
}

/// The mail's read: the frontend has registered a buffer, sends a transaction that names it, and the backend copies the data
/// there before it answers.
fn read_into_a_buffer(size: usize) -> String {
    let mut pair = Pair::<Domains>::connected();
    let data = content(size);
    let buffer = pair.buffer(0, &vec![0; size]);
    let remote = pair.end(0).register(&buffer).unwrap();
    let cache = pair.buffer(1, &data);
    let mut read = || {
        let before = Counts::of(&pair.bed.fake);
        let bytes = pair.end(0).stream().unwrap().bytes;
        let asked = pair.end(0).submit_transaction(&remote.to_bytes()).unwrap();
        let Event::Transaction(transaction) = pair.event(1) else {
            panic!("a transaction comes");
        };
        let end = pair.end(1);
        let parameters = end.parameters(transaction).unwrap();
        let remote = RemoteBuffer::from_bytes(parameters).unwrap();
        let transfer = end.transfer(Way::Send, &remote, 0, &cache, 0..size);
        let transfer = transfer.unwrap();
        assert_eq!(pair.event(1), Event::Transferred(transfer, Ok(())));
        let count = (size as u32).to_le_bytes();
        pair.end(1)
            .complete_transaction(transaction, 0, &count)
            .unwrap();
        assert_eq!(pair.event(0), Event::Finished(asked, Ok(0)));
        pair.end(0).release(asked).unwrap();
        assert!(content_of(&buffer)[..size] == data);
        let ring = pair.end(0).stream().unwrap().bytes - bytes;
        Counts::of(&pair.bed.fake)
            .since(before)
            .line("into a registered buffer", size, ring)
    };
    // The first one has the registration with it.
    read();
    let line = read();
    assert_eq!(read(), line, "each costs the same");
    line
}

struct Serving {
    xen: Drivers,
    export: Export<FakePlatform>,
}

impl Peer for Serving {
    fn step(&mut self, _: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        self.export.poll();
        progressed
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.export.next_check())
    }
}

/// The same read as one of a file.
fn read_of_a_file(size: usize) -> String {
    let fake = FakeXen::new();
    let [client, server] = DOMAINS.map(|id| domain(&fake, id));
    let orders = Orders::new(18, 18).unwrap();
    let listener = Listener::new(&server, DOMAINS[0], "9p", orders).unwrap();
    let tree = MemTree::new();
    let root = tree.root();
    let policy = move || Exports::new(root.clone(), Rights::ReadWrite);
    let export = Export::new(listener, policy, ServerLimits::default());
    let serving = Rc::new(RefCell::new(Serving {
        xen: server,
        export,
    }));
    fake.share_peer(serving);
    let timeout = Duration::from_secs(5);
    let stream = vchan::connect(&client, DOMAINS[1], "9p", timeout).unwrap();
    let transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    let data = content(size);
    fs.write("/file", &data).unwrap();
    let file = fs.open("/file").unwrap();
    let mut buffer = vec![0; size];
    let mut read = || {
        let before = Counts::of(&fake);
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), size);
        assert!(buffer == data);
        // Tread and Rread are 23 and 11 bytes and the data.
        let ring = 23 + 11 + size as u64;
        Counts::of(&fake)
            .since(before)
            .line("of a file, by 9P", size, ring)
    };
    read();
    let line = read();
    assert_eq!(read(), line, "each costs the same");
    line
}

#[test]
fn a_read_costs_what_the_document_says() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/domains.md");
    let document = std::fs::read_to_string(document).unwrap();
    let mut missing = Vec::new();
    for size in [4096, 65536] {
        for line in [read_into_a_buffer(size), read_of_a_file(size)] {
            if !document.contains(&line) {
                missing.push(line);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "put into docs/domains.md:\n{}",
        missing.join("\n")
    );
}
