//! An open file of a cached tree.

use alloc::rc::Rc;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;

use p9_wire::{
    Attr, AttrMask, DirEntry, LockFlags, LockKind, LockStatus, OpenFlags, Qid, QidKind, SetAttr,
    Statfs,
};

use super::listings::Listed;
use super::pages::PAGE;
use super::stamp::Stamp;
use super::store::{BELIEVED, Cache, Change, Entry, Ids};
use crate::span::zeroed;
use crate::trees::{copy_out, reads};
use crate::{Driver, HeldLock, Lock, OpenFile, Result, Span};

/// Reads of no more bytes than this are made larger, so that they bring whole pages.
const WIDENED: usize = 64 << 10;

/// Attributes, which were asked for; until when they are believed, and after how many changes of ours.
type Told = (AttrMask, Attr, Duration, u64);

/// An open file or directory of a [`CachedNode`](super::CachedNode)'s tree.
pub struct CachedFile<F> {
    inner: F,
    cache: Rc<Cache>,
    /// The number of the file, where it is known.
    ino: Option<u64>,
    /// Where its data is kept, if it is.
    entry: Option<Rc<Entry>>,
    told: Cell<Option<Told>>,
    is_dir: bool,
    /// What a directory knows of its listing, unless a call works on that.
    listed: Cell<Listed>,
}

impl<F: fmt::Debug> fmt::Debug for CachedFile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedFile").field(&self.inner).finish()
    }
}

impl<F: OpenFile> CachedFile<F> {
    /// A file that was opened just now.
    pub(super) async fn opened(cache: Rc<Cache>, inner: F, flags: OpenFlags) -> Self {
        let qid = inner.qid();
        let is_dir = flags.contains(OpenFlags::DIRECTORY)
            || qid.is_some_and(|qid| qid.kind.contains(QidKind::DIR));
        let mut file = CachedFile {
            inner,
            cache,
            ino: qid.map(|qid| qid.path),
            entry: None,
            told: Cell::new(None),
            is_dir,
            listed: Cell::default(),
        };
        // What is new, or emptied, has no data yet.
        let is_empty = flags.intersects(OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE);
        if reads(flags) && !is_dir && !is_empty && file.cache.remembers() {
            let (seen, _) = file.cache.changes();
            // Without them, no data is kept; an error that lasts is told by what comes next.
            if let Ok(attr) = file.inner.getattr(Stamp::MASK).await {
                let now = file.cache.now();
                file.told(Stamp::MASK, attr, now, seen);
                file.ino = Some(attr.qid.path);
                file.entry = file.cache.opened(&attr, seen, now);
            }
        }
        file
    }

    /// Believes attributes for a while that were asked for after so many changes of ours.
    fn told(&self, mask: AttrMask, attr: Attr, now: Duration, seen: u64) {
        self.told.set(Some((mask, attr, now + BELIEVED, seen)));
    }

    /// Where data is kept, and by which ids.
    fn kept(&self) -> Option<(&Entry, Ids)> {
        // It may be gone with the connection.
        self.cache.changes();
        let entry = self.entry.as_deref()?;
        Some((entry, entry.ids()?))
    }

    async fn ask(&self, into: &mut [u8], offset: u64, on: bool) -> Result<usize> {
        match on {
            true => self.inner.read_next(into, offset).await,
            false => self.inner.read(into, offset).await,
        }
    }

