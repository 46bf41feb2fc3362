//! Xen's clock: system time from the page that the hypervisor keeps, and the time of day.
//!
//! [`system_time`] is nanoseconds since the hypervisor started, the scale that `SCHEDOP_poll` and
//! the timers take; [`wall_clock_base`] is what to add to get nanoseconds since 1970.
//! Layouts: public/xen.h, `vcpu_time_info` and `shared_info`.
//!
//! ```
//! use xen_guest::clock::Scale;
//!
//! // A counter of 2 GHz: half a nanosecond for each tick.
//! let scale = Scale {
//!     tsc_timestamp: 1_000,
//!     system_time: 5_000_000,
//!     multiplier: 1 << 31,
//!     shift: 0,
//! };
//! assert_eq!(scale.nanos_at(1_000 + 2_000_000), 6_000_000);
//! // A counter that is a little behind makes no time of the past.
//! assert_eq!(scale.nanos_at(990), 5_000_000);
//! ```

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use crate::shared::{SharedMemory, SharedWord};
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

/// Reads what Xen updates between two steps, odd and even, of `version`; a read that met an update is repeated. That
/// never takes long: Xen updates a page only while its virtual CPU is stopped.
fn read_consistently<T>(version: SharedWord<'_, u32>, mut read: impl FnMut() -> T) -> T {
    loop {
        let before = version.load(Ordering::Acquire);
        if before & 1 != 0 {
            core::hint::spin_loop();
            continue;
        }
        let value = read();
        // The loads of `read` come before the next.
        fence(Ordering::Acquire);
        if version.load(Ordering::Relaxed) == before {
            return value;
        }
    }
}

/// The scale in a `vcpu_time_info` at the moment. Reads it while nothing is updated; see [`system_time_in`].
pub fn scale_in(info: SharedMemory<'_>) -> Scale {
    const RELAXED: Ordering = Ordering::Relaxed;
    Scale {
        tsc_timestamp: info
            .word(offset_of!(sys::vcpu_time_info, tsc_timestamp))
            .load(RELAXED),
        system_time: info
            .word(offset_of!(sys::vcpu_time_info, system_time))
            .load(RELAXED),
        multiplier: info
            .word(offset_of!(sys::vcpu_time_info, tsc_to_system_mul))
            .load(RELAXED),
        shift: info
            .word::<u8>(offset_of!(sys::vcpu_time_info, tsc_shift))
            .load(RELAXED) as i8,
    }
}

/// The system time now, in nanoseconds. `info` is the `vcpu_time_info` of the virtual CPU that runs this; `tsc` reads the
/// time-stamp counter, ordered, so that it is not read before the loads in front of it.
pub fn system_time_in(info: SharedMemory<'_>, mut tsc: impl FnMut() -> u64) -> u64 {
    let version = info.word(offset_of!(sys::vcpu_time_info, version));
    read_consistently(version, || scale_in(info).nanos_at(tsc()))
}

/// Nanoseconds between 1970-01-01 00:00 UTC and system time 0, or 0 where Xen does not know. `shared` is the shared_info
/// page, in its 64-bit layout.
pub fn wall_clock_base_in(shared: SharedMemory<'_>) -> u64 {
    let version = shared.word(offset_of!(sys::shared_info, wc_version));
    let field = |offset| shared.word::<u32>(offset).load(Ordering::Relaxed);
    read_consistently(version, || {
        let high = field(offset_of!(sys::shared_info, wc_sec_hi));
        let low = field(offset_of!(sys::shared_info, wc_sec));
        let nanos = field(offset_of!(sys::shared_info, wc_nsec));
        let seconds = u64::from(high) << 32 | u64::from(low);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanos.into())
    })
}

/// As [`system_time_in`], of a structure by its address.
///
/// # Safety
/// `info` points to the mapped `vcpu_time_info` of the virtual CPU that runs this.
pub unsafe fn system_time(info: *const sys::vcpu_time_info, tsc: impl FnMut() -> u64) -> u64 {
    // SAFETY: the caller's promise; this domain does not write to it.
    system_time_in(unsafe { memory_at(info) }, tsc)
}

/// As [`wall_clock_base_in`], of a page by its address.
///
/// # Safety
/// `shared` points to the mapped shared_info page, in its 64-bit layout.
pub unsafe fn wall_clock_base(shared: *const sys::shared_info) -> u64 {
    // SAFETY: the caller's promise; this domain does not write to these fields.
    wall_clock_base_in(unsafe { memory_at(shared) })
}

/// # Safety
/// A `T` is mapped at `address` for `'a`, and this domain accesses it atomically.
unsafe fn memory_at<'a, T>(address: *const T) -> SharedMemory<'a> {
    let start = NonNull::new(address.cast_mut()).expect("the structure is mapped");
    // SAFETY: the caller's promise.
    unsafe { SharedMemory::new(start.cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
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
        let info = Box::new(sys::vcpu_time_info {
            version: 2,
            pad0: 0,
            tsc_timestamp: 0,
            system_time: 100,
            tsc_to_system_mul: 1 << 31,
            tsc_shift: 1,
            flags: 0,
            pad1: [0; 2],
        });
        let start = NonNull::from(Box::leak(info));
        // SAFETY: never freed, and used here alone.
        let info = unsafe { SharedMemory::new(start.cast(), 32) };
        let mut reads = 0;
        // The counter function changes it as Xen would.
        let now = system_time_in(info, || {
            reads += 1;
            if reads == 1 {
                info.word(0).store(4_u32, Ordering::Relaxed);
                info.word(16).store(700_u64, Ordering::Relaxed);
            }
            5
        });
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
