//! Files that another process is writing: what is new in them, and their end.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::fail;
use crate::host::{Context, Result};

/// Follows a file that grows.
pub struct Tail {
    path: PathBuf,
    seen: u64,
}

impl Tail {
    /// Starts at the beginning of a file, which need not be there yet.
    pub fn new(path: PathBuf) -> Tail {
        Tail { path, seen: 0 }
    }

    /// Copies to `out` what has been added since the last call.
    pub fn copy_new(&mut self, out: &mut impl Write) -> Result<()> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(());
        };
        let mut fresh = Vec::new();
        file.seek(SeekFrom::Start(self.seen))
            .and_then(|_| file.read_to_end(&mut fresh))
            .during("read", &self.path)?;
        if fresh.is_empty() {
            return Ok(());
        }
        self.seen += fresh.len() as u64;
        out.write_all(&fresh)
            .and_then(|()| out.flush())
            .map_err(|error| fail!("cannot show {}: {error}", self.path.display()))
    }
}

/// All that is in a file now; nothing if it is not there.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines of a text.
pub fn end(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
