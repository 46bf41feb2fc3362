//! What an app prints, logs and reads: the console.

use core::cell::{OnceCell, RefCell};
use core::fmt::{self, Write};
use core::time::Duration;

use super::{OneThread, keys, wait_until};
use log::{LevelFilter, Log, Metadata, Record};

use crate::fs;
use crate::platform::Platform;
use crate::rt::{BarePlatform, emergency_print};
use crate::time::Instant;
use crate::xen::console::Console;
use crate::xen::event::Events;
use crate::xen::log::{BadFilter, Filter, Logger, Sink};

/// How long the end of the run waits until the console has been read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

static CONSOLE: OneThread<OnceCell<Console<BarePlatform>>> = OneThread::new(OnceCell::new());

/// Prints to the console, as `print!` does in `std`.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => {
        $crate::rt::print(::core::format_args!($($text)*))
    };
}

/// Prints a line to the console, as `println!` does in `std`.
#[macro_export]
macro_rules! println {
    () => {
        $crate::rt::print_bytes(b"\n")
    };
    ($($text:tt)*) => {
        $crate::rt::print(::core::format_args!("{}\n", ::core::format_args!($($text)*)))
    };
}

/// Takes the console over, if there is one.
pub(super) fn open(events: &Events<BarePlatform>) {
    if let Ok(console) = Console::open(events) {
        CONSOLE.get().get_or_init(|| console);
    }
}

/// The console, once it is there.
fn console() -> Option<&'static Console<BarePlatform>> {
    CONSOLE.try_get()?.get()
}

/// Waits until the console has been read, within reason. Print nothing by these means
/// afterwards.
pub(super) fn close() {
    if let Some(console) = console() {
        console.drain(BarePlatform.now() + DRAIN_TIMEOUT);
        if console.dropped() > 0 {
            emergency_print(format_args!(
                "[xen9p] {} bytes of output were dropped: the console was not read\n",
                console.dropped()
            ));
        }
    }
}

/// Waits a little until the console has been read.
pub(super) fn settle() {
    if let Some(console) = console() {
        console.drain(BarePlatform.now() + crate::xen::console::WRITE_TIMEOUT);
    }
}

/// Prints formatted text to the console; see [`print!`](crate::print). Waits for a reader,
/// within reason, and drops what is not read in time.
pub fn print(text: fmt::Arguments<'_>) {
    struct Out;
    impl Write for Out {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            print_bytes(text.as_bytes());
            Ok(())
        }
    }
    match console() {
        // Fails only when a value's own formatting does; what there is of it is printed then too.
        Some(_) => drop(Out.write_fmt(text)),
        None => emergency_print(text),
    }
}

/// Prints bytes to the console as they are.
pub fn print_raw(bytes: &[u8]) {
    match console() {
        Some(console) => console.write(bytes),
        None => emergency_print(format_args!("{}", bytes.escape_ascii())),
    }
}

/// Prints bytes to the console. As on a terminal, a carriage return is put in front of each line
/// feed.
pub fn print_bytes(bytes: &[u8]) {
    let Some(console) = console() else {
        return emergency_print(format_args!("{}", bytes.escape_ascii()));
    };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                console.write(line);
                console.write(b"\r\n");
            }
            None => console.write(line),
        }
    }
}

/// Waits for input on the console and copies it to the start of `into`; returns how much it was. A
/// domain without console waits in vain.
///
/// # Errors
/// [`Interrupted`](fs::Error::Interrupted): the domain is asked to stop.
pub fn read_console(into: &mut [u8]) -> fs::Result<usize> {
    let mut count = 0;
    wait_until(Instant::NEVER, || {
        count = match keys::kept(into) {
            0 => read_now(into),
            count => count,
        };
        count > 0 || into.is_empty()
    })?;
    Ok(count)
}

/// As much input as there is now.
pub(super) fn read_now(into: &mut [u8]) -> usize {
    console().map_or(0, |console| console.read(into))
}

static LOGGER: OneThread<RefCell<Option<Logger<LogSink>>>> = OneThread::new(RefCell::new(None));

/// The logger in use, which can be another later.
struct LoggerInUse;

impl Log for LoggerInUse {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let logger = LOGGER.get().borrow();
        logger
            .as_ref()
            .is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = &*LOGGER.get().borrow() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

/// Chooses which log records are printed from now on, in the words of the option `log=`.
///
/// # Errors
/// The entry that makes no sense.
pub fn set_log(filter: &str) -> Result<(), BadFilter> {
    let logger = LOGGER.get();
    let filter = Filter::parse(filter, LevelFilter::Warn)?;
    // There is one already after the first call, or if an app brought its own.
    let _ = log::set_logger(&LoggerInUse);
    log::set_max_level(filter.max_level());
    *logger.borrow_mut() = Some(Logger::new(filter, LogSink));
    Ok(())
}

/// Log records go to the console.
pub(super) struct LogSink;

impl Sink for LogSink {
    fn write(&self, lines: &str) {
        print_bytes(lines.as_bytes());
    }

    fn now(&self) -> Instant {
        BarePlatform.now()
    }
}
