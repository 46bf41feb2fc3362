//! The language in which a backend is told what to do wrong.
//!
//! A script is statements separated by semicolons; an empty one is an honest backend.
//!
//! | statement | effect |
//! |---|---|
//! | `restart` | it begins as a program that was just started: with the backend's state 1 |
//! | `stuck STATE` | it never leaves this state |
//! | `refuse STATE` | it goes to this state instead of connecting |
//! | `keep-maps` | it keeps the rings mapped when it disconnects |
//! | `offer NODE VALUE`, `absent NODE` | it offers something else; `VALUE` may be absent, or `long` for 2,000 bytes |
//! | `on TYPE TRICK`, `each TYPE TRICK` | what it does with the first, or with each, reply to a message such as `Tread` |
//!
//! | trick | effect |
//! |---|---|
//! | `size N`, `tag N`, `tag-beside N`, `kind N` | another number in the reply's header |
//! | `in-prod N`, `out-cons N` | that index is so far off, N being positive or negative |
//! | `twice`, `cut N`, `silence` | the reply comes twice, up to N bytes of it, not at all |
//! | `scribble` | all words that are the frontend's own are overwritten |
//! | `rewrite OFFSET VALUE` | four bytes of the reply change after it was published |
//! | `flap OFFSET VALUE TIMES`, `flap-index N TIMES` | they, or the reply index, change all the time |
//! | `say LIE` | the reply is another one: one of [`server::lies`](crate::server::lies) |
//! | `state TEXT`, `remove`, `die` | its state says this (`long` again), its nodes vanish, it is killed |
//! | `events N`, `watches N` | it sends N events, or writes its state N times |

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use xen9p::p9::wire::kind;
use xen9p::xen::xenbus::XenbusState;

use super::lies::{Deed, Lie, Trick, When};
use super::share::Faults;
use crate::server::lies as server;

/// A script that makes no sense: the statement that doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadScript(String);

impl fmt::Display for BadScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no statement of a backend's script: {}", self.0)
    }
}

impl std::error::Error for BadScript {}

impl FromStr for Faults {
    type Err = BadScript;

    fn from_str(script: &str) -> Result<Faults, BadScript> {
        let mut faults = Faults::default();
        for statement in script.split(';').map(str::trim) {
            if !statement.is_empty() {
                add(&mut faults, statement).ok_or_else(|| BadScript(statement.into()))?;
            }
        }
        Ok(faults)
    }
}

fn add(faults: &mut Faults, statement: &str) -> Option<()> {
    let mut words = statement.split_whitespace();
    match words.next()? {
        "restart" => faults.restarts = true,
        "stuck" => faults.stuck_in = Some(state(&mut words)?),
        "refuse" => faults.refuses_with = Some(state(&mut words)?),
        "keep-maps" => faults.keeps_maps = true,
        "offer" => {
            let node = words.next()?.into();
            faults.offers.push((node, Some(text(&mut words))));
        }
        "absent" => faults.offers.push((words.next()?.into(), None)),
        "on" => {
            let when = When::First(message(words.next()?)?);
            faults.lies.push(when, trick(&mut words)?);
        }
        "each" => {
            let when = When::Each(message(words.next()?)?);
            faults.lies.push(when, trick(&mut words)?);
        }
        _ => return None,
    }
    words.next().is_none().then_some(())
}

fn trick(words: &mut SplitWhitespace<'_>) -> Option<Trick> {
    let lie = match words.next()? {
        "size" => Lie::Size(number(words)?),
        "tag" => Lie::Tag(number(words)?),
        "tag-beside" => Lie::TagBeside(number(words)?),
        "kind" => Lie::Kind(number(words)?),
        "in-prod" => Lie::InProd(number(words)?),
        "out-cons" => Lie::OutCons(number(words)?),
        "twice" => Lie::Twice,
        "cut" => Lie::Cut(number(words)?),
        "silence" => Lie::Silence,
        "scribble" => Lie::Scribble,
        "rewrite" => Lie::Rewrite(number(words)?, number(words)?),
        "flap" => Lie::Flap(number(words)?, number(words)?, number(words)?),
        "flap-index" => Lie::FlapIndex(number(words)?, number(words)?),
        "say" => {
            let name = words.next()?;
            let said = server::Lie::ALL
                .into_iter()
                .find(|lie| format!("{lie:?}") == name);
            Lie::Say(said?)
        }
        "state" => return Some(Trick::Deed(Deed::State(text(words).into()))),
        "remove" => return Some(Trick::Deed(Deed::Remove)),
        "die" => return Some(Trick::Deed(Deed::Die)),
        "events" => return Some(Trick::Deed(Deed::Events(number(words)?))),
        "watches" => return Some(Trick::Deed(Deed::Watches(number(words)?))),
        _ => return None,
    };
    Some(Trick::Lie(lie))
}

/// What is left of a statement.
fn text(words: &mut SplitWhitespace<'_>) -> String {
    match words.by_ref().collect::<Vec<_>>().join(" ") {
        long if long == "long" => "4".repeat(2000),
        text => text,
    }
}

fn number<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn state(words: &mut SplitWhitespace<'_>) -> Option<XenbusState> {
    match XenbusState::from_number(number(words)?) {
        XenbusState::Unknown => None,
        state => Some(state),
    }
}

/// The number of a message type.
fn message(name: &str) -> Option<u8> {
    (0..=u8::MAX).find(|&number| kind::name(number) == name)
}
