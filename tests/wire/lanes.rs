//! The simulated lanes do what their options say; the tests of sessions stand on that.

use std::time::Duration;

use xen9p::p9::wire::*;
use xen9p::transport::{Lane, Transport, TransportError};
use xen9p_testing::server::lanes::{Control, LaneOptions, Lanes, lanes};
use xen9p_testing::server::lies::Lie;
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::raw::Raw;

const ROOT: Fid = Fid(0);
const FIRST: Lane = Lane(0);
const STATFS: Request<'static> = Request::Statfs { fid: ROOT };

fn connect(options: LaneOptions) -> (Raw<Lanes>, Control) {
    let mut server = MemServer::new(MemOptions::default());
    let (transport, control) = lanes(options, move |request| server.handle(request));
    let mut raw = Raw::new(transport, Dialect::Linux);
    let attach = Request::Attach {
        fid: ROOT,
        afid: Fid::NONE,
        uname: b"",
        aname: b"",
        n_uname: 0,
    };
    assert!(raw.call(&attach).is_ok());
    (raw, control)
}

fn out_of_order() -> LaneOptions {
    LaneOptions {
        in_order: false,
        ..LaneOptions::default()
    }
}

#[test]
fn what_is_held_waits_and_the_rest_goes_on() {
    let (mut raw, control) = connect(out_of_order());
    control.hold(&[kind::TSTATFS]);
    let held = raw.send(&STATFS);
    let mask = AttrMask::BASIC;
    assert!(raw.call(&Request::Getattr { fid: ROOT, mask }).is_ok());
    assert_eq!(raw.transport.peek(FIRST), Ok(None));
    control.release();
    assert_eq!(raw.receive(FIRST), held);
    assert!(matches!(raw.reply(), Reply::Statfs { .. }));
}

#[test]
fn a_lane_in_order_stands_still_behind_what_is_held() {
    let (mut raw, control) = connect(LaneOptions::default());
    control.hold(&[kind::TSTATFS]);
    let (held, behind) = (
        raw.send(&STATFS),
        raw.send(&Request::Readlink { fid: ROOT }),
    );
    let deadline = raw.transport.now() + Duration::from_secs(60);
    while raw.transport.now() < deadline {
        raw.transport.wait(deadline).unwrap();
    }
    assert_eq!(raw.transport.now(), deadline);
    assert_eq!(raw.transport.peek(FIRST), Ok(None));
    control.release();
    assert_eq!((raw.receive(FIRST), raw.receive(FIRST)), (held, behind));
}

#[test]
fn a_flush_that_cancels_leaves_no_reply() {
    let (mut raw, control) = connect(out_of_order());
    control.hold(&[kind::TSTATFS]);
    let oldtag = raw.send(&STATFS);
    assert_eq!(raw.call(&Request::Flush { oldtag }), Ok(Reply::Flush));
    control.release();
    assert_eq!(raw.transport.peek(FIRST), Ok(None));
    assert_eq!(control.count(kind::TSTATFS), 0);
}

#[test]
fn a_flush_that_does_not_cancel_comes_after_the_reply() {
    let options = LaneOptions {
        flush_cancels: false,
        ..out_of_order()
    };
    let (mut raw, control) = connect(options);
    control.hold(&[kind::TSTATFS]);
    let oldtag = raw.send(&STATFS);
    let flush = raw.send(&Request::Flush { oldtag });
    assert_eq!((raw.receive(FIRST), raw.receive(FIRST)), (oldtag, flush));
}

#[test]
fn latency_takes_simulated_time_and_mixes_lanes_but_not_a_lane() {
    let options = LaneOptions {
        lanes: 4,
        latency: (Duration::from_millis(1), Duration::from_millis(50)),
        ..LaneOptions::default()
    };
    let (mut raw, control) = connect(options);
    let start = raw.transport.now();
    let before = control.served().len();
    let sent: Vec<_> = (0..40).map(|_| raw.send(&STATFS).0).collect();
    for tag in &sent {
        assert_eq!(raw.receive(Lane(tag % 4)), Tag(*tag));
    }
    assert!(raw.transport.now() - start >= Duration::from_millis(1));
    assert_eq!(control.most_in_flight(), 40);
    let served: Vec<u16> = control.served()[before..]
        .iter()
        .map(|(_, tag)| *tag)
        .collect();
    assert_ne!(served, sent);
    for lane in 0..4 {
        let of_lane: Vec<_> = served.iter().filter(|tag| *tag % 4 == lane).collect();
        assert!(of_lane.is_sorted());
    }
}

#[test]
fn replies_can_be_bent_doubled_and_made_up() {
    let (mut raw, control) = connect(LaneOptions::default());
    control.tamper(|request, reply| {
        assert_eq!(request[4], kind::TSTATFS);
        vec![reply.clone(), reply]
    });
    let tag = raw.send(&STATFS);
    assert_eq!((raw.receive(FIRST), raw.receive(FIRST)), (tag, tag));
    control.behave();
    control.inject(FIRST, &[7, 0, 0, 0, kind::RCLUNK, 0x34, 0x12]);
    assert_eq!(raw.receive(FIRST), Tag(0x1234));
}

