//! The session's end of its transport, while that is here: the driver takes it away to wait in it.

use alloc::boxed::Box;

use super::engine::Engine;
use crate::transport::{Stats, Transport};
use xen9p_time::Instant;

/// While the transport is away nothing arrives and there is no room.
pub(super) struct Link {
    transport: Option<Box<dyn Transport>>,
    /// When its clock was read last.
    clock: Instant,
    /// Its counters, as they were when it was taken away.
    stats: Stats,
}

impl Link {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Link {
            clock: transport.now(),
            stats: Stats::default(),
            transport: Some(transport),
        }
    }

    /// Whether the transport is somewhere else: someone waits in it, or it has been given up.
    pub(super) fn is_away(&self) -> bool {
        self.transport.is_none()
    }

    /// Takes the transport away.
    pub(super) fn take(&mut self) -> Option<Box<dyn Transport>> {
        let transport = self.transport.take()?;
        self.stats = transport.stats();
        Some(transport)
    }

    /// Brings the transport back.
    pub(super) fn put_back(
        &mut self,
        transport: Box<dyn Transport>,
    ) -> &mut (dyn Transport + 'static) {
        &mut **self.transport.insert(transport)
    }

    /// The transport, if it is here.
    pub(super) fn transport(&mut self) -> Option<&mut (dyn Transport + 'static)> {
        self.transport.as_deref_mut()
    }

    /// Its counters.
    pub(super) fn stats(&self) -> Stats {
        self.transport
            .as_ref()
            .map_or(self.stats, |transport| transport.stats())
    }

    /// Its clock; as it was last, while the transport is away.
    pub(super) fn now(&mut self) -> Instant {
        if let Some(transport) = &self.transport {
            self.clock = transport.now();
        }
        self.clock
    }

    /// Does what abandoned requests have left to do.
    pub(super) fn tie_up(&mut self, engine: &mut Engine) {
        if engine.has_loose_ends()
            && let Some(transport) = self.transport()
        {
            engine.tie_up(transport);
        }
    }
}
