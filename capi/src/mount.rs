//! Mounts: one connection per device, however often it is mounted.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{MountOptions, aio};
use xen9p::p9::session::{self, Recovery, Redial, Session};
use xen9p::time::Instant;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Config};

use crate::error::{Fail, Result, copy_text};
use crate::handles::{Kind, Open};
use crate::platform::{self, table};
use crate::state::{domain, enter, enter_status, give, with_state, xen};
use crate::threads;
use crate::version::sized;
use crate::xen9p_handle;

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
    /// The number of rings; 0: up to 4, as many as pay in the kernel's memory. 1 connects fastest.
    pub rings: u32,
    /// The size of each ring: 4096 << `order` bytes, `order` from 2 to 9; 0: the largest of which two fit in an eighth of
    /// the kernel's memory.
    pub order: u32,
    /// For how many seconds a lost backend is looked for, so that files stay open and requests go on; 0: a lost connection
    /// ends the mount and all that is open on it. While it is looked for, calls on this mount block.
    pub recovery: u32,
    /// Not 0: the last xen9p_close() disconnects the device. For backends that can be connected again, which QEMU before
    /// version 10 can't: it ends, and with it every share of the domain.
    pub disconnect: u32,
}

/// A device, or another domain, that is connected, and mounted or kept for the next mount.
pub(crate) struct Mount {
    pub(crate) fs: aio::Fs,
    session: Session,
    /// The device's directory in xenstore, or the address.
    device: String,
    /// Handles of the mount itself.
    users: Cell<u32>,
    disconnect: Cell<bool>,
    /// A thread is inside the session, perhaps asleep.
    is_busy: Cell<bool>,
    /// The progress of the session that xen9p_wait() has told of.
    told: Cell<u64>,
}

/// How long a thread sleeps while another one is inside the session, which wakes it when it comes out.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);

/// How often the backend is looked after: one that is killed changes nothing that could be waited for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How the addresses of vchans begin.
const VCHAN: &str = "vchan!";

/// How long one step of connecting again may take, and the time from one try to the next.
pub(crate) const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

impl Mount {
    /// Takes in what has come and sends what waits, and serves other domains. Whether there is nothing more to do before an
    /// event comes.
    pub(crate) fn look(&self) -> bool {
        #[cfg(feature = "vchan")]
        return crate::serve::beside(|| self.look_at_session());
        #[cfg(not(feature = "vchan"))]
        self.look_at_session()
    }

    /// The same of what is mounted alone.
    pub(crate) fn look_at_session(&self) -> bool {
        if self.is_busy.replace(true) {
            return true;
        }
        let idle = threads::without_sleep(|| self.session.wait(Instant::from_nanos(0)));
        self.is_busy.set(false);
        idle
    }

    /// Sleeps until an event, something of the session's that is due, or `deadline`; `false` when that has passed.
    pub(crate) fn sleep(&self, deadline: Instant) -> bool {
        let now = platform::now();
        if now >= deadline {
            return false;
        }
        let most = match self.is_busy.get() {
            true => now + BUSY_INTERVAL,
            false => (now + CHECK_INTERVAL).min(self.session.next_wakeup()),
        };
        #[cfg(feature = "vchan")]
        let most = most.min(crate::serve::next_check());
        threads::sleep(most.min(deadline));
        true
    }

    /// When the session wants to be looked at even if no event comes before.
    #[cfg(feature = "vchan")]
    pub(crate) fn next_wakeup(&self) -> Instant {
        self.session.next_wakeup()
    }

    /// Whether an operation may have got further since xen9p_wait() told of it.
    pub(crate) fn has_news(&self) -> bool {
        self.session.progress() != self.told.get()
    }

    pub(crate) fn take_news(&self) {
        self.told.set(self.session.progress());
    }

    fn is_alive(&self) -> bool {
        self.look();
        self.session.error().is_none()
    }

    /// One handle of the mount itself is closed.
    pub(crate) fn give_up(self: Rc<Self>) -> Result<()> {
        self.users.set(self.users.get() - 1);
        if self.users.get() == 0 && (self.disconnect.get() || self.session.error().is_some()) {
            let of_table = with_state(|state| {
                let index = (state.mounts.iter()).position(|mount| Rc::ptr_eq(mount, &self));
                index.map(|index| state.mounts.swap_remove(index))
            })?;
            // Dropped with nothing borrowed: it may wait.
            drop(of_table);
        }
        Ok(())
    }
}

