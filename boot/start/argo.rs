//! Trees that other domains serve by Argo, and those that are served to them so.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use core::time::Duration;

use super::cmdline::ExportOption;
use super::exports::poll;
use super::shares::{ARGO, Mounted, ShareError, Shares, boxed, split_tree};
use super::vchan::{limits, message_size, mount_by, rights, root_of};
use super::{ExitCode, StartError, system};
use crate::ns::Tree;
use crate::rt::BarePlatform;
use crate::server::Exports as Trees;
use crate::transport::Transport;
use crate::transport::argo::{self, DialError, Export, Listener, parse_address};
use crate::xen::argo::Argo;

/// The domain's use of Argo; from the first use on.
fn own() -> Result<Argo<BarePlatform>, DialError> {
    let known = &system().shares.argo;
    if let Some(own) = known.get() {
        return Ok(own.clone());
    }
    let own = Argo::new(&system().xen)?;
    own.on_event(Rc::new(poll));
    Ok(known.get_or_init(|| own).clone())
}

/// Connects to what another domain serves.
fn dial(address: &str, timeout: Duration, msize: u32) -> Result<Box<dyn Transport>, ShareError> {
    let fails = |error| ShareError::Argo(address.into(), error);
    let (address, _) = split_tree(address);
    let target = address.strip_prefix(ARGO).unwrap_or(address);
    let server = parse_address(target).map_err(fails)?;
    let own = own().map_err(fails)?;
    let stream = argo::connect(&own, server.domain, server.port, msize, timeout).map_err(fails)?;
    Ok(boxed(argo::framed(stream)))
}

/// Mounts what another domain serves.
pub(super) fn mount(shares: &Shares, address: &str) -> Result<Mounted, ShareError> {
    mount_by(
        dial,
        argo::CONNECT_TIMEOUT,
        argo::DEFAULT_MESSAGE,
        shares,
        address,
    )
}

/// Serves a tree to the domain and at the port of this target.
pub(super) fn listener(
    option: &ExportOption,
    target: &str,
    files: &dyn Fn() -> Rc<dyn Tree>,
) -> Result<Export<BarePlatform>, StartError> {
    let fails =
        |status, error| StartError::new(status, format!("export of {}: {error}", option.source));
    let client = parse_address(target).map_err(|error| fails(ExitCode::USAGE, error))?;
    let mut limits = limits();
    limits.msize = limits.msize.min(message_size(argo::DEFAULT_MESSAGE));
    let own = own().map_err(|error| fails(ExitCode::FAILURE, error))?;
    let listener = Listener::new(&own, client.domain, client.port, limits.msize);
    let listener = listener.map_err(|error| fails(ExitCode::USAGE, error))?;
    let root = root_of(&option.source, files)?;
    let rights = rights(option);
    let policy = move || Trees::new(root.clone(), rights);
    Ok(Export::new(listener, policy, limits))
}
