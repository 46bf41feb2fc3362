//! The benchmark's work, the same for xen9p and for Linux: [`Host`] is what differs.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::content::{
    Amounts, BIG, IN_PAGES, MADE, PAGE, RANDOM, SCATTERED, SMALL, Seed, WRITTEN, deep, fill, places,
};
use crate::marks::{Marks, Result, Signals, check};

/// Bytes in a large call.
pub const CALL: usize = 1 << 20;

/// Files as the system at hand has them.
pub trait Host: Signals {
    /// An open file. Dropping it closes it.
    type File;

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
    /// Makes a directory.
    fn create_dir(&self, path: &str) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<()>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Copies a file.
    fn copy(&self, from: &str, to: &str) -> Result<()>;
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

/// Reads and writes in large calls; and first of all nothing, to know what the marks themselves take.
pub fn bulk<H: Host>(
    host: &H,
    marks: &mut Marks,
    mode: &str,
    files: &str,
    out: &str,
    buffer: &mut [u8],
    amounts: Amounts,
) -> Result<()> {
    marks.row(host, mode, "nothing", 1, || Ok(()))?;
    fill(buffer);
    marks.row(host, mode, "seq-write", amounts.written >> 20, || {
        write_file(host, &format!("{out}/written"), buffer, amounts.written)
    })?;
    marks.row(host, mode, "seq-read", BIG >> 20, || {
        read_file(host, &format!("{files}/big"), buffer, BIG)
    })
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
    let big = format!("{files}/big");

    bulk(host, marks, mode, files, out, &mut buffer, amounts)?;
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
        let from: Vec<u64> = places(BIG, count, depth).collect();
        let to: Vec<u64> = places(amounts.written, count, depth).collect();
        marks.row(host, mode, &format!("rand-read-{depth}"), count, || {
            host.read_pages(&reading, &from, depth, MADE)
        })?;
        marks.row(host, mode, &format!("rand-write-{depth}"), count, || {
            host.write_pages(&writing, &to, depth, SCATTERED)?;
            host.sync(&writing)
        })?;
    }
    drop((reading, writing));

    let Amounts {
        files: count,
        paths,
        entries,
        tree,
        ..
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
