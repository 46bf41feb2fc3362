//! Commands on trees look into several directories at the same time, and do and say the same as where there is no memory for
//! that.

use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::Namespace;
use xen9p_testing::count::with_memory;
use xen9p_testing::random::Random;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

use crate::backends::Memory;

type Desk = crate::desk::Desk<Memory>;

/// Too little for several directories.
const LITTLE: usize = 5 << 19;

/// A desk on a server that answers after a millisecond of simulated time.
fn desk(fill: impl Fn(&mut MemServer)) -> (Desk, Fs) {
    let mut server = MemServer::new(MemOptions::default());
    fill(&mut server);
    let options = LaneOptions {
        lanes: 3,
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    let (transport, _) = lanes(options, move |request| server.handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    let mut desk = Desk::new().unwrap();
    desk.root = Namespace::new(fs.clone());
    (desk, fs)
}

/// What a line says, and how often it waited for an answer.
fn run(desk: &mut Desk, fs: &Fs, line: &str) -> (String, u64) {
    let session = fs.to_async().session().clone();
    let begun = session.now();
    let said = desk.ok(line);
    (said, (session.now() - begun).as_millis() as u64)
}

/// The server lists in any order.
fn lines(said: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn trees_of_small_directories_take_a_third_of_the_waits() {
    let fill = |server: &mut MemServer| {
        for n in 0..64 * 3 {
            server.put(&format!("/t/{}/{n}", n / 3), b"x");
        }
    };
    let (mut alone, alone_fs) = desk(fill);
    let (mut together, together_fs) = desk(fill);
    for line in [
        "find /t",
        "find /t -type f",
        "du -a /t",
        "ls -lR /t",
        "ls -R /t",
        "cp -r /t /copy",
        "cp -rv /t /shown",
        "rm -r /copy",
        "rm -rv /shown",
    ] {
        let (said, before) = with_memory(LITTLE, || run(&mut alone, &alone_fs, line));
        let (also, now) = run(&mut together, &together_fs, line);
        assert_eq!(lines(&said).len(), lines(&also).len(), "{line}");
        println!("{line}: {before} -> {now} waits");
        assert!(now * 3 <= before, "{line}: {before} -> {now} waits");
    }
}

#[test]
fn random_trees_end_as_one_by_one() {
    for seed in 0..8 {
        let fill = |server: &mut MemServer| {
            let mut random = Random::new(seed);
            let mut dirs = vec!["/t".to_string()];
            for n in 0..120 {
                let at = format!("{}/{n}", dirs[random.below(dirs.len())]);
                match random.below(3) {
                    0 => dirs.push(at),
                    _ => {
                        let len = random.below(3000);
                        server.put(&at, &random.bytes(len));
                    }
                }
            }
        };
        let (mut alone, alone_fs) = desk(fill);
        let (mut together, together_fs) = desk(fill);
        for line in [
            "mkdir -p /to/t; cp -rv /t /to",
            "cp -a /t /all; ls -aRS /all; ls -R /t; ls -ARC /all; du -a /to; find /to /all",
            "rm -rv /t; find /to -type f; cp -ruv /all /to/t; rm -r /to /all; find /",
        ] {
            let (said, _) = with_memory(LITTLE, || run(&mut alone, &alone_fs, line));
            let (also, _) = run(&mut together, &together_fs, line);
            assert_eq!(lines(&said), lines(&also), "{seed}: {line}");
        }
    }
}
