//! The benchmark's work, the same for xen9p and for Linux: [`Host`] is what differs.
//!
//! Each row's work is bracketed by two marks: a mark is a file that the guest makes in its control directory, where a
//! program in dom0 answers by a file whose name tells how much processor time both domains have taken. The rows are
//! printed when all is done:
//!
//! ```text
//! row MODE NAME UNITS NANOSECONDS GUEST-CPU DOM0-CPU REQUESTS
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::content::{
    Amounts, BIG, IN_PAGES, MADE, PAGE, RANDOM, SCATTERED, SMALL, Seed, WRITTEN, fill, places,
};

/// What went wrong, for people.
pub type Result<T> = core::result::Result<T, String>;

/// How long dom0's answer to a mark is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes in a large call.
const CALL: usize = 1 << 20;

/// Files as the system at hand has them.
pub trait Host {
    /// An open file. Dropping it closes it.
    type File;

    /// A monotonic clock.
    fn now(&self) -> Duration;
    /// Prints a line.
    fn print(&self, line: fmt::Arguments<'_>);
    /// 9P requests until now, where that is known.
    fn requests(&self) -> u64;

    /// Opens for reading.
    fn open(&self, path: &str) -> Result<Self::File>;
    /// Opens for reading and writing.
    fn open_both(&self, path: &str) -> Result<Self::File>;
    /// Makes a file, for writing.
    fn create(&self, path: &str) -> Result<Self::File>;
    /// Reads on.
    fn read(&self, file: &mut Self::File, into: &mut [u8]) -> Result<usize>;
    /// Writes on.
    fn write(&self, file: &mut Self::File, from: &[u8]) -> Result<()>;
    /// Waits until all is with the server.
    fn sync(&self, file: &Self::File) -> Result<()>;
    /// Reads pages at these places, `depth` of them at a time, and checks each.
    fn read_pages(&self, file: &Self::File, places: &[u64], depth: usize, seed: Seed)
    -> Result<()>;
    /// Writes pages at these places, `depth` of them at a time.
    fn write_pages(
        &self,
        file: &Self::File,
        places: &[u64],
        depth: usize,
        seed: Seed,
    ) -> Result<()>;

    /// Size of a file.
    fn size(&self, path: &str) -> Result<u64>;
    /// Names and sizes in a directory.
    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<()>;
    /// Names in a directory, and whether they are directories.
    fn names(&self, path: &str) -> Result<Vec<(String, bool)>>;
    /// Makes a directory.
    fn create_dir(&self, path: &str) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<()>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Copies a file.
    fn copy(&self, from: &str, to: &str) -> Result<()>;
}

/// What dom0 answers to a mark.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// Time since the domain was let run.
    pub since_start: u64,
    /// Processor time of this domain.
    pub guest: u64,
    /// Processor time of dom0.
    pub dom0: u64,
}

/// A line of the result.
pub struct Row {
    mode: String,
    name: String,
    units: u64,
    time: u64,
    guest: u64,
    dom0: u64,
    requests: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            mode,
            name,
            units,
            time,
            guest,
            dom0,
            requests,
        } = self;
        write!(
            f,
            "row {mode} {name} {units} {time} {guest} {dom0} {requests}"
        )
    }
}

/// The marks of a run, and its rows.
pub struct Marks {
    control: String,
    next: u32,
    rows: Vec<Row>,
}

impl Marks {
    /// Marks are made in this directory.
    pub fn new(control: &str) -> Marks {
        Marks {
            control: control.to_string(),
            next: 0,
            rows: Vec::new(),
        }
    }

    /// Makes a mark and waits for the answer.
    pub fn mark(&mut self, host: &impl Host) -> Result<Sample> {
        let number = self.next;
        self.next += 1;
        drop(host.create(&format!("{}/mark-{number}", self.control))?);
        let deadline = host.now() + PATIENCE;
        loop {
            let names = host.names(&self.control)?;
            let answer = names
                .iter()
                .find_map(|(name, _)| parse_answer(name, number));
            match answer {
                Some(sample) => return Ok(sample),
                None if host.now() > deadline => return Err("dom0 does not answer marks".into()),
                None => {}
            }
        }
    }

