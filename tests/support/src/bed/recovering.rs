//! A mount whose server can go away and come back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::server::lanes::{Control, LaneOptions, Lanes, lanes};
use crate::server::mem::{MemOptions, MemServer};
use xen9p::fs::{Fs, MountOptions};
use xen9p::p9::session::Recovery;
use xen9p::transport::Transport;

pub const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a try to connect takes.
const PAUSE: Duration = Duration::from_millis(100);

/// What happens while there is no connection; gets the number of the try and the control of the new connection.
pub type Outage = Box<dyn FnMut(usize, &Control)>;

pub struct Site {
    pub fs: Fs,
    pub server: Rc<RefCell<MemServer>>,
    pub options: Rc<RefCell<LaneOptions>>,
    pub control: Rc<RefCell<Control>>,
    pub outage: Rc<RefCell<Option<Outage>>>,
    pub tries: Rc<RefCell<usize>>,
}

fn connect(options: &LaneOptions, server: &Rc<RefCell<MemServer>>) -> (Lanes, Control) {
    let serving = server.clone();
    lanes(options.clone(), move |request| {
        serving.borrow_mut().handle(request)
    })
}

/// Two lanes whose answers take a while.
pub fn two_lanes() -> LaneOptions {
    LaneOptions {
        lanes: 2,
        latency: (Duration::from_micros(10), Duration::from_micros(500)),
        ..LaneOptions::default()
    }
}

pub fn site() -> Site {
    site_with(two_lanes())
}

pub fn site_with(options: LaneOptions) -> Site {
    site_of(options, &MountOptions::new())
}

pub fn site_of(options: LaneOptions, mount: &MountOptions) -> Site {
    site_on(MemServer::new(MemOptions::default()), options, mount, true)
}

/// A mount of this server's files. Without recovery it ends with its first connection.
pub fn site_on(
    server: MemServer,
    options: LaneOptions,
    mount: &MountOptions,
    recovers: bool,
) -> Site {
    let server = Rc::new(RefCell::new(server));
    let (transport, control) = connect(&options, &server);
    let control = Rc::new(RefCell::new(control));
    let options = Rc::new(RefCell::new(options));
    let outage: Rc<RefCell<Option<Outage>>> = Rc::default();
    let tries = Rc::new(RefCell::new(0));
    let redial = {
        let (server, options, control) = (server.clone(), options.clone(), control.clone());
        let (outage, tries) = (outage.clone(), tries.clone());
        move || {
            assert!(
                control.borrow().is_closed(),
                "closed before a new one is made"
            );
            let mut options = options.borrow_mut();
            options.seed += 1;
            let (transport, fresh) = connect(&options, &server);
            fresh.advance(PAUSE);
            *tries.borrow_mut() += 1;
            if let Some(outage) = &mut *outage.borrow_mut() {
                outage(*tries.borrow(), &fresh);
            }
            *control.borrow_mut() = fresh;
            let transport: Box<dyn Transport> = Box::new(transport);
            Ok(Some(transport))
        }
    };
    let fs = match recovers {
        true => Fs::mount_recovering(transport, mount, Recovery::new(redial, RECOVERY_TIMEOUT)),
        false => Fs::mount(transport, mount),
    };
    let fs = fs.expect("a mount");
    Site {
        fs,
        server,
        options,
        control,
        outage,
        tries,
    }
}

/// A server in memory forgets fids with each Tversion, as QEMU does: the mount's own must be gone already.
fn other_client(options: &LaneOptions, server: &Rc<RefCell<MemServer>>, act: &dyn Fn(&Fs)) {
    let (transport, _) = connect(options, server);
    act(&Fs::mount(transport, &MountOptions::new()).expect("a mount"));
}

impl Site {
    pub fn lose_at(&self, kinds: &[u8], after: usize, done: bool) {
        self.control.borrow().lose_at(kinds, after, done);
    }

    pub fn lose(&self) {
        self.control.borrow().lose(&"for a test");
    }

    pub fn while_away(&self, outage: impl FnMut(usize, &Control) + 'static) {
        *self.outage.borrow_mut() = Some(Box::new(outage));
    }

    /// Another client's hands on the server's files.
    pub fn meanwhile(&self, act: impl Fn(&Fs) + 'static) {
        let (server, options) = (self.server.clone(), self.options.borrow().clone());
        self.while_away(move |_, _| {
            other_client(&options, &server, &act);
        });
    }

    /// The connection is lost, and before there is another one, another client does this.
    pub fn lose_and(&self, act: impl Fn(&Fs)) {
        self.lose();
        other_client(&self.options.borrow(), &self.server, &act);
    }

    pub fn finish(self, recoveries: u64) {
        let stats = self.fs.stats();
        assert_eq!((stats.losses, stats.recoveries), (recoveries, recoveries));
        self.end();
    }

    pub fn end(self) {
        let Site {
            fs,
            server,
            control,
            ..
        } = self;
        drop(fs);
        assert_eq!(server.borrow().fids(), 0, "fids left on the server");
        assert_eq!(
            control.borrow().reserved(),
            0,
            "reply budget not given back"
        );
        assert!(control.borrow().is_closed());
    }
}
