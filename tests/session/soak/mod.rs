//! The work of `make soak` goes on over hundreds of connections, with a server in memory.

mod work;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use work::{LIST, Random, Work, hash};
use xen9p::fs::{Fs, MountOptions};
use xen9p::p9::session::Recovery;
use xen9p::transport::Transport;
use xen9p_testing::server::lanes::{Control, LaneOptions, Lanes, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// The most requests that a connection lives for.
const LIFE: usize = 120;

fn connect(server: &Rc<RefCell<MemServer>>, random: &mut Random) -> (Lanes, Control) {
    let options = LaneOptions {
        lanes: 2,
        latency: (Duration::from_micros(10), Duration::from_micros(500)),
        seed: random.below(1 << 30) as u64,
        ..LaneOptions::default()
    };
    let serving = server.clone();
    let (transport, control) = lanes(options, move |request| serving.borrow_mut().handle(request));
    control.lose_at(&[], random.below(LIFE) + 20, random.below(2) == 0);
    (transport, control)
}

#[test]
fn work_goes_on_over_hundreds_of_connections() {
    for seed in 1..6 {
        println!("seed {seed}");
        let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
        let mut random = Random::new(seed);
        let (transport, control) = connect(&server, &mut random);
        let mut now = control;
        let serving = server.clone();
        let redial = move || {
            let (transport, fresh) = connect(&serving, &mut random);
            let since = now.now().as_nanos().saturating_sub(fresh.now().as_nanos());
            fresh.advance(Duration::from_nanos(since) + Duration::from_millis(100));
            now = fresh;
            Ok(Some(Box::new(transport) as Box<dyn Transport>))
        };
        let recovery = Recovery::new(redial, Duration::from_secs(60));
        let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
        let mut work = Work::new(fs.clone(), seed).unwrap();
        for _ in 0..3000 {
            work.step().unwrap();
        }
        assert!(work.unknown > 5, "{} unknown", work.unknown);
        assert!(fs.stats().recoveries > 50, "{:?}", fs.stats());
        work.finish().unwrap();
        // What was closed last is clunked with the next requests. The directory used last is kept.
        (0..3).for_each(|_| fs.metadata("/").map(drop).unwrap());
        assert!(fs.to_async().session().fids_in_use() <= 2);

        // Another pair of eyes.
        let server = server.borrow();
        let list = String::from_utf8(server.get(LIST).unwrap()).unwrap();
        assert!(list.lines().count() > 2);
        for line in list.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let content = server.get(&format!("/soak/{}", parts[0])).unwrap();
            assert_eq!(content.len().to_string(), parts[1]);
            assert_eq!(format!("{:016x}", hash(&content)), parts[2]);
        }
    }
}
