//! The rows of the tables: what is done, how often, and that it was done right.

use std::time::{Duration, Instant};

use crate::client::{Client, Done, Failed, New};
use crate::count::{Messages, Relay, allocations};
use crate::tree::{
    ENTRIES, LARGE, LARGE_FILE, MADE, MANY, READ, SMALL, SMALL_FILE, SMALL_FILES, Tree, WRITTEN,
};

const NEW: New<'_> = New {
    directory: MADE,
    name: "new",
    path: "a/made/new",
};

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// The size of a small file, by its path.
    Stat,
    /// The size of the same file again and again.
    StatHeld,
    /// A small file, open to close.
    ReadWhole,
    /// The large file in small pieces from front to back.
    SmallInOrder,
    /// The same, anywhere.
    SmallAnywhere,
    /// The large file in large pieces from front to back.
    LargeReads,
    /// The same, written.
    LargeWrites,
    /// A small file that comes and goes.
    MakeAndRemove,
    /// A listing of names.
    List,
    /// A listing with sizes.
    ListWithSizes,
}

impl Row {
    /// In the order of the report.
    pub const ALL: [Row; 10] = [
        Row::Stat,
        Row::StatHeld,
        Row::ReadWhole,
        Row::SmallInOrder,
        Row::SmallAnywhere,
        Row::LargeReads,
        Row::LargeWrites,
        Row::MakeAndRemove,
        Row::List,
        Row::ListWithSizes,
    ];

