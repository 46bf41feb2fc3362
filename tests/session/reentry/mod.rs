//! Callbacks out of the transport: event handlers while it is waited in, and loggers in any of its calls. They may use the
//! session that waits; and no order of polling and waiting loses a wake-up.

mod wakes;

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use xen9p::fs::{Error, File, Fs, MountOptions, OpenOptions};
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::kind;
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};
use xen9p_testing::server::lanes::{Control, LaneOptions, Lanes, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// A call of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Send,
    Flush,
    Peek,
    Wait,
    Close,
}

/// What a test does in a call.
type Work = Box<dyn FnMut(Call)>;

/// What is called back from which calls. Taken out while it runs: it is not called from within itself.
#[derive(Clone, Default)]
struct Callback(Rc<RefCell<Option<Work>>>);

impl Callback {
    fn set(&self, callback: impl FnMut(Call) + 'static) {
        *self.0.borrow_mut() = Some(Box::new(callback));
    }

    fn clear(&self) {
        self.0.take();
    }

    fn run(&self, call: Call) {
        let taken = self.0.take();
        if let Some(mut callback) = taken {
            callback(call);
            self.0.borrow_mut().get_or_insert(callback);
        }
    }
}

/// Lanes that call back.
struct Calling {
    inner: Lanes,
    callback: Callback,
    foreign: Rc<Cell<u32>>,
}

impl Transport for Calling {
    fn lanes(&self) -> u16 {
        self.inner.lanes()
    }

    fn in_order(&self) -> bool {
        self.inner.in_order()
    }

    fn max_message(&self) -> u32 {
        self.inner.max_message()
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.inner.set_max_message(bytes);
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.inner.has_room(lane, request, reply)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        self.callback.run(Call::Send);
        self.inner.send(lane, parts, reply)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.callback.run(Call::Flush);
        self.inner.flush()
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        self.callback.run(Call::Peek);
        self.inner.peek(lane)
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        self.inner.copy_out(lane, offset, into);
    }

    fn consume(&mut self, lane: Lane) {
        self.inner.consume(lane);
    }

    fn release(&mut self, lane: Lane, reply: u32) {
        self.inner.release(lane, reply);
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.callback.run(Call::Wait);
        match self.foreign.get().checked_sub(1) {
            Some(left) => {
                self.foreign.set(left);
                Ok(())
            }
            None => self.inner.wait(deadline),
        }
    }

    fn close(&mut self) {
        self.callback.run(Call::Close);
        self.inner.close();
    }
}

struct Site {
    fs: Fs,
    server: Rc<RefCell<MemServer>>,
    control: Control,
    callback: Callback,
    /// How many of the next waits are ended by an event of another part of the program.
    foreign: Rc<Cell<u32>>,
}

const LATENCY: Duration = Duration::from_millis(1);

fn connect(server: &Rc<RefCell<MemServer>>, callback: &Callback) -> (Calling, Control) {
    let options = LaneOptions {
        lanes: 2,
        latency: (LATENCY, LATENCY),
        ..LaneOptions::default()
    };
    connect_by(options, server, callback)
}

/// As [`connect`], over lanes that behave like this.
fn connect_by(
    options: LaneOptions,
    server: &Rc<RefCell<MemServer>>,
    callback: &Callback,
) -> (Calling, Control) {
    let serving = server.clone();
    let (inner, control) = lanes(options, move |request| serving.borrow_mut().handle(request));
    let calling = Calling {
        inner,
        callback: callback.clone(),
        foreign: Rc::default(),
    };
    (calling, control)
}

fn server() -> Rc<RefCell<MemServer>> {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/file", b"content");
    server.put("/big", &[7; 100_000]);
    server.put("/log", b"");
    Rc::new(RefCell::new(server))
}

fn site() -> Site {
    let (server, callback) = (server(), Callback::default());
    let (transport, control) = connect(&server, &callback);
    let foreign = transport.foreign.clone();
    let fs = Fs::mount(transport, &MountOptions::new().msize(16384)).unwrap();
    Site {
        fs,
        server,
        control,
        callback,
        foreign,
    }
}

