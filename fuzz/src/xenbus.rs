//! A device whose nodes in xenstore say anything, before and while a frontend connects to it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::backend::{Program, Share, echo};
use xen9p_testing::fake::{FakeDomain, FakeXen, Peer};

const GUEST: DomId = DomId(3);

/// The most simulated time that connecting and disconnecting may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// The nodes that are written to, those of the frontend's directory first.
const FRONT: [&str; 4] = ["backend", "backend-id", "tag", "state"];
const BACK: [&str; 6] = [
    "state",
    "versions",
    "max-rings",
    "max-ring-page-order",
    "online",
    "frontend",
];

/// A node that is going to say something else.
struct Change {
    path: String,
    /// `None` removes it.
    value: Option<Vec<u8>>,
}

impl Change {
    fn happen(&self, dom0: &FakeDomain) {
        match &self.value {
            Some(value) => dom0.write(&self.path, value),
            None => dom0.rm(&self.path),
        }
    }
}

/// Makes one change whenever the world has nothing better to do.
struct Nuisance {
    dom0: FakeDomain,
    changes: VecDeque<Change>,
}

impl Peer for Nuisance {
    fn step(&mut self, _: &FakeXen) -> bool {
        let change = self.changes.pop_front();
        if let Some(change) = &change {
            change.happen(&self.dom0);
        }
        change.is_some()
    }
}

/// Input: which program serves the device, if any, and how many changes are made before the frontend looks; then the
/// changes, each as node, length, value.
pub fn run(input: &[u8]) {
    let [choice, early, rest @ ..] = input else {
        return;
    };
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let dom0 = fake.dom0();
    let program = match choice & 1 {
        0 => Program::Qemu,
        _ => Program::Daemon,
    };
    let share = Share::new(&dom0, GUEST, 0, "share", program, echo::handler());
    let share = Rc::new(RefCell::new(share));
    let (front, back) = {
        let share = share.borrow();
        (share.front().to_owned(), share.back().to_owned())
    };
    if choice & 2 == 0 {
        fake.share_peer(share);
        fake.settle();
    }
    let mut changes = changes(rest, &front, &back);
    let late = changes.split_off(usize::from(*early).min(changes.len()));
    for change in &changes {
        change.happen(&dom0);
    }
    let xen = Xen::new(Events::new(platform)).expect("xenstored is honest");
    let before = fake.usage(GUEST);
    fake.add_peer(Nuisance {
        dom0: dom0.clone(),
        changes: late,
    });

    let begin = fake.now();
    let mut config = Config::default();
    config.rings = Some(2);
    config.order = Some(1);
    config.timeout = Duration::from_secs(2);
    xen9pfs::devices(&xen).expect("xenstored is honest");
    match xen9pfs::device(&xen, None).and_then(|device| xen9pfs::connect(&xen, device, &config)) {
        Ok(mut transport) => {
            // Until the nuisance is over, or the connection.
            for _ in 0..100 {
                let soon = transport.now() + Duration::from_millis(10);
                if transport.wait(soon).is_err() {
                    break;
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() > 20 && !text.contains('\n'), "{text}");
        }
    }
    assert!(fake.now() - begin < RUN_TIMEOUT, "{:?}", fake.now() - begin);
    // The nuisance may have left no backend that would unmap.
    fake.remove_peers();
    xen.grants.drain();
    fake.settle();
    let now = fake.usage(GUEST);
    assert_eq!(
        (now.pages, now.grants, now.ports),
        (before.pages, before.grants, before.ports)
    );
    assert_eq!(fake.dirty_frees(), 0);
}

fn changes(mut input: &[u8], front: &str, back: &str) -> VecDeque<Change> {
    let mut changes = VecDeque::new();
    while let [node, len, rest @ ..] = input {
        let (value, after) = rest.split_at(usize::from(len & 0x7f).min(rest.len()));
        input = after;
        let node = usize::from(*node) % (FRONT.len() + BACK.len());
        let path = match node.checked_sub(FRONT.len()) {
            None => format!("{front}/{}", FRONT[node]),
            Some(node) => format!("{back}/{}", BACK[node]),
        };
        let value = (len & 0x80 == 0).then(|| value.to_vec());
        changes.push_back(Change { path, value });
    }
    changes
}
