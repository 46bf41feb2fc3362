//! Files work over vchans: at every legal pair of orders, in the shared page and beside it, in PV and in PVH domains, one
//! connection after the other; and nothing is left behind.

use xen9p_testing::random::content;

use crate::common::{Bed, CLIENT, SERVER, orders};

/// Every pair of which one is in the page, and some of the others.
fn pairs() -> Vec<(u8, u8)> {
    let in_page = [10, 11].into_iter().flat_map(|low| {
        let most = if low == 10 { 19 } else { 20 };
        (low + 1..=most).flat_map(move |high| [(low, high), (high, low)])
    });
    in_page
        .chain([(12, 12), (12, 20), (20, 12), (13, 16), (20, 20)])
        .collect()
}

#[test]
fn files_of_any_size_over_rings_of_any_order() {
    for (index, (left, right)) in pairs().into_iter().enumerate() {
        let bed = Bed::new(orders(left, right), [index & 1 != 0, index & 2 != 0]);
        let fs = bed.mount();
        for len in [0, 1, 4096, 100_000, 300_077] {
            let content = content(len);
            fs.write("/file", &content).unwrap();
            assert!(
                fs.read("/file").unwrap() == content,
                "orders {left} and {right}"
            );
        }
        fs.create_dir("/dir").unwrap();
        fs.rename("/file", "/dir/file").unwrap();
        assert_eq!(fs.metadata("/dir/file").unwrap().len(), 300_077);
        fs.unmount().unwrap();
    }
}

#[test]
fn each_connection_is_a_new_one_and_leaves_nothing() {
    for pv in [[false; 2], [true; 2]] {
        let bed = Bed::new(orders(12, 13), pv);
        let usage = |bed: &Bed| [CLIENT, SERVER].map(|id| bed.fake.usage(id));
        let mut seen = Vec::new();
        let mut between = None;
        for round in 0..5 {
            let fs = bed.mount();
            fs.write("/round", format!("{round}")).unwrap();
            let path = bed.serving.borrow().export.path().to_owned();
            let node = |name| {
                bed.fake
                    .dom0()
                    .read_text(&format!("{path}/{name}"))
                    .unwrap()
            };
            seen.push((node("ring-ref"), node("event-channel")));
            fs.unmount().unwrap();
            bed.fake.settle();
            // The next one is published by now; the client has nothing.
            let now = usage(&bed);
            assert_eq!(*between.get_or_insert(now), now);
        }
        assert_eq!(bed.client.grants.counters().mapped_pages, 0);
        assert_eq!(
            bed.client.grants.counters().total_mapped_pages,
            5 * (1 + 1 + 2)
        );
        assert_eq!(bed.fake.dirty_frees(), 0);
    }
}

#[test]
fn pages_are_mapped_once_and_not_for_each_transfer() {
    let bed = Bed::new(orders(16, 16), [false; 2]);
    let fs = bed.mount();
    let mapped = bed.client.grants.counters().total_mapped_pages;
    assert_eq!(mapped, 1 + 16 + 16);
    let content = content(3 << 20);
    fs.write("/large", &content).unwrap();
    assert!(fs.read("/large").unwrap() == content);
    assert_eq!(bed.client.grants.counters().total_mapped_pages, mapped);
}
