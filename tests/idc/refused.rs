//! A copy that Xen refuses is one typed error, at once and by whichever side and in whichever direction; the connection goes on,
//! and so do other buffers and other endpoints.

use std::time::Duration;

use xen9p::hypercall::grant_table::GrantStatus;
use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::PAGE_SIZE;
use xen9p::sys;
use xen9p::transport::idc::frame::{Frame, Hello, Name, seal};
use xen9p::transport::idc::{
    BufferError, ByGrants, Endpoint, Engine, Event, Limits, LocalBuffer, OwnPages, RemoteBuffer,
    Resources, Way,
};
use xen9p::xen::grant::{CopyError, GrantRef};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::random::content;

use crate::common::{Bed as _, Pair, content_of};
use crate::domains::{DOMAINS, Domains, Vchan, domain, vchan};
use crate::fused::Fuse;

/// More pages than one hypercall copies.
const PAGES: usize = 70;
const SIZE: usize = PAGES * PAGE_SIZE;

/// The pieces that one hypercall copies.
const TOGETHER: u32 = 64;

const WAYS: [Way; 2] = [Way::Send, Way::Receive];

/// Whatever Xen may say of one entry.
const STATUSES: [i16; 7] = [
    sys::GNTST_general_error,
    sys::GNTST_bad_domain,
    sys::GNTST_bad_gntref,
    sys::GNTST_permission_denied,
    sys::GNTST_bad_page,
    sys::GNTST_bad_copy_arg,
    sys::GNTST_eagain,
];

type Buffer = OwnPages<FakePlatform>;

/// A side that copies and one that owns, with two of its buffers registered; and two other endpoints of the same domains.
struct Bed {
    pair: Pair<Domains>,
    copier: usize,
    owned: [Buffer; 2],
    remotes: [RemoteBuffer; 2],
    /// The references of the first one's pages.
    refs: Vec<GrantRef>,
    here: Buffer,
    beside: [Endpoint<Vchan, ByGrants<FakePlatform>>; 2],
}

impl Bed {
    fn new(copier: usize) -> Bed {
        let mut pair = Pair::<Domains>::connected();
        let owner = 1 - copier;
        let owned = [0, 1].map(|_| pair.buffer(owner, &content(SIZE)));
        let before = pair.bed.fake.grants(DOMAINS[owner]);
        let first = pair.end(owner).register(&owned[0]).unwrap();
        let mut granted = pair.bed.fake.grants(DOMAINS[owner]);
        granted.retain(|grant| !before.contains(grant));
        // The first page of a piece of memory has the last of its frames here.
        granted.sort_by_key(|(_, frame)| std::cmp::Reverse(*frame));
        let refs = granted
            .into_iter()
            .map(|(reference, _)| GrantRef(reference));
        let remotes = [first, pair.end(owner).register(&owned[1]).unwrap()];
        let here = pair.buffer(copier, &[0xee; SIZE]);
        let [from, to] = &pair.bed.xen;
        let ends = vchan(
            from,
            to,
            DOMAINS,
            &[Fuse::default(), Fuse::default()],
            "more",
        );
        let bulk = [
            ByGrants::new(&from.grants, DOMAINS[1]),
            ByGrants::new(&to.grants, DOMAINS[0]),
        ];
        let ends = ends.into_iter().zip(bulk);
        let ends =
            ends.map(|(end, bulk)| Endpoint::new(Resources::new(Limits::default()), end, bulk));
        let ends: Vec<_> = ends.collect();
        let mut bed = Bed {
            pair,
            copier,
            owned,
            remotes,
            refs: refs.collect(),
            here,
            beside: ends.try_into().expect("two"),
        };
        bed.beside_until(|ends| {
            for end in ends.iter_mut() {
                while end.next_event().is_some() {}
            }
            ends.iter().all(|end| end.is_connected())
        });
        // The copier has heard of both buffers.
        (0..5).for_each(|_| bed.pair.turn());
        assert_eq!(
            bed.pair.notes[0].events.len() + bed.pair.notes[1].events.len(),
            0
        );
        bed
    }

