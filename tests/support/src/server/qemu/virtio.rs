//! A virtio-9p device behind legacy virtio-mmio registers (virtio 1.1, section 4.2.4), driven from
//! outside the machine.

use std::collections::VecDeque;
use std::io;

use xen9p::p9::wire::{HEADER_LEN, parse_header};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};

use super::qtest::Qtest;

/// Memory of the machine, which has no other user, and how it is used.
pub const MACHINE_MEMORY: &str = "128M";
const QUEUE: u64 = 1 << 20;
const SLOTS: u64 = 2 << 20;
const MEMORY_END: u64 = 128 << 20;
const PAGE: u64 = 4096;

/// The least room for a message: some replies are larger than the smallest msize.
const LEAST_ROOM: u32 = 8192;

/// Where microvm has its virtio slots.
const FIRST_DEVICE: u64 = 0xfeb0_0000;
const DEVICE_STEP: u64 = 512;
const DEVICES: u64 = 8;
const CONTROLLER: &str = "/machine/ioapic";

const MAGIC: u64 = 0x000;
const DEVICE_ID: u64 = 0x008;
const GUEST_FEATURES: u64 = 0x020;
const GUEST_PAGE_SIZE: u64 = 0x028;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_MAX: u64 = 0x034;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_ALIGN: u64 = 0x03c;
const QUEUE_PAGE: u64 = 0x040;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;

const VIRT: u32 = 0x7472_6976;
const DEVICE_9P: u32 = 9;
/// Status: ACKNOWLEDGE and DRIVER; then DRIVER_OK as well.
const KNOWN: u32 = 1 | 2;
const RUNNING: u32 = KNOWN | 4;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;

/// The device as a [`Transport`] of one lane. Each request has a slot with a buffer for itself and
/// one for its reply; QEMU works on all of them at once and answers in any order.
pub struct Virtio {
    machine: Qtest,
    device: u64,
    queue_size: u16,
    max_message: u32,
    /// For each message.
    room: u32,
    limit: u32,
    slots: u16,
    free: Vec<u16>,
    /// Requests offered so far, of which the device was told of `told`.
    offered: u16,
    told: u16,
    /// Replies taken so far.
    taken: u16,
    replies: VecDeque<Vec<u8>>,
    failure: Option<TransportError>,
    origin: std::time::Instant,
}

impl Virtio {
    /// Finds the device and brings it up.
    pub fn new(mut machine: Qtest, max_message: u32, slots: u16) -> io::Result<Self> {
        machine.intercept(CONTROLLER)?;
        let mut device = None;
        for at in (0..DEVICES).map(|n| FIRST_DEVICE + n * DEVICE_STEP) {
            if machine.read_u32(at + MAGIC)? == VIRT
                && machine.read_u32(at + DEVICE_ID)? == DEVICE_9P
            {
                device = Some(at);
            }
        }
        let device = device.ok_or(io::ErrorKind::NotFound)?;
        let mut set = |register, value| machine.write_u32(device + register, value);
        set(STATUS, 0)?;
        set(STATUS, KNOWN)?;
        set(GUEST_FEATURES, 0)?;
        set(GUEST_PAGE_SIZE, PAGE as u32)?;
        set(QUEUE_SELECT, 0)?;
        let queue_size = machine.read_u32(device + QUEUE_MAX)? as u16;
        let mut set = |register, value| machine.write_u32(device + register, value);
        set(QUEUE_SIZE, queue_size.into())?;
        set(QUEUE_ALIGN, PAGE as u32)?;
        set(QUEUE_PAGE, (QUEUE / PAGE) as u32)?;
        set(STATUS, RUNNING)?;
        let room = max_message.max(LEAST_ROOM);
        let needed = SLOTS + u64::from(slots) * 2 * u64::from(room);
        if slots == 0 || 2 * slots > queue_size || needed > MEMORY_END {
            return Err(io::Error::other("too many slots, or too large"));
        }
        Ok(Virtio {
            machine,
            device,
            queue_size,
            max_message,
            room,
            limit: max_message,
            slots,
            free: (0..slots).collect(),
            offered: 0,
            told: 0,
            taken: 0,
            replies: VecDeque::new(),
            failure: None,
            origin: std::time::Instant::now(),
        })
    }

    fn request_at(&self, slot: u16) -> u64 {
        SLOTS + u64::from(slot) * 2 * u64::from(self.room)
    }

    fn reply_at(&self, slot: u16) -> u64 {
        self.request_at(slot) + u64::from(self.room)
    }

    /// The ring of requests offered: flags, index, then entries of two bytes.
    fn offers(&self) -> u64 {
        QUEUE + 16 * u64::from(self.queue_size)
    }

    /// The ring of replies: flags, index, then entries of eight bytes, on a page of its own.
    fn answers(&self) -> u64 {
        (self.offers() + 6 + 2 * u64::from(self.queue_size)).next_multiple_of(PAGE)
    }

