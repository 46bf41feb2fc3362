//! Argo: messages that Xen copies to a ring in another domain (Xen's docs/designs/argo.pandoc, public/argo.h).
//!
//! Nothing is shared and nothing is granted: the receiver registers memory of its own as a [`Ring`], and Xen copies each
//! message there, whole or not at all, with the number of the domain that it comes from. Xen has it since 4.12, but few
//! hypervisors are built with it: [`probe`] tells.
//!
//! One event, of one virtual interrupt for all rings, tells that a message has come or that there is room by now.
//!
//! ```
//! use xen_guest::Xen;
//! use xen_guest::argo::{Argo, ArgoError};
//! use xen_guest::platform::Platform;
//! use xen_guest::hypercall::DomId;
//!
//! /// Registers a ring for what a domain sends to port 7, and gives the first message that is there, if one is.
//! fn receive<P: Platform>(xen: &Xen<P>, from: DomId) -> Result<Option<Vec<u8>>, ArgoError> {
//!     let argo = Argo::new(xen)?;
//!     let mut ring = argo.register(7, from, 64 << 10)?;
//!     // A ring that breaks its rules has no messages; say so, and register another, in earnest.
//!     let Ok(Some(message)) = ring.peek() else {
//!         return Ok(None);
//!     };
//!     let mut bytes = vec![0; message.len as usize];
//!     ring.copy_out(0, &mut bytes);
//!     if ring.consume(message.len) {
//!         argo.wake_senders().map_err(ArgoError::Xen)?;
//!     }
//!     Ok(Some(bytes))
//! }
//! ```

mod reader;

use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::num::NonZeroUsize;

use crate::Xen;
use crate::event::EventChannel;
use crate::grant::{GrantError, OwnPages};
use crate::hypercall::argo as call;
use crate::hypercall::{DomId, XenError};
use crate::platform::{PAGE_SIZE, Platform};
use crate::shared::SharedMemory;
use xen_abi as sys;

pub use call::{Address, MAX_PARTS, PeerRing};
pub use reader::{Message, Reader, Violation};

/// Whether a domain can use Argo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It can.
    There,
    /// This Xen does not know the hypercall: it is built without Argo.
    NotBuilt,
    /// Xen was started without `argo=1`.
    Disabled,
    /// Xen does not let this domain use it.
    Refused,
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Support::There => "Xen has Argo",
            Support::NotBuilt => "this Xen is built without Argo (CONFIG_ARGO)",
            Support::Disabled => {
                "Argo is switched off in this Xen: argo=1 on its command line switches it on"
            }
            Support::Refused => "Xen does not let this domain use Argo",
        })
    }
}

/// Asks Xen whether this domain can use Argo, which changes nothing.
///
/// # Errors
/// An answer that means neither.
pub fn probe<P: Platform>(platform: &P) -> Result<Support, XenError> {
    match call::wake_senders(platform) {
        Ok(()) => Ok(Support::There),
        Err(XenError::ENOSYS) => Ok(Support::NotBuilt),
        Err(XenError::EOPNOTSUPP) => Ok(Support::Disabled),
        Err(XenError::ENODEV | XenError::EPERM | XenError::EACCES) => Ok(Support::Refused),
        Err(error) => Err(error),
    }
}

/// Why there is no ring, or no Argo at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgoError {
    /// This domain can't use Argo.
    Unsupported(Support),
    /// Another [`Argo`] of this domain exists: clone that one.
    InUse,
    /// There is no memory for the ring.
    Memory(GrantError),
    /// Xen refused something.
    Xen(XenError),
}

impl fmt::Display for ArgoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgoError::Unsupported(support) => write!(f, "unsupported: {support}"),
            ArgoError::InUse => {
                f.write_str("the domain's interrupt for Argo is in use by another driver")
            }
            ArgoError::Memory(error) => write!(f, "no memory for the ring: {error}"),
            ArgoError::Xen(error) => write!(f, "Xen refuses it: {error}"),
        }
    }
}

impl core::error::Error for ArgoError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ArgoError::Memory(error) => Some(error),
            ArgoError::Xen(error) => Some(error),
            _ => None,
        }
    }
}

struct Shared<P: Platform> {
    xen: Xen<P>,
    channel: RefCell<EventChannel<P>>,
    handler: RefCell<Option<Rc<dyn Fn()>>>,
}

/// A domain's use of Argo. Clones are the same.
pub struct Argo<P: Platform>(Rc<Shared<P>>);

impl<P: Platform> Clone for Argo<P> {
    fn clone(&self) -> Self {
        Argo(Rc::clone(&self.0))
    }
}

impl<P: Platform> fmt::Debug for Argo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Argo")
            .field(&self.0.channel.borrow())
            .finish()
    }
}

fn bind<P: Platform>(xen: &Xen<P>) -> Result<EventChannel<P>, ArgoError> {
    match probe(&xen.platform).map_err(ArgoError::Xen)? {
        Support::There => {}
        other => return Err(ArgoError::Unsupported(other)),
    }
    xen.events
        .bind_virq(sys::VIRQ_ARGO)
        .map_err(|error| match error {
            XenError::EEXIST => ArgoError::InUse,
            error => ArgoError::Xen(error),
        })
}

impl<P: Platform> Argo<P> {
    /// Looks whether there is Argo, and takes its interrupt.
    ///
    /// # Errors
    /// [`ArgoError::Unsupported`], [`ArgoError::InUse`].
    pub fn new(xen: &Xen<P>) -> Result<Self, ArgoError> {
        Ok(Argo(Rc::new(Shared {
            channel: RefCell::new(bind(xen)?),
            xen: xen.clone(),
            handler: RefCell::new(None),
        })))
    }

