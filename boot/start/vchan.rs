//! Trees that other domains serve, and those that are served to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use super::cmdline::{ExportOption, ExportTarget};
use super::exports::{Serve, poll};
use super::shares::{
    Mounted, RECONNECT_TIMEOUT, ShareError, ShareInfo, Shares, VCHAN, boxed, split_tree,
};
use super::{ExitCode, StartError, memory_info, now, options, system, tree};
use crate::ns::{MemTree, Tree};
use crate::platform::PAGE_SIZE;
use crate::rt::BarePlatform;
use crate::server::{Exports as Trees, Limits, Rights};
use crate::time::Instant;
use crate::transport::Transport;
use crate::transport::vchan::{self, Export, Listener, Order, Orders, parse_address};
use crate::transport::xen9pfs::backend::{Backend, Request, Rings};
use crate::tree::{DynNode, Node, Walked, block_on};

/// What one message of a vchan may take, as a share of the domain's memory.
const MESSAGE_SHARE: usize = 64;

/// What rings of an export may take, as a share of the domain's memory.
const RING_SHARE: usize = 32;

/// What a message on a ring of a 9pfs device may take: each of a frontend's rings may have two.
const DEVICE_SHARE: usize = 128;

/// How often at most all exports are looked at in a row.
const ROUNDS: usize = 8;

/// Connects to what another domain serves.
fn dial(address: &str, timeout: Duration, msize: u32) -> Result<Box<dyn Transport>, ShareError> {
    let fails = |error| ShareError::Vchan(address.into(), error);
    let (address, _) = split_tree(address);
    let target = address.strip_prefix(VCHAN).unwrap_or(address);
    let (server, name) = vchan::parse_address(target).map_err(fails)?;
    let stream = vchan::connect(&system().xen, server, name, timeout).map_err(fails)?;
    Ok(boxed(vchan::framed(stream, msize)))
}

/// What one message may take: so much, or less where the domain has little memory.
pub(super) fn message_size(most: u32) -> u32 {
    let share = memory_info().total / MESSAGE_SHARE;
    most.min(share as u32).max(8192)
}

/// Mounts what another domain serves.
pub(super) fn mount(shares: &Shares, address: &str) -> Result<Mounted, ShareError> {
    mount_by(
        dial,
        vchan::CONNECT_TIMEOUT,
        vchan::DEFAULT_MESSAGE,
        shares,
        address,
    )
}

/// A way of connecting. It takes the address, how long to wait, and the size of the largest message.
pub(super) type Dial = fn(&str, Duration, u32) -> Result<Box<dyn Transport>, ShareError>;

/// The same by any way of connecting.
pub(super) fn mount_by(
    dial: Dial,
    timeout: Duration,
    max_message: u32,
    shares: &Shares,
    address: &str,
) -> Result<Mounted, ShareError> {
    let begun = now();
    let timeout = options().timeout.unwrap_or(timeout);
    let msize = message_size(max_message);
    let transport = dial(address, timeout, msize)?;
    let again = String::from(address);
    let connect = move || dial(&again, timeout.min(RECONNECT_TIMEOUT), msize);
    let info = ShareInfo {
        tag: address.into(),
        rings: 1,
        order: 0,
        mounted_at: begun,
        took: Duration::ZERO,
    };
    shares.add(transport, Box::new(connect), info)
}

/// The exports of the command line.
#[derive(Default)]
pub(super) struct Exports(Rc<State>);

/// One way of serving, at work.
trait Served {
    fn poll(&mut self);
    fn next_check(&self) -> Instant;
}

impl Served for Export<BarePlatform> {
    fn poll(&mut self) {
        Export::poll(self);
    }

    fn next_check(&self) -> Instant {
        Export::next_check(self)
    }
}

#[cfg(feature = "argo")]
impl Served for crate::transport::argo::Export<BarePlatform> {
    fn poll(&mut self) {
        Self::poll(self);
    }

    fn next_check(&self) -> Instant {
        Self::next_check(self)
    }
}

impl Served for Backend<BarePlatform> {
    fn poll(&mut self) {
        Backend::poll(self);
    }

    fn next_check(&self) -> Instant {
        Backend::next_check(self)
    }
}

#[derive(Default)]
struct State {
    all: RefCell<Vec<Box<dyn Served>>>,
    /// Something has happened since they were looked at.
    due: Cell<bool>,
}

/// The directory that is served.
pub(super) fn root_of(
    source: &str,
    files: &dyn Fn() -> Rc<dyn Tree>,
) -> Result<DynNode, StartError> {
    let fails = |error: &dyn core::fmt::Display| {
        StartError::new(ExitCode::FAILURE, format!("export of {source}: {error}"))
    };
    if !source.starts_with('/') {
        let tree = tree(source).map_err(|error| fails(&error))?;
        return Ok(tree.root());
    }
    let tree = files();
    let names: Vec<&[u8]> = source
        .split('/')
        .filter(|name| !name.is_empty())
        .map(str::as_bytes)
        .collect();
    let root = tree.root();
    match block_on(&*tree.driver(), root.walk_at(&names)) {
        Ok(Walked::Through(node, _)) => Ok(node),
        Ok(Walked::Link(_)) => Err(fails(&"a symbolic link is on the way")),
        Ok(Walked::Blocked(_, error)) | Err(error) => Err(fails(&error)),
    }
}

/// Rings as large as the memory of the domain suggests.
fn orders() -> Orders {
    let bytes = memory_info().total / RING_SHARE;
    let fits = |order: &u8| 2 << *order <= bytes;
    let order = (12..=Order::DEFAULT.get()).rev().find(fits).unwrap_or(12);
    Orders::new(order, order).unwrap_or_default()
}