    /// The other endpoints take turns until something is so.
    fn beside_until(
        &mut self,
        is_so: impl Fn(&mut [Endpoint<Vchan, ByGrants<FakePlatform>>; 2]) -> bool,
    ) {
        for _ in 0..1000 {
            if is_so(&mut self.beside) {
                return;
            }
            self.beside.iter_mut().for_each(Endpoint::poll);
            self.pair.bed.pass(Duration::from_millis(20));
        }
        panic!("it never came about");
    }

    /// Transfers all of a buffer. How that ends is told at once, with no time passed.
    fn transfer(&mut self, way: Way, which: usize) -> Result<(), BufferError> {
        let begun = self.pair.bed.fake.now();
        let (remote, here) = (self.remotes[which], self.here.clone());
        let end = self.pair.end(self.copier);
        let transfer = end.transfer(way, &remote, 0, &here, 0..SIZE)?;
        let Some(Event::Transferred(over, outcome)) = end.next_event() else {
            panic!("the end of the transfer");
        };
        assert_eq!(over, transfer);
        assert_eq!(end.next_event(), None);
        assert_eq!(self.pair.bed.fake.now(), begun);
        outcome
    }

    fn copies(&self) -> u64 {
        let calls = self.pair.bed.fake.hypercalls(DOMAINS[self.copier]);
        let copy = (sys::__HYPERVISOR_grant_table_op, sys::GNTTABOP_copy);
        calls.get(&copy).copied().unwrap_or(0)
    }

    /// The connection is the one that it was, both buffers can be had in either direction, and the other endpoints have a
    /// transaction, and a transfer, too.
    fn is_unharmed(&mut self, connects: u64) {
        for which in [0, 1] {
            let mine = content(SIZE + which + 1).split_off(which + 1);
            self.here.write(0, &mine).unwrap();
            assert_eq!(self.transfer(Way::Send, which), Ok(()));
            self.here.write(0, &[0xee; SIZE]).unwrap();
            assert_eq!(self.transfer(Way::Receive, which), Ok(()));
            assert!(content_of(&self.here) == mine && content_of(&self.owned[which]) == mine);
        }
        let sent = self
            .pair
            .end(self.copier)
            .submit_message(b"goes on")
            .unwrap();
        let Event::Message(message) = self.pair.event(1 - self.copier) else {
            panic!("a message comes");
        };
        let end = self.pair.end(1 - self.copier);
        end.complete_message(message).unwrap();
        assert_eq!(self.pair.event(self.copier), Event::Delivered(sent, Ok(())));
        for side in [0, 1] {
            let end = self.pair.end(side);
            assert!(end.is_connected());
            assert_eq!((end.connects(), end.next_event()), (connects, None));
            assert_eq!(self.pair.notes[side].events, []);
        }
        let asked = self.beside[0].submit_transaction(b"beside").unwrap();
        self.beside_until(|ends| {
            if let Some(Event::Transaction(transaction)) = ends[1].next_event() {
                ends[1].complete_transaction(transaction, 0, b"").unwrap();
            }
            ends[0].next_event() == Some(Event::Finished(asked, Ok(0)))
        });
        self.beside[0].release(asked).unwrap();
    }
}

/// Each side, in each direction.
fn everywhere(test: impl Fn(&mut Bed, Way)) {
    for copier in [0, 1] {
        let mut bed = Bed::new(copier);
        let connects = bed.pair.end(0).connects();
        for way in WAYS {
            test(&mut bed, way);
            bed.is_unharmed(connects);
        }
    }
}

