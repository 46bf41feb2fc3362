//! A tree in which requests wait until the test lets them through.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use p9_tree::{Node, OpenFile, Result};
use xen9p::errno::Errno;
use xen9p::p9::wire::{Attr, AttrMask, FileKind, OpenFlags, Qid, QidKind};

/// A directory of empty files with numbers for names. Those from 1 on can be looked at, and those from 100 on be found, once
/// their numbers are let through.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// 0: the directory.
    number: u64,
    through: Rc<RefCell<BTreeSet<u64>>>,
}

impl Gate {
    /// Nothing is let through yet.
    pub fn new() -> Self {
        Gate::default()
    }

    /// What waits or will wait for this file does not any more.
    pub fn let_through(&self, number: u64) {
        self.through.borrow_mut().insert(number);
    }

    /// Everything has to wait again.
    pub fn shut(&self) {
        self.through.borrow_mut().clear();
    }

    async fn pass(&self, number: u64) {
        poll_fn(|_| match self.through.borrow().contains(&number) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Node for Gate {
    type File = Empty;

    fn qid(&self) -> Qid {
        let kind = match self.number {
            0 => QidKind::DIR,
            _ => QidKind::empty(),
        };
        Qid {
            kind,
            version: 0,
            path: self.number,
        }
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        let number = std::str::from_utf8(name).ok();
        let number = number.and_then(|name| name.parse().ok());
        let number = number.ok_or(Errno::ENOENT)?;
        if number >= 100 {
            self.pass(number).await;
        }
        Ok(Gate {
            number,
            through: Rc::clone(&self.through),
        })
    }

    async fn getattr(&self, _: AttrMask) -> Result<Attr> {
        if (1..100).contains(&self.number) {
            self.pass(self.number).await;
        }
        let kind = match self.number {
            0 => FileKind::DIR,
            _ => FileKind::REGULAR,
        };
        Ok(Attr {
            qid: self.qid(),
            mode: kind.bits() | 0o755,
            ..Attr::default()
        })
    }

    async fn open(&self, _: OpenFlags) -> Result<Empty> {
        Ok(Empty)
    }
}

/// An open file of a [`Gate`].
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl OpenFile for Empty {
    async fn read(&self, _: &mut [u8], _: u64) -> Result<usize> {
        Ok(0)
    }
}
