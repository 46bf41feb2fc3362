//! The domain's 9pfs devices, each mounted when it is needed for the first time.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::fmt;
use core::time::Duration;

#[cfg(feature = "vchan")]
use super::ways::{split_tree, ways};
use super::{exports, keys, now, options, system, wait_until};
#[cfg(feature = "cache")]
use crate::fs::CachedFs;
use crate::fs::{self, Fs, MountOptions};
use crate::ns::Tree;
#[cfg(feature = "vchan")]
use crate::p9::session::Session;
use crate::p9::session::{Recovery, Redial};
use crate::rt::{BarePlatform, memory_info};
use crate::time::Instant;
use crate::transport::Transport;
#[cfg(feature = "vchan")]
use crate::transport::vchan::VchanError;
use crate::transport::xen9pfs::{self, Config, ConnectError, EndpointEvent, Endpoints};
#[cfg(feature = "argo")]
use crate::{transport::argo::DialError, xen::argo::Argo};

/// What the address of a tree in another domain begins with.
pub(super) const VCHAN: &str = "vchan!";
pub(super) const ARGO: &str = "argo!";

/// Whether it is the address of a tree in another domain.
pub(super) fn is_of_domain(address: &str) -> bool {
    address.starts_with(VCHAN) || address.starts_with(ARGO)
}

/// Why a share can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// There is no such device, or no connection to its backend.
    Connect(ConnectError),
    /// There is no connection to the domain of the address, which is the text.
    #[cfg(feature = "vchan")]
    Vchan(String, VchanError),
    /// The same by Argo.
    #[cfg(feature = "argo")]
    Argo(String, DialError),
    /// The first text is the address of a tree in another domain, and the image is built without the feature that the second
    /// names.
    LeftOut(String, &'static str),
    /// The backend did not connect, and the tag, which is the text, is one that QEMU does not take.
    Tag(String, Box<ConnectError>),
    /// Another device has the same tag, which is the first text, and is used by it; the second is its number.
    Twin(String, String),
    /// The connection is there, but the 9P server behind it does not do what a mount needs. The
    /// text is the tag.
    Mount(String, fs::Error),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Connect(error) => error.fmt(f),
            #[cfg(feature = "vchan")]
            ShareError::Vchan(address, error) => write!(f, "{address}: {error}"),
            #[cfg(feature = "argo")]
            ShareError::Argo(address, error) => write!(f, "{address}: {error}"),
            ShareError::LeftOut(address, feature) => {
                write!(
                    f,
                    "{address}: this image is built without the feature '{feature}'"
                )
            }
            ShareError::Tag(tag, error) => write!(
                f,
                "{error}; QEMU takes no tag like '{tag}': name the share by a letter and then letters, digits, '-', '.' \
                 or '_' in the xl config"
            ),
            ShareError::Twin(tag, taken) => write!(
                f,
                "the tag '{tag}' means the 9pfs device with number {taken}; give this one a tag of its own in the xl config"
            ),
            ShareError::Mount(tag, error) => write!(f, "cannot mount share '{tag}': {error}"),
        }
    }
}

impl core::error::Error for ShareError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ShareError::Connect(error) => Some(error),
            #[cfg(feature = "vchan")]
            ShareError::Vchan(_, error) => Some(error),
            #[cfg(feature = "argo")]
            ShareError::Argo(_, error) => Some(error),
            ShareError::Mount(_, error) => Some(error),
            _ => None,
        }
    }
}

/// What is known of a mounted share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareInfo {
    /// Its tag, or its address.
    pub tag: String,
    /// Number of rings.
    pub rings: u16,
    /// Size of each ring, as log2 of its pages; 0 for a vchan, and for Argo.
    pub order: u8,
    /// When it was mounted.
    pub mounted_at: Instant,
    /// How long connecting and mounting took.
    pub took: Duration,
}

/// A mounted share.
#[derive(Clone)]
pub(super) struct Mounted {
    pub(super) fs: Fs,
    #[cfg(feature = "cache")]
    cached: Option<CachedFs>,
}

impl Mounted {
    #[cfg(not(feature = "cache"))]
    fn new(fs: Fs) -> Self {
        Mounted { fs }
    }

