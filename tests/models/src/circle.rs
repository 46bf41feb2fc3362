//! Domains that serve each other, in a ring: each asks the next one, which may have to ask the one behind it before it answers.
//! Every order of the steps is run. Model of `transport/desk.rs` (a request that waits keeps none from being served) and of
//! `Session::ask_for_others` (what is asked for others never waits for a tag).
//!
//! Room in the rings is left out: each side takes in whatever comes, also while it waits, so that it never runs out for ever. But for
//! that of replies which a client sees to before it asks, as on a 9pfs ring whose backend does not keep them.

use std::collections::HashSet;

#[derive(Clone, Copy)]
struct Rules {
    domains: usize,
    /// Requests in flight from a domain to the next.
    tags: usize,
    /// Of these, those that the program itself may have.
    own_tags: usize,
    /// Requests that a server works on at a time. Others wait in the order in which they came.
    slots: Option<usize>,
    /// Whether what is asked for others waits for a tag.
    waits: bool,
    /// Requests for whose replies a domain finds room. Others wait for it.
    room: Option<usize>,
}

const OURS: Rules = Rules {
    domains: 3,
    tags: 4,
    own_tags: 2,
    slots: None,
    waits: false,
    room: None,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// It has no tag yet.
    New,
    /// It is on its way, or waits for a slot.
    Sent,
    /// The server works on it.
    Running,
    /// It waits for what the server has asked the next one.
    Asking,
    Answered,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    /// The domain that asks; the next one serves.
    from: usize,
    /// The call for which it asks, unless its program does.
    for_call: Option<usize>,
    /// How many more domains the way leads through.
    hops: u32,
    at: At,
}

type State = Vec<Call>;

impl Rules {
    fn holds_tag(self, call: &Call) -> bool {
        matches!(call.at, At::Sent | At::Running | At::Asking)
    }

    /// What one step of this call leads to, if it can take one.
    fn step(self, state: &State, index: usize) -> Option<State> {
        let call = &state[index];
        let same = |other: &&Call| other.from == call.from;
        let mut next = state.clone();
        next[index].at = match call.at {
            At::New => {
                let held = state
                    .iter()
                    .filter(same)
                    .filter(|other| self.holds_tag(other));
                let held = held.count();
                if self.room.is_some_and(|room| held >= room) {
                    return None;
                }
                let free = self.tags - held;
                let room = match call.for_call {
                    Some(_) => free > 0,
                    None => free > self.tags - self.own_tags,
                };
                match room {
                    true => At::Sent,
                    false if call.for_call.is_some() && !self.waits => At::Refused,
                    false => return None,
                }
            }
            At::Sent => {
                // Calls are sent in any order; a server with slots takes them as they come, and here in each order.
                let at_work = |other: &&Call| matches!(other.at, At::Running | At::Asking);
                let busy = state.iter().filter(same).filter(at_work).count();
                if self.slots.is_some_and(|slots| busy >= slots) {
                    return None;
                }
                At::Running
            }
            At::Running if call.hops == 0 => At::Answered,
            At::Running => {
                next.push(Call {
                    from: (call.from + 1) % self.domains,
                    for_call: Some(index),
                    hops: call.hops - 1,
                    at: At::New,
                });
                At::Asking
            }
            At::Asking => {
                let mut asked = state.iter().filter(|other| other.for_call == Some(index));
                match asked.next()?.at {
                    done @ (At::Answered | At::Refused) => done,
                    _ => return None,
                }
            }
            At::Answered | At::Refused => return None,
        };
        Some(next)
    }
}

#[derive(Debug, Default)]
struct Found {
    states: usize,
    /// Ends in which all was answered, and in which something was refused.
    answered: usize,
    refused: usize,
}

/// Runs calls of the programs, each by the domain that asks and the number of hops, in every order.
fn explore(rules: Rules, calls: &[(usize, u32)]) -> Found {
    let begin: State = calls
        .iter()
        .map(|&(from, hops)| Call {
            from,
            for_call: None,
            hops,
            at: At::New,
        })
        .collect();
    let (mut known, mut open) = (HashSet::new(), vec![begin]);
    let mut found = Found::default();
    while let Some(state) = open.pop() {
        if !known.insert(state.clone()) {
            continue;
        }
        assert!(known.len() < 2_000_000, "too many states");
        let before = open.len();
        open.extend((0..state.len()).filter_map(|index| rules.step(&state, index)));
        if open.len() > before {
            continue;
        }
        let programs = &state[..calls.len()];
        let over = |call: &Call| matches!(call.at, At::Answered | At::Refused);
        assert!(
            programs.iter().all(over),
            "they wait for each other: {state:?}"
        );
        match programs.iter().any(|call| call.at == At::Refused) {
            true => found.refused += 1,
            false => found.answered += 1,
        }
    }
    found.states = known.len();
    found
}

#[test]
fn all_are_answered_where_the_tags_suffice() {
    for calls in [
        &[(0, 0), (0, 0), (1, 0), (1, 0), (2, 0), (2, 0)][..],
        &[(0, 1), (1, 1), (2, 1), (0, 0)],
        &[(0, 2), (1, 2), (2, 2)],
    ] {
        let found = explore(OURS, calls);
        assert!(
            found.states > 100 && found.answered > 0,
            "{calls:?}: {found:?}"
        );
        assert_eq!(found.refused, 0, "{calls:?}");
    }
}

#[test]
fn a_way_without_end_is_refused_and_nothing_waits() {
    for domains in [2, 3] {
        let rules = Rules { domains, ..OURS };
        let found = explore(rules, &[(0, u32::MAX), (1, 1)]);
        assert!(found.refused > 0, "{found:?}");
        assert_eq!(found.answered, 0, "{found:?}");
    }
}

/// A server that works on one request after the other.
#[test]
#[should_panic(expected = "they wait for each other")]
fn servers_with_one_slot_wait_for_each_other() {
    let rules = Rules {
        slots: Some(1),
        ..OURS
    };
    explore(rules, &[(0, 1), (1, 1), (2, 1)]);
}

/// The same is enough where no server asks another.
#[test]
fn servers_with_one_slot_do_for_trees_of_their_own() {
    let rules = Rules {
        slots: Some(1),
        ..OURS
    };
    let found = explore(rules, &[(0, 0), (0, 0), (1, 0), (2, 0)]);
    assert!(found.answered > 0 && found.refused == 0, "{found:?}");
}

#[test]
#[should_panic(expected = "they wait for each other")]
fn what_waits_for_a_tag_waits_for_itself() {
    let rules = Rules {
        domains: 2,
        waits: true,
        ..OURS
    };
    explore(rules, &[(0, u32::MAX)]);
}

#[test]
#[should_panic(expected = "they wait for each other")]
fn what_waits_for_room_for_its_reply_waits_for_itself() {
    let rules = Rules {
        domains: 2,
        room: Some(1),
        ..OURS
    };
    explore(rules, &[(0, 1), (1, 1)]);
}

/// Without tags of their own those who ask for others are refused while the program is busy.
#[test]
fn the_program_leaves_tags_to_others() {
    let greedy = Rules {
        own_tags: OURS.tags,
        ..OURS
    };
    let calls = [(1, 0), (1, 0), (1, 0), (1, 0), (0, 1)];
    assert!(explore(greedy, &calls).refused > 0);
    assert_eq!(explore(OURS, &calls).refused, 0);
}
