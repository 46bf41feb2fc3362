//! What a hostile backend does to its replies, and when.

use super::memory::RingView;
use crate::server::lies as server;

/// One lie, told with one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The header's size field says this; the reply's bytes stay as they are.
    Size(u32),
    /// The reply carries this tag.
    Tag(u16),
    /// The reply carries a tag that is so much further.
    TagBeside(u16),
    /// The reply is of this type.
    Kind(u8),
    /// The reply index moves by this much more than the reply's length.
    InProd(i32),
    /// The request index is set this far from where it belongs.
    OutCons(i32),
    /// The reply is sent twice.
    Twice,
    /// Only so many bytes of the reply ever come.
    Cut(usize),
    /// The frontend's own words in the interface page are overwritten: its indices, the order, all
    /// references.
    Scribble,
    /// The four bytes at this offset of the reply change after it was published.
    Rewrite(u32, u32),
    /// The four bytes at this offset of the reply change so often, to this value and back, after the frontend was told
    /// of it.
    Flap(u32, u32, u32),
    /// The reply index changes so often, to this far ahead and back, after the frontend was told of the reply.
    FlapIndex(u32, u32),
    /// The reply never comes.
    Silence,
    /// The reply says something else, as a server of 9P2000.L can.
    Say(server::Lie),
}

/// What a hostile backend does besides, when it has a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Writes this into its state.
    State(Vec<u8>),
    /// Removes its directory.
    Remove,
    /// Dies, as `kill -9` does.
    Die,
    /// Sends so many events.
    Events(u32),
    /// Writes its state, which stays the same, so often.
    Watches(u32),
}

/// What is done at some occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trick {
    /// To the reply.
    Lie(Lie),
    /// Besides.
    Deed(Deed),
}

/// When it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the reply of this number; 0 is the first.
    Reply(u64),
    /// With the first reply to a request of this type.
    First(u8),
    /// With every reply to a request of this type.
    Each(u8),
}

/// What is done when, on one connection.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    script: Vec<(When, Trick)>,
    replies: u64,
    deeds: Vec<Deed>,
    flap: Option<(Lie, u32)>,
}

impl<const N: usize> From<[(u64, Lie); N]> for Lies {
    fn from(script: [(u64, Lie); N]) -> Lies {
        let mut lies = Lies::default();
        for (number, lie) in script {
            lies.push(When::Reply(number), Trick::Lie(lie));
        }
        lies
    }
}

impl Lies {
    /// Adds to the script.
    pub fn push(&mut self, when: When, trick: Trick) {
        self.script.push((when, trick));
    }

    /// Bends the next reply, to `request`, as the script wants; returns the lie, for
    /// [`after`](Self::after) the reply was published.
    pub(super) fn bend(&mut self, request: &[u8], reply: &mut Vec<u8>) -> Option<Lie> {
        let (number, kind) = (self.replies, request.get(4).copied());
        self.replies += 1;
        let mut told = None;
        self.script.retain(|(when, trick)| {
            let (now, keep) = match *when {
                When::Reply(wanted) => (wanted == number, true),
                When::First(wanted) => (Some(wanted) == kind, Some(wanted) != kind),
                When::Each(wanted) => (Some(wanted) == kind, true),
            };
            match trick {
                Trick::Lie(lie) if now => told = Some(*lie),
                Trick::Deed(deed) if now => self.deeds.push(deed.clone()),
                _ => {}
            }
            keep
        });
        match told? {
            Lie::Size(size) => reply[..4].copy_from_slice(&size.to_le_bytes()),
            Lie::Kind(kind) => reply[4] = kind,
            Lie::Tag(tag) => reply[5..7].copy_from_slice(&tag.to_le_bytes()),
            Lie::TagBeside(by) => {
                let tag = u16::from_le_bytes([reply[5], reply[6]]).wrapping_add(by);
                reply[5..7].copy_from_slice(&tag.to_le_bytes());
            }
            Lie::Twice => reply.extend_from_within(..),
            Lie::Cut(len) => reply.truncate(len),
            Lie::Silence => reply.clear(),
            Lie::Say(lie) => *reply = lie.tell(request, std::mem::take(reply)).concat(),
            Lie::InProd(_)
            | Lie::OutCons(_)
            | Lie::Scribble
            | Lie::Rewrite(..)
            | Lie::Flap(..)
            | Lie::FlapIndex(..) => {}
        }
        told
    }

    /// Tells those lies that are told in the ring rather than in the reply, which began at
    /// `start` and has been published.
    pub(super) fn after(&mut self, lie: Option<Lie>, view: &RingView, start: u32) {
        let shift = |word, by: i32| view.set(word, view.get(word).wrapping_add_signed(by));
        match lie {
            Some(Lie::InProd(by)) => shift(RingView::IN_PROD, by),
            Some(Lie::OutCons(by)) => shift(RingView::OUT_CONS, by),
            Some(Lie::Scribble) => view.scribble(),
            Some(Lie::Rewrite(offset, value)) => {
                view.write_replies(start.wrapping_add(offset), &value.to_le_bytes());
            }
            Some(lie @ (Lie::Flap(..) | Lie::FlapIndex(..))) => self.flap = Some((lie, start)),
            _ => {}
        }
    }

    /// Goes on with a reply that the frontend was told of just now.
    pub(super) fn told(&mut self, view: &RingView) {
        match self.flap.take() {
            Some((Lie::Flap(offset, value, times), start)) => {
                let at = start.wrapping_add(offset);
                let honest = view.replies(at, 4);
                for _ in 0..times {
                    view.write_replies(at, &value.to_le_bytes());
                    view.write_replies(at, &honest);
                }
            }
            Some((Lie::FlapIndex(by, times), _)) => {
                let honest = view.get(RingView::IN_PROD);
                for _ in 0..times {
                    view.set(RingView::IN_PROD, honest.wrapping_add(by));
                    view.set(RingView::IN_PROD, honest);
                }
            }
            _ => {}
        }
    }

    /// What else to do, since this was last asked.
    pub(super) fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }
}
