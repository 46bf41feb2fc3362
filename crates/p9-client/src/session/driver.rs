//! The driver: the one place that waits, in the transport, and holds no borrow while it does.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::mem;
use core::pin::pin;
use core::task::{Context, Poll};
use core::time::Duration;

use p9_tree::Driver;

use super::engine::{Engine, POLLED_ANYWAY};
use super::link::Link;
use super::{Deferred, Error, Session, Shared, State};
use crate::transport::{Transport, TransportError};
use xen9p_time::Instant;

/// How often at least the idle hook is called while an operation waits.
const HOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often at most an operation gets further before others have their turn, in a session that is used for others, too.
const ROUNDS_ALONE: u32 = 4;

/// How long closing a session may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

impl Session {
    /// Runs an operation to its end, waiting in the transport while it can't go on.
    ///
    /// Works with any future, but only replies of this session and its deadlines are waited for.
    ///
    /// # Panics
    /// In an event handler, a logger or another callback that the session's own wait runs there is nothing to wait in:
    /// operations of this session that would have to wait fail with [`Error::WouldBlock`], and
    /// any other future that is not ready is a panic.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut output = None;
        self.run_to_end(&mut |cx| {
            let poll = future.as_mut().poll(cx);
            poll.map(|done| output = Some(done))
        });
        output.expect("it is driven until it is done")
    }

    /// Calls `poll` until it is ready. One function for all kinds of futures: an image has dozens.
    fn run_to_end(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let mut cx = Context::from_waker(POLLED_ANYWAY);
        let mut rounds = 0_u32;
        loop {
            let seen = self.progress();
            if poll(&mut cx).is_ready() {
                return;
            }
            if self.is_waiting() {
                let outer = self.shared.nested.replace(true);
                let done = poll(&mut cx).is_ready();
                self.shared.nested.set(outer);
                assert!(
                    done,
                    "block_on() within the session's own wait, of a future that is not the session's"
                );
                return;
            }
            self.run_once();
            if self.progress() != seen {
                rounds = rounds.wrapping_add(1);
                // The hook is what serves others, who want something of this session as well.
                if rounds.is_multiple_of(ROUNDS_ALONE)
                    && self.with_or(false, |engine| engine.is_shared())
                {
                    self.call_hook();
                }
                continue;
            }
            let mut most = Duration::MAX;
            if self.call_hook() {
                most = HOOK_INTERVAL;
                self.run_once();
            }
            if self.progress() == seen {
                self.block(seen, Instant::NEVER, most);
            }
        }
    }

    /// Sends what is waiting to be sent, takes in all replies that have arrived, and wakes those they
    /// are for. Never blocks, unless there is a server to be [found again](Self::set_recovery).
    pub fn pump(&self) {
        self.run_once();
        self.with_link_or((), |engine, link| {
            engine.expire_due(link.now());
        });
    }

    /// [`pump`](Self::pump) without a look at the clock, for those who will wait soon.
    pub(super) fn run_once(&self) {
        self.recover();
        self.with_link_or((), |engine, link| {
            if let Some(transport) = link.transport() {
                engine.exchange(transport);
            }
        });
    }

    /// Blocks until something may have happened on the transport, an event for another part of the program has come, a request in
    /// flight has reached its deadline, or `deadline` has passed; then [`pump`](Self::pump)s. Returns at once when an operation may have got
    /// further since it returned last, no matter which call took the reply in, and from within a callback of this session's wait.
    ///
    /// So a loop that polls its operations and then waits loses no wake-up, whatever else it calls in between.
    ///
    /// Errors of the transport are those of the operations that wait.
    pub fn wait(&self, deadline: Instant) {
        if self.is_waiting() {
            // Until the wait is over: loops of polling and waiting have to end.
            self.shared.nested.set(true);
            return;
        }
        if self.with_or(true, |engine| engine.has_untold_progress()) {
            self.run_once();
        } else {
            self.block(self.progress(), deadline, Duration::MAX);
        }
        self.with_or((), Engine::tell_progress);
    }

    /// Waits until there is more progress than was `seen`, until an event comes that is not this session's, until `deadline`, and
    /// little longer than `most`. The hook may have waited for that event, or another part of the program.
    fn block(&self, seen: u64, deadline: Instant, most: Duration) {
        self.recover();
        let next_wakeup =
            self.with_link_or(None, |engine, link| engine.settle(link.transport()?, seen));
        // Most answers come soon, without a look at the clock.
        let Some(next_wakeup) = next_wakeup else {
            return;
        };
        let soon = next_wakeup.min(deadline);
        if self.wait_in_transport(soon) {
            return;
        }
        let until = self.with_link_or(None, |engine, link| {
            let now = link.now();
            let until = engine.expire_due(now).min(deadline).min(now + most);
            engine.send_due(link.transport()?);
            let nothing_came = now >= soon && engine.is_quiet(seen);
            (nothing_came && now < until).then_some(until)
        });
        if let Some(until) = until {
            self.wait_in_transport(until);
        }
    }

    /// What [`wait`](Self::wait) does before it blocks and after that, for those who block by other means: does all that can be
    /// done now. Then, unless an operation may have got further meanwhile, says until when one may block if nothing fires
    /// before. `has_blocked`: that is over, and the clock is looked at if nothing has come; it is not before. Never blocks itself,
    /// unless there is a server to be [found again](Self::set_recovery).
    pub fn settle(&self, has_blocked: bool) -> Option<Instant> {
        let seen = self.progress();
        self.recover();
        let until = self.with_link_or(None, |engine, link| {
            let until = engine.settle(link.transport()?, seen)?;
            if !has_blocked {
                return Some(until);
            }
            let until = engine.expire_due(link.now());
            engine.send_due(link.transport()?);
            Some(until)
        })?;
        let mut transport = self.with_link_or(None, |_, link| link.take())?;
        let settled = transport.settle();
        self.shared.nested.set(false);
        let is_quiet = self.with_link_or(false, |engine, link| {
            engine.end_wait(link.put_back(transport), settled.map(drop), has_blocked);
            engine.is_quiet(seen)
        });
        let of_transport = settled.ok().flatten()?;
        is_quiet.then(|| until.min(of_transport))
    }

    /// Waits in the transport, which has no other user meanwhile, and takes in what has come. Whether there was anything.
    fn wait_in_transport(&self, until: Instant) -> bool {
        let taken = self.with_link_or(None, |engine, link| {
            engine.count_wait();
            link.take()
        });
        let Some(mut transport) = taken else {
            return true;
        };
        let result = transport.wait(until);
        self.shared.nested.set(false);
        self.with_link_or(true, |engine, link| {
            engine.end_wait(link.put_back(transport), result, true)
        })
    }

    /// Closes the transport, which has no other user meanwhile.
    pub(super) fn close_transport(&self) {
        if let Some(mut transport) = self.with_link_or(None, |_, link| link.take()) {
            transport.close();
            self.shared.nested.set(false);
            self.with_link_or((), |_, link| {
                link.put_back(transport);
            });
        }
    }

    /// Ends the session and gives its transport away.
    pub(super) fn into_transport(self) -> Option<Box<dyn Transport>> {
        self.with_link_or(None, |engine, link| {
            engine.end(TransportError::Closed.into());
            link.take()
        })
    }

    /// Whether the transport is waited in, or called, or a server looked for right now: this is a callback, or another thread.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.shared.state.try_borrow();
        state.map_or(true, |state| {
            state.link.is_away() || state.engine.lost_in_search().is_some()
        })
    }

    /// Whether who asks for something now can't wait for it.
    pub(super) fn is_nested(&self) -> bool {
        self.shared.nested.get()
    }

    /// When [`pump`](Self::pump) has something to do even if nothing arrives: for loops that wait by other means than
    /// [`wait`](Self::wait).
    pub fn next_wakeup(&self) -> Instant {
        self.with_or(Instant::NEVER, |engine| engine.next_wakeup())
    }

    /// Whether anything is under way: else there is no event to [settle](Self::settle) for.
    pub fn is_busy(&self) -> bool {
        self.with_or(true, |engine| engine.is_busy())
    }

    /// A number that changes whenever an operation may have got further.
    pub fn progress(&self) -> u64 {
        self.with_or(0, |engine| engine.progress())
    }

    /// Calls the idle hook; `false` when there is none.
    pub(super) fn call_hook(&self) -> bool {
        let Some(mut hook) = self.shared.hook.borrow_mut().take() else {
            return false;
        };
        hook();
        // Unless the hook has put another in its place.
        self.shared.hook.borrow_mut().get_or_insert(hook);
        true
    }

    /// Works on the engine; else as [`with_link_or`](Self::with_link_or).
    pub(super) fn with_or<T>(&self, busy: T, work: impl FnOnce(&mut Engine) -> T) -> T {
        self.with_link_or(busy, |engine, _| work(engine))
    }

    /// Works on the state and, when nothing is borrowed any more, wakes tasks and logs errors: wakers and loggers may come
    /// back here. `busy` is the result within a call of the transport, where a logger may have called.
    pub(super) fn with_link_or<T>(
        &self,
        busy: T,
        work: impl FnOnce(&mut Engine, &mut Link) -> T,
    ) -> T {
        let Ok(mut state) = self.shared.state.try_borrow_mut() else {
            return busy;
        };
        let State { engine, link } = &mut *state;
        let result = work(engine, link);
        if !engine.has_deferred() && !self.shared.is_later.get() {
            return result;
        }
        drop(state);
        self.run_deferred();
        result
    }

    /// Does this now, or as soon as the state is free.
    pub(super) fn with_or_later(&self, work: Deferred) {
        if self.shared.state.try_borrow_mut().is_err() {
            self.shared.later.borrow_mut().push(work);
            self.shared.is_later.set(true);
            return;
        }
        self.with_link_or((), |engine, link| {
            work.run(engine);
            link.tie_up(engine);
        });
    }

    /// Does what was put off, wakes tasks and logs errors. Not part of [`with_or`](Self::with_or), of which there are many
    /// copies.
    #[inline(never)]
    fn run_deferred(&self) {
        while self.shared.is_later.replace(false) {
            let later = mem::take(&mut *self.shared.later.borrow_mut());
            let mut state = self.shared.state.borrow_mut();
            let State { engine, link } = &mut *state;
            for work in later {
                work.run(engine);
            }
            link.tie_up(engine);
        }
        let (mut woken, unlogged) = self.shared.state.borrow_mut().engine.take_deferred();
        if let Some(error) = unlogged.filter(|&error| error != TransportError::Closed.into()) {
            log::error!("9P session over: {error}");
        }
        for waker in woken.drain(..) {
            waker.wake();
        }
        // Keeps the allocation.
        self.shared.state.borrow_mut().engine.reuse(woken);
    }
}

impl Driver for Session {
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Result<(), Error> {
        self.run_to_end(poll);
        Ok(())
    }

    fn share(&self) -> Rc<dyn Driver> {
        Rc::new(self.clone())
    }
}

impl Drop for Shared {
    /// What the transport says to the end of the session, in good order and bounded time.
    fn drop(&mut self) {
        let State { engine, link } = self.state.get_mut();
        if let Some(error) = engine.lost() {
            engine.end(error);
        }
        let deadline = link.now() + SHUTDOWN_TIMEOUT.min(engine.timeout());
        while engine.error().is_none() && engine.is_busy() && link.now() < deadline {
            let Some(transport) = link.transport() else {
                return;
            };
            engine.spill_heads(transport);
            engine.pump(transport);
            drop(engine.take_deferred());
            // Last, as a reply may have been what a clunk had to wait for.
            engine.send_due(transport);
            if engine.error().is_some() || !engine.is_busy() {
                break;
            }
            if let Err(error) = transport.wait(deadline) {
                engine.fail(error.into());
            }
        }
        if let Some(transport) = link.transport() {
            transport.close();
        }
    }
}
