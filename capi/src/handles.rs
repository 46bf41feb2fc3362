//! Numbers for what is open.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use xen9p::errno::Errno;

use crate::dirs::SharedDir;
use crate::error::{Fail, Result};
use crate::files::File;
use crate::mount::Mount;
use crate::operations::Operation;
use crate::tree::{Tree, TreeNode};
use crate::xen9p_handle;

/// What a handle stands for, and the mount that it belongs to, which stays connected as long.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) mount: Rc<Mount>,
    pub(crate) kind: Kind,
}

/// Something open.
#[derive(Clone)]
pub(crate) enum Kind {
    Mount(Tree),
    Node(TreeNode),
    File(Rc<File>),
    Dir(SharedDir),
    Operation(Rc<RefCell<Operation>>),
    #[cfg(feature = "vchan")]
    Endpoint(Rc<crate::serve::Endpoint>),
}

/// The most that is open at a time.
const MAX_HANDLES: usize = 0xffff;

struct Slot {
    /// Counts the uses of this place; never 0, so that no handle is.
    generation: u16,
    open: Option<Open>,
}

/// All that is open.
pub(crate) struct Handles {
    slots: Vec<Slot>,
    /// The generation of a new place.
    first_generation: u16,
}

impl Handles {
    pub(crate) const fn new() -> Self {
        Handles {
            slots: Vec::new(),
            first_generation: 1,
        }
    }

    /// A place where nothing is open.
    fn free_place(&mut self) -> Result<usize> {
        let free = self.slots.iter().position(|slot| slot.open.is_none());
        match free {
            Some(index) => Ok(index),
            None if self.slots.len() < MAX_HANDLES && self.slots.try_reserve(1).is_ok() => {
                self.slots.push(Slot {
                    generation: self.first_generation,
                    open: None,
                });
                Ok(self.slots.len() - 1)
            }
            None => Err(Fail::new(Errno::EMFILE, "too many handles are open")),
        }
    }

    /// Takes what is open out of `open`, and leaves it there where there is no place: it is not dropped in here.
    pub(crate) fn add(&mut self, open: &mut Option<Open>) -> Result<xen9p_handle> {
        let index = self.free_place()?;
        let slot = &mut self.slots[index];
        slot.open = open.take();
        Ok(u32::from(slot.generation) << 16 | index as u32)
    }

    fn slot(&mut self, handle: xen9p_handle) -> Result<&mut Slot> {
        let slot = self.slots.get_mut((handle & 0xffff) as usize);
        slot.filter(|slot| u32::from(slot.generation) == handle >> 16 && slot.open.is_some())
            .ok_or_else(|| Fail::new(Errno::EBADF, "the handle is not open"))
    }

    pub(crate) fn get(&mut self, handle: xen9p_handle) -> Result<Open> {
        let open = self.slot(handle)?.open.clone();
        open.ok_or_else(|| Fail::new(Errno::EBADF, "the handle is not open"))
    }

    pub(crate) fn take(&mut self, handle: xen9p_handle) -> Result<Open> {
        let slot = self.slot(handle)?;
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        let open = slot.open.take();
        open.ok_or_else(|| Fail::new(Errno::EBADF, "the handle is not open"))
    }

    /// All that is open, which is no more; the numbers of before mean nothing that is opened later.
    pub(crate) fn take_all(&mut self) -> Vec<Open> {
        let latest = self.slots.iter().map(|slot| slot.generation).max();
        let latest = latest.unwrap_or(self.first_generation);
        self.first_generation = latest.checked_add(1).unwrap_or(1);
        let slots = core::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|slot| slot.open).collect()
    }
}

/// The handle is open, but of another kind.
pub(crate) fn wrong(wanted: &str) -> Fail {
    Fail::new(
        Errno::EBADF,
        format_args!("the handle is not that of {wanted}"),
    )
}
