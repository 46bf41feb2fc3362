//! What the commands run on: two shares, a console, a clock.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

use xen9p::errno::Errno;
use xen9p::ns::{MemTree, Namespace, Tree};
use xen9p::server::Rights;
use xen9p::time::Instant;
use xen9p::transport::serving::{ExportError, Exported, Target};
use xen9p_testing::count::free_memory;
use xen9p_testing::server::TempDir;

use crate::backends::Backend;
use crate::commands::{self, Host};
use crate::serving::Machine;

/// Takes what is printed.
pub type Sink = Box<dyn FnMut(&[u8])>;

/// Runs command lines on two shares, the root and the one with the tag "other".
pub struct Desk<B> {
    pub root: Namespace,
    /// Made when it is needed.
    other: OnceCell<Namespace>,
    /// The directories of this machine that are shared, if the servers' files are there.
    exports: RefCell<Vec<TempDir>>,
    backend: PhantomData<B>,
    pub directory: Vec<u8>,
    last_directory: Vec<u8>,
    /// What is typed on the console.
    keys: VecDeque<u8>,
    terminal: bool,
    interrupted: bool,
    started: Clock,
    console: Vec<u8>,
    /// What of that is errors.
    pub errors: Vec<u8>,
    /// Takes what is printed instead.
    pub sink: Option<Sink>,
    counted: Cell<u64>,
    /// The domain that the commands run in, if they serve something.
    pub machine: Option<Machine>,
    /// How often the clock was looked at, and what it gains each time.
    looks: Cell<u32>,
    pub tick: Duration,
}

impl<B: Backend> Host for Desk<B> {
    fn print(&mut self, bytes: &[u8]) {
        match &mut self.sink {
            Some(sink) => sink(bytes),
            None => self.console.extend_from_slice(bytes),
        }
    }

    fn print_error(&mut self, bytes: &[u8]) {
        self.errors.extend_from_slice(bytes);
        self.print(bytes);
    }

    fn root(&self) -> Namespace {
        self.root.clone()
    }

    fn share(&mut self, tag: &str) -> Result<Namespace, String> {
        match tag {
            "other" => Ok(self.other()),
            _ => Err("no such share".into()),
        }
    }

    fn tree(&mut self, source: &str) -> Result<Rc<dyn Tree>, String> {
        match source {
            "#mem" => Ok(Rc::new(MemTree::new())),
            _ => Err(format!("there is no tree '{source}'")),
        }
    }

    fn directory(&mut self) -> &mut Vec<u8> {
        &mut self.directory
    }

    fn last_directory(&mut self) -> &mut Vec<u8> {
        &mut self.last_directory
    }

    fn shares(&self) -> Vec<(String, String)> {
        let mut shares = vec![("root".to_string(), "/".to_string())];
        shares.extend(
            self.other
                .get()
                .map(|_| ("other".to_string(), String::new())),
        );
        shares
    }

    fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn set_terminal(&mut self, on: bool) {
        self.terminal = on;
    }

    fn read_key(&mut self) -> Option<u8> {
        self.keys.pop_front()
    }

    fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupted)
    }

    fn now(&self) -> Instant {
        let looks = self.looks.replace(self.looks.get() + 1);
        Instant::from_nanos(self.started.elapsed().as_nanos() as u64) + self.tick * looks
    }

    /// For ever means until Ctrl-C, which is typed at once.
    fn sleep(&mut self, time: Duration) -> bool {
        self.interrupted = self.terminal && time == Duration::MAX;
        time != Duration::MAX
    }

    fn serve(
        &mut self,
        source: &str,
        tree: &dyn Tree,
        target: &Target,
        rights: Rights,
    ) -> Result<(), ExportError> {
        let machine = self.machine.as_ref().ok_or(ExportError::NoServer)?;
        machine.serving.serve(source, tree, target, rights)
    }

    fn unserve(&mut self, source: &str, target: &Target) -> Result<(), ExportError> {
        let machine = self.machine.as_ref().ok_or(ExportError::NoServer)?;
        machine.serving.end(source, target)
    }

    fn exports(&self) -> Vec<Exported> {
        let machine = self.machine.as_ref();
        machine.map_or(Vec::new(), |machine| machine.serving.list())
    }

    fn spare_memory(&self) -> usize {
        free_memory()
    }

    fn report(&self) -> Vec<(&'static str, String)> {
        vec![("answer", "42".into())]
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counted.set(self.counted.get() + 1);
        vec![("questions", 7 * self.counted.get())]
    }
}

