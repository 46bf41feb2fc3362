//! A mount over the server in memory, for the fs tests.

use std::cell::RefCell;
use std::rc::Rc;

use crate::server::lanes::{Control, LaneOptions, lanes};
use crate::server::mem::{MemOptions, MemServer};
use xen9p::fs::{Fs, MountOptions};

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
    /// Requests that `work` costs, detached ones included.
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
