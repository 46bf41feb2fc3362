//! What is set up once, and given back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ffi::{c_char, c_int, c_void};
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::hypercall::XenError;
use xen9p::platform::conformance;
use xen9p::transport::xen9pfs::Endpoints;
use xen9p::xen;
use xen9p::xen::event::Events;
use xen9p::xen::suspend::{SuspendError, SuspendReturn, Suspended};

use crate::error::{Fail, Result, Tried};
use crate::handles::{Handles, Open};
use crate::mount::Mounted;
use crate::platform::{
    Kernel, install, is_installed, move_ring, table, uninstall, xen9p_platform, xen9p_ring,
};
use crate::threads::{self, Entered, busy};
use crate::version::read_platform;
use crate::{reserve, xen9p_handle};

/// How long other domains have for unmapping pages at the end.
const UNMAP_TIMEOUT: Duration = Duration::from_secs(2);

/// The domain's devices, once the first is looked for.
#[derive(Clone)]
pub(crate) struct Xen {
    pub(crate) domain: xen::Xen<Kernel>,
    pub(crate) endpoints: Endpoints<Kernel>,
}

/// What the library keeps.
pub(crate) struct State {
    pub(crate) domain: Option<xen::Xen<Kernel>>,
    endpoints: Option<Endpoints<Kernel>>,
    /// Devices that are connected.
    pub(crate) mounts: Vec<Mounted>,
    /// Devices that are being connected, by their directories.
    pub(crate) connecting: Vec<String>,
    /// What is served to other domains.
    #[cfg(feature = "vchan")]
    pub(crate) served: Vec<alloc::rc::Rc<crate::serve::Endpoint>>,
    handles: Handles,
}

struct Locked(RefCell<State>);

// SAFETY: the kernel's lock, or the order that the interface asks for where there is none, keeps threads apart.
unsafe impl Sync for Locked {}

static STATE: Locked = Locked(RefCell::new(State {
    domain: None,
    endpoints: None,
    mounts: Vec::new(),
    connecting: Vec::new(),
    #[cfg(feature = "vchan")]
    served: Vec::new(),
    handles: Handles::new(),
}));

/// Works on the state. Only for a moment: nothing in it waits.
pub(crate) fn with_state<T>(work: impl FnOnce(&mut State) -> T) -> Result<T> {
    match STATE.0.try_borrow_mut() {
        Ok(mut state) => Ok(work(&mut state)),
        Err(_) => Err(Fail::quiet(Errno::EBUSY)),
    }
}

/// Works on what is open. Only for a moment, as well.
pub(crate) fn handles<T>(work: impl FnOnce(&mut Handles) -> Result<T>) -> Result<T> {
    with_state(|state| work(&mut state.handles))?
}

/// Hands out a handle.
///
/// # Safety
/// `into` is NULL or valid for a write.
pub(crate) unsafe fn give(into: *mut xen9p_handle, name: &str, open: Open) -> Result<()> {
    if into.is_null() {
        return Err(Fail::null(name));
    }
    let mut open = Some(open);
    let handle = handles(|handles| handles.add(&mut open))?;
    // SAFETY: the caller's promise.
    unsafe { into.write(handle) };
    Ok(())
}

/// Runs one call; its error is told with what was tried.
pub(crate) fn enter(tried: Tried, call: impl FnOnce() -> Result<i64>) -> i64 {
    enter_anyway(tried, || match reserve::ready() {
        true => call(),
        // No text of its own, which would take memory.
        false => Err(Fail::quiet(Errno::ENOMEM)),
    })
}

/// Runs one call, even if memory is short: it gives some back.
pub(crate) fn enter_anyway(tried: Tried, call: impl FnOnce() -> Result<i64>) -> i64 {
    // There is no lock yet that would keep threads apart: no text is touched.
    if !is_installed() {
        return -i64::from(Errno::ENXIO.number());
    }
    let Some(entered) = Entered::new() else {
        return -i64::from(Errno::EBUSY.number());
    };
    let result = call().unwrap_or_else(|fail| fail.tell(tried));
    // The lock is given back behind the text of an error.
    drop(entered);
    result
}

/// As [`enter`], for calls that only succeed or fail.
pub(crate) fn enter_status(tried: Tried, call: impl FnOnce() -> Result<()>) -> i32 {
    enter(tried, || call().map(|()| 0)) as i32
}

/// The domain's drivers; connects to xenstore at the first time.
pub(crate) fn domain() -> Result<xen::Xen<Kernel>> {
    if let Some(domain) = with_state(|state| state.domain.clone())? {
        return Ok(domain);
    }
    let domain = xen::Xen::new(Events::new(Kernel))?;
    // Before the first watch: it fires at once, and the kernel tells of it.
    with_state(|state| state.domain = Some(domain.clone()))?;
    Ok(domain)
}

/// The domain's devices.
pub(crate) fn xen() -> Result<Xen> {
    let domain = domain()?;
    let endpoints = with_state(|state| state.endpoints.clone())?;
    let endpoints = match endpoints {
        Some(endpoints) => endpoints,
        None => {
            let endpoints = Endpoints::new(&domain);
            with_state(|state| state.endpoints = Some(endpoints.clone()))?;
            endpoints
        }
    };
    Ok(Xen { domain, endpoints })
}

