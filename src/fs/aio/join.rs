//! Several operations at once.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

/// Runs all futures at the same time; gives their results in the same order.
pub(super) async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Result<F::Output, Pin<Box<F>>>> =
        futures.map(|future| Err(Box::pin(future))).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for place in &mut running {
            if let Err(future) = place {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *place = Ok(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    // All are results by now.
    running.into_iter().filter_map(Result::ok).collect()
}
