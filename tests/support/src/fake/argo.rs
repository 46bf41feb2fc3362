//! Argo between simulated domains, as Xen's common/argo.c does it: what it refuses, when it tells, and what it does not tell.

use std::collections::BTreeMap;
use std::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};

use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::{PAGE_SIZE, Page};
use xen9p::sys;

use super::{FakeXen, World};

/// Bytes before a ring's data.
const HEAD: usize = 64;

/// Messages begin at multiples of this.
const SLOT: u32 = 16;

/// Rings that a domain may have.
const MAX_RINGS: usize = 128;

/// Domains that may wait for room in one ring.
const MAX_WAITERS: usize = 32;

/// Whether domains can use Argo, and what their hypercalls return if not.
pub type Refusal = Option<XenError>;

/// Where a ring is: its domain, its port, and the domain that may send to it.
type Place = (DomId, u32, DomId);

struct Ring {
    frames: Vec<u64>,
    len: u32,
    /// Xen's own; the one in the ring is for its owner.
    tx: u32,
    /// Who was refused, and how many bytes they had.
    waiters: Vec<(DomId, u32)>,
}

/// All rings.
pub(super) struct Argo {
    pub(super) refusal: Refusal,
    rings: BTreeMap<Place, Ring>,
    pub(super) full: bool,
}

impl Default for Argo {
    fn default() -> Self {
        Argo {
            refusal: Some(XenError::ENOSYS),
            rings: BTreeMap::new(),
            full: false,
        }
    }
}

impl Argo {
    /// A domain is gone: its rings and, with no word to their owners, those that it was the partner of.
    pub(super) fn forget(&mut self, domain: DomId) {
        self.rings
            .retain(|(owner, _, partner), _| *owner != domain && *partner != domain);
    }

    /// Whether Xen may write to one of these frames.
    pub(super) fn uses(&self, frames: &std::ops::Range<u64>) -> bool {
        let mut all = self.rings.values().flat_map(|ring| &ring.frames);
        all.any(|frame| frames.contains(frame))
    }
}

fn cost(len: u32) -> u32 {
    (len + SLOT).next_multiple_of(SLOT)
}

impl World {
    pub(super) fn argo_op(&self, me: DomId, args: [usize; 5]) -> Result<usize, XenError> {
        if let Some(error) = self.argo.borrow().refusal {
            return Err(error);
        }
        let [op, first, second, third, fourth] = args;
        if third > u32::MAX as usize || fourth > u32::MAX as usize {
            return Err(XenError::EINVAL);
        }
        match op as u32 {
            sys::XEN_ARGO_OP_register_ring => self.register(me, first, second, third, fourth),
            sys::XEN_ARGO_OP_unregister_ring => self.unregister(me, first),
            sys::XEN_ARGO_OP_sendv => self.send(me, first, second, third, fourth as u32),
            sys::XEN_ARGO_OP_notify => self.notify(me, first),
            _ => Err(XenError::EOPNOTSUPP),
        }
    }

    fn exists(&self, domain: DomId) -> bool {
        self.domains.borrow().contains_key(&domain)
    }

    fn register(
        &self,
        me: DomId,
        ring: usize,
        frames: usize,
        count: usize,
        flags: usize,
    ) -> Result<usize, XenError> {
        // SAFETY: the caller passes this operation's structure.
        let call = unsafe { &*with_exposed_provenance::<sys::xen_argo_register_ring>(ring) };
        let pages = (call.len as usize + HEAD).div_ceil(PAGE_SIZE);
        if call.pad != 0
            || call.len < 3 * SLOT
            || !call.len.is_multiple_of(SLOT)
            || call.len > sys::XEN_ARGO_MAX_RING_SIZE
            || count != pages
        {
            return Err(XenError::EINVAL);
        }
        if call.partner_id == sys::XEN_ARGO_DOMID_ANY {
            return Err(XenError::EPERM);
        }
        let partner = DomId(call.partner_id);
        if !self.exists(partner) {
            return Err(XenError::ESRCH);
        }
        // SAFETY: the caller passes so many frames.
        let frames: Vec<u64> =
            unsafe { std::slice::from_raw_parts(with_exposed_provenance(frames), count) }.to_vec();
        let memory = self.memory.borrow();
        if frames.iter().any(|&frame| memory.owner(frame) != Some(me)) {
            return Err(XenError::EINVAL);
        }
        drop(memory);
        let mut argo = self.argo.borrow_mut();
        let place = (me, call.aport, partner);
        if argo.rings.contains_key(&place) {
            assert!(
                flags as u32 & sys::XEN_ARGO_REGISTER_FLAG_FAIL_EXIST != 0,
                "to register a ring again makes Xen count it twice"
            );
            return Err(XenError::EEXIST);
        }
        if argo.rings.keys().filter(|(owner, ..)| *owner == me).count() >= MAX_RINGS {
            return Err(XenError::ENOSPC);
        }
        let ring = Ring {
            frames,
            len: call.len,
            tx: 0,
            waiters: Vec::new(),
        };
        argo.rings.insert(place, ring);
        Ok(0)
    }

