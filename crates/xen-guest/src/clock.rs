//! Xen's clock: system time from the page that the hypervisor keeps, and the time of day.
//!
//! [`system_time`] is nanoseconds since the hypervisor started, the scale that `SCHEDOP_poll` and
//! the timers take; [`wall_clock_base`] is what to add to get nanoseconds since 1970.
//! Layouts: public/xen.h, `vcpu_time_info` and `shared_info`.

use core::sync::atomic::{Ordering, fence};

use xen_abi as sys;

/// How time-stamp counter values become system time, as of one update by Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The counter's value at the update.
    pub tsc_timestamp: u64,
    /// System time at the update, in nanoseconds.
    pub system_time: u64,
    /// Nanoseconds per (shifted) tick, as a fraction of 2³².
    pub multiplier: u32,
    /// By how many bits to shift ticks before they are multiplied: left if positive.
    pub shift: i8,
}

impl Scale {
    /// The system time, in nanoseconds, when the counter shows `tsc`.
    ///
    /// A counter value before the update counts as the update's: virtual CPUs may be a few ticks
    /// apart, and time must not jump by centuries for that.
    pub const fn nanos_at(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc_timestamp);
        let ticks = if ticks > i64::MAX as u64 { 0 } else { ticks };
        let shifted = if self.shift >= 0 {
            (ticks as u128) << (self.shift as u32 & 63)
        } else {
            (ticks as u128) >> (self.shift.unsigned_abs() as u32 & 63)
        };
        // At most 2^63 ticks, 2^63 by the shift and 2^32 by the multiplier can pass 2^128; Xen's
        // own values (a shift that brings the rate near 2^32 per second) stay far below.
        let nanos = shifted.wrapping_mul(self.multiplier as u128) >> 32;
        self.system_time.wrapping_add(nanos as u64)
    }
}

/// The system time now, in nanoseconds; `tsc` reads the time-stamp counter (ordered, so that it is
/// not read before the loads in front of it).
///
/// Xen updates the page between two odd/even steps of its version field; a read that met an update
/// is repeated. That never takes long: Xen updates a page only while its virtual CPU is stopped.
///
/// # Safety
/// `info` points to the mapped `vcpu_time_info` of the virtual CPU that runs this.
pub unsafe fn system_time(info: *const sys::vcpu_time_info, mut tsc: impl FnMut() -> u64) -> u64 {
    loop {
        // SAFETY: `info` is valid for reads (caller); volatile because Xen writes behind our back.
        let version = unsafe { (&raw const (*info).version).read_volatile() };
        if version & 1 != 0 {
            core::hint::spin_loop();
            continue;
        }
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let scale = unsafe {
            Scale {
                tsc_timestamp: (&raw const (*info).tsc_timestamp).read_volatile(),
                system_time: (&raw const (*info).system_time).read_volatile(),
                multiplier: (&raw const (*info).tsc_to_system_mul).read_volatile(),
                shift: (&raw const (*info).tsc_shift).read_volatile(),
            }
        };
        let now = scale.nanos_at(tsc());
        fence(Ordering::Acquire);
        // SAFETY: as above.
        if version == unsafe { (&raw const (*info).version).read_volatile() } {
            return now;
        }
    }
}

/// Nanoseconds between 1970-01-01 00:00 UTC and system time 0, or 0 where Xen does not know.
///
/// # Safety
/// `shared` points to the mapped shared_info page, in its 64-bit layout.
pub unsafe fn wall_clock_base(shared: *const sys::shared_info) -> u64 {
    loop {
        // SAFETY: `shared` is valid for reads (caller); volatile because Xen writes to the page.
        let version = unsafe { (&raw const (*shared).wc_version).read_volatile() };
        if version & 1 != 0 {
            core::hint::spin_loop();
            continue;
        }
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let (low, high, nanos) = unsafe {
            (
                (&raw const (*shared).wc_sec).read_volatile(),
                (&raw const (*shared).wc_sec_hi).read_volatile(),
                (&raw const (*shared).wc_nsec).read_volatile(),
            )
        };
        fence(Ordering::Acquire);
        // SAFETY: as above.
        if version == unsafe { (&raw const (*shared).wc_version).read_volatile() } {
            let seconds = u64::from(high) << 32 | u64::from(low);
            return seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanos.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::mem::MaybeUninit;

    /// A 2 GHz counter: 2 ticks per nanosecond, expressed with a shift of −1.
    const TWO_GHZ: Scale = Scale {
        tsc_timestamp: 1_000_000,
        system_time: 5_000,
        multiplier: u32::MAX,
        shift: -1,
    };

    #[test]
    fn ticks_become_nanoseconds() {
        assert_eq!(TWO_GHZ.nanos_at(1_000_000), 5_000);
        // u32::MAX is a hair below 1, so a second's worth of ticks rounds down.
        assert_eq!(TWO_GHZ.nanos_at(1_000_000 + 2_000_000_000), 1_000_004_999);
        let left = Scale {
            multiplier: 1 << 31,
            shift: 3,
            ..TWO_GHZ
        };
        assert_eq!(left.nanos_at(1_000_000 + 10), 5_040);
    }

    #[test]
    fn a_counter_behind_the_update_does_not_run_away() {
        assert_eq!(TWO_GHZ.nanos_at(999_999), 5_000);
    }

    #[test]
    fn every_scale_is_computed_without_panic() {
        for shift in [i8::MIN, -64, -1, 0, 1, 63, 64, i8::MAX] {
            let scale = Scale {
                tsc_timestamp: u64::MAX - 3,
                system_time: u64::MAX,
                multiplier: u32::MAX,
                shift,
            };
            scale.nanos_at(u64::MAX);
            scale.nanos_at(0);
        }
    }

    #[test]
    fn a_read_that_met_an_update_is_repeated() {
        let info = Cell::new(sys::vcpu_time_info {
            version: 2,
            pad0: 0,
            tsc_timestamp: 0,
            system_time: 100,
            tsc_to_system_mul: 1 << 31,
            tsc_shift: 1,
            flags: 0,
            pad1: [0; 2],
        });
        let mut reads = 0;
        // SAFETY: the structure is alive; the counter function changes it as Xen would.
        let now = unsafe {
            system_time(info.as_ptr(), || {
                reads += 1;
                if reads == 1 {
                    let mut next = info.get();
                    next.version = 4;
                    next.system_time = 700;
                    info.set(next);
                }
                5
            })
        };
        assert_eq!((now, reads), (705, 2));
    }

    #[test]
    fn the_wall_clock_uses_all_64_bits_of_seconds() {
        // SAFETY: the structure is made of integers; all-zero is a value.
        let mut shared: sys::shared_info = unsafe { MaybeUninit::zeroed().assume_init() };
        shared.wc_version = 8;
        shared.wc_sec = 1;
        shared.wc_sec_hi = 1;
        shared.wc_nsec = 42;
        // SAFETY: a live structure.
        let base = unsafe { wall_clock_base(&raw const shared) };
        assert_eq!(base, ((1 << 32) + 1) * 1_000_000_000 + 42);
    }
}
