//! Mixed operations on one share, with a model of what has to be there. The same code runs against a server in memory and,
//! in an image, against a real backend that is killed now and then.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xen9p::fs::{Error, File, Fs, OpenOptions, SeekFrom};

/// Chance, from a printed seed: a failure can be had again as far as the backend's deaths allow.
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `end` (0 if that is 0): splitmix64.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) % (end.max(1) as u64)) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend((self.below(usize::MAX) as u64).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Hash of a file's content for the list that is left at the end: FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Where everything happens.
const DIR: &str = "/soak";

/// The list that is left at the end: a line `NAME LENGTH HASH` for each file.
pub const LIST: &str = "/soak.list";

/// The most files at a time.
const FILES: usize = 12;

/// The largest file, in bytes.
const LARGEST: usize = 64 << 10;

struct Kept {
    name: String,
    content: Vec<u8>,
}

impl Kept {
    fn path(&self) -> String {
        path(&self.name)
    }
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// What went wrong, for people.
type Checked = Result<(), String>;

/// Tells an operation whose outcome is unknown from one that failed.
enum Done {
    Yes,
    Perhaps,
}

fn done<T>(what: &str, name: &str, result: Result<T, Error>) -> Result<Done, String> {
    match result {
        Ok(_) => Ok(Done::Yes),
        Err(Error::MaybeApplied) => Ok(Done::Perhaps),
        Err(error) => Err(format!("{what} '{name}': {error}")),
    }
}

/// Repeats what does no harm twice until its outcome is known.
fn surely<T>(
    what: &str,
    name: &str,
    mut act: impl FnMut() -> Result<T, Error>,
) -> Result<T, String> {
    loop {
        match act() {
            Err(Error::MaybeApplied) => {}
            result => return result.map_err(|error| format!("{what} '{name}': {error}")),
        }
    }
}

/// The work on one share.
pub struct Work {
    fs: Fs,
    random: Random,
    files: Vec<Kept>,
    /// Is used every now and then without having been opened anew: name and handle.
    open: Option<(String, File)>,
    names: u32,
    /// Operations done.
    pub operations: u64,
    /// Operations of which a loss left it unknown whether they were done.
    pub unknown: u64,
}

impl Work {
    /// Begins in a directory that is not there yet.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn new(fs: Fs, seed: u64) -> Result<Work, String> {
        fs.create_dir(DIR)
            .map_err(|error| format!("creating '{DIR}': {error}"))?;
        Ok(Work {
            fs,
            random: Random::new(seed),
            files: Vec::new(),
            open: None,
            names: 0,
            operations: 0,
            unknown: 0,
        })
    }

    /// Bytes that the model takes.
    #[allow(dead_code, reason = "only a domain counts its memory")]
    pub fn model(&self) -> usize {
        self.files.iter().map(|kept| kept.content.capacity()).sum()
    }

    /// Files that are open between operations.
    #[allow(dead_code, reason = "only a domain counts its fids")]
    pub fn open_files(&self) -> usize {
        usize::from(self.open.is_some())
    }

    /// Does one operation, whichever, and checks what it brings.
    ///
    /// # Errors
    /// It failed for another reason than a lost connection, or something is not as it should be.
    pub fn step(&mut self) -> Checked {
        self.operations += 1;
        if self.files.len() < 3 {
            return self.create();
        }
        let at = self.random.below(self.files.len());
        match self.random.below(16) {
            0 | 1 if self.files.len() < FILES => self.create(),
            0 => self.remove(at),
            1 | 2 => self.overwrite(at),
            3 => self.append(at),
            4..7 => self.read(at),
            7 => self.read_part(at),
            8 => self.rename(at),
            9 => self.truncate(at),
            10 => self.list(),
            11 => self.write_behind(at),
            12 if self.files.len() < FILES => self.copy(at),
            13 => self.directory(),
            14 => self.keep_open(at),
            _ => self.use_open(),
        }
    }

    /// Looks at everything, leaves a list of it, and lets go of the share.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn finish(mut self) -> Checked {
        self.open = None;
        self.list()?;
        for at in 0..self.files.len() {
            self.read(at)?;
        }
        let mut list = String::new();
        for kept in &self.files {
            let (len, hash) = (kept.content.len(), hash(&kept.content));
            list += &format!("{} {len} {hash:016x}\n", kept.name);
        }
        surely("writing", LIST, || self.fs.write(LIST, &list))
    }

    fn fresh_name(&mut self) -> String {
        self.names += 1;
        // Of all lengths, so that messages are, too.
        let tail = "x".repeat(self.random.below(60));
        format!("f{}{tail}", self.names)
    }

    fn fresh_content(&mut self) -> Vec<u8> {
        let most = [100, 5000, LARGEST][self.random.below(3)];
        let len = self.random.below(most);
        self.random.bytes(len)
    }

    /// Counts what is unknown.
    fn perhaps(&mut self, done: Done) -> bool {
        let perhaps = matches!(done, Done::Perhaps);
        self.unknown += u64::from(perhaps);
        perhaps
    }

    fn is_there(&self, name: &str) -> Result<bool, String> {
        let there = self.fs.exists(path(name));
        there.map_err(|error| format!("looking for '{name}': {error}"))
    }

    fn create(&mut self) -> Checked {
        let name = self.fresh_name();
        let content = self.fresh_content();
        surely("writing", &name, || self.fs.write(path(&name), &content))?;
        self.files.push(Kept { name, content });
        Ok(())
    }

    fn remove(&mut self, at: usize) -> Checked {
        let name = self.files[at].name.clone();
        let removed = done("removing", &name, self.fs.remove_file(path(&name)))?;
        if self.perhaps(removed) && self.is_there(&name)? {
            return Ok(());
        }
        self.forget_open(&name);
        self.files.swap_remove(at);
        Ok(())
    }

    fn forget_open(&mut self, name: &str) {
        if self.open.as_ref().is_some_and(|(open, _)| open == name) {
            self.open = None;
        }
    }

    fn overwrite(&mut self, at: usize) -> Checked {
        let most = self.files[at].content.len();
        let (offset, data) = (self.random.below(most + 1), self.fresh_content());
        let data = &data[..data.len().min(LARGEST - offset.min(LARGEST))];
        let name = &self.files[at].name;
        surely("writing into", name, || {
            let mut options = OpenOptions::new();
            let file = options.write(true).open(&self.fs, path(name))?;
            file.write_all_at(data, offset as u64)?;
            file.close()
        })?;
        put(&mut self.files[at].content, offset, data);
        Ok(())
    }

    fn append(&mut self, at: usize) -> Checked {
        let (data, name) = (self.fresh_content(), self.files[at].name.clone());
        if self.files[at].content.len() + data.len() > LARGEST {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .open(&self.fs, path(&name))
            .map_err(|error| format!("opening '{name}': {error}"))?;
        let appended = done("appending to", &name, file.write_all(&data))?;
        drop(file);
        if !self.perhaps(appended) {
            self.files[at].content.extend(data);
            return Ok(());
        }
        // Some of it may be there; none of it twice.
        let found = self.content(&name)?;
        let kept = &mut self.files[at];
        match found.strip_prefix(&kept.content[..]) {
            Some(rest) if data.starts_with(rest) => kept.content = found,
            _ => return Err(format!("'{name}' is wrong after a lost append")),
        }
        Ok(())
    }

    fn content(&self, name: &str) -> Result<Vec<u8>, String> {
        let read = self.fs.read(path(name));
        read.map_err(|error| format!("reading '{name}': {error}"))
    }

    fn read(&mut self, at: usize) -> Checked {
        let found = self.content(&self.files[at].name)?;
        self.same(at, 0, &found)?;
        match found.len() == self.files[at].content.len() {
            true => Ok(()),
            false => Err(format!(
                "'{}' has {} bytes instead of {}",
                self.files[at].name,
                found.len(),
                self.files[at].content.len()
            )),
        }
    }

    /// Whether the file has these bytes there.
    fn same(&self, at: usize, offset: usize, found: &[u8]) -> Checked {
        let kept = &self.files[at];
        let expected = kept.content.get(offset..).unwrap_or(&[]);
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        match differs {
            None if found.len() <= expected.len() => Ok(()),
            place => {
                let place = offset + place.unwrap_or(expected.len());
                Err(format!("'{}' is wrong from byte {place} on", kept.name))
            }
        }
    }

    fn read_part(&mut self, at: usize) -> Checked {
        let len = self.files[at].content.len();
        let offset = self.random.below(len + 1);
        let mut piece = vec![0; self.random.below(len - offset + 1)];
        let kept = &self.files[at];
        let file = self.fs.open(kept.path());
        let read = file.and_then(|file| file.read_exact_at(&mut piece, offset as u64));
        read.map_err(|error| format!("reading a part of '{}': {error}", kept.name))?;
        self.same(at, offset, &piece)
    }

    fn rename(&mut self, at: usize) -> Checked {
        let (old, new) = (self.files[at].name.clone(), self.fresh_name());
        let renamed = done("renaming", &old, self.fs.rename(path(&old), path(&new)))?;
        if self.perhaps(renamed) {
            // By which name to look for it after the loss could not be known.
            self.forget_open(&old);
            match (self.is_there(&old)?, self.is_there(&new)?) {
                (true, false) => return Ok(()),
                (false, true) => {}
                _ => return Err(format!("'{old}' is there twice or not at all")),
            }
        }
        if let Some((name, _)) = &mut self.open
            && *name == old
        {
            *name = new.clone();
        }
        self.files[at].name = new;
        Ok(())
    }

    fn truncate(&mut self, at: usize) -> Checked {
        let len = self.files[at].content.len();
        let size = self.random.below((len + 1000).min(LARGEST));
        let path = self.files[at].path();
        // Twice does no harm.
        surely("truncating", &path, || self.fs.truncate(&path, size as u64))?;
        self.files[at].content.resize(size, 0);
        Ok(())
    }

    fn list(&mut self) -> Checked {
        let mut found = loop {
            match self.names_there() {
                // Begun on the lost connection: it starts anew.
                Err(Error::Stale) => self.unknown += 1,
                result => break result.map_err(|error| format!("listing '{DIR}': {error}"))?,
            }
        };
        let mut expected: Vec<String> = self.files.iter().map(|kept| kept.name.clone()).collect();
        found.sort();
        expected.sort();
        match found == expected {
            true => Ok(()),
            false => Err(format!("'{DIR}' has {found:?}, not {expected:?}")),
        }
    }

    fn names_there(&self) -> Result<Vec<String>, Error> {
        let entries = self.fs.read_dir(DIR)?;
        entries
            .map(|entry| entry.map(|entry| entry.file_name_lossy().to_string()))
            .collect()
    }

    fn write_behind(&mut self, at: usize) -> Checked {
        let content = self.fresh_content();
        let piece = 1 + self.random.below(9000);
        let path = self.files[at].path();
        surely("writing behind", &path, || {
            let mut options = OpenOptions::new();
            options.write(true).truncate(true).write_behind(64 << 10);
            let file = options.open(&self.fs, &path)?;
            content
                .chunks(piece)
                .try_for_each(|piece| file.write_all(piece))?;
            file.close()
        })?;
        self.files[at].content = content;
        Ok(())
    }

    fn copy(&mut self, at: usize) -> Checked {
        let (from, name) = (self.files[at].path(), self.fresh_name());
        surely("copying to", &name, || self.fs.copy(&from, path(&name)))?;
        let content = self.files[at].content.clone();
        self.files.push(Kept { name, content });
        Ok(())
    }

    fn directory(&mut self) -> Checked {
        let name = self.fresh_name();
        let made = done("making", &name, self.fs.create_dir(path(&name)))?;
        if self.perhaps(made) && !self.is_there(&name)? {
            return Ok(());
        }
        let removed = done("removing", &name, self.fs.remove_dir(path(&name)))?;
        if self.perhaps(removed) && self.is_there(&name)? {
            return self
                .fs
                .remove_dir(path(&name))
                .map_err(|error| format!("removing '{name}' again: {error}"));
        }
        Ok(())
    }

    fn keep_open(&mut self, at: usize) -> Checked {
        let name = self.files[at].name.clone();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&self.fs, path(&name));
        let file = file.map_err(|error| format!("opening '{name}': {error}"))?;
        self.open = Some((name, file));
        Ok(())
    }

    /// Uses the file that is open, through however many connections that takes.
    fn use_open(&mut self) -> Checked {
        let Some((name, file)) = self.open.take() else {
            return Ok(());
        };
        let at = self.files.iter().position(|kept| kept.name == name);
        let at = at.ok_or_else(|| format!("'{name}' is open, but not there"))?;
        let len = self.files[at].content.len();
        let (offset, data) = (self.random.below(len + 1), self.random.bytes(700));
        let wrong = |error| format!("using '{name}', open for long: {error}");
        let mut piece = vec![0; len - offset];
        file.seek(SeekFrom::Start(offset as u64)).map_err(wrong)?;
        file.read_exact(&mut piece).map_err(wrong)?;
        self.same(at, offset, &piece)?;
        if offset + data.len() <= LARGEST {
            file.write_all_at(&data, offset as u64).map_err(wrong)?;
            put(&mut self.files[at].content, offset, &data);
        }
        self.open = Some((name, file));
        Ok(())
    }
}

/// Puts bytes into a content, which grows if need be.
fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}
