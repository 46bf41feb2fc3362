//! What is set up once, and mounting.

use alloc::format;
use alloc::string::String;
use core::cell::RefCell;
use core::ffi::{CStr, c_char, c_void};
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Fs, MountOptions, aio};
use xen9p::platform::conformance;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;

use crate::error::{Fail, Result, number, status};
use crate::handles::{Handles, Open, wrong};
use crate::platform::{Kernel, install, table, xen9p_platform};
use crate::reserve::ready;
use crate::version::{read_platform, sized};
use crate::xen9p_handle;

/// What the library keeps.
pub(crate) struct State {
    /// Connected at the first mount.
    xen: Option<Xen<Kernel>>,
    handles: Handles,
    text: String,
}

struct OneThread(RefCell<State>);

// SAFETY: the interface asks for one thread.
unsafe impl Sync for OneThread {}

static STATE: OneThread = OneThread(RefCell::new(State {
    xen: None,
    handles: Handles::new(),
    text: String::new(),
}));

/// Works on the text of the last error; not while it is worked on already.
pub(crate) fn with_text<T>(work: impl FnOnce(&mut String) -> T) -> Option<T> {
    let mut state = STATE.0.try_borrow_mut().ok()?;
    Some(work(&mut state.text))
}

/// Works on what is open. Only for a moment: nothing in it waits.
pub(crate) fn handles<T>(work: impl FnOnce(&mut Handles) -> Result<T>) -> Result<T> {
    match STATE.0.try_borrow_mut() {
        Ok(mut state) => work(&mut state.handles),
        Err(_) => Err(busy()),
    }
}

fn busy() -> Fail {
    Fail::new(
        Errno::EBUSY,
        "the library was called from one of its callbacks",
    )
}

/// What keeps one call from running inside another.
pub(crate) struct Entered(());

static ENTERED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

impl Entered {
    pub(crate) fn new() -> Result<Entered> {
        match ENTERED.swap(true, core::sync::atomic::Ordering::Relaxed) {
            false => Ok(Entered(())),
            true => Err(busy()),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.store(false, core::sync::atomic::Ordering::Relaxed);
    }
}

/// Runs one call.
pub(crate) fn enter(call: impl FnOnce() -> Result<i64>) -> i64 {
    match table().is_some() && !ready() {
        true => -i64::from(Errno::ENOMEM.number()),
        false => enter_anyway(call),
    }
}

/// Runs one call, even if memory is short: it gives some back.
pub(crate) fn enter_anyway(call: impl FnOnce() -> Result<i64>) -> i64 {
    if table().is_none() {
        // Not even an error's text can be allocated.
        return -i64::from(Errno::ENXIO.number());
    }
    number(Entered::new().and_then(|entered| {
        let result = call();
        drop(entered);
        result
    }))
}

/// As [`enter`], for calls that only succeed or fail.
pub(crate) fn enter_status(call: impl FnOnce() -> Result<()>) -> i32 {
    enter(|| call().map(|()| 0)) as i32
}

/// Says what the kernel provides: the first call, and made once. Connects to nothing yet.
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
    if table().is_some() {
        return status(Err(Fail::new(
            Errno::EEXIST,
            "xen9p_init was called already",
        )));
    }
    match install(&platform) {
        true => 0,
        false => -(Errno::EINVAL.number() as i32),
    }
}

/// Checks that the callbacks keep their promises, as far as that shows from inside the domain; before the first
/// xen9p_mount(). `tell` gets each violation as a text with a final NUL, and may be NULL. Returns how many there are.
///
/// # Safety
/// `tell` may be called with `context` until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_check_platform(
    tell: Option<unsafe extern "C" fn(*mut c_void, violation: *const c_char)>,
    context: *mut c_void,
) -> i32 {
    enter(|| {
        let failures = conformance::check(&Kernel, |rule, outcome| {
            if let (Err(violation), Some(tell)) = (outcome, tell) {
                let text = format!("{rule}: {violation}\0");
                // SAFETY: the caller's function; the text ends with a NUL.
                unsafe { tell(context, text.as_ptr().cast()) };
            }
        });
        Ok(failures as i64)
    }) as i32
}

/// What a mount may be told. All zero but `size` is a good choice.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_mount_options {
    /// sizeof (struct xen9p_mount_options).
    pub size: usize,
    /// The largest 9P message to ask for, in bytes; 0: what the rings allow.
    pub msize: u32,
    /// How many seconds each step of connecting, and each answer, may take; 0: 20.
    pub timeout: u32,
    /// How much memory the domain has, in bytes, by which the rings are sized; 0: 16 MiB.
    pub memory: usize,
}

/// Connects to the 9pfs device with this tag (NULL: the first) and mounts its tree. Blocks, no longer than `timeout` at
/// each step. `options` may be NULL.
///
/// -ENODEV: there is no such device. -ETIMEDOUT: its backend does not answer.
///
/// # Safety
/// Pointers are NULL or valid; `tag` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_mount(
    tag: *const c_char,
    options: *const xen9p_mount_options,
    fs: *mut xen9p_handle,
) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let options = unsafe { sized(options, "the options") }?;
        let tag = match tag.is_null() {
            true => None,
            // SAFETY: as above.
            false => Some(unsafe { CStr::from_ptr(tag) }.to_str()),
        };
        let tag = tag.transpose();
        let tag = tag.map_err(|_| Fail::new(Errno::EINVAL, "the tag is not UTF-8"))?;
        let mounted = mount(tag, &options)?;
        // SAFETY: as above.
        unsafe { give(fs, "fs", Open::Mount(mounted)) }
    })
}

/// Hands out a handle.
///
/// # Safety
/// `into` is NULL or valid for a write.
pub(crate) unsafe fn give(into: *mut xen9p_handle, name: &str, open: Open) -> Result<()> {
    if into.is_null() {
        return Err(Fail::null(name));
    }
    let handle = handles(|handles| handles.add(open))?;
    // SAFETY: the caller's promise.
    unsafe { into.write(handle) };
    Ok(())
}

fn xen() -> Result<Xen<Kernel>> {
    let known = STATE.0.try_borrow().map_err(|_| busy())?.xen.clone();
    if let Some(xen) = known {
        return Ok(xen);
    }
    let xen = Xen::new(Events::new(Kernel))?;
    STATE.0.try_borrow_mut().map_err(|_| busy())?.xen = Some(xen.clone());
    Ok(xen)
}

fn mount(tag: Option<&str>, options: &xen9p_mount_options) -> Result<aio::Fs> {
    let xen = xen()?;
    let mut config = Config::for_memory(match options.memory {
        0 => 16 << 20,
        bytes => bytes,
    });
    let mut mount = MountOptions::new();
    if options.msize != 0 {
        mount = mount.msize(options.msize);
    }
    if options.timeout != 0 {
        let timeout = Duration::from_secs(options.timeout.into());
        config.timeout = timeout;
        mount = mount.timeout(timeout);
    }
    let device = xen9pfs::device(&xen, tag)?;
    let transport = xen9pfs::connect(&xen, device, &config)?;
    Ok(Fs::mount(transport, &mount)?.to_async())
}

/// The mount that a handle means.
pub(crate) fn mounted(fs: xen9p_handle) -> Result<aio::Fs> {
    match handles(|handles| handles.get(fs))? {
        Open::Mount(fs) => Ok(fs),
        _ => Err(wrong("a mount")),
    }
}
