//! Trees that other domains serve, and those that are served to them.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use super::cmdline::ExportOption;
use super::exports::{Serve, poll, serve};
use super::shares::{ShareError, VCHAN, boxed};
use super::ways::split_tree;
use super::{ExitCode, StartError, memory_info, system, tree};
use crate::ns::{Namespace, Tree};
use crate::p9::session::Session;
use crate::platform::PAGE_SIZE;
use crate::rt::BarePlatform;
use crate::server::{Limits, Rights};
use crate::time::Instant;
use crate::transport::Transport;
#[cfg(feature = "argo")]
use crate::transport::argo;
use crate::transport::serving::{ExportError, Exported, Serving, Sizes, Target, polled_directory};
use crate::transport::vchan::{self, Order, Orders};
use crate::transport::xen9pfs::backend::Rings;

/// What one message of a vchan may take, as a share of the domain's memory.
const MESSAGE_SHARE: usize = 64;

/// What rings of an export may take, as a share of the domain's memory.
const RING_SHARE: usize = 32;

/// Requests that a client may have wait, as a share of the domain's memory in bytes: each takes some kilobytes.
const REQUEST_SHARE: usize = 256 << 10;

/// What a message on a ring of a 9pfs device may take: each of a frontend's rings may have two.
const DEVICE_SHARE: usize = 128;

/// How often at most all exports are looked at in a row.
const ROUNDS: usize = 8;

/// Connects to what another domain serves.
pub(super) fn dial(
    address: &str,
    timeout: Duration,
    msize: u32,
) -> Result<Box<dyn Transport>, ShareError> {
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

/// What is served: the exports of the command line, and what the app adds.
pub(super) struct Exports {
    serving: Serving<BarePlatform>,
    polled: Cell<bool>,
    /// Something has happened since they were looked at.
    due: Cell<bool>,
}

/// Rings and messages as large as the memory of the domain suggests.
fn sizes() -> Sizes {
    let bytes = memory_info().total / RING_SHARE;
    let fits = |order: &u8| 2 << *order <= bytes;
    let order = (12..=Order::DEFAULT.get()).rev().find(fits).unwrap_or(12);
    let orders = Orders::new(order, order).unwrap_or_default();
    let mut limits = Limits::default();
    limits.msize = limits.msize.min(bytes as u32);
    limits.requests = (memory_info().total / REQUEST_SHARE).clamp(64, limits.requests);
    let bytes = memory_info().total / DEVICE_SHARE;
    let most = Rings::default();
    let fits = |order: &u32| PAGE_SIZE << (*order - 1) <= bytes;
    let order = (2..=most.order()).rev().find(fits).unwrap_or(2);
    let rings = Rings::new(most.count(), order).unwrap_or(most);
    Sizes {
        orders,
        rings,
        limits,
    }
}

impl Exports {
    /// Nothing is served yet. What waits looks after it from now on.
    pub(super) fn install() {
        let serving = Serving::new(&system().xen, sizes(), Some(Rc::new(poll)));
        #[cfg(feature = "argo")]
        let serving = serving.with_argo(super::argo::own, message_size(argo::DEFAULT_MESSAGE));
        let exports = Exports {
            serving,
            polled: Cell::new(false),
            due: Cell::new(false),
        };
        // There is one: this is called once, when the app's files are opened.
        let _ = system().exports.set(Rc::new(exports));
    }
}

/// Begins to serve what the command line says: before the app's files are mounted, which may wait for a domain that waits for
/// this one, the trees that are not of these; and afterwards, with the files, those that are.
pub(super) fn start(files: Option<&Namespace>) -> Result<(), StartError> {
    let options = &system().options.exports;
    let is_of_files = |option: &ExportOption| option.source.starts_with('/');
    // One backend serves all 9pfs devices, so that it has to wait where one of its trees does.
    let is_late = |option: &ExportOption| match option.target {
        Target::Devices => {
            let mut options = options.iter();
            options.any(|other| other.target == Target::Devices && is_of_files(other))
        }
        _ => is_of_files(option),
    };
    for option in options {
        if is_late(option) != files.is_some() {
            continue;
        }
        let fails = |status, error: &dyn core::fmt::Display| {
            StartError::new(
                status,
                &format_args!("export of {}: {error}", option.source),
            )
        };
        let failed = |error: &dyn core::fmt::Display| fails(ExitCode::FAILURE, error);
        let tree: Rc<dyn Tree> = match files {
            Some(files) if is_of_files(option) => {
                let tree = polled_directory(files, &option.source);
                Rc::new(tree.map_err(|error| failed(&error))?)
            }
            _ => tree(&option.source).map_err(|error| failed(&error))?,
        };
        let rights = match option.read_only {
            true => Rights::ReadOnly,
            false => Rights::ReadWrite,
        };
        let served = serve(&option.source, &tree, &option.target, rights);
        served.map_err(|error| {
            let status = match error {
                ExportError::Vchan(_) | ExportError::Taken => ExitCode::USAGE,
                _ => ExitCode::FAILURE,
            };
            fails(status, &error)
        })?;
    }
    Ok(())
}

impl Serve for Exports {
    fn poll(&self) {
        self.due.set(true);
        // Nothing on top of itself: what is served may wait as well.
        if self.polled.replace(true) {
            return;
        }
        for _ in 0..ROUNDS {
            if !self.due.replace(false) {
                break;
            }
            // What is served may be what another domain serves, and wait for that.
            let sessions = system().shares.sessions();
            let each = |act: fn(&Session)| sessions.iter().for_each(act);
            each(Session::pump);
            each(|session| session.ask_for_others(true));
            self.serving.poll();
            each(|session| session.ask_for_others(false));
            // The program may sleep elsewhere after this: only a session that has settled gets an event for a reply.
            for session in sessions.iter().filter(|session| session.is_busy()) {
                let before = session.progress();
                session.settle(false);
                if session.progress() != before {
                    self.due.set(true);
                }
            }
        }
        self.polled.set(false);
    }

    fn next_check(&self) -> Instant {
        self.serving.next_check()
    }

    fn serve(
        &self,
        source: &str,
        tree: &dyn Tree,
        target: &Target,
        rights: Rights,
    ) -> Result<(), ExportError> {
        self.serving.serve(source, tree, target, rights)
    }

    fn end(&self, source: &str, target: &Target) -> Result<(), ExportError> {
        self.serving.end(source, target)
    }

    fn list(&self) -> Vec<Exported> {
        self.serving.list()
    }

    fn close(&self) {
        self.serving.close();
    }
}