/// The device's turn to be connected.
struct Connecting(String);

impl Connecting {
    fn new(device: &str) -> Result<Self> {
        with_state(|state| {
            if state.connecting.iter().any(|other| other == device) {
                return Err(Fail::new(
                    Errno::EBUSY,
                    "the device is being mounted by another thread",
                ));
            }
            state.connecting.push(device.into());
            Ok(Connecting(device.into()))
        })?
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let _ = with_state(|state| state.connecting.retain(|other| *other != self.0));
    }
}

/// Mounts the 9pfs device with this tag (NULL: the first). One that is mounted already is mounted once more: the options of
/// the first mount hold, and each handle is closed for itself. A device that was mounted stays connected until
/// xen9p_exit(), ready for the next mount, unless the options say otherwise. `options` may be NULL.
///
/// With the object that has vchans (make capi FEATURES=vchan) the tag may also be "vchan!DOMID!NAME", and "!TREE" behind that
/// for a server of several trees: what the domain of this number serves to this one under this name, from whatever program.
/// It is waited for up to `timeout`, and disconnected by the last xen9p_close(). It needs `alloc_window` and its like. Or
/// "#mem": a new, empty tree in memory, of up to an eighth of it, gone with all that is open on it; to be served to others.
///
/// Blocks, no longer than `timeout` at each step. -ENODEV: there is no such device. -ETIMEDOUT: its backend does not answer.
/// -EBUSY: another thread is mounting it. Of vchans: -EINVAL: a malformed address, or one of this domain's own. -ETIMEDOUT: it is
/// not published for this domain in time. -EPROTO (71): what is published makes no sense. -EOPNOTSUPP (95): an object without
/// vchans, or a kernel without windows.
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
        if fs.is_null() {
            return Err(Fail::null("fs"));
        }
        let mount = mount(tag, &options)?;
        mount.users.set(mount.users.get() + 1);
        let kind = Kind::Mount;
        let open = Open {
            mount: mount.clone(),
            kind,
        };
        // SAFETY: as above.
        unsafe { give(fs, "fs", open) }.or_else(|error| {
            mount.give_up()?;
            Err(error)
        })
    })
}

/// What is mounted, and how it is connected again.
pub(crate) struct Connected {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) again: Box<dyn FnMut() -> Option<Box<dyn Transport>>>,
    /// The tree that a server of several is asked for.
    pub(crate) tree: String,
    /// Whether the last xen9p_close() disconnects it, whatever the options say.
    pub(crate) disconnect: bool,
}

fn mount(tag: Option<&str>, options: &xen9p_mount_options) -> Result<Rc<Mount>> {
    match tag {
        Some(address) if address.starts_with(VCHAN) => mount_address(address, options),
        #[cfg(feature = "vchan")]
        Some(crate::memory_tree::NAME) => {
            let connected = crate::memory_tree::connect(domain()?);
            begin(crate::memory_tree::NAME.into(), options, connected)
        }
        tag => mount_device(tag, options),
    }
}

#[cfg(feature = "vchan")]
fn mount_address(address: &str, options: &xen9p_mount_options) -> Result<Rc<Mount>> {
    mount_once(address, options, || {
        crate::vchan::connect(domain()?, address, timeout(options))
    })
}

#[cfg(not(feature = "vchan"))]
fn mount_address(_: &str, _: &xen9p_mount_options) -> Result<Rc<Mount>> {
    Err(Fail::new(
        Errno::EOPNOTSUPP,
        "this library is built without vchans: make capi FEATURES=vchan",
    ))
}

