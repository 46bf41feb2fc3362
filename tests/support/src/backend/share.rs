//! A backend program with one 9pfs device, on the simulated Xen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use xen9p::hypercall::DomId;
use xen9p::xen::xenbus::XenbusState::{self, *};

use super::{Backend, Daemon, Handler, Lies, Qemu, RingView, Step, Trouble};
use crate::fake::{DeviceSpec, FakeDomain, FakeXen, Peer};

/// Which program serves the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Qemu,
    /// xen-9pfsd.
    Daemon,
}

/// How the program departs from what it should do.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It never leaves this state.
    pub stuck_in: Option<XenbusState>,
    /// It goes to this state instead of connecting.
    pub refuses_with: Option<XenbusState>,
    /// It keeps the rings mapped when it disconnects.
    pub keeps_maps: bool,
    /// It dies when the device is connected for a second time, as QEMU 7.2 does.
    pub dies_when_reconnected: bool,
    /// What it does to its replies.
    pub lies: Lies,
}

struct Connection {
    backend: Box<dyn Backend>,
    ports: Vec<u32>,
}

/// A program with one device. Takes part in the simulated world as a [`Peer`].
pub struct Share {
    program: Program,
    domain: FakeDomain,
    guest: DomId,
    front: String,
    back: String,
    handler: Rc<RefCell<Handler>>,
    offer: BTreeMap<&'static str, String>,
    /// How it departs from what it should do.
    pub faults: Faults,
    alive: bool,
    /// The state of the store that was looked at last.
    looked_at: u64,
    /// The frontend's state that was acted on last.
    acted_on: XenbusState,
    connection: Option<Connection>,
    kept: Vec<Connection>,
    connections: usize,
    troubles: Vec<Trouble>,
}

