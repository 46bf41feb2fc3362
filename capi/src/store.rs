//! Xenstore by the kernel's own connection.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_int};

use xen9p::errno::Errno;
use xen9p::xen::store::wire::PAYLOAD_MAX;
use xen9p::xen::store::{Refusal, StoreError};

use crate::error::{Fail, Tried};
use crate::platform::{callback, is_installed, table};
use crate::state::with_state;
use crate::threads::{self, Entered};

/// Behind the last error number of Linux's.
const LAST_ERRNO: u32 = 134;

/// The error that a kernel's number means, as xenstore names it.
fn refusal(number: i64) -> StoreError {
    let errno = u32::try_from(number.unsigned_abs()).unwrap_or(0);
    match Errno::from_wire(errno) {
        Errno::ETIMEDOUT => StoreError::Timeout,
        errno => StoreError::Refused(Refusal::from_name(errno.name().unwrap_or("").as_bytes())),
    }
}

pub(crate) fn request(kind: u32, transaction: u32, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut answer = vec![0; PAYLOAD_MAX];
    let length = unlocked(|| {
        callback!(
            store_request,
            -1,
            kind,
            transaction,
            payload.as_ptr().cast(),
            payload.len(),
            answer.as_mut_ptr().cast()
        )
    });
    match usize::try_from(length) {
        Ok(length) if length <= PAYLOAD_MAX => {
            answer.truncate(length);
            Ok(answer)
        }
        Ok(_) => Err(StoreError::BadAnswer("an answer of at most 4096 bytes")),
        Err(_) => Err(refusal(length)),
    }
}

/// Runs a callback without the lock.
fn unlocked<T>(callback: impl FnOnce() -> T) -> T {
    threads::blocking(|| {
        callback!(unlock, ());
        let result = callback();
        callback!(lock, ());
        result
    })
}

pub(crate) fn watch(path: &str, token: u32) -> Result<(), StoreError> {
    let (path, token) = (format!("{path}\0"), format!("{token}\0"));
    let (path, token) = (path.as_ptr().cast(), token.as_ptr().cast());
    match unlocked(|| callback!(store_watch, -1, path, token)) {
        0.. => Ok(()),
        error => Err(refusal(error.into())),
    }
}

pub(crate) fn unwatch(path: &str, token: u32) {
    let (path, token) = (format!("{path}\0"), format!("{token}\0"));
    let (path, token) = (path.as_ptr().cast(), token.as_ptr().cast());
    unlocked(|| callback!(store_unwatch, (), path, token));
}

/// Tells that a watch of `store_watch` fired, with the path that xenstore says has changed. From any thread, and from
/// within the callbacks `wait` and `store_request`; not from an interrupt handler. A watch that is gone by now is no error.
///
/// 0, or a negative error number. -EINVAL: the token is none of the library's; where all watches come from one queue, that is
/// no fault. -ENXIO: before xen9p_init() or after xen9p_exit(). -EBUSY, without `lock`: another thread is in a call and in no
/// callback that blocks; the watch is not noted, and is told again later.
///
/// # Safety
/// Both are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_watch_fired(path: *const c_char, token: *const c_char) -> c_int {
    if !is_installed() {
        return -(Errno::ENXIO.number() as c_int);
    }
    let note = || {
        if path.is_null() || token.is_null() {
            return Err(Fail::null("path or token"));
        }
        // SAFETY: the caller's promise.
        let (path, token) = unsafe { (CStr::from_ptr(path), CStr::from_ptr(token)) };
        let number = token.to_str().ok().and_then(|text| text.parse().ok());
        let number =
            number.ok_or_else(|| Fail::new(Errno::EINVAL, "this is no token of the library's"))?;
        let domain = with_state(|state| state.domain.clone())?;
        if let Some(domain) = domain {
            domain.store.watch_fired(path.to_bytes(), number);
        }
        threads::note_event();
        Ok(())
    };
    // From a callback, within a call: that is the one that has entered.
    let entered = match !has_lock_of_its_own() && threads::may_tell() {
        true => None,
        false => match Entered::new() {
            None => return -(Errno::EBUSY.number() as c_int),
            entered => entered,
        },
    };
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("watch_fired", path) };
    let noted = note().map_or_else(|fail| fail.tell(tried), |()| 0);
    drop(entered);
    noted as c_int
}

fn has_lock_of_its_own() -> bool {
    table(|table| table.lock.is_some()).unwrap_or(false)
}

/// The negative error number for what xenstore calls an error in the answer XS_ERROR, such as "ENOENT": for
/// `store_request`. May be called at any time.
///
/// # Safety
/// `name` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_store_error(name: *const c_char) -> c_int {
    if name.is_null() {
        return -(Errno::EFAULT.number() as c_int);
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let known = (1..LAST_ERRNO).map(Errno::from_wire);
    let mut known = known.filter(|errno| errno.name().is_some_and(|text| text.as_bytes() == name));
    -(known.next().unwrap_or(Errno::EIO).number() as c_int)
}
