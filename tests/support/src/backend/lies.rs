//! What a hostile backend does to its replies.

use std::collections::BTreeMap;

use super::memory::RingView;

/// One lie, told with one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The header's size field says this; the reply's bytes stay as they are.
    Size(u32),
    /// The reply carries this tag.
    Tag(u16),
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
    /// The reply never comes.
    Silence,
}

/// Lies by the number of the reply (0 is the first) with which they are told.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    script: BTreeMap<u64, Lie>,
    replies: u64,
}

impl<const N: usize> From<[(u64, Lie); N]> for Lies {
    fn from(script: [(u64, Lie); N]) -> Lies {
        Lies {
            script: script.into(),
            replies: 0,
        }
    }
}

impl Lies {
    /// Bends the next reply as the script wants; returns the lie, for
    /// [`after`](Self::after) the reply was published.
    pub(super) fn bend(&mut self, reply: &mut Vec<u8>) -> Option<Lie> {
        let lie = self.script.get(&self.replies).copied();
        self.replies += 1;
        match lie? {
            Lie::Size(size) => reply[..4].copy_from_slice(&size.to_le_bytes()),
            Lie::Kind(kind) => reply[4] = kind,
            Lie::Tag(tag) => reply[5..7].copy_from_slice(&tag.to_le_bytes()),
            Lie::Twice => reply.extend_from_within(..),
            Lie::Cut(len) => reply.truncate(len),
            Lie::Silence => reply.clear(),
            Lie::InProd(_) | Lie::OutCons(_) | Lie::Scribble | Lie::Rewrite(..) => {}
        }
        lie
    }

    /// Tells those lies that are told in the ring rather than in the reply, which began at
    /// `start` and has been published.
    pub(super) fn after(lie: Option<Lie>, view: &RingView, start: u32) {
        let shift = |word, by: i32| view.set(word, view.get(word).wrapping_add_signed(by));
        match lie {
            Some(Lie::InProd(by)) => shift(RingView::IN_PROD, by),
            Some(Lie::OutCons(by)) => shift(RingView::OUT_CONS, by),
            Some(Lie::Scribble) => {
                for word in [RingView::IN_CONS, RingView::OUT_PROD, RingView::RING_ORDER] {
                    view.set(word, 0xDEAD_BEEF);
                }
                for word in (RingView::REF..4096).step_by(4) {
                    view.set(word, u32::MAX);
                }
            }
            Some(Lie::Rewrite(offset, value)) => {
                view.write_replies(start.wrapping_add(offset), &value.to_le_bytes());
            }
            _ => {}
        }
    }
}