impl Share {
    /// Adds device `id` with this tag to `guest`, and the program in `domain` that serves it.
    pub fn new(
        domain: &FakeDomain,
        guest: DomId,
        id: u32,
        tag: &str,
        program: Program,
        handler: Handler,
    ) -> Share {
        let (backend_kind, max_rings) = match program {
            Program::Qemu => ("9pfs", "8"),
            Program::Daemon => ("xen_9pfs", "4"),
        };
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind,
            frontend: guest,
            id,
        };
        let nodes = [("path", "/srv"), ("security_model", "none")];
        let (front, back) = domain.add_device(&spec, &[("tag", tag)], &nodes);
        let offer = [
            ("versions", "1"),
            ("max-rings", max_rings),
            ("max-ring-page-order", "9"),
        ];
        Share {
            program,
            domain: domain.clone(),
            guest,
            front,
            back,
            handler: Rc::new(RefCell::new(handler)),
            offer: offer.map(|(node, value)| (node, value.into())).into(),
            faults: Faults::default(),
            alive: true,
            looked_at: u64::MAX,
            acted_on: Unknown,
            connection: None,
            kept: Vec::new(),
            connections: 0,
            troubles: Vec::new(),
        }
    }

    /// Offers something else: `value` in the node, or no such node.
    pub fn offering(mut self, node: &'static str, value: Option<&str>) -> Share {
        match value {
            Some(value) => self.offer.insert(node, value.into()),
            None => self.offer.remove(node),
        };
        self
    }

    /// Departs from what it should do.
    pub fn faulty(mut self, faults: Faults) -> Share {
        self.faults = faults;
        self
    }

    /// The frontend's directory.
    pub fn front(&self) -> &str {
        &self.front
    }

    /// The backend's directory.
    pub fn back(&self) -> &str {
        &self.back
    }

    /// The state of the frontend, and of the backend.
    pub fn states(&self) -> (XenbusState, XenbusState) {
        (self.state(&self.front), self.state(&self.back))
    }

    /// Number of rings that are mapped.
    pub fn rings(&self) -> usize {
        let connections = self.connection.iter();
        connections.map(|connection| connection.ports.len()).sum()
    }

    /// How often it was connected.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// What went wrong in connections that are over, and in the one that is there.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.troubles.clone();
        if let Some(connection) = &self.connection {
            troubles.extend(connection.backend.troubles());
        }
        troubles
    }

    /// Ends the program, as `kill -9` does: nothing in xenstore changes.
    pub fn kill(&mut self) {
        self.disconnect();
        self.alive = false;
    }

    /// Starts the program again. QEMU only begins with a device whose state somebody has set to 1.
    pub fn restart(&mut self) {
        self.alive = true;
        self.looked_at = u64::MAX;
        self.acted_on = Unknown;
        self.connections = 0;
    }

    /// Lets go of what it kept mapped.
    pub fn unmap(&mut self) {
        self.kept.clear();
    }

    fn state(&self, directory: &str) -> XenbusState {
        let value = self.domain.read(&format!("{directory}/state"));
        value.map_or(Unknown, |value| XenbusState::from_value(&value))
    }

    /// Changes the backend's state, unless it is stuck or the device was removed.
    fn go(&mut self, state: XenbusState) -> bool {
        let current = self.state(&self.back);
        if current == state || current == Unknown || self.faults.stuck_in == Some(current) {
            return false;
        }
        let number = (state as u32).to_string();
        self.domain.write(&format!("{}/state", self.back), number);
        true
    }

    fn offer(&mut self) -> bool {
        if self.faults.stuck_in == Some(Initialising) {
            return false;
        }
        for (node, value) in &self.offer {
            self.domain.write(&format!("{}/{node}", self.back), value);
        }
        self.go(InitWait)
    }

    /// Acts on the states as QEMU's framework for backends does.
    fn qemu(&mut self) -> bool {
        let (front, back) = self.states();
        match (back, front) {
            (Initialising, _) => self.offer(),
            (_, Closing | Closed) if back != front => {
                self.disconnect();
                self.go(front)
            }
            (Closed, Initialising) => {
                let online = self.domain.read(&format!("{}/online", self.back));
                online.as_deref() == Some(b"1") && self.go(Initialising)
            }
            (InitWait, Initialised | Connected) => {
                if self.connections > 0 && self.faults.dies_when_reconnected {
                    self.kill();
                    return true;
                }
                self.connect(8)
            }
            _ => false,
        }
    }

    /// Acts on the states as xen-9pfsd does.
    fn daemon(&mut self) -> bool {
        let (front, back) = self.states();
        if back == Initialising {
            return self.offer();
        }
        if front == self.acted_on {
            return false;
        }
        self.acted_on = front;
        match front {
            Initialised => self.connect(4) || self.go(Closed),
            Closing | Closed => {
                self.disconnect();
                self.go(front)
            }
            _ => false,
        }
    }

    fn connect(&mut self, max_rings: u32) -> bool {
        if let Some(state) = self.faults.refuses_with {
            return self.go(state);
        }
        if self.faults.stuck_in == Some(InitWait) || self.connection.is_some() {
            return false;
        }
        let Some(connection) = self.map(max_rings) else {
            return false;
        };
        self.connections += 1;
        self.connection = Some(connection);
        self.go(Connected)
    }

    fn map(&self, max_rings: u32) -> Option<Connection> {
        let number = |node: &str| -> Option<u32> {
            let text = self.domain.read_text(&format!("{}/{node}", self.front))?;
            text.parse().ok()
        };
        if self.program == Program::Daemon && number("version")? != 1 {
            return None;
        }
        let rings = number("num-rings").filter(|rings| (1..=max_rings).contains(rings))?;
        let map = |reference| self.domain.map_grant(self.guest, reference, true).ok();
        let mut views = Vec::new();
        let mut ports = Vec::new();
        for ring in 0..rings {
            let interface = map(number(&format!("ring-ref{ring}"))?)?;
            let order = interface.load(RingView::RING_ORDER);
            if !(1..=9).contains(&order) {
                return None;
            }
            let pages: Option<_> = (0..1 << order)
                .map(|page| map(interface.load(RingView::REF + 4 * page)))
                .collect();
            views.push(RingView::mapped(interface, pages?));
            let port = number(&format!("event-channel-{ring}"))?;
            ports.push(self.domain.bind_interdomain(self.guest, port).ok()?);
        }
        let handler = Rc::clone(&self.handler);
        let handler: Handler = Box::new(move |request| (*handler.borrow_mut())(request));
        let lies = self.faults.lies.clone();
        let backend: Box<dyn Backend> = match self.program {
            Program::Qemu => Box::new(Qemu::new(views, handler).lying(lies)),
            Program::Daemon => Box::new(Daemon::new(views, handler).lying(lies)),
        };
        Some(Connection { backend, ports })
    }

    fn disconnect(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        self.troubles.extend(connection.backend.troubles());
        for port in connection.ports.drain(..) {
            self.domain.close(port);
        }
        if self.faults.keeps_maps {
            self.kept.push(connection);
        }
    }

    /// Serves all rings, one step each.
    fn serve(&mut self) -> bool {
        let Some(Connection { backend, ports }) = &mut self.connection else {
            return false;
        };
        let mut busy = false;
        for (ring, &port) in ports.iter().enumerate() {
            if self.domain.take_pending(port) {
                backend.event(ring);
            }
            let step = backend.step(ring);
            if step == Step::Event {
                self.domain.send(port);
            }
            busy |= step != Step::Idle;
        }
        if !backend.serving() {
            self.disconnect();
            self.go(Closing);
        }
        busy
    }
}

impl Peer for Share {
    fn step(&mut self, _: &FakeXen) -> bool {
        if !self.alive {
            return false;
        }
        let mut busy = false;
        let generation = self.domain.store_generation();
        if self.looked_at != generation {
            self.looked_at = generation;
            busy |= match self.program {
                Program::Qemu => self.qemu(),
                Program::Daemon => self.daemon(),
            };
        }
        busy | self.serve()
    }
}
