//! What a frontend can try; the numbers are those of docs/hostile-cases.md, with the roles exchanged.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use xen9p::p9::wire::kind;

use crate::Result;
use crate::ring::{IN_PROD, OUT_CONS, REFS, RING_ORDER, Ring, SIZE};

/// How a case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The device is closed before it was connected.
    Refused,
    /// The device is closed.
    Broken,
    /// The connection goes on.
    Works,
}

/// A case.
pub struct Case {
    /// The row of the table, and what is done.
    pub name: &'static str,
    /// What is done to the ring before the backend is told of it.
    pub offer: fn(&mut Ring),
    /// What is done once it is connected.
    pub act: fn(&mut Ring) -> Result<()>,
    /// How it ends.
    pub ends: Ends,
}

const fn refused(name: &'static str, offer: fn(&mut Ring)) -> Case {
    Case {
        name,
        offer,
        act: |_| Ok(()),
        ends: Ends::Refused,
    }
}

const fn broken(name: &'static str, act: fn(&mut Ring) -> Result<()>) -> Case {
    Case {
        name,
        offer: |_| {},
        act,
        ends: Ends::Broken,
    }
}

const fn works(name: &'static str, act: fn(&mut Ring) -> Result<()>) -> Case {
    Case {
        name,
        offer: |_| {},
        act,
        ends: Ends::Works,
    }
}

/// A grant reference and a port that this domain has not given.
const NOT_GIVEN: u32 = 4000;

/// The tag that only Tversion has.
const NO_TAG: u16 = u16::MAX;

/// Bytes of a Tclunk, and of the error that answers it.
const CLUNK_SIZE: u32 = 11;
const RLERROR_SIZE: u32 = 11;

/// Events in a storm.
const STORM: u32 = 20_000;

/// All cases.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    works("nothing", |_| Ok(())),
    refused("S10 nine rings", |ring| ring.say("num-rings", "9")),
    refused("S10 two rings, one described", |ring| ring.say("num-rings", "2")),
    refused("S10 version 2", |ring| ring.say("version", "2")),
    refused("S18 order 0", |ring| ring.set(RING_ORDER, 0)),
    refused("S18 order 10", |ring| ring.set(RING_ORDER, 10)),
    refused("S18 order 2^32 - 1", |ring| ring.set(RING_ORDER, u32::MAX)),
    refused("a grant that was not given", |ring| ring.set(REFS + 8, NOT_GIVEN)),
    refused("an index page that was not given", |ring| ring.say("ring-ref0", &NOT_GIVEN.to_string())),
    refused("a port that was not given", |ring| ring.say("event-channel-0", &NOT_GIVEN.to_string())),
    refused("one ring twice", one_ring_twice),
    broken("S1 out_prod beyond the ring", |ring| { ring.claim(SIZE + 1); Ok(()) }),
    broken("S1 out_prod half the world ahead", |ring| { ring.claim(1 << 31); Ok(()) }),
    broken("S1 out_prod backward", |ring| { ring.version()?; ring.claim(u32::MAX); Ok(()) }),
    broken("S2 in_cons beyond what was sent", |ring| { ring.take(1); ring.send_size(7); Ok(()) }),
    broken("S2 in_cons far behind", |ring| { ring.take(SIZE.wrapping_neg() - 1); ring.send_size(7); Ok(()) }),
    broken("S3 size 0", |ring| { ring.send_size(0); Ok(()) }),
    broken("S3 size 6", |ring| { ring.send_size(6); Ok(()) }),
    broken("S3 one more than the ring", |ring| { ring.send_size(SIZE + 1); Ok(()) }),
    broken("S3 size 2^32 - 1", |ring| { ring.send_size(u32::MAX); Ok(()) }),
    broken("S3 more than msize", |ring| { ring.version()?; ring.send_size(4097); Ok(()) }),
    broken("S6 a Twrite that says less than it has", |ring| { ring.version()?; ring.send(&short_write()); Ok(()) }),
    works("S3 half a request", half),
    works("S4 tags that are in use, or none", tags),
    works("S5 a type that is none", |ring| typed(ring, 255)),
    works("S5 a reply for a request", |ring| typed(ring, kind::RVERSION)),
    works("S7 S14 requests and replies that change", shifting),
    works("S8 the backend's words", overwrite),
    works("S9 a storm of events", |ring| { (0..STORM).for_each(|_| ring.notify()); Ok(()) }),
    works("S15 random messages", random),
];

