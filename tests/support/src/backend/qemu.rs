//! QEMU's backend, as of 7.2 to 10: one request per ring at a time, and no mercy.

use super::{Backend, Deed, Handler, Lie, Lies, RingView, Step, Trouble};

const HEADER: u32 = 7;
const RREAD: u8 = 117;

/// Where a ring is with its one request.
#[derive(Debug)]
enum Stage {
    /// Waiting for a request.
    Ready,
    /// A request of this many bytes at `out_cons` is being served.
    Serving(u32),
    /// The reply to this request waits for room; only an event lets it look again.
    Blocked(Vec<u8>, Vec<u8>),
    /// The reply is in the ring, not published yet.
    Written {
        request: u32,
        reply: u32,
        lie: Option<Lie>,
    },
    /// Never looks at the ring again.
    Wedged,
}

struct QemuRing {
    view: RingView,
    stage: Stage,
    /// The bottom half is scheduled.
    awake: bool,
}

/// QEMU's backend.
pub struct Qemu {
    rings: Vec<QemuRing>,
    handler: Handler,
    serving: bool,
    troubles: Vec<Trouble>,
    waits_for_room: usize,
    lies: Lies,
}

impl Qemu {
    pub fn new(rings: Vec<RingView>, handler: Handler) -> Qemu {
        let rings = rings
            .into_iter()
            .map(|view| QemuRing {
                view,
                stage: Stage::Ready,
                awake: false,
            })
            .collect();
        Qemu {
            rings,
            handler,
            serving: true,
            troubles: Vec::new(),
            waits_for_room: 0,
            lies: Lies::default(),
        }
    }

    /// Makes it hostile.
    pub fn lying(mut self, lies: impl Into<Lies>) -> Qemu {
        self.lies = lies.into();
        self
    }

    fn trouble(&mut self, trouble: Trouble) -> Stage {
        self.troubles.push(trouble);
        if matches!(trouble, Trouble::NoRoom | Trouble::Undecodable) {
            self.serving = false;
        }
        Stage::Wedged
    }

    /// Takes the next request off ring `index` if its header is there.
    fn receive(&mut self, index: usize) -> Option<Stage> {
        let view = &self.rings[index].view;
        let cons = view.get(RingView::OUT_CONS);
        let queued = view.get(RingView::OUT_PROD).wrapping_sub(cons);
        if queued < HEADER {
            return None;
        }
        let header = view.read_requests(cons, HEADER as usize);
        let size = u32::from_le_bytes(header[..4].try_into().unwrap());
        let tag = u16::from_le_bytes([header[5], header[6]]);
        Some(if size > queued {
            self.trouble(Trouble::Wedged)
        } else if size < HEADER {
            self.trouble(Trouble::Undecodable)
        } else if usize::from(tag) % self.rings.len() != index {
            self.trouble(Trouble::Misrouted)
        } else {
            Stage::Serving(size)
        })
    }

    /// Puts a reply into the ring, or finds that it can't.
    fn marshal(&mut self, index: usize, request: Vec<u8>, mut reply: Vec<u8>) -> Stage {
        let view = &self.rings[index].view;
        let size = view.size();
        let (prod, cons) = (view.get(RingView::IN_PROD), view.get(RingView::IN_CONS));
        // Its own arithmetic: equal offsets mean empty, even when the ring is full.
        let (masked_prod, masked_cons) = (prod % size, cons % size);
        let believed_free = if masked_prod < masked_cons {
            masked_cons - masked_prod
        } else {
            size - masked_prod + masked_cons
        };
        let really_free = size - prod.wrapping_sub(cons).min(size);
        let len = reply.len() as u32;
        if len > believed_free {
            return if reply[4] == RREAD {
                self.waits_for_room += 1;
                Stage::Blocked(request, reply)
            } else {
                self.trouble(Trouble::NoRoom)
            };
        }
        if len > really_free {
            self.troubles.push(Trouble::Overwrite);
        }
        let lie = self.lies.bend(&request, &mut reply);
        let view = &self.rings[index].view;
        view.write_replies(prod, &reply);
        Stage::Written {
            request: request.len() as u32,
            reply: reply.len() as u32,
            lie,
        }
    }
}

impl Backend for Qemu {
    fn rings(&self) -> usize {
        self.rings.len()
    }

    fn event(&mut self, ring: usize) {
        self.rings[ring].awake = true;
    }

    fn step(&mut self, index: usize) -> Step {
        if !self.serving {
            return Step::Idle;
        }
        let ring = &mut self.rings[index];
        let (next, step) = match std::mem::replace(&mut ring.stage, Stage::Ready) {
            Stage::Ready if !ring.awake => (Stage::Ready, Step::Idle),
            Stage::Ready => {
                ring.awake = false;
                (self.receive(index).unwrap_or(Stage::Ready), Step::Progress)
            }
            Stage::Serving(request) => {
                let bytes = ring
                    .view
                    .read_requests(ring.view.get(RingView::OUT_CONS), request as usize);
                let reply = (self.handler)(&bytes);
                let next = if reply.is_empty() {
                    self.trouble(Trouble::Undecodable)
                } else {
                    self.marshal(index, bytes, reply)
                };
                (next, Step::Progress)
            }
            Stage::Blocked(request, reply) if ring.awake => {
                ring.awake = false;
                (self.marshal(index, request, reply), Step::Progress)
            }
            Stage::Written {
                request,
                reply,
                lie,
            } => {
                let view = &ring.view;
                let start = view.get(RingView::IN_PROD);
                view.set(
                    RingView::OUT_CONS,
                    view.get(RingView::OUT_CONS).wrapping_add(request),
                );
                view.set(RingView::IN_PROD, start.wrapping_add(reply));
                self.lies.after(lie, view, start);
                ring.awake = true;
                (Stage::Ready, Step::Event)
            }
            stage @ (Stage::Blocked(..) | Stage::Wedged) => (stage, Step::Idle),
        };
        self.rings[index].stage = next;
        step
    }

    fn serving(&self) -> bool {
        self.serving
    }

    fn inner_state(&self, ring: usize) -> String {
        let QemuRing { stage, awake, .. } = &self.rings[ring];
        format!("{stage:?} {awake} {}", self.serving)
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
