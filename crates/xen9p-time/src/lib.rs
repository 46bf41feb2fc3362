//! Time as the drivers use it: a monotonic [`Instant`] in nanoseconds.
//!
//! ```
//! use core::time::Duration;
//!
//! use xen9p_time::Instant;
//!
//! let start = Instant::from_nanos(1_000);
//! let deadline = start + Duration::from_secs(2);
//! assert_eq!(deadline - start, Duration::from_secs(2));
//! // What never comes is later than all else, and no sum passes it.
//! assert_eq!(Instant::NEVER + Duration::from_secs(2), Instant::NEVER);
//! ```

#![no_std]
#![forbid(unsafe_code)]

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in monotonic time, in nanoseconds since an origin that the platform chooses.
///
/// Under Xen the origin is the hypervisor's own system time, so that a value can be handed to
/// `SCHEDOP_poll` as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The end of time: a deadline that is never reached.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, by: Duration) -> Instant {
        Instant(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Saturates at zero.
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let start = Instant::from_nanos(5);
        assert_eq!(
            start + Duration::from_nanos(7) - start,
            Duration::from_nanos(7)
        );
        assert_eq!(start - (start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(start + Duration::MAX, Instant::NEVER);
    }
}
