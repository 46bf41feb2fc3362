//! A device of this domain: its nodes, its states, and how it connects and disconnects.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::{BackendState, Handshake, Ready, Step, XenbusError, XenbusState, failure, map_enoent};
use crate::hypercall::DomId;
use crate::platform::Platform;
use crate::store::{self, StoreError, Values, XenStore};

/// One device of this domain: its two directories in xenstore.
pub struct Device<P: Platform> {
    store: XenStore<P>,
    id: String,
    frontend: String,
    backend: String,
    backend_id: DomId,
    tag: Option<String>,
}

/// All devices of one kind, such as `"9pfs"`, in the order of their names. Entries that are no
/// devices, because their nodes are missing or make no sense, are left out with a warning.
///
/// # Errors
/// [`XenbusError::Store`]. That there is no device at all is no error.
pub fn enumerate<P: Platform>(
    store: &XenStore<P>,
    kind: &str,
) -> Result<Vec<Device<P>>, XenbusError> {
    let mut devices = Vec::new();
    for id in numbers(store, kind)? {
        match Device::open(store, kind, &id) {
            Ok(device) => devices.push(device),
            Err(XenbusError::Store(error)) if error.is_connection_error() => {
                return Err(error.into());
            }
            Err(error) => log::warn!("device/{kind}/{id} is left out: {error}"),
        }
    }
    Ok(devices)
}

/// The numbers of what may be devices of one kind, in their order: names of nodes, as xenstore has them.
///
/// # Errors
/// [`StoreError`]. That there is no device at all is no error.
pub fn numbers<P: Platform>(store: &XenStore<P>, kind: &str) -> Result<Vec<String>, StoreError> {
    let names = match store.directory(&alloc::format!("device/{kind}")) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // There are few: sorting code would be more than it is worth.
    let mut sorted: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let at = sorted.partition_point(|before| (before.len(), before) <= (name.len(), &name));
        sorted.insert(at, name);
    }
    Ok(sorted)
}

