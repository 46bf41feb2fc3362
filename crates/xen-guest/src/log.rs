//! Log records on the console: a filter that is written as text, and the [`log::Log`] that uses it.
//!
//! ```
//! use log::LevelFilter;
//! use xen_guest::log::Filter;
//!
//! let filter = Filter::parse("info,p9=trace", LevelFilter::Warn)?;
//! assert_eq!(filter.level("app"), LevelFilter::Info);
//! assert_eq!(filter.level("xen9p::p9::session"), LevelFilter::Trace);
//! assert!(Filter::parse("loud", LevelFilter::Warn).is_err());
//! # Ok::<(), xen_guest::log::BadFilter>(())
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

use xen9p_time::Instant;

/// Which records are wanted, as in `info`, `debug,p9=trace` or `warn,xen::store=debug,app=info`.
///
/// A level alone is for everything that has no entry of its own; `target=level` is for a module and
/// those below it. Modules of this library are written as `xen9p` shows
/// them, without `xen9p::`. The longest entry
/// that fits wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    default: LevelFilter,
    /// Sorted by length, the longest first.
    targets: Vec<(String, LevelFilter)>,
}

/// The entry of a filter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFilter(pub String);

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log filter \"{}\" makes no sense: write LEVEL or TARGET=LEVEL, LEVEL being one of \
             off, error, warn, info, debug, trace",
            self.0
        )
    }
}

impl core::error::Error for BadFilter {}

impl Filter {
    /// Everything up to `level`.
    pub const fn new(level: LevelFilter) -> Self {
        Filter {
            default: level,
            targets: Vec::new(),
        }
    }

    /// Reads a filter. What it does not mention is logged up to `default`.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn parse(text: &str, default: LevelFilter) -> Result<Self, BadFilter> {
        let mut filter = Filter::new(default);
        for entry in text
            .split(',')
            .map(str::trim_ascii)
            .filter(|e| !e.is_empty())
        {
            let bad = |_| BadFilter(entry.into());
            match entry.split_once('=') {
                None => filter.default = entry.parse().map_err(bad)?,
                Some((target, level)) => {
                    let level = level.trim_ascii().parse().map_err(bad)?;
                    let target = target.trim_ascii();
                    // The longest first, which is the one that counts.
                    let at = (filter.targets).partition_point(|(it, _)| it.len() >= target.len());
                    filter.targets.insert(at, (target.into(), level));
                }
            }
        }
        Ok(filter)
    }

    /// Up to which level records of `target` are wanted.
    pub fn level(&self, target: &str) -> LevelFilter {
        let is_below = |path: &str, entry: &str| {
            path.strip_prefix(entry)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let (module, short) = shown(target);
        let fits = |entry: &str| {
            let inside = match entry.strip_prefix(module) {
                Some("") if !module.is_empty() => true,
                Some(rest) => rest
                    .strip_prefix("::")
                    .is_some_and(|entry| is_below(short, entry)),
                None => false,
            };
            inside || is_below(target, entry) || is_below(short, entry)
        };
        self.targets
            .iter()
            .find(|(entry, _)| fits(entry))
            .map_or(self.default, |&(_, level)| level)
    }

    /// The highest level that is wanted of anything.
    pub fn max_level(&self) -> LevelFilter {
        let levels = self.targets.iter().map(|&(_, level)| level);
        levels.fold(self.default, Ord::max)
    }
}

/// Where `xen9p` shows the module that is the target of a record: the module that stands for a crate below `xen9p`
/// (empty if there is none), and the path from there.
fn shown(target: &str) -> (&'static str, &str) {
    let (name, path) = target.split_once(':').unwrap_or_default();
    match (name, path.strip_prefix(':')) {
        ("xen9p", Some(path)) => ("", path),
        ("p9_client", Some(path)) => ("p9", path),
        ("xen_guest", Some(path)) => ("xen", path),
        _ => ("", target),
    }
}

/// Where log lines go.
pub trait Sink: Send + Sync + 'static {
    /// Writes a line, or several, each ended by a line feed. Must not log.
    fn write(&self, lines: &str);

    /// The time for the stamp in front of each line.
    fn now(&self) -> Instant;
}

