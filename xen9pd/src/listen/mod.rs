//! Serving shares over a socket, without Xen: `xen9pd --listen`.
//!
//! One engine for each connection, and one thread, and more for requests that take long.

mod address;
mod connection;
mod shares;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub use address::{Address, Listener, Stream};
pub use shares::{Shares, parse_share};

use crate::config::Share;
use crate::host::{Directory, HostTree, Ledger, Options, ProcFd, ShareError};
use crate::journal;
use crate::sandbox::{self, Plan, SandboxError};

/// Connections at the same time.
pub const MAX_CONNECTIONS: usize = 64;

/// Descriptors of this process at the same time: more than Linux gives by default (`fs.nr_open`) can't be asked for.
const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Why a socket is not served.
#[derive(Debug)]
pub enum Error {
    /// The address can't be listened on.
    Listen(Address, io::Error),
    /// There is nothing to serve.
    NoShares,
    /// A share can't be served.
    Share(String, ShareError),
    /// The sandbox.
    Sandbox(SandboxError),
    /// Connections can't be taken any more.
    Accept(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Error::NoShares => f.write_str(
                "there is nothing to serve: name a directory with --share, or a file that names some with --config",
            ),
            Error::Share(path, error) => write!(f, "cannot share {path}: {error}"),
            Error::Sandbox(error) => error.fmt(f),
            Error::Accept(error) => write!(f, "cannot take connections any more: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Serves the shares to all who connect. `ready` is called when the first can.
///
/// # Errors
/// [`Error`]; it does not return otherwise.
pub fn run(
    address: &Address,
    shares: &[Share],
    sandboxed: bool,
    ready: impl FnOnce(&Listener),
) -> Result<(), Error> {
    if shares.is_empty() {
        return Err(Error::NoShares);
    }
    let listener =
        Listener::bind(address).map_err(|error| Error::Listen(address.clone(), error))?;
    let trees = open(shares, sandboxed)?;
    let shares = Arc::new(Shares::new(shares, trees));
    ready(&listener);
    let connections = Arc::new(AtomicUsize::new(0));
    for number in 1_u64.. {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_passing(&error) => {
                log::warn!("a connection was lost before it began: {error}");
                // Descriptors come back when a connection ends. Until then, there is no hurry.
                thread::sleep(std::time::Duration::from_millis(100));
                continue;
            }
            Err(error) => return Err(Error::Accept(error)),
        };
        let label = format!("connection {number} ({peer})");
        let place = Place::take(&connections);
        let Some(place) = place else {
            log::warn!("{label}: refused, there are {MAX_CONNECTIONS} connections");
            continue;
        };
        let shares = shares.clone();
        let started = thread::Builder::new().spawn(move || {
            let _place = place;
            journal::set_thread_peer(&label);
            log::info!("connected");
            match connection::serve(stream, (*shares).clone()) {
                Ok(()) => log::info!("disconnected"),
                Err(error) => log::warn!("ended: {error}"),
            }
        });
        if let Err(error) = started {
            log::warn!("a connection was refused, there is no thread for it: {error}");
        }
    }
    Ok(())
}

/// Whether accept(2) may work the next time.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
        )
    )
}

/// One of the connections that there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(connections: &Arc<AtomicUsize>) -> Option<Place> {
        connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < MAX_CONNECTIONS).then_some(count + 1)
            })
            .ok()?;
        Some(Place(connections.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the shares, from within the sandbox if one is configured.
fn open(shares: &[Share], sandboxed: bool) -> Result<Vec<HostTree>, Error> {
    let of = |share: &Share| share.path.display().to_string();
    let opened = shares.iter().map(|share| {
        let directory = Directory::open(&share.path);
        let directory = directory.map_err(|error| Error::Share(of(share), error))?;
        Ok((directory, share.options))
    });
    let directories: Vec<(Directory, Options)> = opened.collect::<Result<_, _>>()?;
    // In the sandbox no files are made.
    let ledgers = shares.iter().map(|share| {
        let ledger = share.options.limits.counts().then(Ledger::private);
        let ledger = ledger.transpose();
        ledger.map_err(|_| Error::Share(of(share), ShareError::Ledger))
    });
    let ledgers: Vec<_> = ledgers.collect::<Result<_, _>>()?;
    let (roots, proc) = if sandboxed {
        let plan = Plan {
            shares: directories,
            max_descriptors: MAX_DESCRIPTORS,
        };
        let entered = sandbox::part(&[]).and_then(|parted| sandbox::enter(plan, parted));
        let entered = entered.map_err(Error::Sandbox)?;
        if !entered.namespaces {
            log::warn!("not run by root: served without name spaces of its own");
        }
        (entered.roots, entered.proc)
    } else {
        let roots = directories
            .into_iter()
            .map(|(directory, _)| directory.into());
        let proc = ProcFd::open()
            .map_err(|error| Error::Share(of(&shares[0]), ShareError::Proc(error)))?;
        (roots.collect(), proc)
    };
    let trees = roots.into_iter().zip(ledgers).zip(shares);
    let trees = trees.map(|((root, ledger), share)| {
        HostTree::new(root, proc.clone(), share.options, ledger)
            .map_err(|error| Error::Share(of(share), error))
    });
    trees.collect()
}
