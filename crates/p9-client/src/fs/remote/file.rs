//! An open file or directory on a server.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;

use p9_tree::{CleanPath, Driver, Lock, Node, OpenFile, Span};
use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockKind, LockStatus, OpenFlags, Qid, QidKind,
    SetAttr, SetAttrMask, Statfs, kind,
};

use super::ahead::Ahead;
use super::attributes::{self, setattr};
use super::identity::check_identity;
use super::listing::Listing;
use super::{Mount, RemoteNode, classic, fid, writes};
use crate::fs::{Error, Result};
use crate::session::{Fid, Session, WriteBehindQueue};

/// Linux's flags that decide about access; all others are hints.
const DECIDE: OpenFlags = OpenFlags::WRITE_ONLY
    .union(OpenFlags::READ_WRITE)
    .union(OpenFlags::CREATE)
    .union(OpenFlags::EXCLUSIVE)
    .union(OpenFlags::TRUNCATE)
    .union(OpenFlags::APPEND)
    .union(OpenFlags::DIRECTORY);

/// An open file or directory on a server.
pub struct RemoteFile {
    // One pointer: a file goes by value through the futures that open it, each of which has room for it.
    open: Box<Opened>,
}

struct Opened {
    fid: Fid,
    qid: Qid,
    iounit: u32,
    flags: OpenFlags,
    path: Rc<CleanPath>,
    /// How often the mount had changed names when this file was known to be itself.
    changes_seen: Cell<u64>,
    /// How long the file is as far as this handle knows, if it is open to append.
    known_len: Cell<Option<u64>>,
    ahead: RefCell<Ahead>,
    /// The bytes to be written behind at most, and those that are.
    behind: Option<Box<(usize, RefCell<WriteBehindQueue>)>>,
    /// Where the last listing was left.
    listing: Cell<Option<Box<Listing>>>,
    /// Also keeps the root alive as long as the file.
    mount: Rc<Mount>,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile")
            .field("path", &String::from_utf8_lossy(self.open.path.as_bytes()))
            .field("fid", &self.open.fid)
            .field("qid", &self.open.qid)
            .field("flags", &(self.open.flags & DECIDE))
            .finish_non_exhaustive()
    }
}

impl RemoteFile {
    pub(super) fn new(
        mount: Rc<Mount>,
        path: Rc<CleanPath>,
        fid: Fid,
        (qid, iounit): (Qid, u32),
        flags: OpenFlags,
    ) -> Self {
        let empty = flags.intersects(OpenFlags::TRUNCATE | OpenFlags::EXCLUSIVE);
        let open = Box::new(Opened {
            fid,
            qid,
            iounit,
            flags,
            path,
            changes_seen: Cell::new(mount.changes_of_names.get()),
            known_len: Cell::new(empty.then_some(0)),
            ahead: RefCell::default(),
            behind: None,
            listing: Cell::new(None),
            mount,
        });
        RemoteFile { open }
    }

    /// The session under this file.
    pub fn session(&self) -> &Session {
        self.open.fid.session()
    }

    pub(super) fn fid(&self) -> &Fid {
        &self.open.fid
    }

    /// What was read ahead.
    pub(super) fn ahead(&self) -> &RefCell<Ahead> {
        &self.open.ahead
    }

    /// Most bytes to read ahead.
    pub(super) fn read_ahead_limit(&self) -> usize {
        self.open.mount.read_ahead
    }

    /// The most bytes of one of several requests.
    pub(super) fn part_len(&self) -> usize {
        self.open.fid.part_len(self.open.iounit)
    }

    /// Refuses to read a directory as a file. Servers differ: some refuse with another error, some give entries.
    fn check_readable(&self) -> Result<()> {
        match self.open.qid.kind.contains(QidKind::DIR) {
            true => Err(Errno::EISDIR.into()),
            false => Ok(()),
        }
    }

    /// Waits until the server has what was written behind. An error will be told again.
    fn settle(&self) -> impl Future<Output = Result<()>> {
        poll_fn(|cx| self.poll_settle(cx, false))
    }