impl<P: Platform> Device<P> {
    /// The device with this kind and number.
    ///
    /// # Errors
    /// [`XenbusError::BadNode`] when `backend` or `backend-id` is missing or makes no sense.
    pub fn open(store: &XenStore<P>, kind: &str, id: &str) -> Result<Self, XenbusError> {
        let frontend = alloc::format!("device/{kind}/{id}");
        let node = |name| alloc::format!("{frontend}/{name}");
        let [backend, backend_id, tag] =
            store.read_all([&node("backend"), &node("backend-id"), &node("tag")]);
        let backend = backend
            .and_then(|value| store::wire::text(&value))
            .map_err(|error| map_enoent(error, "backend"))?;
        store::wire::check_path(&backend).map_err(|_| XenbusError::BadNode("backend"))?;
        let backend_id = backend_id
            .and_then(|value| store::parse_u32(&value))
            .map_err(|error| map_enoent(error, "backend-id"))?;
        let backend_id = u16::try_from(backend_id)
            .ok()
            .map(DomId)
            .filter(|&domain| domain < DomId::FIRST_RESERVED)
            .ok_or(XenbusError::BadNode("backend-id"))?;
        let tag = match tag.and_then(|value| store::wire::text(&value)) {
            Ok(tag) => Some(tag),
            Err(StoreError::Refused(_) | StoreError::BadAnswer(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Device {
            store: store.clone(),
            id: id.into(),
            frontend,
            backend,
            backend_id,
            tag,
        })
    }

    /// The last part of the frontend's path, a number as a rule.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory on this side, relative to the domain's own.
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// The directory on the backend's side.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The domain of the backend, which pages are granted and ports opened to.
    pub fn backend_id(&self) -> DomId {
        self.backend_id
    }

    /// The tag by which the device is known, if it has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The store that the device is in.
    pub fn store(&self) -> &XenStore<P> {
        &self.store
    }

    /// The state on this side.
    ///
    /// # Errors
    /// [`XenbusError::Gone`] when the node was removed; [`XenbusError::Store`].
    pub fn state(&self) -> Result<XenbusState, XenbusError> {
        match self.store.read(&self.state_path()) {
            Ok(value) => Ok(XenbusState::from_value(&value)),
            Err(error) if error.is_not_found() => Err(XenbusError::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn state_path(&self) -> String {
        alloc::format!("{}/state", self.frontend)
    }

    /// Sets the state on this side, unless the device was removed: a node that is gone is not
    /// brought back.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn set_state(&self, state: XenbusState) -> Result<(), XenbusError> {
        self.publish(&[], state)
    }

    /// Writes nodes on this side and then the state, unless the device was removed. A backend looks at them when the state
    /// changes. That takes one answer of xenstored's; a transaction would take three.
    ///
    /// # Errors
    /// As [`state`](Self::state). Of a device that was removed nothing is left then. With other errors some nodes may be written, and if it
    /// is a refusal or a timeout also the state, now or later: to be taken back by [`leave`](Self::leave).
    pub fn publish(&self, nodes: &[(&str, &str)], state: XenbusState) -> Result<(), XenbusError> {
        let number = alloc::format!("{}", state as u32);
        let mut changes: Vec<(String, &[u8])> = nodes
            .iter()
            .map(|(name, value)| (alloc::format!("{}/{name}", self.frontend), value.as_bytes()))
            .collect();
        changes.push((self.state_path(), number.as_bytes()));
        // Only the toolstack writes this node, and removes it with all others: a device that has it after the writes had it before.
        match self.store.write_and_read(&changes, &self.backend_path()) {
            (written, Err(error)) if error.is_not_found() => {
                // Refused as a rule: the toolstack lets a domain write below its devices, and make none.
                let is_refused = matches!(written, Err(StoreError::Refused(_)));
                if !is_refused {
                    self.remove_remains(&changes);
                }
                Err(XenbusError::Gone)
            }
            (written, read) => Ok(written.and(read.map(drop))?),
        }
    }

    /// Removes what [`publish`](Self::publish) has written for a device that was removed meanwhile, and nothing else: another may be in the
    /// making there.
    fn remove_remains(&self, written: &[(String, &[u8])]) {
        let removed = self.store.transaction(|it| {
            match it.read(&self.backend_path()) {
                // There is another device of that name by now.
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            for (path, _) in written {
                it.rm(path)?;
            }
            match it.directory(&self.frontend)?.is_empty() {
                true => it.rm(&self.frontend),
                false => Ok(()),
            }
        });
        if let Err(error) = removed {
            log::debug!(
                "what was written to {} is not removed: {error}",
                self.frontend
            );
        }
    }

    fn backend_path(&self) -> String {
        alloc::format!("{}/backend", self.frontend)
    }

    /// A node of the backend's, as text.
    ///
    /// # Errors
    /// [`XenbusError::BadNode`] with `name` when it is missing or no text.
    pub fn read_backend(&self, name: &'static str) -> Result<String, XenbusError> {
        self.store
            .read_text(&alloc::format!("{}/{name}", self.backend))
            .map_err(|error| map_enoent(error, name))
    }

    /// A node of the backend's, as a number.
    ///
    /// # Errors
    /// [`XenbusError::BadNode`] with `name` when it is missing or no number.
    pub fn read_backend_number(&self, name: &'static str) -> Result<u32, XenbusError> {
        self.store
            .read_number(&alloc::format!("{}/{name}", self.backend))
            .map_err(|error| map_enoent(error, name))
    }

    /// Starts to follow the backend's state. The first [`reset`](Self::reset) or [`leave`](Self::leave) with it goes on from the state that this
    /// side has now: a program that sets that by itself does so before, or afterwards.
    ///
    /// # Errors
    /// [`XenbusError::Store`].
    pub fn watch_backend(&self) -> Result<BackendState<P>, XenbusError> {
        self.watch_offer([]).map(|(state, _)| state)
    }

    /// [`watch_backend`](Self::watch_backend), and nodes of the backend's by their names, in the time that one answer takes.
    ///
    /// The values are no good, and to be read again after [`reset`](Self::reset), unless the backend had written them and waited for a
    /// new frontend at that time: `None`.
    ///
    /// # Errors
    /// [`XenbusError::Store`].
    pub fn watch_offer<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<(BackendState<P>, Option<Values<N>>), XenbusError> {
        let store = &self.store;
        let path = alloc::format!("{}/state", self.backend);
        let (watch, (states, values)) = store.watch_beside(&path, || {
            let states = store.submit_reads([&path, &self.state_path()]);
            let values = store.submit_reads(self.backend_paths(&names).each_ref().map(|it| &**it));
            let deadline = store.deadline();
            Ok((
                store.values(states, deadline),
                store.values(values, deadline),
            ))
        })?;
        let [theirs, own] = states;
        let theirs = XenbusState::of_backend(theirs)?;
        // One that can't be had is asked for again when it is needed, and the failure is told then.
        let own = own.ok().map(|value| XenbusState::from_value(&value));
        let is_new = (theirs, own) == (XenbusState::InitWait, Some(XenbusState::Initialising));
        // The watch has an event now, which may say of a change since then, too. Where the backend is ready, that can be looked for when it
        // has been offered something.
        let found = own.map(|own| (own, is_new.then_some(theirs)));
        let state = BackendState::new(store, watch, theirs, found);
        Ok((state, is_new.then_some(values)))
    }

    /// Nodes of the backend's by their names, asked for together.
    pub fn read_offer<const N: usize>(&self, names: [&str; N]) -> Values<N> {
        let paths = self.backend_paths(&names);
        self.store.read_all(paths.each_ref().map(|path| &**path))
    }

    fn backend_paths<const N: usize>(&self, names: &[&str; N]) -> [String; N] {
        names.map(|name| alloc::format!("{}/{name}", self.backend))
    }

    /// Brings the device to the point where a frontend may connect, whatever a kernel before us
    /// left behind. A backend that waits for us already is left alone; another is led through
    /// Closing and Closed back to InitWait, with `timeout` for each step.
    ///
    /// # Errors
    /// [`XenbusError::Timeout`] when the backend does not follow; as [`state`](Self::state).
    pub fn reset(
        &self,
        backend: &BackendState<P>,
        timeout: Duration,
    ) -> Result<Ready, XenbusError> {
        let events = self.store.events();
        events.block_on(self.reset_async(backend, timeout))
    }

    /// [`reset`](Self::reset), which [pauses](crate::event::Events::pause) instead of waiting for the backend. Waits for xenstore, as all
    /// do here.
    ///
    /// # Errors
    /// As [`reset`](Self::reset); [`XenbusError::Gone`] when the domain was resumed elsewhere meanwhile.
    pub async fn reset_async(
        &self,
        backend: &BackendState<P>,
        timeout: Duration,
    ) -> Result<Ready, XenbusError> {
        let (own, theirs) = self.found(backend)?;
        let handshake = Handshake::connect(own, timeout);
        backend.handshake.set(handshake);
        match self.advance(backend, theirs).await? {
            Step::Offer(ready) => Ok(ready),
            step => Err(failure(step)),
        }
    }

    /// Publishes what is shared, after [`reset`](Self::reset), and waits until the backend has accepted it.
    ///
    /// # Errors
    /// [`XenbusError::Refused`], [`XenbusError::Timeout`]; as [`state`](Self::state).
    pub fn establish(
        &self,
        backend: &BackendState<P>,
        nodes: &[(&str, &str)],
    ) -> Result<(), XenbusError> {
        let events = self.store.events();
        events.block_on(self.establish_async(backend, nodes))
    }

    /// [`establish`](Self::establish), which pauses as [`reset_async`](Self::reset_async) does.
    ///
    /// # Errors
    /// As both.
    pub async fn establish_async(
        &self,
        backend: &BackendState<P>,
        nodes: &[(&str, &str)],
    ) -> Result<(), XenbusError> {
        let published = self.publish(nodes, XenbusState::Initialised);
        if published.is_err() {
            // The state may be set, or be set later where xenstored is silent. So `leave` asks for Closing after that, without a look at
            // the backend's state, which would fail.
            let found = (XenbusState::Initialised, Some(XenbusState::Unknown));
            backend.found.set(Some(found));
        }
        published?;
        let mut handshake = backend.handshake.get();
        handshake.offered(self.store.events().now());
        backend.handshake.set(handshake);
        match self.advance(backend, None).await? {
            Step::Connected => Ok(()),
            step => Err(failure(step)),
        }
    }

    /// Disconnects in good order: Closing, and Closed once the backend has followed; `timeout`
    /// for each step. After the first step a backend that keeps to the protocol has unmapped
    /// everything.
    ///
    /// # Errors
    /// [`XenbusError::Timeout`] when the backend does not follow; this side is Closed all the same
    /// then. As [`state`](Self::state) otherwise.
    pub fn leave(&self, backend: &BackendState<P>, timeout: Duration) -> Result<(), XenbusError> {
        let events = self.store.events();
        events.block_on(self.leave_async(backend, timeout))
    }

    /// [`leave`](Self::leave), which pauses as [`reset_async`](Self::reset_async) does.
    ///
    /// # Errors
    /// As both.
    pub async fn leave_async(
        &self,
        backend: &BackendState<P>,
        timeout: Duration,
    ) -> Result<(), XenbusError> {
        let (own, theirs) = self.found(backend)?;
        let handshake = Handshake::leave(own, timeout);
        backend.handshake.set(handshake);
        match self.advance(backend, theirs).await? {
            Step::Left => Ok(()),
            step => Err(failure(step)),
        }
    }

    /// The state that this side is in before a handshake, and the backend's if that need not be looked at first.
    fn found(
        &self,
        backend: &BackendState<P>,
    ) -> Result<(XenbusState, Option<XenbusState>), XenbusError> {
        match backend.found.take() {
            Some(found) => Ok(found),
            None => Ok((self.state()?, None)),
        }
    }

    /// Does what the handshake says until it needs the caller. `theirs` is the backend's state, if it need not be looked at first.
    async fn advance(
        &self,
        backend: &BackendState<P>,
        mut theirs: Option<XenbusState>,
    ) -> Result<Step, XenbusError> {
        let events = self.store.events();
        let resumes = events.resumes();
        loop {
            let theirs = match theirs.take() {
                Some(state) => state,
                None => backend.get()?,
            };
            let mut handshake = backend.handshake.get();
            let step = handshake.next(events.now(), theirs, || self.is_online())?;
            backend.handshake.set(handshake);
            match step {
                Step::Set(state) => self.set_state(state)?,
                Step::Wait(until) => events.pause(until).await,
                step => return Ok(step),
            }
            if events.resumes() != resumes {
                return Err(XenbusError::Gone);
            }
        }
    }

    /// Whether the toolstack wants the device to be there.
    ///
    /// # Errors
    /// [`XenbusError::Store`].
    pub fn is_online(&self) -> Result<bool, XenbusError> {
        match self.store.read(&alloc::format!("{}/online", self.backend)) {
            Ok(value) => Ok(value == b"1"),
            Err(StoreError::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<P: Platform> fmt::Debug for Device<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("frontend", &self.frontend)
            .field("backend", &self.backend)
            .field("backend_id", &self.backend_id)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
