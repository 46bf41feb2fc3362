//! Xenstore by way of /dev/xen/xenbus: one connection for requests, one for watches.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use xen9p::xen::store::wire::{HEADER_SIZE, Header, Kind};

use super::device::open;

/// The store.
pub struct Store {
    requests: RefCell<File>,
    pub watches: File,
    /// Grows with every news.
    generation: Cell<u64>,
}

fn ask(mut file: &File, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
    let payload = parts.concat();
    let header = Header {
        kind,
        request: 0,
        transaction: 0,
        length: payload.len() as u32,
    };
    file.write_all(&[&header.encode()[..], &payload].concat())
}

impl Store {
    pub fn open() -> io::Result<Store> {
        let requests = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/xen/xenbus")?;
        Ok(Store {
            requests: RefCell::new(requests),
            watches: open("xenbus")?,
            generation: Cell::new(0),
        })
    }

    /// Makes a request; the answer, or `None` if xenstored refuses.
    pub fn request(&self, kind: Kind, parts: &[&[u8]]) -> io::Result<Option<Vec<u8>>> {
        let mut file = self.requests.borrow_mut();
        ask(&file, kind, parts)?;
        let mut header = [0; HEADER_SIZE];
        file.read_exact(&mut header)?;
        let header = Header::decode(&header);
        let mut payload = vec![0; header.length as usize];
        file.read_exact(&mut payload)?;
        Ok((header.kind != Kind::ERROR).then_some(payload))
    }

    /// Watches a node and all below.
    pub fn watch(&self, path: &str) -> io::Result<()> {
        ask(&self.watches, Kind::WATCH, &[path.as_bytes(), b"\0t\0"])
    }

    /// A number that grows when anything that is watched may have changed.
    pub fn generation(&self) -> u64 {
        // What the news are is of no interest.
        let mut news = [0; 4096];
        while let Ok(1..) = (&self.watches).read(&mut news) {
            self.generation.set(self.generation.get() + 1);
        }
        self.generation.get()
    }
}