    /// Tells dom0 that all work is done.
    pub fn end(&self, host: &impl Host) -> Result<()> {
        host.create(&format!("{}/mark-end", self.control)).map(drop)
    }

    /// Does the work of a row and notes what it took.
    pub fn row<H: Host>(
        &mut self,
        host: &H,
        mode: &str,
        name: &str,
        units: u64,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.mark(host)?;
        let requests = host.requests();
        let start = host.now();
        work().map_err(|why| format!("{mode} {name}: {why}"))?;
        let time = host.now() - start;
        let requests = host.requests() - requests;
        let after = self.mark(host)?;
        self.rows.push(Row {
            mode: mode.to_string(),
            name: name.to_string(),
            units,
            time: time.as_nanos() as u64,
            guest: after.guest - before.guest,
            dom0: after.dom0 - before.dom0,
            requests,
        });
        Ok(())
    }

    /// Notes a row that has only a time.
    pub fn note(&mut self, mode: &str, name: &str, units: u64, time: u64) {
        self.rows.push(Row {
            mode: mode.to_string(),
            name: name.to_string(),
            units,
            time,
            guest: 0,
            dom0: 0,
            requests: 0,
        });
    }

    /// Prints all rows.
    pub fn print(&self, host: &impl Host) {
        for row in &self.rows {
            host.print(format_args!("{row}"));
        }
    }
}

/// `NUMBER-SINCE-GUEST-DOM0`
pub fn parse_answer(name: &str, number: u32) -> Option<Sample> {
    let mut parts = name.split('-').map(|part| part.parse::<u64>().ok());
    if parts.next()?? != u64::from(number) {
        return None;
    }
    Some(Sample {
        since_start: parts.next()??,
        guest: parts.next()??,
        dom0: parts.next()??,
    })
}

fn check(right: bool, what: &str) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err(format!("wrong data: {what}"))
    }
}

/// Reads the first byte of a file and tells dom0, which knows since when the domain runs. To be done before anything else.
pub fn first_byte<H: Host>(host: &H, marks: &mut Marks, files: &str, mode: &str) -> Result<()> {
    let mut byte = [0];
    let got = host.read(&mut host.open(&format!("{files}/small/f0"))?, &mut byte)?;
    check(got == 1, "the first byte")?;
    let sample = marks.mark(host)?;
    marks.note(mode, "first-byte", 1, sample.since_start);
    Ok(())
}

