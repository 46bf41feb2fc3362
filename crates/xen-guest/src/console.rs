//! The domain's console: the byte rings that xenconsoled or QEMU serves (public/io/console.h).
//!
//! [`Console`] is for a running program; [`emergency_write`] and [`emergency_drain`] are for a
//! panic, when nothing else can be trusted. None of them waits for ever when the console is not read.
//!
//! ```
//! use core::fmt::Write;
//! use core::time::Duration;
//!
//! use xen_guest::console::{Console, ConsoleError};
//! use xen_guest::event::Events;
//! use xen_guest::platform::Platform;
//!
//! /// Greets, and waits a second at most for the greeting to be read.
//! fn greet<P: Platform>(events: &Events<P>) -> Result<bool, ConsoleError> {
//!     let mut console = Console::open(events)?;
//!     // Never fails: what there is no room for is counted as dropped.
//!     let _ = writeln!(console, "up for {} ns", events.now().as_nanos());
//!     Ok(console.drain(events.now() + Duration::from_secs(1)))
//! }
//! ```

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::mem::offset_of;
use core::time::Duration;

use super::event::{EventChannel, Events, Port};
use super::ring::{Consumer, InvalidIndex, Producer};
use super::shared::SharedMemory;
use crate::hypercall::event_channel;
use crate::platform::{Claim, InUse, MappedRing, Platform, Resource};
use xen_abi::xencons_interface;
use xen9p_time::Instant;

/// How long a write waits for room until it drops the rest. A reader needs far less; after
/// the first time in vain no write waits until the reader moves again.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

const IN_SIZE: u32 = 1024;
const OUT_SIZE: u32 = 2048;

/// The two rings in a console page (public/io/console.h), taken over where they stand.
fn rings(page: SharedMemory<'static>) -> (Producer<'static>, Consumer<'static>) {
    /// The offset of a field.
    macro_rules! at {
        ($field:ident) => {
            offset_of!(xencons_interface, $field)
        };
    }
    let output = page.subslice(at!(out), OUT_SIZE as usize);
    let input = page.subslice(at!(in_), IN_SIZE as usize);
    (
        Producer::new(output, page.word(at!(out_prod)), page.word(at!(out_cons))),
        Consumer::new(input, page.word(at!(in_cons)), page.word(at!(in_prod))),
    )
}

/// Why there is no [`Console`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The domain has no console ring.
    Missing,
    /// Another `Console` of this domain exists.
    InUse(InUse),
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsoleError::Missing => f.write_str("this domain has no console ring"),
            ConsoleError::InUse(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConsoleError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ConsoleError::Missing => None,
            ConsoleError::InUse(error) => Some(error),
        }
    }
}

/// A console that is read and written. Clones are the same console.
pub struct Console<P: Platform> {
    inner: Rc<Inner<P>>,
}

struct Inner<P: Platform> {
    events: Events<P>,
    channel: RefCell<EventChannel<P>>,
    output: RefCell<Producer<'static>>,
    input: RefCell<Consumer<'static>>,
    /// The last write waited in vain: don't wait again before there is room.
    stalled: Cell<bool>,
    dropped: Cell<u64>,
    /// Makes this the only console of the domain.
    _claim: Claim<P>,
}

impl<P: Platform> Clone for Console<P> {
    fn clone(&self) -> Self {
        Console {
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<P: Platform> fmt::Debug for Console<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("port", &self.inner.channel.borrow().port())
            .field("dropped", &self.dropped())
            .finish()
    }
}

impl<P: Platform> Console<P> {
    /// Takes the domain's console over.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn open(events: &Events<P>) -> Result<Self, ConsoleError> {
        let platform = events.platform();
        let ring = MappedRing::console(platform).ok_or(ConsoleError::Missing)?;
        let claim = Claim::new(platform, Resource::ConsoleRing).map_err(ConsoleError::InUse)?;
        let (output, input) = rings(ring.page);
        let in_use = |_| ConsoleError::InUse(InUse(Resource::ConsoleRing));
        Ok(Console {
            inner: Rc::new(Inner {
                _claim: claim,
                events: events.clone(),
                channel: RefCell::new(events.adopt(ring.port).map_err(in_use)?),
                output: RefCell::new(output),
                input: RefCell::new(input),
                stalled: Cell::new(false),
                dropped: Cell::new(0),
            }),
        })
    }

    /// What is behind it: after the domain was resumed elsewhere, what is there.
    fn inner(&self) -> &Inner<P> {
        let inner = &*self.inner;
        if inner.channel.borrow().is_stale()
            && let Some(ring) = MappedRing::console(inner.events.platform())
            && let Ok(channel) = inner.events.adopt(ring.port)
        {
            let (output, input) = rings(ring.page);
            inner.output.replace(output);
            inner.input.replace(input);
            inner.stalled.set(false);
            drop(inner.channel.replace(channel));
        }
        inner
    }