#[test]
fn a_copy_that_is_refused_is_one_error_that_names_the_page() {
    everywhere(|bed, way| {
        for status in STATUSES {
            for page in [0, 3, TOGETHER - 1, TOGETHER, PAGES as u32 - 1] {
                let (there, calls) = (content_of(&bed.owned[0]), bed.copies());
                bed.here.write(0, &[0x11; SIZE]).unwrap();
                bed.pair.bed.fake.refuse_copy(page, status);
                let page = page as usize;
                let refused = CopyError::Refused(bed.refs[page], GrantStatus(status));
                assert_eq!(bed.transfer(way, 0), Err(BufferError::Copy(refused)));
                // It is not tried again, and what comes behind it in another call is not tried at all.
                let made = 1 + u64::from(page as u32 >= TOGETHER);
                assert_eq!(bed.copies() - calls, made);
                // The page is what it was, as are those behind its call; the rest of the call is done.
                let target = match way {
                    Way::Send => &bed.owned[0],
                    Way::Receive => &bed.here,
                };
                let [before, after] = match way {
                    Way::Send => [there.clone(), vec![0x11; SIZE]],
                    Way::Receive => [vec![0x11; SIZE], there.clone()],
                };
                let end = PAGES.min(made as usize * TOGETHER as usize);
                let got = content_of(target);
                for at in 0..PAGES {
                    let expected = match at < end && at != page {
                        true => &after,
                        false => &before,
                    };
                    let bytes = at * PAGE_SIZE..(at + 1) * PAGE_SIZE;
                    assert!(got[bytes.clone()] == expected[bytes], "page {at}");
                }
            }
        }
    });
}

#[test]
fn a_call_that_is_refused_is_one_error_too() {
    everywhere(|bed, way| {
        for (after, error) in [(0, XenError::EPERM), (1, XenError::EFAULT)] {
            let (number, op) = (sys::__HYPERVISOR_grant_table_op, sys::GNTTABOP_copy);
            let calls = bed.copies();
            bed.pair.bed.fake.fail_hypercall(number, op, after, error);
            let refused = CopyError::Xen(error);
            assert_eq!(bed.transfer(way, 0), Err(BufferError::Copy(refused)));
            assert_eq!(bed.copies() - calls, 1 + u64::from(after));
        }
    });
}

/// More of them than there are slots for transfers: each is free again.
#[test]
fn a_copy_that_is_refused_takes_no_slot_with_it() {
    everywhere(|bed, way| {
        for _ in 0..10 * Limits::default().transfers {
            bed.pair.bed.fake.refuse_copy(0, sys::GNTST_general_error);
            assert!(matches!(bed.transfer(way, 0), Err(BufferError::Copy(_))));
        }
    });
}

/// The owner ends the grants before the other side hears of it.
#[test]
fn a_buffer_that_was_revoked_is_refused_by_xen_and_then_by_the_endpoint() {
    for copier in [0, 1] {
        for way in WAYS {
            let mut bed = Bed::new(copier);
            let connects = bed.pair.end(0).connects();
            let first = bed.refs[0];
            let before = [content_of(&bed.owned[0]), content_of(&bed.here)];
            let remote = bed.remotes[0];
            bed.pair.end(1 - copier).unregister(&remote).unwrap();
            let status = GrantStatus(sys::GNTST_general_error);
            let refused = BufferError::Copy(CopyError::Refused(first, status));
            assert_eq!(bed.transfer(way, 0), Err(refused));
            (0..5).for_each(|_| bed.pair.turn());
            assert_eq!(bed.transfer(way, 0), Err(BufferError::Unregistered));
            assert!([content_of(&bed.owned[0]), content_of(&bed.here)] == before);
            bed.remotes[0] = bed.pair.end(1 - copier).register(&bed.owned[0]).unwrap();
            (0..5).for_each(|_| bed.pair.turn());
            bed.is_unharmed(connects);
        }
    }
}

