//! What other domains serve, by vchans.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use xen9p::errno::Errno;
use xen9p::hypercall::DomId;
use xen9p::transport::Transport;
use xen9p::transport::vchan::{self, VchanError};
use xen9p::xen::Xen;
use xen9p::xen::grant::MapError;

use crate::error::{Fail, Result};
use crate::mount::connect::{Connected, RECONNECT_TIMEOUT};
use crate::platform::{Kernel, known_memory, table};

/// What one message may take, as a share of the kernel's memory.
const MESSAGE_SHARE: usize = 64;

/// What begins each address.
const PREFIX: &str = "vchan!";

impl From<VchanError> for Fail {
    fn from(error: VchanError) -> Self {
        let errno = match error {
            VchanError::Address(_) | VchanError::LongPath(_) | VchanError::Own => Errno::EINVAL,
            VchanError::NotPublished(_) | VchanError::Busy(_) | VchanError::Changed => {
                Errno::ETIMEDOUT
            }
            VchanError::NotPermitted => Errno::EACCES,
            VchanError::Memory(_)
            | VchanError::Map(MapError::NoMemory | MapError::NoWindow(_) | MapError::Limit(_)) => {
                Errno::ENOMEM
            }
            VchanError::BadNode(_) | VchanError::Orders(..) | VchanError::BadPage(_) => {
                Errno::EPROTO
            }
            _ => Errno::EIO,
        };
        Fail::new(errno, error)
    }
}

/// The domain and the name in an address.
pub(crate) fn parse(address: &str) -> Result<(DomId, &str)> {
    let target = address.strip_prefix(PREFIX);
    let target = target.ok_or(VchanError::Address("it does not begin with vchan!"))?;
    Ok(vchan::parse_address(target)?)
}

/// An address, and the tree that is named behind it.
fn split_tree(address: &str) -> (&str, &str) {
    let mark = address.match_indices('!').nth(2);
    mark.map_or((address, ""), |(at, _)| {
        (&address[..at], &address[at + 1..])
    })
}

/// Connects to what another domain serves.
pub(crate) async fn connect(
    xen: Xen<Kernel>,
    address: &str,
    timeout: Duration,
) -> Result<Connected> {
    let (address, tree) = split_tree(address);
    let (server, name) = parse(address)?;
    if table(|table| table.alloc_window.is_none()).unwrap_or(true) {
        return Err(Fail::new(
            Errno::EOPNOTSUPP,
            "the kernel has no callback alloc_window, and a vchan's client maps pages of its server's",
        ));
    }
    let most = known_memory() / MESSAGE_SHARE;
    let message = vchan::DEFAULT_MESSAGE.min(most as u32).max(8192);
    let name = String::from(name);
    let transport = move |stream| Box::new(vchan::framed(stream, message)) as Box<dyn Transport>;
    let stream = vchan::connect_async(&xen, server, &name, timeout).await?;
    let timeout = timeout.min(RECONNECT_TIMEOUT);
    Ok(Connected {
        transport: transport(stream),
        again: Box::new(move || {
            let stream = vchan::connect(&xen, server, &name, timeout);
            stream.ok().map(transport)
        }),
        tree: tree.into(),
        disconnect: true,
    })
}
