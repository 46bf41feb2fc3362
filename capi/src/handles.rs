//! Numbers for what is open.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::Pin;

use xen9p::errno::Errno;
use xen9p::fs::aio;
use xen9p::p9::session::Session;

use crate::error::{Fail, Result};
use crate::xen9p_handle;

/// An operation that was started: its future, and the session that drives it.
pub(crate) struct Operation {
    pub(crate) session: Session,
    pub(crate) future: Pin<Box<dyn Future<Output = Result<i64>>>>,
}

/// Something open.
#[derive(Clone)]
pub(crate) enum Open {
    Mount(aio::Fs),
    File(Rc<aio::File>),
    Dir(Rc<RefCell<aio::ReadDir>>),
    Operation(Rc<RefCell<Operation>>),
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
}

impl Handles {
    pub(crate) const fn new() -> Self {
        Handles { slots: Vec::new() }
    }

    pub(crate) fn add(&mut self, open: Open) -> Result<xen9p_handle> {
        let free = self.slots.iter().position(|slot| slot.open.is_none());
        let index = match free {
            Some(index) => index,
            None if self.slots.len() < MAX_HANDLES && self.slots.try_reserve(1).is_ok() => {
                self.slots.push(Slot {
                    generation: 1,
                    open: None,
                });
                self.slots.len() - 1
            }
            None => return Err(Fail::new(Errno::EMFILE, "too many handles are open")),
        };
        let slot = &mut self.slots[index];
        slot.open = Some(open);
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
}

/// The handle is open, but of another kind.
pub(crate) fn wrong(wanted: &str) -> Fail {
    Fail::new(
        Errno::EBADF,
        format_args!("the handle is not that of {wanted}"),
    )
}
