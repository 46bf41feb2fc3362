//! xen-9pfsd: a byte stream each way, request and reply taken and given in pieces.

use super::{Backend, Deed, Handler, Lie, Lies, RingView, Step, Trouble};

const HEADER: usize = 7;
const RVERSION: u8 = 101;

struct DaemonRing {
    view: RingView,
    /// Private indices; the page gets copies.
    out_cons: u32,
    in_prod: u32,
    /// What has been read of a request, or what is left to write of its reply.
    request: Vec<u8>,
    reply: Vec<u8>,
    lie: Option<Lie>,
    /// Where the reply begins.
    start: u32,
    /// Largest request; only the ring that carries Tversion has it lowered.
    max_size: u32,
    ignored: bool,
    awake: bool,
}

/// xen-9pfsd.
pub struct Daemon {
    rings: Vec<DaemonRing>,
    handler: Handler,
    troubles: Vec<Trouble>,
    waits_for_room: usize,
    lies: Lies,
}

impl Daemon {
    /// The indices start where the page says, which for the real daemon has to be 0.
    pub fn new(rings: Vec<RingView>, handler: Handler) -> Daemon {
        let rings = rings
            .into_iter()
            .map(|view| DaemonRing {
                out_cons: view.get(RingView::OUT_CONS),
                in_prod: view.get(RingView::IN_PROD),
                request: Vec::new(),
                reply: Vec::new(),
                lie: None,
                start: 0,
                max_size: view.size(),
                ignored: false,
                awake: false,
                view,
            })
            .collect();
        Daemon {
            rings,
            handler,
            troubles: Vec::new(),
            waits_for_room: 0,
            lies: Lies::default(),
        }
    }

    /// Makes it hostile.
    pub fn lying(mut self, lies: impl Into<Lies>) -> Daemon {
        self.lies = lies.into();
        self
    }
}

impl DaemonRing {
    /// Takes up to `want` bytes in all of the request; whether they are all there.
    fn take(&mut self, want: usize) -> bool {
        let queued = self
            .view
            .get(RingView::OUT_PROD)
            .wrapping_sub(self.out_cons);
        let len = (want - self.request.len()).min(queued as usize);
        self.request
            .extend(self.view.read_requests(self.out_cons, len));
        self.out_cons = self.out_cons.wrapping_add(len as u32);
        self.view.set(RingView::OUT_CONS, self.out_cons);
        self.request.len() == want
    }

    /// Gives as much of the reply as fits; whether that was all of it.
    fn give(&mut self) -> bool {
        let used = self.in_prod.wrapping_sub(self.view.get(RingView::IN_CONS));
        let free = self.view.size().saturating_sub(used) as usize;
        let piece: Vec<u8> = self.reply.drain(..free.min(self.reply.len())).collect();
        self.view.write_replies(self.in_prod, &piece);
        self.in_prod = self.in_prod.wrapping_add(piece.len() as u32);
        self.view.set(RingView::IN_PROD, self.in_prod);
        self.reply.is_empty()
    }

    fn work(&self) -> bool {
        if self.ignored {
            return false;
        }
        if self.reply.is_empty() {
            self.view.get(RingView::OUT_PROD) != self.out_cons
        } else {
            self.in_prod.wrapping_sub(self.view.get(RingView::IN_CONS)) != self.view.size()
        }
    }
}

impl Backend for Daemon {
    fn rings(&self) -> usize {
        self.rings.len()
    }

    fn event(&mut self, ring: usize) {
        self.rings[ring].awake = true;
    }

    fn step(&mut self, index: usize) -> Step {
        let ring = &mut self.rings[index];
        if !ring.work() {
            ring.awake = false;
        }
        if !ring.awake {
            return Step::Idle;
        }
        if !ring.reply.is_empty() {
            return if ring.give() {
                self.lies.after(ring.lie.take(), &ring.view, ring.start);
                Step::Event
            } else {
                self.waits_for_room += 1;
                Step::Progress
            };
        }
        if ring.request.len() < HEADER && !ring.take(HEADER) {
            return Step::Event;
        }
        let size = u32::from_le_bytes(ring.request[..4].try_into().unwrap());
        if size < HEADER as u32 || size > ring.max_size {
            ring.ignored = true;
            self.troubles.push(Trouble::Ignored);
            return Step::Event;
        }
        if !ring.take(size as usize) {
            return Step::Event;
        }
        let request = std::mem::take(&mut ring.request);
        let mut reply = (self.handler)(&request);
        if reply.len() >= 11 && reply[4] == RVERSION {
            let msize = u32::from_le_bytes(reply[7..11].try_into().unwrap());
            ring.max_size = ring.max_size.min(msize);
        }
        if reply.is_empty() {
            self.troubles.push(Trouble::Undecodable);
            ring.ignored = true;
        } else {
            ring.lie = self.lies.bend(&request, &mut reply);
        }
        ring.start = ring.in_prod;
        ring.reply = reply;
        Step::Event
    }

    fn serving(&self) -> bool {
        true
    }

    fn inner_state(&self, ring: usize) -> String {
        let ring = &self.rings[ring];
        let (request, reply) = (ring.request.len(), ring.reply.len());
        let indices = (ring.out_cons, ring.in_prod);
        format!(
            "{indices:?} {request} {reply} {} {}",
            ring.awake, ring.ignored
        )
    }

    fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    fn waits_for_room(&self) -> usize {
        self.waits_for_room
    }

    fn view(&self, ring: usize) -> &RingView {
        &self.rings[ring].view
    }

    fn told(&mut self, ring: usize) {
        self.lies.told(&self.rings[ring].view);
    }

    fn take_deeds(&mut self) -> Vec<Deed> {
        self.lies.take_deeds()
    }
}
