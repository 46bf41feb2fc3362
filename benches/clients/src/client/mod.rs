//! What is asked of a client, and the clients. Each does it the fastest way that its public functions allow.

mod directory;
mod ninep_async;
mod ninep_sync;
mod ours;
mod plan9_conn;

use std::fmt::Display;
use std::path::Path;

use p9_client::Dialect;

pub use directory::{Directory, V9fs};

/// Why something was not done.
#[derive(Debug)]
pub enum Failed {
    /// The client has no way to do it.
    Cannot(&'static str),
    /// It has, and that failed.
    Error(String),
}

/// What comes of doing something.
pub type Done<T> = Result<T, Failed>;

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Failed::Error(error.to_string())
    }
}

/// What a library says of a failure.
fn said(error: impl Display) -> Failed {
    Failed::Error(error.to_string())
}

/// Fails where a library gave fewer bytes than asked for.
fn whole(count: usize, wanted: usize) -> Done<()> {
    match count == wanted {
        true => Ok(()),
        false => Err(Failed::Error(format!("{count} bytes of {wanted}"))),
    }
}

/// The name of a file that is not there.
pub struct New<'a> {
    /// The directory that it would be in.
    pub directory: &'a str,
    /// Its name there.
    pub name: &'a str,
    /// Both.
    pub path: &'a str,
}

/// A client with a connection, and one file open at most. Paths have no slash in front.
pub trait Client {
    /// The size of what a path names, which is not remembered from before.
    fn stat(&mut self, path: &str) -> Done<u64>;

    /// The size of a file, where the client keeps what it needs to ask for it again.
    fn stat_held(&mut self) -> Done<u64>;

    /// The whole content of a small file, which fits into the buffer; how many bytes.
    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize>;

    /// Opens a file to be read, or written; another one is closed.
    fn open(&mut self, path: &str, write: bool) -> Done<()>;

    /// Fills the buffer with what comes next in the open file.
    fn read_next(&mut self, into: &mut [u8]) -> Done<()>;

    /// Fills the buffer from a place in the open file on.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()>;

    /// Writes all at a place in the open file.
    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()>;

    /// Closes the open file.
    fn close(&mut self) -> Done<()>;

    /// Makes a file with this content, and removes it.
    fn make_and_remove(&mut self, new: &New<'_>, content: &[u8]) -> Done<()>;

    /// How many entries a directory has, by a listing of their names.
    fn list(&mut self, directory: &str) -> Done<usize>;

    /// The same, and the sum of their sizes.
    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)>;
}

/// A client that can be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// p9-client, in 9P2000.L.
    Ours,
    /// The same, in 9P2000.
    OursPlan9,
    /// The blocking client of `ninep`.
    NinepSync,
    /// The asynchronous one, on one thread.
    NinepAsync,
    /// `plan9`.
    Plan9,
}

impl Kind {
    /// Ours first, then the others.
    pub const ALL: [Kind; 5] = [
        Kind::Ours,
        Kind::OursPlan9,
        Kind::NinepSync,
        Kind::NinepAsync,
        Kind::Plan9,
    ];

    /// What it is called in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Ours => "p9-client",
            Kind::OursPlan9 => "p9-client, 9P2000",
            Kind::NinepSync => "ninep",
            Kind::NinepAsync => "ninep, tokio",
            Kind::Plan9 => "plan9",
        }
    }

    /// A new connection to the server at a socket.
    pub fn connect(self, socket: &Path) -> Done<Box<dyn Client>> {
        Ok(match self {
            Kind::Ours => Box::new(ours::Ours::connect(socket, Dialect::Linux)?),
            Kind::OursPlan9 => Box::new(ours::Ours::connect(socket, Dialect::Plan9)?),
            Kind::NinepSync => Box::new(ninep_sync::Ninep::connect(socket)?),
            Kind::NinepAsync => Box::new(ninep_async::Ninep::connect(socket)?),
            Kind::Plan9 => Box::new(plan9_conn::Plan9::connect(socket)?),
        })
    }
}
