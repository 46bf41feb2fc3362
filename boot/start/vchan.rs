//! Trees that other domains serve, and those that are served to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use super::exports::{Serve, poll};
use super::shares::{RECONNECT_TIMEOUT, ShareError, ShareInfo, Shares, VCHAN, boxed};
use super::{ExitCode, StartError, memory_info, now, options, system, tree};
use crate::fs::Fs;
use crate::ns::{MemTree, Tree};
use crate::rt::BarePlatform;
use crate::server::{Exports as Trees, Limits, Rights};
use crate::time::Instant;
use crate::transport::Transport;
use crate::transport::vchan::{self, Export, Listener, Order, Orders, parse_address};
use crate::tree::{DynNode, Node, Walked, block_on};

/// What one message of a vchan may take, as a share of the domain's memory.
const MESSAGE_SHARE: usize = 64;

/// What rings of an export may take, as a share of the domain's memory.
const RING_SHARE: usize = 32;

/// How often at most all exports are looked at in a row.
const ROUNDS: usize = 8;

/// Connects to what another domain serves.
fn dial(address: &str, timeout: Duration, msize: u32) -> Result<Box<dyn Transport>, ShareError> {
    let fails = |error| ShareError::Vchan(address.into(), error);
    let target = address.strip_prefix(VCHAN).unwrap_or(address);
    let (server, name) = vchan::parse_address(target).map_err(fails)?;
    let stream = vchan::connect(&system().xen, server, name, timeout).map_err(fails)?;
    Ok(boxed(vchan::framed(stream, msize)))
}

/// Mounts what another domain serves.
pub(super) fn mount(shares: &Shares, address: &str) -> Result<Fs, ShareError> {
    let begun = now();
    let timeout = options().timeout.unwrap_or(vchan::CONNECT_TIMEOUT);
    let most = memory_info().total / MESSAGE_SHARE;
    let msize = vchan::DEFAULT_MESSAGE.min(most as u32).max(8192);
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

#[derive(Default)]
struct State {
    all: RefCell<Vec<Export<BarePlatform>>>,
    /// Something has happened since they were looked at.
    due: Cell<bool>,
}

/// The directory that is served.
fn root_of(source: &str, files: &dyn Fn() -> Rc<dyn Tree>) -> Result<DynNode, StartError> {
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
        self.start(|source| !source.starts_with('/'), &|| {
            Rc::new(MemTree::new())
        })
    }

    /// Begins to serve what is in the app's files.
    pub(super) fn start_rest(&self, files: &dyn Fn() -> Rc<dyn Tree>) -> Result<(), StartError> {
        self.start(|source| source.starts_with('/'), files)
    }

    fn start(
        &self,
        which: impl Fn(&str) -> bool,
        files: &dyn Fn() -> Rc<dyn Tree>,
    ) -> Result<(), StartError> {
        let options = &system().options.exports;
        for option in options.iter().filter(|option| which(&option.source)) {
            let usage = |error| StartError::new(ExitCode::USAGE, format!("export: {error}"));
            let (client, name) = parse_address(&option.target).map_err(usage)?;
            let mut listener =
                Listener::new(&system().xen, client, name, orders()).map_err(usage)?;
            listener.on_event(Rc::new(poll));
            let root = root_of(&option.source, files)?;
            let rights = match option.read_only {
                true => Rights::ReadOnly,
                false => Rights::ReadWrite,
            };
            let mut limits = Limits::default();
            limits.msize = limits.msize.min((memory_info().total / RING_SHARE) as u32);
            let policy = move || Trees::new(root.clone(), rights);
            self.0
                .all
                .borrow_mut()
                .push(Export::new(listener, policy, limits));
        }
        self.0.poll();
        Ok(())
    }
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
            .flat_map(|all| all.iter().map(Export::next_check));
        checks.min().unwrap_or(Instant::NEVER)
    }

    fn close(&self) {
        let all = self.all.take();
        drop(all);
    }
}
