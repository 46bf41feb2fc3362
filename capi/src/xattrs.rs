//! Extended attributes.

use alloc::boxed::Box;
use core::ffi::{c_char, c_void};

use xen9p::errno::Errno;
use xen9p::p9::wire::XattrFlags;
use xen9p::tree::Node;

use crate::error::{Fail, Result, Tried};
use crate::names::target;
use crate::operations::submit;
use crate::paths::{buffer, buffer_mut, bytes, place};
use crate::state::enter;
use crate::xen9p_handle;

/// The longest value or list of extended attributes that Linux has, in bytes.
const MAX_XATTR: usize = 64 << 10;

/// What of a value is handed out: all of it, or where there is no room but for its length, that.
fn hand_out(value: &[u8], into: &mut [u8]) -> Result<i64> {
    if into.is_empty() {
        return Ok(value.len() as i64);
    }
    let place = into
        .get_mut(..value.len())
        .ok_or_else(|| Fail::new(Errno::ERANGE, "the buffer is too small"))?;
    place.copy_from_slice(value);
    Ok(value.len() as i64)
}

/// The value of an extended attribute; with NULL as `name` the names of all, each with a final NUL. Returns how many bytes;
/// nothing is copied where `size` is 0. -ERANGE (34): there are more than `size`.
///
/// # Safety
/// Pointers are NULL or valid, `into` for `size` bytes, until the call is over; strings end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_getxattr(
    at: xen9p_handle,
    path: *const c_char,
    name: *const c_char,
    into: *mut c_void,
    size: usize,
    op: *mut xen9p_handle,
) -> i64 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("getxattr", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        let name = match name.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { bytes(name, "the name") }?),
        };
        // SAFETY: the caller's promise.
        let into = unsafe { buffer_mut(into, size) }?;
        let future = async move {
            let node = target(place).await?;
            let found = match name {
                Some(name) => node.xattr(name, MAX_XATTR).await?,
                None => node.list_xattrs(MAX_XATTR).await?,
            };
            hand_out(&found, into)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    })
}

/// Sets an extended attribute; NULL as the value removes it. An empty value can't be set: -EINVAL.
///
/// # Safety
/// Pointers are NULL or valid, `value` for `size` bytes, until the call is over; strings end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_setxattr(
    at: xen9p_handle,
    path: *const c_char,
    name: *const c_char,
    value: *const c_void,
    size: usize,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("setxattr", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        // SAFETY: the caller's promise.
        let name = unsafe { bytes(name, "the name") }?;
        if !value.is_null() && size == 0 {
            return Err(Fail::new(
                Errno::EINVAL,
                "an extended attribute has a value",
            ));
        }
        let value = match value.is_null() && size == 0 {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { buffer(value, size) }?),
        };
        let future = async move {
            let node = target(place).await?;
            match value {
                Some(value) => node.set_xattr(name, value, XattrFlags::empty()).await?,
                None => node.remove_xattr(name).await?,
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}
