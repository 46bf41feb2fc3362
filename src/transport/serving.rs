//! All that a domain serves to others: trees come and go while it runs.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::str::FromStr;

#[cfg(feature = "argo")]
use super::argo::{self, DialError};
use super::export::{Export, Listen};
use super::vchan::{self, Orders, VchanError};
use super::xen9pfs::backend::{Backend, Request, Rings};
use crate::errno::Errno;
use crate::hypercall::DomId;
use crate::ns::{Namespace, NodeTree, Tree};
use crate::platform::Platform;
use crate::server::{Exports, Limits, Rights};
use crate::time::Instant;
use crate::tree::{DynNode, Node, Walked, block_on};
use crate::xen::Xen;
#[cfg(feature = "argo")]
use crate::xen::argo::Argo;
use crate::xen::store::StoreError;

/// By what a tree is served, and to which domain. As text it is what follows the source in the option `export=`.
///
/// ```
/// use xen9p::hypercall::DomId;
/// use xen9p::transport::serving::Target;
///
/// let target: Target = "vchan!8!logs".parse().unwrap();
/// assert_eq!(target, Target::Vchan(DomId(8), "logs".into()));
/// assert_eq!(target.to_string(), "vchan!8!logs");
/// assert!("vchan!logs".parse::<Target>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// `9pfs`: each 9pfs device whose backend is this domain and whose path is the source.
    Devices,
    /// `vchan!DOMID!NAME`: one domain, by the vchan of that name.
    Vchan(DomId, String),
    /// `argo!DOMID!PORT`: one domain, by Argo, at that port.
    #[cfg(feature = "argo")]
    Argo(DomId, u32),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Devices => f.write_str("9pfs"),
            Target::Vchan(domain, name) => write!(f, "vchan!{domain}!{name}"),
            #[cfg(feature = "argo")]
            Target::Argo(domain, port) => write!(f, "argo!{domain}!{port}"),
        }
    }
}

impl FromStr for Target {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<Self, ExportError> {
        match text.split_once('!') {
            None if text == "9pfs" => Ok(Target::Devices),
            Some(("vchan", rest)) => {
                let (domain, name) = vchan::parse_address(rest).map_err(ExportError::Vchan)?;
                Ok(Target::Vchan(domain, name.into()))
            }
            #[cfg(feature = "argo")]
            Some(("argo", rest)) => {
                let address = argo::parse_address(rest).map_err(ExportError::Argo)?;
                Ok(Target::Argo(address.domain, address.port))
            }
            #[cfg(not(feature = "argo"))]
            Some(("argo", _)) => Err(ExportError::LeftOut("argo")),
            _ => Err(ExportError::Target(text.into())),
        }
    }
}

/// Why a tree is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportError {
    /// The text says neither by what nor to which domain.
    Target(String),
    /// The program is built without the feature that the text names.
    LeftOut(&'static str),
    /// A target that is malformed, or a vchan that can't be.
    Vchan(VchanError),
    /// The same by Argo.
    #[cfg(feature = "argo")]
    Argo(DialError),
    /// Xenstore does not let this domain look for devices.
    Devices(StoreError),
    /// Something is served there already.
    Taken,
    /// Nothing of this source is served there.
    NotServed,
    /// It was asked for by a file that is served: it can be done once the request of the other domain is answered.
    Busy,
    /// The image has no server: it takes the feature `vchan`, and a main function that takes a name space.
    NoServer,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Target(text) => write!(
                f,
                "'{text}' is no way to serve; there are 9pfs, vchan!DOMID!NAME and argo!DOMID!PORT"
            ),
            ExportError::LeftOut(feature) => {
                write!(f, "this image is built without the feature '{feature}'")
            }
            ExportError::Vchan(error) => error.fmt(f),
            #[cfg(feature = "argo")]
            ExportError::Argo(error) => error.fmt(f),
            ExportError::Devices(error) => error.fmt(f),
            ExportError::Taken => f.write_str("something is served there already"),
            ExportError::NotServed => f.write_str("this is not served"),
            ExportError::Busy => {
                f.write_str("another domain's request is being answered; try again after it")
            }
            ExportError::NoServer => f.write_str("this image serves nothing"),
        }
    }
}

