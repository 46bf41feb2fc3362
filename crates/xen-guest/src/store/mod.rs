//! Xenstore: the small tree of names and values that domains and toolstack share.
//!
//! [`XenStore`] is a client over the ring that the domain builder made. Requests block, each for a
//! bounded time ([`XenStore::set_timeout`]); watches and everything else that arrives is taken in
//! whenever events are dispatched. Protocol: docs/misc/xenstore.txt and xenstore-ring.txt.
//!
//! Paths that don't begin with `/` are relative to the domain's own directory, which is
//! `/local/domain/<own number>`.
//!
//! ```
//! use xen_guest::platform::Platform;
//! use xen_guest::store::{StoreError, XenStore};
//!
//! /// Counts one up in a node, however many others do so at the same time.
//! fn count_up<P: Platform>(store: &XenStore<P>) -> Result<u32, StoreError> {
//!     store.transaction(|transaction| {
//!         let count = match transaction.read("data/count") {
//!             Ok(value) => xen_guest::store::parse_u32(&value)? + 1,
//!             Err(error) if error.is_not_found() => 1,
//!             Err(error) => return Err(error),
//!         };
//!         transaction.write("data/count", count.to_string().as_bytes())?;
//!         Ok(count)
//!     })
//! }
//! ```

mod connection;
mod error;
mod numbered;
mod permissions;
mod request;
mod transaction;
mod watch;
pub mod wire;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use self::connection::Connection;
use self::wire::Kind;
use crate::event::{EventChannel, Events, Port};
use crate::platform::{Claim, InUse, MappedRing, Platform, Resource};
use crate::xenbus::Claims;
use xen9p_time::Instant;

pub use error::{Refusal, StoreError};
pub use transaction::{IsConflict, Transaction};
pub use watch::{Watch, WatchEvent};
pub use wire::{Access, Permission};

/// How long a request waits for its answer unless [`XenStore::set_timeout`] says otherwise. Far
/// above what a busy xenstored needs, far below a person's patience.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a long listing is begun again because it changed while it was read.
const LISTING_TRIES: u32 = 16;

/// Names in one listing. A domain's own quota is 1000 nodes; the toolstack's directories can be
/// larger.
const LISTING_MAX: usize = 1 << 16;

/// Requests that are made together before the first answer is waited for. Xenstored lets a domain
/// have 20.
const MAX_PIPELINED: usize = 16;

/// No transaction.
const NO_TRANSACTION: u32 = 0;

/// What came of reading a few nodes.
pub type Values<const N: usize> = [Result<Vec<u8>, StoreError>; N];

/// The connection to xenstore. Clones are the same connection.
pub struct XenStore<P: Platform> {
    inner: Rc<Inner<P>>,
}

struct Inner<P: Platform> {
    events: Events<P>,
    /// `None` where the kernel has a driver of its own.
    channel: RefCell<Option<EventChannel<P>>>,
    connection: RefCell<Connection>,
    timeout: Cell<Duration>,
    claims: Claims,
    /// Makes this the only connection of the domain.
    _claim: Claim<P>,
}

impl<P: Platform> Drop for Inner<P> {
    fn drop(&mut self) {
        let last = self.connection.get_mut().last_request();
        let state = self.events.platform().domain_state();
        state.set_last_store_request(last);
    }
}

impl<P: Platform> Clone for XenStore<P> {
    fn clone(&self) -> Self {
        XenStore {
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<P: Platform> fmt::Debug for XenStore<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XenStore")
            .field("port", &self.port())
            .field("watches", &self.open_watches())
            .finish()
    }
}

impl<P: Platform> XenStore<P> {
    /// Connects over the ring that the platform has, or goes through the kernel's own
    /// [driver](Platform::store_driver), whose other users notice nothing.
    ///
    /// On a ring it has to be alone: nothing of another driver may be under way. It waits for a xenstored that is not
    /// there yet, and drops all watches of the domain where xenstored can.
    ///
    /// # Errors
    /// [`StoreError::Missing`] in a domain without xenstore; [`StoreError::InUse`] while another `XenStore` of this
    /// domain exists; [`StoreError::Timeout`] and [`StoreError::Broken`] when it does not answer or not sensibly.
    pub fn connect(events: &Events<P>) -> Result<Self, StoreError> {
        let platform = events.platform();
        let ring = Self::ring(platform)?;
        let last_request = platform.domain_state().last_store_request();
        let claim = Claim::new(platform, Resource::XenstoreRing)?;
        let channel = ring.as_ref().map(|ring| Self::adopt(events, ring.port));
        let inner = Rc::new(Inner {
            _claim: claim,
            channel: RefCell::new(channel.transpose()?),
            events: events.clone(),
            connection: RefCell::new(Connection::new(ring.map(|it| it.page), last_request)),
            timeout: Cell::new(DEFAULT_TIMEOUT),
            claims: Claims::default(),
        });
        let store = XenStore { inner };
        if platform.store_driver().is_none() {
            store.wait_for_service()?;
            store.reset_watches()?;
        }
        Ok(store)
    }

