//! Where files are: for every fid, its node, its name, and the same of every directory up to the root of its attach.
//!
//! This is what "..", Tremove and Trename need, which name no directory. One place stands for all fids that came to a file
//! by the same way, so a rename that goes through this server moves all of them. What others rename behind its back it
//! can't know: a name is compared with the tree before it is used.

use alloc::vec::Vec;

use p9_tree::Node;
use p9_wire::Errno;

use crate::slab::Slab;

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceId(u32);

#[derive(Debug)]
struct Place<N> {
    node: N,
    /// Which tree it is of; numbers of files are unique in one tree only.
    tree: u32,
    /// Empty for a root.
    name: Vec<u8>,
    /// `None`: the root of an attach.
    parent: Option<PlaceId>,
    /// Whether the parent has this under its name, as far as is known.
    linked: bool,
    /// Sorted by name; linked ones only.
    children: Vec<PlaceId>,
    /// Fids and requests that are here, and places below.
    holders: u32,
}

/// All places of a server.
#[derive(Debug)]
pub struct Places<N> {
    slab: Slab<Place<N>>,
    /// Memory of places that are gone, for those that come: a walk costs none.
    spare: Vec<Memory>,
}

/// What a place has besides its node; empty.
#[derive(Debug, Default)]
struct Memory {
    name: Vec<u8>,
    children: Vec<PlaceId>,
}

/// How many are kept: as many as two long walks use.
const MAX_SPARE: usize = 2 * p9_wire::MAX_ELEMENTS;

/// The most children that are kept room for.
const MAX_SPARE_CHILDREN: usize = 64;

impl<N: Node> Places<N> {
    pub const fn new() -> Self {
        Places {
            slab: Slab::new(),
            spare: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    fn place(&self, id: PlaceId) -> Result<&Place<N>, Errno> {
        self.slab.get(id.0).ok_or(Errno::ESTALE)
    }

    pub fn node(&self, id: PlaceId) -> Result<&N, Errno> {
        Ok(&self.place(id)?.node)
    }

    pub fn name(&self, id: PlaceId) -> Result<&[u8], Errno> {
        Ok(&self.place(id)?.name)
    }

    /// The directory above; of a root, itself.
    pub fn up(&self, id: PlaceId) -> Result<PlaceId, Errno> {
        Ok(self.place(id)?.parent.unwrap_or(id))
    }

    /// The directory and the name that a file has there.
    ///
    /// # Errors
    /// EBUSY for the root of an attach, ENOENT for what was removed.
    pub fn entry(&self, id: PlaceId) -> Result<(PlaceId, &[u8]), Errno> {
        let place = self.place(id)?;
        let parent = place.parent.ok_or(Errno::EBUSY)?;
        match place.linked {
            true => Ok((parent, &place.name)),
            false => Err(Errno::ENOENT),
        }
    }

    /// Directories above.
    pub fn depth(&self, id: PlaceId) -> usize {
        self.above(id).count().saturating_sub(1)
    }

    /// The place itself and all above it.
    fn above(&self, id: PlaceId) -> impl Iterator<Item = PlaceId> {
        core::iter::successors(Some(id), |at| self.slab.get(at.0)?.parent)
    }

    /// A root of its own, with one holder.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn root(&mut self, node: N, tree: u32) -> Result<PlaceId, Errno> {
        self.add(node, tree, b"", None)
    }

    fn add(
        &mut self,
        node: N,
        tree: u32,
        name: &[u8],
        parent: Option<PlaceId>,
    ) -> Result<PlaceId, Errno> {
        let memory = self.spare.pop().unwrap_or_default();
        let place = Place {
            node,
            tree,
            name: renewed(memory.name, name)?,
            parent,
            linked: true,
            children: memory.children,
            holders: 1,
        };
        Ok(PlaceId(self.slab.insert(place)?))
    }

    pub fn hold(&mut self, id: PlaceId) {
        if let Some(place) = self.slab.get_mut(id.0) {
            place.holders = place.holders.saturating_add(1);
        }
    }

    /// Gives back one hold.
    pub fn release(&mut self, id: PlaceId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(place) = self.slab.get_mut(id.0) else {
                return;
            };
            place.holders = place.holders.saturating_sub(1);
            if place.holders > 0 {
                return;
            }
            self.unlink(id);
            let Some(gone) = self.slab.remove(id.0) else {
                return;
            };
            next = gone.parent;
            self.keep(gone.name, gone.children);
        }
    }

    /// Keeps the memory of a place for another.
    fn keep(&mut self, name: Vec<u8>, mut children: Vec<PlaceId>) {
        children.clear();
        let is_small = children.capacity() <= MAX_SPARE_CHILDREN;
        if is_small && self.spare.len() < MAX_SPARE && self.spare.try_reserve(1).is_ok() {
            self.spare.push(Memory { name, children });
        }
    }

    fn find(&self, parent: PlaceId, name: &[u8]) -> Result<usize, usize> {
        let children = self.slab.get(parent.0).map_or(&[][..], |at| &at.children);
        children.binary_search_by(|child| {
            let child = self.slab.get(child.0).map_or(&[][..], |at| &at.name);
            child.cmp(name)
        })
    }

    /// The known place of this name below `parent`.
    fn child(&self, parent: PlaceId, name: &[u8]) -> Option<PlaceId> {
        let at = self.find(parent, name).ok()?;
        self.slab.get(parent.0)?.children.get(at).copied()
    }

