//! Ctrl-C, and what else is typed while the app does not read the console.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};

use super::{OneThread, output, system};

/// The most that is kept.
const MAX_TYPED: usize = 4096;

const CTRL_C: u8 = 3;

struct Keys {
    catch: Cell<bool>,
    caught: Cell<bool>,
    typed: RefCell<VecDeque<u8>>,
}

static KEYS: OneThread<Keys> = OneThread::new(Keys {
    catch: Cell::new(false),
    caught: Cell::new(false),
    typed: RefCell::new(VecDeque::new()),
});

/// Has Ctrl-C, typed on the console while the app waits for files or sleeps, end what waits with
/// [`Interrupted`](crate::fs::Error::Interrupted): the requests are taken back by Tflush. Until
/// [`take_ctrl_c`] all operations on files fail so. What else is typed meanwhile is kept for
/// [`read_console`](super::read_console).
pub fn catch_ctrl_c(on: bool) {
    KEYS.get().catch.set(on);
}

/// Whether Ctrl-C was typed since this was asked the last time; files can be used again.
pub fn take_ctrl_c() -> bool {
    let caught = KEYS.get().caught.replace(false);
    let system = system();
    if caught && system.stop.reason().is_none() {
        system.shares.interrupt(false);
    }
    caught
}

/// Whether Ctrl-C was typed.
pub(super) fn caught() -> bool {
    KEYS.get().caught.get()
}

/// Looks for keys, wherever an app waits for something else than keys.
pub(super) fn look() {
    if !KEYS.get().catch.get() {
        return;
    }
    let mut typed = KEYS.get().typed.borrow_mut();
    let mut bytes = [0; 64];
    // As much as is kept, however fast more of it comes.
    for _ in 0..MAX_TYPED / bytes.len() {
        let count = output::read_now(&mut bytes);
        let Some(mut fresh) = bytes.get(..count).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        if let Some(at) = fresh.iter().rposition(|byte| *byte == CTRL_C) {
            // What was typed before it is given up, too.
            typed.clear();
            fresh = fresh.get(at + 1..).unwrap_or_default();
            KEYS.get().caught.set(true);
            system().shares.interrupt(true);
        }
        let room = MAX_TYPED.saturating_sub(typed.len());
        typed.extend(fresh.iter().take(room));
    }
}

/// Takes what was kept.
pub(super) fn kept(into: &mut [u8]) -> usize {
    let mut typed = KEYS.get().typed.borrow_mut();
    let count = typed.len().min(into.len());
    for (place, byte) in into.iter_mut().zip(typed.drain(..count)) {
        *place = byte;
    }
    count
}