impl core::error::Error for ExportError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ExportError::Vchan(error) => Some(error),
            #[cfg(feature = "argo")]
            ExportError::Argo(error) => Some(error),
            ExportError::Devices(error) => Some(error),
            _ => None,
        }
    }
}

/// What is served, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// What it is known by; the path of its 9pfs devices.
    pub source: String,
    /// By what, and to which domain.
    pub target: Target,
    /// What the other domain may do.
    pub rights: Rights,
    /// The domains that it is for: for devices, as many as have one.
    pub clients: Vec<Client>,
}

/// A domain that something is served to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// The domain.
    pub domain: DomId,
    /// Whether it is connected.
    pub is_connected: bool,
    /// What went wrong last: it could not be let in, or broke a rule. That it left is not an error.
    pub error: Option<String>,
}

/// What the memory of the domain suggests.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Rings of vchans.
    pub orders: Orders,
    /// Rings of 9pfs devices.
    pub rings: Rings,
    /// What a client may have.
    pub limits: Limits,
}

/// An [`Export`] by any kind of listener.
trait Served {
    fn poll(&mut self);
    fn next_check(&self) -> Instant;
    fn client(&self) -> Client;
}

impl<L: Listen> Served for Export<L> {
    fn poll(&mut self) {
        Export::poll(self);
    }

    fn next_check(&self) -> Instant {
        Export::next_check(self)
    }

    fn client(&self) -> Client {
        Client {
            domain: Export::client(self),
            is_connected: self.is_connected(),
            error: self.last_error().map(String::from),
        }
    }
}

struct Entry {
    source: String,
    target: Target,
    rights: Rights,
    /// What serves it; `None`: the backend of all devices.
    served: Option<Box<dyn Served>>,
}

/// A tree for devices of a path.
struct ForPath {
    path: String,
    root: DynNode,
    rights: Rights,
}

/// Gives the domain's use of Argo.
#[cfg(feature = "argo")]
type Own<P> = Box<dyn Fn() -> Result<Argo<P>, DialError>>;

/// Serves trees to other domains, each by its [`Target`], whenever it is [polled](Self::poll).
///
/// Nothing blocks here but xenstore, when something is published or a device comes, goes or changes its state.
pub struct Serving<P: Platform> {
    xen: Xen<P>,
    sizes: Sizes,
    on_event: Option<Rc<dyn Fn()>>,
    #[cfg(feature = "argo")]
    argo: (Own<P>, u32),
    entries: RefCell<Vec<Entry>>,
    /// Serves the devices, from the first tree for them on.
    backend: RefCell<Option<Backend<P>>>,
    for_devices: Rc<RefCell<Vec<ForPath>>>,
}

impl<P: Platform> fmt::Debug for Serving<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl<P: Platform> Serving<P> {
    /// Nothing yet. `on_event` is called at each event of a client, wherever the domain waits; it must not own this.
    pub fn new(xen: &Xen<P>, sizes: Sizes, on_event: Option<Rc<dyn Fn()>>) -> Self {
        Serving {
            #[cfg(feature = "argo")]
            argo: {
                let xen = xen.clone();
                (
                    Box::new(move || Ok(Argo::new(&xen)?)),
                    argo::DEFAULT_MESSAGE,
                )
            },
            xen: xen.clone(),
            sizes,
            on_event,
            entries: RefCell::default(),
            backend: RefCell::default(),
            for_devices: Rc::default(),
        }
    }

    /// Has `own` give the domain's use of Argo, of which there is one, when it is wanted. `on_event` is called only if `own`
    /// sees to that. 9P messages have `max_message` bytes at most.
    #[cfg(feature = "argo")]
    #[must_use]
    pub fn with_argo(
        mut self,
        own: impl Fn() -> Result<Argo<P>, DialError> + 'static,
        max_message: u32,
    ) -> Self {
        self.argo = (Box::new(own), max_message);
        self
    }

