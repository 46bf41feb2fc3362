//! From a machine that is up to an app that has files, and back to Xen in good order.

mod app;
#[cfg(feature = "argo")]
mod argo;
#[cfg(feature = "trace")]
mod capture;
pub mod cmdline;
mod exports;
mod files;
mod keys;
mod output;
mod shares;
mod stop;
#[cfg(feature = "vchan")]
mod vchan;
#[cfg(feature = "vchan")]
mod ways;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::fmt;
use core::time::Duration;

use super::emergency::exit_for;
use super::machine::try_machine;
use super::{BarePlatform, command_line, memory_info, started_at, suspend};
use crate::fs::{self, Fs};
use crate::hypercall::sched::ShutdownReason;
use crate::ns::Namespace;
use crate::platform::Platform;
use crate::time::Instant;
use crate::tree::files::failed;
use crate::xen::Xen;
use crate::xen::event::{EventStats, Events};
use crate::xen::shutdown::ShutdownWatch;
use crate::xen::store::StoreError;

use cmdline::{CmdlineError, Options};
use exports::Serve;
use shares::Shares;
use stop::Stop;

pub use app::{App, ExitCode, Termination};
pub use exports::{exports, serve, unserve};
pub use files::{Files, SourceError, tree};
pub use keys::{catch_ctrl_c, take_ctrl_c};
pub use output::{print, print_bytes, print_raw, read_console, set_log};
pub use shares::{ShareError, ShareInfo, next_device_event, shares};

/// All that lives as long as the app.
struct System {
    options: Options,
    app_line: &'static str,
    xen: Xen<BarePlatform>,
    stop: Stop,
    shares: Shares,
    /// What is served to other domains, if anything is.
    exports: OnceCell<Rc<dyn Serve>>,
    /// All 9P messages, if the options want that.
    #[cfg(feature = "trace")]
    capture: Option<crate::p9::trace::Capture>,
    /// The app's name space while it runs, if it has one.
    files: RefCell<Option<Namespace>>,
}

/// Gives back memory of caches; whether that is any. For the allocator: it may be called out of anything that allocates.
#[cfg(feature = "cache")]
pub(super) fn give_back() -> bool {
    SYSTEM
        .try_get()
        .and_then(OnceCell::get)
        .is_some_and(|system| system.shares.give_back())
}

/// Lets an image, which has one thread, keep in a static what is made for one thread.
struct OneThread<T>(T);

// SAFETY: a shared `OneThread` gives out its value only where a machine is installed, that is in an image. An image has
// one thread: one virtual CPU runs it, the others are parked, and nothing interrupts it but exceptions, which never
// return and touch none of these.
unsafe impl<T> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    const fn new(value: T) -> Self {
        OneThread(value)
    }

    /// The value; `None` in a program that is not an image, or not yet.
    fn try_get(&self) -> Option<&T> {
        try_machine().map(|_| &self.0)
    }

    /// The value.
    ///
    /// # Panics
    /// In a program that is not an image: it may have more threads.
    fn get(&self) -> &T {
        self.try_get()
            .expect("`rt` works in an image that Xen has started, and nowhere else")
    }
}

static SYSTEM: OneThread<OnceCell<System>> = OneThread::new(OnceCell::new());

/// The system, once it is there.
///
/// # Panics
/// Outside of an app's main function, as in a `bare_entry!` image.
fn system() -> &'static System {
    let system = SYSTEM.get().get();
    system.expect("this is for apps that `xen9p::entry!` started")
}

/// Why an app can't be started: a message and the status it means.
pub struct StartError(ExitCode, String);

impl StartError {
    fn new(code: ExitCode, error: &dyn fmt::Display) -> Self {
        StartError(code, alloc::format!("{error}"))
    }
}

/// Sets everything up, runs `app`, and ends the domain. What [`entry!`](crate::entry) calls. An error of the app's is printed
/// after `name`.
pub fn run<Taken, A: App<Taken>>(name: &str, app: A) -> ! {
    let status = match start::<A::Files>() {
        Ok(files) => {
            let code = app.call(name, &files);
            finish(Some(files));
            code
        }
        Err(StartError(code, why)) => {
            print(format_args!("xen9p: {why}\n"));
            finish(None::<A::Files>);
            code
        }
    };
    let asked = SYSTEM.get().get().and_then(|system| system.stop.reason());
    output::close();
    exit_for(status.number(), asked.unwrap_or(ShutdownReason::PowerOff))
}

/// Brings the system up and mounts the app's files.
fn start<F: Files>() -> Result<F, StartError> {
    let events = Events::new(BarePlatform);
    output::open(&events);
    let line = str::from_utf8(command_line())
        .map_err(|_| StartError::new(ExitCode::USAGE, &"the command line is not UTF-8 text"))?;
    let (options, app_line) =
        cmdline::parse(line).map_err(|error| StartError::new(ExitCode::USAGE, &error))?;
    output::set_log(options.log.as_deref().unwrap_or_default())
        .map_err(|error| StartError::new(ExitCode::USAGE, &error))?;
    let memory = memory_info();
    log::info!(
        "memory: {} KiB of {} KiB in use after boot",
        memory.used() / 1024,
        memory.total / 1024
    );

    let fails = |error: StoreError| StartError::new(ExitCode::FAILURE, &error);
    let xen = Xen::new(events).map_err(fails)?;
    let watch = ShutdownWatch::new(&xen.store, suspend::is_possible()).map_err(fails)?;
    SYSTEM.get().get_or_init(|| System {
        #[cfg(feature = "trace")]
        capture: options.trace.as_ref().map(|_| capture::new()),
        options,
        app_line,
        xen,
        stop: Stop::new(watch),
        shares: Shares::default(),
        exports: OnceCell::new(),
        files: RefCell::default(),
    });
    let files = F::open()?;
    log::info!(
        "files mounted {} us after the first instruction",
        uptime().as_micros() as u64
    );
    Ok(files)
}

