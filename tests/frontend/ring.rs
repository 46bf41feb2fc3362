//! A ring that does as it is told.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::sync::atomic::Ordering;

use xen9p::p9::wire::{Dialect, Request, Tag, kind};
use xen9p::platform::PAGE_SIZE;
use xen9p::rt::BarePlatform;
use xen9p::sys::xen_9pfs_data_intf as Interface;
use xen9p::xen::Xen;
use xen9p::xen::event::{EventChannel, Events};
use xen9p::xen::grant::SharedPages;
use xen9p::xen::shared::SharedMemory;

use crate::{Result, STEP_TIMEOUT, during};

/// The order of the rings here.
const ORDER: u32 = 2;

/// Bytes in each direction.
pub const SIZE: u32 = 2 * PAGE_SIZE as u32;

/// The words of the index page.
pub const IN_CONS: usize = offset_of!(Interface, in_cons);
pub const IN_PROD: usize = offset_of!(Interface, in_prod);
pub const OUT_CONS: usize = offset_of!(Interface, out_cons);
pub const OUT_PROD: usize = offset_of!(Interface, out_prod);
pub const RING_ORDER: usize = offset_of!(Interface, ring_order);
pub const REFS: usize = offset_of!(Interface, ref_);

/// A ring.
pub struct Ring {
    /// What is said of it in xenstore.
    pub nodes: Vec<(String, String)>,
    events: Events<BarePlatform>,
    channel: EventChannel<BarePlatform>,
    page: SharedMemory<'static>,
    data: SharedMemory<'static>,
    out_prod: u32,
    in_cons: u32,
    _pages: [SharedPages<BarePlatform>; 2],
}

impl Ring {
    /// A ring in good order.
    pub fn new(xen: &Xen<BarePlatform>, backend: xen9p::hypercall::DomId) -> Result<Ring> {
        let share = |pages: usize| {
            let pages = NonZeroUsize::new(pages).ok_or("no pages")?;
            during(xen.grants.share(pages, backend), "sharing pages")
        };
        let pages = [share(1)?, share(1 << ORDER)?];
        let channel = during(xen.events.alloc_unbound(backend), "an event channel")?;
        // The events count; what they are about is looked up.
        channel.on_event(|| {});
        // SAFETY: the pages stay mapped as long as `pages` lives, which is part of the ring, is dropped last, and is used by
        // nothing else.
        let [page, data] = [&pages[0], &pages[1]]
            .map(|pages| unsafe { SharedMemory::<'static>::new(pages.as_ptr(), pages.size()) });
        let node = |name: &str, value: u32| (name.to_string(), value.to_string());
        let nodes = vec![
            node("version", 1),
            node("num-rings", 1),
            node("ring-ref0", pages[0].refs()[0].0),
            node("event-channel-0", channel.port().0),
        ];
        let ring = Ring {
            nodes,
            events: xen.events.clone(),
            channel,
            page,
            data,
            out_prod: 0,
            in_cons: 0,
            _pages: pages,
        };
        ring.set(RING_ORDER, ORDER);
        for (index, grant) in ring._pages[1].refs().iter().enumerate() {
            ring.set(REFS + 4 * index, grant.0);
        }
        Ok(ring)
    }

    /// Says something else in xenstore.
    pub fn say(&mut self, name: &str, value: &str) {
        self.nodes.retain(|(known, _)| known != name);
        self.nodes.push((name.to_string(), value.to_string()));
    }

    /// Writes a word of the index page.
    pub fn set(&self, word: usize, value: u32) {
        self.page.word::<u32>(word).store(value, Ordering::SeqCst);
    }

    /// Moves `out_prod` from where requests end, without any.
    pub fn claim(&self, bytes: u32) {
        self.set(OUT_PROD, self.out_prod.wrapping_add(bytes));
        self.notify();
    }

    /// Moves `in_cons` from where the replies end that were taken.
    pub fn take(&self, bytes: u32) {
        self.set(IN_CONS, self.in_cons.wrapping_add(bytes));
        self.notify();
    }

    /// Sends an event.
    pub fn notify(&self) {
        // A channel that the backend has closed is what some cases end with.
        let _ = self.channel.notify();
    }

    /// Puts bytes behind the requests, and shows them.
    pub fn send(&mut self, bytes: &[u8]) {
        let requests = self.data.subslice(SIZE as usize, SIZE as usize);
        requests.copy_in_around((self.out_prod % SIZE) as usize, bytes);
        self.out_prod = self.out_prod.wrapping_add(bytes.len() as u32);
        self.claim(0);
    }

    /// Writes over bytes that were sent, the first of them `back` bytes before the end of all that was.
    pub fn rewrite(&self, back: u32, bytes: &[u8]) {
        let requests = self.data.subslice(SIZE as usize, SIZE as usize);
        let at = self.out_prod.wrapping_sub(back) % SIZE;
        requests.copy_in_around(at as usize, bytes);
    }

    /// Writes over all of the room for replies but the first bytes of the next one.
    pub fn scribble(&self, but: u32, byte: u8) {
        let replies = self.data.subslice(0, SIZE as usize);
        let at = self.in_cons.wrapping_add(but) % SIZE;
        replies.copy_in_around(at as usize, &vec![byte; (SIZE - but) as usize]);
    }

    /// Sends a header that claims this size, with as many bytes behind it as fit.
    pub fn send_size(&mut self, size: u32) {
        let mut message = vec![0; size.clamp(7, SIZE - 256) as usize];
        message[..4].copy_from_slice(&size.to_le_bytes());
        message[4] = kind::TCLUNK;
        self.send(&message);
    }

    /// Takes the next reply, and returns its type.
    pub fn reply(&mut self) -> Result<u8> {
        let deadline = self.events.now() + STEP_TIMEOUT;
        let in_prod = self.page.word::<u32>(IN_PROD);
        loop {
            let seen = self.events.generation();
            let queued = in_prod.load(Ordering::Acquire).wrapping_sub(self.in_cons);
            if (7..=SIZE).contains(&queued) {
                let mut head = [0; 5];
                let replies = self.data.subslice(0, SIZE as usize);
                replies.copy_out_around((self.in_cons % SIZE) as usize, &mut head);
                let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
                if !(7..=queued).contains(&size) {
                    return Err(format!("a reply of {size} bytes"));
                }
                self.in_cons = self.in_cons.wrapping_add(size);
                self.take(0);
                return Ok(head[4]);
            }
            if self.events.now() >= deadline {
                return Err("no reply".into());
            }
            self.events.wait(seen, deadline);
        }
    }

    /// Agrees on a version, which a server does at any time.
    pub fn version(&mut self) -> Result<()> {
        self.ask_for_version()?;
        match self.reply()? {
            kind::RVERSION => Ok(()),
            other => Err(format!("a reply of type {other} to Tversion")),
        }
    }

    /// Sends the request for that, and an event.
    pub fn ask_for_version(&mut self) -> Result<()> {
        let version = Dialect::Linux.version().as_bytes();
        let request = Request::Version {
            msize: 4096,
            version,
        };
        let mut message = [0; 64];
        let len = request
            .encode(Tag::NONE, Dialect::Linux, &mut message)
            .map_err(|error| format!("{error:?}"))?;
        self.send(&message[..len]);
        Ok(())
    }
}
