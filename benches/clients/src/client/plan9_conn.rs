//! The crate `plan9`: 9P2000 without attributes and without what changes names; a thread that reads. A directory comes as bytes,
//! which the crate `nine` under it can read.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use nine::p2000::{OpenMode, Stat};
use plan9::dial::dial;
use plan9::fid::Fid;
use plan9::fsys::Fsys;

use super::{Client, Done, Failed, New, said};

const NO_STAT: Failed = Failed::Cannot("no Tstat");
const NO_NAMES: Failed = Failed::Cannot("no Tcreate, no Tremove");

/// Bytes of the largest listing.
const MOST_ENTRIES: usize = 1 << 20;

/// A tree, and the file that is open.
pub struct Plan9 {
    tree: Fsys,
    file: Option<Fid>,
}

impl Plan9 {
    /// Attaches to the server at a socket.
    pub fn connect(socket: &Path) -> Done<Plan9> {
        let mut connection = dial(&socket.to_string_lossy()).map_err(said)?;
        let tree = connection.attach("root".into(), String::new());
        Ok(Plan9 {
            tree: tree.map_err(said)?,
            file: None,
        })
    }

    fn file(&mut self) -> Done<&mut Fid> {
        let file = self.file.as_mut();
        file.ok_or_else(|| Failed::Error("no file is open".into()))
    }
}

impl Client for Plan9 {
    fn stat(&mut self, _path: &str) -> Done<u64> {
        Err(NO_STAT)
    }

    fn stat_held(&mut self) -> Done<u64> {
        Err(NO_STAT)
    }

    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize> {
        let mut file = self.tree.open(path, OpenMode::READ).map_err(said)?;
        let mut done = 0;
        loop {
            match file.read(&mut into[done..])? {
                0 => return Ok(done),
                count => done += count,
            }
        }
    }

    fn open(&mut self, path: &str, write: bool) -> Done<()> {
        let mode = match write {
            true => OpenMode::WRITE,
            false => OpenMode::READ,
        };
        self.file = Some(self.tree.open(path, mode).map_err(said)?);
        Ok(())
    }

    fn read_next(&mut self, into: &mut [u8]) -> Done<()> {
        Ok(self.file()?.read_exact(into)?)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()> {
        let file = self.file()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.read_exact(into)?)
    }

    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()> {
        let file = self.file()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.write_all(from)?)
    }

    fn close(&mut self) -> Done<()> {
        self.file = None;
        Ok(())
    }

    fn make_and_remove(&mut self, _new: &New<'_>, _content: &[u8]) -> Done<()> {
        Err(NO_NAMES)
    }

    fn list(&mut self, directory: &str) -> Done<usize> {
        Ok(self.list_with_sizes(directory)?.0)
    }

    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)> {
        let mut file = self.tree.open(directory, OpenMode::READ).map_err(said)?;
        // Less room than an entry needs is an error, so `read_to_end` with its small buffers won't do.
        let mut bytes = vec![0; MOST_ENTRIES];
        let mut filled = 0;
        loop {
            match file.read(&mut bytes[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        let (mut count, mut sum) = (0, 0);
        let mut rest = &bytes[..filled];
        // Each stat begins with its size; `nine` wants it to stand behind one more, as in Rstat.
        while let Some(size) = rest.first_chunk() {
            let (stat, next) = rest.split_at(2 + usize::from(u16::from_le_bytes(*size)));
            let stat: Stat = nine::de::from_reader((&[0, 0][..]).chain(stat)).map_err(said)?;
            sum += stat.length;
            count += 1;
            rest = next;
        }
        Ok((count, sum))
    }
}
