//! More than two domains: a buffer is passed on to a third one by its owner, who registers it for that one, too; and a domain
//! asks another one before it answers a third.

use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::transport::idc::{
    BufferError, ByGrants, Endpoint, Event, Limits, OutTransaction, RemoteBuffer, Resources, Way,
};
use xen9p_testing::fake::{FakePlatform, FakeXen};

use crate::common::content_of;
use crate::domains::{Drivers, Vchan, domain, vchan};
use crate::fused::Fuse;
use xen9p::transport::idc::LocalBuffer;

type End = Endpoint<Vchan, ByGrants<FakePlatform>>;

const A: DomId = DomId(1);
const B: DomId = DomId(2);
const C: DomId = DomId(3);

/// A connection of two domains: both ends.
fn link(from: (&Drivers, DomId), to: (&Drivers, DomId)) -> [End; 2] {
    let fuses = [Fuse::default(), Fuse::default()];
    let ids = [from.1, to.1];
    let [dialer, publisher] = vchan(from.0, to.0, ids, &fuses, "idc");
    let resources = || Resources::new(Limits::default());
    [
        Endpoint::new(resources(), dialer, ByGrants::new(&from.0.grants, to.1)),
        Endpoint::new(resources(), publisher, ByGrants::new(&to.0.grants, from.1)),
    ]
}

/// A world of several connections, which all take turns.
struct World {
    fake: FakeXen,
    ends: Vec<End>,
    events: Vec<Vec<Event>>,
}

impl World {
    fn turn(&mut self) {
        for (end, events) in self.ends.iter_mut().zip(&mut self.events) {
            end.poll();
            while let Some(event) = end.next_event() {
                events.push(event);
            }
        }
        self.fake.run_for(Duration::from_millis(20));
    }

    fn event(&mut self, end: usize) -> Event {
        for _ in 0..1000 {
            if !self.events[end].is_empty() {
                return self.events[end].remove(0);
            }
            self.turn();
        }
        panic!("end {end} is told of nothing");
    }

    fn new(fake: FakeXen, links: Vec<[End; 2]>) -> World {
        let ends: Vec<End> = links.into_iter().flatten().collect();
        let events = ends.iter().map(|_| Vec::new()).collect();
        let mut world = World { fake, ends, events };
        for end in 0..world.ends.len() {
            assert_eq!(world.event(end), Event::Appear);
            assert_eq!(world.event(end), Event::Connect);
        }
        world
    }

    /// A transaction of this end, answered by the other one.
    fn ask(
        &mut self,
        end: usize,
        parameters: &[u8],
        answer: impl FnOnce(&mut World, Vec<u8>) -> Vec<u8>,
    ) -> Vec<u8> {
        let other = end ^ 1;
        let asked: OutTransaction = self.ends[end].submit_transaction(parameters).unwrap();
        let Event::Transaction(transaction) = self.event(other) else {
            panic!("a transaction comes");
        };
        let parameters = self.ends[other].parameters(transaction).unwrap().to_vec();
        let status = answer(self, parameters);
        self.ends[other]
            .complete_transaction(transaction, 0, &status)
            .unwrap();
        assert_eq!(self.event(end), Event::Finished(asked, Ok(0)));
        let status = self.ends[end].status(asked).unwrap().to_vec();
        self.ends[end].release(asked).unwrap();
        status
    }
}

/// The ends of the connections A–B, B–C and A–C.
const A_TO_B: usize = 0;
const B_TO_A: usize = 1;
const B_TO_C: usize = 2;
const A_TO_C: usize = 4;
const C_TO_A: usize = 5;