    /// Bytes that were dropped because they were not read in time.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.get()
    }

    /// Writes bytes as they are. Waits for room as long as [`WRITE_TIMEOUT`] says, then drops and counts
    /// the rest.
    pub fn write(&self, mut bytes: &[u8]) {
        let inner = self.inner();
        let events = &inner.events;
        let mut deadline = events.now() + WRITE_TIMEOUT;
        while !bytes.is_empty() {
            let pushed = match self.push(bytes) {
                Ok(pushed) => pushed,
                // The console can't tell of its own fault, and nothing can be repaired here.
                Err(InvalidIndex) => break,
            };
            if pushed > 0 {
                bytes = &bytes[pushed..];
                inner.stalled.set(false);
                deadline = events.now() + WRITE_TIMEOUT;
            } else if inner.stalled.get() || events.now() >= deadline {
                inner.stalled.set(true);
                break;
            } else {
                self.wait(deadline);
            }
        }
        let dropped = inner.dropped.get() + bytes.len() as u64;
        inner.dropped.set(dropped);
    }

    /// Writes text, each line feed as carriage return and line feed, as a terminal wants it.
    pub fn write_text(&self, text: &str) {
        write_lines(text, |bytes| self.write(bytes));
    }

    /// Pushes what fits, and tells the reader.
    fn push(&self, bytes: &[u8]) -> Result<usize, InvalidIndex> {
        let pushed = self.inner.output.borrow_mut().push(bytes)?;
        if pushed > 0 {
            self.notify();
        }
        Ok(pushed)
    }

    /// Waits for an event on the console's port. No handler runs meanwhile: a handler may write.
    fn wait(&self, deadline: Instant) {
        let channel = self.inner.channel.borrow();
        let platform = channel.events().platform();
        if !channel.take_pending() {
            platform.wait(&[channel.port()], deadline);
            channel.take_pending();
        }
    }

    fn notify(&self) {
        // Refused only when the port is gone; then the reader is, too.
        let _ = self.inner.channel.borrow().notify();
    }

    /// Copies input that has arrived to the start of `into` and returns how much it was. Never
    /// blocks. To wait for input, wait for events; see [`event`](super::event).
    pub fn read(&self, into: &mut [u8]) -> usize {
        // A reader can't do anything about a console that lies but see no input.
        let count = self.inner().input.borrow_mut().pull(into).unwrap_or(0);
        if count > 0 {
            self.notify();
        }
        count
    }

    /// Waits until everything was read or `deadline` has passed, and says which.
    pub fn drain(&self, deadline: Instant) -> bool {
        let inner = self.inner();
        let events = &inner.events;
        loop {
            match inner.output.borrow().room() {
                Ok(OUT_SIZE) => return true,
                Ok(_) if events.now() < deadline => {}
                _ => return false,
            }
            self.wait(deadline);
        }
    }
}

impl<P: Platform> fmt::Write for Console<P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_text(text);
        Ok(())
    }
}

/// Hands `text` to `write` in pieces, with a carriage return in front of each line feed.
fn write_lines(text: &str, mut write: impl FnMut(&[u8])) {
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                write(line.as_bytes());
                write(b"\r\n");
            }
            None => write(line.as_bytes()),
        }
    }
}

/// Writes text to the domain's console from a panic: uses nothing but the ring and the platform, allocates nothing,
/// borrows nothing, and waits `timeout` at most. Nothing happens in a domain without a console ring.
///
/// A [`Console`] does not know of what is written here: the next that it writes overwrites the text.
pub fn emergency_write<P: Platform>(platform: &P, text: &str, timeout: Duration) {
    let Some(ring) = MappedRing::console(platform) else {
        return;
    };
    // Our own index is read from shared memory here; a reader that moved it garbles its own console.
    let (mut output, _) = rings(ring.page);
    let deadline = platform.now() + timeout;
    write_lines(text, |mut bytes| {
        while !bytes.is_empty() {
            let Ok(pushed) = output.push(bytes) else {
                return;
            };
            if pushed > 0 {
                let _ = event_channel::send(platform, ring.port);
            }
            bytes = &bytes[pushed..];
            if !bytes.is_empty() && !emergency_wait(platform, ring.port, deadline) {
                return;
            }
        }
    });
}

/// Waits until everything on the domain's console was read, `timeout` at most, by the means of [`emergency_write`]. Says
/// whether it was.
pub fn emergency_drain<P: Platform>(platform: &P, timeout: Duration) -> bool {
    let Some(ring) = MappedRing::console(platform) else {
        return true;
    };
    let (output, _) = rings(ring.page);
    let deadline = platform.now() + timeout;
    loop {
        match output.room() {
            Ok(OUT_SIZE) => return true,
            Err(InvalidIndex) => return false,
            Ok(_) => {}
        }
        if !emergency_wait(platform, ring.port, deadline) {
            return false;
        }
    }
}

/// Waits for the console's reader. `false` when the time is over.
fn emergency_wait<P: Platform>(platform: &P, port: Port, deadline: Instant) -> bool {
    if platform.now() >= deadline {
        return false;
    }
    if !platform.take_pending(port) {
        platform.wait(&[port], deadline);
        platform.take_pending(port);
    }
    true
}
