//! Operations that are started, and asked about later.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::ffi::c_void;
use core::task::{Context, Poll, Waker};

use xen9p::errno::Errno;
use xen9p::time::Instant;

use crate::error::{Fail, Result};
use crate::files::{buffer, buffer_mut, file};
use crate::handles::{Open, Operation, wrong};
use crate::state::{enter, enter_status, give, handles, mounted};
use crate::xen9p_handle;

/// What xen9p_poll() returns, negated, while an operation is not over.
pub const XEN9P_EINPROGRESS: i64 = 115;

/// Starts an operation.
///
/// # Safety
/// `op` is NULL or valid; the future's buffers are valid until the operation is over or given up.
unsafe fn start(
    file: &Rc<xen9p::fs::aio::File>,
    future: impl Future<Output = Result<i64>> + 'static,
    op: *mut xen9p_handle,
) -> Result<()> {
    let session = file.get_ref().session().clone();
    let mut future: core::pin::Pin<Box<dyn Future<Output = Result<i64>>>> = Box::pin(future);
    // So that the request travels before anybody asks.
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
        future = Box::pin(core::future::ready(result));
    }
    session.pump();
    let operation = Operation { session, future };
    // SAFETY: the caller's promise.
    unsafe { give(op, "op", Open::Operation(Rc::new(RefCell::new(operation)))) }
}

/// As xen9p_read(), without blocking: xen9p_poll() tells the result. The buffer is the library's until then.
///
/// # Safety
/// Pointers are NULL or valid; `into` until the operation is over or closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_read_start(
    handle: xen9p_handle,
    into: *mut c_void,
    size: usize,
    offset: u64,
    op: *mut xen9p_handle,
) -> i32 {
    enter_status(|| {
        let file = file(handle)?;
        if op.is_null() {
            return Err(Fail::null("op"));
        }
        // SAFETY: the caller's promise.
        let into: &'static mut [u8] = unsafe { buffer_mut(into, size) }?;
        let reader = file.clone();
        let future = async move { Ok(reader.read_at(into, offset).await? as i64) };
        // SAFETY: as above.
        unsafe { start(&file, future, op) }
    })
}

/// As xen9p_write(), without blocking.
///
/// # Safety
/// As xen9p_read_start().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_write_start(
    handle: xen9p_handle,
    from: *const c_void,
    size: usize,
    offset: u64,
    op: *mut xen9p_handle,
) -> i32 {
    enter_status(|| {
        let file = file(handle)?;
        if op.is_null() {
            return Err(Fail::null("op"));
        }
        // SAFETY: the caller's promise.
        let from: &'static [u8] = unsafe { buffer(from, size) }?;
        let writer = file.clone();
        let future = async move { Ok(writer.write_at(from, offset).await? as i64) };
        // SAFETY: as above.
        unsafe { start(&file, future, op) }
    })
}

/// Moves everything on that can be, without blocking, and asks about an operation: its result, which closes the handle,
/// or -XEN9P_EINPROGRESS. Call it when an event came, or whenever there is time; xen9p_close() gives the operation up.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_poll(op: xen9p_handle) -> i64 {
    enter(|| {
        let Open::Operation(operation) = handles(|handles| handles.get(op))? else {
            return Err(wrong("an operation"));
        };
        let mut operation = operation.borrow_mut();
        operation.session.pump();
        let mut context = Context::from_waker(Waker::noop());
        match operation.future.as_mut().poll(&mut context) {
            Poll::Ready(result) => {
                handles(|handles| handles.take(op))?;
                result
            }
            Poll::Pending => {
                operation.session.pump();
                Err(Fail::new(Errno::EINPROGRESS, "the operation is not over"))
            }
        }
    })
}

/// Blocks until something may have happened on a mount's connection, or the clock shows `deadline`: what to do between
/// calls of xen9p_poll() when there is nothing else.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_wait(fs: xen9p_handle, deadline: u64) -> i32 {
    enter_status(|| {
        let fs = mounted(fs)?;
        fs.session().wait(Instant::from_nanos(deadline));
        Ok(())
    })
}
