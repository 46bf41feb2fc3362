//! The share of a connection as the engine sees it.

use std::convert::Infallible;

use p9_server::{Export, Login, Policy, Rights};
use p9_wire::{Errno, NO_USER};

use crate::host::{HostNode, HostTree};

/// One directory, for a domain that has nothing to prove: an aname is a way into it.
pub struct Share {
    tree: HostTree,
    rights: Rights,
}

impl Share {
    /// The directory of this tree.
    pub fn new(tree: HostTree, rights: Rights) -> Share {
        Share { tree, rights }
    }
}

impl Policy for Share {
    type Node = HostNode;
    type Authentication = Infallible;

    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        _: Option<&Infallible>,
    ) -> Result<Export<'m, HostNode>, Errno> {
        let user = (login.n_uname != NO_USER).then_some(login.n_uname);
        let root = self.tree.root(user).map_err(p9_tree::Error::errno)?;
        Ok(Export {
            root,
            tree: 0,
            below: login.aname,
            rights: self.rights,
        })
    }
}
