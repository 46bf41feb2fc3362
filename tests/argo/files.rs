//! Files work over Argo, with rings of any size, one connection after the other; and nothing is left behind.

use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::sys;
use xen9p_testing::random::content;

use crate::common::{Bed, CLIENT, PORT, SERVER};

#[test]
fn files_of_any_size_with_messages_of_any_size() {
    for max in [4096, 5000, 8192, 65_536, 128 << 10] {
        let bed = Bed::new(max);
        let fs = bed.mount();
        assert!(fs.msize() <= max);
        for len in [0, 1, 4096, 100_000, 300_077] {
            let content = content(len);
            fs.write("/file", &content).unwrap();
            assert!(fs.read("/file").unwrap() == content, "{max}: {len}");
        }
        fs.create_dir("/dir").unwrap();
        fs.rename("/file", "/dir/file").unwrap();
        assert_eq!(fs.metadata("/dir/file").unwrap().len(), 300_077);
        fs.unmount().unwrap();
    }
}

#[test]
fn each_connection_is_a_new_one_and_leaves_nothing() {
    let bed = Bed::new(16_384);
    let usage = |id: DomId| (bed.fake.usage(id), bed.fake.argo_rings(id));
    bed.fake.settle();
    let before = [CLIENT, SERVER].map(usage);
    let mut ports = Vec::new();
    for round in 0..5 {
        let fs = bed.mount();
        fs.write("/round", format!("{round}")).unwrap();
        ports.extend(bed.fake.argo_rings(CLIENT));
        fs.unmount().unwrap();
        bed.fake.settle();
        assert!(!bed.serving.borrow().export.is_connected());
        assert_eq!([CLIENT, SERVER].map(usage), before);
    }
    ports.dedup();
    assert_eq!(ports.len(), 5, "each has a port of its own");
    assert_eq!(bed.fake.argo_rings(SERVER), [PORT]);
}

#[test]
fn a_message_is_one_hypercall_and_senders_are_woken_only_where_one_may_wait() {
    let bed = Bed::new(128 << 10);
    let fs = bed.mount();
    fs.write("/file", content(4096)).unwrap();
    let file = fs.open("/file").unwrap();
    let made = |op| {
        let calls = bed.fake.hypercalls(CLIENT);
        *calls.get(&(sys::__HYPERVISOR_argo_op, op)).unwrap_or(&0)
    };
    let ops = [sys::XEN_ARGO_OP_sendv, sys::XEN_ARGO_OP_notify];
    let before = ops.map(made);
    let mut buffer = [0; 4096];
    for _ in 0..100 {
        file.read_exact_at(&mut buffer, 0).unwrap();
    }
    let after = ops.map(made);
    assert_eq!(after[0] - before[0], 100);
    assert!(after[1] - before[1] <= 50, "{before:?} {after:?}");
}

#[test]
fn bulk_waits_for_no_clock() {
    for max in [4096, 8192, 128 << 10] {
        let bed = Bed::new(max);
        let fs = bed.mount();
        let content = content(3 << 20);
        let begun = bed.fake.now();
        fs.write("/large", &content).unwrap();
        assert!(fs.read("/large").unwrap() == content);
        // Each wait ended by an event: by the clock it would have taken a second.
        let took = bed.fake.now() - begun;
        assert!(took < Duration::from_millis(100), "{max}: {took:?}");
    }
}