    #[cfg(feature = "cache")]
    fn new(fs: Fs) -> Self {
        let cached = options().cache.map(|bytes| match bytes {
            0 => fs.cached(memory_info().total / CACHE_SHARE),
            bytes => fs.cached(bytes),
        });
        Mounted { fs, cached }
    }

    /// The same for name spaces: with a cache, if the options want that. Made where it is wanted: an app of one share
    /// has no code for trees of any kind then, 100 KB of it.
    pub(super) fn tree(&self) -> Rc<dyn Tree> {
        #[cfg(feature = "cache")]
        if let Some(cached) = &self.cached {
            return Rc::new(cached.clone());
        }
        Rc::new(self.fs.clone())
    }
}

/// What the cache of a share may take, as a share of the domain's memory.
#[cfg(feature = "cache")]
const CACHE_SHARE: usize = 8;

struct Share {
    mounted: Mounted,
    info: ShareInfo,
}

/// The shares that are mounted.
#[derive(Default)]
pub(super) struct Shares {
    mounted: RefCell<Vec<Share>>,
    endpoints: OnceCell<Endpoints<BarePlatform>>,
    #[cfg(feature = "argo")]
    pub(super) argo: OnceCell<Argo<BarePlatform>>,
}

/// Whether QEMU takes this tag: it makes an identifier of it, by which it knows the export.
fn is_identifier(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(named)
}

/// The shares that are mounted, the root first.
pub fn shares() -> Vec<ShareInfo> {
    let all = system().shares.all().into_iter();
    all.map(|(_, info)| info).collect()
}

/// Waits for what becomes of the domain's 9pfs devices next: they appear, are connected, disconnected, disappear.
/// `None` when `deadline` has passed, the domain is asked to stop, or Ctrl-C was typed and should be
/// [caught](super::catch_ctrl_c).
///
/// # Errors
/// [`ShareError::Connect`]: xenstore does not answer.
pub fn next_device_event(deadline: Instant) -> Result<Option<EndpointEvent>, ShareError> {
    let endpoints = system().shares.endpoints();
    loop {
        let mut next = Ok(None);
        // A backend that is killed makes no event.
        let until = deadline.min(now() + Duration::from_secs(1));
        let stopped = wait_until(until, || {
            next = endpoints.next();
            keys::look();
            keys::caught() || !matches!(next, Ok(None))
        });
        let next = next.map_err(ShareError::Connect)?;
        if next.is_some() || stopped != Ok(false) || now() >= deadline {
            return Ok(next);
        }
    }
}

/// How long one step of a try to connect again may take: in between the rest of the program is looked after.
///
/// Not less: QEMU 7.2 does not survive that a frontend gives up while it connects, and on a busy machine it takes its time.
pub(super) const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long another connection to a tree of several addresses is looked for, unless the options say so.
const WAYS_TIMEOUT: Duration = Duration::from_secs(60);

/// Requests in flight to the server of a share that may be served to others, half of them theirs.
const SERVING_WINDOW: u16 = 256;

/// The shortest and the longest time from one try to the next: twice as long each time, whether no backend connects or one
/// does and then makes no sense.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// The connection, with each message shown or captured if that is wanted.
pub(super) fn boxed(transport: impl Transport + 'static) -> Box<dyn Transport> {
    let transport: Box<dyn Transport> = Box::new(transport);
    #[cfg(feature = "trace")]
    let transport = super::capture::watched(transport);
    transport
}

/// Connects to a share, by the means by which it was connected before.
pub(super) type Connect = dyn FnMut() -> Result<Box<dyn Transport>, ShareError>;

/// How a share goes on after the loss of its connection.
fn recovery(tag: &str, connects: Vec<Box<Connect>>, timeout: Duration) -> Recovery {
    let several = connects.len() > 1;
    let redials = connects.into_iter();
    let mut redials = redials.map(|connect| redial(tag.into(), connect));
    match redials.next() {
        Some(only) if !several => Recovery::new(only, timeout),
        first => {
            let all = first.into_iter().chain(redials);
            let all = all.map(|redial| Box::new(redial) as Box<dyn Redial>);
            Recovery::among(all.collect(), timeout)
        }
    }
}

