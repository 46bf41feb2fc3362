//! Listing a directory: what servers answer, made entries that can be believed.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use p9_wire::{
    Attr, DirEntries, DirEntry, DirEntryKind, FileKind, IO_HEADER_LEN, QidKind, StatEntries,
    StatLayout,
};

use super::stepwise::Stepwise;
use super::{classic, fid};
use crate::fs::{Error, Result};
use crate::session::{Fid, Violation};
use p9_tree::try_copy;

/// Most bytes of entries to ask for at a time.
const MOST: u32 = 64 << 10;

/// The most entries that a directory is believed to have.
const MOST_ENTRIES: u32 = 1 << 24;

/// How far the listing of an open directory has come, so that it goes on where it was left and nothing is fetched twice.
pub(super) struct Listing {
    linux: bool,
    /// Entries from the last answer, those before `start` used already.
    buffer: Vec<u8>,
    start: usize,
    /// Where to go on asking in 9P2000.L: the cookie of the last entry taken.
    offset: u64,
    /// Where to go on asking in other dialects.
    stepwise: Stepwise,
    /// Entries of the last answer, in dialects other than 9P2000.L.
    ready: VecDeque<(Vec<u8>, Attr)>,
    /// Entries to be passed over, in these dialects.
    skip: u64,
    /// The cookie of the last entry taken.
    cookie: u64,
    /// A cookie from earlier on, to notice a listing that goes round in circles.
    landmark: u64,
    answers: u64,
    /// Entries since the beginning.
    entries: u32,
    ended: bool,
}

impl Listing {
    /// The listing of an open directory behind the entry that has this cookie.
    pub(super) fn new(fid: &Fid, cookie: u64) -> Self {
        let linux = fid::is_linux(fid);
        Listing {
            linux,
            buffer: Vec::new(),
            start: 0,
            // Elsewhere only the beginning can be sought: cookies count entries.
            offset: if linux { cookie } else { 0 },
            stepwise: Stepwise::default(),
            ready: VecDeque::new(),
            skip: if linux { 0 } else { cookie },
            cookie,
            landmark: 0,
            answers: 0,
            entries: 0,
            ended: false,
        }
    }

    /// Whether it was left behind the entry that has this cookie, which is not the beginning.
    pub(super) fn goes_on_at(&self, cookie: u64) -> bool {
        cookie != 0 && self.cookie == cookie
    }

    /// Hands out entries, "." and ".." left out, until `each` does not take one: all there are, or only `some`.
    pub(super) async fn hand_out(
        &mut self,
        fid: &Fid,
        some: bool,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        let mut any = false;
        loop {
            let handed_out = match self.linux {
                true => self.hand_out_fetched(&mut any, each),
                false => Ok(self.hand_out_ready(&mut any, each)),
            };
            match handed_out {
                Ok(true) if self.ended || (some && any) => return Ok(()),
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(rule) => {
                    self.ended = true;
                    return Err(fid.session().protocol_error(rule));
                }
            }
            let fetched = self.fetch(fid).await;
            self.ended |= fetched.is_err();
            fetched?;
        }
    }

