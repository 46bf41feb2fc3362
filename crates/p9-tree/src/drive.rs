//! From futures to calls that wait.

use alloc::rc::Rc;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use p9_wire::Errno;

use crate::Result;

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
pub fn block_on<T>(driver: &dyn Driver, operation: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_pinned(driver, pin!(operation))
}

/// The same; one function for all operations that end in the same way, of which an image has dozens.
pub(crate) fn block_on_pinned<T>(
    driver: &dyn Driver,
    mut operation: Pin<&mut dyn Future<Output = Result<T>>>,
) -> Result<T> {
    let mut output = None;
    driver.drive(&mut |cx| {
        operation
            .as_mut()
            .poll(cx)
            .map(|result| output = Some(result))
    })?;
    output.unwrap_or(Err(Errno::EDEADLK.into()))
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
