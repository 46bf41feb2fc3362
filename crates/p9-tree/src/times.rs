//! Calendar time, and changes of it.

use core::time::Duration;

use p9_wire::{SetAttr, SetAttrMask, Time};

/// A point in calendar time as files carry it: seconds and nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemTime {
    secs: i64,
    nanos: u32,
}

impl SystemTime {
    /// 1970-01-01 00:00 UTC.
    pub const UNIX_EPOCH: SystemTime = SystemTime { secs: 0, nanos: 0 };

    /// `secs` seconds (negative: before) and `nanos` nanoseconds after the epoch. Nanoseconds of a
    /// second and more are cut to 999,999,999.
    pub const fn new(secs: i64, nanos: u32) -> Self {
        let nanos = if nanos < 1_000_000_000 {
            nanos
        } else {
            999_999_999
        };
        SystemTime { secs, nanos }
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.secs
    }

    /// Nanoseconds past [`secs`](Self::secs), below 1,000,000,000.
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// Time since the epoch; `None` before it.
    pub fn since_epoch(self) -> Option<Duration> {
        Some(Duration::new(u64::try_from(self.secs).ok()?, self.nanos))
    }
}

impl From<Time> for SystemTime {
    /// Seconds are two's complement, as Linux reads them.
    fn from(time: Time) -> Self {
        let nanos = u32::try_from(time.nanos).unwrap_or(u32::MAX);
        SystemTime::new(time.secs as i64, nanos)
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        Time {
            secs: time.secs as u64,
            nanos: time.nanos.into(),
        }
    }
}

impl From<Duration> for SystemTime {
    /// The instant `since` after the epoch; saturates in the year 292 billion.
    fn from(since: Duration) -> Self {
        SystemTime {
            secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }
}

/// Which times to set, and to what. What is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileTimes {
    accessed: Option<TimeChange>,
    modified: Option<TimeChange>,
}

/// A new value for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeChange {
    /// The server's present time.
    Now,
    /// This time.
    To(SystemTime),
}

impl FileTimes {
    /// Changes nothing yet.
    pub const fn new() -> Self {
        FileTimes {
            accessed: None,
            modified: None,
        }
    }

    /// Both times to the server's present time, as `touch` does.
    pub const fn now() -> Self {
        FileTimes {
            accessed: Some(TimeChange::Now),
            modified: Some(TimeChange::Now),
        }
    }

    /// The same as a change of attributes; nothing is valid in it where nothing is to change.
    pub fn to_setattr(self) -> SetAttr {
        let mut attr = SetAttr::default();
        let both = [
            (self.accessed, SetAttrMask::ATIME, SetAttrMask::ATIME_SET),
            (self.modified, SetAttrMask::MTIME, SetAttrMask::MTIME_SET),
        ];
        for (change, some, exact) in both {
            attr.valid |= match change {
                None => SetAttrMask::empty(),
                Some(TimeChange::Now) => some,
                Some(TimeChange::To(_)) => some | exact,
            };
        }
        let time = |change| match change {
            Some(TimeChange::To(time)) => Time::from(time),
            None | Some(TimeChange::Now) => Time::default(),
        };
        (attr.atime, attr.mtime) = (time(self.accessed), time(self.modified));
        attr
    }

    /// Sets the access time.
    #[must_use]
    pub const fn set_accessed(mut self, time: SystemTime) -> Self {
        self.accessed = Some(TimeChange::To(time));
        self
    }

    /// Sets the modification time.
    #[must_use]
    pub const fn set_modified(mut self, time: SystemTime) -> Self {
        self.modified = Some(TimeChange::To(time));
        self
    }

    /// Sets the access time to the server's present time.
    #[must_use]
    pub const fn set_accessed_now(mut self) -> Self {
        self.accessed = Some(TimeChange::Now);
        self
    }

    /// Sets the modification time to the server's present time.
    #[must_use]
    pub const fn set_modified_now(mut self) -> Self {
        self.modified = Some(TimeChange::Now);
        self
    }
}
