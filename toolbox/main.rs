//! The toolbox image: Unix-like file commands from the kernel command line.
//!
//! `extra = "cat /hello.txt; cp -r /data other:/backup"`: commands are separated by `;`, `&&` or `||`, run one after the
//! other, and end with the first that fails, as with `sh -e`; its status is the image's.
#![no_std]
#![no_main]

extern crate alloc;

mod commands;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use commands::Host;
use commands::format::{Bytes, Span};
use xen9p::ns::{Namespace, Tree};
use xen9p::println;
use xen9p::rt::{self, ExitCode, cmdline};
use xen9p::server::Rights;
use xen9p::time::Instant;
use xen9p::transport::serving::{ExportError, Exported, Target};

xen9p::entry!(main);

fn main(ns: &Namespace) -> ExitCode {
    let mut image = Image {
        root: ns.clone(),
        directory: b"/".to_vec(),
        last_directory: Vec::new(),
        terminal: false,
        first_byte: None,
    };
    match commands::run(&mut image, rt::app_line()) {
        Ok(Some(status)) => ExitCode::from(status),
        Ok(None) => {
            println!("xen9p: the command line has no command; these are there:");
            let _ = commands::run(&mut image, "help");
            ExitCode::USAGE
        }
        Err(error) => {
            println!("xen9p: {error}");
            ExitCode::USAGE
        }
    }
}

/// The commands' host is the machine.
struct Image {
    root: Namespace,
    directory: Vec<u8>,
    last_directory: Vec<u8>,
    terminal: bool,
    first_byte: Option<Instant>,
}

impl Host for Image {
    fn print(&mut self, bytes: &[u8]) {
        rt::print_bytes(bytes);
    }

    fn root(&self) -> Namespace {
        self.root.clone()
    }

    fn share(&mut self, tag: &str) -> Result<Namespace, String> {
        let share = rt::share(tag).map_err(|error| error.to_string())?;
        Ok(Namespace::new(share))
    }

    fn tree(&mut self, source: &str) -> Result<Rc<dyn Tree>, String> {
        rt::tree(source).map_err(|error| error.to_string())
    }

    fn directory(&mut self) -> &mut Vec<u8> {
        &mut self.directory
    }

    fn last_directory(&mut self) -> &mut Vec<u8> {
        &mut self.last_directory
    }

    fn shares(&self) -> Vec<(String, String)> {
        let layout = &rt::options().layout;
        let shares = rt::shares().into_iter().enumerate();
        let place = |(nth, share): (usize, rt::ShareInfo)| {
            let mut mounts = layout.mounts().iter();
            let at = match mounts.find(|mount| mount.source == share.tag) {
                Some(mount) => mount.at.clone(),
                // Where no option says otherwise, the first one is the root, and mounted before all others.
                None if nth == 0 && !layout.has_root() => "/".into(),
                None => String::new(),
            };
            (share.tag, at)
        };
        shares.map(place).collect()
    }

    fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn set_terminal(&mut self, on: bool) {
        self.terminal = on;
        rt::catch_ctrl_c(on);
    }

    fn print_raw(&mut self, bytes: &[u8]) {
        rt::print_raw(bytes);
    }

    fn read_key(&mut self) -> Option<u8> {
        let mut key = [0];
        rt::read_console(&mut key).ok()?;
        Some(key[0])
    }

    fn take_interrupt(&mut self) -> bool {
        rt::take_ctrl_c()
    }

    fn set_log(&mut self, filter: &str) -> Result<(), String> {
        rt::set_log(filter).map_err(|error| error.to_string())
    }

    fn bytes_arrived(&mut self) {
        self.first_byte.get_or_insert_with(rt::now);
    }

    fn now(&self) -> Instant {
        rt::now()
    }

    fn sleep(&mut self, time: Duration) -> bool {
        rt::sleep(time).is_ok()
    }

    fn device_event(&mut self) -> Result<Option<String>, String> {
        match rt::next_device_event(Instant::NEVER) {
            Ok(event) => Ok(event.map(|event| event.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn serve(
        &mut self,
        source: &str,
        tree: &dyn Tree,
        target: &Target,
        rights: Rights,
    ) -> Result<(), ExportError> {
        rt::serve(source, tree, target, rights)
    }

    fn unserve(&mut self, source: &str, target: &Target) -> Result<(), ExportError> {
        rt::unserve(source, target)
    }

    fn exports(&self) -> Vec<Exported> {
        rt::exports()
    }

    fn spare_memory(&self) -> usize {
        rt::memory_info().free
    }

    fn report(&self) -> Vec<(&'static str, String)> {
        let memory = rt::memory_info();
        let since_start = |at: Instant| Span(at - rt::started_at()).to_string();
        let mut report = vec![
            ("domain", format!("{:?}", rt::mode())),
            (
                "memory",
                format!(
                    "{} of {} in use",
                    Bytes(memory.used() as u64),
                    Bytes(memory.total as u64)
                ),
            ),
            ("up for", since_start(rt::now())),
        ];
        for share in rt::shares() {
            let Ok(fs) = rt::share(&share.tag) else {
                continue;
            };
            report.push((
                "share",
                format!(
                    "{}: {}, msize {}, {} rings of {}, {} requests",
                    share.tag,
                    fs.dialect(),
                    fs.msize(),
                    share.rings,
                    Bytes(4096 << share.order),
                    fs.stats().requests,
                ),
            ));
            report.push((
                "mounted",
                format!(
                    "{} after the first instruction, in {}",
                    since_start(share.mounted_at),
                    Span(share.took)
                ),
            ));
        }
        if let Some(at) = self.first_byte {
            report.push((
                "first file byte",
                format!("{} after the first instruction", since_start(at)),
            ));
        }
        report
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let image = rt::stats();
        let events = rt::event_stats();
        let mut shares = [0; 8];
        for share in rt::shares() {
            let Ok(fs) = rt::share(&share.tag) else {
                continue;
            };
            let stats = fs.stats();
            let counted = [
                stats.requests,
                stats.replies,
                stats.bytes_sent,
                stats.bytes_received,
                stats.transport.copied_in,
                stats.transport.copied_out,
                stats.spills,
                stats.waits,
            ];
            for (sum, count) in shares.iter_mut().zip(counted) {
                *sum += count;
            }
        }
        let [
            requests,
            replies,
            out,
            bytes_in,
            copied_out,
            copied_in,
            spills,
            waits,
        ] = shares;
        let times = image.times.unwrap_or_default();
        let micros = |time: Duration| time.as_micros() as u64;
        vec![
            ("requests", requests),
            ("replies", replies),
            ("bytes out", out),
            ("bytes in", bytes_in),
            ("bytes copied out", copied_out),
            ("bytes copied in", copied_in),
            ("replies copied twice", spills),
            ("waits", waits),
            ("events sent", events.sent),
            ("events received", events.received),
            ("polls", events.polls),
            ("wake-ups", events.wake_ups),
            ("hypercalls", image.hypercalls),
            ("allocations", image.allocations),
            ("us running", micros(times.running)),
            ("us blocked", micros(times.blocked)),
            ("us waiting for a CPU", micros(times.runnable)),
        ]
    }
}