    #[inline(never)]
    fn poll_settle(&self, cx: &mut Context<'_>, tell: bool) -> Poll<Result<()>> {
        let settled = self.poll_behind(cx, |behind, cx| behind.poll_settle(cx, &self.open.fid));
        if tell { self.tell(settled) } else { settled }
    }

    /// Works on what is written behind, if anything may be.
    fn poll_behind<T: Default>(
        &self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut WriteBehindQueue, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        match self
            .open
            .behind
            .as_deref()
            .map(|(_, queue)| queue.try_borrow_mut())
        {
            None => Poll::Ready(Ok(T::default())),
            Some(Ok(mut behind)) => work(&mut behind, cx),
            // A waker that was called out of this very work polls another operation at once.
            Some(Err(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// The program gets to know of the error, if it is one of writing behind.
    fn tell<T>(&self, result: Poll<Result<T>>) -> Poll<Result<T>> {
        if let Poll::Ready(Err(error)) = result
            && let Some((_, behind)) = self.open.behind.as_deref()
            && let Ok(mut behind) = behind.try_borrow_mut()
        {
            behind.told(error);
        }
        result
    }

    /// Hands out entries of the directory: all there are, or only `some`.
    async fn list(
        &self,
        offset: u64,
        some: bool,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        if !self.open.qid.kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        let left = self
            .open
            .listing
            .take()
            .filter(|left| left.goes_on_at(offset));
        let mut listing = left.unwrap_or_else(|| Box::new(Listing::new(&self.open.fid, offset)));
        let handed_out = listing.hand_out(&self.open.fid, some, each).await;
        self.open.listing.set(Some(listing));
        handed_out
    }
}

impl OpenFile for RemoteFile {
    fn driver(&self) -> &dyn Driver {
        self.session()
    }

    fn qid(&self) -> Option<Qid> {
        Some(self.open.qid)
    }

    fn has_few_fids(&self) -> bool {
        !fid::is_linux(&self.open.fid)
    }

    fn chunk(&self) -> usize {
        let most = self.session().msize() - p9_wire::IO_HEADER_LEN;
        let chunk = match self.open.iounit {
            0 => most,
            iounit => iounit.min(most),
        };
        chunk as usize
    }

    /// What the iounit promises (open(5) of Plan 9).
    fn whole_reads(&self) -> usize {
        match self.open.iounit {
            0 => 0,
            _ => self.chunk(),
        }
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        self.open.fid.read_at(offset, into, self.open.iounit).await
    }

    async fn read_next(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        self.read_ahead(into, offset).await
    }

    async fn read_lent(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        self.check_readable()?;
        self.settle().await?;
        self.open
            .fid
            .read_lent_at(offset, len, see, self.open.iounit)
            .await
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.flush().await?;
        if !self.open.flags.contains(OpenFlags::APPEND) {
            return self
                .open
                .fid
                .write_at(offset, from, self.open.iounit, false)
                .await;
        }
        let len = match self.open.known_len.get() {
            // The server appends, wherever that is; one that does not is told where the end was last.
            Some(len) if fid::is_linux(&self.open.fid) => len,
            // As near as one gets: someone else may append in between.
            _ => self.getattr(AttrMask::SIZE).await?.size,
        };
        let count = self
            .open
            .fid
            .write_at(len, from, self.open.iounit, true)
            .await?;
        self.open.known_len.set(Some(len + count as u64));
        Ok(count)
    }

    fn write_behind(&mut self, bytes: usize) {
        let queue = RefCell::new(WriteBehindQueue::new(bytes, self.part_len()));
        self.open.behind = Some(Box::new((bytes, queue)));
    }

    async fn write_next(&self, from: &[u8], offset: u64) -> Result<usize> {
        match self.open.behind.as_deref() {
            Some(&(limit, _)) if (1..limit).contains(&from.len()) => {
                poll_fn(|cx| {
                    self.tell(self.poll_behind(cx, |behind, cx| {
                        behind.poll_write(cx, &self.open.fid, offset, from)
                    }))
                })
                .await
            }
            _ => self.write(from, offset).await,
        }
    }

    async fn flush(&self) -> Result<()> {
        poll_fn(|cx| self.poll_settle(cx, true)).await
    }

    async fn write_and_close(self, content: &[u8]) -> Result<()> {
        let (mut file, mut done) = (self, 0);
        let new = file.open.flags.contains(OpenFlags::EXCLUSIVE);
        if new && (1..=file.chunk()).contains(&content.len()) {
            let Opened {
                fid, mount, path, ..
            } = *file.open;
            done = fid.write_and_close(content).await?;
            if done >= content.len() {
                return Ok(());
            }
            let names: Vec<&[u8]> = path.names().collect();
            let root = RemoteNode::root(mount);
            let again = root.open_at(&names, OpenFlags::WRITE_ONLY).await?;
            file = again.through()?;
        }
        while let Some(rest) = content.get(done..).filter(|rest| !rest.is_empty()) {
            done += file.write(rest, done as u64).await?;
        }
        file.close().await
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(offset, false, &mut |entry, _| each(entry)).await
    }

    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        self.list(offset, true, each).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.settle().await?;
        let (fid, is_root) = (&self.open.fid, self.open.path.is_root());
        let attr = attributes::attr(fid, self.open.qid, is_root, mask).await?;
        if self.open.flags.contains(OpenFlags::APPEND) && attr.valid.contains(AttrMask::SIZE) {
            self.open.known_len.set(Some(attr.size));
        }
        Ok(attr)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        // Servers that truncate by path do not check this.
        if attr.valid.contains(SetAttrMask::SIZE) && !writes(self.open.flags) {
            return Err(Error::InvalidInput(&"the file is not open for writing"));
        }
        self.settle().await?;
        self.open.known_len.set(None);
        let (path, seen) = (&self.open.path, &self.open.changes_seen);
        check_identity(&self.open.mount, &self.open.fid, self.open.qid, path, seen).await?;
        // Another operation may be told the old attributes meanwhile.
        let forget = || self.open.mount.forget_inherited(self.open.qid, attr);
        forget();
        let changed = setattr(&self.open.fid, attr).await;
        forget();
        changed
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        self.flush().await?;
        match fid::is_linux(&self.open.fid) {
            true => self.open.fid.fsync(data_only).await,
            false => classic::fsync(&self.open.fid).await,
        }
    }

    async fn statfs(&self) -> Result<Statfs> {
        fid::only_linux(&self.open.fid, kind::TSTATFS)?;
        self.open.fid.statfs().await
    }

    async fn lock(&self, lock: &Lock<'_>, _flags: LockFlags) -> Result<LockStatus> {
        fid::only_linux(&self.open.fid, kind::TLOCK)?;
        let settled = self.settle().await;
        if lock.kind != LockKind::UNLOCK || settled == Err(Error::Interrupted) {
            // What was written under the lock is still to be sent.
            settled?;
        }
        let owner = (lock.owner, lock.client);
        let locked = self
            .open
            .fid
            .lock(lock.kind, lock.start, lock.length, owner)
            .await?;
        settled.map(|()| locked)
    }

    async fn lock_in_time(&self, lock: &Lock<'_>) -> Result<LockStatus> {
        let session = self.session();
        let until = session.now() + session.timeout();
        let mut pause = Duration::from_millis(5);
        loop {
            match self.lock(lock, LockFlags::empty()).await? {
                LockStatus::BLOCKED | LockStatus::GRACE => {}
                status => return Ok(status),
            }
            let now = session.now();
            if now >= until {
                return Err(Error::TimedOut);
            }
            session.sleep(pause.min(until - now)).await?;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn close(self) -> Result<()> {
        let flushed = self.flush().await;
        let closed = self.open.fid.close().await;
        flushed.and(closed)
    }
}
