//! A backend program with one 9pfs device.

mod handshake;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use xen9p::hypercall::DomId;
use xen9p::xen::xenbus::XenbusState::{self, *};

use super::{Backend, BadScript, Deed, Handler, Lies, Machine, Step, Trouble};
use crate::fake::{DeviceSpec, FakeDomain, FakeXen, Peer};

/// Which program serves the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Qemu,
    /// xen-9pfsd.
    Daemon,
}

/// How the program departs from what it should do. Parsed from the language of `script.rs`.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It begins again, with the backend's state 1, when it is told of these faults.
    pub restarts: bool,
    /// It offers other values, or none.
    pub offers: Vec<(String, Option<String>)>,
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

/// Events, or writes of the state, that are sent at a time when there are many to send.
const BURST: u32 = 1000;

/// A program with one device. Takes part in the simulated world as a [`Peer`].
pub struct Share {
    program: Program,
    machine: Box<dyn Machine>,
    guest: DomId,
    front: String,
    back: String,
    handler: Rc<RefCell<Handler>>,
    offer: BTreeMap<String, String>,
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
    /// Events and writes that are still to come.
    events: u32,
    watches: u32,
    /// Whether it looks for scripts in xenstore.
    takes_scripts: bool,
    /// The script that was followed last.
    script: Vec<u8>,
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
        let backend_kind = match program {
            Program::Qemu => "9pfs",
            Program::Daemon => "xen_9pfs",
        };
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind,
            frontend: guest,
            id,
        };
        let nodes = [("path", "/srv"), ("security_model", "none")];
        let (front, back) = domain.add_device(&spec, &[("tag", tag)], &nodes);
        Share::on(
            Box::new(domain.clone()),
            guest,
            (front, back),
            program,
            handler,
        )
    }

    /// The program on any machine, for a device that is there: the frontend's directory and the backend's.
    pub fn on(
        machine: Box<dyn Machine>,
        guest: DomId,
        (front, back): (String, String),
        program: Program,
        handler: Handler,
    ) -> Share {
        let max_rings = match program {
            Program::Qemu => "8",
            Program::Daemon => "4",
        };
        let offer = [
            ("versions", "1"),
            ("max-rings", max_rings),
            ("max-ring-page-order", "9"),
        ];
        Share {
            program,
            machine,
            guest,
            front,
            back,
            handler: Rc::new(RefCell::new(handler)),
            offer: offer
                .map(|(node, value)| (node.into(), value.into()))
                .into(),
            faults: Faults::default(),
            alive: true,
            looked_at: u64::MAX,
            acted_on: Unknown,
            connection: None,
            kept: Vec::new(),
            connections: 0,
            troubles: Vec::new(),
            events: 0,
            watches: 0,
            takes_scripts: false,
            script: Vec::new(),
        }
    }

    /// Offers something else: `value` in the node, or no such node.
    pub fn offering(mut self, node: &'static str, value: Option<&str>) -> Share {
        match value {
            Some(value) => self.offer.insert(node.into(), value.into()),
            None => self.offer.remove(node),
        };
        self
    }

    /// Departs from what it should do.
    pub fn faulty(mut self, faults: Faults) -> Share {
        self.faults = faults;
        self
    }

    /// Follows the scripts that the guest writes, each as `NUMBER:SCRIPT`, into its node `data/backend-script`. Once it
    /// does, `data/backend-ready` says the same, or what is wrong with it.
    pub fn taking_scripts(mut self) -> Share {
        self.takes_scripts = true;
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

    /// How often a reply waited for room in the connection that is there.
    pub fn waits_for_room(&self) -> usize {
        let connection = self.connection.as_ref();
        connection.map_or(0, |connection| connection.backend.waits_for_room())
    }

    /// Ends the program, as `kill -9` does: nothing in xenstore changes.
    pub fn kill(&mut self) {
        self.disconnect();
        self.alive = false;
    }

    /// Starts the program again. QEMU only begins with a device whose state an administrator has set to 1.
    pub fn restart(&mut self) {
        self.alive = true;
        self.looked_at = u64::MAX;
        self.acted_on = Unknown;
        self.connections = 0;
    }

    /// Lets go of what it kept mapped.
    pub fn unmap(&mut self) {
        for connection in std::mem::take(&mut self.kept) {
            self.look_for_leaks(&connection);
        }
    }

    /// Follows a script from now on: a backend that was broken so far is in order again, but for what the script says.
    ///
    /// # Errors
    /// The script makes no sense; nothing has changed then.
    pub fn follow(&mut self, script: &str) -> Result<(), BadScript> {
        self.faults = script.parse()?;
        self.unmap();
        (self.events, self.watches) = (0, 0);
        let (_, back) = self.states();
        let waits = match back {
            InitWait => true,
            // It may not have seen yet that the frontend has left.
            Closed => self.connection.is_none(),
            // One that says so with nothing behind it would be waited for in vain.
            Connected => self.connection.is_some(),
            _ => false,
        };
        if self.faults.restarts || !self.alive || !waits {
            self.disconnect();
            self.restart();
            self.put_nodes();
        } else if back != Connected {
            self.put_offer();
        }
        Ok(())
    }

    /// The nodes of the backend's directory, as the toolstack makes them.
    fn put_nodes(&self) {
        self.machine.write(&self.back, b"");
        self.machine.share(&self.back, self.guest);
        let guest = self.guest.to_string();
        let nodes = [
            ("frontend", self.front.as_str()),
            ("frontend-id", &guest),
            ("online", "1"),
            ("state", "1"),
        ];
        for (node, value) in nodes {
            self.put(node, value.as_bytes());
        }
    }

    fn put(&self, node: &str, value: &[u8]) {
        self.machine.write(&format!("{}/{node}", self.back), value);
    }

    fn look_for_leaks(&mut self, connection: &Connection) {
        let backend = &connection.backend;
        if (0..backend.rings()).any(|ring| backend.view(ring).leaks()) {
            self.troubles.push(Trouble::Leak);
        }
    }

    fn state(&self, directory: &str) -> XenbusState {
        let value = self.machine.read(&format!("{directory}/state"));
        value.map_or(Unknown, |value| XenbusState::from_value(&value))
    }

    /// Changes the backend's state, unless it is stuck or the device was removed.
    fn go(&mut self, state: XenbusState) -> bool {
        let current = self.state(&self.back);
        if current == state || current == Unknown || self.faults.stuck_in == Some(current) {
            return false;
        }
        let number = (state as u32).to_string();
        self.put("state", number.as_bytes());
        true
    }

    fn disconnect(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        self.troubles.extend(connection.backend.troubles());
        self.look_for_leaks(&connection);
        for port in connection.ports.drain(..) {
            self.machine.close(port);
        }
        if self.faults.keeps_maps {
            self.kept.push(connection);
        }
    }

    /// Serves all rings, one step each.
    fn serve(&mut self) -> bool {
        let mut busy = self.storm();
        let Some(Connection { backend, ports }) = &mut self.connection else {
            return busy;
        };
        for (ring, &port) in ports.iter().enumerate() {
            if self.machine.take_pending(port) {
                backend.event(ring);
            }
            let step = backend.step(ring);
            if step == Step::Event {
                self.machine.send(port);
                backend.told(ring);
            }
            busy |= step != Step::Idle;
        }
        let deeds = backend.take_deeds();
        if !backend.serving() {
            self.disconnect();
            self.go(Closing);
        }
        for deed in deeds {
            match deed {
                Deed::State(value) => self.put("state", &value),
                Deed::Remove => self.machine.rm(&self.back),
                Deed::Die => self.kill(),
                Deed::Events(count) => self.events += count,
                Deed::Watches(count) => self.watches += count,
            }
            busy = true;
        }
        busy
    }

    /// Sends some of the many events, and makes some of the many writes, that are still to come.
    fn storm(&mut self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let events = self.events.min(BURST);
        self.events -= events;
        for _ in 0..events {
            for &port in &connection.ports {
                self.machine.send(port);
            }
        }
        let watches = self.watches.min(BURST / 50);
        self.watches -= watches;
        if watches > 0
            && let Some(state) = self.machine.read(&format!("{}/state", self.back))
        {
            (0..watches).for_each(|_| self.put("state", &state));
        }
        events + watches > 0
    }

    /// A new script in the guest's directory is followed from now on, and
    /// that is said there.
    fn look_for_script(&mut self) {
        let node = |name| format!("/local/domain/{}/data/{name}", self.guest);
        let Some(script) = self.machine.read(&node("backend-script")) else {
            return;
        };
        if script == self.script {
            return;
        }
        self.script.clone_from(&script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let answer = match script.split_once(':').map(|(_, text)| self.follow(text)) {
            Some(Ok(())) => script.clone(),
            Some(Err(error)) => error.to_string(),
            None => "a script begins with a number and a colon".to_owned(),
        };
        self.machine.write(
            &format!("/local/domain/{}/data/backend-ready", self.guest),
            answer.as_bytes(),
        );
    }

    /// Does what there is to do now, without blocking; whether there was anything.
    pub fn work(&mut self) -> bool {
        let generation = self.machine.store_generation();
        let news = self.looked_at != generation;
        if news {
            self.looked_at = generation;
            if self.takes_scripts {
                self.look_for_script();
            }
        }
        if !self.alive {
            return false;
        }
        let mut busy = false;
        if news {
            busy |= match self.program {
                Program::Qemu => self.qemu(),
                Program::Daemon => self.daemon(),
            };
        }
        busy | self.serve()
    }
}

impl Peer for Share {
    fn step(&mut self, _: &FakeXen) -> bool {
        self.work()
    }
}
