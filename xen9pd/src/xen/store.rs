//! Xenstore, by the socket of a xenstored that runs in this domain, or else by `/dev/xen/xenbus`, by which Linux passes messages
//! on, with a thread and two event channels more.
//!
//! Relative paths begin at the own domain's directory, as everywhere in xenstore, so that this works in a driver domain too. On
//! the socket, which belongs to no domain, this module puts the directory of domain 0 in front.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use xen_guest::store::Refusal;
use xen_guest::store::wire::{self, Decoder, Header, Kind, Message};

/// Where a xenstored of this domain listens (tools/libs/store/xs.c). It is dom0's: others have it in a domain of its own, or none.
const SOCKET: &str = "/run/xenstored/socket";

/// The directory that relative paths begin at on the socket.
const SOCKET_HOME: &str = "/local/domain/0/";

/// How long xenstored may take for an answer. It answers in less than a millisecond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a transaction is tried that meets others.
const MAX_TRIES: u32 = 100;

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// Xenstored refuses.
    Refused(Refusal),
    /// The connection is of no use any more: the text says why.
    Lost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => write!(f, "xenstore says {}", refusal.name()),
            Error::Lost(how) => write!(f, "lost the connection to xenstore: {how}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Lost(error.to_string())
    }
}

/// What the requests of this module come to.
pub type Result<T> = std::result::Result<T, Error>;

/// `None` for a node that is not there, or that a driver domain can't see: xenstore tells it of no other domain's nodes that are
/// gone.
trait Optional<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::Refused(Refusal::NotFound | Refusal::Access)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What passes messages: Linux, or a test.
pub trait Channel: Read + Write + AsFd {}

impl<T: Read + Write + AsFd> Channel for T {}

/// A connection to xenstored.
pub struct Store<C = File> {
    channel: C,
    /// What stands in front of relative paths on the wire.
    home: &'static str,
    decoder: Decoder,
    /// Events that came while an answer was waited for: path and token.
    events: VecDeque<(String, String)>,
    watches: BTreeSet<(String, String)>,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// This is no domain of Xen's with a xenstore, or the process may not open it.
    pub fn open() -> io::Result<Store> {
        // A socket may be left of a xenstored that was there once.
        if let Ok(socket) = UnixStream::connect(SOCKET) {
            return Ok(Store::on(OwnedFd::from(socket).into(), SOCKET_HOME));
        }
        Ok(Store::on(super::open("xenbus", OFlags::empty())?, ""))
    }
}

impl<C: Channel> Store<C> {
    fn on(channel: C, home: &'static str) -> Store<C> {
        Store {
            channel,
            home,
            decoder: Decoder::default(),
            events: VecDeque::new(),
            watches: BTreeSet::new(),
        }
    }

    /// A path as it stands on the wire.
    fn full(&self, path: &str) -> Vec<u8> {
        let home = match path.starts_with(['/', '@']) {
            true => "",
            false => self.home,
        };
        [home.as_bytes(), path.as_bytes(), b"\0"].concat()
    }