/// Closes the app's files, if there are any, and what it left open.
fn finish<F: Files>(files: Option<F>) {
    drop(files);
    if let Some(system) = SYSTEM.get().get() {
        system.files.take();
        if let Some(exports) = system.exports.get() {
            exports.close();
        }
        #[cfg(feature = "trace")]
        capture::write::<F>();
        system.shares.unmount_all();
    }
}

/// The command line without the options in front.
pub fn app_line() -> &'static str {
    system().app_line
}

/// The app's arguments: its part of the command line, split into words like a shell does. There is no name of the program in
/// front.
///
/// The part begins with the first word that is no option, or behind `--`. An app that is to get a word of the form
/// `key=value` first is called with that: of `log=info share=data -- name=value 'a b' c` the arguments are `name=value`,
/// `a b` and `c`.
///
/// ```no_run
/// # #[cfg(feature = "rt")]
/// fn main() -> xen9p::rt::ExitCode {
///     match xen9p::rt::args().as_deref() {
///         Ok([from, to]) => println!("from {from} to {to}"),
///         Ok(_) => return xen9p::rt::ExitCode::USAGE,
///         Err(error) => println!("{error}"),
///     }
///     xen9p::rt::ExitCode::SUCCESS
/// }
/// # #[cfg(not(feature = "rt"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// A quote is opened and never closed.
pub fn args() -> Result<Vec<String>, CmdlineError> {
    cmdline::words(app_line())
}

/// The drivers of this domain: for devices, events and xenstore nodes of the app's own.
///
/// ```no_run
/// # #[cfg(feature = "rt")]
/// # fn example() -> Result<Vec<u8>, xen9p::xen::store::StoreError> {
/// let xen = xen9p::rt::xen();
/// xen.store.read("name")
/// # }
/// ```
///
/// # Panics
/// In an image that [`bare_entry!`](crate::bare_entry) started: it makes its own by [`Xen::new`].
pub fn xen() -> &'static Xen<BarePlatform> {
    &system().xen
}

/// The options in front of the command line.
pub fn options() -> &'static Options {
    &system().options
}

/// The file system of the share with this tag, which is mounted when it is used for the first time.
///
/// # Errors
/// See [`ShareError`].
pub fn share(tag: &str) -> Result<Fs, ShareError> {
    system().shares.get(tag).map(|share| share.fs)
}

/// What the domain holds of Xen's: it comes to the same whenever as much is mounted and nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Grant references in use, those in quarantine included.
    pub grants: usize,
    /// Pages that a former backend still has mapped.
    pub quarantined_pages: usize,
    /// Open ports of event channels.
    pub ports: usize,
    /// Watches in xenstore.
    pub watches: usize,
}

/// What the domain holds now, after taking back what backends have let go of meanwhile.
pub fn resources() -> Resources {
    let xen = &system().xen;
    xen.grants.drain();
    let grants = xen.grants.counters();
    Resources {
        grants: grants.used_refs,
        quarantined_pages: grants.quarantined_pages,
        ports: xen.events.open_ports(),
        watches: xen.store.open_watches(),
    }
}

/// Counters of the domain's event channels.
pub fn event_stats() -> EventStats {
    system().xen.events.stats()
}

/// The monotonic clock.
pub fn now() -> Instant {
    BarePlatform.now()
}

/// How long ago the first instruction of this image ran.
pub fn uptime() -> Duration {
    now() - started_at()
}

/// Calendar time; `None` where Xen does not know it.
pub fn wall_clock() -> Option<fs::SystemTime> {
    match BarePlatform.wall_clock() {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos).into()),
    }
}

/// Waits.
///
/// # Errors
/// [`Interrupted`](fs::Error::Interrupted): the domain is asked to stop, or Ctrl-C was typed and should be
/// [caught](catch_ctrl_c).
pub fn sleep(time: Duration) -> fs::Result<()> {
    let interrupted = wait_until(now() + time, || {
        keys::look();
        keys::caught()
    })?;
    match interrupted {
        true => Err(failed(fs::Error::Interrupted)),
        false => Ok(()),
    }
}

/// Waits until `done` or `deadline`; says whether it was done.
///
/// # Errors
/// As [`sleep`].
fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) -> fs::Result<bool> {
    let System { xen, stop, .. } = system();
    let events = &xen.events;
    loop {
        let seen = events.generation();
        stop.look();
        if stop.reason().is_some() {
            return Err(failed(fs::Error::Interrupted));
        }
        exports::poll();
        if done() {
            return Ok(true);
        }
        if now() >= deadline {
            return Ok(false);
        }
        events.wait(seen, deadline.min(exports::next_check()));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::hypercall::XenError;
    use crate::xen::grant::Grants;

    /// A hosted program has threads: it gets nothing that is made for one.
    #[test]
    fn what_is_made_for_one_thread_is_not_given_to_a_hosted_program() {
        let users: [fn(); 4] = [
            || drop(set_log("debug")),
            || catch_ctrl_c(true),
            || _ = take_ctrl_c(),
            || drop(xen().clone()),
        ];
        for user in users {
            let panic = std::panic::catch_unwind(user).unwrap_err();
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
            assert!(text.unwrap().contains("an image that Xen has started"));
        }
    }

    /// Xen's numbers mean other calls to the kernel of a host.
    #[test]
    fn a_hosted_program_makes_no_hypercalls() {
        let refused = Events::new(BarePlatform).bind_ipi().map(drop);
        assert_eq!(refused, Err(XenError::ENOSYS));
        assert!(Grants::new(BarePlatform).is_ok());
    }
}