    fn unregister(&self, me: DomId, ring: usize) -> Result<usize, XenError> {
        // SAFETY: the caller passes this operation's structure.
        let call = unsafe { &*with_exposed_provenance::<sys::xen_argo_unregister_ring>(ring) };
        if call.pad != 0 {
            return Err(XenError::EINVAL);
        }
        let place = (me, call.aport, DomId(call.partner_id));
        let removed = self.argo.borrow_mut().rings.remove(&place);
        removed.map(|_| 0).ok_or(XenError::ENOENT)
    }

    fn send(
        &self,
        me: DomId,
        route: usize,
        pieces: usize,
        count: usize,
        kind: u32,
    ) -> Result<usize, XenError> {
        // SAFETY: the caller passes this operation's structure.
        let route = unsafe { &*with_exposed_provenance::<sys::xen_argo_send_addr>(route) };
        if route.src.pad != 0 || route.dst.pad != 0 {
            return Err(XenError::EINVAL);
        }
        if route.src.domain_id != sys::XEN_ARGO_DOMID_ANY && route.src.domain_id != me.0 {
            return Err(XenError::EPERM);
        }
        if count == 0 || count > sys::XEN_ARGO_MAXIOV as usize {
            return Err(XenError::EINVAL);
        }
        // SAFETY: the caller passes so many pieces.
        let pieces: &[sys::xen_argo_iov] =
            unsafe { std::slice::from_raw_parts(with_exposed_provenance(pieces), count) };
        let mut bytes = Vec::new();
        for piece in pieces {
            assert_eq!(piece.pad, 0, "the padding of a piece is 0");
            assert_ne!(piece.iov_len, 0, "Xen complains of an empty piece");
            // SAFETY: the caller passes so many bytes there.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(piece.iov_hnd.p, piece.iov_len as usize)
            });
        }
        let to = DomId(route.dst.domain_id);
        if !self.exists(to) {
            return Err(XenError::ESRCH);
        }
        // As Xen's `sendv` returns errors from here on: through a number of 32 bits without a sign.
        let inserted = self.insert(me, to, route.src.aport, route.dst.aport, kind, &bytes);
        Ok(inserted.unwrap_or_else(|error| (-i32::from(error.0)) as u32) as usize)
    }

    /// Copies a message into a ring; returns how many bytes.
    fn insert(
        &self,
        me: DomId,
        to: DomId,
        from_port: u32,
        port: u32,
        kind: u32,
        bytes: &[u8],
    ) -> Result<u32, XenError> {
        let mut argo = self.argo.borrow_mut();
        let full = argo.full;
        let ring = argo.rings.get_mut(&(to, port, me));
        let ring = ring.ok_or(XenError::ECONNREFUSED)?;
        let len = u32::try_from(bytes.len()).map_err(|_| XenError::EMSGSIZE)?;
        if cost(len) >= ring.len {
            return Err(XenError::EMSGSIZE);
        }
        if cost(len) >= self.room(ring) || full {
            if ring.waiters.len() >= MAX_WAITERS || full {
                return Err(XenError::EBUSY);
            }
            match ring.waiters.iter_mut().find(|(waiter, _)| *waiter == me) {
                Some((_, longest)) => *longest = len.max(*longest),
                None => ring.waiters.push((me, len)),
            }
            return Err(XenError::EAGAIN);
        }
        let mut message = (len + SLOT).to_le_bytes().to_vec();
        message.extend(from_port.to_le_bytes());
        message.extend(me.0.to_le_bytes());
        message.extend([0; 2]);
        message.extend(kind.to_le_bytes());
        message.extend(bytes);
        for (index, byte) in message.into_iter().enumerate() {
            let at = (ring.tx as usize + index) % ring.len as usize;
            self.poke(ring, HEAD + at, &[byte]);
        }
        ring.tx = (ring.tx + cost(len)) % ring.len;
        let tx = ring.tx.to_le_bytes();
        self.poke(ring, 4, &tx);
        drop(argo);
        self.with_domain(me, |domain| domain.copied_by_xen += u64::from(len));
        self.channels.borrow_mut().raise_virq(to, sys::VIRQ_ARGO);
        Ok(len)
    }

    /// Bytes from where Xen writes to where the owner says that it reads, whatever it says.
    fn room(&self, ring: &Ring) -> u32 {
        let mut rx = [0; 4];
        self.peek(ring, 0, &mut rx);
        let rx = u32::from_le_bytes(rx);
        if rx >= ring.len || !rx.is_multiple_of(SLOT) {
            return 0;
        }
        match (rx + ring.len - ring.tx) % ring.len {
            0 => ring.len,
            room => room,
        }
    }

    fn notify(&self, me: DomId, question: usize) -> Result<usize, XenError> {
        self.wake(me);
        if question == 0 {
            return Ok(0);
        }
        let head: *mut sys::xen_argo_ring_data = with_exposed_provenance_mut(question);
        // SAFETY: the caller passes this operation's structure.
        let count = unsafe { (*head).nent } as usize;
        if count > 256 {
            return Err(XenError::EACCES);
        }
        let argo = self.argo.borrow();
        for index in 0..count {
            // SAFETY: so many entries are behind the head.
            let entry = unsafe {
                let first = head.add(1).cast::<sys::xen_argo_ring_data_ent>();
                &mut *first.add(index)
            };
            let place = (DomId(entry.ring.domain_id), entry.ring.aport, me);
            entry.flags = 0;
            if let Some(ring) = argo.rings.get(&place) {
                entry.flags = sys::XEN_ARGO_RING_EXISTS as u16;
                entry.max_message_size = ring.len - 2 * SLOT;
                assert_eq!(entry.space_required, 0, "who asks for room waits for it");
            }
        }
        Ok(0)
    }

    /// Tells those who wait for room in rings of a domain, if there is by now.
    fn wake(&self, owner: DomId) {
        let mut woken = Vec::new();
        let mut argo = self.argo.borrow_mut();
        let own = argo.rings.iter_mut().filter(|((of, ..), _)| *of == owner);
        for (_, ring) in own {
            let room = self.room(ring);
            ring.waiters.retain(|&(waiter, len)| {
                let fits = cost(len) < room;
                if fits {
                    woken.push(waiter);
                }
                !fits
            });
        }
        drop(argo);
        for waiter in woken {
            self.channels
                .borrow_mut()
                .raise_virq(waiter, sys::VIRQ_ARGO);
        }
    }

    fn at(&self, ring: &Ring, offset: usize) -> *mut u8 {
        let frame = ring.frames[offset / PAGE_SIZE];
        let page: NonNull<Page> = self.memory.borrow().page(frame).expect("a page of a ring");
        page.cast::<u8>().as_ptr().wrapping_add(offset % PAGE_SIZE)
    }

    fn poke(&self, ring: &Ring, offset: usize, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            // SAFETY: a byte of a page of this machine, which no reference points to.
            unsafe { self.at(ring, offset + index).write(byte) };
        }
    }

    fn peek(&self, ring: &Ring, offset: usize, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: as in `poke`.
            *byte = unsafe { self.at(ring, offset + index).read() };
        }
    }
}

impl FakeXen {
    /// Sets what every operation of Argo returns; `None`: it works. A new machine has no Argo.
    pub fn refuse_argo(&self, refusal: Refusal) {
        self.world.argo.borrow_mut().refusal = refusal;
    }

    /// Has too many others wait for room in all rings, which are full, or not any more.
    pub fn crowd_argo(&self, full: bool) {
        self.world.argo.borrow_mut().full = full;
    }

    /// Ports of the rings that a domain has.
    pub fn argo_rings(&self, id: DomId) -> Vec<u32> {
        let argo = self.world.argo.borrow();
        let own = argo.rings.keys().filter(|(owner, ..)| *owner == id);
        own.map(|&(_, port, _)| port).collect()
    }

    /// Writes to a domain's ring, the first 64 bytes of which are its head, and raises its event.
    pub fn poke_argo_ring(&self, id: DomId, port: u32, offset: usize, bytes: &[u8]) {
        let argo = self.world.argo.borrow();
        let mut rings = argo.rings.iter();
        let found = rings.find(|((owner, at, _), _)| *owner == id && *at == port);
        self.world
            .poke(found.expect("the ring exists").1, offset, bytes);
        drop(argo);
        self.raise_virq(id, sys::VIRQ_ARGO);
    }
}
