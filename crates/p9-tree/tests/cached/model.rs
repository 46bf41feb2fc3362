//! Random steps of two programs, and what one of them may see of the other's by close-to-open.

use std::time::Duration;

use p9_tree::OpenOptions;
use p9_tree::files::File;
use p9_tree::trees::{CachedFile, MemFile};
use xen9p_testing::random::Random;

use crate::BELIEVED;
use crate::coarse::{Bed, CoarseFile};
use crate::listings::Listing;

const PAGE: usize = 4096;

/// What something was, and since when.
struct Timeline<T>(Vec<(Duration, T)>);

impl<T: PartialEq> Timeline<T> {
    /// Whether it was that at some time from `since` on.
    fn was(&self, what: &T, since: Duration) -> bool {
        let first = self.0.partition_point(|(from, _)| *from < since);
        self.0[first.saturating_sub(1)..]
            .iter()
            .any(|(_, is)| is == what)
    }
}

/// A file, whatever its name is.
#[derive(Default)]
struct Inode {
    versions: Vec<Vec<u8>>,
}

struct Handle {
    file: File<CachedFile<CoarseFile<MemFile>>>,
    inode: usize,
    /// The version that it must show at least.
    least: usize,
    writes: bool,
}

struct Model {
    inodes: Vec<Inode>,
    /// Which file has a name, since when, and how long it was at what time.
    names: Vec<(usize, Duration)>,
    sizes: Vec<Timeline<u64>>,
    link: Timeline<Vec<u8>>,
    /// When the reader changed something last.
    own: Duration,
    handles: Vec<Handle>,
    /// A listing of the root that the reader has begun.
    listing: Option<Listing>,
}

const NAMES: [&str; 3] = ["/a", "/b", "/c"];

impl Model {
    fn changed(&mut self, inode: usize, now: Duration, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.inodes[inode]
            .versions
            .last()
            .cloned()
            .unwrap_or_default();
        change(&mut content);
        let len = content.len() as u64;
        self.inodes[inode].versions.push(content);
        if let Some(name) = self.names.iter().position(|(is, _)| *is == inode) {
            self.sizes[name].0.push((now, len));
        }
    }

    fn newest(&self, inode: usize) -> usize {
        self.inodes[inode].versions.len() - 1
    }

