//! The states of a device, and following the backend's.

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;

use super::{Handshake, XenbusError};
use crate::platform::Platform;
use crate::store::{self, StoreError, Watch, XenStore};
use xen_abi as sys;
use xen9p_time::Instant;

/// Where one half of a device is in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum XenbusState {
    /// There is no such node, or nothing sensible in it.
    Unknown = sys::XenbusStateUnknown,
    /// Nothing has been done.
    Initialising = sys::XenbusStateInitialising,
    /// The backend has written what it offers and waits for the frontend.
    InitWait = sys::XenbusStateInitWait,
    /// The frontend has written its rings and waits for the backend.
    Initialised = sys::XenbusStateInitialised,
    /// In use.
    Connected = sys::XenbusStateConnected,
    /// About to disconnect.
    Closing = sys::XenbusStateClosing,
    /// Disconnected.
    Closed = sys::XenbusStateClosed,
    /// Changing while in use.
    Reconfiguring = sys::XenbusStateReconfiguring,
    /// Changed while in use.
    Reconfigured = sys::XenbusStateReconfigured,
}

impl XenbusState {
    /// The state with this number; what has no meaning is [`Unknown`](Self::Unknown).
    pub fn from_number(number: u32) -> Self {
        use XenbusState::*;
        let states = [
            Unknown,
            Initialising,
            InitWait,
            Initialised,
            Connected,
            Closing,
            Closed,
            Reconfiguring,
            Reconfigured,
        ];
        states
            .into_iter()
            .find(|&state| state as u32 == number)
            .unwrap_or(Unknown)
    }

    /// A backend's, from what came of reading its node. One that is gone, or hidden from us, is no backend.
    pub(super) fn of_backend(value: Result<Vec<u8>, StoreError>) -> Result<Self, StoreError> {
        match value {
            Ok(value) => Ok(Self::from_value(&value)),
            Err(StoreError::Refused(_)) => Ok(XenbusState::Unknown),
            Err(error) => Err(error),
        }
    }

    /// The state in the value of a node; what has no meaning is [`Unknown`](Self::Unknown).
    pub fn from_value(value: &[u8]) -> Self {
        store::parse_u32(value).map_or(XenbusState::Unknown, Self::from_number)
    }
}

impl fmt::Display for XenbusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", *self as u32)
    }
}

/// The backend's state, followed by a watch.
pub struct BackendState<P: Platform> {
    watch: Watch<P>,
    store: XenStore<P>,
    known: Cell<Option<XenbusState>>,
    /// The state that this side is in, where that is known before a handshake; and the backend's, where that need not be looked at first.
    pub(super) found: Cell<Option<(XenbusState, Option<XenbusState>)>>,
    /// Where this side is with it.
    pub(super) handshake: Cell<Handshake>,
}

impl<P: Platform> BackendState<P> {
    /// Follows what `watch` watches, which was read after that was watched. `found` is for the first handshake.
    pub(super) fn new(
        store: &XenStore<P>,
        watch: Watch<P>,
        known: XenbusState,
        found: Option<(XenbusState, Option<XenbusState>)>,
    ) -> Self {
        BackendState {
            watch,
            store: store.clone(),
            known: Cell::new(Some(known)),
            found: Cell::new(found),
            handshake: Cell::new(Handshake::leave(XenbusState::Unknown, Duration::ZERO)),
        }
    }

    /// The state now: asks xenstore only when the watch has fired. A backend whose node is gone, or
    /// has no sensible value, is in state [`XenbusState::Unknown`].
    ///
    /// # Errors
    /// [`XenbusError::Store`].
    pub fn get(&self) -> Result<XenbusState, XenbusError> {
        self.look().map(|(state, _)| state)
    }

    /// As [`get`](Self::get), and whether the node may have been written since this was asked last, even if it
    /// says what it said before.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn look(&self) -> Result<(XenbusState, bool), XenbusError> {
        if !self.watch.take_all()?.is_empty() {
            self.known.set(None);
        }
        if let Some(state) = self.known.get() {
            return Ok((state, false));
        }
        let state = XenbusState::of_backend(self.store.read(self.watch.path()))?;
        self.known.set(Some(state));
        Ok((state, true))
    }

    /// Waits until `wanted` is true of the state or `deadline` has passed, and returns the state at
    /// that time: the caller sees from it which of the two it was.
    ///
    /// # Errors
    /// [`XenbusError::Store`].
    pub fn wait(
        &self,
        wanted: impl Fn(XenbusState) -> bool,
        deadline: Instant,
    ) -> Result<XenbusState, XenbusError> {
        let events = self.store.events();
        loop {
            let seen = events.generation();
            let state = self.get()?;
            if wanted(state) || events.now() >= deadline {
                return Ok(state);
            }
            events.wait(seen, deadline);
        }
    }
}

impl<P: Platform> fmt::Debug for BackendState<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendState")
            .field("path", &self.watch.path())
            .field("known", &self.known.get())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_strictly() {
        assert_eq!(XenbusState::from_value(b"4"), XenbusState::Connected);
        assert_eq!(XenbusState::from_value(b"8"), XenbusState::Reconfigured);
        for nonsense in [&b""[..], b"9", b"99", b"4x", b"-1", b" 4", b"\xff"] {
            assert_eq!(XenbusState::from_value(nonsense), XenbusState::Unknown);
        }
    }
}