    /// The ring, unless the kernel has a driver for it.
    fn ring(platform: &P) -> Result<Option<MappedRing>, StoreError> {
        match platform.store_driver() {
            Some(_) => Ok(None),
            None => {
                let ring = MappedRing::xenstore(platform).ok_or(StoreError::Missing)?;
                Ok(Some(ring))
            }
        }
    }

    fn port(&self) -> Option<Port> {
        self.inner.channel.borrow().as_ref().map(EventChannel::port)
    }

    fn adopt(events: &Events<P>, port: Port) -> Result<EventChannel<P>, StoreError> {
        let channel = events.adopt(port);
        channel.map_err(|_| StoreError::InUse(InUse(Resource::XenstoreRing)))
    }

    /// Listens, and waits until xenstored serves the ring.
    fn wait_for_service(&self) -> Result<(), StoreError> {
        let weak = Rc::downgrade(&self.inner);
        if let Some(channel) = &*self.inner.channel.borrow() {
            channel.on_event(move || {
                if let Some(inner) = weak.upgrade() {
                    inner.pump();
                }
            });
        }
        self.wait_until(self.deadline(), |connection| {
            Ok(connection.is_connected().then_some(()))
        })
    }

    /// Waits until nothing is under way: what is when the domain is saved is lost.
    ///
    /// # Errors
    /// [`StoreError::Timeout`], [`StoreError::Broken`].
    pub(super) fn quiesce(&self) -> Result<(), StoreError> {
        self.wait_until(self.deadline(), |connection| {
            Ok(connection.is_quiet().then_some(()))
        })
    }

    /// Whether nothing is under way: no request, and no answer to an abandoned one.
    pub(super) fn is_quiet(&self) -> bool {
        self.inner.connection.borrow().is_quiet()
    }

    /// Connects again in a domain that was resumed elsewhere, and has everything watched that was.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(super) fn resumed(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let ring = Self::ring(self.events().platform())?;
        let channel = ring.as_ref().map(|it| Self::adopt(&inner.events, it.port));
        drop(inner.channel.replace(channel.transpose()?));
        let page = ring.map(|ring| ring.page);
        let watches = inner.connection.borrow_mut().restart(page);
        if let Some(driver) = self.events().platform().store_driver() {
            return watches
                .iter()
                .map(|(path, token)| driver.watch(path, *token))
                .fold(Ok(()), Result::and);
        }
        self.wait_for_service()?;
        // All are asked for before an answer is waited for: then a xenstored that is late, as where many domains are
        // restored at once, or that refuses one of them, has the others watched nevertheless.
        let requests: Vec<_> = watches
            .iter()
            .map(|(path, token)| self.submit_watch(path, *token))
            .collect();
        self.answers(Kind::WATCH, requests)
    }

