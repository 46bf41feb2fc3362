//! Obeying `xl shutdown`, `xl reboot` and `xl save`.

use core::cell::Cell;
use core::time::Duration;

use super::{output, print, system};
use crate::hypercall::sched::ShutdownReason;
use crate::rt::emergency::exit_for;
use crate::rt::{BarePlatform, now};
use crate::time::Instant;
use crate::xen::shutdown::ShutdownWatch;
use crate::xen::suspend::Suspended;

/// How long an app that was asked to stop may go on using files until the domain ends without it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The status of an app that had to be stopped by force; a shell's for SIGTERM.
const TERMINATED: u8 = 143;

/// The toolstack's wish, once there is one.
pub(super) struct Stop {
    watch: ShutdownWatch<BarePlatform>,
    asked: Cell<Option<(ShutdownReason, Instant)>>,
    looking: Cell<bool>,
}

impl Stop {
    pub(super) fn new(watch: ShutdownWatch<BarePlatform>) -> Self {
        Stop {
            watch,
            asked: Cell::new(None),
            looking: Cell::new(false),
        }
    }

    /// The reason to stop with, if the domain is asked to.
    pub(super) fn reason(&self) -> Option<ShutdownReason> {
        self.asked.get().map(|(reason, _)| reason)
    }

    /// Looks whether the domain is asked to stop. If so, all waiting file operations end with
    /// [`Interrupted`](crate::fs::Error::Interrupted), and an app that still uses files when its
    /// time is over is stopped by force, here.
    ///
    /// Called wherever an app waits.
    pub(super) fn look(&self) {
        // This waits for xenstore's answers, and must not run twice at once.
        if self.looking.replace(true) {
            return;
        }
        match self.asked.get() {
            None => self.ask(),
            Some((reason, last)) if now() >= last => {
                print(format_args!(
                    "xen9p: the app does not stop: stopped by force\n"
                ));
                output::close();
                exit_for(TERMINATED, reason);
            }
            Some(_) => {}
        }
        self.looking.set(false);
    }

    fn ask(&self) {
        match self.watch.take() {
            Ok(Some(request)) => match request.reason() {
                None => suspend(),
                Some(reason) => {
                    log::info!("asked to stop: {request:?}");
                    self.asked.set(Some((reason, now() + SHUTDOWN_TIMEOUT)));
                    system().shares.interrupt(true);
                }
            },
            Ok(None) => {}
            Err(error) => log::debug!("looking for a shutdown request: {error}"),
        }
    }
}

/// Has the domain saved, and says when it goes on.
fn suspend() {
    log::info!("asked to suspend");
    // What the console has not read by now is lost in a new domain.
    output::settle();
    match system().xen.suspend(crate::rt::suspend::suspend) {
        Ok(Suspended::Cancelled) => log::info!("goes on where it was"),
        Ok(Suspended::Resumed) => log::warn!("the domain was saved and restored"),
        Err(error) => log::error!("{error}"),
    }
}