    /// Reads out of what is kept, and what comes behind it from below. Without a look at the clock, which some machines take
    /// long for, where all of it is kept.
    async fn read_kept(&self, into: &mut [u8], offset: u64, on: bool) -> Result<usize> {
        let Some((entry, ids)) = self.kept() else {
            return self.ask(into, offset, on).await;
        };
        let done = self.cache.take(entry, into, offset);
        let at = offset.saturating_add(done as u64);
        let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) else {
            return Ok(done);
        };
        if entry.ends_at(at, &self.cache) {
            return Ok(done);
        }
        let is_early = entry.is_early(&self.cache);
        // What is read ahead now may be taken later, when it is not known any more that it was early.
        let on = on && !is_early;
        let skip = (at % PAGE as u64) as usize;
        let wide = (skip + rest.len()).next_multiple_of(PAGE);
        if wide <= WIDENED
            && wide != rest.len()
            && let Ok(mut pages) = zeroed(wide)
        {
            let start = at - skip as u64;
            let count = self.ask(&mut pages, start, on).await?;
            let read = pages.get(..count).unwrap_or(&[]);
            self.cache.keep(entry, ids, is_early, read, start);
            // A tree may give less than there is, but nothing only at the end.
            if count == 0 || count > skip {
                return Ok(done + copy_out(read, rest, skip as u64));
            }
        }
        let count = self.ask(rest, at, on).await?;
        let read = rest.get(..count).unwrap_or(&[]);
        self.cache.keep(entry, ids, is_early, read, at);
        Ok(done + count)
    }

    /// What is known of the listing of a directory that is read from its beginning: it is asked whether it changed.
    async fn look(&self) -> Listed {
        if !self.is_dir || !self.cache.remembers() {
            return Listed::Unknown;
        }
        let moment = self.cache.moment();
        // An error that lasts is told by what comes next.
        match self.inner.getattr(Stamp::MASK).await {
            Ok(attr) => self.cache.listed(&attr, moment),
            Err(_) => Listed::Unknown,
        }
    }

    /// Lists out of what is kept, or from below: as many entries as come at once, or all.
    async fn list(
        &self,
        offset: u64,
        all: bool,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        let mut listed = match offset {
            0 => self.look().await,
            _ => self.listed.take(),
        };
        if let Listed::Kept(kept) = &mut listed
            && kept.hand_out(&self.cache, offset, each)
        {
            self.listed.set(listed);
            return Ok(());
        }
        let mut noted = match listed {
            Listed::Noted(noted) if noted.goes_on_at(offset) => Some(noted),
            _ => None,
        };
        let (mut is_any, mut refused) = (false, false);
        let mut note = |entry: &DirEntry<'_>, attr: Option<&Attr>| {
            is_any = true;
            refused = !each(entry, attr);
            if !refused {
                noted = noted.take().and_then(|mut noted| {
                    let is_noted = noted.push(&self.cache, entry);
                    is_noted.then_some(noted)
                });
            }
            !refused
        };
        match all {
            true => {
                let mut note = |entry: &DirEntry<'_>| note(entry, None);
                self.inner.readdir(offset, &mut note).await?;
            }
            false => self.inner.readdir_some(offset, &mut note).await?,
        }
        let is_end = !refused && (all || !is_any);
        match noted {
            Some(noted) if is_end => self.cache.keep_listing(noted),
            Some(noted) => self.listed.set(Listed::Noted(noted)),
            None => {}
        }
        Ok(())
    }

    fn data(&self) -> Change {
        Change::Data(self.ino)
    }

    /// Forgets the data, after a lock was taken: others had it before, and may have written.
    fn locked(&self, lock: &Lock<'_>, status: LockStatus) -> LockStatus {
        if status == LockStatus::SUCCESS && lock.kind != LockKind::UNLOCK {
            drop(self.cache.change(self.data()));
        }
        status
    }
}

impl<F: OpenFile> OpenFile for CachedFile<F> {
    fn driver(&self) -> &dyn Driver {
        self.inner.driver()
    }

    fn concurrent(self) -> Self {
        CachedFile {
            inner: self.inner.concurrent(),
            ..self
        }
    }

    fn qid(&self) -> Option<Qid> {
        self.inner.qid()
    }

    fn has_few_fids(&self) -> bool {
        self.inner.has_few_fids()
    }

    fn chunk(&self) -> usize {
        self.inner.chunk()
    }

    fn whole_reads(&self) -> usize {
        self.inner.whole_reads()
    }

    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.read_kept(into, offset, false).await
    }

    async fn read_next(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.read_kept(into, offset, true).await
    }

    async fn read_lent(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize> {
        // Shown where it arrives, it would have to be copied to be kept.
        let mut buffer = match (self.kept(), zeroed(len.min(WIDENED))) {
            (Some(_), Ok(buffer)) => buffer,
            _ => return self.inner.read_lent(offset, len, see).await,
        };
        let count = self.read(&mut buffer, offset).await?;
        if count > 0 {
            see(&mut Span::new(count, &mut |at, into| {
                copy_out(&buffer, into, at as u64);
            }));
        }
        Ok(count)
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        let _changing = self.cache.change(self.data());
        self.inner.write(from, offset).await
    }

    async fn write_and_close(self, content: &[u8]) -> Result<()> {
        let _changing = self.cache.change(Change::Data(self.ino));
        self.inner.write_and_close(content).await
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(offset, true, &mut |entry, _| each(entry)).await
    }

    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        self.list(offset, false, each).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        let (seen, _) = self.cache.changes();
        if let Some((asked, attr, until, changes)) = self.told.get()
            && asked.contains(mask)
            && changes == seen
            && self.cache.now() < until
        {
            return Ok(attr);
        }
        let attr = self.inner.getattr(mask).await?;
        if self.cache.remembers() {
            self.told(mask, attr, self.cache.now(), seen);
        }
        Ok(attr)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        let _changing = self.cache.change(self.data());
        self.inner.setattr(attr).await
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        self.inner.fsync(data_only).await
    }

    async fn lock(&self, lock: &Lock<'_>, flags: LockFlags) -> Result<LockStatus> {
        let status = self.inner.lock(lock, flags).await?;
        Ok(self.locked(lock, status))
    }

    async fn lock_in_time(&self, lock: &Lock<'_>) -> Result<LockStatus> {
        let status = self.inner.lock_in_time(lock).await?;
        Ok(self.locked(lock, status))
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.inner.statfs().await
    }

    async fn close(self) -> Result<()> {
        self.inner.close().await
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        self.inner.getlock(lock).await
    }
}
