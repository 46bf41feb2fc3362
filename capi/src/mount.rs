//! Mounts: one connection per device, however often it is mounted.

pub(crate) mod connect;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, OnceCell};
use core::ffi::{CStr, c_char};
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::p9::session::Session;
use xen9p::time::Instant;
use xen9p::transport::xen9pfs;
use xen9p::xen::event::{Events, Generation};

use crate::error::{Fail, Result, Tried, copy_text};
use crate::handles::{Kind, Open};
use crate::operations::submit;
use crate::platform::{self, Kernel};
use crate::state::{enter, give, with_state, xen};
use crate::threads;
use crate::tree::{self, Tree};
use crate::version::sized;
use crate::xen9p_handle;

use connect::mount;

/// What a mount may be told. All zero but `size` is a good choice.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_mount_options {
    /// sizeof (struct xen9p_mount_options).
    pub size: usize,
    /// The largest 9P message to ask for, in bytes; 0: what the rings allow.
    pub msize: u32,
    /// How many seconds each step of connecting, and each answer of the server, may take; 0: 20.
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
    /// How many bytes at most are read ahead of a program that reads a file from front to back in pieces of no more than half
    /// as many; each file that is read so holds as many. 0: 4 MiB, or a 64th of the kernel's memory if that is less.
    /// Below 8192: none, and each xen9p_read() gets what the server has at that moment.
    pub read_ahead: u32,
    /// How many bytes at most of what was read are kept for those who ask again: data, listings, attributes, what links say.
    /// What others change is then seen close to open, as over NFS: who opens a file sees what was written and closed by then;
    /// attributes are believed for a second. Changes go to the server at once. Memory that `alloc` refuses to the library is
    /// taken from there. 0: nothing is kept. -EOPNOTSUPP (95) unless the object is made by make capi FEATURES=cache.
    pub cache: u32,
}

/// A connection to a device, or to another domain: one that is being made, or that has a session.
pub(crate) struct Mount {
    /// Once it is connected.
    session: OnceCell<Session>,
    /// Handles of the mount itself.
    users: Cell<u32>,
    disconnect: Cell<bool>,
    /// A thread is inside the session, perhaps asleep.
    is_busy: Cell<bool>,
    /// When there is something to do even if no event comes before, as it was looked last.
    next_look: Cell<Instant>,
    /// The progress of the session that xen9p_wait() has told of.
    told: Cell<u64>,
    /// Which events were taken when it was looked at last, while there is no session.
    seen: Cell<Option<Generation>>,
}

/// What is mounted, or kept for the next mount.
#[derive(Clone)]
pub(crate) struct Mounted {
    /// The device's directory in xenstore, or the address.
    name: String,
    fs: Tree,
    mount: Rc<Mount>,
}

impl Mounted {
    /// The tree.
    #[cfg(feature = "cache")]
    pub(crate) fn tree(&self) -> &Tree {
        &self.fs
    }
}

/// How long a thread sleeps while another one is inside the session, which wakes it when it comes out.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is looked after what is being connected, whatever comes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Mount {
    /// Takes in what has come and sends what waits, and serves other domains. Whether there is nothing more to do before an
    /// event comes. `has_slept`: time has passed, and what is due by the clock is seen to.
    pub(crate) fn look(&self, has_slept: bool) -> bool {
        #[cfg(feature = "vchan")]
        return crate::serve::beside(|| self.look_at_session(has_slept));
        #[cfg(not(feature = "vchan"))]
        self.look_at_session(has_slept)
    }

    /// Whether what is asked for from now on is asked for another domain that is served.
    #[cfg(feature = "vchan")]
    pub(crate) fn ask_for_others(&self, on: bool) {
        if let Some(session) = self.session.get() {
            session.ask_for_others(on);
        }
    }

    /// The same of what is mounted alone.
    pub(crate) fn look_at_session(&self, has_slept: bool) -> bool {
        if self.is_busy.replace(true) {
            return true;
        }
        let idle = threads::noting_ports(|| match self.session.get() {
            Some(session) => session.settle(has_slept),
            None => self.look_at_events(),
        });
        self.is_busy.set(false);
        if let Some(until) = idle {
            self.next_look.set(until);
        }
        idle.is_some()
    }

    /// While there is no session: until when one may sleep, unless there was an event.
    fn look_at_events(&self) -> Option<Instant> {
        let events = events()?;
        let before = events.generation();
        events.wait(before, Instant::from_nanos(0));
        self.seen.set(Some(events.generation()));
        let until = (platform::now() + CHECK_INTERVAL).min(events.due());
        (events.generation() == before).then_some(until)
    }

    /// Sleeps until an event, something that is due, or `deadline`; `false` when that has passed.
    pub(crate) fn sleep(&self, deadline: Instant) -> bool {
        // The clock is not looked at for nothing: that may take longer than all else here.
        if deadline != Instant::NEVER && platform::now() >= deadline {
            return false;
        }
        let events = events();
        let taken = events.as_ref().map(Events::generation);
        if !self.is_busy.get() && self.session.get().is_none() && taken != self.seen.get() {
            // Another thread took an event, while this one asked xenstore.
            return true;
        }
        let most = match self.is_busy.get() {
            true => platform::now() + BUSY_INTERVAL,
            false => self.next_look.get(),
        };
        #[cfg(feature = "vchan")]
        let most = most.min(crate::serve::next_check());
        threads::sleep(most.min(deadline));
        if let (Some(_), Some(events)) = (self.session.get(), events) {
            // Before the rings are looked at.
            events.dispatch();
        }
        true
    }

    /// When the session wants to be looked at even if no event comes before.
    #[cfg(feature = "vchan")]
    pub(crate) fn next_wakeup(&self) -> Instant {
        let session = self.session.get();
        session.map_or(Instant::NEVER, Session::next_wakeup)
    }

    fn progress(&self) -> u64 {
        self.session.get().map_or(0, Session::progress)
    }

    /// Whether an operation may have got further since xen9p_wait() told of it.
    pub(crate) fn has_news(&self) -> bool {
        self.progress() != self.told.get()
    }

    pub(crate) fn take_news(&self) {
        self.told.set(self.progress());
    }

    fn is_lost(&self) -> bool {
        self.session.get().is_some_and(|it| it.error().is_some())
    }

    /// One handle of the mount itself is closed.
    pub(crate) fn give_up(self: Rc<Self>) -> Result<()> {
        self.users.set(self.users.get() - 1);
        if self.users.get() == 0 && (self.disconnect.get() || self.is_lost()) {
            drop(forget(&self)?);
        }
        Ok(())
    }
}

