//! Several rings under random load, interleaved step by step with either backend: every request gets its own reply,
//! nothing stalls, nothing is overwritten, and the backend never disconnects.
//!
//! Both sides only ever look at a ring after an event, so that a missing event shows as a stall.

use std::collections::VecDeque;

use proptest::prelude::*;
use xen9p::transport::xen9pfs::ring::{Order, Ring};
use xen9p_testing::backend::{Backend, Daemon, PlainRing, Qemu, Step, echo};

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A request on a ring; its length and its reply's as parts of the maximum.
    Send(usize, f64, f64, bool),
    Flush,
    /// The backend advances by this many steps.
    Serve(usize, usize),
    /// The frontend takes at most so many replies, if it had an event.
    Receive(usize, usize),
}

struct Outstanding {
    tag: u16,
    kind: u8,
    reply: u32,
    seed: u32,
}

struct Load<'a> {
    rings: Vec<Ring>,
    pending: Vec<bool>,
    outstanding: Vec<VecDeque<Outstanding>>,
    backend: &'a mut dyn Backend,
    max: u32,
    sent: u32,
    received: u32,
}

impl Load<'_> {
    fn send(&mut self, ring: usize, request: f64, reply: f64, patient: bool) {
        let max = self.max;
        let length = |min, part: f64| min + (f64::from(max - min) * part) as u32;
        let reply = length(echo::MIN_REPLY, reply);
        let kind = if patient {
            echo::PATIENT
        } else {
            echo::IMPATIENT
        };
        let seed = self.sent.wrapping_mul(2_654_435_761);
        let tag = (ring + self.rings.len() * (self.sent as usize % 64)) as u16;
        let request = echo::request(length(echo::MIN_REQUEST, request), kind, tag, reply, seed);
        let had_room = self.rings[ring]
            .has_room(request.len() as u32, reply)
            .unwrap();
        assert_eq!(self.rings[ring].send(&[&request], reply), Ok(had_room));
        if had_room {
            self.sent += 1;
            self.outstanding[ring].push_back(Outstanding {
                tag,
                kind,
                reply,
                seed,
            });
        }
    }

    fn flush(&mut self) {
        for (index, ring) in self.rings.iter_mut().enumerate() {
            if ring.take_event_due() {
                self.backend.event(index);
            }
        }
    }

    fn serve(&mut self, ring: usize) -> bool {
        let step = self.backend.step(ring);
        self.pending[ring] |= step == Step::Event;
        step != Step::Idle
    }

    /// Takes replies off a ring that had an event; leaves the event standing if it stops early.
    fn receive(&mut self, index: usize, limit: usize) {
        if !std::mem::take(&mut self.pending[index]) {
            return;
        }
        let ring = &mut self.rings[index];
        for _ in 0..limit {
            let Some(header) = ring.peek().unwrap() else {
                return;
            };
            let request = self.outstanding[index].pop_front().expect("a request");
            assert_eq!(
                header,
                echo::header(request.reply, request.kind, request.tag)
            );
            let mut bytes = vec![0; header.size as usize];
            ring.copy_out(0, &mut bytes);
            assert!(bytes == echo::reply(request.reply, request.kind, request.tag, request.seed));
            ring.consume();
            ring.release(request.reply);
            self.received += 1;
        }
        self.pending[index] = true;
    }

    fn drain(&mut self) {
        while self.received < self.sent {
            let before = self.received;
            self.flush();
            for ring in 0..self.rings.len() {
                while self.serve(ring) {}
                self.receive(ring, usize::MAX);
            }
            assert!(self.received > before, "stalled");
        }
    }
}

fn acts(rings: usize) -> impl Strategy<Value = Vec<Act>> {
    let part = || prop_oneof![2 => 0.0..=1.0f64, 1 => Just(1.0), 1 => 0.0..0.02f64];
    let act = prop_oneof![
        4 => (0..rings, part(), part(), any::<bool>())
            .prop_map(|(ring, request, reply, patient)| Act::Send(ring, request, reply, patient)),
        2 => Just(Act::Flush),
        4 => (0..rings, 1..6usize).prop_map(|(ring, steps)| Act::Serve(ring, steps)),
        2 => (0..rings, 0..3usize).prop_map(|(ring, limit)| Act::Receive(ring, limit)),
    ];
    prop::collection::vec(act, 1..200)
}

fn run(
    make: &dyn Fn(&[PlainRing]) -> Box<dyn Backend>,
    rings: usize,
    order: u8,
    start: u32,
    acts: &[Act],
) {
    let order = Order::new(order).unwrap();
    let memories: Vec<_> = (0..rings).map(|_| PlainRing::new(order)).collect();
    let front = memories
        .iter()
        .map(|memory| memory.frontend(start))
        .collect();
    let mut backend = make(&memories);
    let mut load = Load {
        rings: front,
        pending: vec![false; rings],
        outstanding: (0..rings).map(|_| VecDeque::new()).collect(),
        backend: &mut *backend,
        max: order.max_message(),
        sent: 0,
        received: 0,
    };
    for act in acts {
        match *act {
            Act::Send(ring, request, reply, patient) => load.send(ring, request, reply, patient),
            Act::Flush => load.flush(),
            Act::Serve(ring, steps) => (0..steps).for_each(|_| {
                load.serve(ring);
            }),
            Act::Receive(ring, limit) => load.receive(ring, limit),
        }
    }
    load.drain();
    assert!(
        load.rings
            .iter()
            .all(|ring| ring.reserved_reply_bytes() == 0)
    );
    assert_eq!(backend.troubles(), []);
    assert!(backend.serving());
}

fn views(memories: &[PlainRing]) -> Vec<xen9p_testing::backend::RingView> {
    memories.iter().map(PlainRing::backend).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn qemu_serves_any_load(
        (rings, acts) in (1usize..=8).prop_flat_map(|rings| (Just(rings), acts(rings))),
        order in prop_oneof![4 => 2u8..=4, 1 => 5u8..=9],
        start in prop_oneof![any::<u32>(), (0u32..100_000).prop_map(|i| u32::MAX - i)],
    ) {
        let make = |memories: &[PlainRing]| -> Box<dyn Backend> {
            Box::new(Qemu::new(views(memories), echo::handler()))
        };
        run(&make, rings, order, start, &acts);
    }

    #[test]
    fn xen_9pfsd_serves_any_load(
        (rings, acts) in (1usize..=4).prop_flat_map(|rings| (Just(rings), acts(rings))),
        order in prop_oneof![4 => 2u8..=4, 1 => 5u8..=9],
        start in prop_oneof![any::<u32>(), (0u32..100_000).prop_map(|i| u32::MAX - i)],
    ) {
        let make = |memories: &[PlainRing]| -> Box<dyn Backend> {
            Box::new(Daemon::new(views(memories), echo::handler()))
        };
        run(&make, rings, order, start, &acts);
    }
}
