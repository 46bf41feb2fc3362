//! Large reads and writes: so many requests and events, whatever the size of the ring, and no reply ever waits for room.

use std::cell::RefCell;

use xen9p::fs::{Fs, MountOptions, OpenOptions};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p_testing::backend::Program;
use xen9p_testing::bed::guest::{Bed, bed_serving};
use xen9p_testing::random::content;
use xen9p_testing::server::mem::{MemOptions, MemServer};

const MIB: usize = 1 << 20;

/// The iounit that QEMU has on such rings: what a message carries, rounded down to blocks.
fn in_blocks(rings: u16, order: u8) -> u32 {
    let header = if rings == 1 { 0 } else { 24 };
    let most = (1024 << order) + header - 24;
    match most / 4096 * 4096 {
        0 => most,
        rounded => rounded,
    }
}

fn mount(program: Program, rings: u16, order: u8, iounit: u32) -> (Bed, Fs) {
    let mut server = MemServer::new(MemOptions {
        iounit,
        ..MemOptions::default()
    });
    server.put("/mib", &content(MIB));
    let server = RefCell::new(server);
    let handler = move |request: &[u8]| server.borrow_mut().handle(request);
    let bed = bed_serving(program, Box::new(handler));
    let device = xen9pfs::device(&bed.xen, None).unwrap();
    let mut config = Config::default();
    config.rings = Some(rings);
    config.order = Some(order);
    let transport = xen9pfs::connect(&bed.xen, device, &config).unwrap();
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    (bed, fs)
}

/// Requests that an operation makes, and events that tell of them.
fn cost(fs: &Fs, work: impl FnOnce()) -> (u64, u64) {
    let before = fs.stats();
    work();
    let after = fs.stats();
    (
        after.requests - before.requests,
        after.transport.announced - before.transport.announced,
    )
}

#[test]
fn one_small_ring_carries_full_messages_and_two_at_once() {
    // Requests for 1 MiB. In blocks it would be 256 at order 3, 86 at order 4 and 37 at order 5; at order 6 blocks cost little.
    // One event less where two are announced together at the beginning, and one more where there is room for the rest beside two.
    let costs = [
        (2, (258, 257)),
        (3, (129, 128)),
        (4, (65, 64)),
        (5, (33, 32)),
        (6, (18, 16)),
    ];
    for (order, expected) in costs {
        for program in [Program::Qemu, Program::Daemon] {
            let (bed, fs) = mount(program, 1, order, in_blocks(1, order));
            let mut options = OpenOptions::new();
            let file = fs
                .open_with("/mib", options.read(true).write(true))
                .unwrap();
            let content = content(MIB);
            let mut into = vec![0; MIB];
            let read = cost(&fs, || assert_eq!(file.read_at(&mut into, 0), Ok(MIB)));
            assert!(into == content);
            let written = cost(&fs, || assert_eq!(file.write_at(&into, 0), Ok(MIB)));
            assert_eq!((read, written), (expected, expected), "order {order}");
            let share = bed.share.borrow();
            assert_eq!(share.waits_for_room(), 0, "order {order}");
            assert_eq!(share.troubles(), []);
        }
    }
}

/// A server that takes no more than it says, and not because of blocks, is asked for no more.
#[test]
fn an_iounit_of_the_servers_own_is_kept() {
    for (order, iounit, requests) in [(4, 8192, 128), (4, 4096, 256), (6, 12_288, 86)] {
        let (_bed, fs) = mount(Program::Qemu, 1, order, iounit);
        let file = fs.open("/mib").unwrap();
        let mut into = vec![0; MIB];
        let read = cost(&fs, || assert_eq!(file.read_at(&mut into, 0), Ok(MIB)));
        assert_eq!(read.0, requests, "iounit {iounit}");
    }
}

/// Where a reply is half of the ring, its room is told of by the next request alone.
#[test]
fn large_rings_are_told_of_requests_alone() {
    let (bed, fs) = mount(Program::Qemu, 4, 9, in_blocks(4, 9));
    let file = fs.open("/mib").unwrap();
    let mut into = vec![0; MIB];
    let costs = cost(&fs, || {
        for _ in 0..8 {
            assert_eq!(file.read_at(&mut into, 0), Ok(MIB));
        }
    });
    assert_eq!(costs, (8 * 2, 8 * 2));
    assert!(into == content(MIB));
    assert_eq!(bed.share.borrow().waits_for_room(), 0);
}
