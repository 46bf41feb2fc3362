//! From futures to calls that wait.

use alloc::rc::Rc;
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use p9_wire::Errno;

use crate::Result;
use crate::files::count_failure;

/// How a tree that may wait is waited for: what runs a future of its operations to the end, for callers that block.
pub trait Driver {
    /// Calls `poll` until it is ready, and waits in between until it may be worth calling again.
    ///
    /// # Errors
    /// Only that it would wait for ever; what becomes of the operation is the business of `poll`.
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Result<()>;

    /// The same driver, for itself.
    fn share(&self) -> Rc<dyn Driver>;
}

/// The driver of trees that never wait, such as those in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverWaits;

impl Driver for NeverWaits {
    /// Calls `poll` once.
    ///
    /// # Errors
    /// EDEADLK when it is not ready then: there is nothing to wait for.
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Result<()> {
        match poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Ok(()),
            Poll::Pending => Err(Errno::EDEADLK.into()),
        }
    }

    fn share(&self) -> Rc<dyn Driver> {
        Rc::new(NeverWaits)
    }
}

/// Runs an operation to its end.
///
/// # Errors
/// Those of the operation, and of the driver.
#[inline(always)] // A call would copy the future.
pub fn block_on<T>(driver: &dyn Driver, operation: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_pinned(driver, pin!(operation))
}

/// The same; one function for all operations that end in the same way, of which an image has dozens.
pub(crate) fn block_on_pinned<T>(
    driver: &dyn Driver,
    mut operation: Pin<&mut dyn Future<Output = Result<T>>>,
) -> Result<T> {
    let mut output = Err(Errno::EDEADLK.into());
    let driven = driver.drive(&mut |cx| {
        let poll = operation.as_mut().poll(cx);
        poll.map(|result| output = result)
    });
    if let Err(error) = driven {
        output = Err(error);
    }
    if output.is_err() {
        count_failure();
    }
    output
}

/// Whether the operations of each of two trees wait.
pub(crate) type Waits = (Cell<bool>, Cell<bool>);

/// An operation that says whether it waits.
pub(crate) async fn waiting<T>(waits: &Cell<bool>, operation: impl Future<Output = T>) -> T {
    let mut operation = pin!(operation);
    poll_fn(|cx| {
        let poll = operation.as_mut().poll(cx);
        waits.set(waits.get() || poll.is_pending());
        poll
    })
    .await
}

/// Both results, of operations that are under way at the same time.
pub(crate) async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(result) = a.as_mut().poll(cx)
        {
            first = Some(result);
        }
        if second.is_none()
            && let Poll::Ready(result) = b.as_mut().poll(cx)
        {
            second = Some(result);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Waits for operations of two trees at the same time, which may be one. Each tree has requests in flight while the other is
/// waited for.
pub(crate) struct Both {
    drivers: [Rc<dyn Driver>; 2],
    waits: Rc<Waits>,
}

impl Both {
    /// `waits` is told by the operations, which are [`waiting`].
    pub(crate) fn new(drivers: [Rc<dyn Driver>; 2], waits: Rc<Waits>) -> Self {
        Both { drivers, waits }
    }
}

impl Driver for Both {
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Result<()> {
        let [first, second] = &self.drivers;
        let mut sides = [(first, &self.waits.0), (second, &self.waits.1)];
        loop {
            let [(driver, waits), (_, other)] = sides;
            let mut done = false;
            driver.drive(&mut |cx| {
                waits.set(false);
                other.set(false);
                done = poll(cx).is_ready();
                match waits.get() && !done {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                }
            })?;
            if done {
                return Ok(());
            }
            if !other.get() {
                return Err(Errno::EDEADLK.into());
            }
            sides.reverse();
        }
    }

    fn share(&self) -> Rc<dyn Driver> {
        Rc::new(Both {
            drivers: self.drivers.clone(),
            waits: self.waits.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_wait_for_ever_is_an_error() {
        let ready = async { Ok(7) };
        assert_eq!(block_on(&NeverWaits, ready), Ok(7));
        let never = core::future::pending::<Result<()>>();
        assert_eq!(block_on(&NeverWaits, never), Err(Errno::EDEADLK.into()));
    }
}
