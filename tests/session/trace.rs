//! The trace of a session has one readable line for each message.

use std::cell::RefCell;

use log::{Level, Log, Metadata, Record};
use xen9p::fs::{Fs, MountOptions};
use xen9p::p9::trace::Traced;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("p9_client::trace")
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            assert_eq!(record.level(), Level::Trace);
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }
    fn flush(&self) {}
}

#[test]
fn each_message_is_one_readable_line() {
    // Only this test sets one, and each test has a thread of its own.
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut server = MemServer::new(MemOptions::default());
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    let fs = Fs::mount(Traced::new(Box::new(transport)), &MountOptions::new()).unwrap();
    fs.create_dir("/etc").unwrap();
    fs.write("/etc/motd", "hello\nyou").unwrap();
    fs.write("/large", vec![7; 20_000]).unwrap();
    assert_eq!(fs.read("/large").unwrap(), vec![7; 20_000]);
    assert!(fs.read("/nope").is_err());
    let stats = fs.stats();
    let lines = LINES.take();
    let all = lines.join("\n");
    let has = |parts: &[&str]| {
        let found = lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} in\n{all}");
    };
    has(&["-> 65535 Tversion", "version: \"9P2000.L\""]);
    has(&["<- 65535 Rversion"]);
    has(&["Tmkdir", "\"etc\""]);
    has(&["Twalk", "names: [\"etc\""]);
    has(&["Twrite", "\"hello\\nyou\""]);
    has(&["Twrite", " 20"]);
    has(&["<- ", "Rlerror", "ENOENT"]);
    assert!(
        lines
            .iter()
            .all(|line| !line.contains('\n') && line.len() < 600),
        "{all}"
    );
    let sent = lines.iter().filter(|line| line.starts_with("-> ")).count() as u64;
    let received = lines.iter().filter(|line| line.starts_with("<- ")).count() as u64;
    assert_eq!((sent, received), (stats.requests, stats.replies), "{all}");
}