    /// Writes a request and offers it to the device.
    fn offer(&mut self, slot: u16, request: &[u8]) -> io::Result<()> {
        self.machine.write(self.request_at(slot), request)?;
        let first = 2 * slot;
        let mut descriptors = Vec::new();
        for (at, len, flags, next) in [
            (
                self.request_at(slot),
                request.len() as u32,
                DESC_NEXT,
                first + 1,
            ),
            (self.reply_at(slot), self.room, DESC_WRITE, 0),
        ] {
            descriptors.extend(at.to_le_bytes());
            descriptors.extend(len.to_le_bytes());
            descriptors.extend(flags.to_le_bytes());
            descriptors.extend(next.to_le_bytes());
        }
        self.machine
            .write(QUEUE + 16 * u64::from(first), &descriptors)?;
        let entry = self.offers() + 4 + 2 * u64::from(self.offered % self.queue_size);
        self.machine.write(entry, &first.to_le_bytes())?;
        self.offered = self.offered.wrapping_add(1);
        Ok(())
    }

    fn tell(&mut self) -> io::Result<()> {
        self.machine
            .write(self.offers() + 2, &self.offered.to_le_bytes())?;
        self.machine.write_u32(self.device + QUEUE_NOTIFY, 0)?;
        self.told = self.offered;
        Ok(())
    }

    /// Takes in the replies that are there. The device interrupts when it has put one in the queue, so
    /// that QEMU, which takes a tenth of a millisecond for an answer, is not asked in vain.
    fn take(&mut self) -> io::Result<()> {
        if !self.machine.interrupted()? {
            return Ok(());
        }
        let pending = self.machine.read_u32(self.device + INTERRUPT_STATUS)?;
        if pending != 0 {
            self.machine
                .write_u32(self.device + INTERRUPT_ACK, pending)?;
        }
        let index = self.machine.read(self.answers() + 2, 2)?;
        let index = u16::from_le_bytes([index[0], index[1]]);
        while self.taken != index {
            let at = self.answers() + 4 + 8 * u64::from(self.taken % self.queue_size);
            let used = self.machine.read_u64(at)?;
            let (slot, len) = (used as u16 / 2, (used >> 32) as u32);
            // A request that was flushed away comes back without a reply.
            if len > 0 {
                let reply = self.machine.read(self.reply_at(slot), len as usize)?;
                self.replies.push_back(reply);
            }
            self.free.push(slot);
            self.taken = self.taken.wrapping_add(1);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TransportError> {
        self.failure.map_or(Ok(()), Err)
    }

    /// What went wrong with the machine has ended it.
    fn checked<T>(&mut self, result: io::Result<T>) -> Result<T, TransportError> {
        let lost = TransportError::Lost(&"QEMU has gone");
        result.map_err(|_| *self.failure.get_or_insert(lost))
    }
}

impl Transport for Virtio {
    fn lanes(&self) -> u16 {
        1
    }

    fn waits_for_news(&self) -> bool {
        true
    }

    fn max_message(&self) -> u32 {
        self.max_message
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.limit = bytes;
    }

    /// Each slot has room for the largest reply.
    fn has_room(&mut self, _: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.check()?;
        Ok(!self.free.is_empty() && request <= self.max_message && reply <= self.room)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let request = parts.concat();
        if !self.has_room(lane, request.len() as u32, reply)? {
            return Ok(false);
        }
        let Some(slot) = self.free.pop() else {
            return Ok(false);
        };
        let offered = self.offer(slot, &request);
        self.checked(offered)?;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.check()?;
        if self.told != self.offered {
            let told = self.tell();
            self.checked(told)?;
        }
        Ok(())
    }

    fn peek(&mut self, _: Lane) -> Result<Option<Header>, TransportError> {
        self.check()?;
        if self.replies.is_empty() && self.free.len() < usize::from(self.slots) {
            let taken = self.take();
            self.checked(taken)?;
        }
        let Some(reply) = self.replies.front() else {
            return Ok(None);
        };
        match reply.first_chunk::<HEADER_LEN>().map(parse_header) {
            Some(header) if header.size as usize == reply.len() && header.size <= self.limit => {
                Ok(Some(header))
            }
            _ => {
                let violation = TransportError::Violation(
                    &"a reply whose size is not what it says, or exceeds msize",
                );
                Err(*self.failure.get_or_insert(violation))
            }
        }
    }

    fn copy_out(&mut self, _: Lane, offset: u32, into: &mut [u8]) {
        let message = self.replies.front().map_or(&[][..], |reply| reply);
        let rest = message.get(offset as usize..).unwrap_or_default();
        let (there, beyond) = into.split_at_mut(rest.len().min(into.len()));
        there.copy_from_slice(&rest[..there.len()]);
        beyond.fill(0);
    }

    fn consume(&mut self, _: Lane) {
        self.replies.pop_front();
    }

    fn release(&mut self, _: Lane, _: u32) {}

    fn now(&self) -> Instant {
        Instant::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.check()?;
        if self.replies.is_empty() {
            let waited = self.machine.wait(deadline - self.now());
            self.checked(waited)?;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.failure.get_or_insert(TransportError::Closed);
    }
}
