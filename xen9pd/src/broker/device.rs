//! A device and its worker: does what the [`Machine`] says.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::LazyLock;
use std::time;

use xen_guest::xenbus::XenbusState;
use xen_guest::xenbus::backend::{Machine, Offer, Step, View};
use xen9p_time::Instant;

use super::nodes::{self, Key, Kind, Order};
use super::workers::{Files, Spare, Word, Worker};
use super::{Decision, Policy, Settings};
use crate::journal::{Peer, about};
use crate::worker::Task;
use crate::xen::store::{Result, Store};

/// Steps at a device before others have their turn. None takes more than a few.
const MAX_STEPS: u32 = 32;

/// The time since the daemon looked at it first.
pub fn now() -> Instant {
    static BEGIN: LazyLock<time::Instant> = LazyLock::new(time::Instant::now);
    Instant::from_nanos(u64::try_from(BEGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// A device.
pub struct Device {
    key: Key,
    order: Order,
    machine: Machine,
    worker: Option<Worker>,
    /// The next worker.
    spare: Option<Spare>,
    /// The frontend was invited, and there is no next worker yet.
    lacks_spare: bool,
    /// What the frontend offers, once it was read.
    offer: nodes::Offered,
    deadline: Option<Instant>,
    watched: bool,
    reported: bool,
    domain_is_gone: bool,
    /// What the log calls it.
    peer: Peer,
    /// The states as they were last seen: the own one, the frontend's.
    pub states: (XenbusState, XenbusState),
    /// Connections made, by this broker.
    pub connections: u64,
}

impl Device {
    fn new(key: Key, order: Order, machine: Machine, worker: Option<Worker>) -> Device {
        Device {
            key,
            order,
            machine,
            worker,
            spare: None,
            lacks_spare: false,
            offer: None,
            deadline: None,
            watched: false,
            reported: false,
            domain_is_gone: false,
            peer: Peer::new(&key.to_string()),
            states: (XenbusState::Unknown, XenbusState::Unknown),
            connections: 0,
        }
    }

    /// A device that nodes were found of, if this daemon serves it. One that is refused is closed.
    pub fn found(key: Key, store: &mut Store, policy: &dyn Policy) -> Result<Option<Device>> {
        if !nodes::is_ours(store, &key)? {
            return Ok(None);
        }
        let why = match Order::read(store, &key)? {
            // Its nodes are just being removed.
            None => return Ok(None),
            Some(Err(why)) => why,
            Some(Ok(order)) => match policy.decide(&key, &order) {
                Decision::Leave => return Ok(None),
                Decision::Refuse(why) => why,
                Decision::Serve => {
                    log::info!(
                        "{key}: domain {} is to have {} as {}",
                        order.name,
                        order.path,
                        order.tag,
                    );
                    return Ok(Some(Device::new(key, order, Machine::new(), None)));
                }
            },
        };
        // Another daemon may take what is not for this one alone.
        if key.kind == Kind::Daemon {
            let view = nodes::look(store, &key, "", &mut None)?;
            if view.backend != XenbusState::Closed
                && nodes::set(store, &key, view.backend, XenbusState::Closed)?
            {
                log::warn!("{key}: refused: {why}");
                nodes::report(store, &key, &why)?;
            }
        }
        Ok(None)
    }

    /// A device whose worker is left from before a restart.
    pub fn adopting(key: Key, worker: Worker, task: Task) -> Device {
        let rings = task.rings;
        let machine = Machine::adopting(Offer { rings });
        Device::new(key, task.order, machine, Some(worker))
    }

    /// Its worker, if it has one.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.as_ref()
    }

    /// What the toolstack wrote.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// When to look at it in any case.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The frontend has written its state: what it offers may be another thing now.
    pub fn frontend_has_moved(&mut self) {
        self.offer = None;
    }

    /// The domain does not exist any more, whatever its nodes say.
    pub fn domain_is_gone(&mut self) {
        self.domain_is_gone = true;
    }

    /// Its worker has ended, or said something.
    pub fn hear(&mut self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let Some(worker) = &mut self.worker else {
            return;
        };
        let readable = |file: BorrowedFd<'_>| {
            let mut files = [PollFd::from_borrowed_fd(file, PollFlags::IN)];
            matches!(poll(&mut files, Some(&Timespec::default())), Ok(1..))
        };
        if worker.mouth().is_some_and(readable) && worker.listen() == Word::Ready {
            self.connections += 1;
            self.machine.worker_is_ready();
        }
        if readable(worker.end()) {
            let why = self.worker.take().and_then(Worker::bury);
            self.machine.worker_is_gone(why);
        }
    }

    /// Whether [`prepare`](Self::prepare) has something to do.
    pub fn lacks_spare(&self) -> bool {
        self.lacks_spare
    }

    /// Starts the process of the worker that will be needed when the frontend connects.
    pub fn prepare(&mut self, program: &Path) {
        self.lacks_spare = false;
        // Where it fails, it is tried again when there is something to serve, and told then.
        self.spare = Spare::start(program, &self.key).ok();
    }

    /// Takes the next steps; returns whether the device is no more. `is_driver`: this domain is not the toolstack's, which
    /// waits then until the device's directory is removed here.
    pub fn work(
        &mut self,
        store: &mut Store,
        settings: &Settings<'_>,
        workers: &Path,
        is_driver: bool,
    ) -> Result<bool> {
        let peer = self.peer.clone();
        about(&peer, || self.steps(store, settings, workers, is_driver))
    }

    fn steps(
        &mut self,
        store: &mut Store,
        settings: &Settings<'_>,
        workers: &Path,
        is_driver: bool,
    ) -> Result<bool> {
        let token = self.key.to_string();
        let state = format!("{}/state", self.order.frontend);
        if !self.watched {
            // Before the look, so that nothing is missed.
            store.watch(&state, &token)?;
            self.watched = true;
        }
        self.deadline = None;
        let mut seen = None;
        for _ in 0..MAX_STEPS {
            // What the own steps change is known, and of all else an event comes.
            let mut view = match seen.take() {
                Some(view) => view,
                None => {
                    let view = self.look(store, is_driver)?;
                    if !self.machine.has_worker() && nodes::is_taken(store, &self.key, &view)? {
                        log::info!("another backend was first");
                        return self.forget(store, &state, &token);
                    }
                    view
                }
            };
            match self.machine.next(&view, now()) {
                Step::Invite => {
                    if !nodes::invite(store, &self.key, view.backend)? {
                        continue;
                    }
                    self.has_written(XenbusState::InitWait, &mut view);
                    self.lacks_spare = self.spare.is_none();
                }
                Step::Set(state) => {
                    if !nodes::set(store, &self.key, view.backend, state)? {
                        continue;
                    }
                    self.has_written(state, &mut view);
                    self.mention(state);
                }
                Step::Start(offer) => self.start(offer, settings, workers),
                Step::Stop => self.worker.iter().for_each(Worker::stop),
                Step::Kill => self.worker.iter().for_each(Worker::kill),
                Step::Report(why) => {
                    log::warn!("{why}");
                    if view.present {
                        nodes::report(store, &self.key, &why)?;
                        self.reported = true;
                    }
                }
                // Its nodes were left by a toolstack that is gone as well.
                Step::Wait(None) if self.domain_is_gone && !self.machine.has_worker() => {
                    return self.forget(store, &state, &token);
                }
                Step::Wait(None) if is_driver && self.is_over(store, &view)? => {
                    store.remove(&self.key.path())?;
                    continue;
                }
                Step::Wait(until) => {
                    self.deadline = until;
                    return Ok(false);
                }
                Step::Forget => return self.forget(store, &state, &token),
            }
            seen = Some(view);
        }
        // Its nodes are written without end: the other devices first.
        self.deadline = Some(now());
        Ok(false)
    }

    /// How the device stands. While there is a worker, what the frontend offers is read again only if its state was written.
    fn look(&mut self, store: &mut Store, is_driver: bool) -> Result<View> {
        if !self.machine.has_worker() {
            // It may have been written, and the event not be noticed yet.
            self.offer = None;
        }
        let mut view = nodes::look(store, &self.key, &self.order.frontend, &mut self.offer)?;
        if self.domain_is_gone {
            view.frontend = XenbusState::Unknown;
        }
        if is_driver {
            self.machine.correct(&mut view);
        }
        self.states = (view.backend, view.frontend);
        Ok(view)
    }

    fn has_written(&mut self, state: XenbusState, view: &mut View) {
        self.machine.has_written(state);
        view.backend = state;
        self.states.0 = state;
    }

    /// Whether the device's directory is of no more use.
    fn is_over(&self, store: &mut Store, view: &View) -> Result<bool> {
        if !view.present || self.machine.has_worker() {
            return Ok(false);
        }
        let is_removed = !view.online && view.backend == XenbusState::Closed;
        Ok(is_removed || store.read(&self.order.frontend)?.is_none())
    }

    fn forget(&self, store: &mut Store, state: &str, token: &str) -> Result<bool> {
        store.unwatch(state, token)?;
        if self.reported {
            nodes::forget_report(store, &self.key)?;
        }
        log::info!("gone");
        Ok(true)
    }

    fn mention(&self, state: XenbusState) {
        match state {
            XenbusState::Connected => {
                let worker = self.worker.as_ref().map_or(0, |worker| worker.number);
                log::info!("connected, worker {worker}");
            }
            XenbusState::Closed => log::info!("closed"),
            _ => {}
        }
    }

    fn start(&mut self, offer: Offer, settings: &Settings<'_>, workers: &Path) {
        let task = Task {
            domain: self.key.domain,
            rings: offer.rings,
            counters: Files::of(workers, &self.key).counters,
            ledgers: settings.directory.join("usage"),
            config: settings.policy.config(),
            order: self.order.clone(),
        };
        self.lacks_spare = false;
        let spare = self.spare.take();
        let early = spare.and_then(|spare| spare.employ(workers, &self.key, &task).ok());
        let worker = early.map_or_else(
            || Spare::start(settings.program, &self.key)?.employ(workers, &self.key, &task),
            Ok,
        );
        match worker {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => {
                let why = format!("cannot start a worker: {error}");
                self.machine.worker_is_gone(Some(why));
            }
        }
    }
}

#[cfg(test)]
mod tests;