/// The owner's domain is gone, which Xen says before the stream does.
#[test]
fn a_domain_that_is_gone_is_an_error_and_then_the_end_of_the_connection() {
    for copier in [0, 1] {
        for way in WAYS {
            let mut bed = Bed::new(copier);
            let first = bed.refs[0];
            bed.pair.bed.fake.destroy(DOMAINS[1 - copier]);
            let status = GrantStatus(sys::GNTST_bad_domain);
            let refused = BufferError::Copy(CopyError::Refused(first, status));
            assert_eq!(bed.transfer(way, 0), Err(refused));
            let died = bed.pair.bed.fake.now();
            while bed.pair.end(copier).is_connected() {
                bed.pair.poll(copier);
                bed.pair.bed.pass(Duration::from_millis(20));
                let took = bed.pair.bed.fake.now() - died;
                assert!(took < Duration::from_secs(2), "{took:?}");
            }
            let told = &bed.pair.notes[copier].events;
            assert!(matches!(told[..], [Event::Disconnect(_)]), "{told:?}");
            let again = bed.transfer(way, 0);
            assert_eq!(again, Err(BufferError::NotConnected));
            // What the dead domain's program had is gone with it.
            std::mem::forget(bed);
        }
    }
}

/// A side that registers what it has not granted, or not so.
#[test]
fn references_that_are_lies_are_refused_by_xen() {
    let fake = FakeXen::new();
    let [copier, owner] = DOMAINS.map(|id| domain(&fake, id));
    let third = DomId(3);
    domain(&fake, third);
    let pages = ByGrants::new(&owner.grants, DOMAINS[0]).buffer(1).unwrap();
    let elsewhere = pages.lend(third).unwrap();
    let granted = pages.lend(DOMAINS[0]).unwrap();
    let honest = granted.refs()[0].0;
    let bulk = ByGrants::new(&copier.grants, DOMAINS[1]);
    let here = bulk.buffer(PAGE_SIZE).unwrap();
    let mut engine = Engine::new(Resources::new(Limits::default()), bulk, fake.now());
    engine.open();
    let hello = Hello {
        incarnation: 9,
        known: 0,
        connects: 0,
        grants: true,
        limits: Limits::default(),
    };
    feed(&mut engine, Frame::Hello(hello));
    feed(&mut engine, Frame::Ready { epoch: 1 });
    assert_eq!(engine.next_event(), Some(Event::Appear));
    assert_eq!(engine.next_event(), Some(Event::Connect));
    for (id, (reference, status)) in (0..).zip([
        (honest, sys::GNTST_okay),
        (elsewhere.refs()[0].0, sys::GNTST_general_error),
        (honest + 100, sys::GNTST_general_error),
        (0, sys::GNTST_general_error),
        (1 << 20, sys::GNTST_bad_gntref),
        (u32::MAX, sys::GNTST_bad_gntref),
    ]) {
        let name = Name { id, generation: 1 };
        feed(
            &mut engine,
            Frame::Register {
                name,
                len: PAGE_SIZE as u64,
                refs: &reference.to_le_bytes(),
            },
        );
        let fields = [9, 1, name.generation, PAGE_SIZE as u64];
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field: &u64| field.to_le_bytes())
            .collect();
        bytes.extend(id.to_le_bytes());
        let remote = RemoteBuffer::from_bytes(&bytes).unwrap();
        let expected = match status {
            sys::GNTST_okay => Ok(()),
            status => {
                let refused = CopyError::Refused(GrantRef(reference), GrantStatus(status));
                Err(BufferError::Copy(refused))
            }
        };
        for way in WAYS {
            let begun = engine
                .transfer(way, &remote, 0, &here, 0..PAGE_SIZE)
                .unwrap();
            let over = Event::Transferred(begun, expected);
            assert_eq!(engine.next_event(), Some(over), "{reference}");
        }
    }
    assert!(engine.is_connected());
    assert_eq!((engine.connects(), engine.next_event()), (1, None));
}

fn feed(engine: &mut Engine<ByGrants<FakePlatform>>, frame: Frame<'_>) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    seal(&mut bytes);
    engine.space()[..bytes.len()].copy_from_slice(&bytes);
    engine.received(bytes.len());
}
