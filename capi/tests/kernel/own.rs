//! What a kernel has of its own: a xenbus that owns xenstore's ring, with requests of the kernel's under way; an allocator
//! of grant references, which hands them out from the top; a dispatcher that knows each port.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use xen9p::platform::{Page, Platform};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::xen::event::Port;
use xen9p::xen::ring::{Consumer, Producer};
use xen9p::xen::shared::SharedMemory;
use xen9p::xen::store::wire::{Decoder, Header, Kind, Message, watch_event};
use xen9p_capi::*;
use xen9p_testing::fake::FakePlatform;

use super::kernel;
use super::memory::outside;

/// References in the one frame of the table that this kernel has.
const REFERENCES: u32 = 512;

/// The kernel's drivers.
pub struct Own {
    platform: FakePlatform,
    port: Port,
    requests: RefCell<Producer<'static>>,
    answers: RefCell<Consumer<'static>>,
    decoder: RefCell<Decoder>,
    last_request: Cell<u32>,
    arrived: RefCell<BTreeMap<u32, Message>>,
    /// Watches of the kernel's that fired.
    pub fired: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    table: NonNull<Page>,
    free: RefCell<Vec<u32>>,
    /// Ports that were told to be open.
    pub ports: RefCell<BTreeSet<u32>>,
    /// Grants that are refused from now on, and requests to xenstore.
    pub refuses: Cell<bool>,
}

