//! How many rings, and how large.

use core::time::Duration;

use super::ring::Order;
use crate::platform::PAGE_SIZE;

/// More rings than this are never asked for; QEMU has as many, xen-9pfsd half.
pub const MAX_RINGS: u16 = 8;

/// More rings than this are not asked for by default: they take memory and time to
/// connect, and bring nothing (docs/bench.md has the table).
const ENOUGH_RINGS: u16 = 4;

/// The number and the size of rings, and the time limits of connecting.
///
/// Anything asked for is a wish: the backend's limits and the domain's memory come first, and a
/// wish that had to be cut is reported by a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Number of rings; by default as many as pay in [`memory`](Self::memory).
    pub rings: Option<u16>,
    /// Size of each ring, that is its page order, from 2 to 9; by default the largest of which two
    /// fit in [`memory`](Self::memory). The largest message is 1 KiB << `order`, and with more than one ring
    /// 24 bytes more.
    pub order: Option<u8>,
    /// Bytes of memory that all rings together may take where this configuration leaves a choice.
    pub memory: usize,
    /// How long each step of the backend is waited for when connecting.
    pub timeout: Duration,
}

impl Config {
    /// The configuration for a domain with this many bytes of memory: an eighth of it goes into
    /// rings.
    pub const fn for_memory(bytes: usize) -> Config {
        Config {
            rings: None,
            order: None,
            memory: bytes / 8,
            timeout: Duration::from_secs(20),
        }
    }

    /// The number and the order of the rings, given what the backend allows.
    pub(super) fn geometry(&self, max_rings: u32, max_order: u32) -> (u16, Order) {
        let max_rings = max_rings.clamp(1, MAX_RINGS.into()) as u16;
        let max_order = max_order.min(Order::MAX.get().into()) as u8;
        let limit = |order: u8| Order::new(order.min(max_order)).unwrap_or(Order::MIN);
        let fits = |rings: u16, order: Order| pages(rings, order) <= self.memory / PAGE_SIZE;
        let rings = self.rings.map(|rings| rings.clamp(1, max_rings));
        let order = match self.order {
            Some(order) => limit(order),
            None => {
                let at_once = rings.unwrap_or(2);
                (Order::MIN.get()..=max_order)
                    .filter_map(Order::new)
                    .rev()
                    .find(|&order| fits(at_once, order))
                    .unwrap_or(Order::MIN)
            }
        };
        let rings = rings.unwrap_or_else(|| {
            (1..=max_rings.min(ENOUGH_RINGS))
                .rev()
                .find(|&rings| fits(rings, order))
                .unwrap_or(1)
        });
        if self.rings.is_some_and(|wish| wish != rings)
            || self.order.is_some_and(|o| o != order.get())
        {
            log::warn!(
                "9pfs: using {rings} rings of order {}; the backend allows at most {max_rings} of order {max_order}",
                order.get()
            );
        }
        (rings, order)
    }
}

impl Default for Config {
    /// As for a domain of 32 MiB.
    fn default() -> Config {
        Config::for_memory(32 << 20)
    }
}

/// Pages that so many rings take.
const fn pages(rings: u16, order: Order) -> usize {
    rings as usize * (order.pages().get() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn geometry(config: Config, max_rings: u32, max_order: u32) -> (u16, u8) {
        let (rings, order) = config.geometry(max_rings, max_order);
        (rings, order.get())
    }

    #[test]
    fn defaults_follow_the_memory() {
        let of = |mib| geometry(Config::for_memory(mib * MIB), 8, 9);
        assert_eq!(of(0), (1, 2));
        assert_eq!(of(4), (3, 5));
        assert_eq!(of(8), (3, 6));
        assert_eq!(of(64), (3, 9));
        assert_eq!(of(128), (4, 9));
        assert_eq!(of(4096), (4, 9));
        for mib in 1..300 {
            let (rings, order) = Config::for_memory(mib * MIB).geometry(8, 9);
            assert!(
                pages(rings, order) * PAGE_SIZE <= mib * MIB / 8,
                "{mib} MiB"
            );
        }
    }

    #[test]
    fn the_backend_limits_everything() {
        let wish = |rings, order| Config {
            rings,
            order,
            ..Config::for_memory(64 * MIB)
        };
        assert_eq!(geometry(wish(None, None), 4, 6), (4, 6));
        assert_eq!(geometry(wish(None, None), u32::MAX, u32::MAX), (3, 9));
        assert_eq!(geometry(wish(Some(9), Some(12)), 8, 9), (8, 9));
        assert_eq!(geometry(wish(Some(0), Some(0)), 8, 9), (1, 2));
        assert_eq!(geometry(wish(Some(1), None), 8, 9), (1, 9));
        assert_eq!(geometry(wish(Some(8), None), 8, 9), (8, 7));
        assert_eq!(geometry(wish(None, Some(2)), 8, 9), (4, 2));
        assert_eq!(geometry(wish(None, None), 1, 2), (1, 2));
        assert_eq!(geometry(wish(None, Some(1)), 8, 9), (4, 2));
    }
}
