//! How the program acts on the states in xenstore, and connects: as QEMU does, and as xen-9pfsd does.

use std::rc::Rc;

use xen9p::xen::xenbus::XenbusState::*;

use super::super::{Backend, Daemon, Handler, MappedPage, Qemu, RingView};
use super::{Connection, Program, Share};

impl Share {
    fn offer(&mut self) -> bool {
        if self.faults.stuck_in == Some(Initialising) {
            return false;
        }
        self.put_offer();
        self.go(InitWait)
    }

    /// Writes what it offers.
    pub(super) fn put_offer(&self) {
        for (node, value) in &self.offer {
            self.put(node, value.as_bytes());
        }
        for (node, value) in &self.faults.offers {
            match value {
                Some(value) => self.put(node, value.as_bytes()),
                None => self.machine.rm(&format!("{}/{node}", self.back)),
            }
        }
    }

    /// Acts on the states as QEMU's framework for backends does.
    pub(super) fn qemu(&mut self) -> bool {
        let (front, back) = self.states();
        match (back, front) {
            (_, Closing | Closed) if back != front || self.connection.is_some() => {
                let had_one = self.connection.is_some();
                self.disconnect();
                self.go(front) || had_one
            }
            (Initialising, _) => self.offer(),
            (Closed, Initialising) => {
                let online = self.machine.read(&format!("{}/online", self.back));
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
    pub(super) fn daemon(&mut self) -> bool {
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
        self.look_for_leaks(&connection);
        self.connection = Some(connection);
        self.go(Connected)
    }

    fn map(&self, max_rings: u32) -> Option<Connection> {
        let number = |node: &str| -> Option<u32> {
            let value = self.machine.read(&format!("{}/{node}", self.front))?;
            String::from_utf8(value).ok()?.parse().ok()
        };
        if self.program == Program::Daemon && number("version")? != 1 {
            return None;
        }
        let rings = number("num-rings").filter(|rings| (1..=max_rings).contains(rings))?;
        let map = |reference| self.machine.map(self.guest, reference);
        let mut views = Vec::new();
        let mut ports = Vec::new();
        for ring in 0..rings {
            let interface = map(number(&format!("ring-ref{ring}"))?)?;
            let order = interface.load(RingView::RING_ORDER);
            if !(1..=9).contains(&order) {
                return None;
            }
            let pages: Option<Vec<MappedPage>> = (0..1 << order)
                .map(|page| map(interface.load(RingView::REF + 4 * page)))
                .collect();
            views.push(RingView::mapped(interface, pages?));
        }
        for ring in 0..rings {
            let port = number(&format!("event-channel-{ring}"))?;
            ports.push(self.machine.bind(self.guest, port)?);
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
}
