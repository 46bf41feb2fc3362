//! Operations that are under way at the same time, and whose results come in the order in which they began.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

/// How many operations on files of one directory are under way at the same time, a few requests each: enough to have the next
/// ones queued on every ring, and no more than the window takes.
pub(crate) const AT_ONCE: usize = 16;

/// An operation that ends with a `T`.
pub(crate) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

enum Doing<'a, T> {
    Running(Task<'a, T>),
    Done(Box<T>),
}

impl<T> Doing<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Doing::Running(task) = self
            && let Poll::Ready(done) = task.as_mut().poll(cx)
        {
            *self = Doing::Done(Box::new(done));
        }
    }
}

/// Operations that are under way.
pub(crate) struct InOrder<'a, T>(VecDeque<Doing<'a, T>>);

impl<T> Default for InOrder<'_, T> {
    fn default() -> Self {
        InOrder(VecDeque::new())
    }
}

impl<'a, T> InOrder<'a, T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins one more; that sends its first requests.
    pub(crate) async fn begin(&mut self, task: Task<'a, T>) {
        let mut doing = Doing::Running(task);
        poll_fn(|cx| {
            doing.poll(cx);
            Poll::Ready(())
        })
        .await;
        self.0.push_back(doing);
    }

    /// Whether all are done, with results like that.
    pub(crate) fn all_done(&self, is: impl Fn(&T) -> bool) -> bool {
        self.0.iter().all(|doing| match doing {
            Doing::Running(_) => false,
            Doing::Done(done) => is(done),
        })
    }

    /// Waits until all are done, whose results then are there at once.
    pub(crate) async fn settle(&mut self) {
        poll_fn(|cx| {
            let mut all = Poll::Ready(());
            for doing in &mut self.0 {
                doing.poll(cx);
                if let Doing::Running(_) = doing {
                    all = Poll::Pending;
                }
            }
            all
        })
        .await
    }

    /// The result of the first, when it is done; `None` when none is under way. The others get further only if it is not: no
    /// result has to be kept, which takes memory, where they come in order.
    pub(crate) async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| {
            if let Some(Doing::Running(task)) = self.0.front_mut() {
                if let Poll::Ready(done) = task.as_mut().poll(cx) {
                    self.0.pop_front();
                    return Poll::Ready(Some(done));
                }
                for doing in self.0.iter_mut().skip(1) {
                    doing.poll(cx);
                }
            }
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(Doing::Done(done)) => Poll::Ready(Some(*done)),
                Some(running) => {
                    self.0.push_front(running);
                    Poll::Pending
                }
            }
        })
        .await
    }
}