impl Site {
    /// Unmounts; nothing is left.
    fn finish(self) {
        self.callback.clear();
        drop(self.fs);
        assert_eq!(self.server.borrow().fids(), 0, "fids left on the server");
        assert_eq!(self.control.reserved(), 0, "reply budget not given back");
        assert!(self.control.is_closed());
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>>>>;

fn reading(fs: &Fs, path: &'static str) -> Reading {
    let fs = fs.to_async();
    Box::pin(async move { fs.read(path).await })
}

#[test]
fn a_handler_may_drop_files_and_futures_while_the_session_waits() {
    for (held, reply_first) in [(false, false), (false, true), (true, false)] {
        let site = site();
        let file = site.fs.open("/file").unwrap();
        let mut future = reading(&site.fs, "/big");
        assert!(future.as_mut().poll(&mut noop()).is_pending());
        if reply_first {
            // A reply of data, which its owner has not fetched.
            while site.control.count(kind::TREAD) == 0 {
                site.fs.metadata("/file").unwrap();
                assert!(future.as_mut().poll(&mut noop()).is_pending());
            }
        }
        if held {
            site.control.hold(&[kind::TREAD, kind::TWALK]);
        }
        let mut dropped = Some((file, future));
        let called = Rc::new(Cell::new(0));
        let count = called.clone();
        site.callback.set(move |call| {
            if call == Call::Wait {
                drop(dropped.take());
                count.set(count.get() + 1);
            }
        });
        if held {
            let session = site.fs.to_async().session().clone();
            session.wait(session.now() + Duration::from_millis(5));
            site.control.release();
        }
        assert_eq!(site.fs.read("/file").unwrap(), b"content");
        assert!(called.get() > 0);
        assert_eq!(site.fs.to_async().session().error(), None);
        site.finish();
    }
}

#[test]
fn a_handler_may_begin_what_goes_on_after_the_wait() {
    let site = site();
    let begun: Rc<RefCell<Option<Reading>>> = Rc::default();
    let (fs, slot) = (site.fs.clone(), begun.clone());
    site.callback.set(move |call| {
        if call == Call::Wait && slot.borrow().is_none() {
            let mut future = reading(&fs, "/big");
            assert!(future.as_mut().poll(&mut noop()).is_pending());
            *slot.borrow_mut() = Some(future);
        }
    });
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    site.callback.clear();
    let future = begun.take().unwrap();
    let session = site.fs.to_async().session().clone();
    assert_eq!(session.block_on(future).unwrap(), [7; 100_000]);
    drop(session);
    site.finish();
}

/// Everything that a logger may do, and more. Returns the error of what would have to wait.
fn log_to(fs: &Fs, log: &File, spare: &mut Vec<File>) -> Error {
    let session = fs.to_async().session().clone();
    drop(spare.pop());
    let _ = (
        session.stats(),
        session.error(),
        session.now(),
        session.msize(),
    );
    session.pump();
    // A loop of polling and waiting ends, too.
    let read = fs.to_async();
    let mut future = pin!(read.read("/big"));
    let polled = loop {
        match future.as_mut().poll(&mut noop()) {
            Poll::Ready(result) => break result,
            Poll::Pending => session.wait(session.now() + Duration::from_secs(1)),
        }
    };
    let errors = [
        polled.unwrap_err(),
        log.write_all_at(b"a line\n", 0).unwrap_err(),
        log.sync_all().unwrap_err(),
        fs.metadata("/file").unwrap_err(),
        fs.create_dir("/made").unwrap_err(),
    ];
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    errors[0]
}

#[test]
fn a_logger_may_use_the_session_in_every_call_of_the_transport() {
    for which in [Call::Send, Call::Flush, Call::Peek, Call::Wait] {
        let site = site();
        let log = site.fs.create("/log").unwrap();
        let spare = (0..3).map(|_| site.fs.open("/file").unwrap()).collect();
        let spare: Rc<RefCell<Vec<File>>> = Rc::new(RefCell::new(spare));
        let (fs, left) = (site.fs.clone(), spare.clone());
        site.callback.set(move |call| {
            if call == which {
                let error = log_to(&fs, &log, &mut left.borrow_mut());
                assert_eq!(error, Error::WouldBlock, "{call:?}");
            }
        });
        assert_eq!(site.fs.read("/file").unwrap(), b"content", "{which:?}");
        assert_eq!(site.fs.read("/big").unwrap(), [7; 100_000]);
        site.fs.write("/new", b"text").unwrap();
        assert!(spare.borrow().len() < 3);
        site.callback.clear();
        spare.borrow_mut().clear();
        assert!(!site.fs.exists("/made").unwrap());
        site.finish();
    }
}

#[test]
fn what_is_written_behind_can_be_logged_from_anywhere() {
    let site = site();
    let mut options = OpenOptions::new();
    let log = options
        .write(true)
        .write_behind(4096)
        .open(&site.fs, "/log");
    let log = Rc::new(log.unwrap());
    let (lines, writer) = (Rc::new(Cell::new(0)), log.clone());
    let count = lines.clone();
    site.callback.set(move |call| {
        if call == Call::Wait {
            writer.write_all(b"line\n").unwrap();
            count.set(count.get() + 1);
        }
    });
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    site.callback.clear();
    log.flush().unwrap();
    assert!(lines.get() > 0);
    assert_eq!(site.fs.read("/log").unwrap(), b"line\n".repeat(lines.get()));
    drop(log);
    site.finish();
}

#[test]
fn a_logger_may_write_to_the_session_whose_backend_dies() {
    for which in [Call::Wait, Call::Peek, Call::Flush, Call::Send] {
        let site = site();
        let log = site.fs.create("/log").unwrap();
        let (fs, control) = (site.fs.clone(), site.control.clone());
        let told = Rc::new(Cell::new(None));
        let tell = told.clone();
        site.callback.set(move |call| {
            if call == which {
                // As the transport does: it finds the backend gone, and logs that.
                control.lose(&"it died");
                tell.set(Some(log_to(&fs, &log, &mut Vec::new())));
            }
        });
        let lost = Error::Transport(TransportError::Lost(&"it died"));
        assert_eq!(site.fs.read("/file"), Err(lost), "{which:?}");
        assert_eq!(told.get(), Some(Error::WouldBlock));
        assert_eq!(site.fs.metadata("/file").map(drop), Err(lost));
        site.callback.clear();
    }
}

#[test]
fn a_file_dropped_while_the_session_reattaches_is_closed_there() {
    let (server, callback) = (server(), Callback::default());
    let (transport, control) = connect(&server, &callback);
    let (serving, calling) = (server.clone(), callback.clone());
    let controls = Rc::new(RefCell::new(vec![control]));
    let kept = controls.clone();
    let redial = move || {
        // It forgets everything with Tversion.
        let (transport, control) = connect(&serving, &calling);
        kept.borrow_mut().push(control);
        Ok(Some(Box::new(transport) as Box<dyn Transport>))
    };
    let recovery = Recovery::new(redial, Duration::from_secs(60));
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
    for at in 1..20 {
        let kept = fs.open("/file").unwrap();
        let mut dropped = Some(fs.open("/big").unwrap());
        let waits = Cell::new(0);
        let connection = controls.borrow().last().unwrap().clone();
        connection.lose(&"it died");
        let connections = controls.clone();
        let before = connections.borrow().len();
        callback.set(move |call| {
            if call == Call::Wait && connections.borrow().len() > before {
                waits.set(waits.get() + 1);
                if waits.get() == at {
                    drop(dropped.take());
                }
            }
        });
        assert_eq!(kept.read_at(&mut [0; 7], 0), Ok(7), "{at}");
        callback.clear();
        drop(kept);
        // Whatever numbers are given out next, the server knows none of them.
        let files: Vec<File> = (0..4).map(|_| fs.open("/file").unwrap()).collect();
        drop(files);
        (0..3).for_each(|_| fs.metadata("/file").map(drop).unwrap());
        assert!(
            server.borrow().fids() <= 2,
            "{at}: {}",
            server.borrow().fids()
        );
    }
    drop(fs);
    assert_eq!(server.borrow().fids(), 0);
}