    /// The domain.
    pub fn xen(&self) -> &Xen<P> {
        &self.0.xen
    }

    /// Has `handler` called at each event, wherever the domain waits, instead of an earlier one.
    pub fn on_event(&self, handler: Rc<dyn Fn()>) {
        let own = Rc::clone(&handler);
        self.0.channel.borrow().on_event(move || own());
        self.0.handler.replace(Some(handler));
    }

    /// Takes the interrupt anew if the domain was resumed elsewhere since.
    fn follow_resume(&self) -> Result<(), ArgoError> {
        if !self.0.channel.borrow().is_stale() {
            return Ok(());
        }
        let channel = bind(&self.0.xen)?;
        if let Some(handler) = self.0.handler.borrow().clone() {
            channel.on_event(move || handler());
        }
        // The one of before has no port any more.
        drop(self.0.channel.replace(channel));
        Ok(())
    }

    /// Registers a ring of at least `bytes` bytes at `port`, for messages of `partner` alone.
    ///
    /// # Errors
    /// [`ArgoError::Xen`] with `EEXIST`: there is one at this port for this partner; `ESRCH` or `ECONNREFUSED`: there is no
    /// such partner; others of [`ArgoError`].
    pub fn register(&self, port: u32, partner: DomId, bytes: usize) -> Result<Ring<P>, ArgoError> {
        self.follow_resume()?;
        let most = sys::XEN_ARGO_MAX_RING_SIZE as usize;
        let count = (bytes.min(most) + reader::HEAD).div_ceil(PAGE_SIZE);
        let count = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let xen = &self.0.xen;
        let pages = xen.grants.own_pages(count).map_err(ArgoError::Memory)?;
        // A whole number of pages without the head, which is a whole number of slots.
        let len = (pages.size() - reader::HEAD).min(most);
        let frames = pages.frames();
        // SAFETY: whole pages of this domain's own, which the ring below keeps until Xen has let go of them, and which are
        // accessed as shared memory alone.
        let registered =
            unsafe { call::register_ring(&xen.platform, port, partner, len as u32, &frames) };
        registered.map_err(ArgoError::Xen)?;
        let start = pages.memory().as_ptr();
        // SAFETY: the first bytes of the pages, which stay mapped as long as their handle lives; that lives in one place with
        // the reader, which is dropped before it and does not give the memory away.
        let memory = unsafe { SharedMemory::<'static>::new(start, reader::HEAD + len) };
        Ok(Ring {
            reader: Reader::new(memory),
            argo: self.clone(),
            port,
            partner,
            resumes: xen.events.resumes(),
            pages: Some(pages),
        })
    }

    /// Sends one message of at most [`MAX_PARTS`] parts, all of it or nothing.
    ///
    /// # Errors
    /// See [`hypercall::argo::send`](call::send).
    pub fn send(&self, port: u32, to: Address, parts: &[&[u8]], kind: u32) -> Result<(), XenError> {
        call::send(&self.0.xen.platform, port, to, parts, kind)
    }

    /// Asks for another domain's ring for this one: `None` where there is none, or no such domain.
    ///
    /// # Errors
    /// As Xen says.
    pub fn query(&self, ring: Address) -> Result<Option<PeerRing>, XenError> {
        call::query(&self.0.xen.platform, ring)
    }

    /// Has Xen tell those who wait for room in rings of this domain. To be called when messages were consumed and
    /// [`Ring::consume`] says so.
    ///
    /// # Errors
    /// As Xen says.
    pub fn wake_senders(&self) -> Result<(), XenError> {
        call::wake_senders(&self.0.xen.platform)
    }
}

/// A ring of this domain's. Dropping it unregisters it.
pub struct Ring<P: Platform> {
    // Dropped before the pages.
    reader: Reader,
    argo: Argo<P>,
    port: u32,
    partner: DomId,
    /// How often the domain had been resumed elsewhere when it was registered.
    resumes: u64,
    /// Gone when Xen has them and does not let go.
    pages: Option<OwnPages<P>>,
}

impl<P: Platform> Ring<P> {
    /// As [`Reader::peek`].
    ///
    /// # Errors
    /// The ring's content makes no sense.
    pub fn peek(&mut self) -> Result<Option<Message>, Violation> {
        self.reader.peek()
    }

    /// As [`Reader::copy_out`].
    pub fn copy_out(&self, offset: u32, into: &mut [u8]) {
        self.reader.copy_out(offset, into);
    }

    /// As [`Reader::consume`].
    pub fn consume(&mut self, longest: u32) -> bool {
        self.reader.consume(longest)
    }

    /// The largest message that fits, in bytes.
    pub fn max_message(&self) -> u32 {
        self.reader.max_message()
    }

    /// Its port.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The domain that may send to it.
    pub fn partner(&self) -> DomId {
        self.partner
    }

    /// Whether the domain was resumed elsewhere since it was registered: there it is not.
    pub fn is_stale(&self) -> bool {
        self.resumes != self.argo.0.xen.events.resumes()
    }
}

impl<P: Platform> Drop for Ring<P> {
    fn drop(&mut self) {
        let platform = &self.argo.0.xen.platform;
        match call::unregister_ring(platform, self.port, self.partner) {
            // Xen does not have it, as the partner has died or the domain was resumed elsewhere.
            Ok(()) | Err(XenError::ENOENT) => {}
            // In another Xen, which has no Argo, there is no ring.
            Err(_) if self.is_stale() => {}
            Err(error) => {
                log::warn!("Xen keeps the memory of an Argo ring: {error}");
                core::mem::forget(self.pages.take());
            }
        }
    }
}

impl<P: Platform> fmt::Debug for Ring<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("port", &self.port)
            .field("partner", &self.partner)
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