    /// Serves a tree from now on. `source` is what it is known by and, for devices, their path, letter by letter.
    ///
    /// The other domain need not be there yet.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn serve(
        &self,
        source: &str,
        tree: &dyn Tree,
        target: &Target,
        rights: Rights,
    ) -> Result<(), ExportError> {
        let is_taken = |entry: &Entry| {
            entry.target == *target && (*target != Target::Devices || entry.source == source)
        };
        let entries = self.entries.try_borrow();
        let entries = entries.map_err(|_| ExportError::Busy)?;
        if entries.iter().any(is_taken) {
            return Err(ExportError::Taken);
        }
        drop(entries);
        let root = tree.root();
        let served: Option<Box<dyn Served>> = match target {
            Target::Devices => {
                self.serve_devices(source, root, rights)?;
                None
            }
            Target::Vchan(client, name) => {
                let listener = vchan::Listener::new(&self.xen, *client, name, self.sizes.orders);
                let mut listener = listener.map_err(ExportError::Vchan)?;
                if let Some(handler) = &self.on_event {
                    listener.on_event(Rc::clone(handler));
                }
                Some(self.by(listener, root, rights, self.sizes.limits.clone()))
            }
            #[cfg(feature = "argo")]
            Target::Argo(client, port) => {
                let (own, max_message) = &self.argo;
                let own = own().map_err(ExportError::Argo)?;
                let mut limits = self.sizes.limits.clone();
                // No message is larger than the ring is made for.
                limits.msize = limits.msize.min(*max_message);
                let listener = argo::Listener::new(&own, *client, *port, limits.msize);
                Some(self.by(listener.map_err(ExportError::Argo)?, root, rights, limits))
            }
        };
        self.entries.borrow_mut().push(Entry {
            source: source.into(),
            target: target.clone(),
            rights,
            served,
        });
        self.poll();
        Ok(())
    }

    fn by<L: Listen + 'static>(
        &self,
        listener: L,
        root: DynNode,
        rights: Rights,
        limits: Limits,
    ) -> Box<dyn Served> {
        let policy = move || Exports::new(root.clone(), rights);
        Box::new(Export::new(listener, policy, limits))
    }

    fn serve_devices(&self, path: &str, root: DynNode, rights: Rights) -> Result<(), ExportError> {
        let mut backend = self.backend.borrow_mut();
        if backend.is_none() {
            let trees = Rc::clone(&self.for_devices);
            let policy = move |request: &Request| {
                let trees = trees.borrow();
                let found = trees.iter().find(|tree| tree.path == request.path);
                let found = found.ok_or_else(|| {
                    format!(
                        "the path {} is not one of those that this domain exports",
                        request.path
                    )
                })?;
                Ok(Exports::new(found.root.clone(), found.rights))
            };
            let Sizes { rings, limits, .. } = self.sizes.clone();
            let fresh = Backend::new(&self.xen, rings, limits, policy, self.on_event.clone());
            *backend = Some(fresh.map_err(ExportError::Devices)?);
        }
        let path = path.into();
        self.for_devices
            .borrow_mut()
            .push(ForPath { path, root, rights });
        Ok(())
    }

    /// Serves something no more: its clients are disconnected.
    ///
    /// # Errors
    /// [`ExportError::NotServed`], [`ExportError::Busy`].
    pub fn end(&self, source: &str, target: &Target) -> Result<(), ExportError> {
        let entries = self.entries.try_borrow_mut();
        let mut entries = entries.map_err(|_| ExportError::Busy)?;
        let is_it = |entry: &Entry| entry.source == source && entry.target == *target;
        let at = entries.iter().position(is_it);
        let ended = entries.remove(at.ok_or(ExportError::NotServed)?);
        drop(entries);
        if *target == Target::Devices {
            let is_other = |tree: &ForPath| tree.path != source;
            self.for_devices.borrow_mut().retain(is_other);
            if let Some(backend) = &mut *self.backend.borrow_mut() {
                backend.disconnect(|request| request.path == source);
            }
        }
        drop(ended);
        self.poll();
        Ok(())
    }

    /// Disconnects all clients, and serves nothing more.
    pub fn close(&self) {
        // What is being looked after further up the stack stays.
        let taken = (self.entries.try_borrow_mut(), self.backend.try_borrow_mut());
        if let (Ok(mut entries), Ok(mut backend)) = taken {
            let ended = (core::mem::take(&mut *entries), backend.take());
            drop((entries, backend));
            drop(ended);
        }
        self.for_devices.borrow_mut().clear();
    }

    /// What is served, in the order in which it came.
    pub fn list(&self) -> Vec<Exported> {
        let (Ok(entries), Ok(backend)) = (self.entries.try_borrow(), self.backend.try_borrow())
        else {
            return Vec::new();
        };
        let of_path = |path: &str| {
            let devices = backend.iter().flat_map(Backend::each);
            let its = devices.filter(|device| device.request.path == path);
            its.map(|device| Client {
                domain: device.request.domain,
                is_connected: device.is_connected,
                error: device.error.map(String::from),
            })
            .collect()
        };
        let tell = |entry: &Entry| Exported {
            source: entry.source.clone(),
            target: entry.target.clone(),
            rights: entry.rights,
            clients: match &entry.served {
                Some(served) => Vec::from([served.client()]),
                None => of_path(&entry.source),
            },
        };
        entries.iter().map(tell).collect()
    }

    /// Does what there is to do. To be called after each event of the domain, and at [`next_check`](Self::next_check). Returns
    /// at once when it is called by what it does itself.
    pub fn poll(&self) {
        let (Ok(mut entries), Ok(mut backend)) =
            (self.entries.try_borrow_mut(), self.backend.try_borrow_mut())
        else {
            return;
        };
        for served in entries.iter_mut().filter_map(|entry| entry.served.as_mut()) {
            served.poll();
        }
        if let Some(backend) = &mut *backend {
            backend.poll();
        }
    }

    /// When to [poll](Self::poll) even if no event comes before.
    pub fn next_check(&self) -> Instant {
        let (Ok(entries), Ok(backend)) = (self.entries.try_borrow(), self.backend.try_borrow())
        else {
            return Instant::NEVER;
        };
        let streams = entries.iter().filter_map(|entry| entry.served.as_ref());
        let checks = streams.map(|served| served.next_check());
        let checks = checks.chain(backend.iter().map(Backend::next_check));
        checks.min().unwrap_or(Instant::NEVER)
    }
}