fn one_ring_twice(ring: &mut Ring) {
    let of = |ring: &Ring, name: &str| {
        let found = ring.nodes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (page, port) = (of(ring, "ring-ref0"), of(ring, "event-channel-0"));
    ring.say("num-rings", "2");
    ring.say("ring-ref1", &page);
    ring.say("event-channel-1", &port);
}

/// A Twrite of 100 bytes whose count is 1.
fn short_write() -> [u8; 100] {
    let mut message = [0; 100];
    message[0] = 100;
    message[4] = kind::TWRITE;
    message[19] = 1;
    message
}

/// A message of 100 bytes comes in two parts.
fn half(ring: &mut Ring) -> Result<()> {
    let mut message = [0; 100];
    message[0] = 100;
    message[4] = kind::TCLUNK;
    ring.send(&message[..50]);
    for _ in 0..100 {
        ring.notify();
    }
    ring.send(&message[50..]);
    ring.reply().map(drop)
}

/// A Tclunk of a fid that there is not.
fn clunk(tag: u16, fid: u32) -> [u8; CLUNK_SIZE as usize] {
    let mut message = [0; CLUNK_SIZE as usize];
    message[0] = CLUNK_SIZE as u8;
    message[4] = kind::TCLUNK;
    message[5..7].copy_from_slice(&tag.to_le_bytes());
    message[7..].copy_from_slice(&fid.to_le_bytes());
    message
}

/// Requests with the same tag that are there at the same time, with the tag that is none, and flushes of themselves and of what is
/// not there: each is answered.
fn tags(ring: &mut Ring) -> Result<()> {
    ring.version()?;
    let mut batch = vec![];
    for tag in [1, 1, 1, NO_TAG, NO_TAG, 1] {
        batch.extend(clunk(tag, 77));
    }
    for (tag, oldtag) in [(2u16, 2u16), (3, 1), (4, NO_TAG), (NO_TAG, NO_TAG)] {
        batch.extend([9, 0, 0, 0, kind::TFLUSH]);
        batch.extend(tag.to_le_bytes());
        batch.extend(oldtag.to_le_bytes());
    }
    ring.send(&batch);
    for _ in 0..6 {
        expect(ring, kind::RLERROR)?;
    }
    for _ in 0..4 {
        expect(ring, kind::RFLUSH)?;
    }
    Ok(())
}

fn expect(ring: &mut Ring, kind: u8) -> Result<()> {
    match ring.reply()? {
        got if got == kind => Ok(()),
        got => Err(format!("a reply of type {got}, not {kind}")),
    }
}

/// Tag and fid of a request change while it is read, and the room for replies is written to all the time: each request is
/// answered once, by what it was when it was looked at.
fn shifting(ring: &mut Ring) -> Result<()> {
    ring.version()?;
    for round in 0..200u32 {
        ring.send(&clunk(1, 1000 + round));
        for turn in 0..20 {
            let message = clunk(2 + turn, 2000 + u32::from(turn));
            ring.rewrite(CLUNK_SIZE - 5, &message[5..]);
            ring.scribble(RLERROR_SIZE, turn as u8);
        }
        expect(ring, kind::RLERROR)?;
    }
    Ok(())
}

/// A message of that type, with nothing in it, is answered.
fn typed(ring: &mut Ring, kind: u8) -> Result<()> {
    ring.version()?;
    ring.send(&[7, 0, 0, 0, kind, 1, 0]);
    ring.reply().map(drop)
}

/// The words that only the backend writes are never read back.
fn overwrite(ring: &mut Ring) -> Result<()> {
    ring.version()?;
    for word in [IN_PROD, OUT_CONS, RING_ORDER, REFS, REFS + 4] {
        ring.set(word, 0x5a5a_5a5a);
    }
    ring.version()
}

/// Messages whose header is in order, and nothing else, are answered.
fn random(ring: &mut Ring) -> Result<()> {
    ring.version()?;
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for _ in 0..200 {
        let size = 7 + next() % 200;
        let mut message = vec![0; size as usize];
        message.iter_mut().for_each(|byte| *byte = next() as u8);
        message[..4].copy_from_slice(&size.to_le_bytes());
        // Requests have even types. A Twrite whose count is not that of its size is no message at all.
        message[4] &= !1;
        if message[4] == kind::TWRITE {
            message[4] = kind::TREAD;
        }
        message[5..7].copy_from_slice(&1u16.to_le_bytes());
        ring.send(&message);
        ring.reply()?;
    }
    Ok(())
}
