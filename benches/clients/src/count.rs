//! What an operation costs beside time: allocations, counted by the allocator, and messages, counted by a relay between the
//! client and the server.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Whether allocations are counted: not while time is taken.
static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator. While [`allocations`] runs its work, it counts what all threads allocate or reallocate.
pub struct Counting;

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: Every method hands its arguments to `System` as they are and returns what it says, so the contract is kept because
// `System` keeps it. Counting works on two static atomics: it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of this same method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of this same method; `at` is from `System`, as all memory of this
        // allocator is.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: The caller keeps the contract of this same method; `at` is from `System`, as all memory of this
        // allocator is.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Does the work, and says how often any thread allocated meanwhile.
pub fn allocations<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    let done = work();
    COUNTING.store(false, Ordering::Relaxed);
    (done, ALLOCATIONS.load(Ordering::Relaxed) - before)
}

/// Finds where messages begin and end in a stream that comes in pieces of any size.
#[derive(Default)]
struct Frames {
    /// The size that the message at hand begins with, as far as it has come.
    size: [u8; 4],
    known: usize,
    /// Bytes of the message that are still to come, once its size is known.
    rest: usize,
}

impl Frames {
    /// Takes in a piece and says how many messages begin in it, and how many end.
    fn take(&mut self, mut piece: &[u8]) -> (u64, u64) {
        let (mut begun, mut ended) = (0, 0);
        while let Some((&first, behind)) = piece.split_first() {
            if self.rest > 0 {
                let taken = self.rest.min(piece.len());
                self.rest -= taken;
                piece = &piece[taken..];
                ended += u64::from(self.rest == 0);
                continue;
            }
            begun += u64::from(self.known == 0);
            self.size[self.known] = first;
            self.known += 1;
            piece = behind;
            if self.known == self.size.len() {
                self.rest = (u32::from_le_bytes(self.size) as usize).saturating_sub(self.known);
                self.known = 0;
            }
        }
        (begun, ended)
    }
}

/// What went through a [`Relay`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Requests.
    pub requests: u64,
    /// How often a request was sent when all before it had been answered: how often one after the other the client waited.
    pub waits: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    waits: AtomicU64,
    answered: AtomicU64,
}

/// A socket that hands everything on to another, and counts.
pub struct Relay {
    socket: PathBuf,
    counters: Arc<Counters>,
}

impl Relay {
    /// Takes connections at `socket` and hands each on to `server`, until the program ends.
    pub fn start(socket: PathBuf, server: &Path) -> io::Result<Relay> {
        let listener = UnixListener::bind(&socket)?;
        let counters = Arc::new(Counters::default());
        let (server, all) = (server.to_owned(), counters.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let served = client.and_then(|client| relay(client, &server, &all));
                if let Err(error) = served {
                    eprintln!("the relay: {error}");
                }
            }
        });
        Ok(Relay { socket, counters })
    }

    /// Where it takes connections.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What all connections have sent.
    pub fn messages(&self) -> Messages {
        Messages {
            requests: self.counters.requests.load(Ordering::SeqCst),
            waits: self.counters.waits.load(Ordering::SeqCst),
        }
    }
}

/// Hands on what comes from both sides, each in a thread of its own. These allocate nothing once they run.
fn relay(client: UnixStream, server: &Path, counters: &Arc<Counters>) -> io::Result<()> {
    let server = UnixStream::connect(server)?;
    let (from_client, to_client) = (client.try_clone()?, client);
    let (from_server, to_server) = (server.try_clone()?, server);
    let counted = counters.clone();
    thread::spawn(move || {
        pass(from_client, to_server, |frames, piece| {
            let (begun, _) = frames.take(piece);
            if begun > 0 {
                let sent = counted.requests.fetch_add(begun, Ordering::SeqCst);
                let idle = sent == counted.answered.load(Ordering::SeqCst);
                counted.waits.fetch_add(u64::from(idle), Ordering::SeqCst);
            }
        });
    });
    let counted = counters.clone();
    thread::spawn(move || {
        pass(from_server, to_client, |frames, piece| {
            let (_, ended) = frames.take(piece);
            counted.answered.fetch_add(ended, Ordering::SeqCst);
        });
    });
    Ok(())
}

/// Counts before it hands on, so that what is sent in answer to a piece is counted behind it.
fn pass(mut from: UnixStream, mut to: UnixStream, mut see: impl FnMut(&mut Frames, &[u8])) {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&mut frames, &buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side may have gone before.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let sizes = [7_usize, 4, 300, 23, 7];
        let bytes: Vec<u8> = sizes
            .iter()
            .flat_map(|&size| {
                let mut message = vec![9; size];
                message[..4].copy_from_slice(&(size as u32).to_le_bytes());
                message
            })
            .collect();
        // 9P has no message of four bytes. It is not seen to end, and the next is found all the same.
        for piece in 1..=bytes.len() {
            let mut frames = Frames::default();
            let (mut begun, mut ended) = (0, 0);
            for piece in bytes.chunks(piece) {
                let (more, done) = frames.take(piece);
                begun += more;
                ended += done;
            }
            assert_eq!((begun, ended), (5, 4), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_burst_is_one_wait() -> io::Result<()> {
        let directory = std::env::temp_dir().join(format!("relay-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let (server, socket) = (directory.join("server"), directory.join("relay"));
        let listener = UnixListener::bind(&server)?;
        let relay = Relay::start(socket, &server)?;
        let mut client = UnixStream::connect(relay.socket())?;
        let (mut serving, _) = listener.accept()?;
        let message = [7, 0, 0, 0, 1, 0, 0];
        let mut three = [0; 21];
        for _ in 0..2 {
            client.write_all(&message.repeat(3))?;
            serving.read_exact(&mut three)?;
            serving.write_all(&three)?;
            client.read_exact(&mut three)?;
        }
        std::fs::remove_dir_all(&directory)?;
        let expected = Messages {
            requests: 6,
            waits: 2,
        };
        assert_eq!(relay.messages(), expected);
        Ok(())
    }
}