/// Says what the kernel provides: the first call, and made once until xen9p_exit(). Connects to nothing yet. No other call
/// may be made at the same time.
///
/// -EINVAL: a callback is missing, or `size` is that of no version. -EPROTONOSUPPORT (93): the kernel was compiled with
/// the header of another version, which does not fit this library. -EEXIST: this was done already.
///
/// # Safety
/// `platform` is NULL or points to a platform whose callbacks do what is said there, for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_init(platform: *const xen9p_platform) -> i32 {
    // Nothing may be allocated before there is an allocator: errors have no text here.
    // SAFETY: the caller's promise.
    let platform = match unsafe { read_platform(platform) } {
        Ok(platform) => platform,
        Err(error) => return -(error.number() as i32),
    };
    if is_installed() {
        return -(Errno::EEXIST.number() as i32);
    }
    match install(&platform) {
        true => 0,
        false => -(Errno::EINVAL.number() as i32),
    }
}

/// Closes everything, disconnects all devices, and gives all memory, ports, grants and watches back. Blocks, no longer than
/// some seconds for each device, and two for other domains that have pages of this one mapped. xen9p_init() may follow. Pages
/// that they do not let go of even then are never given back.
///
/// -EBUSY: a thread is in a call; nothing is closed.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_exit() -> i32 {
    let result = enter_anyway(Tried::new("exit"), || {
        if threads::sleepers() > 0 {
            return Err(busy());
        }
        #[cfg(feature = "vchan")]
        let served = with_state(|state| core::mem::take(&mut state.served))?;
        let open = handles(|handles| Ok(handles.take_all()))?;
        // Each with nothing borrowed: some of it waits.
        #[cfg(feature = "vchan")]
        drop(served);
        drop(open);
        let mounts = with_state(|state| core::mem::take(&mut state.mounts))?;
        drop(mounts);
        let endpoints = with_state(|state| state.endpoints.take())?;
        drop(endpoints);
        if let Some(domain) = with_state(|state| state.domain.take())? {
            domain.wait_until_unmapped(UNMAP_TIMEOUT);
            // Xenstore answers in order: nothing of ours is under way when it has answered this.
            let _ = domain.store.read("domid");
        }
        with_state(|state| state.connecting = Vec::new())?;
        threads::forget();
        Ok(0)
    });
    if result == 0 {
        reserve::give_back();
        uninstall();
    }
    result as i32
}

/// Checks that the callbacks keep their promises, as far as that shows from inside the domain; before the first
/// xen9p_mount(). `tell` gets each breach as a text with a final NUL, and may be NULL. Returns how many there are.
///
/// # Safety
/// `tell` may be called with `context` until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_check_platform(
    tell: Option<unsafe extern "C" fn(*mut c_void, breach: *const c_char)>,
    context: *mut c_void,
) -> i32 {
    enter(Tried::new("check_platform"), || {
        let failures = conformance::check(&Kernel, |rule, outcome| {
            if let (Err(breach), Some(tell)) = (outcome, tell) {
                let text = format!("{rule}: {breach}\0");
                // SAFETY: the caller's function; the text ends with a NUL.
                unsafe { tell(context, text.as_ptr().cast()) };
            }
        });
        Ok(failures as i64)
    }) as i32
}

/// Suspends the domain by calling `suspend`, with the lock held, and goes on when it returns. `suspend` makes the hypercall
/// (SCHEDOP_shutdown with SHUTDOWN_suspend), puts the kernel back to work, and returns 0 in a domain that was resumed
/// elsewhere, 1 if it was cancelled, or a negative number if it was not made. Where the library owns xenstore's ring,
/// `xenstore` is where it was, to be set to where it is now.
///
/// After 0 ports, grants and frames of the table are asked for anew, and none of before is used again; watches too. Mounts
/// are lost, unless they were made with `recovery`: what is open fails with -EIO, and can be closed and mounted again. So does
/// a mount that is under way.
///
/// Returns what `suspend` did. -EBUSY: a thread is in a call, or xenstore has not answered something; not suspended. Operations
/// that are started do not matter. Waits for xenstore before and after, no longer than some seconds.
///
/// # Safety
/// `suspend` may be called with `context` and a valid ring until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_suspend(
    suspend: Option<unsafe extern "C" fn(*mut c_void, xenstore: *mut xen9p_ring) -> c_int>,
    context: *mut c_void,
) -> i32 {
    enter(Tried::new("suspend"), || {
        let suspend = suspend.ok_or_else(|| Fail::null("suspend"))?;
        if threads::sleepers() > 0 {
            return Err(busy());
        }
        let mut ring = table(|table| table.xenstore).unwrap_or(NO_RING);
        let mut machine = || {
            // SAFETY: the caller's function; the ring is valid.
            let how = unsafe { suspend(context, &mut ring) };
            if how == 0 {
                move_ring(ring);
            }
            how
        };
        let Some(domain) = with_state(|state| state.domain.clone())? else {
            // Nothing is connected.
            return Ok(machine().into());
        };
        let mut how = 0;
        let suspended = domain.suspend(|| {
            how = machine();
            let suspended = match how {
                0 => Suspended::Resumed,
                1.. => Suspended::Cancelled,
                _ => return Err(XenError::EINVAL),
            };
            // SAFETY: the caller's function made the call, once, and says how it came back.
            Ok(unsafe { SuspendReturn::assume(suspended) })
        });
        match suspended {
            Ok(_) | Err(SuspendError::Machine(_)) => Ok(how.into()),
            Err(error @ SuspendError::Busy(_)) => Err(Fail::new(Errno::EBUSY, error)),
            Err(error) => Err(Fail::new(Errno::EIO, error)),
        }
    }) as i32
}

const NO_RING: xen9p_ring = xen9p_ring {
    page: core::ptr::null_mut(),
    port: 0,
};