    /// Readable when an event may have come. [`event`](Self::event) has to have said that there is none before this is
    /// waited for.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// How many watches there are.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    /// The value of a node, or nothing if there is none.
    ///
    /// # Errors
    /// As all requests: xenstored refuses, or does not answer.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        self.read_in(0, path)
    }

    fn read_in(&mut self, transaction: u32, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.request(Kind::READ, transaction, &[&self.full(path)]);
        answer.optional()
    }

    /// The value of a node as text; what is no UTF-8 is replaced.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn text(&mut self, path: &str) -> Result<Option<String>> {
        let value = self.read(path)?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// The number in a node, or nothing if there is none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn number(&mut self, path: &str) -> Result<Option<u32>> {
        let value = self.read(path)?;
        let number = value.and_then(|value| wire::decimal(&value));
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// The names of the nodes in a node, or nothing if it is not there.
    ///
    /// # Errors
    /// As [`read`](Self::read). A listing that does not fit into a message is refused (E2BIG).
    pub fn directory(&mut self, path: &str) -> Result<Option<Vec<String>>> {
        let answer = self.request(Kind::DIRECTORY, 0, &[&self.full(path)]);
        let Some(names) = answer.optional()? else {
            return Ok(None);
        };
        let names = wire::strings(&names).filter(|name| !name.is_empty());
        Ok(Some(
            names
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
        ))
    }

    /// Writes a node, making it and what is above it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(&mut self, path: &str, value: &str) -> Result<()> {
        self.write_in(0, path, value)
    }

    fn write_in(&mut self, transaction: u32, path: &str, value: &str) -> Result<()> {
        let parts = [&self.full(path)[..], value.as_bytes()];
        self.request(Kind::WRITE, transaction, &parts).map(drop)
    }

    /// Removes a node and all below; one that is not there is fine.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn remove(&mut self, path: &str) -> Result<()> {
        self.request(Kind::RM, 0, &[&self.full(path)])
            .optional()
            .map(drop)
    }

    /// Does what `work` does in a transaction: all or nothing, and no other client comes in between. `work` may be called several
    /// times; the transaction is given up when it returns `None`.
    ///
    /// # Errors
    /// As [`read`](Self::read); EAGAIN when others came in between again and again.
    pub fn transaction<T>(
        &mut self,
        mut work: impl FnMut(&mut Transaction<'_, C>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for _ in 0..MAX_TRIES {
            let answer = self.request(Kind::TRANSACTION_START, 0, &[b"\0"])?;
            let Some(number) = wire::transaction(&answer) else {
                return Err(Error::Lost("a transaction has no number".into()));
            };
            let done = work(&mut Transaction {
                store: self,
                number,
            });
            let keep = matches!(done, Ok(Some(_)));
            let verdict: &[u8] = if keep { b"T\0" } else { b"F\0" };
            match self.request(Kind::TRANSACTION_END, number, &[verdict]) {
                Err(Error::Refused(Refusal::Again)) if keep => continue,
                // What went wrong inside says more.
                Err(error) if keep => return Err(error),
                _ => return done,
            }
        }
        Err(Error::Refused(Refusal::Again))
    }

    /// Whether there is a domain of this number, and it is not about to go.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn is_alive(&mut self, domain: u16) -> Result<bool> {
        let number = format!("{domain}\0");
        let kind = Kind(xen_abi::XS_IS_DOMAIN_INTRODUCED);
        let answer = self.request(kind, 0, &[number.as_bytes()])?;
        Ok(answer.starts_with(b"T"))
    }

    /// Watches a node and all below. An event comes at once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn watch(&mut self, path: &str, token: &str) -> Result<()> {
        let parts = [&self.full(path)[..], token.as_bytes(), b"\0"];
        self.request(Kind::WATCH, 0, &parts)?;
        self.watches.insert((path.to_owned(), token.to_owned()));
        Ok(())
    }

    /// Ends a watch; one that is not there is fine.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<()> {
        if self.watches.remove(&(path.to_owned(), token.to_owned())) {
            let parts = [&self.full(path)[..], token.as_bytes(), b"\0"];
            self.request(Kind::UNWATCH, 0, &parts).optional()?;
            self.events.retain(|(_, of): &(String, String)| of != token);
        }
        Ok(())
    }

    /// The next event of a watch, its path and its token, if one has come.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn event(&mut self) -> Result<Option<(String, String)>> {
        while self.events.is_empty() && self.readable(Duration::ZERO)? {
            self.receive()?;
        }
        Ok(self.events.pop_front())
    }

    fn readable(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut files = [PollFd::new(&self.channel, PollFlags::IN)];
            match poll(&mut files, Some(&left)) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Makes a request and waits for the answer.
    fn request(&mut self, kind: Kind, transaction: u32, parts: &[&[u8]]) -> Result<Vec<u8>> {
        let payload = parts.concat();
        if payload.len() > wire::PAYLOAD_MAX {
            return Err(Error::Refused(Refusal::TooBig));
        }
        let header = Header {
            kind,
            request: 0,
            transaction,
            length: payload.len() as u32,
        };
        let message = [&header.encode()[..], &payload].concat();
        self.channel.write_all(&message)?;
        loop {
            if !self.readable(ANSWER_TIMEOUT)? {
                return Err(Error::Lost(format!(
                    "xenstored does not answer for {} s",
                    ANSWER_TIMEOUT.as_secs()
                )));
            }
            if let Some(answer) = self.receive()? {
                return match answer.header.kind {
                    Kind::ERROR => Err(Error::Refused(wire::refusal(&answer.payload))),
                    _ => Ok(answer.payload),
                };
            }
        }
    }

    /// Reads what is there: events are kept, and the answer to a request is returned. There is at most one, as requests
    /// are made one after the other.
    fn receive(&mut self) -> Result<Option<Message>> {
        let mut buffer = [0; 4096];
        let count = match self.channel.read(&mut buffer) {
            Ok(0) => return Err(Error::Lost("it was closed".into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut input = &buffer[..count];
        let mut answer = None;
        while !input.is_empty() {
            let message = self.decoder.feed(&mut input);
            let Some(message) = message.map_err(|error| Error::Lost(error.to_string()))? else {
                break;
            };
            if message.header.kind != Kind::WATCH_EVENT {
                answer = Some(message);
            } else if let Some((path, token)) = wire::watch_event(&message.payload) {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let path = path.strip_prefix(self.home.as_bytes()).unwrap_or(path);
                self.events.push_back((text(path), text(token)));
            }
        }
        Ok(answer)
    }
}

/// A transaction under way.
pub struct Transaction<'a, C = File> {
    store: &'a mut Store<C>,
    number: u32,
}

impl<C: Channel> Transaction<'_, C> {
    /// The value of a node, or nothing if there is none.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        self.store.read_in(self.number, path)
    }

    /// Writes a node.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn write(&mut self, path: &str, value: &str) -> Result<()> {
        self.store.write_in(self.number, path, value)
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
