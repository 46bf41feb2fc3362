//! How kinds of files, times and sizes are shown.

use alloc::format;
use core::fmt;
use core::time::Duration;

use xen9p::fs::{FileType, Metadata, SystemTime};

/// What kind of file it is, in the words of `stat`.
pub fn kind(found: FileType) -> &'static str {
    match found.letter() {
        '-' => "regular file",
        'd' => "directory",
        'l' => "symbolic link",
        'b' => "block special file",
        'c' => "character special file",
        'p' => "fifo",
        's' => "socket",
        _ => "file of unknown kind",
    }
}

/// Type and permissions as `ls -l` shows them: `drwxr-xr-x`.
pub struct Mode<'a>(pub &'a Metadata);

impl fmt::Display for Mode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = self.0.file_type().letter();
        write!(f, "{letter}{}", self.0.permissions())
    }
}

/// A point in time as date and time of day, UTC: `2026-11-20 08:03:11`. What lies before the year 0 is shown as seconds.
pub struct Time(pub SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.secs();
        let Some((year, month, day)) = date(seconds.div_euclid(86_400)) else {
            return write!(f, "@{seconds}");
        };
        let second = seconds.rem_euclid(86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// The date `days` after 1970-01-01, or before it if negative, in the Gregorian calendar; `None` before 0000-03-01.
fn date(days: i64) -> Option<(u64, u64, u64)> {
    // Years are counted from March, so that the leap day is the last day of a year, and from
    // 0000-03-01, so that 400-year cycles of 146,097 days begin with them.
    const TO_1970: i64 = 719_468;
    let days = u64::try_from(days.saturating_add(TO_1970)).ok()?;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    // Leap days before this day: one in 1,461 days, none at the ends of centuries, one at the end of the cycle.
    let leap_days = day_of_cycle / 1_460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
    let year_of_cycle = (day_of_cycle - leap_days) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on the months' lengths repeat 31 30 31 30 31: 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = if month_from_march < 10 {
        (month_from_march + 3, 0)
    } else {
        (month_from_march - 9, 1)
    };
    Some((400 * cycle + year_of_cycle + next_year, month, day))
}

/// A time with the unit that fits: `812 ns`, `3.42 ms`, `1.50 s`.
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos() as u64;
        let (unit, name) = match nanos {
            0..1_000 => return write!(f, "{nanos} ns"),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        write!(
            f,
            "{}.{:02} {name}",
            nanos / unit,
            nanos % unit * 100 / unit
        )
    }
}

/// Bytes with the unit that fits: `812 B`, `3.4 KiB`, `16.0 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, name) = match self.0 {
            0..0x400 => return write!(f, "{} B", self.0),
            0x400..0x10_0000 => (10, "KiB"),
            0x10_0000..0x4000_0000 => (20, "MiB"),
            _ => (30, "GiB"),
        };
        let below = self.0 & ((1 << shift) - 1);
        let tenths = (self.0 >> shift) * 10 + ((below * 10) >> shift);
        write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// Bytes as `ls -h` and `du -h` show them, rounded up: `812`, `3.4K`, `16M`.
pub struct Human(pub u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let (mut unit, mut letter) = (1_u128, "");
        for next in ["K", "M", "G", "T", "P", "E"] {
            if bytes.div_ceil(unit) >= 1024 {
                (unit, letter) = (unit << 10, next);
            }
        }
        let tenths = (bytes * 10).div_ceil(unit);
        match letter {
            "" => f.pad(&format!("{bytes}")),
            _ if tenths < 100 => f.pad(&format!("{}.{}{letter}", tenths / 10, tenths % 10)),
            _ => f.pad(&format!("{}{letter}", bytes.div_ceil(unit))),
        }
    }
}

/// Bytes as a number of KiB, rounded up.
pub struct Kilobytes(pub u64);

impl fmt::Display for Kilobytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.div_ceil(1024).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_763_625_791, "2025-11-20 08:03:11"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (i64::MAX, "292277026596-12-04 15:30:07"),
            (-1, "1969-12-31 23:59:59"),
            (-86_400, "1969-12-31 00:00:00"),
            (-62_162_035_200, "0000-03-01 00:00:00"),
            (-62_162_035_201, "@-62162035201"),
        ] {
            assert_eq!(Time(SystemTime::new(seconds, 0)).to_string(), text);
        }
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let mut last = date(0).unwrap();
        for day in 1..146_097 {
            let today = date(day).unwrap();
            let (year, month, _) = last;
            assert!(
                today == (year, month, last.2 + 1)
                    || (last.2 >= 28 && today == (year, month + 1, 1))
                    || (last == (year, 12, 31) && today == (year + 1, 1, 1)),
                "{today:?} follows {last:?}"
            );
            last = today;
        }
        assert_eq!(date(146_097), Some((2370, 1, 1)));
    }

    #[test]
    fn sizes_and_spans_have_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (16 << 20, "16.0 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10_138, "10K"),
            (10_240, "10K"),
            (10_241, "11K"),
            (1_048_575, "1.0M"),
            (16 << 20, "16M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(Human(bytes).to_string(), text);
        }
        for (nanos, text) in [
            (999, "999 ns"),
            (1_500, "1.50 us"),
            (3_420_000, "3.42 ms"),
            (61_007_000_000, "61.00 s"),
        ] {
            assert_eq!(Span(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