fn mount_device(tag: Option<&str>, options: &xen9p_mount_options) -> Result<Rc<Mount>> {
    let xen = xen()?;
    let device = xen9pfs::device(&xen.domain, tag)?;
    let name: String = device.frontend().into();
    mount_once(&name, options, || {
        let wish = |number: u32| u16::try_from(number).ok().filter(|&number| number > 0);
        let mut config = Config::for_memory(table().map_or(0, |table| table.known_memory()));
        config.timeout = timeout(options);
        config.rings = wish(options.rings);
        config.order = wish(options.order).map(|order| order.min(255) as u8);
        let tag: Option<String> = device.tag().map(Into::into);
        let transport = xen.endpoints.connect(device, &config)?;
        let mut again = config;
        again.rings = Some(transport.lanes());
        again.order = Some(transport.order().get());
        again.timeout = again.timeout.min(RECONNECT_TIMEOUT);
        Ok(Connected {
            transport: Box::new(transport),
            again: Box::new(move || {
                let device = xen9pfs::device(&xen.domain, tag.as_deref());
                let connected = device.and_then(|device| xen.endpoints.connect(device, &again));
                connected.ok().map(|it| Box::new(it) as Box<dyn Transport>)
            }),
            tree: String::new(),
            disconnect: false,
        })
    })
}

/// How long each step of connecting, and each answer, may take.
fn timeout(options: &xen9p_mount_options) -> Duration {
    match options.timeout {
        0 => Duration::from_secs(20),
        seconds => Duration::from_secs(seconds.into()),
    }
}

/// The mount of this name, or a new one.
fn mount_once(
    name: &str,
    options: &xen9p_mount_options,
    connect: impl FnOnce() -> Result<Connected>,
) -> Result<Rc<Mount>> {
    let turn = Connecting::new(name)?;
    let known = with_state(|state| {
        let known = state.mounts.iter().find(|it| it.device == turn.0);
        known.cloned()
    })?;
    if let Some(known) = known {
        if known.is_alive() {
            return Ok(known);
        }
        // What is open on the old connection fails; the device may have a new backend.
        with_state(|state| state.mounts.retain(|it| !Rc::ptr_eq(it, &known)))?;
        drop(known);
    }
    begin(turn.0.clone(), options, connect()?)
}

/// Speaks to the server at the other end.
fn begin(device: String, options: &xen9p_mount_options, connected: Connected) -> Result<Rc<Mount>> {
    let timeout = timeout(options);
    let mut mount = MountOptions::new().timeout(timeout).tree(connected.tree);
    let mut config = session::Config::default();
    config.timeout = timeout;
    if options.msize != 0 {
        mount = mount.msize(options.msize);
        config.msize = options.msize;
    }
    let session = Session::new(connected.transport, &config)?;
    if options.recovery > 0 {
        let timeout = Duration::from_secs(options.recovery.into());
        session.set_recovery(Recovery::new(redial(connected.again), timeout));
    }
    // The other domain may wait for what this one serves, before it answers.
    #[cfg(feature = "vchan")]
    session.set_idle_hook(Some(Box::new(|| {
        crate::serve::turn();
    })));
    let fs = session.block_on(aio::Fs::mount(&session, &mount))?;
    session.set_idle_hook(None);
    let mount = Rc::new(Mount {
        session,
        fs,
        device,
        users: Cell::new(0),
        disconnect: Cell::new(connected.disconnect || options.disconnect != 0),
        is_busy: Cell::new(false),
        told: Cell::new(0),
    });
    with_state(|state| state.mounts.push(mount.clone()))?;
    Ok(mount)
}

/// Connects again, now and then.
fn redial(mut again: Box<dyn FnMut() -> Option<Box<dyn Transport>>>) -> impl Redial {
    let mut next = Instant::from_nanos(0);
    move || {
        if let Ok(domain) = domain() {
            domain.events.sleep_until(next);
        }
        next = platform::now() + RECONNECT_INTERVAL;
        Ok(again())
    }
}

/// The tag of the 9pfs device number `index` of those that the domain has, from 0 on. Copied with a final NUL as far as it
/// fits; returns its length. -ENODEV behind the last. A device without a tag has an empty one.
///
/// # Safety
/// `into` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_tag(index: u32, into: *mut c_char, size: usize) -> i64 {
    enter(|| {
        let devices = xen9pfs::devices(&xen()?.domain)?;
        let device = devices.get(index as usize);
        let device =
            device.ok_or_else(|| Fail::new(Errno::ENODEV, "there are no more 9pfs devices"))?;
        // SAFETY: the caller's promise.
        Ok(unsafe { copy_text(device.tag().unwrap_or(""), into.cast(), size) } as i64)
    })
}