/// Does all rows. `files` is where dom0 has put files to read, `out` an empty directory.
pub fn run<H: Host>(
    host: &H,
    marks: &mut Marks,
    mode: &str,
    files: &str,
    out: &str,
    amounts: Amounts,
) -> Result<()> {
    let mut buffer = vec![0; CALL];
    fill(&mut buffer);
    let big = format!("{files}/big");

    // What the marks themselves take.
    marks.row(host, mode, "nothing", 1, || Ok(()))?;
    marks.row(host, mode, "seq-write", BIG >> 20, || {
        write_file(host, &format!("{out}/written"), &mut buffer, BIG)
    })?;
    marks.row(host, mode, "seq-read", BIG >> 20, || {
        read_file(host, &big, &mut buffer, BIG)
    })?;
    fill(&mut buffer);
    marks.row(host, mode, "seq-write-4k", IN_PAGES >> 20, || {
        write_file(
            host,
            &format!("{out}/written-4k"),
            &mut buffer[..PAGE],
            IN_PAGES,
        )
    })?;
    marks.row(host, mode, "seq-read-4k", IN_PAGES >> 20, || {
        read_file(
            host,
            &format!("{files}/pages"),
            &mut buffer[..PAGE],
            IN_PAGES,
        )
    })?;

    let reading = host.open(&big)?;
    let writing = host.open_both(&format!("{out}/written"))?;
    for (count, depth) in RANDOM {
        let places: Vec<u64> = places(count, depth).collect();
        marks.row(host, mode, &format!("rand-read-{depth}"), count, || {
            host.read_pages(&reading, &places, depth, MADE)
        })?;
        marks.row(host, mode, &format!("rand-write-{depth}"), count, || {
            host.write_pages(&writing, &places, depth, SCATTERED)?;
            host.sync(&writing)
        })?;
    }
    drop((reading, writing));

    let Amounts {
        files: count,
        paths,
        entries,
        tree,
    } = amounts;
    let small = &mut buffer[..SMALL];
    fill(small);
    host.create_dir(&format!("{out}/new"))?;
    marks.row(host, mode, "create", count as u64, || {
        for number in 0..count {
            let mut file = host.create(&format!("{out}/new/f{number}"))?;
            WRITTEN.put(small, number as u64);
            host.write(&mut file, small)?;
        }
        Ok(())
    })?;
    marks.row(host, mode, "open-read", count as u64, || {
        for number in 0..count {
            let mut file = host.open(&format!("{files}/small/f{number}"))?;
            let got = host.read(&mut file, small)?;
            check(
                got == SMALL && MADE.looks_right(small, number as u64),
                "a small file",
            )?;
        }
        Ok(())
    })?;
    marks.row(host, mode, "rename", count as u64, || {
        for number in 0..count {
            host.rename(
                &format!("{out}/new/f{number}"),
                &format!("{out}/new/r{number}"),
            )?;
        }
        Ok(())
    })?;
    marks.row(host, mode, "unlink", count as u64, || {
        for number in 0..count {
            host.remove(&format!("{out}/doomed/f{number}"))?;
        }
        Ok(())
    })?;
    marks.row(host, mode, "stat", paths as u64, || {
        for number in 0..paths {
            let size = host.size(&format!("{files}/{}", deep(number)))?;
            check(size == number as u64 % 100, "attributes of a file")?;
        }
        Ok(())
    })?;
    marks.row(host, mode, "list", entries as u64, || {
        let (mut seen, mut bytes) = (0, 0);
        host.list(&format!("{files}/many"), &mut |_, size| {
            seen += 1;
            bytes += size;
        })?;
        let expected = (0..entries as u64).map(|number| number % 100).sum::<u64>();
        check(seen == entries && bytes == expected, "a listing")
    })?;
    marks.row(host, mode, "copy-tree", tree as u64, || {
        copy_tree(host, &format!("{files}/tree"), &format!("{out}/tree"))
    })
}

/// Path of the `number`th file whose attributes are asked for, four levels deep.
pub fn deep(number: usize) -> String {
    let (a, b, c) = (number / 250, number / 25 % 10, number / 5 % 5);
    format!("deep/a{a}/b{b}/c{c}/f{number}")
}

/// Writes a file from its beginning to its end, in calls as large as the buffer.
pub fn write_file<H: Host>(host: &H, path: &str, buffer: &mut [u8], size: u64) -> Result<()> {
    let mut file = host.create(path)?;
    for offset in (0..size).step_by(buffer.len()) {
        WRITTEN.put(buffer, offset);
        host.write(&mut file, buffer)?;
    }
    host.sync(&file)
}

/// Reads a file from its beginning to its end, in calls as large as the buffer.
pub fn read_file<H: Host>(host: &H, path: &str, buffer: &mut [u8], size: u64) -> Result<()> {
    let mut file = host.open(path)?;
    let mut offset = 0;
    loop {
        let mut got = 0;
        while got < buffer.len() {
            match host.read(&mut file, &mut buffer[got..])? {
                0 => break,
                count => got += count,
            }
        }
        check(MADE.looks_right(&buffer[..got], offset), path)?;
        offset += got as u64;
        if got < buffer.len() {
            return check(offset == size, path);
        }
    }
}

fn copy_tree<H: Host>(host: &H, from: &str, to: &str) -> Result<()> {
    host.create_dir(to)?;
    for (name, is_dir) in host.names(from)? {
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        if is_dir {
            copy_tree(host, &from, &to)?;
        } else {
            host.copy(&from, &to)?;
        }
    }
    Ok(())
}
