//! The nodes of a device in xenstore: which devices there are, what they say, and what the backend writes.

use std::fmt;

use serde::{Deserialize, Serialize};
use xen_guest::xenbus::XenbusState;
use xen_guest::xenbus::backend::{Offer, View};

use crate::host::Options;
use crate::xen::store::{Result, Store};

/// The rings that a frontend may have. QEMU offers as many, and might write its own number over this one.
const MAX_RINGS: u32 = 8;

/// The node that says that a device is served by this daemon, where others could.
const CLAIMED: &str = "xen9pd";

/// The two kinds of backend that xl makes nodes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `type=xen_9pfsd`: for this daemon alone.
    #[serde(rename = "xen_9pfs")]
    Daemon,
    /// Without a type: for QEMU, or for what comes first.
    #[serde(rename = "9pfs")]
    Any,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Daemon, Kind::Any];

    /// The name of its directory in `backend`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Daemon => "xen_9pfs",
            Kind::Any => "9pfs",
        }
    }
}

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Of which kind its backend is.
    pub kind: Kind,
    /// Whose frontend it has.
    pub domain: u16,
    /// Its number among the devices of that domain.
    pub device: u32,
}

impl Key {
    /// Of a path in the own domain's directory: the device that the node belongs to.
    pub fn from_path(path: &str) -> Option<Key> {
        let rest = path.strip_prefix("backend/")?;
        let mut parts = rest.split('/');
        let kind = parts.next()?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        Some(Key {
            kind,
            domain: parts.next()?.parse().ok()?,
            device: parts.next()?.parse().ok()?,
        })
    }

    /// The backend's directory.
    pub fn path(&self) -> String {
        let Key {
            kind,
            domain,
            device,
        } = self;
        format!("backend/{}/{domain}/{device}", kind.name())
    }

    /// Of the form that [`Display`](fmt::Display) makes.
    pub fn from_name(name: &str) -> Option<Key> {
        Key::from_path(&format!("backend/{}", name.replace('-', "/")))
    }
}

/// A name for files: `xen_9pfs-3-0`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.kind.name(), self.domain, self.device)
    }
}

/// Which devices an event in the backends' directories is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A node of one device.
    Device(Key),
    /// The directory of a domain.
    Domain(Kind, u16),
    /// A directory above: it may be all of them.
    All,
}

impl Scope {
    /// Of the path that an event names.
    pub fn of(path: &str) -> Scope {
        if let Some(key) = Key::from_path(path) {
            return Scope::Device(key);
        }
        let domain = Kind::ALL.into_iter().find_map(|kind| {
            let rest = path.strip_prefix("backend/")?.strip_prefix(kind.name())?;
            Some(Scope::Domain(kind, rest.strip_prefix('/')?.parse().ok()?))
        });
        domain.unwrap_or(Scope::All)
    }

    /// Whether it is about this device.
    pub fn covers(self, key: &Key) -> bool {
        match self {
            Scope::Device(one) => one == *key,
            Scope::Domain(kind, domain) => (key.kind, key.domain) == (kind, domain),
            Scope::All => true,
        }
    }

    /// The devices in it that may have nodes. A domain costs one question, so that what happens to one of many does not
    /// cost a question for each of the others.
    pub fn devices(self, store: &mut Store) -> Result<Vec<Key>> {
        match self {
            Scope::Device(key) => Ok(vec![key]),
            Scope::Domain(kind, domain) => {
                let top = format!("backend/{}/{domain}", kind.name());
                let names = store.directory(&top)?.unwrap_or_default();
                let numbers = names.iter().filter_map(|name| name.parse().ok());
                Ok(numbers
                    .map(|device| Key {
                        kind,
                        domain,
                        device,
                    })
                    .collect())
            }
            Scope::All => {
                let mut keys = Vec::new();
                for kind in Kind::ALL {
                    let domains = store.directory(&format!("backend/{}", kind.name()))?;
                    for domain in domains.unwrap_or_default() {
                        if let Ok(domain) = domain.parse() {
                            keys.extend(Scope::Domain(kind, domain).devices(store)?);
                        }
                    }
                }
                Ok(keys)
            }
        }
    }
}

/// What the toolstack has written about a device when it made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The frontend's directory.
    pub frontend: String,
    /// Name of the domain; its number where a driver domain may not see the name.
    pub name: String,
    /// What the frontend calls the share.
    pub tag: String,
    /// The directory to share.
    pub path: String,
    /// `security_model=`.
    pub security_model: String,
    /// `max-files=`, if it was given and is not 0, which means no limit.
    pub max_files: Option<u64>,
    /// `max-open-files=`.
    pub max_open_files: Option<u64>,
    /// `max-space=`, in MiB.
    pub max_space: Option<u64>,
    /// `auto-delete=`.
    pub auto_delete: bool,
}

