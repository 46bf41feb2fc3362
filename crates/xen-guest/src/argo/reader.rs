//! What is in a ring: judged as if anybody could write to it.

use core::fmt;
use core::sync::atomic::{Ordering, fence};

use super::Address;
use crate::hypercall::DomId;
use crate::shared::SharedMemory;
use xen_abi as sys;

/// Bytes before the data.
pub(super) const HEAD: usize = size_of::<sys::xen_argo_ring>();

/// Messages begin at whole slots. One slot always stays free.
const SLOT: u32 = sys::XEN_ARGO_MSG_SLOT_SIZE;

const HEADER: usize = size_of::<sys::xen_argo_ring_message_header>();

const _: () = assert!(HEADER == SLOT as usize && HEAD == 64);

/// A rule that the ring's content breaks, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation(pub &'static &'static str);

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its bytes.
    pub len: u32,
    /// Where it comes from. The domain is as Xen knows it; the port is what the sender says.
    pub source: Address,
    /// What kind of message it is, as the sender says.
    pub kind: u32,
}

/// Takes messages out of a ring.
///
/// `tx_ptr` and each header are read once, into locals that are judged. `rx_ptr` is private, and only written.
pub struct Reader {
    memory: SharedMemory<'static>,
    /// A multiple of the size of slots, from 0 to the length of the data.
    rx: u32,
    /// The message at `rx`, once it was judged.
    current: Option<Message>,
}

/// Bytes that a message takes in a ring.
pub const fn cost(len: u32) -> u32 {
    len.saturating_add(SLOT).next_multiple_of(SLOT)
}

impl Reader {
    /// Reads an empty ring: 64 bytes of head, and the data, a whole number of slots and less than 4 GiB.
    ///
    /// # Panics
    /// It is of another size, or not aligned to words.
    pub fn new(memory: SharedMemory<'static>) -> Self {
        let data = memory.len().saturating_sub(HEAD);
        let whole =
            u32::try_from(data).is_ok_and(|len| len >= 3 * SLOT && len.is_multiple_of(SLOT));
        assert!(whole, "a ring is a head and a whole number of slots");
        Reader {
            memory,
            rx: 0,
            current: None,
        }
    }

    fn data(&self) -> SharedMemory<'static> {
        self.memory.subslice(HEAD, self.memory.len() - HEAD)
    }

    fn len(&self) -> u32 {
        (self.memory.len() - HEAD) as u32
    }

    /// The largest message that fits, in bytes.
    pub fn max_message(&self) -> u32 {
        self.len() - 2 * SLOT
    }

    /// Bytes from `rx` to where the writer is.
    fn used(&self) -> Result<u32, Violation> {
        let tx = self.memory.word::<u32>(4).load(Ordering::Acquire);
        match tx < self.len() && tx.is_multiple_of(SLOT) {
            true => Ok((tx + self.len() - self.rx) % self.len()),
            false => Err(Violation(&"tx_ptr of the ring is not at a slot")),
        }
    }

    /// The next message, if one is there: the same until [`consume`](Self::consume).
    ///
    /// # Errors
    /// The content makes no sense.
    pub fn peek(&mut self) -> Result<Option<Message>, Violation> {
        if self.current.is_some() {
            return Ok(self.current);
        }
        let used = self.used()?;
        if used == 0 {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        // A header is one slot, and never goes around the end.
        self.data().copy_out(self.rx as usize, &mut header);
        let [a, b, c, d, rest @ ..] = header;
        let whole = u32::from_le_bytes([a, b, c, d]);
        let [a, b, c, d, e, f, _, _, rest @ ..] = rest;
        if whole < SLOT || whole > used {
            return Err(Violation(&"a message of an impossible length"));
        }
        self.current = Some(Message {
            len: whole - SLOT,
            source: Address {
                domain: DomId(u16::from_le_bytes([e, f])),
                port: u32::from_le_bytes([a, b, c, d]),
            },
            kind: u32::from_le_bytes(rest),
        });
        Ok(self.current)
    }

    /// Copies bytes of the message that [`peek`](Self::peek) has shown, from `offset` on; those beyond its end are left
    /// as they are.
    pub fn copy_out(&self, offset: u32, into: &mut [u8]) {
        let len = self.current.map_or(0, |message| message.len);
        let rest = len.saturating_sub(offset) as usize;
        let count = rest.min(into.len());
        if let Some(into) = into.get_mut(..count).filter(|into| !into.is_empty()) {
            // Less than twice the length of the ring, by the checks of `peek`.
            let at = u64::from(self.rx) + u64::from(SLOT) + u64::from(offset);
            let at = at % u64::from(self.len());
            self.data().copy_out_around(at as usize, into);
        }
    }

    /// Drops the message that [`peek`](Self::peek) has shown. `true`: a message of `longest` bytes may have been refused
    /// for lack of room, so that [senders are to be woken](super::Argo::wake_senders).
    pub fn consume(&mut self, longest: u32) -> bool {
        let Some(message) = self.current.take() else {
            return false;
        };
        let before = self.rx;
        let next = u64::from(before) + u64::from(cost(message.len));
        self.rx = (next % u64::from(self.len())) as u32;
        self.memory.word::<u32>(0).store(self.rx, Ordering::Release);
        // A sender that was refused did not see this. What had come before it was refused is seen now.
        fence(Ordering::SeqCst);
        let Ok(used) = self.used() else {
            return true;
        };
        let used_before = used.saturating_add(cost(message.len));
        let free_before = self.len().saturating_sub(used_before).saturating_sub(SLOT);
        free_before <= cost(longest)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("rx", &self.rx)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}