    /// Hands out those of the last answer in 9P2000.L; `false` if one was not taken.
    fn hand_out_fetched(
        &mut self,
        any: &mut bool,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> core::result::Result<bool, Violation> {
        let rest = self.buffer.get(self.start..).unwrap_or(&[]);
        for entry in DirEntries::new(rest) {
            let entry = entry.map_err(|_| Violation::SplitEntry)?;
            let wanted = is_wanted(entry.name, self.entries + 1)?;
            if entry.offset == 0 {
                // Behind it would be the beginning.
                return Err(Violation::CircularDirectory);
            }
            if wanted && !each(&entry, None) {
                return Ok(false);
            }
            *any |= wanted;
            // Kind, offset, type, length of the name.
            self.start += 13 + 8 + 1 + 2 + entry.name.len();
            self.entries += 1;
            self.offset = entry.offset;
            self.cookie = entry.offset;
        }
        Ok(true)
    }

    /// Hands out those of the last answer in the other dialects; `false` if one was not taken.
    fn hand_out_ready(
        &mut self,
        any: &mut bool,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> bool {
        while let Some((name, attr)) = self.ready.front() {
            let entry = DirEntry {
                qid: attr.qid,
                offset: self.cookie + 1,
                kind: DirEntryKind::of(FileKind::of_mode(attr.mode)),
                name,
            };
            if !each(&entry, Some(attr)) {
                return false;
            }
            *any = true;
            self.cookie += 1;
            self.ready.pop_front();
        }
        true
    }

    /// Asks for more entries.
    async fn fetch(&mut self, fid: &Fid) -> Result<()> {
        let most = fid.session().msize() - IO_HEADER_LEN;
        // xen-9pfsd takes more requests for what does not fit into one: the larger the better there.
        let most = if self.linux { most.min(MOST) } else { most } as usize;
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.start = 0;
        buffer
            .try_reserve_exact(most)
            .map_err(|_| Error::OutOfMemory)?;
        buffer.resize(most, 0);
        let count = match self.linux {
            true => fid.readdir(self.offset, &mut buffer).await?,
            false => self.stepwise.read(fid, &mut buffer).await?,
        };
        buffer.truncate(count);
        self.buffer = buffer;
        if count == 0 {
            self.ended = true;
            return Ok(());
        }
        if !self.linux {
            return match self.unpack(fid) {
                Ok(()) => Ok(()),
                Err(Unpacked::Rule(rule)) => Err(fid.session().protocol_error(rule)),
                Err(Unpacked::Error(error)) => Err(error),
            };
        }
        // A landmark is set at each power of two: a circle of any length meets one.
        if self.answers > 0 && self.offset == self.landmark {
            return Err(fid.session().protocol_error(Violation::CircularDirectory));
        }
        self.answers += 1;
        if self.answers.is_power_of_two() {
            self.landmark = self.offset;
        }
        Ok(())
    }

    /// Makes entries of the stats that reading a directory gives in 9P2000 and 9P2000.u.
    fn unpack(&mut self, fid: &Fid) -> core::result::Result<(), Unpacked> {
        let dialect = fid.session().dialect();
        let layout = StatLayout::of(&self.buffer, dialect);
        for stat in StatEntries::new(&self.buffer, dialect, layout) {
            let stat = stat.map_err(|_| Violation::BadEntries)?;
            if !is_wanted(stat.name, self.entries + 1)? {
                continue;
            }
            self.entries += 1;
            if u64::from(self.entries) > self.skip {
                let mut attr = classic::attr_of(&stat);
                if layout == StatLayout::Xen9pfsd {
                    // It follows links, and does not tell: see DirEntry::may_be_link.
                    attr.qid.kind |= QidKind::SYMLINK;
                }
                let name = try_copy(stat.name)?;
                let room = self.ready.try_reserve(1);
                room.map_err(|_| Error::OutOfMemory)?;
                self.ready.push_back((name, attr));
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

/// Why entries could not be unpacked.
enum Unpacked {
    Rule(Violation),
    Error(Error),
}

impl From<Violation> for Unpacked {
    fn from(rule: Violation) -> Self {
        Unpacked::Rule(rule)
    }
}

impl From<Error> for Unpacked {
    fn from(error: Error) -> Self {
        Unpacked::Error(error)
    }
}

/// Whether to show an entry: "." and ".." are left out. An error if there can't be such an entry.
fn is_wanted(name: &[u8], so_far: u32) -> core::result::Result<bool, Violation> {
    if so_far > MOST_ENTRIES {
        return Err(Violation::EndlessDirectory);
    }
    if matches!(name, b"." | b"..") {
        return Ok(false);
    }
    if name.is_empty() || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(Violation::ImpossibleName);
    }
    Ok(true)
}