impl Order {
    /// Reads it; `None` if the nodes are not there.
    pub fn read(
        store: &mut Store,
        key: &Key,
    ) -> Result<Option<std::result::Result<Order, String>>> {
        let back = key.path();
        let Some(frontend) = store.text(&format!("{back}/frontend"))? else {
            return Ok(None);
        };
        let home = format!("/local/domain/{}/", key.domain);
        let owner = store.number(&format!("{back}/frontend-id"))?;
        if !frontend.starts_with(&home) || owner != Some(key.domain.into()) {
            return Ok(Some(Err(format!(
                "its frontend is {frontend}, which is not in domain {}",
                key.domain
            ))));
        }
        let name = store.text(&format!("{home}name"))?;
        let name = name.unwrap_or_else(|| key.domain.to_string());
        let mut text =
            |path: String| -> Result<String> { Ok(store.text(&path)?.unwrap_or_default()) };
        let mut order = Order {
            name,
            tag: text(format!("{frontend}/tag"))?,
            path: text(format!("{back}/path"))?,
            security_model: text(format!("{back}/security_model"))?,
            frontend,
            ..Order::default()
        };
        for (name, into) in [
            ("max-files", &mut order.max_files),
            ("max-open-files", &mut order.max_open_files),
            ("max-space", &mut order.max_space),
        ] {
            *into = match store.text(&format!("{back}/{name}"))? {
                None => None,
                Some(text) => match text.parse() {
                    Ok(0) => None,
                    Ok(number) => Some(number),
                    Err(_) => return Ok(Some(Err(format!("{name}={text}: it is a number")))),
                },
            };
        }
        let auto = store.text(&format!("{back}/auto-delete"))?;
        order.auto_delete = auto.is_some_and(|text| text != "0");
        Ok(Some(Ok(order)))
    }
}

impl Order {
    /// These options, with the limits that the toolstack has set where they are stricter.
    pub fn restrict(&self, mut options: Options) -> Options {
        let stricter = |limit: Option<u64>, ordered: Option<u64>| match (limit, ordered) {
            (Some(limit), Some(ordered)) => Some(limit.min(ordered)),
            (limit, ordered) => limit.or(ordered),
        };
        let limits = &mut options.limits;
        limits.max_files = stricter(limits.max_files, self.max_files);
        limits.max_open_files = stricter(limits.max_open_files, self.max_open_files);
        let bytes = self.max_space.map(|mib| mib.saturating_mul(1 << 20));
        limits.max_space = stricter(limits.max_space, bytes);
        options
    }
}

/// Whether a device is this daemon's business: all of the one kind, of the other those that are new, and those that it has
/// claimed before. What the toolstack has left of a domain that is gone is not.
pub fn is_ours(store: &mut Store, key: &Key) -> Result<bool> {
    let back = key.path();
    let Some(state) = store.read(&format!("{back}/state"))? else {
        return Ok(false);
    };
    if XenbusState::from_value(&state) == XenbusState::Initialising {
        return Ok(true);
    }
    let is_ours = match key.kind {
        Kind::Daemon => true,
        Kind::Any => store.read(&format!("{back}/{CLAIMED}"))?.is_some(),
    };
    Ok(is_ours && store.is_alive(key.domain)?)
}

/// Whether another backend has taken a device that both could: it is not new any more, and this daemon has not claimed it.
pub fn is_taken(store: &mut Store, key: &Key, view: &View) -> Result<bool> {
    let is_new = matches!(view.backend, XenbusState::Initialising);
    if key.kind == Kind::Daemon || !view.present || is_new {
        return Ok(false);
    }
    let claim = store.read(&format!("{}/{CLAIMED}", key.path()))?;
    Ok(claim.is_none())
}

/// What a frontend offers, or what is wrong with that; `None`: it was not read yet.
pub type Offered = Option<std::result::Result<Offer, String>>;

/// How the device stands. `offered` is read where it is wanted and not known.
pub fn look(store: &mut Store, key: &Key, frontend: &str, offered: &mut Offered) -> Result<View> {
    let back = key.path();
    let backend = store.read(&format!("{back}/state"))?;
    let mut view = View {
        present: backend.is_some(),
        online: store.number(&format!("{back}/online"))? == Some(1),
        backend: XenbusState::from_value(&backend.unwrap_or_default()),
        frontend: XenbusState::Unknown,
        offer: Err(String::new()),
    };
    if !view.present {
        return Ok(view);
    }
    let state = store.read(&format!("{frontend}/state"))?;
    view.frontend = XenbusState::from_value(&state.unwrap_or_default());
    if view.frontend == XenbusState::Initialised {
        let offer = match offered.take() {
            Some(known) => known,
            None => Offer::read(MAX_RINGS, |node: &str| {
                store.read(&format!("{frontend}/{node}"))
            })?,
        };
        view.offer = offered.insert(offer).clone();
    }
    Ok(view)
}