/// Connects to a share again and again.
fn redial(tag: String, mut connect: Box<Connect>) -> impl Redial {
    let (shortest, longest) = PAUSES;
    let mut told = None;
    // When the last try began, and how long after it the next may.
    let mut last: Option<(Instant, Duration)> = None;
    move || {
        let xen = &system().xen;
        let pause = match last {
            // What is long ago belongs to another search.
            Some((begun, pause)) if now() < begun + longest * 2 => {
                while now() < begun + pause {
                    xen.events.wait(xen.events.generation(), begun + pause);
                }
                longest.min(pause * 2)
            }
            _ => shortest,
        };
        last = Some((now(), pause));
        match connect() {
            Ok(transport) => {
                told = None;
                Ok(Some(transport))
            }
            Err(error) => {
                // Each reason once: the next try follows soon.
                if told.as_ref() != Some(&error) {
                    log::warn!("share '{tag}': {error}");
                }
                told = Some(error);
                Ok(None)
            }
        }
    }
}

impl Shares {
    /// Mounts the share that the options name, or the first.
    pub(super) fn root(&self) -> Result<Mounted, ShareError> {
        self.mount(options().share.as_deref())
    }

    /// Those that are mounted, whatever became of their connections, the root first.
    pub(super) fn all(&self) -> Vec<(Fs, ShareInfo)> {
        let mounted = self.mounted.borrow();
        let all = mounted.iter();
        all.map(|share| (share.mounted.fs.clone(), share.info.clone()))
            .collect()
    }

    /// The share with this tag. One whose connection is over is mounted anew: its device may have come back.
    pub(super) fn get(&self, tag: &str) -> Result<Mounted, ShareError> {
        let known = self
            .mounted
            .borrow()
            .iter()
            .find(|share| share.info.tag == tag)
            .map(|share| share.mounted.clone());
        if let Some(known) = known {
            // Nothing is borrowed in here, nor below: both may take a while, and look after the domain meanwhile.
            let session = known.fs.to_async().session().clone();
            session.pump();
            if session.error().is_none() {
                return Ok(known);
            }
            let mut mounted = self.mounted.borrow_mut();
            let index = mounted.iter().position(|share| share.info.tag == tag);
            let over = index.map(|index| mounted.remove(index));
            drop(mounted);
            drop((over, known, session));
        }
        self.mount(Some(tag))
    }

    /// Who follows the devices; from the first use of one on.
    fn endpoints(&self) -> &Endpoints<BarePlatform> {
        self.endpoints.get_or_init(|| Endpoints::new(&system().xen))
    }

    fn mount(&self, tag: Option<&str>) -> Result<Mounted, ShareError> {
        match tag {
            #[cfg(feature = "vchan")]
            Some(address) if is_of_domain(address) => super::ways::mount(self, address),
            #[cfg(not(feature = "vchan"))]
            Some(address) if is_of_domain(address) => {
                let feature = if address.starts_with(ARGO) {
                    "argo"
                } else {
                    "vchan"
                };
                Err(ShareError::LeftOut(address.into(), feature))
            }
            tag => self.mount_device(tag),
        }
    }

    fn mount_device(&self, tag: Option<&str>) -> Result<Mounted, ShareError> {
        let begun = now();
        let xen = &system().xen;
        let options = options();
        let mut config = Config::for_memory(memory_info().total);
        config.rings = options.rings;
        config.order = options.order;
        if let Some(timeout) = options.timeout {
            config.timeout = timeout;
        }
        let device = xen9pfs::device(xen, tag).map_err(ShareError::Connect)?;
        let tag: String = device.tag().unwrap_or_default().into();
        let endpoints = self.endpoints();
        let transport = endpoints
            .connect(device, &config)
            .map_err(|error| match error {
                ConnectError::Waited { .. } | ConnectError::Refused(_) if !is_identifier(&tag) => {
                    ShareError::Tag(tag.clone(), Box::new(error))
                }
                error => ShareError::Connect(error),
            })?;
        let (rings, order) = (transport.lanes(), transport.order().get());
        let again = Config {
            rings: Some(rings),
            order: Some(order),
            timeout: config.timeout.min(RECONNECT_TIMEOUT),
            ..config
        };
        let name = tag.clone();
        let connect = move || {
            let device = xen9pfs::device(&system().xen, Some(&name));
            let endpoints = system().shares.endpoints();
            let transport = device.and_then(|device| endpoints.connect(device, &again));
            transport.map(boxed).map_err(ShareError::Connect)
        };
        let info = ShareInfo {
            tag,
            rings,
            order,
            mounted_at: begun,
            took: Duration::ZERO,
        };
        self.add(boxed(transport), vec![Box::new(connect)], info)
    }

