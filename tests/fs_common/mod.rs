//! A mount over the server in memory, for the fs tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod model;

use std::cell::RefCell;
use std::rc::Rc;

use xen9p::fs::{Fs, MountOptions};
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

pub struct Bed {
    pub fs: Fs,
    pub server: Rc<RefCell<MemServer>>,
    pub control: Control,
}

pub fn bed() -> Bed {
    bed_with(LaneOptions::default(), MemOptions::default(), |_| {})
}

pub fn bed_with(
    lane_options: LaneOptions,
    mem_options: MemOptions,
    fill: impl FnOnce(&mut MemServer),
) -> Bed {
    let mut server = MemServer::new(mem_options);
    fill(&mut server);
    let server = Rc::new(RefCell::new(server));
    let serving = server.clone();
    let (transport, control) = lanes(lane_options, move |request| {
        serving.borrow_mut().handle(request)
    });
    let fs = Fs::mount(transport, &MountOptions::new()).expect("mount");
    Bed {
        fs,
        server,
        control,
    }
}

impl Bed {
    /// Requests that `work` costs, those that nobody waits for included.
    pub fn cost<T>(&self, work: impl FnOnce(&Fs) -> T) -> (T, u64) {
        self.fs.to_async().session().pump();
        let before = self.fs.stats().requests;
        let result = work(&self.fs);
        self.fs.to_async().session().pump();
        (result, self.fs.stats().requests - before)
    }

    /// Unmounts and checks that nothing is left behind.
    pub fn finish(self) {
        let Bed {
            fs,
            server,
            control,
        } = self;
        drop(fs);
        assert_eq!(server.borrow().fids(), 0, "fids left on the server");
        assert_eq!(control.reserved(), 0, "reply budget not given back");
        assert!(control.is_closed());
    }
}

/// A generator that is good enough for disorder.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