    /// What is done.
    pub const fn name(self) -> &'static str {
        match self {
            Row::Stat => "stat of a path",
            Row::StatHeld => "stat of a file that is held",
            Row::ReadWhole => "open, read 1 KiB, close",
            Row::SmallInOrder => "read 4 KiB, in order",
            Row::SmallAnywhere => "read 4 KiB anywhere",
            Row::LargeReads => "read 1 MiB",
            Row::LargeWrites => "write 1 MiB",
            Row::MakeAndRemove => "create, write 1 KiB, remove",
            Row::List => "list 1,000 names",
            Row::ListWithSizes => "list 1,000 names with sizes",
        }
    }

    /// How often in one measurement, which is one part in `scale` of a full one.
    pub fn operations(self, scale: usize) -> usize {
        let full = match self {
            Row::Stat | Row::SmallAnywhere | Row::StatHeld => 4000,
            Row::ReadWhole | Row::MakeAndRemove => 1500,
            Row::SmallInOrder => LARGE_FILE / SMALL,
            Row::LargeReads | Row::LargeWrites => LARGE_FILE / LARGE,
            Row::List => 20,
            Row::ListWithSizes => 10,
        };
        (full / scale).max(1)
    }

    /// Bytes that an operation brings or takes, where these are measured.
    pub const fn bytes(self) -> Option<usize> {
        match self {
            Row::LargeReads | Row::LargeWrites => Some(LARGE),
            _ => None,
        }
    }

    /// What has to be open meanwhile, and whether to be written.
    const fn file(self) -> Option<(&'static str, bool)> {
        match self {
            Row::StatHeld | Row::SmallInOrder | Row::SmallAnywhere | Row::LargeReads => {
                Some((READ, false))
            }
            Row::LargeWrites => Some((WRITTEN, true)),
            _ => None,
        }
    }

    /// Does it so often, and checks the amount; each byte as well, if `check`.
    fn run(
        self,
        client: &mut dyn Client,
        tree: &Tree,
        operations: usize,
        buffer: &mut [u8],
        check: bool,
    ) -> Done<()> {
        let content = tree.content();
        let mut place = 1_u64;
        for n in 0..operations {
            match self {
                Row::Stat => {
                    let size = client.stat(&tree.small()[n % SMALL_FILES])?;
                    expect("bytes", size, SMALL_FILE as u64)?;
                }
                Row::StatHeld => expect("bytes", client.stat_held()?, LARGE_FILE as u64)?,
                Row::ReadWhole => {
                    let path = &tree.small()[n % SMALL_FILES];
                    let count = client.read_whole(path, buffer)?;
                    expect("bytes", count, SMALL_FILE)?;
                    check_data(check, &buffer[..count], content)?;
                }
                Row::SmallInOrder => {
                    let into = &mut buffer[..SMALL];
                    client.read_next(into)?;
                    check_data(check, into, &content[n * SMALL..])?;
                }
                Row::SmallAnywhere => {
                    place = place
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(9);
                    let at = (place >> 33) as usize % (LARGE_FILE / SMALL) * SMALL;
                    let into = &mut buffer[..SMALL];
                    client.read_at(at as u64, into)?;
                    check_data(check, into, &content[at..])?;
                }
                Row::LargeReads => {
                    client.read_next(&mut buffer[..LARGE])?;
                    check_data(check, &buffer[..LARGE], &content[n * LARGE..])?;
                }
                Row::LargeWrites => {
                    let at = n * LARGE;
                    client.write_at(at as u64, &content[at..at + LARGE])?;
                }
                Row::MakeAndRemove => client.make_and_remove(&NEW, &content[..SMALL_FILE])?,
                Row::List => expect("entries", client.list(MANY)?, ENTRIES)?,
                Row::ListWithSizes => {
                    let (count, bytes) = client.list_with_sizes(MANY)?;
                    expect("entries", count, ENTRIES)?;
                    expect("bytes", bytes, Tree::sizes())?;
                }
            }
        }
        Ok(())
    }

    /// Does `work` between what comes before it and what comes after it.
    fn around<T>(
        self,
        client: &mut dyn Client,
        work: impl FnOnce(&mut dyn Client) -> Done<T>,
    ) -> Done<T> {
        if let Some((path, write)) = self.file() {
            client.open(path, write)?;
        }
        let done = work(client);
        if self.file().is_some() {
            client.close()?;
        }
        done
    }

    /// How long so many operations take.
    pub fn time(self, client: &mut dyn Client, tree: &Tree, operations: usize) -> Done<Duration> {
        let mut buffer = vec![0; LARGE];
        self.around(client, |client| {
            let start = Instant::now();
            self.run(client, tree, operations, &mut buffer, false)?;
            Ok(start.elapsed())
        })
    }

    /// What one of so many operations costs beside time, by way of a relay if the client sends messages. Checks each byte.
    pub fn cost(
        self,
        client: &mut dyn Client,
        tree: &Tree,
        operations: usize,
        relay: Option<&Relay>,
    ) -> Done<Cost> {
        let messages = || relay.map_or_else(Messages::default, Relay::messages);
        let mut buffer = vec![0; LARGE];
        let cost = self.around(client, |client| {
            let before = messages();
            let work = || self.run(client, tree, operations, &mut buffer, true);
            let (done, allocated) = allocations(work);
            done?;
            let after = messages();
            let each = |count: u64| count as f64 / operations as f64;
            Ok(Cost {
                allocations: each(allocated),
                requests: each(after.requests - before.requests),
                waits: each(after.waits - before.waits),
            })
        })?;
        if self == Row::LargeWrites && !tree.check_written(operations * LARGE)? {
            return Err(Failed::Error("something else was written".into()));
        }
        if std::fs::read_dir(tree.root().join(MADE))?.next().is_some() {
            return Err(Failed::Error("a file is left".into()));
        }
        Ok(cost)
    }
}

/// What an operation costs beside time.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Allocations and reallocations of the whole program.
    pub allocations: f64,
    /// Requests to the server.
    pub requests: f64,
    /// How often one after the other the client waits for the server.
    pub waits: f64,
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, found: T, wanted: T) -> Done<()> {
    match found == wanted {
        true => Ok(()),
        false => Err(Failed::Error(format!(
            "{found} {what} in place of {wanted}"
        ))),
    }
}

fn check_data(check: bool, found: &[u8], content: &[u8]) -> Done<()> {
    match !check || content.starts_with(found) {
        true => Ok(()),
        false => Err(Failed::Error("other bytes than the file has".into())),
    }
}
