//! The benchmark's limit: the requests that the workload takes, sent by a guest of ours straight over the transport, and
//! their replies thrown away unread but for their type. No client could be faster with this backend.
//!
//! What an operation takes is sent in one burst, without waiting for the answers; operations follow one another as in
//! the workload, except where it has several at a time: bulk data, random access at depth, listings.
//!
//! Command line: `limit CONTROL FILES OUT SCALE`.
#![no_std]
#![no_main]

extern crate alloc;

// The other guests use more of these.
#[allow(dead_code)]
mod content;
#[allow(dead_code)]
mod marks;
mod raw;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen9p::p9::wire::{AttrMask, DirEntries, Fid, OpenFlags, Payload, Request, UnlinkFlags};
use xen9p::println;
use xen9p::rt::{self, BarePlatform, cmdline};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;

use content::{
    Amounts, BIG, IN_PAGES, PAGE, RANDOM, SCATTERED, SMALL, WRITTEN, deep, fill, places,
};
use marks::{Marks, Result, check};
use raw::{Raw, names};

xen9p::bare_entry!(main);

/// The name of these rows.
const MODE: &str = "limit";

fn main() -> u8 {
    match run() {
        Ok(()) => 0,
        Err(why) => {
            println!("bench: {why}");
            1
        }
    }
}

fn run() -> Result<()> {
    let line = str::from_utf8(rt::command_line()).map_err(|error| error.to_string())?;
    let (options, line) = cmdline::parse(line).map_err(|error| error.to_string())?;
    let words = cmdline::words(line).map_err(|error| error.to_string())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["limit", control, files, out, scale] = words[..] else {
        return Err("usage: limit CONTROL FILES OUT SCALE".into());
    };
    let scale = scale.parse().map_err(|_| "SCALE is not a number")?;
    let xen = Xen::new(Events::new(BarePlatform)).map_err(|error| error.to_string())?;
    let device = xen9pfs::device(&xen, None).map_err(|error| error.to_string())?;
    let mut config = Config::for_memory(rt::memory_info().total);
    config.rings = options.rings;
    config.order = options.order;
    let transport = xen9pfs::connect(&xen, device, &config).map_err(|error| error.to_string())?;
    let raw = Raw::new(transport)?;
    let mut marks = Marks::new(control);
    rows(&raw, &mut marks, files, out, Amounts::new(scale, MODE))?;
    marks.end(&raw)?;
    marks.print(&raw);
    Ok(())
}

/// Fids that last; those of single operations are above.
const FILES: Fid = Fid(1);
const OUT: Fid = Fid(2);
const READING: Fid = Fid(3);
const WRITING: Fid = Fid(4);
const DIRECTORY: Fid = Fid(5);
const LISTED: Fid = Fid(6);

/// The fid of the operation in this slot.
fn own(slot: u16) -> Fid {
    Fid(100 + u32::from(slot))
}

