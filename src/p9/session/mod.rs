//! The client session.
#![allow(dead_code, reason = "being filled in")]

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::fmt;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use super::{Dialect, Error};
use crate::transport::Transport;

/// What a session asks of the server and allows itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The largest message to agree on, in bytes.
    pub msize: u32,
    /// How many requests may be in flight.
    pub window: u16,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent.
    pub requests: u64,
}

/// The switch that ends waiting operations.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends all operations that wait, and those to come, with [`Error::Interrupted`].
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets operations work again.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A 9P session.
#[derive(Clone)]
pub struct Session(Rc<Box<dyn Transport>>);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A session that has not spoken yet.
    pub fn new(transport: Box<dyn Transport>, _config: Config) -> Result<Session, Error> {
        Ok(Session(Rc::new(transport)))
    }

    /// Runs an operation until it is over.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                return done;
            }
        }
    }

    /// The dialect agreed on.
    pub fn dialect(&self) -> Dialect {
        Dialect::Linux
    }

    /// The largest message agreed on.
    pub fn msize(&self) -> u32 {
        0
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The switch that ends waiting operations.
    pub fn interrupt(&self) -> Interrupt {
        Interrupt::default()
    }

    /// Sets what is called while a blocking call waits.
    pub fn set_idle_hook(&self, _hook: Option<Box<dyn FnMut()>>) {}
}