impl Own {
    pub fn new(platform: FakePlatform) -> Own {
        let ring = platform.xenstore_ring().unwrap();
        // SAFETY: the ring's page stays mapped, and nothing else uses it.
        let page = unsafe { SharedMemory::<'static>::new(ring.page.cast(), 4096) };
        let bytes = |offset| page.subslice(offset, 1024);
        Own {
            port: ring.port,
            requests: RefCell::new(Producer::new(bytes(0), page.word(2052), page.word(2048))),
            answers: RefCell::new(Consumer::new(bytes(1024), page.word(2056), page.word(2060))),
            decoder: RefCell::default(),
            last_request: Cell::new(0),
            arrived: RefCell::default(),
            fired: RefCell::default(),
            table: platform.grant_frame(0).unwrap(),
            free: RefCell::new((8..REFERENCES).collect()),
            ports: RefCell::default(),
            refuses: Cell::new(false),
            platform,
        }
    }

    /// The entry of a reference: flags, domain, frame.
    fn entry(&self, reference: u32) -> *mut (u16, u16, u32) {
        assert!(reference < REFERENCES);
        // SAFETY: within the page.
        unsafe {
            self.table
                .cast::<(u16, u16, u32)>()
                .as_ptr()
                .add(reference as usize)
        }
    }

    /// Grants a frame to a domain, as a frontend of the kernel's does.
    pub fn grant(&self, domain: u32, frame: u64) -> Option<u32> {
        let reference = self.free.borrow_mut().pop()?;
        let flags = sys::GTF_permit_access;
        // SAFETY: the entry is this driver's; Xen does not look at it before the flags are written.
        unsafe {
            self.entry(reference)
                .write_volatile((0, domain as u16, frame as u32));
            self.entry(reference).cast::<u16>().write_volatile(flags);
        }
        Some(reference)
    }

    /// What stands in the entry of a reference.
    pub fn granted(&self, reference: u32) -> (u16, u16, u32) {
        // SAFETY: as in `grant`.
        unsafe { self.entry(reference).read_volatile() }
    }

    pub fn end(&self, reference: u32) -> bool {
        let (flags, ..) = self.granted(reference);
        if flags & (sys::GTF_reading | sys::GTF_writing) != 0 {
            return false;
        }
        assert!(!self.free.borrow().contains(&reference), "ended twice");
        // SAFETY: as in `grant`.
        unsafe { self.entry(reference).write_volatile((0, 0, 0)) };
        self.free.borrow_mut().push(reference);
        true
    }

    /// How many references are in use.
    pub fn used(&self) -> usize {
        (REFERENCES - 8) as usize - self.free.borrow().len()
    }

    /// Makes a request, whose answer is taken later.
    pub fn submit(&self, kind: Kind, transaction: u32, payload: &[u8]) -> u32 {
        self.last_request.set(self.last_request.get() + 1);
        let request = self.last_request.get();
        let header = Header {
            kind,
            request,
            transaction,
            length: payload.len() as u32,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend(payload);
        let mut at = 0;
        while at < bytes.len() {
            let sent = self.requests.borrow_mut().push(&bytes[at..]).unwrap();
            at += sent;
            self.platform.xen().domain(super::GUEST).send(self.port.0);
            if sent == 0 {
                self.platform.wait(&[self.port], self.platform.now());
            }
        }
        request
    }

    /// Takes in what has come. Watches of the library's are told to it by `tell`.
    pub fn pump(&self, tell: &mut dyn FnMut(&[u8], &[u8])) {
        let mut bytes = [0; 1024];
        loop {
            let count = self.answers.borrow_mut().pull(&mut bytes).unwrap();
            if count == 0 {
                return;
            }
            self.platform.xen().domain(super::GUEST).send(self.port.0);
            let mut input = &bytes[..count];
            while !input.is_empty() {
                let message = self.decoder.borrow_mut().feed(&mut input).unwrap();
                let Some(message) = message else { continue };
                match watch_event(&message.payload) {
                    Some((path, token)) if message.header.kind == Kind::WATCH_EVENT => {
                        match token.strip_prefix(b"lib-") {
                            Some(token) => tell(path, token),
                            None => {
                                let event = (path.to_vec(), token.to_vec());
                                self.fired.borrow_mut().push(event);
                            }
                        }
                    }
                    _ => {
                        self.arrived
                            .borrow_mut()
                            .insert(message.header.request, message);
                    }
                }
            }
        }
    }

    /// Waits for the answer to a request.
    pub fn answer(&self, request: u32, tell: &mut dyn FnMut(&[u8], &[u8])) -> Message {
        for _ in 0..10_000 {
            self.pump(tell);
            if let Some(message) = self.arrived.borrow_mut().remove(&request) {
                return message;
            }
            let deadline = self.platform.now() + std::time::Duration::from_millis(1);
            self.platform.wait(&[self.port], deadline);
            let _ = self.platform.take_pending(self.port);
        }
        panic!("xenstore does not answer");
    }
}

fn own<'a>(context: *mut c_void) -> &'a Own {
    // SAFETY: the context is the kernel of a test, which has one.
    unsafe { kernel(context) }.own.as_ref().unwrap()
}

/// Tells the library that its watch fired.
fn tell(path: &[u8], token: &[u8]) {
    let (path, token) = (CString::new(path).unwrap(), CString::new(token).unwrap());
    // SAFETY: both end with a NUL.
    let told = unsafe { xen9p_watch_fired(path.as_ptr(), token.as_ptr()) };
    assert_eq!(told, 0);
}

/// Takes in what xenstore says, with the library's own allocator where it is told.
fn tell_outside() -> impl FnMut(&[u8], &[u8]) {
    |path, token| super::memory::inside(|| tell(path, token))
}

pub unsafe extern "C" fn store_request(
    context: *mut c_void,
    kind: u32,
    transaction: u32,
    payload: *const c_void,
    length: usize,
    answer: *mut c_void,
) -> i64 {
    // SAFETY: as the library calls it.
    let payload = unsafe { std::slice::from_raw_parts(payload.cast::<u8>(), length) };
    outside(|| {
        let own = own(context);
        if own.refuses.get() {
            return -110;
        }
        let request = own.submit(Kind(kind), transaction, payload);
        let message = own.answer(request, &mut tell_outside());
        if message.header.kind == Kind::ERROR {
            // SAFETY: xenstore's errors end with a NUL.
            return unsafe { xen9p_store_error(message.payload.as_ptr().cast()) }.into();
        }
        assert!(message.payload.len() <= 4096);
        // SAFETY: as the library calls it.
        unsafe {
            answer
                .cast::<u8>()
                .copy_from_nonoverlapping(message.payload.as_ptr(), message.payload.len());
        }
        message.payload.len() as i64
    })
}

unsafe fn watch(
    context: *mut c_void,
    kind: Kind,
    path: *const c_char,
    token: *const c_char,
) -> bool {
    // SAFETY: as the library calls it.
    let (path, token) = unsafe { (CStr::from_ptr(path), CStr::from_ptr(token)) };
    outside(|| {
        let own = own(context);
        let mut payload = path.to_bytes_with_nul().to_vec();
        payload.extend(b"lib-");
        payload.extend(token.to_bytes_with_nul());
        let request = own.submit(kind, 0, &payload);
        own.answer(request, &mut tell_outside()).header.kind == kind
    })
}

pub unsafe extern "C" fn store_watch(
    context: *mut c_void,
    path: *const c_char,
    token: *const c_char,
) -> c_int {
    // SAFETY: as the library calls it.
    match unsafe { watch(context, Kind::WATCH, path, token) } {
        true => 0,
        false => -28,
    }
}

pub unsafe extern "C" fn store_unwatch(
    context: *mut c_void,
    path: *const c_char,
    token: *const c_char,
) {
    // SAFETY: as the library calls it.
    unsafe { watch(context, Kind::UNWATCH, path, token) };
}

pub unsafe extern "C" fn grant(context: *mut c_void, domain: u32, frame: u64) -> i64 {
    let own = own(context);
    match own.refuses.get() {
        true => -1,
        false => own.grant(domain, frame).map_or(-1, i64::from),
    }
}

pub unsafe extern "C" fn end_grant(context: *mut c_void, reference: u32) -> c_int {
    own(context).end(reference).into()
}

pub unsafe extern "C" fn port_opened(context: *mut c_void, port: u32) {
    assert!(
        own(context).ports.borrow_mut().insert(port),
        "port {port} opened twice"
    );
}

pub unsafe extern "C" fn port_closed(context: *mut c_void, port: u32) {
    assert!(
        own(context).ports.borrow_mut().remove(&port),
        "port {port} was not open"
    );
}

/// As a dispatcher does: knows the ports it is asked about, and looks after xenstore meanwhile.
pub unsafe extern "C" fn wait(
    context: *mut c_void,
    ports: *const u32,
    count: usize,
    deadline: u64,
) {
    let own = own(context);
    // SAFETY: as the library calls it.
    let asked = unsafe { std::slice::from_raw_parts(ports, count) };
    for port in asked {
        assert!(
            own.ports.borrow().contains(port),
            "port {port} was never told of"
        );
    }
    outside(|| {
        own.pump(&mut tell_outside());
        let mut ports: Vec<Port> = asked.iter().map(|&port| Port(port)).collect();
        ports.push(own.port);
        own.platform.wait(&ports, Instant::from_nanos(deadline));
        if own.platform.take_pending(own.port) {
            own.pump(&mut tell_outside());
        }
    });
}
