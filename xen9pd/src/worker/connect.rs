//! Maps what a frontend offers.

use std::fmt;
use std::io;
use std::sync::Arc;

use xen_guest::shared::SharedMemory;
use xen_guest::xenbus::backend::ring;

use crate::xen::evtchn::{EventChannel, Events};
use crate::xen::gntdev::Mapping;
use crate::xen::ring::{MAX_ORDER, Memory};

/// A ring that is mapped and bound.
pub struct Ring {
    /// Its memory.
    pub memory: Memory,
    /// Its event channel.
    pub channel: Box<dyn Events>,
}

/// Why a ring can't be had.
#[derive(Debug)]
pub enum Fault {
    /// Its index page can't be mapped.
    Interface(u32, io::Error),
    /// Its order is none.
    Order(u32),
    /// Its pages of data can't be mapped.
    Data(io::Error),
    /// Its event channel can't be bound.
    Channel(u32, io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Interface(reference, error) => {
                write!(f, "cannot map its index page, grant {reference}: {error}")
            }
            Fault::Order(order) => write!(
                f,
                "its index page says that it has 2^{order} pages, between 2^1 and 2^{MAX_ORDER} are possible"
            ),
            Fault::Data(error) => write!(f, "cannot map its pages of data: {error}"),
            Fault::Channel(port, error) => {
                write!(f, "cannot bind its event channel {port}: {error}")
            }
        }
    }
}

/// Maps a ring of a domain's and binds its event channel.
///
/// # Errors
/// A [`Fault`]; nothing is mapped or bound then.
pub fn ring(domain: u16, reference: u32, port: u32) -> Result<Ring, Fault> {
    let interface =
        Mapping::new(domain, &[reference]).map_err(|error| Fault::Interface(reference, error))?;
    // SAFETY: the page is mapped as long as `interface` lives, and this process accesses it atomically.
    let page = unsafe { SharedMemory::new(interface.address(), interface.size()) };
    let references = ring::references(page, MAX_ORDER).map_err(Fault::Order)?;
    let references: Vec<u32> = references.iter().map(|reference| reference.0).collect();
    let order = references.len().ilog2();
    let data = Mapping::new(domain, &references).map_err(Fault::Data)?;
    let channel = EventChannel::bind(domain, port).map_err(|error| Fault::Channel(port, error))?;
    if let Err(error) = channel.restrict(domain) {
        log::debug!("cannot restrict the descriptor of an event channel: {error}");
    }
    if let Err(error) = interface.notify_at_unmap(&channel) {
        log::debug!("cannot have an event sent when the ring is unmapped: {error}");
    }
    let (at, data_at) = (interface.address(), data.address());
    // SAFETY: both mappings live as long as the last part of the ring does, are made for it, and nothing else in this
    // process knows their addresses.
    let memory = unsafe { Memory::new(at, data_at, order, Arc::new((interface, data))) };
    Ok(Ring {
        memory,
        channel: Box::new(channel),
    })
}