fn rows(raw: &Raw, marks: &mut Marks, files: &str, out: &str, amounts: Amounts) -> Result<()> {
    raw.walk(files, FILES)?;
    raw.walk(out, OUT)?;
    let mut content = vec![0; raw.chunk()];
    fill(&mut content);
    let chunk = content.len() as u64;
    // Two for each ring: one that is served, one that waits behind it.
    let busy = 2 * raw.lanes();

    marks.row(raw, MODE, "nothing", 1, || Ok(()))?;
    raw.create(OUT, "written", WRITING)?;
    marks.row(raw, MODE, "seq-write", BIG >> 20, || {
        write(raw, WRITING, busy, &mut content, BIG)
    })?;
    raw.open(&format!("{files}/big"), READING)?;
    let read = |fid, size: u64| {
        raw.stream(busy, size.div_ceil(chunk), |index, _, send| {
            send(&Request::Read {
                fid,
                offset: index * chunk,
                count: chunk as u32,
            })
        })
    };
    marks.row(raw, MODE, "seq-read", BIG >> 20, || read(READING, BIG))?;
    raw.create(OUT, "written-4k", DIRECTORY)?;
    marks.row(raw, MODE, "seq-write-4k", IN_PAGES >> 20, || {
        write(raw, DIRECTORY, 1, &mut content[..PAGE], IN_PAGES)
    })?;
    raw.clunk(DIRECTORY)?;
    raw.open(&format!("{files}/pages"), DIRECTORY)?;
    marks.row(raw, MODE, "seq-read-4k", IN_PAGES >> 20, || {
        read(DIRECTORY, IN_PAGES)
    })?;
    raw.clunk(DIRECTORY)?;

    for (count, depth) in RANDOM {
        let places: Vec<u64> = places(BIG, count, depth).collect();
        let slots = depth as u16;
        marks.row(raw, MODE, &format!("rand-read-{depth}"), count, || {
            raw.stream(slots, count, |index, _, send| {
                send(&Request::Read {
                    fid: READING,
                    offset: places[index as usize],
                    count: PAGE as u32,
                })
            })
        })?;
        let page = &mut content[..PAGE];
        marks.row(raw, MODE, &format!("rand-write-{depth}"), count, || {
            raw.stream(slots, count, |index, _, send| {
                let offset = places[index as usize];
                SCATTERED.put(page, offset);
                send(&Request::Write {
                    fid: WRITING,
                    offset,
                    data: Payload::from(&page[..]),
                })
            })?;
            raw.sync(WRITING)
        })?;
    }

    let Amounts {
        files: count,
        paths,
        entries,
        ..
    } = amounts;
    let count = count as u64;
    raw.make_dir(OUT, "new")?;
    raw.walk(&format!("{out}/new"), DIRECTORY)?;
    let small = &mut content[..SMALL];
    fill(small);
    marks.row(raw, MODE, "create", count, || {
        raw.stream(1, count, |index, slot, send| {
            let fid = own(slot);
            WRITTEN.put(small, index);
            send(&Request::Walk {
                fid: DIRECTORY,
                newfid: fid,
                names: names(""),
            })?;
            send(&Request::Lcreate {
                fid,
                name: format!("f{index}").as_bytes(),
                flags: OpenFlags::WRITE_ONLY,
                mode: 0o644,
                gid: 0,
            })?;
            send(&Request::Write {
                fid,
                offset: 0,
                data: Payload::from(&small[..]),
            })?;
            send(&Request::Clunk { fid })
        })
    })?;
    marks.row(raw, MODE, "open-read", count, || {
        raw.stream(1, count, |index, slot, send| {
            let fid = own(slot);
            send(&Request::Walk {
                fid: FILES,
                newfid: fid,
                names: names(&format!("small/f{index}")),
            })?;
            send(&Request::Lopen {
                fid,
                flags: OpenFlags::empty(),
            })?;
            send(&Request::Read {
                fid,
                offset: 0,
                count: SMALL as u32,
            })?;
            send(&Request::Clunk { fid })
        })
    })?;
    marks.row(raw, MODE, "rename", count, || {
        raw.stream(1, count, |index, _, send| {
            send(&Request::Renameat {
                olddirfid: DIRECTORY,
                oldname: format!("f{index}").as_bytes(),
                newdirfid: DIRECTORY,
                newname: format!("r{index}").as_bytes(),
            })
        })
    })?;
    raw.clunk(DIRECTORY)?;
    raw.walk(&format!("{out}/doomed"), DIRECTORY)?;
    marks.row(raw, MODE, "unlink", count, || {
        raw.stream(1, count, |index, _, send| {
            send(&Request::Unlinkat {
                dirfid: DIRECTORY,
                name: format!("f{index}").as_bytes(),
                flags: UnlinkFlags::empty(),
            })
        })
    })?;
    marks.row(raw, MODE, "stat", paths as u64, || {
        raw.stream(1, paths as u64, |index, slot, send| {
            stat(FILES, &deep(index as usize), own(slot), send)
        })
    })?;
    raw.walk(&format!("{files}/many"), LISTED)?;
    marks.row(raw, MODE, "list", entries as u64, || {
        raw.open(&format!("{files}/many"), READING)?;
        let (mut seen, mut offset) = (0, 0);
        loop {
            let data = raw.read_dir(READING, offset)?;
            if data.is_empty() {
                return check(seen == entries, "a listing");
            }
            let mut found: Vec<&[u8]> = Vec::new();
            for entry in DirEntries::new(&data) {
                let entry = entry.map_err(|error| error.to_string())?;
                offset = entry.offset;
                if !matches!(entry.name, b"." | b"..") {
                    found.push(entry.name);
                }
            }
            seen += found.len();
            raw.stream(busy, found.len() as u64, |index, slot, send| {
                let name = String::from_utf8_lossy(found[index as usize]);
                stat(LISTED, &name, own(slot), send)
            })?;
        }
    })
}

/// What asking for the attributes of a path takes.
fn stat(
    from: Fid,
    path: &str,
    fid: Fid,
    send: &mut dyn FnMut(&Request<'_>) -> Result<()>,
) -> Result<()> {
    send(&Request::Walk {
        fid: from,
        newfid: fid,
        names: names(path),
    })?;
    send(&Request::Getattr {
        fid,
        mask: AttrMask::BASIC,
    })?;
    send(&Request::Clunk { fid })
}

/// Writes a file in order, in requests as large as the content, and has it synced.
fn write(raw: &Raw, fid: Fid, slots: u16, content: &mut [u8], size: u64) -> Result<()> {
    let chunk = content.len() as u64;
    raw.stream(slots, size.div_ceil(chunk), |index, _, send| {
        let offset = index * chunk;
        let part = &mut content[..chunk.min(size - offset) as usize];
        WRITTEN.put(part, offset);
        send(&Request::Write {
            fid,
            offset,
            data: Payload::from(&part[..]),
        })
    })?;
    raw.sync(fid)
}