/// Writes what this backend can do, and that it waits for the frontend, if the own state is still the one that was seen.
pub fn invite(store: &mut Store, key: &Key, seen: XenbusState) -> Result<bool> {
    let back = key.path();
    let state = format!("{back}/state");
    let done = store.transaction(|transaction| {
        let now = transaction.read(&state)?;
        if now.map(|value| XenbusState::from_value(&value)) != Some(seen) {
            return Ok(None);
        }
        transaction.write(&format!("{back}/versions"), "1")?;
        transaction.write(&format!("{back}/max-rings"), &MAX_RINGS.to_string())?;
        let order = crate::xen::ring::MAX_ORDER.to_string();
        transaction.write(&format!("{back}/max-ring-page-order"), &order)?;
        if key.kind == Kind::Any {
            transaction.write(&format!("{back}/{CLAIMED}"), "1")?;
        }
        transaction.write(&state, &number(XenbusState::InitWait))?;
        Ok(Some(()))
    });
    Ok(done?.is_some())
}

/// Sets the own state, if it is still the one that was seen.
pub fn set(store: &mut Store, key: &Key, seen: XenbusState, state: XenbusState) -> Result<bool> {
    let path = format!("{}/state", key.path());
    let done = store.transaction(|transaction| {
        let now = transaction.read(&path)?;
        if now.map(|value| XenbusState::from_value(&value)) != Some(seen) {
            return Ok(None);
        }
        transaction.write(&path, &number(state))?;
        Ok(Some(()))
    });
    Ok(done?.is_some())
}

fn number(state: XenbusState) -> String {
    (state as u32).to_string()
}

/// Says why a device is not served, where xenbus has such things.
pub fn report(store: &mut Store, key: &Key, text: &str) -> Result<()> {
    store.write(&format!("error/{}/error", key.path()), text)
}

/// Takes that back.
pub fn forget_report(store: &mut Store, key: &Key) -> Result<()> {
    store.remove(&format!("error/{}", key.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xen::store::fake::World;

    #[test]
    fn devices_are_told_by_their_paths() {
        let key = Key {
            kind: Kind::Any,
            domain: 7,
            device: 0,
        };
        assert_eq!(Key::from_path("backend/9pfs/7/0"), Some(key));
        assert_eq!(Key::from_path("backend/9pfs/7/0/state"), Some(key));
        assert_eq!(key.path(), "backend/9pfs/7/0");
        assert_eq!(Key::from_name(&key.to_string()), Some(key));
        for other in [
            "backend/9pfs/7",
            "backend/vbd/7/0",
            "backend/9pfs/x/0",
            "@releaseDomain",
        ] {
            assert_eq!(Key::from_path(other), None);
        }
    }

    #[test]
    fn an_event_at_one_of_many_domains_asks_only_for_that_one() {
        let world = World::default();
        for domain in 1..=32 {
            world.write(&format!("backend/xen_9pfs/{domain}/0/state"), "1");
        }
        world.write("backend/9pfs/7/0/state", "1");
        world.write("backend/xen_9pfs/7/1/state", "1");
        let key = |kind, domain, device| Key {
            kind,
            domain,
            device,
        };
        let mut store = world.connect();
        for (path, scope, expected, questions) in [
            (
                "backend/xen_9pfs/7/1/state",
                Scope::Device(key(Kind::Daemon, 7, 1)),
                vec![key(Kind::Daemon, 7, 1)],
                0,
            ),
            (
                "backend/xen_9pfs/7",
                Scope::Domain(Kind::Daemon, 7),
                vec![key(Kind::Daemon, 7, 0), key(Kind::Daemon, 7, 1)],
                1,
            ),
            ("backend/9pfs/70", Scope::Domain(Kind::Any, 70), vec![], 1),
        ] {
            assert_eq!(Scope::of(path), scope, "{path}");
            let before = world.questions();
            assert_eq!(scope.devices(&mut store).unwrap(), expected, "{path}");
            assert_eq!(world.questions() - before, questions, "{path}");
            assert!(expected.iter().all(|key| scope.covers(key)), "{path}");
            assert!(!scope.covers(&key(Kind::Any, 7, 1)), "{path}");
        }
        for path in ["backend", "backend/9pfs", "backend/xen_9pfs/x"] {
            assert_eq!(Scope::of(path), Scope::All, "{path}");
        }
        let all = Scope::All.devices(&mut store).unwrap();
        assert_eq!(all.len(), 34);
        assert!(all.iter().all(|key| Scope::All.covers(key)));
    }
}
