//! An endpoint: the engine, what makes streams for it, and the stream that there is.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::bulk::Bulk;
use super::engine::Engine;
use super::event::Event;
use super::resources::Resources;
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::stream::ByteStream;

/// How often the stream is looked at in one [`Endpoint::poll`]: another side that does not stop talking is given a break.
const ROUNDS: usize = 64;

/// Makes streams to one other endpoint, one after the other. This is an endpoint's address.
pub trait Connector {
    /// What it makes.
    type Stream: ByteStream;
    /// Why it could not.
    type Error: fmt::Display;

    /// A stream to the other side, if one can be had now. Does not wait for the other side.
    ///
    /// # Errors
    /// It will be tried again.
    fn connect(&mut self) -> Result<Option<Self::Stream>, Self::Error>;

    /// The clock of the streams.
    fn now(&self) -> Instant;

    /// When [`connect`](Self::connect) has something to do again even if nothing happens before.
    fn next_check(&self) -> Instant;

    /// Blocks until `connect` may have something to do, or `deadline` has passed.
    fn wait(&mut self, deadline: Instant);

    /// Looks after a stream for a program that does not wait in it: asks that the program be woken when there is something to
    /// read or, if `write`, room to write. Whether there is by now.
    ///
    /// # Errors
    /// The stream is over; what came before can still be read.
    fn tend(stream: &mut Self::Stream, write: bool) -> Result<bool, TransportError> {
        let _ = (stream, write);
        Ok(false)
    }

    /// When [`tend`](Self::tend) has something to do again even if nothing happens before.
    fn next_tend(stream: &Self::Stream) -> Instant {
        let _ = stream;
        Instant::NEVER
    }
}

/// One end of a connection between two programs, for good: streams come and go under it. What can be done with it, it has
/// from the [`Engine`].
///
/// Nothing blocks but [`wait`](Self::wait) and [`next`](Self::next). Dropping it closes the stream; [`destroy`](Engine::destroy)
/// tells the other side before.
pub struct Endpoint<C: Connector, B: Bulk> {
    engine: Engine<B>,
    connector: C,
    stream: Option<C::Stream>,
    obstacle: Option<C::Error>,
}

impl<C: Connector, B: Bulk> fmt::Debug for Endpoint<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("connects", &self.engine.connects())
            .field("connected", &self.engine.is_connected())
            .finish_non_exhaustive()
    }
}

impl<C: Connector, B: Bulk> Deref for Endpoint<C, B> {
    type Target = Engine<B>;

    fn deref(&self) -> &Engine<B> {
        &self.engine
    }
}

impl<C: Connector, B: Bulk> DerefMut for Endpoint<C, B> {
    fn deref_mut(&mut self) -> &mut Engine<B> {
        &mut self.engine
    }
}

impl<C: Connector, B: Bulk> Endpoint<C, B> {
    /// An endpoint at an address. Can't fail, and allocates nothing: the connection is made later.
    pub fn new(resources: Resources<B>, connector: C, bulk: B) -> Self {
        Endpoint {
            engine: Engine::new(resources, bulk, connector.now()),
            connector,
            stream: None,
            obstacle: None,
        }
    }

    /// Why the last attempt to make a stream failed.
    pub fn obstacle(&self) -> Option<&C::Error> {
        self.obstacle.as_ref()
    }

    /// The stream, if there is one.
    pub fn stream(&self) -> Option<&C::Stream> {
        self.stream.as_ref()
    }

    /// Does what can be done now: makes a stream, takes in what has come, sends what is submitted. Take the
    /// [events](Engine::next_event) after it.
    pub fn poll(&mut self) {
        self.engine.tick(self.connector.now());
        self.drop_stream();
        if self.stream.is_none() && self.engine.wants_link() {
            match self.connector.connect() {
                Ok(Some(stream)) => {
                    (self.stream, self.obstacle) = (Some(stream), None);
                    self.engine.open();
                }
                Ok(None) => self.obstacle = None,
                Err(error) => self.obstacle = Some(error),
            }
        }
        if let Some(Err(error)) = self
            .stream
            .as_mut()
            .map(|s| exchange::<C, B>(&mut self.engine, s))
        {
            self.engine.lost(error.into());
        }
        self.drop_stream();
    }

    /// Closes a stream that the engine has given up.
    fn drop_stream(&mut self) {
        if !self.engine.has_link()
            && let Some(mut stream) = self.stream.take()
        {
            stream.close();
        }
    }

    /// When [`poll`](Self::poll) has something to do again even if nothing happens before.
    pub fn next_check(&self) -> Instant {
        let stream = match &self.stream {
            Some(stream) => C::next_tend(stream),
            None if self.engine.wants_link() => self.connector.next_check(),
            None => Instant::NEVER,
        };
        stream.min(self.engine.next_wakeup())
    }

    /// Blocks until [`poll`](Self::poll) may have something to do, or `deadline` has passed.
    pub fn wait(&mut self, deadline: Instant) {
        let deadline = deadline.min(self.next_check());
        match &mut self.stream {
            Some(stream) => {
                if let Err(error) = pump(&mut self.engine, stream)
                    .and_then(|_| stream.flush())
                    .and_then(|()| stream.wait(self.engine.has_output(), deadline))
                {
                    // What came before it can still be read: the next look meets the end.
                    log::debug!("idc: {error}");
                }
            }
            None => self.connector.wait(deadline),
        }
    }

    /// The next event, waited for until `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Option<Event> {
        loop {
            self.poll();
            let event = self.engine.next_event();
            if event.is_some() || self.connector.now() >= deadline {
                return event;
            }
            self.wait(deadline);
        }
    }

    /// The memory, for another endpoint. `None` before [`Event::Destroyed`]: then the endpoint is gone, and its memory, too.
    pub fn into_resources(self) -> Option<Resources<B>> {
        self.engine.into_resources()
    }
}

/// Sends what there is, as far as there is room. Whether anything went.
fn pump<B: Bulk>(
    engine: &mut Engine<B>,
    stream: &mut impl ByteStream,
) -> Result<bool, TransportError> {
    let mut any = false;
    while let Some(bytes) = engine.output() {
        match stream.write(bytes)? {
            0 => break,
            count => engine.sent(count),
        }
        any = true;
    }
    Ok(any)
}

/// Takes in what has come and sends what there is, until neither side has more at the moment.
fn exchange<C: Connector, B: Bulk>(
    engine: &mut Engine<B>,
    stream: &mut C::Stream,
) -> Result<(), TransportError> {
    for _ in 0..ROUNDS {
        let read = stream.read(engine.space())?;
        engine.received(read);
        if !engine.has_link() {
            break;
        }
        // An end that writing meets is met by reading, too, after what came before it.
        let sent = pump(engine, stream).unwrap_or(false);
        if read == 0 && !sent {
            let _ = stream.flush();
            if !C::tend(stream, engine.has_output()).unwrap_or(true) {
                break;
            }
        }
    }
    let _ = stream.flush();
    Ok(())
}