    /// Mounts what was connected, since `info.mounted_at`, and keeps it. `connects` are the ways to connect again, the one by
    /// which it is connected first.
    pub(super) fn add(
        &self,
        transport: Box<dyn Transport>,
        connects: Vec<Box<Connect>>,
        mut info: ShareInfo,
    ) -> Result<Mounted, ShareError> {
        let options = options();
        let mut mount = MountOptions::new();
        #[cfg(feature = "vchan")]
        if is_of_domain(&info.tag) {
            let way = ways(&info.tag).next().unwrap_or_default();
            mount = mount.tree(split_tree(way).1);
        }
        if let Some(timeout) = options.timeout {
            mount = mount.timeout(timeout);
        }
        if let Some(msize) = options.msize {
            mount = mount.msize(msize);
        }
        if !options.exports.is_empty() {
            // What is served may lead here, and be asked for by several domains.
            mount = mount.window(SERVING_WINDOW);
        }
        let recovery = options
            .recovery
            // Who names several addresses wants to go on.
            .or((connects.len() > 1).then_some(WAYS_TIMEOUT))
            .filter(|_| cfg!(feature = "recovery"))
            .map(|timeout| recovery(&info.tag, connects, timeout));
        let fs = Fs::mount_over(transport, &mount, recovery);
        let fs = fs.map_err(|error| ShareError::Mount(info.tag.clone(), error))?;
        fs.set_idle_hook(Some(Box::new(|| {
            system().stop.look();
            keys::look();
            exports::poll();
        })));
        info.took = now() - info.mounted_at;
        info.mounted_at = now();
        log::info!(
            "share '{}' mounted in {} us: {}, msize {}",
            info.tag,
            info.took.as_micros() as u64,
            fs.dialect(),
            fs.msize()
        );
        let mounted = Mounted::new(fs);
        self.mounted.borrow_mut().push(Share {
            mounted: mounted.clone(),
            info,
        });
        Ok(mounted)
    }

    /// Those of all shares, for what serves them to others.
    #[cfg(feature = "vchan")]
    pub(super) fn sessions(&self) -> Vec<Session> {
        let mounted = self.mounted.borrow();
        let all = mounted.iter().map(|share| share.mounted.fs.to_async());
        all.map(|fs| fs.session().clone()).collect()
    }

    /// Gives back memory of caches; whether that is any.
    #[cfg(feature = "cache")]
    pub(super) fn give_back(&self) -> bool {
        let mounted = self.mounted.try_borrow();
        let mut caches = mounted.iter().flat_map(|mounted| mounted.iter());
        caches.any(|share| {
            let cached = share.mounted.cached.as_ref();
            cached.is_some_and(|cached| cached.as_async().root().give_back())
        })
    }

    /// Ends all operations that wait, or lets them work again.
    pub(super) fn interrupt(&self, on: bool) {
        for share in self.mounted.borrow().iter() {
            match on {
                true => share.mounted.fs.interrupt().set(),
                false => share.mounted.fs.interrupt().clear(),
            }
        }
    }

    /// Unmounts all shares and disconnects their devices.
    pub(super) fn unmount_all(&self) {
        let shares = core::mem::take(&mut *self.mounted.borrow_mut());
        for Share { mounted, info } in shares.into_iter().rev() {
            // Without the cache, which has the mount, too.
            let fs = mounted.fs.clone();
            drop(mounted);
            fs.interrupt().clear();
            fs.set_idle_hook(None);
            if let Err(error) = fs.unmount() {
                log::warn!("unmounting share '{}': {error}", info.tag);
            }
        }
    }
}