#[test]
fn a_buffer_is_passed_on_to_a_third_domain_by_its_owner() {
    let fake = FakeXen::new();
    let [a, b, c] = [A, B, C].map(|id| domain(&fake, id));
    let links = vec![
        link((&a, A), (&b, B)),
        link((&b, B), (&c, C)),
        link((&a, A), (&c, C)),
    ];
    let mut world = World::new(fake, links);
    let buffer = ByGrants::new(&a.grants, B).buffer(10_000).unwrap();
    buffer.write(9_000, b"what A has").unwrap();
    let for_b = world.ends[A_TO_B].register(&buffer).unwrap();
    let here = ByGrants::new(&c.grants, A).buffer(4096).unwrap();

    // The reference that B has is of no use to C.
    let sent = world.ask(B_TO_C, &for_b.to_bytes(), |world, bytes| {
        let remote = RemoteBuffer::from_bytes(&bytes).unwrap();
        let used = world.ends[C_TO_A].transfer(Way::Receive, &remote, 0, &here, 0..10);
        assert_eq!(used, Err(BufferError::Foreign));
        Vec::new()
    });
    assert!(sent.is_empty());

    // B asks A for one that C can use, and sends it on.
    let for_c = world.ask(B_TO_A, &for_b.to_bytes(), |world, bytes| {
        let remote = RemoteBuffer::from_bytes(&bytes).unwrap();
        let buffer = world.ends[A_TO_B].registered(&remote).unwrap();
        let again = world.ends[A_TO_C].register(&buffer).unwrap();
        again.to_bytes().to_vec()
    });
    let for_c = RemoteBuffer::from_bytes(&for_c).unwrap();
    world.ask(B_TO_C, &for_c.to_bytes(), |world, bytes| {
        let remote = RemoteBuffer::from_bytes(&bytes).unwrap();
        let end = &mut world.ends[C_TO_A];
        let transfer = end
            .transfer(Way::Receive, &remote, 9_000, &here, 0..10)
            .unwrap();
        assert_eq!(world.event(C_TO_A), Event::Transferred(transfer, Ok(())));
        Vec::new()
    });
    assert_eq!(content_of(&here)[..10], *b"what A has");

    // Each of the two registrations ends by itself.
    world.ends[A_TO_B].unregister(&for_b).unwrap();
    here.write(0, b"what C has").unwrap();
    let end = &mut world.ends[C_TO_A];
    let transfer = end.transfer(Way::Send, &for_c, 0, &here, 0..10).unwrap();
    assert_eq!(world.event(C_TO_A), Event::Transferred(transfer, Ok(())));
    assert_eq!(content_of(&buffer)[..10], *b"what C has");
    world.ends[A_TO_C].unregister(&for_c).unwrap();
    let end = &mut world.ends[C_TO_A];
    let transfer = end.transfer(Way::Receive, &for_c, 0, &here, 0..10).unwrap();
    let Event::Transferred(_, outcome) = world.event(C_TO_A) else {
        panic!("{transfer:?} ends");
    };
    assert!(matches!(outcome, Err(BufferError::Copy(_))), "{outcome:?}");
}

#[test]
fn a_chain_of_domains_answers_with_every_slot_in_use() {
    let fake = FakeXen::new();
    let [a, b, c] = [A, B, C].map(|id| domain(&fake, id));
    let links = vec![link((&a, A), (&b, B)), link((&b, B), (&c, C))];
    let mut world = World::new(fake, links);
    const ALL: u32 = 200;
    let (mut begun, mut finished) = (0, 0);
    // What B has been asked by A and not asked C yet, and what it has.
    let (mut waiting, mut passed_on) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        if finished == ALL {
            return;
        }
        while begun < ALL
            && world.ends[0]
                .submit_transaction(&begun.to_le_bytes())
                .is_ok()
        {
            begun += 1;
        }
        world.turn();
        for event in world.events[1].split_off(0) {
            let Event::Transaction(transaction) = event else {
                panic!("{event:?}");
            };
            waiting.push(transaction);
        }
        while let Some(&asked) = waiting.first() {
            let parameters = world.ends[1].parameters(asked).unwrap().to_vec();
            let Ok(own) = world.ends[2].submit_transaction(&parameters) else {
                break;
            };
            waiting.remove(0);
            passed_on.push((own, asked));
        }
        for event in world.events[3].split_off(0) {
            let Event::Transaction(transaction) = event else {
                panic!("{event:?}");
            };
            let status = world.ends[3].parameters(transaction).unwrap().to_vec();
            world.ends[3]
                .complete_transaction(transaction, 0, &status)
                .unwrap();
        }
        for event in world.events[2].split_off(0) {
            let Event::Finished(own, Ok(0)) = event else {
                panic!("{event:?}");
            };
            let index = passed_on.iter().position(|(other, _)| *other == own);
            let (_, asked) = passed_on.remove(index.unwrap());
            let status = world.ends[2].status(own).unwrap().to_vec();
            world.ends[2].release(own).unwrap();
            world.ends[1]
                .complete_transaction(asked, 0, &status)
                .unwrap();
        }
        for event in world.events[0].split_off(0) {
            let Event::Finished(own, Ok(0)) = event else {
                panic!("{event:?}");
            };
            assert_eq!(world.ends[0].status(own).unwrap().len(), 4);
            world.ends[0].release(own).unwrap();
            finished += 1;
        }
    }
    panic!("{finished} of {ALL} are finished");
}
