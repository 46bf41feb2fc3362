//! Trees that other domains serve, each at one address or at several, of which one is used.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::shares::{
    ARGO, Connect, Mounted, RECONNECT_TIMEOUT, ShareError, ShareInfo, Shares, is_of_domain,
};
use super::vchan::message_size;
use super::{now, options};
use crate::transport::Transport;
#[cfg(feature = "argo")]
use crate::transport::argo;
use crate::transport::vchan::{self, VchanError};

/// How long one of several addresses is tried when the connection is lost: the next one may be alive.
const WAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects to what another domain serves, by a vchan or by Argo.
fn dial(address: &str, timeout: Duration, msize: u32) -> Result<Box<dyn Transport>, ShareError> {
    match address.starts_with(ARGO) {
        #[cfg(feature = "argo")]
        true => super::argo::dial(address, timeout, msize),
        #[cfg(not(feature = "argo"))]
        true => Err(ShareError::LeftOut(address.into(), "argo")),
        false => super::vchan::dial(address, timeout, msize),
    }
}

/// The most of a message to an address, and how long to wait for a connection unless the options say so.
fn defaults(address: &str) -> (u32, Duration) {
    match address.starts_with(ARGO) {
        #[cfg(feature = "argo")]
        true => (argo::DEFAULT_MESSAGE, argo::CONNECT_TIMEOUT),
        _ => (vchan::DEFAULT_MESSAGE, vchan::CONNECT_TIMEOUT),
    }
}

/// Mounts what other domains serve: one tree, at one address or at several.
pub(super) fn mount(shares: &Shares, address: &str) -> Result<Mounted, ShareError> {
    let begun = now();
    let ways: Vec<&str> = ways(address).collect();
    let first = ways.first().copied().unwrap_or(address);
    if ways
        .iter()
        .any(|way| split_tree(way).1 != split_tree(first).1)
    {
        let why = VchanError::Address("the addresses of one mount name different trees");
        return Err(ShareError::Vchan(address.into(), why));
    }
    let (most, timeout) = defaults(first);
    // What is agreed with the one has to fit the others.
    let most = ways.iter().map(|way| defaults(way).0).fold(most, u32::min);
    let msize = message_size(most);
    let timeout = options().timeout.unwrap_or(timeout);
    let again = match ways.len() {
        1 => timeout.min(RECONNECT_TIMEOUT),
        _ => WAY_TIMEOUT,
    };
    let share = timeout / ways.len() as u32;
    let mut tried = dial(first, share, msize);
    let mut at = 0;
    while let (Err(error), Some(way)) = (&tried, ways.get(at + 1)) {
        log::warn!("{error}; trying the next address");
        at += 1;
        tried = dial(way, share, msize);
    }
    let info = ShareInfo {
        tag: address.into(),
        rings: 1,
        order: 0,
        mounted_at: begun,
        took: Duration::ZERO,
    };
    // The one that is connected first.
    let order = ways.iter().cycle().skip(at).take(ways.len());
    let connects = order.map(|way| {
        let way = String::from(*way);
        Box::new(move || dial(&way, again, msize)) as Box<Connect>
    });
    shares.add(tried?, connects.collect(), info)
}

/// The addresses of one tree: `vchan!7!logs+vchan!8!logs`.
pub(super) fn ways(address: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(address);
    core::iter::from_fn(move || {
        let all = rest.take()?;
        let mut marks = all.match_indices('+').map(|(at, _)| all.split_at(at));
        let next = marks.find_map(|(way, more)| {
            let more = more.strip_prefix('+').filter(|more| is_of_domain(more))?;
            Some((way, more))
        });
        let Some((way, more)) = next else {
            return Some(all);
        };
        rest = Some(more);
        Some(way)
    })
}

/// An address without its tree, and that: `vchan!DOMID!NAME[!TREE]`, and the same by Argo. Servers of several trees want to know which.
pub(super) fn split_tree(address: &str) -> (&str, &str) {
    let mut marks = address.match_indices('!').map(|(at, _)| at);
    let end = marks.nth(2).unwrap_or(address.len());
    (
        address.get(..end).unwrap_or(address),
        address.get(end + 1..).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;

    #[test]
    fn addresses_stand_one_behind_the_other() {
        let all = |address: &'static str| ways(address).collect::<Vec<_>>();
        assert_eq!(all("vchan!7!logs"), ["vchan!7!logs"]);
        let several = all("vchan!7!logs+vchan!8!a@b+argo!9!564");
        assert_eq!(several, ["vchan!7!logs", "vchan!8!a@b", "argo!9!564"]);
        // What follows is no address, and so is part of the name of a tree.
        let tree = all("vchan!0!9p!/srv/c++vchan!1!9p!/a+b");
        assert_eq!(tree, ["vchan!0!9p!/srv/c+", "vchan!1!9p!/a+b"]);
        assert_eq!(all("vchan!7!logs+share"), vec!["vchan!7!logs+share"]);
    }
}
