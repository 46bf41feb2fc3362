//! What is served to a peer, and what the peer may do with it.

use alloc::vec::Vec;
use core::convert::Infallible;

use p9_tree::Node;
use p9_wire::Errno;

/// What a peer may do below the root of an attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rights {
    /// Look at everything, change nothing: every change is refused with EROFS.
    ReadOnly,
    /// Whatever the tree allows.
    ReadWrite,
}

/// A Tattach, or the Tauth before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login<'m> {
    /// The name of the user, as the peer says.
    pub uname: &'m [u8],
    /// The number of the user, as the peer says; [`NO_USER`](p9_wire::NO_USER) when it says none.
    pub n_uname: u32,
    /// The tree that is wanted.
    pub aname: &'m [u8],
}

/// Where an attach leads.
#[derive(Clone, Debug)]
pub struct Export<'m, N> {
    /// The root of a tree.
    pub root: N,
    /// A number that is the same for two attaches exactly if they lead into the same tree: only between those can files
    /// be renamed and linked.
    pub tree: u32,
    /// The way from `root` to the directory that becomes the root of the attach, its names separated by "/".
    pub below: &'m [u8],
    /// What the peer may do there.
    pub rights: Rights,
}

/// Decides who gets what. [`Exports`] is enough where the peer is known before it says a word, as a domain or the user at the
/// other end of a Unix socket is.
pub trait Policy {
    /// A file of the trees that are served.
    type Node: Node;
    /// The conversation on an afid.
    type Authentication: Authentication;

    /// Where an attach leads. `proof` is the conversation on the afid that the request names, for the same user and tree;
    /// the policy asks for one by refusing an attach without it.
    ///
    /// # Errors
    /// The error for the peer: ENOENT for an unknown tree, EACCES for the wrong user.
    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        proof: Option<&Self::Authentication>,
    ) -> Result<Export<'m, Self::Node>, Errno>;

    /// Starts a conversation by which a user proves its identity (Tauth).
    ///
    /// # Errors
    /// EOPNOTSUPP where nothing has to be proved, which is what is provided.
    fn authenticate(&mut self, _login: &Login<'_>) -> Result<Self::Authentication, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// The bytes that a peer reads from and writes to an afid until its identity is proved. The engine knows no method of its own.
pub trait Authentication {
    /// The next bytes for the peer.
    ///
    /// # Errors
    /// The error for the peer.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno>;

    /// Takes bytes of the peer's; says how many.
    ///
    /// # Errors
    /// The error for the peer.
    fn write(&mut self, from: &[u8]) -> Result<usize, Errno>;
}

impl Authentication for Infallible {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Errno> {
        match *self {}
    }

    fn write(&mut self, _: &[u8]) -> Result<usize, Errno> {
        match *self {}
    }
}

/// Trees by names, for a peer that has nothing to prove.
///
/// An aname is the name of an export, with or without a way into it behind that: "logs", "logs/today". If no export has
/// such a name, the aname is a way into the first export; the empty aname and "/" are that export itself.
#[derive(Clone, Debug)]
pub struct Exports<N> {
    exports: Vec<Named<N>>,
}

#[derive(Clone, Debug)]
struct Named<N> {
    name: Vec<u8>,
    root: N,
    rights: Rights,
}

impl<N: Node> Exports<N> {
    /// One tree, which every attach leads into.
    pub fn new(root: N, rights: Rights) -> Self {
        Exports::none().with(b"", root, rights)
    }

    /// Nothing yet.
    pub const fn none() -> Self {
        Exports {
            exports: Vec::new(),
        }
    }

    /// One tree more. Its name may contain "/", so that it can be a path.
    #[must_use]
    pub fn with(mut self, name: &[u8], root: N, rights: Rights) -> Self {
        let name = trimmed(name).to_vec();
        self.exports.push(Named { name, root, rights });
        self
    }
}

impl<N: Node> Policy for Exports<N> {
    type Node = N;
    type Authentication = Infallible;

    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        _proof: Option<&Infallible>,
    ) -> Result<Export<'m, N>, Errno> {
        let aname = trimmed(login.aname);
        let named = (0..).zip(&self.exports).filter_map(|(tree, export)| {
            let below = match export.name.is_empty() {
                true => return None,
                false => aname.strip_prefix(&export.name[..])?,
            };
            let whole = below.is_empty() || below.starts_with(b"/");
            whole.then_some((tree, export, below))
        });
        let (tree, export, below) = named
            .max_by_key(|(_, export, _)| export.name.len())
            .or_else(|| Some((0, self.exports.first()?, aname)))
            .ok_or(Errno::ENOENT)?;
        Ok(Export {
            root: export.root.clone(),
            tree,
            below,
            rights: export.rights,
        })
    }
}

fn trimmed(path: &[u8]) -> &[u8] {
    let start = path.iter().take_while(|byte| **byte == b'/').count();
    let end = path.iter().rev().take_while(|byte| **byte == b'/').count();
    path.get(start..path.len() - end).unwrap_or_default()
}
