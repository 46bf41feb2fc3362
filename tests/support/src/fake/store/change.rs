//! What a request of a guest changes in the tree of nodes.

use xen9p::hypercall::DomId;
use xen9p::xen::store::Permission;

use super::tree::{Refused, Tree};

/// One change of the tree.
#[derive(Clone)]
pub(super) enum Change {
    Write(String, Vec<u8>),
    Mkdir(String),
    Rm(String),
    Permissions(String, Vec<Permission>),
}

impl Change {
    pub(super) fn path(&self) -> &str {
        match self {
            Change::Write(path, _)
            | Change::Mkdir(path)
            | Change::Rm(path)
            | Change::Permissions(path, _) => path,
        }
    }

    /// Applies the change and returns whether there was anything to change.
    pub(super) fn apply(&self, tree: &mut Tree, who: DomId) -> Result<bool, Refused> {
        match self {
            Change::Write(path, value) => tree.write(who, path, value).map(|()| true),
            Change::Mkdir(path) => tree.mkdir(who, path),
            Change::Rm(path) => tree.rm(who, path),
            Change::Permissions(path, list) => tree.set_permissions(who, path, list).map(|()| true),
        }
    }
}
