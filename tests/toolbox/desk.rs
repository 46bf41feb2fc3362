//! What the commands run on: two shares, a console, a clock.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::{MemTree, Namespace, Tree};
use xen9p::time::Instant;
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

use crate::cmdline;
use crate::commands::{self, Host};

/// Runs command lines on two shares, the root and the one with the tag "other".
pub struct Desk {
    pub root: Namespace,
    pub other: Namespace,
    pub directory: Vec<u8>,
    /// What is typed on the console.
    keys: VecDeque<u8>,
    terminal: bool,
    interrupted: bool,
    started: Clock,
    console: Vec<u8>,
    counted: Cell<u64>,
    /// How often the clock was looked at, and what it gains each time.
    looks: Cell<u32>,
    pub tick: Duration,
}

impl Host for Desk {
    fn print(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
    }

    fn root(&self) -> Namespace {
        self.root.clone()
    }

    fn share(&mut self, tag: &str) -> Result<Namespace, String> {
        match tag {
            "other" => Ok(self.other.clone()),
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

    fn split(&self, line: &str) -> Result<Vec<Vec<String>>, String> {
        cmdline::commands(line).map_err(|error| error.to_string())
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

    fn report(&self) -> Vec<(&'static str, String)> {
        vec![("answer", "42".into())]
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counted.set(self.counted.get() + 1);
        vec![("questions", 7 * self.counted.get())]
    }
}

/// An empty share of its own.
pub fn share() -> Namespace {
    share_to_lose().0
}

/// The same, and what can take its server away.
pub fn share_to_lose() -> (Namespace, Control) {
    let mut server = MemServer::new(MemOptions {
        checks_modes: true,
        ..MemOptions::default()
    });
    let options = LaneOptions {
        lanes: 3,
        ..LaneOptions::default()
    };
    let (transport, control) = lanes(options, move |request| server.handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    (Namespace::new(fs), control)
}

impl Desk {
    pub fn new() -> Desk {
        Desk {
            root: share(),
            other: share(),
            directory: b"/".to_vec(),
            keys: VecDeque::new(),
            terminal: false,
            interrupted: false,
            started: Clock::now(),
            console: Vec::new(),
            counted: Cell::new(0),
            looks: Cell::new(0),
            tick: Duration::ZERO,
        }
    }

    /// Status and output of a command line.
    pub fn run(&mut self, line: &str) -> (u8, String) {
        self.console.clear();
        let status = commands::run(self, &cmdline::commands(line).unwrap());
        (status, String::from_utf8(self.console.clone()).unwrap())
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

impl Desk {
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
