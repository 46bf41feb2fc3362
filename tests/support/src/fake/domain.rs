//! [`FakeDomain`]: what a program in a domain can do that is no guest of ours, such as a backend.

use std::fmt;
use std::rc::Rc;

use xen9p::hypercall::{DomId, XenError};
use xen9p::xen::store::{Access, Permission};

use super::event::Channel;
use super::grant::{MapError, MappedGrant};
use super::{FakeXen, World};

/// A domain seen from outside. Clones are the same domain.
#[derive(Clone)]
pub struct FakeDomain {
    world: Rc<World>,
    id: DomId,
}

impl fmt::Debug for FakeDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FakeDomain").field(&self.id.0).finish()
    }
}

/// Event channels.
impl FakeDomain {
    /// Opens a port that `remote` can bind to.
    ///
    /// # Errors
    /// As Xen's.
    pub fn alloc_unbound(&self, remote: DomId) -> Result<u32, XenError> {
        let mut channels = self.world.channels.borrow_mut();
        channels.open(self.id, Channel::Unbound(remote))
    }

    /// Binds to a port of `remote` that waits for this domain. The new port is pending at once.
    ///
    /// # Errors
    /// As Xen's.
    pub fn bind_interdomain(&self, remote: DomId, port: u32) -> Result<u32, XenError> {
        let mut channels = self.world.channels.borrow_mut();
        channels.bind_interdomain(self.id, remote, port)
    }

    /// Tells the other end of a port.
    ///
    /// # Panics
    /// The port is not open.
    pub fn send(&self, port: u32) {
        let sent = self.world.channels.borrow_mut().send(self.id, port);
        sent.expect("the port is open");
    }

    /// Whether a port has fired; forgets that it did.
    pub fn take_pending(&self, port: u32) -> bool {
        self.world.channels.borrow_mut().take_pending(self.id, port)
    }

    /// Closes a port.
    ///
    /// # Panics
    /// The port is not open.
    pub fn close(&self, port: u32) {
        let closed = self.world.channels.borrow_mut().close(self.id, port);
        closed.expect("the port is open");
    }

    /// Whether a port is open and connected.
    pub fn is_connected(&self, port: u32) -> bool {
        let channels = self.world.channels.borrow();
        matches!(
            channels.get(self.id, port),
            Some(Channel::Interdomain(_, _))
        )
    }
}

/// Grants.
impl FakeDomain {
    /// Maps a page that `granter` has granted to this domain.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map_grant(
        &self,
        granter: DomId,
        reference: u32,
        writable: bool,
    ) -> Result<MappedGrant, MapError> {
        self.world.map(self.id, granter, reference, writable)
    }
}

/// Xenstore, without a ring in between. Paths that don't begin with `/` are relative to the
/// domain's own directory. Watches of guests fire.
impl FakeDomain {
    /// The value of a node.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.world.store.borrow_mut().read(self.id, path)
    }

    /// The value of a node, as text; panics when it is none.
    pub fn read_text(&self, path: &str) -> Option<String> {
        let value = self.read(path)?;
        Some(String::from_utf8(value).expect("the value is text"))
    }

    /// Writes a node.
    ///
    /// # Panics
    /// Xenstored refuses.
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) {
        let mut store = self.world.store.borrow_mut();
        let written = store.write(self.id, path, value.as_ref());
        written.expect("xenstored lets this domain write there");
    }

    /// Removes a node and everything below it, if it is there.
    ///
    /// # Panics
    /// Xenstored refuses.
    pub fn rm(&self, path: &str) {
        let removed = self.world.store.borrow_mut().rm(self.id, path);
        removed.expect("xenstored lets this domain remove that");
    }

    /// The names below a node.
    pub fn list(&self, path: &str) -> Vec<String> {
        self.world.store.borrow_mut().list(self.id, path)
    }

    /// Sets a node's permissions.
    ///
    /// # Panics
    /// Xenstored refuses.
    pub fn set_permissions(&self, path: &str, permissions: &[Permission]) {
        let mut store = self.world.store.borrow_mut();
        let set = store.set_permissions(self.id, path, permissions);
        set.expect("xenstored lets this domain do that");
    }

    /// A number that grows with every change of the store: who has seen it needs not look again.
    pub fn store_generation(&self) -> u64 {
        self.world.store.borrow().generation()
    }

    /// Makes the nodes of a domain as xl does: its number, and a `data` that the domain owns.
    ///
    /// # Panics
    /// Xenstored refuses.
    pub fn make_home(&self, id: DomId) {
        let home = format!("/local/domain/{id}");
        self.write(&format!("{home}/domid"), id.to_string());
        let data = format!("{home}/data");
        self.write(&data, "");
        let owner = Permission {
            domain: id,
            access: Access::None,
        };
        self.set_permissions(&data, &[owner]);
    }

    /// Makes the nodes of a device as the toolstack does: directories on both sides with both
    /// states 1, `backend_kind` being the part of the backend's path that says what serves it.
    pub fn add_device(
        &self,
        device: &DeviceSpec<'_>,
        frontend_nodes: &[(&str, &str)],
        backend_nodes: &[(&str, &str)],
    ) -> (String, String) {
        let DeviceSpec {
            kind,
            backend_kind,
            frontend,
            id,
        } = *device;
        let front = format!("/local/domain/{frontend}/device/{kind}/{id}");
        let back = format!(
            "/local/domain/{}/backend/{backend_kind}/{frontend}/{id}",
            self.id
        );
        let dom0 = FakeXen {
            world: Rc::clone(&self.world),
        }
        .dom0();
        dom0.write(&front, "");
        dom0.write(&back, "");
        dom0.set_permissions(&front, &grants(frontend, self.id));
        dom0.set_permissions(&back, &grants(self.id, frontend));
        let own = self.id.to_string();
        let other = frontend.to_string();
        let fronts = [("backend", back.as_str()), ("backend-id", own.as_str())];
        let backs = [
            ("frontend", front.as_str()),
            ("frontend-id", other.as_str()),
            ("online", "1"),
        ];
        // The states come last: watchers of a state find everything else there.
        for (name, value) in fronts.iter().chain(frontend_nodes).chain(&[("state", "1")]) {
            dom0.write(&format!("{front}/{name}"), value);
        }
        for (name, value) in backs.iter().chain(backend_nodes).chain(&[("state", "1")]) {
            dom0.write(&format!("{back}/{name}"), value);
        }
        (front, back)
    }
}

/// A device to be made by [`FakeDomain::add_device`].
#[derive(Clone, Copy, Debug)]
pub struct DeviceSpec<'a> {
    /// The kind in the frontend's path, such as `9pfs`.
    pub kind: &'a str,
    /// The kind in the backend's path, such as `9pfs` or `xen_9pfs`.
    pub backend_kind: &'a str,
    /// The domain that gets the device.
    pub frontend: DomId,
    /// The device's number.
    pub id: u32,
}

/// Owned by one domain, readable for another.
pub(crate) fn grants(owner: DomId, reader: DomId) -> [Permission; 2] {
    use xen9p::xen::store::Access;
    [
        Permission {
            domain: owner,
            access: Access::None,
        },
        Permission {
            domain: reader,
            access: Access::Read,
        },
    ]
}

/// Life and death.
impl FakeDomain {
    pub(super) fn new(world: Rc<World>, id: DomId) -> Self {
        FakeDomain { world, id }
    }

    /// The domain's number.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// The machine that the domain runs on.
    pub fn xen(&self) -> FakeXen {
        FakeXen {
            world: Rc::clone(&self.world),
        }
    }
}
