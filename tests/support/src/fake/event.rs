//! Event channels between simulated domains.

use std::collections::BTreeMap;

use xen9p::hypercall::{DomId, XenError};

/// Ports that a domain may have.
const MAX_PORTS: u32 = 1023;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Unbound(DomId),
    Interdomain(DomId, u32),
    Virq(u32),
    Ipi,
}

#[derive(Clone, Copy, Debug)]
struct Port {
    channel: Channel,
    pending: bool,
}

/// The open ports of all domains.
#[derive(Default)]
pub(super) struct Channels {
    ports: BTreeMap<(DomId, u32), Port>,
}

impl Channels {
    pub(super) fn open(&mut self, domain: DomId, channel: Channel) -> Result<u32, XenError> {
        let number = (1..=MAX_PORTS)
            .find(|&number| !self.ports.contains_key(&(domain, number)))
            .ok_or(XenError::ENOSPC)?;
        let port = Port {
            channel,
            pending: false,
        };
        self.ports.insert((domain, number), port);
        Ok(number)
    }

    pub(super) fn bind_interdomain(
        &mut self,
        domain: DomId,
        remote: DomId,
        remote_port: u32,
    ) -> Result<u32, XenError> {
        match self.get(remote, remote_port) {
            Some(Channel::Unbound(waits_for)) if waits_for == domain => {}
            _ => return Err(XenError::EINVAL),
        }
        let port = self.open(domain, Channel::Interdomain(remote, remote_port))?;
        let other = self.ports.get_mut(&(remote, remote_port));
        other.expect("looked at above").channel = Channel::Interdomain(domain, port);
        // As Xen does it: what was sent before the binding must not be lost.
        self.fire(domain, port);
        Ok(port)
    }

    pub(super) fn bind_virq(&mut self, domain: DomId, virq: u32) -> Result<u32, XenError> {
        let bound = |(&(owner, _), port): (&(DomId, u32), &Port)| {
            owner == domain && port.channel == Channel::Virq(virq)
        };
        if self.ports.iter().any(bound) {
            return Err(XenError::EEXIST);
        }
        self.open(domain, Channel::Virq(virq))
    }

    pub(super) fn close(&mut self, domain: DomId, port: u32) -> Result<(), XenError> {
        let closed = self.ports.remove(&(domain, port)).ok_or(XenError::EINVAL)?;
        if let Channel::Interdomain(remote, remote_port) = closed.channel
            && let Some(other) = self.ports.get_mut(&(remote, remote_port))
        {
            other.channel = Channel::Unbound(domain);
        }
        Ok(())
    }

    pub(super) fn ports_of(&self, domain: DomId) -> Vec<u32> {
        let own = self.ports.range((domain, 0)..=(domain, u32::MAX));
        own.map(|(&(_, port), _)| port).collect()
    }

    pub(super) fn send(&mut self, domain: DomId, port: u32) -> Result<(), XenError> {
        match self.get(domain, port).ok_or(XenError::EINVAL)? {
            Channel::Interdomain(remote, remote_port) => self.fire(remote, remote_port),
            Channel::Ipi => self.fire(domain, port),
            Channel::Unbound(_) => {}
            Channel::Virq(_) => return Err(XenError::EINVAL),
        }
        Ok(())
    }

    pub(super) fn raise_virq(&mut self, domain: DomId, virq: u32) {
        for port in self.ports_of(domain) {
            if self.get(domain, port) == Some(Channel::Virq(virq)) {
                self.fire(domain, port);
            }
        }
    }

    fn fire(&mut self, domain: DomId, port: u32) {
        if let Some(port) = self.ports.get_mut(&(domain, port)) {
            port.pending = true;
        }
    }

    pub(super) fn get(&self, domain: DomId, port: u32) -> Option<Channel> {
        self.ports.get(&(domain, port)).map(|port| port.channel)
    }

    pub(super) fn is_pending(&self, domain: DomId, port: u32) -> bool {
        self.ports
            .get(&(domain, port))
            .is_some_and(|port| port.pending)
    }

    pub(super) fn take_pending(&mut self, domain: DomId, port: u32) -> bool {
        let port = self.ports.get_mut(&(domain, port));
        port.is_some_and(|port| std::mem::take(&mut port.pending))
    }
}