/// The directory at `path` of a name space, as a tree to serve, with all that is mounted below it, now and later. Links on the
/// way are followed once, now. It is waited for in the call: for domains that serve each other there is [`polled_directory`].
///
/// # Errors
/// There is no such directory.
pub fn directory(ns: &Namespace, path: impl AsRef<[u8]>) -> crate::fs::Result<NodeTree> {
    let path = directory_at(ns, path.as_ref())?;
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
    let driver = Tree::driver(ns);
    match block_on(&*driver, Tree::root(ns).walk_at(&names))? {
        Walked::Through(node, _) => Ok(NodeTree::with_driver(node, driver)),
        Walked::Link(_) => Err(Errno::ELOOP.into()),
        Walked::Blocked(_, error) => Err(error),
    }
}

/// The same for a program that looks after the sessions of its mounts itself, whenever it polls what it serves: nothing waits in the
/// call. Before that it [pumps](crate::p9::session::Session::pump) them, after it it [settles](crate::p9::session::Session::settle) them.
///
/// # Errors
/// As [`directory`].
pub fn polled_directory(ns: &Namespace, path: impl AsRef<[u8]>) -> crate::fs::Result<NodeTree> {
    let node = ns.node_at(directory_at(ns, path.as_ref())?)?;
    Ok(NodeTree::with_driver(DynNode::new(node), Tree::driver(ns)))
}

/// The path of a directory without links.
fn directory_at(ns: &Namespace, path: &[u8]) -> crate::fs::Result<Vec<u8>> {
    let path = ns.canonicalize(path)?;
    let is_dir = ns.metadata(&path)?.is_dir();
    is_dir.then_some(path).ok_or(Errno::ENOTDIR.into())
}
