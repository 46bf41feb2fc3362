//! Reading a directory of xen-9pfsd without losing entries.
//!
//! The daemon has one position in an open directory. A read at offset 0 goes back to its beginning; a read at any other
//! offset goes on. Each entry is looked at (stat, links followed) before it is known whether it fits into the answer:
//! - An entry that does not fit is passed over and lost.
//! - An entry that can't be looked at, such as a dangling symbolic link, makes the whole answer an error. It is passed
//!   over, and all entries before it that belong to this answer are lost.
//!
//! A read whose count is filled to the last byte stops before the next entry, and loses nothing. So what was read is
//! remembered as a list of such exact counts: after a loss, the directory is read again by these up to the same place. What
//! lies in front of an entry that can't be looked at is found by bisection: the largest count that is not an error.

use alloc::vec::Vec;

use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_wire::{Dialect, Errno, StatLayout};

/// The most bytes that an entry counts for: a stat, and the longest name.
const MAX_ENTRY: usize = 2 + 71 + 255;

/// The most requests for one listing beyond those that a listing without losses takes.
const MAX_REQUESTS: u32 = 20_000;

/// The most entries in a row that are passed over on a server of which nothing shows yet that it is xen-9pfsd.
const MAX_PASSED: u32 = 8;

/// One request of the way to a place in a directory.
#[derive(Clone, Copy)]
enum Step {
    /// A read of exactly so many bytes.
    Read(u32),
    /// The error of an entry that can't be looked at.
    Pass,
}

/// How far a directory was read.
#[derive(Default)]
pub(super) struct Stepwise {
    steps: Vec<Step>,
    /// Whether the answers so far are those of xen-9pfsd; `None` before the first.
    is_daemon: Option<bool>,
    /// Whether the daemon's position is one entry too far.
    misplaced: bool,
    /// The directory changes while it is read: places in it can't be found again.
    changing: bool,
    requests: u32,
    passed: u32,
}

impl Stepwise {
    /// Reads what comes next; 0 is the end. Entries that the server can't look at are left out.
    ///
    /// # Errors
    /// What the server says. [`Error::OutOfMemory`].
    pub(super) async fn read(&mut self, fid: &Fid, into: &mut [u8]) -> Result<usize> {
        if core::mem::take(&mut self.misplaced) {
            if self.is_spent(fid) {
                return Err(Error::TooManyEntries);
            }
            self.changing = !self.go_back(fid, into).await?;
        }
        loop {
            let error = match fid.read(self.offset(), into).await {
                Ok(count) => {
                    let (entries, left) = (into.get(..count), into.len() - count);
                    if let Some(entries @ [_, ..]) = entries {
                        let layout = StatLayout::of(entries, fid.session().dialect());
                        self.is_daemon = Some(layout == StatLayout::Xen9pfsd);
                    }
                    self.misplaced = self.is_followed() && (1..MAX_ENTRY).contains(&left);
                    return self.add(Step::Read(count as u32)).map(|()| count);
                }
                Err(Error::Errno(errno)) if is_of_an_entry(errno) && self.is_followed() => errno,
                Err(error) => return Err(error),
            };
            let Some(count) = self.count_before_error(fid, into).await? else {
                self.changing = true;
                return Err(error.into());
            };
            if count > 0 {
                if self.go_back(fid, into).await?
                    && let Some(exact) = into.get_mut(..count)
                    && fid.read(self.offset(), exact).await == Ok(count)
                {
                    return self.add(Step::Read(count as u32)).map(|()| count);
                }
                self.changing = true;
                return Err(error.into());
            }
            self.passed += 1;
            if self.is_daemon.is_none() && (self.passed > MAX_PASSED) || self.is_spent(fid) {
                return Err(error.into());
            }
            log::warn!(
                "9p: an entry of a directory is left out: the server can't look at it: {error}"
            );
            self.add(Step::Pass)?;
        }
    }

    /// Where the next read goes on.
    fn offset(&self) -> u64 {
        offset_behind(&self.steps)
    }

    /// Whether the way through the directory matters: it does on xen-9pfsd alone.
    fn is_followed(&self) -> bool {
        !self.changing && self.is_daemon != Some(false)
    }

    /// Whether no more requests are spent on this listing.
    fn is_spent(&self, fid: &Fid) -> bool {
        self.requests > MAX_REQUESTS || fid.session().dialect() != Dialect::Unix
    }

    fn add(&mut self, step: Step) -> Result<()> {
        self.steps.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        self.steps.push(step);
        Ok(())
    }

    /// Reads the directory from its beginning to where the steps lead; `false` if it is another there.
    async fn go_back(&mut self, fid: &Fid, into: &mut [u8]) -> Result<bool> {
        for (index, step) in self.steps.iter().enumerate() {
            self.requests += 1;
            let count = match *step {
                Step::Read(count) => count as usize,
                Step::Pass => 1,
            };
            let Some(into) = into.get_mut(..count) else {
                return Ok(false);
            };
            let before = self.steps.get(..index).unwrap_or_default();
            let read = fid.read(offset_behind(before), into).await;
            match (step, read) {
                (Step::Read(_), Ok(read)) if read == count => {}
                (Step::Pass, Err(Error::Errno(_))) => {}
                (_, Ok(_) | Err(Error::Errno(_))) => return Ok(false),
                (_, Err(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// How many bytes lie between where the steps lead and the entry that can't be looked at; `None` if that can't be told.
    /// If it is 0, the server has passed over that entry.
    async fn count_before_error(&mut self, fid: &Fid, into: &mut [u8]) -> Result<Option<usize>> {
        let (mut good, mut bad) = (0, into.len());
        let mut count = 1;
        while bad - good > 1 {
            self.requests += 1;
            if self.is_spent(fid) || !self.go_back(fid, into).await? {
                return Ok(None);
            }
            let Some(part) = into.get_mut(..count) else {
                return Ok(None);
            };
            match fid.read(self.offset(), part).await {
                Ok(_) => good = count,
                Err(Error::Errno(errno)) if is_of_an_entry(errno) => bad = count,
                Err(error) => return Err(error),
            }
            count = good + (bad - good) / 2;
        }
        Ok(Some(good))
    }
}

/// The offset behind these steps: not 0, which means the beginning.
fn offset_behind(steps: &[Step]) -> u64 {
    let bytes = steps.iter().map(|step| match *step {
        Step::Read(count) => u64::from(count),
        Step::Pass => 0,
    });
    bytes.sum::<u64>().max(u64::from(!steps.is_empty()))
}

/// Whether an error is one of looking at a file by its name.
fn is_of_an_entry(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT | Errno::ELOOP | Errno::EACCES | Errno::ENOTDIR | Errno::ENAMETOOLONG
    )
}
