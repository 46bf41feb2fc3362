//! Trees that other domains serve by Argo, and the domain's use of it.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::time::Duration;

use super::exports::poll;
use super::shares::{ARGO, ShareError, boxed};
use super::system;
use super::ways::split_tree;
use crate::rt::BarePlatform;
use crate::transport::Transport;
use crate::transport::argo::{self, DialError, parse_address};
use crate::xen::argo::Argo;

/// The domain's use of Argo; from the first use on.
pub(super) fn own() -> Result<Argo<BarePlatform>, DialError> {
    let known = &system().shares.argo;
    if let Some(own) = known.get() {
        return Ok(own.clone());
    }
    let own = Argo::new(&system().xen)?;
    own.on_event(Rc::new(poll));
    Ok(known.get_or_init(|| own).clone())
}

/// Connects to what another domain serves.
pub(super) fn dial(
    address: &str,
    timeout: Duration,
    msize: u32,
) -> Result<Box<dyn Transport>, ShareError> {
    let fails = |error| ShareError::Argo(address.into(), error);
    let (address, _) = split_tree(address);
    let target = address.strip_prefix(ARGO).unwrap_or(address);
    let server = parse_address(target).map_err(fails)?;
    let own = own().map_err(fails)?;
    let stream = argo::connect(&own, server.domain, server.port, msize, timeout).map_err(fails)?;
    Ok(boxed(argo::framed(stream)))
}
