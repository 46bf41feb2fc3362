//! The page that both sides of a vchan share (public/io/libxenvchan.h): where things are in it, and how large the rings
//! may be.

use core::mem::offset_of;

use crate::platform::PAGE_SIZE;
use crate::sys::{ring_shared, vchan_interface};

/// Where the grant references of ring pages begin, in bytes.
pub(super) const REFS: usize = offset_of!(vchan_interface, grants);

/// The rings' orders.
pub(super) const LEFT_ORDER: usize = offset_of!(vchan_interface, left_order);
pub(super) const RIGHT_ORDER: usize = offset_of!(vchan_interface, right_order);

/// Where the indices of a ring are.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    pub(super) cons: usize,
    pub(super) prod: usize,
}

const fn indices(at: usize) -> Indices {
    Indices {
        cons: at + offset_of!(ring_shared, cons),
        prod: at + offset_of!(ring_shared, prod),
    }
}

/// The ring from the client to the server.
pub(super) const LEFT: Indices = indices(offset_of!(vchan_interface, left));
/// The ring from the server to the client.
pub(super) const RIGHT: Indices = indices(offset_of!(vchan_interface, right));

/// One of the two ends of a vchan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that maps the memory.
    Client,
    /// The end whose memory it is.
    Server,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    /// Where this side says whether it is there ([`live`]).
    pub(super) const fn live(self) -> usize {
        match self {
            Side::Client => offset_of!(vchan_interface, cli_live),
            Side::Server => offset_of!(vchan_interface, srv_live),
        }
    }

    /// Where this side finds what the other one wants to be told of.
    pub(super) const fn notify(self) -> usize {
        match self {
            Side::Client => offset_of!(vchan_interface, cli_notify),
            Side::Server => offset_of!(vchan_interface, srv_notify),
        }
    }
}

/// Values of the bytes that say whether a side is there.
pub mod live {
    /// It has gone.
    pub const GONE: u8 = 0;
    /// It is there.
    pub const HERE: u8 = 1;
    /// A client that has not come yet.
    pub const NOT_YET: u8 = 2;
}

/// The size of a ring, as the power of two of its bytes: from 1 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u8);

impl Order {
    /// 1 KiB, in the shared page.
    pub const MIN: Order = Order(10);
    /// 1 MiB.
    pub const MAX: Order = Order(20);
    /// 64 KiB.
    pub const DEFAULT: Order = Order(16);

    /// The order, if it is one from 10 to 20.
    pub const fn new(order: u8) -> Option<Order> {
        match order {
            10..=20 => Some(Order(order)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Bytes that the ring holds.
    pub const fn bytes(self) -> u32 {
        1 << self.0
    }

    /// Pages of its own that the ring takes: none, if it is in the shared page.
    pub const fn pages(self) -> usize {
        match self.0 {
            ..12 => 0,
            order => 1 << (order - 12),
        }
    }

    /// Where the ring begins in the shared page, if it is there.
    pub(super) const fn in_page(self) -> Option<usize> {
        match self.pages() {
            0 => Some(1 << self.0),
            _ => None,
        }
    }
}

/// The orders of both rings of a vchan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    left: Order,
    right: Order,
}

impl Orders {
    /// The orders of the rings from the client to the server and from the server to the client.
    ///
    /// `None` for a pair that does not fit into the shared page: two rings at one place in it, or a list of references that
    /// runs into a ring, as for 10 and 20.
    ///
    /// ```
    /// use xen9p::transport::vchan::Orders;
    ///
    /// assert!(Orders::new(10, 11).is_some());
    /// assert!(Orders::new(11, 11).is_none());
    /// assert!(Orders::new(11, 20).is_some());
    /// assert!(Orders::new(10, 20).is_none());
    /// ```
    pub const fn new(left: u8, right: u8) -> Option<Orders> {
        let (Some(left), Some(right)) = (Order::new(left), Order::new(right)) else {
            return None;
        };
        let orders = Orders { left, right };
        let first = match (left.in_page(), right.in_page()) {
            (Some(left), Some(right)) if left == right => return None,
            (Some(left), Some(right)) if left > right => right,
            (Some(place), _) | (None, Some(place)) => place,
            (None, None) => PAGE_SIZE,
        };
        match REFS + orders.pages() * size_of::<u32>() <= first {
            true => Some(orders),
            false => None,
        }
    }

    /// Of the ring from the client to the server.
    pub const fn left(self) -> Order {
        self.left
    }

    /// Of the ring from the server to the client.
    pub const fn right(self) -> Order {
        self.right
    }

    /// Pages besides the shared one.
    pub const fn pages(self) -> usize {
        self.left.pages() + self.right.pages()
    }
}

impl Default for Orders {
    /// 64 KiB each way.
    fn default() -> Self {
        Orders {
            left: Order::DEFAULT,
            right: Order::DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_pairs_are_those_that_fit() {
        let mut legal = 0;
        for (left, right) in (0..=40).flat_map(|left| (0..=40).map(move |right| (left, right))) {
            let fits = Orders::new(left, right).is_some();
            let expected = match (left.min(right), left.max(right)) {
                (10, high) => (11..=19).contains(&high),
                (11, high) => (12..=20).contains(&high),
                (low, high) => low >= 12 && high <= 20,
            };
            assert_eq!(fits, expected, "{left}, {right}");
            legal += usize::from(fits);
        }
        assert_eq!(legal, 2 * 9 + 2 * 9 + 9 * 9);
    }

    #[test]
    fn the_layout_is_that_of_libxenvchan() {
        assert_eq!(
            (LEFT.cons, LEFT.prod, RIGHT.cons, RIGHT.prod),
            (0, 4, 8, 12)
        );
        assert_eq!((LEFT_ORDER, RIGHT_ORDER, REFS), (16, 18, 24));
        assert_eq!([Side::Client.live(), Side::Server.live()], [20, 21]);
        assert_eq!([Side::Client.notify(), Side::Server.notify()], [22, 23]);
    }
}
