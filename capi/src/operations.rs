//! Calls that take time: run to their end at once, or started and asked about later.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use xen9p::errno::Errno;
use xen9p::time::Instant;

use crate::error::{Fail, Result, Tried};
use crate::handles::{Kind, Open, wrong};
use crate::mount::Mount;
use crate::state::{enter_anyway, enter_status, give, handles};
use crate::{reserve, xen9p_handle};

/// What xen9p_poll() returns, negated, while an operation is not over.
pub const XEN9P_EINPROGRESS: i64 = 115;

/// A deadline that never comes, for xen9p_wait().
pub const XEN9P_FOREVER: u64 = u64::MAX;

pub(crate) type Call = Pin<Box<dyn Future<Output = Result<i64>>>>;

/// A call that was started.
pub(crate) struct Operation {
    tried: Tried,
    future: Call,
    result: Option<Result<i64>>,
}

impl Operation {
    /// Whether it is over.
    fn is_over(&mut self) -> bool {
        if self.result.is_none()
            && let Poll::Ready(result) = self
                .future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        {
            self.result = Some(result);
        }
        self.result.is_some()
    }
}

/// Polls until it is ready or the clock shows `deadline`, and sleeps in between, when others may use the library.
fn drive(mount: &Mount, deadline: Instant, is_ready: &mut dyn FnMut() -> bool) -> bool {
    let mut may_sleep = false;
    loop {
        if is_ready() {
            return true;
        }
        let has_slept = may_sleep;
        if has_slept && !mount.sleep(deadline) {
            return false;
        }
        may_sleep = mount.look(has_slept);
    }
}

/// Runs a call to its end where `op` is NULL, and otherwise starts it and hands out its handle; its error is told with what was
/// tried then. One function for all kinds of futures: there are dozens.
///
/// # Safety
/// `op` is NULL or valid; what the future and `tried` have of the caller's is valid until it is over or given up.
pub(crate) unsafe fn submit(
    mount: Rc<Mount>,
    op: *mut xen9p_handle,
    tried: Tried,
    mut future: Call,
) -> Result<i64> {
    if op.is_null() {
        return run(&mount, future.as_mut());
    }
    let mut operation = Operation {
        tried,
        future,
        result: None,
    };
    if !operation.is_over() {
        // So that the request travels before anybody asks.
        mount.look(false);
    }
    let kind = Kind::Operation(Rc::new(RefCell::new(operation)));
    // SAFETY: the caller's promise.
    unsafe { give(op, "op", Open { mount, kind }) }?;
    Ok(0)
}

/// Runs a call to its end.
pub(crate) fn run(
    mount: &Mount,
    mut future: Pin<&mut (dyn Future<Output = Result<i64>> + 'static)>,
) -> Result<i64> {
    let mut outcome = Ok(0);
    drive(mount, Instant::NEVER, &mut || {
        let poll = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let is_ready = poll.is_ready();
        if let Poll::Ready(result) = poll {
            outcome = result;
        }
        is_ready
    });
    outcome
}

/// The operation is asked about by another thread at the moment.
fn used_elsewhere() -> Fail {
    Fail::new(Errno::EBUSY, "another thread waits for the operation")
}

/// Asks about an operation, without blocking but for xenstore, if something is mounted or served: its result, which closes the
/// handle, or -XEN9P_EINPROGRESS: it is not over, or there is no memory to find out. Moves everything else on its mount
/// on, too. Of the handle of an endpoint: 1 while another domain is connected, otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_poll(op: xen9p_handle) -> i64 {
    enter_anyway(Tried::new("poll"), || {
        if !reserve::ready() {
            // Whatever else is said closes the handle, and what the caller has lent comes back.
            return Ok(-XEN9P_EINPROGRESS);
        }
        let open = handles(|handles| handles.get(op))?;
        #[cfg(feature = "vchan")]
        if let Kind::Endpoint(endpoint) = &open.kind {
            open.mount.look(true);
            return endpoint.state();
        }
        let Kind::Operation(operation) = open.kind else {
            return Err(wrong("an operation"));
        };
        let mut operation = operation.try_borrow_mut().map_err(|_| used_elsewhere())?;
        if !operation.is_over() {
            // By the clock as well: a kernel may only ever poll.
            open.mount.look(true);
        }
        if !operation.is_over() {
            return Ok(-XEN9P_EINPROGRESS);
        }
        handles(|handles| handles.take(op))?;
        let result = operation.result.take().unwrap_or(Ok(0));
        // Its error is not that of the question.
        Ok(result.unwrap_or_else(|fail| fail.tell(operation.tried)))
    })
}

/// Blocks until the clock of `now` shows `deadline`, or until the operation is over; of the handle of a mount: until an
/// operation on it may have got further since this was called last; of an endpoint: until something happened. Returns early
/// now and then. A loop that polls all its operations, and calls this when none is over, misses nothing.
///
/// 0, whichever of these it was: xen9p_poll() tells, and it alone tells and ends the operation. -EBADF: the handle is that of
/// a node, file or directory, or closed. -EBUSY: another thread polls or waits for this operation. -ENOMEM: it did not wait.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_wait(handle: xen9p_handle, deadline: u64) -> i32 {
    enter_status(Tried::new("wait"), || {
        let open = handles(|handles| handles.get(handle))?;
        let deadline = Instant::from_nanos(deadline);
        match open.kind {
            Kind::Mount(_) => {
                if open.mount.look(true) && !open.mount.has_news() {
                    open.mount.sleep(deadline);
                    open.mount.look(true);
                }
                open.mount.take_news();
                Ok(())
            }
            #[cfg(feature = "vchan")]
            Kind::Endpoint(_) => {
                if open.mount.look(true) {
                    open.mount.sleep(deadline);
                    open.mount.look(true);
                }
                Ok(())
            }
            Kind::Operation(operation) => {
                let mut operation = operation.try_borrow_mut().map_err(|_| used_elsewhere())?;
                drive(&open.mount, deadline, &mut || operation.is_over());
                Ok(())
            }
            _ => Err(wrong("a mount or an operation")),
        }
    })
}
