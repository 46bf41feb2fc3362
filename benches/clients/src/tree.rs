//! The files that are worked on, and the server.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

/// Bytes of a small read.
pub const SMALL: usize = 4 << 10;
/// Bytes of a large read or write.
pub const LARGE: usize = 1 << 20;
/// Bytes of a small file.
pub const SMALL_FILE: usize = 1 << 10;
/// Bytes of the large file, and of the one that is written.
pub const LARGE_FILE: usize = 32 * LARGE;
/// How many small files there are.
pub const SMALL_FILES: usize = 100;
/// How many entries the directory has that is listed, each a file with as many bytes as its number says.
pub const ENTRIES: usize = 1000;

/// The directory of the small files.
pub const FILES: &str = "a/files";
/// The directory that is listed.
pub const MANY: &str = "a/many";
/// The directory in which files are made.
pub const MADE: &str = "a/made";
/// The file that is read.
pub const READ: &str = "a/read";
/// The file that is written.
pub const WRITTEN: &str = "a/written";

/// The tree, on the host.
pub struct Tree {
    root: PathBuf,
    content: Vec<u8>,
    small: Vec<String>,
}

impl Tree {
    /// Makes it at `root`, in place of what is there.
    pub fn make(root: PathBuf) -> io::Result<Tree> {
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for directory in [FILES, MANY, MADE] {
            fs::create_dir_all(root.join(directory))?;
        }
        let words = (0..LARGE_FILE as u64 / 8).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let content: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        fs::write(root.join(READ), &content)?;
        fs::write(root.join(WRITTEN), vec![0; LARGE_FILE])?;
        let small: Vec<String> = (0..SMALL_FILES)
            .map(|n| format!("{FILES}/file-{n:03}"))
            .collect();
        for path in &small {
            fs::write(root.join(path), &content[..SMALL_FILE])?;
        }
        for n in 0..ENTRIES {
            let path = root.join(MANY).join(format!("entry-{n:04}"));
            fs::write(path, &content[..n])?;
        }
        Ok(Tree {
            root,
            content,
            small,
        })
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the files have in them, each from the beginning.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The paths of the small files.
    pub fn small(&self) -> &[String] {
        &self.small
    }

    /// The sum of the sizes in the directory that is listed.
    pub fn sizes() -> u64 {
        (0..ENTRIES as u64).sum()
    }

    /// Whether the file that is written holds what was to be written, so many bytes of the content, and nothing behind them;
    /// clears it for the next.
    pub fn check_written(&self, bytes: usize) -> io::Result<bool> {
        let path = self.root.join(WRITTEN);
        let found = fs::read(&path)?;
        let (written, rest) = found.split_at(bytes.min(found.len()));
        let good = found.len() == LARGE_FILE
            && *written == self.content[..bytes]
            && rest.iter().all(|&byte| byte == 0);
        fs::write(path, vec![0; LARGE_FILE])?;
        Ok(good)
    }
}

/// `xen9pd --listen`, until this is dropped, or the program ends however it ends.
pub struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    /// Has `program` serve the tree at `socket`, and waits until it does. What it says goes to `log`.
    pub fn start(program: &Path, tree: &Tree, socket: PathBuf, log: File) -> io::Result<Server> {
        let mut command = Command::new(program);
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .arg("--share")
            .arg(tree.root())
            .stdout(Stdio::piped())
            .stderr(log);
        let tie = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: Between fork and exec the closure makes one system call, prctl, and touches no memory but its own stack.
        unsafe { command.pre_exec(tie) };
        let mut process = command.spawn()?;
        let out = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let server = Server { process, socket };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        match line.starts_with("listening on ") {
            true => Ok(server),
            false => Err(io::Error::other("xen9pd ended before it listened")),
        }
    }

    /// Where it takes connections.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
