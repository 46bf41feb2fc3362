//! Requests: queued, sent, and each answered in time or given up.

use alloc::vec::Vec;

use super::connection::Connection;
use super::wire::{self, Kind, Message};
use super::{Inner, StoreError, XenStore};
use crate::event::EventChannel;
use crate::platform::Platform;
use xen9p_time::Instant;

impl<P: Platform> XenStore<P> {
    /// Makes a request whose payload is a path, and returns the answer's payload.
    pub(super) fn path_request(
        &self,
        kind: Kind,
        transaction: u32,
        path: &str,
    ) -> Result<Vec<u8>, StoreError> {
        let request = self.submit_path(kind, transaction, path)?;
        self.answer(kind, request, self.deadline())
    }

    /// Queues a request whose payload is a path.
    pub(super) fn submit_path(
        &self,
        kind: Kind,
        transaction: u32,
        path: &str,
    ) -> Result<u32, StoreError> {
        wire::check_path(path)?;
        self.submit(kind, transaction, &[path.as_bytes(), b"\0"])
    }

    /// Makes a request, waits for the answer and returns its payload.
    pub(super) fn request(
        &self,
        kind: Kind,
        transaction: u32,
        payload: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let request = self.submit(kind, transaction, payload)?;
        self.answer(kind, request, self.deadline())
    }

    /// Queues a request and returns its number. It leaves when a caller waits for an answer. The kernel's own driver, if it
    /// has one, is asked at once.
    pub(super) fn submit(
        &self,
        kind: Kind,
        transaction: u32,
        payload: &[&[u8]],
    ) -> Result<u32, StoreError> {
        let Some(driver) = self.events().platform().store_driver() else {
            let mut connection = self.inner.connection.borrow_mut();
            return connection.submit(kind, transaction, payload);
        };
        let payload = payload.concat();
        if payload.len() > wire::PAYLOAD_MAX {
            return Err(StoreError::Invalid("path and value are too long together"));
        }
        // Nothing is borrowed while the driver waits.
        let answer = driver.request(kind.0, transaction, &payload)?;
        let mut connection = self.inner.connection.borrow_mut();
        Ok(connection.answered(kind, transaction, answer))
    }

    /// Waits for the answer to a request of this kind and returns its payload.
    pub(super) fn answer(
        &self,
        kind: Kind,
        request: u32,
        deadline: Instant,
    ) -> Result<Vec<u8>, StoreError> {
        let answer = self.wait_until(deadline, |connection| Ok(connection.take_answer(request)));
        match answer {
            Ok(Message { header, payload }) if header.kind == kind => Ok(payload),
            Ok(Message { header, payload }) if header.kind == Kind::ERROR => {
                Err(StoreError::Refused(wire::refusal(&payload)))
            }
            Ok(_) => Err(StoreError::BadAnswer("an answer of the request's kind")),
            Err(error) => {
                self.inner.connection.borrow_mut().abandon(request);
                Err(error)
            }
        }
    }

    /// Waits for the answers to requests of this kind, of which some may not have been made. Every answer is taken before the first
    /// error is returned.
    pub(super) fn answers(
        &self,
        kind: Kind,
        requests: Vec<Result<u32, StoreError>>,
    ) -> Result<(), StoreError> {
        let deadline = self.deadline();
        let mut all = Ok(());
        for request in requests {
            let answer = request.and_then(|request| self.answer(kind, request, deadline));
            all = all.and(answer.map(drop));
        }
        all
    }

    /// When a request that is made now has had its time.
    pub(crate) fn deadline(&self) -> Instant {
        self.events().now() + self.inner.timeout.get()
    }

    /// Waits until `done` has a result.
    pub(super) fn wait_until<T>(
        &self,
        deadline: Instant,
        mut done: impl FnMut(&mut Connection) -> Result<Option<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let events = self.events();
        loop {
            let seen = events.generation();
            self.inner.pump();
            {
                let mut connection = self.inner.connection.borrow_mut();
                if let Some(result) = done(&mut connection)? {
                    return Ok(result);
                }
                connection.check()?;
            }
            if events.now() >= deadline {
                return Err(StoreError::Timeout);
            }
            events.wait(seen, deadline);
        }
    }
}

impl<P: Platform> Inner<P> {
    /// Moves bytes in both directions and tells xenstored if any moved.
    pub(super) fn pump(&self) {
        let moved = self.connection.borrow_mut().pump();
        if moved {
            // Refused only when the port is gone, which a timeout says too.
            let channel = self.channel.borrow();
            let _ = channel.as_ref().map(EventChannel::notify);
        }
    }
}
