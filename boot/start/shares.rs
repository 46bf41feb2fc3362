//! The domain's 9pfs devices, each mounted when it is needed for the first time.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::time::Duration;

use super::cmdline::TraceFile;
use super::{keys, now, options, print, system};
use crate::fs::{self, Fs, MountOptions};
use crate::p9::session::{Recovery, Redial};
use crate::p9::trace::Capture;
use crate::rt::memory_info;
use crate::time::Instant;
use crate::transport::Transport;
use crate::transport::xen9pfs::{self, Config, ConnectError};

/// Why a share can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// There is no such device, or no connection to its backend.
    Connect(ConnectError),
    /// The connection is there, but the 9P server behind it does not do what a mount needs. The
    /// text is the tag.
    Mount(String, fs::Error),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Connect(error) => error.fmt(f),
            ShareError::Mount(tag, error) => write!(f, "cannot mount share '{tag}': {error}"),
        }
    }
}

impl core::error::Error for ShareError {}

/// What is known of a mounted share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareInfo {
    /// Its tag.
    pub tag: String,
    /// Number of rings.
    pub rings: u16,
    /// Size of each ring, as log2 of its pages.
    pub order: u8,
    /// When it was mounted.
    pub mounted_at: Instant,
    /// How long connecting and mounting took.
    pub took: Duration,
}

struct Share {
    fs: Fs,
    info: ShareInfo,
}

/// The shares that are mounted.
#[derive(Default)]
pub(super) struct Shares {
    mounted: RefCell<Vec<Share>>,
}

/// The shares that are mounted, the root first.
pub fn shares() -> Vec<ShareInfo> {
    let mounted = system().shares.mounted.borrow();
    mounted.iter().map(|share| share.info.clone()).collect()
}

/// How long one step of a try to connect again may take: in between the rest of the program is looked after.
const TRY: Duration = Duration::from_secs(2);

/// How long to wait after a try that failed at once.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection, with each message shown or captured if that is wanted.
fn boxed(transport: impl Transport + 'static) -> Box<dyn Transport> {
    let transport: Box<dyn Transport> = Box::new(transport);
    #[cfg(feature = "trace")]
    let transport: Box<dyn Transport> = Box::new(crate::p9::trace::Traced::new(transport));
    match &system().capture {
        Some(capture) => Box::new(capture.watch(transport)),
        None => transport,
    }
}

/// Connects to a share again, with the rings it had.
fn redial(tag: String, config: Config) -> impl Redial {
    let mut told = None;
    move || {
        let xen = &system().xen;
        let begun = now();
        let device = xen9pfs::device(xen, Some(&tag));
        match device.and_then(|device| xen9pfs::connect(xen, device, &config)) {
            Ok(transport) => {
                told = None;
                Ok(Some(boxed(transport)))
            }
            Err(error) => {
                // Each reason once: the next try follows soon.
                if told.replace(error) != Some(error) {
                    log::warn!("share '{tag}': {error}");
                }
                let until = begun + PAUSE;
                while now() < until {
                    xen.events.wait(xen.events.generation(), until);
                }
                Ok(None)
            }
        }
    }
}

impl Shares {
    /// Mounts the share that the options name, or the first.
    pub(super) fn root(&self) -> Result<Fs, ShareError> {
        self.mount(options().share.as_deref())
    }

    /// The share with this tag.
    pub(super) fn get(&self, tag: &str) -> Result<Fs, ShareError> {
        let known = self
            .mounted
            .borrow()
            .iter()
            .find(|share| share.info.tag == tag)
            .map(|share| share.fs.clone());
        known.map_or_else(|| self.mount(Some(tag)), Ok)
    }

    fn mount(&self, tag: Option<&str>) -> Result<Fs, ShareError> {
        let begun = now();
        let xen = &system().xen;
        let options = options();
        let memory = memory_info();
        let mut config = Config::for_memory(memory.total);
        config.rings = options.rings;
        config.order = options.order;
        let mut mount = MountOptions::new();
        if let Some(timeout) = options.timeout {
            config.patience = timeout;
            mount = mount.timeout(timeout);
        }
        if let Some(msize) = options.msize {
            mount = mount.msize(msize);
        }

        let device = xen9pfs::device(xen, tag).map_err(ShareError::Connect)?;
        let tag: String = device.tag().unwrap_or_default().into();
        let transport = xen9pfs::connect(xen, device, &config).map_err(ShareError::Connect)?;
        let (rings, order) = (transport.lanes(), transport.order().get());
        let recovery = options.recovery.map(|patience| {
            let again = Config {
                rings: Some(rings),
                order: Some(order),
                patience: config.patience.min(TRY),
                ..config
            };
            Recovery::new(redial(tag.clone(), again), patience)
        });
        let fs = Fs::mount_over(boxed(transport), &mount, recovery);
        let fs = fs.map_err(|error| ShareError::Mount(tag.clone(), error))?;
        fs.set_idle_hook(Some(Box::new(|| {
            system().stop.look();
            keys::look();
        })));
        let info = ShareInfo {
            tag,
            rings,
            order,
            mounted_at: now(),
            took: now() - begun,
        };
        log::info!(
            "share '{}' mounted in {} us: {}, msize {}",
            info.tag,
            info.took.as_micros(),
            fs.dialect(),
            fs.msize()
        );
        self.mounted.borrow_mut().push(Share {
            fs: fs.clone(),
            info,
        });
        Ok(fs)
    }

    /// Ends all operations that wait, or lets them work again.
    pub(super) fn interrupt(&self, on: bool) {
        for share in self.mounted.borrow().iter() {
            match on {
                true => share.fs.interrupt().set(),
                false => share.fs.interrupt().clear(),
            }
        }
    }

    /// Writes the capture to the file that the options name.
    pub(super) fn write_capture(&self, capture: &Capture, file: &TraceFile) {
        // What writes it is not in it.
        let pieces = capture.end();
        if capture.missed() > 0 {
            log::warn!(
                "{file} begins late: {} messages had to be given up",
                capture.missed()
            );
        }
        let done = self.capture_share(file).and_then(|fs| {
            let write = || {
                let to = fs.create(&file.path)?;
                for piece in &pieces {
                    to.write_all(piece)?;
                }
                to.close()
            };
            write().map_err(|error| format!("{error}"))
        });
        if let Err(error) = done {
            print(format_args!(
                "xen9p: cannot write the trace to {file}: {error}\n"
            ));
        }
    }

    /// The share that the capture goes to, ready for use even though the app was to stop.
    fn capture_share(&self, file: &TraceFile) -> Result<Fs, String> {
        let fs = match &file.share {
            Some(tag) => self.get(tag).map_err(|error| format!("{error}"))?,
            None => {
                let mounted = self.mounted.borrow();
                mounted.first().ok_or("no share is mounted")?.fs.clone()
            }
        };
        fs.interrupt().clear();
        fs.set_idle_hook(None);
        Ok(fs)
    }

    /// Unmounts all shares and disconnects their devices.
    pub(super) fn unmount_all(&self) {
        let shares = core::mem::take(&mut *self.mounted.borrow_mut());
        for Share { fs, info } in shares.into_iter().rev() {
            fs.interrupt().clear();
            fs.set_idle_hook(None);
            if let Err(error) = fs.unmount() {
                log::warn!("unmounting share '{}': {error}", info.tag);
            }
        }
    }
}