    /// Whether the handle may show this at `offset`, where it was asked for `asked` bytes.
    fn allows(&self, handle: &Handle, offset: usize, asked: usize, got: &[u8]) -> bool {
        let versions = &self.inodes[handle.inode].versions[handle.least..];
        let mut at = offset;
        while at < offset + got.len() {
            let end = ((at / PAGE + 1) * PAGE).min(offset + got.len());
            // The end of a file may lie in a page, and what others appended behind it.
            for _ in 0..2 {
                let piece = &got[at - offset..end - offset];
                let same = |version: &Vec<u8>| {
                    let there = version.get(at..).unwrap_or(&[]);
                    there.iter().zip(piece).take_while(|(a, b)| a == b).count()
                };
                at += versions.iter().map(same).max().unwrap_or(0);
            }
            if at != end {
                return false;
            }
        }
        got.len() == asked || versions.iter().any(|version| version.len() <= at)
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    content.resize(content.len().max(at + data.len()), 0);
    content[at..at + data.len()].copy_from_slice(data);
}

/// Random steps of both programs. Returns what the reader saw that it may not see.
pub fn run(bed: &Bed, seed: u64, steps: usize) -> std::result::Result<(), String> {
    let mut random = Random::new(seed);
    let mut model = Model {
        inodes: Vec::new(),
        names: Vec::new(),
        sizes: Vec::new(),
        link: Timeline(Vec::new()),
        own: Duration::ZERO,
        handles: Vec::new(),
        listing: None,
    };
    for (index, name) in NAMES.into_iter().enumerate() {
        let data = random.bytes(20_000);
        bed.writer.write(name, &data).unwrap();
        model.inodes.push(Inode::default());
        model.names.push((index, Duration::ZERO));
        model.sizes.push(Timeline(Vec::new()));
        model.changed(index, bed.clock.get(), |content| *content = data);
    }
    bed.writer.symlink("first", "/l").unwrap();
    model.link.0.push((bed.clock.get(), b"first".to_vec()));
    for step in 0..steps {
        let pause = match random.below(8) {
            0 => Duration::from_millis(random.below(1300) as u64),
            1..=4 => Duration::from_millis(random.below(4) as u64),
            _ => Duration::ZERO,
        };
        bed.pass(pause);
        let now = bed.clock.get();
        let name = random.below(NAMES.len());
        let (path, (inode, named)) = (NAMES[name], model.names[name]);
        // Mostly the same length, so that the size seldom tells.
        let (at, len) = (random.below(5) * PAGE, random.below(2 * PAGE) + 1);
        let data = random.bytes(len);
        let what = format!("seed {seed}, step {step}");
        match random.below(19) {
            0 | 1 => {
                let file = bed.writer.open_with(path, OpenOptions::new().write(true));
                file.unwrap().write_all_at(&data, at as u64).unwrap();
                model.changed(inode, now, |content| put(content, at, &data));
            }
            2 => {
                bed.writer.truncate(path, at as u64 + 1).unwrap();
                model.changed(inode, now, |content| content.resize(at + 1, 0));
            }
            3 => {
                bed.writer.write("/new", &data).unwrap();
                bed.writer.rename("/new", path).unwrap();
                model.inodes.push(Inode::default());
                let inode = model.inodes.len() - 1;
                model.names[name] = (inode, now);
                model.changed(inode, now, |content| *content = data);
            }
            4 => {
                let target = step.to_string().into_bytes();
                bed.writer.remove_file("/l").unwrap();
                bed.writer.symlink(&target, "/l").unwrap();
                model.link.0.push((now, target));
            }
            5..=7 => {
                let writes = random.below(2) == 0;
                let mut options = OpenOptions::new();
                let file = options.read(true).write(writes).open(&bed.reader, path);
                model.handles.push(Handle {
                    file: file.unwrap(),
                    inode,
                    least: model.newest(inode),
                    writes,
                });
                if model.handles.len() > 6 {
                    model.handles.swap_remove(random.below(6));
                }
            }
            8..=11 if !model.handles.is_empty() => {
                let handle = &model.handles[random.below(model.handles.len())];
                let offset = at + random.below(3) * 100;
                let mut buffer = vec![0; random.below(12_000) + 1];
                let count = handle.file.read_at(&mut buffer, offset as u64).unwrap();
                if !model.allows(handle, offset, buffer.len(), &buffer[..count]) {
                    return Err(format!("{what}: {count} bytes of {path} at {offset}"));
                }
            }
            12 => {
                let len = bed.reader.metadata(path).unwrap().len();
                let since = model.own.max(now.saturating_sub(BELIEVED));
                if !model.sizes[name].was(&len, since) {
                    return Err(format!("{what}: {path} has {len} bytes"));
                }
            }
            13 => {
                let link = bed.reader.read_link("/l").unwrap();
                let since = model.own.max(now.saturating_sub(BELIEVED));
                if !model.link.was(&link, since) {
                    return Err(format!("{what}: /l says {link:?}"));
                }
            }
            14 if model.handles.iter().any(|handle| handle.writes) => {
                let handle = model.handles.iter().find(|handle| handle.writes).unwrap();
                let (is_named, inode) = (handle.inode == inode, handle.inode);
                handle.file.write_all_at(&data, at as u64).unwrap();
                model.changed(inode, now, |content| put(content, at, &data));
                let newest = model.newest(inode);
                for handle in &mut model.handles {
                    if handle.inode == inode {
                        handle.least = newest;
                    }
                }
                // Where the other program gave the name to this file just now, that need not be known yet.
                if named + BELIEVED <= now && is_named {
                    let len = model.inodes[inode].versions[newest].len() as u64;
                    let seen = bed.reader.metadata(path).unwrap().len();
                    assert_eq!(seen, len, "{what}: its own change");
                }
            }
            15 => {
                // By another name and back: no name leads where it did in between.
                bed.reader.rename(path, "/moved").unwrap();
                assert!(bed.reader.metadata(path).is_err(), "{what}");
                bed.reader.rename("/moved", path).unwrap();
                model.own = now;
                let len = model.inodes[inode].versions[model.newest(inode)].len() as u64;
                assert_eq!(bed.reader.metadata(path).unwrap().len(), len, "{what}");
            }
            16 => {
                // In the directory, and nothing else.
                let path = format!("/x{}", random.below(40));
                if bed.writer.remove_file(&path).is_err() {
                    bed.writer.write(&path, b"").unwrap();
                }
            }
            17 => match model.listing.take() {
                Some(mut listing) if random.below(2) == 0 => {
                    listing.begin_again();
                    model.listing = Some(listing);
                }
                _ => model.listing = Some(Listing::open(bed)),
            },
            18 => {
                if let Some(listing) = &mut model.listing
                    && let Err(why) = listing.read(bed, random.below(30))
                {
                    return Err(format!("{what}: {why}"));
                }
            }
            _ => {}
        }
        if let Some(listing) = &mut model.listing {
            listing.note(bed);
        }
    }
    Ok(())
}
