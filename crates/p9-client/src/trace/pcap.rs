//! The trace for tshark and Wireshark: a file of packets.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::{Direction, Seen, Traced, Watch};
use crate::transport::{Header, Transport};

/// The most that is kept of a message: names and numbers, not the content of files.
const FRONT: usize = 512;

/// Memory is taken, and given up, in pieces of so many bytes.
const PIECE: usize = 64 << 10;

/// Headers of a record: those of the file format, of IPv4 and of TCP.
const HEADERS: usize = 16 + IP;
const IP: usize = 40;

/// 10.0.0.1 and 10.0.0.2, from a port of one's own to that of 9P.
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const CLIENT_PORT: u16 = 49_152;
const SERVER_PORT: u16 = 564;

/// A capture of 9P messages in memory, in the format of libpcap. Clones are the same capture.
///
/// Each message becomes one packet of a TCP connection to port 564, from which tshark and Wireshark recognise 9P; the
/// headers around it are made up. Of a long message the first 512 bytes are kept, which they show as cut off.
/// When the limit is reached the oldest messages are given up.
///
/// ```
/// use xen9p::p9::trace::Capture;
///
/// let capture = Capture::new(1 << 20, 0);
/// // let fs = Fs::mount(capture.watch(Box::new(transport)), &options)?;
/// assert_eq!(capture.end().concat().len(), 24, "nothing but the header of the file");
/// ```
#[derive(Clone, Debug)]
pub struct Capture {
    store: Rc<RefCell<Store>>,
}

#[derive(Debug)]
struct Store {
    /// Whole records each; the last is being filled.
    pieces: VecDeque<Vec<u8>>,
    most_pieces: usize,
    /// The transport's clock began so many nanoseconds after 1970.
    epoch: u64,
    connections: u16,
    missed: u64,
    on: bool,
}

impl Capture {
    /// An empty capture that takes `limit` bytes of memory at most, 128 KiB at least. `epoch` is what calendar time the
    /// clock of the transports began at, in nanoseconds since 1970; 0 if unknown.
    pub fn new(limit: usize, epoch: u64) -> Self {
        Capture {
            store: Rc::new(RefCell::new(Store {
                pieces: VecDeque::new(),
                most_pieces: (limit / PIECE).max(2),
                epoch,
                connections: 0,
                missed: 0,
                on: true,
            })),
        }
    }

    /// Keeps what passes through `inner` from now on, as one more TCP connection.
    pub fn watch(&self, inner: Box<dyn Transport>) -> Traced<Connection> {
        let mut store = self.store.borrow_mut();
        let number = store.connections;
        store.connections = number.wrapping_add(1);
        Traced::with(
            inner,
            Connection {
                store: self.store.clone(),
                port: CLIENT_PORT + number % 0x4000,
                sent: 1,
                received: 1,
            },
        )
    }

    /// How many messages are not in the capture, because there was no memory for them.
    pub fn missed(&self) -> u64 {
        self.store.borrow().missed
    }

    /// Ends the capture and returns the file that it is, in pieces. What passes later is not kept, such as what it takes
    /// to write the file.
    pub fn end(&self) -> Vec<Vec<u8>> {
        let mut store = self.store.borrow_mut();
        store.on = false;
        let mut file = Vec::from([file_header()]);
        file.extend(core::mem::take(&mut store.pieces));
        file
    }
}

/// Nanoseconds, version 2.4, packets that begin with an IP header.
fn file_header() -> Vec<u8> {
    let mut header = Vec::from(0xa1b2_3c4d_u32.to_le_bytes());
    header.extend([2, 0, 4, 0]);
    header.extend([0; 8]);
    header.extend(((IP + FRONT) as u32).to_le_bytes());
    header.extend(101_u32.to_le_bytes());
    header
}

impl Store {
    /// Where a record of `size` bytes goes; `None`: there is no memory for it.
    fn room(&mut self, size: usize) -> Option<&mut Vec<u8>> {
        let full = |piece: &Vec<u8>| piece.capacity() - piece.len() < size;
        if self.pieces.back().is_none_or(full) {
            let mut piece = match self.pieces.len() < self.most_pieces {
                true => Vec::new(),
                false => self.pieces.pop_front()?,
            };
            self.missed += records(&piece);
            piece.clear();
            if piece.try_reserve_exact(PIECE).is_err() || self.pieces.try_reserve(1).is_err() {
                return None;
            }
            self.pieces.push_back(piece);
        }
        self.pieces.back_mut()
    }
}

/// How many records a piece has.
fn records(piece: &[u8]) -> u64 {
    let mut count = 0;
    let mut rest = piece;
    while let Some((size, _)) = rest.get(8..).and_then(|rest| rest.split_first_chunk()) {
        count += 1;
        let whole = 16 + u32::from_le_bytes(*size) as usize;
        rest = rest.get(whole..).unwrap_or_default();
    }
    count
}

/// One of the connections of a [`Capture`].
#[derive(Debug)]
pub struct Connection {
    store: Rc<RefCell<Store>>,
    port: u16,
    /// The next sequence numbers of TCP, of the client and of the server.
    sent: u32,
    received: u32,
}

impl Connection {
    /// The headers of IPv4 and TCP for a message.
    fn headers(&self, message: &Seen<'_>) -> [u8; IP] {
        let size = message.header.size as usize + IP;
        // As with segmentation offload, where the network card cuts packets: 0 means what there is.
        let total = u16::try_from(size).unwrap_or(0).to_be_bytes();
        let (from, to) = match message.direction {
            Direction::Request => ((CLIENT, self.port, self.sent), (SERVER, SERVER_PORT)),
            Direction::Reply => ((SERVER, SERVER_PORT, self.received), (CLIENT, self.port)),
        };
        let acknowledged = match message.direction {
            Direction::Request => self.received,
            Direction::Reply => self.sent,
        };
        let mut headers = [0; IP];
        let fields: [(usize, &[u8]); 11] = [
            // Version and length of the header; whole; 64 hops; TCP.
            (0, &[0x45]),
            (2, &total),
            (6, &[0x40, 0, 64, 6]),
            (12, &from.0),
            (16, &to.0),
            (20, &from.1.to_be_bytes()),
            (22, &to.1.to_be_bytes()),
            (24, &from.2.to_be_bytes()),
            (28, &acknowledged.to_be_bytes()),
            // Length of the header; push and acknowledge.
            (32, &[0x50, 0x18]),
            (34, &[0xff, 0xff]),
        ];
        for (at, bytes) in fields {
            for (to, from) in headers.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        }
        headers
    }
}

impl Watch for Connection {
    fn wants(&self, _header: &Header) -> Option<usize> {
        self.store.borrow().on.then_some(FRONT)
    }

    fn see(&mut self, message: Seen<'_>) {
        let headers = self.headers(&message);
        let next = match message.direction {
            Direction::Request => &mut self.sent,
            Direction::Reply => &mut self.received,
        };
        *next = next.wrapping_add(message.header.size);
        let mut store = self.store.borrow_mut();
        let nanos = store.epoch.saturating_add(message.at.as_nanos());
        let Some(record) = store.room(HEADERS + message.front.len()) else {
            store.missed += 1;
            return;
        };
        // In seconds until the year 2106.
        for word in [
            (nanos / 1_000_000_000) as u32,
            (nanos % 1_000_000_000) as u32,
            (IP + message.front.len()) as u32,
            (IP as u32).saturating_add(message.header.size),
        ] {
            record.extend(word.to_le_bytes());
        }
        record.extend(headers);
        record.extend(message.front);
    }
}
