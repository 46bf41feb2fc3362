//! dom0 as the machine of a backend program.

use std::io;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xen9p::hypercall::DomId;
use xen9p::xen::store::wire::Kind;
use xen9p_testing::backend::{Machine, MappedPage};

use super::device::{EventChannels, Grants};
use super::store::Store;

/// The longest time without a look at everything.
const IDLE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// dom0. Clones are the same.
#[derive(Clone)]
pub struct Dom0 {
    channels: Rc<EventChannels>,
    grants: Grants,
    store: Rc<Store>,
}

impl Dom0 {
    pub fn open() -> io::Result<Dom0> {
        Ok(Dom0 {
            channels: Rc::new(EventChannels::open()?),
            grants: Grants::open()?,
            store: Rc::new(Store::open()?),
        })
    }

    /// The value of a node.
    pub fn value(&self, path: &str) -> Option<Vec<u8>> {
        self.ask(Kind::READ, &[path.as_bytes(), b"\0"])
    }

    /// Watches a node and all below.
    pub fn watch(&self, path: &str) -> io::Result<()> {
        self.store.watch(path)
    }

    /// Waits for an event or for news from xenstore, some seconds at most.
    pub fn wait(&self) -> io::Result<()> {
        // What was noted while another port was asked for would not wake the caller.
        if self.channels.any() {
            return Ok(());
        }
        let mut files = [
            PollFd::new(&self.channels.file, PollFlags::IN),
            PollFd::new(&self.store.watches, PollFlags::IN),
        ];
        poll(&mut files, Some(&IDLE))?;
        Ok(())
    }

    /// Makes a request of xenstored. A dom0 without xenstored is none to go on in.
    fn ask(&self, kind: Kind, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let answer = self.store.request(kind, parts);
        answer.expect("xenstored answers")
    }
}

impl Machine for Dom0 {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.value(path)
    }

    fn write(&self, path: &str, value: &[u8]) {
        self.ask(Kind::WRITE, &[path.as_bytes(), b"\0", value]);
    }

    fn rm(&self, path: &str) {
        self.ask(Kind::RM, &[path.as_bytes(), b"\0"]);
    }

    fn share(&self, path: &str, guest: DomId) {
        let permissions = format!("\0n0\0r{guest}\0");
        self.ask(Kind::SET_PERMS, &[path.as_bytes(), permissions.as_bytes()]);
    }

    fn store_generation(&self) -> u64 {
        self.store.generation()
    }

    fn map(&self, guest: DomId, reference: u32) -> Option<MappedPage> {
        self.grants.map(guest.0.into(), reference).ok()
    }

    fn bind(&self, guest: DomId, port: u32) -> Option<u32> {
        self.channels.bind(guest.0.into(), port).ok()
    }

    fn send(&self, port: u32) {
        self.channels.notify(port);
    }

    fn take_pending(&self, port: u32) -> bool {
        self.channels.take(port)
    }

    fn close(&self, port: u32) {
        self.channels.unbind(port);
    }
}