/// A [`Log`] that filters, stamps and formats records and hands them to a [`Sink`].
#[derive(Debug)]
pub struct Logger<S> {
    filter: Filter,
    sink: S,
}

impl<S: Sink> Logger<S> {
    /// A logger that is not in use yet.
    pub const fn new(filter: Filter, sink: S) -> Self {
        Logger { filter, sink }
    }

    /// Makes this the logger of the program, for ever.
    ///
    /// # Errors
    /// There is one already.
    pub fn install(self) -> Result<(), log::SetLoggerError> {
        let level = self.filter.max_level();
        log::set_logger(Box::leak(Box::new(self)))?;
        log::set_max_level(level);
        Ok(())
    }
}

impl<S: Sink> Log for Logger<S> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.filter.level(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::new();
        // Writing to a String fails only when a value's own formatting does; what there is of the
        // line is worth printing then too.
        let _ = format(&mut line, self.sink.now(), record);
        line.push('\n');
        self.sink.write(&line);
    }

    fn flush(&self) {}
}

/// A record as one line: time since the start in seconds, level, module, message.
fn format(line: &mut String, now: Instant, record: &Record<'_>) -> fmt::Result {
    let micros = now.as_nanos() / 1000;
    let (module, path) = shown(record.target());
    let separator = if module.is_empty() { "" } else { "::" };
    write!(
        line,
        "[{:5}.{:06}] {:5} {module}{separator}{path}: {}",
        micros / 1_000_000,
        micros % 1_000_000,
        record.level(),
        record.args()
    )
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use alloc::string::ToString;
    use std::sync::Mutex;

    #[test]
    fn the_longest_entry_that_fits_wins() {
        let filter = Filter::parse("debug, p9=trace,p9::wire=off,app=warn", LevelFilter::Info);
        let filter = filter.unwrap();
        assert_eq!(filter.level("xen9p::xen::store"), LevelFilter::Debug);
        assert_eq!(filter.level("xen_guest::store::wire"), LevelFilter::Debug);
        assert_eq!(filter.level("p9_client::session"), LevelFilter::Trace);
        assert_eq!(filter.level("p9_clients::session"), LevelFilter::Debug);
        assert_eq!(filter.level("xen9p::p9"), LevelFilter::Trace);
        assert_eq!(filter.level("xen9p::p9::session"), LevelFilter::Trace);
        assert_eq!(filter.level("xen9p::p9::wire::decode"), LevelFilter::Off);
        assert_eq!(filter.level("application"), LevelFilter::Debug);
        assert_eq!(filter.level("app::main"), LevelFilter::Warn);
        assert_eq!(filter.max_level(), LevelFilter::Trace);
    }

    #[test]
    fn an_empty_filter_is_the_default_and_nonsense_is_named() {
        let filter = Filter::parse("", LevelFilter::Warn).unwrap();
        assert_eq!(filter.max_level(), LevelFilter::Warn);
        for (text, entry) in [
            ("info,p9=loud", "p9=loud"),
            ("chatty", "chatty"),
            ("a=", "a="),
        ] {
            let error = Filter::parse(text, LevelFilter::Info).unwrap_err();
            assert!(error.to_string().contains(entry));
        }
    }

    #[test]
    fn records_are_filtered_and_stamped() {
        struct Lines(Mutex<String>);
        impl Sink for Lines {
            fn write(&self, lines: &str) {
                self.0.lock().unwrap().push_str(lines);
            }
            fn now(&self) -> Instant {
                Instant::from_nanos(12_345_678_999)
            }
        }
        let filter = Filter::parse("warn", LevelFilter::Info).unwrap();
        let logger = Logger::new(filter, Lines(Mutex::default()));
        for level in [log::Level::Warn, log::Level::Info] {
            logger.log(
                &Record::builder()
                    .level(level)
                    .target("xen_guest::store")
                    .args(format_args!("careful"))
                    .build(),
            );
        }
        assert_eq!(
            *logger.sink.0.lock().unwrap(),
            "[   12.345678] WARN  xen::store: careful\n"
        );
    }
}