impl<B: Backend> Desk<B> {
    /// `None` if the program that serves is not installed.
    pub fn new() -> Option<Self> {
        let (root, export) = B::share()?;
        Some(Desk {
            root,
            other: OnceCell::new(),
            exports: RefCell::new(Vec::from_iter(export)),
            backend: PhantomData,
            directory: b"/".to_vec(),
            last_directory: Vec::new(),
            keys: VecDeque::new(),
            terminal: false,
            interrupted: false,
            started: Clock::now(),
            console: Vec::new(),
            errors: Vec::new(),
            sink: None,
            counted: Cell::new(0),
            machine: None,
            looks: Cell::new(0),
            tick: Duration::ZERO,
        })
    }

    /// The share "other".
    pub fn other(&self) -> Namespace {
        let share = || {
            let (share, export) = B::share().expect("a second one");
            self.exports.borrow_mut().extend(export);
            share
        };
        self.other.get_or_init(share).clone()
    }

    /// How deep a tree this kind of server is given.
    pub fn depth(&self) -> usize {
        B::DEPTH
    }

    /// The root share's directory on this machine, if it has one.
    pub fn host(&self) -> Option<PathBuf> {
        Some(self.exports.borrow().first()?.path().to_path_buf())
    }

    /// Status and output of a command line.
    pub fn run(&mut self, line: &str) -> (u8, String) {
        self.console.clear();
        self.errors.clear();
        let status = commands::run(self, line).unwrap_or_else(|error| {
            self.print_error(format!("{error}\n").as_bytes());
            Some(2)
        });
        (
            status.unwrap_or(0),
            String::from_utf8(self.console.clone()).unwrap(),
        )
    }

    /// Output of a command line that has to succeed.
    pub fn ok(&mut self, line: &str) -> String {
        let (status, output) = self.run(line);
        assert_eq!(status, 0, "{line}: {output}");
        output
    }

    /// Output of a command line that has to end with `status`.
    pub fn fails(&mut self, status: u8, line: &str) -> String {
        let (found, output) = self.run(line);
        assert_eq!(found, status, "{line}: {output}");
        output
    }
}

impl<B: Backend> Desk<B> {
    /// What the terminal shows, escape sequences cut out, when these keys are typed in the shell.
    pub fn types(&mut self, keys: &str) -> (u8, String) {
        self.keys = keys.bytes().collect();
        let (status, shown) = self.run("shell");
        let mut text = String::new();
        let mut rest = shown.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            text += before;
            let end = after
                .find(|c: char| c.is_ascii_alphabetic() || c == '~')
                .unwrap();
            rest = &after[end + 1..];
        }
        (status, text + rest)
    }
}

/// The links of [`Desk::with_links`], and what they say.
pub const LINKS: [(&str, &str); 4] = [
    ("to-dir", "real"),
    ("to-file", "file"),
    ("to-none", "nowhere"),
    ("to-self", "to-self"),
];

impl<B: Backend> Desk<B> {
    /// With a directory, a file in it, another, and links to both, to nothing and to itself.
    pub fn with_links() -> Option<Self> {
        let mut desk = Desk::new()?;
        desk.ok("mkdir /real; write /real/f keep; write /file keep; mount #mem /m");
        for (link, target) in LINKS {
            desk.root.symlink(target, format!("/{link}")).unwrap();
        }
        Some(desk)
    }

    pub fn is_link(&self, path: &str, target: &str) {
        let said = self.root.read_link(path);
        let said = said.map(|said| String::from_utf8(said).unwrap());
        assert_eq!(said, Ok(target.to_string()), "{path}");
    }

    pub fn is_gone(&self, path: &str) {
        let found = self.root.symlink_metadata(path);
        assert_eq!(found.unwrap_err().errno(), Errno::ENOENT, "{path}");
    }

    /// What the links lead to is as it was.
    pub fn is_kept(&mut self) {
        assert_eq!(self.ok("cat /real/f /file"), "keep\nkeep\n");
        assert_eq!(self.ok("ls /real"), "f\n");
    }
}