    /// The place of `node`, which was found under this name in `parent`, with one hold for the caller.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn enter(&mut self, parent: PlaceId, name: &[u8], node: N) -> Result<PlaceId, Errno> {
        if let Some(known) = self.child(parent, name) {
            if self.node(known)?.identity().path == node.identity().path {
                self.hold(known);
                return Ok(known);
            }
            // The name is another file's now.
            self.unlink(known);
        }
        self.room_for_child(parent)?;
        let tree = self.place(parent)?.tree;
        let id = self.add(node, tree, name, Some(parent))?;
        self.hold(parent);
        self.link(id);
        Ok(id)
    }

    /// A place for this node alone, whichever others there are for the file, with one hold for the caller.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn enter_alone(&mut self, parent: PlaceId, name: &[u8], node: N) -> Result<PlaceId, Errno> {
        let tree = self.place(parent)?.tree;
        let id = self.add(node, tree, name, Some(parent))?;
        self.hold(parent);
        if let Some(place) = self.slab.get_mut(id.0) {
            place.linked = false;
        }
        Ok(id)
    }

    fn room_for_child(&mut self, parent: PlaceId) -> Result<(), Errno> {
        let place = self.slab.get_mut(parent.0).ok_or(Errno::ESTALE)?;
        place.children.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    /// Puts a place among its parent's children, which have room and nothing of this name.
    fn link(&mut self, id: PlaceId) {
        let Ok(place) = self.place(id) else { return };
        let Some(parent) = place.parent else { return };
        let Err(at) = self.find(parent, &place.name) else {
            return;
        };
        if let Some(parent) = self.slab.get_mut(parent.0) {
            parent.children.insert(at, id);
        }
        if let Some(place) = self.slab.get_mut(id.0) {
            place.linked = true;
        }
    }

    /// Takes a place from its parent's children: its name is not its own any more.
    fn unlink(&mut self, id: PlaceId) {
        let Ok(Place {
            parent: Some(parent),
            linked: true,
            name,
            ..
        }) = self.place(id)
        else {
            return;
        };
        let (parent, found) = (*parent, self.find(*parent, name));
        if let (Ok(at), Some(parent)) = (found, self.slab.get_mut(parent.0)) {
            parent.children.remove(at);
        }
        if let Some(place) = self.slab.get_mut(id.0) {
            place.linked = false;
        }
    }

    /// The tree and number of a file.
    fn identity(&self, id: PlaceId) -> Option<(u32, u64)> {
        let place = self.slab.get(id.0)?;
        Some((place.tree, place.node.identity().path))
    }

    /// The first place of this file from number `from` on: there is one for each way that leads to it.
    fn next_of(&self, identity: (u32, u64), from: u32) -> Option<PlaceId> {
        (from..self.slab.end())
            .map(PlaceId)
            .find(|id| self.identity(*id) == Some(identity))
    }

    /// Notes that a name was removed from a directory.
    pub fn unlinked(&mut self, dir: PlaceId, name: &[u8]) {
        self.unlink_everywhere(dir, name, None);
    }

    /// Takes away a name, whatever way leads to its directory, but leaves `but` alone.
    fn unlink_everywhere(&mut self, dir: PlaceId, name: &[u8], but: Option<PlaceId>) {
        let Some(identity) = self.identity(dir) else {
            return;
        };
        let mut from = 0;
        while let Some(same) = self.next_of(identity, from) {
            from = same.0.saturating_add(1);
            if let Some(child) = self.child(same, name).filter(|child| Some(*child) != but) {
                self.unlink(child);
            }
        }
    }

    /// Notes that what was called `name` in `from` is now called `new_name` in `to`.
    pub fn renamed(&mut self, from: PlaceId, name: &[u8], to: PlaceId, new_name: &[u8]) {
        if self.is_same_file(from, name, to, new_name) {
            return;
        }
        let moved = self.child(from, name);
        self.unlink_everywhere(to, new_name, moved);
        // By other ways than that of the request, the new directory may not be known.
        self.unlink_everywhere(from, name, None);
        if let Some(moved) = moved
            && self.can_move(moved, to)
        {
            let _ = self.place_at(moved, to, new_name);
        }
    }

    /// rename(2) does nothing for two names of one file.
    fn is_same_file(&self, from: PlaceId, name: &[u8], to: PlaceId, new_name: &[u8]) -> bool {
        let path = |dir, name| {
            let child = self.slab.get(self.child(dir, name)?.0)?;
            Some(child.node.identity().path)
        };
        path(from, name).is_some_and(|old| path(to, new_name) == Some(old))
    }

    /// Whether `to` is not below `child`: no tree would do that, but one that is itself a peer's may say so.
    fn can_move(&self, child: PlaceId, to: PlaceId) -> bool {
        self.above(to).all(|at| at != child)
    }

    fn place_at(&mut self, id: PlaceId, parent: PlaceId, name: &[u8]) -> Result<(), Errno> {
        let own = renewed(Vec::new(), name)?;
        self.room_for_child(parent)?;
        self.hold(parent);
        let place = self.slab.get_mut(id.0).ok_or(Errno::ESTALE)?;
        place.name = own;
        let before = place.parent.replace(parent);
        self.link(id);
        if let Some(before) = before {
            self.release(before);
        }
        Ok(())
    }
}

/// A name in memory that was another's.
fn renewed(mut memory: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    memory.clear();
    memory
        .try_reserve_exact(name.len())
        .map_err(|_| Errno::ENOMEM)?;
    memory.extend_from_slice(name);
    Ok(memory)
}
