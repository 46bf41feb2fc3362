//! The nodes of a device in xenstore, as its backend reads and writes them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::connect::HOLDS_REPLIES;
use super::{Request, Rings};
use crate::hypercall::DomId;
use crate::platform::Platform;
use crate::xen::store::{self, Refusal, StoreError, XenStore};
use crate::xen::xenbus::XenbusState;
use crate::xen::xenbus::backend::{Offer, View};

/// Where the devices are, in the directory of this domain.
pub(super) const DIRECTORY: &str = "backend/9pfs";

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Whose frontend it has.
    pub(super) domain: DomId,
    /// Its number among the devices of that domain.
    pub(super) device: u32,
}

impl Key {
    /// The device that a node belongs to, by its path in the directory of this domain.
    pub(super) fn from_path(path: &str) -> Option<Key> {
        let rest = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let mut number = || store::parse_u32(parts.next()?.as_bytes()).ok();
        Some(Key {
            domain: DomId(u16::try_from(number()?).ok()?),
            device: number()?,
        })
    }

    /// The backend's directory.
    pub(super) fn back(self) -> String {
        format!("{DIRECTORY}/{}/{}", self.domain, self.device)
    }
}

/// `None` if the node is not there, or is hidden.
pub(super) fn optional<T>(value: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Refused(Refusal::NotFound | Refusal::Access)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    let value = value.unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

/// All devices that have nodes.
pub(super) fn devices<P: Platform>(store: &XenStore<P>) -> Result<Vec<Key>, StoreError> {
    let list =
        |path: &str| Ok::<_, StoreError>(optional(store.directory(path))?.unwrap_or_default());
    let mut keys = Vec::new();
    for domain in list(DIRECTORY)? {
        for device in list(&format!("{DIRECTORY}/{domain}"))? {
            keys.extend(Key::from_path(&format!("{DIRECTORY}/{domain}/{device}")));
        }
    }
    Ok(keys)
}

/// What the toolstack has written about a device: the frontend's directory, and what is wanted; or why that makes no sense.
pub(super) type Written = Result<(String, Request), String>;

/// What the toolstack has written about a device, unless its nodes are not there.
pub(super) fn read<P: Platform>(
    store: &XenStore<P>,
    key: Key,
) -> Result<Option<Written>, StoreError> {
    let node = |name| optional(store.read(&format!("{}/{name}", key.back())));
    let Some(frontend) = node("frontend")? else {
        return Ok(None);
    };
    let frontend = text(Some(frontend));
    if !frontend.starts_with(&format!("/local/domain/{}/", key.domain)) {
        return Ok(Some(Err(format!(
            "its frontend is {frontend}, which is not in domain {}",
            key.domain
        ))));
    }
    let request = Request {
        domain: key.domain,
        path: text(node("path")?),
    };
    Ok(Some(Ok((frontend, request))))
}

/// How the device stands.
pub(super) fn look<P: Platform>(
    store: &XenStore<P>,
    key: Key,
    frontend: &str,
    rings: Rings,
) -> Result<View, StoreError> {
    let back = key.back();
    let [backend, online, state] = store.read_all([
        &format!("{back}/state"),
        &format!("{back}/online"),
        &format!("{frontend}/state"),
    ]);
    let backend = optional(backend)?;
    let online = optional(online)?.and_then(|value| store::parse_u32(&value).ok());
    let state = optional(state)?;
    let mut view = View {
        present: backend.is_some(),
        online: online == Some(1),
        backend: XenbusState::from_value(&backend.unwrap_or_default()),
        frontend: XenbusState::from_value(&state.unwrap_or_default()),
        offer: Err(String::new()),
    };
    if view.frontend == XenbusState::Initialised {
        let read = |node: &str| optional(store.read(&format!("{frontend}/{node}")));
        view.offer = Offer::read(rings.count(), read)?;
    }
    Ok(view)
}

/// Whether the frontend's directory is gone.
pub(super) fn is_frontend_gone<P: Platform>(
    store: &XenStore<P>,
    frontend: &str,
) -> Result<bool, StoreError> {
    Ok(optional(store.read(frontend))?.is_none())
}

/// Sets the own state, if it is still the one that was seen, with other nodes; returns whether it was.
fn change<P: Platform>(
    store: &XenStore<P>,
    key: Key,
    seen: XenbusState,
    nodes: &[(&str, String)],
) -> Result<bool, StoreError> {
    let back = key.back();
    store.transaction(|transaction| {
        let state = optional(transaction.read(&format!("{back}/state")))?;
        if state.map(|value| XenbusState::from_value(&value)) != Some(seen) {
            return Ok(false);
        }
        for (name, value) in nodes {
            transaction.write(&format!("{back}/{name}"), value.as_bytes())?;
        }
        Ok(true)
    })
}

fn number(state: XenbusState) -> String {
    (state as u32).to_string()
}

/// Writes what is offered, and that this side waits for the frontend.
pub(super) fn invite<P: Platform>(
    store: &XenStore<P>,
    key: Key,
    seen: XenbusState,
    rings: Rings,
) -> Result<bool, StoreError> {
    let nodes = [
        ("versions", "1".into()),
        ("max-rings", rings.count().to_string()),
        ("max-ring-page-order", rings.order().to_string()),
        (HOLDS_REPLIES, "1".into()),
        ("state", number(XenbusState::InitWait)),
    ];
    change(store, key, seen, &nodes)
}

/// Sets the own state.
pub(super) fn set<P: Platform>(
    store: &XenStore<P>,
    key: Key,
    seen: XenbusState,
    state: XenbusState,
) -> Result<bool, StoreError> {
    change(store, key, seen, &[("state", number(state))])
}

/// Where xenbus has the reason why a device is not served.
pub(super) fn report(key: Key) -> String {
    format!("error/{}", key.back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_their_paths() {
        let key = Key {
            domain: DomId(7),
            device: 0,
        };
        assert_eq!(Key::from_path("backend/9pfs/7/0"), Some(key));
        assert_eq!(Key::from_path("backend/9pfs/7/0/state"), Some(key));
        assert_eq!(key.back(), "backend/9pfs/7/0");
        for other in [
            "backend/9pfs",
            "backend/9pfs/7",
            "backend/vbd/7/0",
            "backend/9pfs/x/0",
            "backend/9pfs/65536/0",
            "backend/9pfs/+7/0",
        ] {
            assert_eq!(Key::from_path(other), None, "{other}");
        }
    }
}
