//! How a device, or another domain, is connected and its tree mounted, once for all who mount it; and how it is connected again.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{MountOptions, aio};
use xen9p::p9::session::{self, Recovery, Redial, Session};
use xen9p::time::Instant;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::xenbus::Device;

use super::{Mount, Mounted, forget, xen9p_mount_options};
use crate::error::{Fail, Result};
use crate::platform::{self, Kernel, known_memory};
use crate::state::{Xen, domain, with_state, xen};
use crate::tree;

/// What is read ahead in a file if the options do not say: at most this, and this part of the kernel's memory.
const READ_AHEAD: usize = 4 << 20;
const READ_AHEAD_SHARE: usize = 64;

/// How the addresses of vchans begin.
const VCHAN: &str = "vchan!";

/// How long one step of connecting again may take, and the time from one try to the next.
pub(crate) const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// The device's turn to be connected.
struct Connecting(String);

impl Connecting {
    fn new(device: &str) -> Result<Self> {
        with_state(|state| {
            if state.connecting.iter().any(|other| other == device) {
                return Err(Fail::new(Errno::EBUSY, "it is being mounted already"));
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

/// What is mounted, and how it is connected again.
pub(crate) struct Connected {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) again: Box<dyn FnMut() -> Option<Box<dyn Transport>>>,
    /// The tree that a server of several is asked for.
    pub(crate) tree: String,
    /// Whether the last xen9p_close() disconnects it, whatever the options say.
    pub(crate) disconnect: bool,
}

/// Mounts over `new`, or finds what is mounted already.
pub(super) async fn mount(
    new: Rc<Mount>,
    tag: Option<&str>,
    options: &xen9p_mount_options,
) -> Result<Mounted> {
    #[cfg(feature = "vchan")]
    if tag == Some(crate::memory_tree::NAME) {
        let connected = crate::memory_tree::connect(domain()?);
        return begin(new, crate::memory_tree::NAME.into(), options, connected).await;
    }
    if let Some(address) = tag.filter(|tag| tag.starts_with(VCHAN)) {
        let turn = Connecting::new(address)?;
        return match known(&turn.0)? {
            Some(known) => Ok(known),
            None => begin(new, turn.0.clone(), options, dial(address, options).await?).await,
        };
    }
    let xen = xen()?;
    let device = xen9pfs::device(&xen.domain, tag)?;
    let turn = Connecting::new(device.frontend())?;
    match known(&turn.0)? {
        Some(known) => Ok(known),
        None => {
            let connected = connect(xen, device, options).await?;
            begin(new, turn.0.clone(), options, connected).await
        }
    }
}

#[cfg(feature = "vchan")]
async fn dial(address: &str, options: &xen9p_mount_options) -> Result<Connected> {
    crate::vchan::connect(domain()?, address, timeout(options)).await
}

#[cfg(not(feature = "vchan"))]
async fn dial(_: &str, _: &xen9p_mount_options) -> Result<Connected> {
    Err(Fail::new(
        Errno::EOPNOTSUPP,
        "this library is built without vchans: make capi FEATURES=vchan",
    ))
}

async fn connect(
    xen: Xen,
    device: Device<Kernel>,
    options: &xen9p_mount_options,
) -> Result<Connected> {
    let wish = |number: u32| u16::try_from(number).ok().filter(|&number| number > 0);
    let mut config = Config::for_memory(known_memory());
    config.timeout = timeout(options);
    config.rings = wish(options.rings);
    config.order = wish(options.order).map(|order| order.min(255) as u8);
    let tag: Option<String> = device.tag().map(Into::into);
    let resumes = xen.domain.events.resumes();
    let connected = xen.endpoints.connect_async(device, &config).await;
    if connected.is_err() && xen.domain.events.resumes() != resumes {
        return Err(Fail::new(
            Errno::EIO,
            "the domain was restored elsewhere meanwhile: mount the device again",
        ));
    }
    let transport = connected?;
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
}

/// What is mounted under this name, unless its connection is lost.
fn known(name: &str) -> Result<Option<Mounted>> {
    let known = with_state(|state| state.mounts.iter().find(|it| it.name == name).cloned())?;
    let Some(known) = known else {
        return Ok(None);
    };
    known.mount.look(true);
    if known.mount.is_lost() {
        // What is open on it fails; the device may have a new backend.
        drop(forget(&known.mount)?);
        return Ok(None);
    }
    Ok(Some(known))
}

/// Speaks to the server at the other end.
async fn begin(
    new: Rc<Mount>,
    name: String,
    options: &xen9p_mount_options,
    connected: Connected,
) -> Result<Mounted> {
    let timeout = timeout(options);
    let read_ahead = match options.read_ahead {
        0 => READ_AHEAD.min(known_memory() / READ_AHEAD_SHARE),
        bytes => bytes as usize,
    };
    let mut mount = MountOptions::new()
        .timeout(timeout)
        .tree(connected.tree)
        .read_ahead(read_ahead);
    let mut config = session::Config::default();
    config.timeout = timeout;
    if options.msize != 0 {
        mount = mount.msize(options.msize);
        config.msize = options.msize;
    }
    if connected.disconnect {
        new.disconnect.set(true);
    }
    let session = new.session.get_or_init({
        let session = Session::new(connected.transport, &config)?;
        move || session
    });
    if options.recovery > 0 {
        let timeout = Duration::from_secs(options.recovery.into());
        session.set_recovery(Recovery::new(redial(connected.again), timeout));
    }
    let fs = aio::Fs::mount(session, &mount).await?;
    let mounted = Mounted {
        name,
        fs: tree::of_mount(fs, options.cache),
        mount: new,
    };
    with_state(|state| state.mounts.push(mounted.clone()))?;
    Ok(mounted)
}

/// How long each step of connecting, and each answer, may take.
fn timeout(options: &xen9p_mount_options) -> Duration {
    match options.timeout {
        0 => Duration::from_secs(20),
        seconds => Duration::from_secs(seconds.into()),
    }
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