/// The same for those of 9pfs devices.
fn rings() -> Rings {
    let bytes = memory_info().total / DEVICE_SHARE;
    let most = Rings::default();
    let fits = |order: &u32| PAGE_SIZE << (*order - 1) <= bytes;
    let order = (2..=most.order()).rev().find(fits).unwrap_or(2);
    Rings::new(most.count(), order).unwrap_or(most)
}

pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.msize = limits.msize.min((memory_info().total / RING_SHARE) as u32);
    limits
}

pub(super) fn rights(option: &ExportOption) -> Rights {
    match option.read_only {
        true => Rights::ReadOnly,
        false => Rights::ReadWrite,
    }
}

impl Exports {
    /// Nothing is served yet. What waits looks after it from now on.
    pub(super) fn new() -> Self {
        let exports = Exports::default();
        let state: Rc<dyn Serve> = exports.0.clone();
        // There is one: this is called once, when the app's files are opened.
        let _ = system().exports.set(state);
        exports
    }

    /// Begins to serve trees that are not of the app's files: before these are mounted, which may wait for a domain that
    /// waits for this one.
    pub(super) fn start_first(&self) -> Result<(), StartError> {
        self.start(|option| !Self::is_late(option), &|| Rc::new(MemTree::new()))
    }

    /// Begins to serve what is in the app's files.
    pub(super) fn start_rest(&self, files: &dyn Fn() -> Rc<dyn Tree>) -> Result<(), StartError> {
        self.start(Self::is_late, files)
    }

    /// Whether an export is of the app's files. One backend serves all 9pfs devices, so that it has to wait where one of its
    /// trees does.
    fn is_late(option: &ExportOption) -> bool {
        let is_of_files = |option: &ExportOption| option.source.starts_with('/');
        let mut options = system().options.exports.iter();
        match option.target {
            ExportTarget::Vchan(_) => is_of_files(option),
            #[cfg(feature = "argo")]
            ExportTarget::Argo(_) => is_of_files(option),
            ExportTarget::Devices => {
                options.any(|other| other.target == ExportTarget::Devices && is_of_files(other))
            }
        }
    }

    fn start(
        &self,
        which: impl Fn(&ExportOption) -> bool,
        files: &dyn Fn() -> Rc<dyn Tree>,
    ) -> Result<(), StartError> {
        let options = &system().options.exports;
        let mut for_devices = Vec::new();
        for option in options.iter().filter(|option| which(option)) {
            match &option.target {
                ExportTarget::Vchan(target) => {
                    let export = listener(option, target, files)?;
                    self.0.all.borrow_mut().push(Box::new(export));
                }
                #[cfg(feature = "argo")]
                ExportTarget::Argo(target) => {
                    let export = super::argo::listener(option, target, files)?;
                    self.0.all.borrow_mut().push(Box::new(export));
                }
                ExportTarget::Devices => {
                    let root = root_of(&option.source, files)?;
                    for_devices.push((option.source.as_str(), root, rights(option)));
                }
            }
        }
        if !for_devices.is_empty() {
            let backend = backend(for_devices)?;
            self.0.all.borrow_mut().push(Box::new(backend));
        }
        self.0.poll();
        Ok(())
    }
}

fn listener(
    option: &ExportOption,
    target: &str,
    files: &dyn Fn() -> Rc<dyn Tree>,
) -> Result<Export<BarePlatform>, StartError> {
    let usage = |error| StartError::new(ExitCode::USAGE, format!("export: {error}"));
    let (client, name) = parse_address(target).map_err(usage)?;
    let mut listener = Listener::new(&system().xen, client, name, orders()).map_err(usage)?;
    listener.on_event(Rc::new(poll));
    let root = root_of(&option.source, files)?;
    let rights = rights(option);
    let policy = move || Trees::new(root.clone(), rights);
    Ok(Export::new(listener, policy, limits()))
}

/// Serves the 9pfs devices of other domains whose path is one of these.
fn backend(
    trees: Vec<(&'static str, DynNode, Rights)>,
) -> Result<Backend<BarePlatform>, StartError> {
    let policy = move |request: &Request| {
        let found = trees.iter().find(|(path, ..)| *path == request.path);
        let (_, root, rights) = found.ok_or_else(|| {
            format!(
                "the path {} is not one of those that this domain exports",
                request.path
            )
        })?;
        Ok(Trees::new(root.clone(), *rights))
    };
    let on_event = Some(Rc::new(poll) as Rc<dyn Fn()>);
    let backend = Backend::new(&system().xen, rings(), limits(), policy, on_event);
    backend.map_err(|error| StartError::new(ExitCode::FAILURE, format!("export: {error}")))
}

impl Serve for State {
    fn poll(&self) {
        self.due.set(true);
        // Nothing on top of itself: what is served may wait as well.
        let Ok(mut all) = self.all.try_borrow_mut() else {
            return;
        };
        for _ in 0..ROUNDS {
            if all.is_empty() || !self.due.replace(false) {
                return;
            }
            // What is served may be what another domain serves, and wait for that.
            system().shares.pump();
            for export in &mut *all {
                export.poll();
            }
            system().shares.pump();
        }
    }

    fn next_check(&self) -> Instant {
        let all = self.all.try_borrow();
        let checks = all
            .iter()
            .flat_map(|all| all.iter().map(|served| served.next_check()));
        checks.min().unwrap_or(Instant::NEVER)
    }

    fn close(&self) {
        let all = self.all.take();
        drop(all);
    }
}