#[test]
fn sizes_that_lie_break_the_connection_or_never_arrive() {
    for size in [0u32, 6, 2 << 20] {
        let (mut raw, control) = connect(LaneOptions::default());
        control.inject(
            FIRST,
            &[&size.to_le_bytes()[..], &[kind::RCLUNK, 0, 0]].concat(),
        );
        let failure = raw.transport.peek(FIRST);
        assert!(
            matches!(failure, Err(TransportError::Violation(_))),
            "{size}"
        );
        assert_eq!(raw.transport.flush().map(|()| None), failure);
    }
    let (mut raw, control) = connect(LaneOptions::default());
    control.inject(FIRST, &[8, 0, 0, 0, kind::RCLUNK, 0, 0]);
    let deadline = raw.transport.now() + Duration::from_secs(1);
    // The first wait is over at once, for something did arrive.
    raw.transport.wait(deadline).unwrap();
    assert_eq!(raw.transport.peek(FIRST), Ok(None));
    raw.transport.wait(deadline).unwrap();
    assert_eq!(
        (raw.transport.peek(FIRST), raw.transport.now()),
        (Ok(None), deadline)
    );
}

#[test]
fn there_is_room_for_so_much_and_no_more() {
    let options = LaneOptions {
        capacity: 10_000,
        ..LaneOptions::default()
    };
    let (mut raw, control) = connect(options);
    assert_eq!(raw.transport.max_message(), 5_000);
    assert_eq!(raw.transport.has_room(FIRST, 11, 9_999), Ok(true));
    assert_eq!(raw.transport.has_room(FIRST, 11, 10_000), Ok(false));
    assert_eq!(raw.transport.has_room(FIRST, 10_001, 7), Ok(false));
    raw.send(&Request::Read {
        fid: ROOT,
        offset: 0,
        count: 4_000,
    });
    assert_eq!(control.reserved(), 4_011);
    assert_eq!(raw.transport.has_room(FIRST, 11, 5_988), Ok(true));
    assert_eq!(raw.transport.has_room(FIRST, 11, 5_989), Ok(false));
    raw.transport.release(FIRST, 4_011);
    assert_eq!(control.reserved(), 0);
}

#[test]
fn a_lost_server_is_lost_for_good() {
    let (mut raw, control) = connect(LaneOptions::default());
    control.lose(&"the test says so");
    let lost = TransportError::Lost(&"the test says so");
    assert_eq!(raw.transport.peek(FIRST), Err(lost));
    let deadline = raw.transport.now() + Duration::from_secs(1);
    assert_eq!(raw.transport.wait(deadline), Err(lost));
    assert_eq!(
        raw.transport.send(FIRST, &[&[7, 0, 0, 0, 108, 0, 0]], 7),
        Err(lost)
    );
    raw.transport.close();
    assert_eq!(raw.transport.flush(), Err(lost));
}

#[test]
#[should_panic(expected = "Tstatfs was sent with 11 bytes kept free for a reply that takes 67")]
fn too_little_kept_free_is_noticed() {
    let (mut raw, _control) = connect(LaneOptions::default());
    let mut bytes = [0; 11];
    STATFS.encode(Tag(5), Dialect::Linux, &mut bytes).unwrap();
    raw.transport.send(FIRST, &[&bytes], 11).unwrap();
    raw.transport.flush().unwrap();
}

#[test]
#[should_panic(expected = "tag 3 on lane 0")]
fn a_wrong_lane_is_noticed() {
    let options = LaneOptions {
        lanes: 2,
        ..LaneOptions::default()
    };
    let (mut raw, _control) = connect(options);
    let mut bytes = [0; 11];
    STATFS.encode(Tag(3), Dialect::Linux, &mut bytes).unwrap();
    let _ = raw.transport.send(FIRST, &[&bytes], 67);
}

#[test]
fn every_lie_is_told_where_it_can_be_and_is_one() {
    let directory = Fid(1);
    let walk = Request::Walk {
        fid: ROOT,
        newfid: directory,
        names: Names::new(),
    };
    let flags = OpenFlags::DIRECTORY;
    let requests = [
        Request::Version {
            msize: 8192,
            version: b"9P2000.L",
        },
        Request::Attach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        },
        walk,
        Request::Lopen {
            fid: directory,
            flags,
        },
        Request::Readdir {
            fid: directory,
            offset: 0,
            count: 4000,
        },
        Request::Flush { oldtag: Tag(9) },
    ];
    for lie in Lie::ALL {
        let mut server = MemServer::new(MemOptions::default());
        let mut told = 0;
        for request in requests {
            let mut bytes = [0; 64];
            let len = request.encode(Tag(1), Dialect::Linux, &mut bytes).unwrap();
            let honest = server.handle(&bytes[..len]);
            if lie.tell(&bytes[..len], honest.clone()) != [honest] {
                told += 1;
            }
        }
        assert!(told > 0, "{lie:?}");
    }
}
