//! The life of a connection: who was told what of it, and when both sides are connected.
//!
//! Each side counts how often it was connected. Both counts differ by one at most, because a side is connected for the n-th
//! time only when the other has said `Ready(n)`, and so had been connected n − 1 times: a connection that breaks between
//! the two is one that one side has had, and the other has not. The greetings of the next connection show it. The side that
//! is behind tells its program `Connect` and `Disconnect`, since that is what has happened, and only then says `Ready`.
//!
//! A stream carries one epoch. What was sent in an earlier one can't arrive, and references to buffers name theirs.

use super::bulk::Bulk;
use super::engine::{DESTROY_TIMEOUT, Engine, Life, Link};
use super::event::{Event, Fault};

impl<B: Bulk> Engine<B> {
    /// Ends the connection, and has another one be made.
    pub fn disconnect(&mut self) {
        self.lost(Fault::Closed);
    }

    /// The program has seen the end of everything that was under way.
    ///
    /// # Errors
    /// `false`: it has not, or there is nothing to finish.
    #[must_use]
    pub fn finish_disconnect(&mut self) -> bool {
        if self.life != Life::Failing || !self.has.events.is_empty() {
            return false;
        }
        self.life = Life::Present;
        self.free_all();
        true
    }

    /// Begins the end of the endpoint.
    pub fn destroy(&mut self) {
        if core::mem::replace(&mut self.destroying, true) {
            return;
        }
        match self.link {
            Link::Up => {
                self.fault = Fault::Closed;
                self.end_all(Fault::Closed);
                self.link = Link::Leaving;
                self.bye_due = true;
                self.deadline = self.now + DESTROY_TIMEOUT;
            }
            _ => self.lost(Fault::Closed),
        }
    }

    /// What is told to the program next.
    pub fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.advance() {
            return Some(event);
        }
        match self.life {
            Life::Connected | Life::Failing => {
                let event = self.has.events.pop_front()?;
                self.told_of(event);
                Some(event)
            }
            _ => None,
        }
    }

    /// Goes one step on in the life of the connection, as far as the program has followed.
    fn advance(&mut self) -> Option<Event> {
        let is_up = self.link == Link::Up && self.told == self.connects;
        match self.life {
            Life::Connected if !is_up => {
                self.life = Life::Failing;
                Some(Event::Disconnect(self.fault))
            }
            Life::Connected | Life::Failing | Life::Destroyed => None,
            Life::Present if self.told < self.connects => {
                self.told += 1;
                self.life = Life::Connected;
                Some(Event::Connect)
            }
            _ if self.destroying => {
                if self.link != Link::Down {
                    return None;
                }
                if self.life == Life::Present {
                    self.life = Life::Away;
                    return Some(Event::Disappear);
                }
                self.life = Life::Destroyed;
                self.forget_all(self.noted);
                Some(Event::Destroyed)
            }
            Life::Present if self.peer_gone => {
                self.peer_gone = false;
                self.life = Life::Away;
                Some(Event::Disappear)
            }
            _ => self.meet(),
        }
    }

    /// Answers a greeting.
    fn meet(&mut self) -> Option<Event> {
        let Link::Greeted(hello) = self.link else {
            return None;
        };
        if self.ready != 0 {
            return None;
        }
        let same = hello.incarnation == self.known && hello.known == self.incarnation;
        if !same {
            if self.life == Life::Present && hello.incarnation != self.known {
                // Another endpoint has come into the place of the one that was there.
                self.life = Life::Away;
                return Some(Event::Disappear);
            }
            (self.connects, self.told, self.known) = (0, 0, hello.incarnation);
        }
        if self.life == Life::Away {
            self.life = Life::Present;
            return Some(Event::Appear);
        }
        let theirs = if same { hello.connects } else { 0 };
        if theirs.abs_diff(self.connects) > 1 {
            self.lost(Fault::Violation(
                "it counts other connections than there were",
            ));
            return None;
        }
        if theirs > self.connects {
            // It was connected, and this side was not: that connection is over.
            self.connects = theirs;
            return self.advance();
        }
        self.ready = self.connects.max(theirs) + 1;
        self.ready_due = true;
        self.try_connect();
        (self.told < self.connects)
            .then(|| self.advance())
            .flatten()
    }

    /// Both sides are connected if both have said that they are ready.
    pub(super) fn try_connect(&mut self) {
        let Link::Greeted(hello) = self.link else {
            return;
        };
        if self.ready == 0 || self.peer_ready == 0 {
            return;
        }
        if self.ready != self.peer_ready {
            return self.lost(Fault::Violation("it is ready for another connection"));
        }
        self.agreed = self.has.limits.min(hello.limits);
        self.connects = self.ready;
        self.link = Link::Up;
        // The other side has left the earlier connection behind, and all that it knew of it.
        self.forget_all(true);
    }
}