    /// Drops all watches of this domain where xenstored is known to have the request; an old one
    /// ends the connection over a request that it does not know. The answer, which says nothing, is not waited for: xenstored
    /// takes a domain's requests in their order.
    fn reset_watches(&self) -> Result<(), StoreError> {
        match self.read("control/platform-feature-xs_reset_watches") {
            Ok(value) if value == b"1" => {
                let reset = self.submit(Kind::RESET_WATCHES, NO_TRANSACTION, &[b"\0"])?;
                self.inner.connection.borrow_mut().abandon(reset);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(StoreError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The devices that have a driver.
    pub(crate) fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    /// The events that the connection hangs on.
    pub fn events(&self) -> &Events<P> {
        &self.inner.events
    }

    /// Sets how long each request waits for its answer.
    pub fn set_timeout(&self, timeout: Duration) {
        self.inner.timeout.set(timeout);
    }

    /// How many watches are open: a counter that has to be back where it was when a device has
    /// gone.
    pub fn open_watches(&self) -> usize {
        self.inner.connection.borrow().watches()
    }

    /// Takes in what has arrived and sends what waits, without blocking.
    ///
    /// # Errors
    /// [`StoreError::Broken`] once the connection is.
    pub fn poll(&self) -> Result<(), StoreError> {
        self.inner.pump();
        self.inner.connection.borrow().check()
    }

    /// The value of a node.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is no such node; see [`StoreError`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.read_in(NO_TRANSACTION, path)
    }

    /// The values of a few nodes, asked for together: takes as long as [`read`](Self::read) of one.
    /// They need not be of the same moment.
    ///
    /// # Errors
    /// As [`read`](Self::read), for each.
    pub fn read_all<const N: usize>(&self, paths: [&str; N]) -> Values<N> {
        let deadline = self.deadline();
        self.values(self.submit_reads(paths), deadline)
    }

    /// Queues reads of a few nodes; their numbers.
    pub(crate) fn submit_reads<const N: usize>(
        &self,
        paths: [&str; N],
    ) -> [Result<u32, StoreError>; N] {
        const { assert!(N <= MAX_PIPELINED) };
        paths.map(|path| self.submit_path(Kind::READ, NO_TRANSACTION, path))
    }

    /// The answers to [`submit_reads`](Self::submit_reads), waited for until `deadline`.
    pub(crate) fn values<const N: usize>(
        &self,
        requests: [Result<u32, StoreError>; N],
        deadline: Instant,
    ) -> Values<N> {
        requests.map(|request| self.answer(Kind::READ, request?, deadline))
    }

    /// Sets the values of a few nodes, which takes as long as [`write`](Self::write) of one. They do not change all at once.
    ///
    /// # Errors
    /// As [`write`](Self::write), for each.
    pub fn write_all<const N: usize>(
        &self,
        nodes: [(&str, &[u8]); N],
    ) -> [Result<(), StoreError>; N] {
        const { assert!(N <= MAX_PIPELINED) };
        let deadline = self.deadline();
        nodes
            .map(|(path, value)| self.submit_write(NO_TRANSACTION, path, value))
            .map(|request| self.answer(Kind::WRITE, request?, deadline).map(drop))
    }

    /// Writes nodes in their order and then reads one, which takes as long as [`read`](Self::read) alone, or a multiple of that where there
    /// are more than xenstored takes together. The nodes do not change all at once.
    ///
    /// # Errors
    /// The first of the writes, as [`write`](Self::write), and that of the read, as [`read`](Self::read). None is asked for behind a write
    /// that can't be; one that xenstored refuses does not keep those from being done that were asked for together with it.
    pub fn write_and_read(
        &self,
        mut nodes: &[(String, &[u8])],
        path: &str,
    ) -> (Result<(), StoreError>, Result<Vec<u8>, StoreError>) {
        let write = |nodes: &[(String, &[u8])]| {
            let mut requests = Vec::with_capacity(nodes.len());
            for (path, value) in nodes {
                requests.push(self.submit_write(NO_TRANSACTION, path, value));
                if requests.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            requests
        };
        let mut written = Ok(());
        while nodes.len() >= MAX_PIPELINED && written.is_ok() {
            let (some, rest) = nodes.split_at(MAX_PIPELINED);
            written = self.answers(Kind::WRITE, write(some));
            nodes = rest;
        }
        let rest = match written {
            Ok(()) => write(nodes),
            Err(_) => Vec::new(),
        };
        let request = self.submit_path(Kind::READ, NO_TRANSACTION, path);
        let deadline = self.deadline();
        let written = written.and(self.answers(Kind::WRITE, rest));
        let read = request.and_then(|it| self.answer(Kind::READ, it, deadline));
        (written, read)
    }

    /// The value of a node, as text.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`StoreError::BadAnswer`] when it is not UTF-8.
    pub fn read_text(&self, path: &str) -> Result<String, StoreError> {
        wire::text(&self.read(path)?)
    }

    /// The value of a node, as a number in decimal digits.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`StoreError::BadAnswer`] when it is no number or passes 32 bits.
    pub fn read_number(&self, path: &str) -> Result<u32, StoreError> {
        parse_u32(&self.read(path)?)
    }

    /// Sets the value of a node, making it and those above it if need be.
    ///
    /// # Errors
    /// [`Refusal::Access`] where this domain may not write; see [`StoreError`].
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write_in(NO_TRANSACTION, path, value)
    }

    /// Makes a node with an empty value, unless it exists.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn mkdir(&self, path: &str) -> Result<(), StoreError> {
        self.path_request(Kind::MKDIR, NO_TRANSACTION, path)
            .map(drop)
    }

    /// Removes a node and everything below it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when the node above it does not exist either; see [`StoreError`].
    pub fn rm(&self, path: &str) -> Result<(), StoreError> {
        self.path_request(Kind::RM, NO_TRANSACTION, path).map(drop)
    }

    /// The names below a node. However many there are: a listing that does not fit into one answer
    /// is read in parts, and begun again when it changes meanwhile. All the parts together are waited for no longer
    /// than one request is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is no such node; [`StoreError::Conflict`] when it keeps
    /// changing; see [`StoreError`].
    pub fn directory(&self, path: &str) -> Result<Vec<String>, StoreError> {
        self.directory_in(NO_TRANSACTION, path)
    }

    fn read_in(&self, transaction: u32, path: &str) -> Result<Vec<u8>, StoreError> {
        self.path_request(Kind::READ, transaction, path)
    }

    fn write_in(&self, transaction: u32, path: &str, value: &[u8]) -> Result<(), StoreError> {
        let request = self.submit_write(transaction, path, value)?;
        self.answer(Kind::WRITE, request, self.deadline()).map(drop)
    }

    /// Queues a write.
    fn submit_write(&self, transaction: u32, path: &str, value: &[u8]) -> Result<u32, StoreError> {
        wire::check_path(path)?;
        let payload: [&[u8]; 3] = [path.as_bytes(), b"\0", value];
        self.submit(Kind::WRITE, transaction, &payload)
    }

    fn directory_in(&self, transaction: u32, path: &str) -> Result<Vec<String>, StoreError> {
        match self.path_request(Kind::DIRECTORY, transaction, path) {
            Ok(answer) => {
                let mut names = Vec::new();
                wire::add_names(&answer, &mut names)?;
                Ok(names)
            }
            Err(StoreError::Refused(Refusal::TooBig)) => {
                let deadline = self.deadline();
                for _ in 0..LISTING_TRIES {
                    if let Some(names) = self.listing(transaction, path, deadline)? {
                        return Ok(names);
                    }
                }
                Err(StoreError::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a long listing in parts; `None` when it changed meanwhile.
    fn listing(
        &self,
        transaction: u32,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let mut names = Vec::new();
        let mut offset = 0;
        let mut first_count = None;
        loop {
            let at = alloc::format!("{offset}");
            let payload: [&[u8]; 4] = [path.as_bytes(), b"\0", at.as_bytes(), b"\0"];
            let request = self.submit(Kind::DIRECTORY_PART, transaction, &payload)?;
            let answer = self.answer(Kind::DIRECTORY_PART, request, deadline)?;
            // A change counter, names that each end with NUL, and after the last part an empty one.
            let bad = StoreError::BadAnswer("part of a directory");
            let end = answer.iter().position(|&b| b == 0).ok_or(bad)?;
            let (count, rest) = (&answer[..end], &answer[end + 1..]);
            if *first_count.get_or_insert_with(|| count.to_vec()) != count {
                return Ok(None);
            }
            let (part, last) = match rest {
                [] | [0] => (&rest[..0], true),
                [part @ .., 0, 0] => (part, true),
                [part @ .., 0] => (part, false),
                _ => return Err(bad),
            };
            if !part.is_empty() {
                wire::add_names(part, &mut names)?;
                offset += part.len() + 1;
            }
            if names.len() > LISTING_MAX {
                return Err(StoreError::BadAnswer("a directory of bearable size"));
            }
            if last {
                return Ok(Some(names));
            }
        }
    }
}

/// A number in decimal digits.
pub fn parse_u32(value: &[u8]) -> Result<u32, StoreError> {
    wire::decimal(value)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(StoreError::BadAnswer("a number"))
}