/// Takes a mount off the list. To be dropped with nothing borrowed: that may wait.
fn forget(mount: &Rc<Mount>) -> Result<Option<Mounted>> {
    with_state(|state| {
        let index = (state.mounts.iter()).position(|it| Rc::ptr_eq(&it.mount, mount));
        index.map(|index| state.mounts.swap_remove(index))
    })
}

/// The domain's events, if a device was looked for already.
fn events() -> Option<Events<Kernel>> {
    with_state(|state| state.domain.as_ref().map(|it| it.events.clone())).ok()?
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
/// Waits for the backend, no longer than `timeout` at each of some five steps, and for xenstore, no longer than 5 s for each
/// answer. Where it is started, xen9p_poll() waits for xenstore alone. One that is given up takes back what it has
/// offered to the backend, and waits some seconds at most for that; QEMU before version 10 may end when the device is
/// mounted again then, as after `disconnect`.
///
/// -ENODEV: there is no such device. -ETIMEDOUT: its backend does not answer. -EBUSY: it is being mounted already. -ENXIO: the
/// backend refuses, or the device was removed meanwhile. -EPROTO (71), -EPROTONOSUPPORT (93): what the backend offers makes no
/// sense, or is another protocol. -ENOMEM: there are too few pages or grants for the smallest rings. -EIO: xenstore does not
/// answer, or the domain was restored meanwhile. Of vchans: -EINVAL: a malformed address, or one of this domain's own.
/// -ETIMEDOUT: it is not published for this domain in time. -EOPNOTSUPP (95): an object without vchans, or a kernel without
/// windows.
///
/// # Safety
/// Pointers are NULL or valid; `tag` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_mount(
    tag: *const c_char,
    options: *const xen9p_mount_options,
    fs: *mut xen9p_handle,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("mount", tag) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let options = unsafe { sized(options, "the options") }?;
        tree::check_cache(options.cache)?;
        let tag = match tag.is_null() {
            true => None,
            // SAFETY: as above; it lives until the call is over.
            false => Some(unsafe { CStr::from_ptr::<'static>(tag) }.to_str()),
        };
        let tag = tag.transpose();
        let tag = tag.map_err(|_| Fail::new(Errno::EINVAL, "the tag is not UTF-8"))?;
        if fs.is_null() {
            return Err(Fail::null("fs"));
        }
        let new = Rc::new(Mount {
            session: OnceCell::new(),
            users: Cell::new(0),
            disconnect: Cell::new(options.disconnect != 0),
            is_busy: Cell::new(false),
            next_look: Cell::new(Instant::from_nanos(0)),
            told: Cell::new(0),
            seen: Cell::new(None),
        });
        let of = new.clone();
        let future = async move {
            let found = mount(of, tag, &options).await?;
            let mount = found.mount;
            mount.users.set(mount.users.get() + 1);
            let open = Open {
                mount: mount.clone(),
                kind: Kind::Mount(found.fs),
            };
            // SAFETY: as above.
            unsafe { give(fs, "fs", open) }.or_else(|error| {
                mount.give_up()?;
                Err(error)
            })?;
            Ok(0)
        };
        // SAFETY: as above.
        unsafe { submit(new, op, tried, Box::pin(future)) }
    }) as i32
}

/// The tag of the 9pfs device number `index` of those that the domain has, from 0 on. Copied with a final NUL as far as it
/// fits; returns its length. -ENODEV behind the last. A device without a tag has an empty one.
///
/// # Safety
/// `into` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_tag(index: u32, into: *mut c_char, size: usize) -> i64 {
    enter(Tried::new("tag"), || {
        let devices = xen9pfs::devices(&xen()?.domain)?;
        let device = devices.get(index as usize);
        let device =
            device.ok_or_else(|| Fail::new(Errno::ENODEV, "there are no more 9pfs devices"))?;
        // SAFETY: the caller's promise.
        Ok(unsafe { copy_text(device.tag().unwrap_or(""), into.cast(), size) } as i64)
    })
}
