//! `du`.

use alloc::vec::Vec;

use xen9p::fs::{self, Metadata};
use xen9p::ns::WithMetadata;

use super::args::digits;
use super::descent::{Begun, Visitor, descend};
use super::format::{Human, Kilobytes};
use super::listing::{Names, Selection};
use super::place::Place;
use super::{Args, Fail, Shell};

struct Usage<'a> {
    args: &'a Args<'a>,
    /// To this depth directories are told.
    most: usize,
    /// What is known to be in each directory from the top to the one that is gone through.
    sums: Vec<u64>,
    total: u64,
}

pub fn du(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let most = match args.value('d') {
        None if args.has('s') => 0,
        None => usize::MAX,
        Some(text) => {
            let depth = digits(text).and_then(|depth| usize::try_from(depth).ok());
            depth.ok_or_else(|| Fail::usage(format_args!("invalid maximum depth '{text}'")))?
        }
    };
    let mut usage = Usage {
        args,
        most,
        sums: Vec::new(),
        total: 0,
    };
    let paths = if args.operands.is_empty() {
        &["."]
    } else {
        &*args.operands
    };
    shell.each(paths, |shell, top| {
        let found = top.symlink_metadata()?;
        if found.is_dir() {
            return descend(shell, top, &mut usage);
        }
        let bytes = found.blocks().saturating_mul(512);
        usage.total = usage.total.saturating_add(bytes);
        usage.tell(shell, bytes, format_args!("{top}"));
        Ok(())
    })?;
    if args.has('c') {
        usage.tell(shell, usage.total, format_args!("total"));
    }
    Ok(())
}

impl Usage<'_> {
    fn tell(&self, shell: &mut Shell<'_>, bytes: u64, of: core::fmt::Arguments<'_>) {
        match self.args.has('h') {
            true => shell.say(format_args!("{}\t{of}\n", Human(bytes))),
            false => shell.say(format_args!("{}\t{of}\n", Kilobytes(bytes))),
        }
    }
}

impl Visitor for Usage<'_> {
    type Looked = (Metadata, WithMetadata);

    fn look(&self, above: &Place, names: Vec<Vec<u8>>) -> fs::Result<Begun<Self::Looked>> {
        above.ns.with_metadata_of_dirs(&above.path, names)
    }

    fn enter(
        &mut self,
        shell: &mut Shell<'_>,
        at: &Place,
        looked: Option<Self::Looked>,
    ) -> Result<(Names, Option<Vec<u8>>), Fail> {
        let (metadata, entries) = match looked {
            Some((metadata, entries)) => (metadata, Some(entries)),
            None => (at.symlink_metadata()?, None),
        };
        let mut sum = metadata.blocks().saturating_mul(512);
        let mut selection = Selection::behind(shell, None);
        for entry in at.with_metadata(entries)? {
            let (entry, found) = entry.map_err(|error| at.fail(error))?;
            let place = at.join(entry.file_name())?;
            match found {
                Ok(found) if found.is_dir() && !entry.may_be_link() => {
                    selection.offer(entry.file_name())?;
                }
                Ok(found) => {
                    let bytes = found.blocks().saturating_mul(512);
                    sum = sum.saturating_add(bytes);
                    if self.args.has('a') && self.sums.len() < self.most {
                        self.tell(shell, bytes, format_args!("{place}"));
                    }
                }
                Err(error) => shell.settle(Err(place.fail(error)))?,
            }
        }
        self.sums
            .try_reserve(1)
            .map_err(|_| Fail::out_of_memory())?;
        self.sums.push(sum);
        Ok(selection.finish())
    }

    fn leave(&mut self, shell: &mut Shell<'_>, at: &Place) -> Result<(), Fail> {
        let sum = self.sums.pop().unwrap_or_default();
        // The numbers are the server's, and may be as large as it likes.
        let above = self.sums.last_mut().unwrap_or(&mut self.total);
        *above = above.saturating_add(sum);
        if self.sums.len() <= self.most {
            self.tell(shell, sum, format_args!("{at}"));
        }
        Ok(())
    }
}
