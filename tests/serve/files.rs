//! Files work through a backend in a domain: at every order and number of rings, in PV and in PVH domains, one connection after
//! the other, and for several frontends with a tree each; and nothing is left behind.

use xen9p::errno::Errno;
use xen9p::server::Limits;
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::backend::Rings;
use xen9p::xen::xenbus::XenbusState::*;
use xen9p_testing::random::content;

use crate::common::{BACKEND, Bed, FRONTEND, OTHER, config, connect, domain, mount};

#[test]
fn files_of_any_size_over_rings_of_any_order() {
    for order in 2..=9 {
        for (index, rings) in [1, 3, 8].into_iter().enumerate() {
            let bed = Bed::offering(Rings::new(8, 9).unwrap(), Limits::default());
            let xen = domain(&bed.fake, FRONTEND);
            if (usize::from(order) + index).is_multiple_of(2) {
                bed.fake.make_pv(FRONTEND);
            } else {
                bed.fake.make_pv(BACKEND);
            }
            bed.plug(FRONTEND, 0, "/srv");
            let fs = mount(&xen, &config(rings, order));
            let msize = fs.msize() as usize;
            for len in [0, 1, 4096, msize - 25, msize - 24, msize, 5 * msize + 77] {
                let content = content(len);
                fs.write("/file", &content).unwrap();
                assert!(
                    fs.read("/file").unwrap() == content,
                    "order {order}, {rings} rings"
                );
            }
            fs.create_dir("/dir").unwrap();
            fs.rename("/file", "/dir/file").unwrap();
            assert_eq!(
                fs.metadata("/dir/file").unwrap().len(),
                5 * msize as u64 + 77
            );
            fs.unmount().unwrap();
        }
    }
}

#[test]
fn a_frontend_takes_no_more_than_it_is_offered() {
    let bed = Bed::offering(Rings::new(2, 4).unwrap(), Limits::default());
    let xen = domain(&bed.fake, FRONTEND);
    bed.plug(FRONTEND, 0, "/srv");
    let transport = connect(&xen, &config(8, 9));
    assert_eq!((transport.lanes(), transport.order().get()), (2, 4));
    assert_eq!(bed.mapped(), 2 * (1 + 16));
}

#[test]
fn each_connection_is_a_new_one_and_leaves_nothing() {
    let bed = Bed::new();
    let xen = domain(&bed.fake, FRONTEND);
    let device = bed.plug(FRONTEND, 0, "/srv");
    let frontend = bed.fake.usage(FRONTEND);
    for round in 0..5_u64 {
        let fs = mount(&xen, &config(2, 6));
        fs.write("/round", format!("{round}")).unwrap();
        let counters = bed.serving.borrow().xen.grants.counters();
        // Mapped once, and not for each transfer.
        assert_eq!(counters.mapped_pages, 2 * (1 + 64));
        assert_eq!(counters.total_mapped_pages, (round + 1) * 2 * (1 + 64));
        fs.unmount().unwrap();
        bed.is_at_rest(1);
        assert_eq!(bed.fake.usage(FRONTEND), frontend);
    }
    assert_eq!(bed.state(&device.back), Closed);
    assert_eq!(bed.fake.dirty_frees(), 0);
}

#[test]
fn each_frontend_gets_the_tree_that_it_is_to_have() {
    let bed = Bed::new();
    bed.other_tree.put("/motd", "read me").unwrap();
    let frontends = [FRONTEND, OTHER].map(|id| domain(&bed.fake, id));
    bed.plug(FRONTEND, 0, "/srv");
    bed.plug(OTHER, 0, "/other");
    let [first, second] = [0, 1].map(|index| mount(&frontends[index], &config(2, 4)));
    assert_eq!(bed.connections(), 2);
    first.write("/mine", "text").unwrap();
    assert_eq!(second.read_to_string("/motd").unwrap(), "read me");
    assert_eq!(second.metadata("/mine").unwrap_err().errno(), Errno::ENOENT);
    let refused = second.write("/mine", "text").unwrap_err();
    assert_eq!(refused.errno(), Errno::EROFS);
    second.unmount().unwrap();
    assert_eq!(first.read_to_string("/mine").unwrap(), "text");
}

#[test]
fn a_path_that_is_not_served_is_refused_with_the_reason() {
    let bed = Bed::new();
    let xen = domain(&bed.fake, FRONTEND);
    let device = bed.plug(FRONTEND, 0, "/etc");
    let share = xen9p::transport::xen9pfs::device(&xen, None).unwrap();
    let refused = xen9p::transport::xen9pfs::connect(&xen, share, &config(2, 4));
    assert!(refused.is_err());
    bed.reaches(&device.back, Closed);
    let why = format!("/local/domain/{BACKEND}/error/backend/9pfs/{FRONTEND}/0/error");
    assert_eq!(bed.fake.dom0().read_text(&why).unwrap(), "there is no /etc");
    bed.is_at_rest(1);
}

/// Requests that are sent together on all rings are answered, whatever order they are done in, and an event carries
/// more than one reply.
#[test]
fn rings_are_kept_busy() {
    let bed = Bed::new();
    let xen = domain(&bed.fake, FRONTEND);
    bed.plug(FRONTEND, 0, "/srv");
    let content = content(4 << 20);
    bed.tree.put("/large", &content).unwrap();
    let fs = mount(&xen, &config(4, 6));
    let sent = |bed: &Bed| bed.serving.borrow().xen.events.stats().sent;
    let file = fs.open("/large").unwrap();
    let before = sent(&bed);
    let mut read = vec![0; content.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == content);
    let messages = content.len() as u64 / u64::from(fs.msize() - 24);
    assert!(
        sent(&bed) - before <= messages + 4,
        "{} events",
        sent(&bed) - before
    );
    // One read is one request, one reply, and an event for each.
    let file = fs.open("/large").unwrap();
    let (ours, theirs) = (xen.events.stats().sent, sent(&bed));
    file.read_exact_at(&mut read[..4096], 1 << 20).unwrap();
    assert_eq!(
        (xen.events.stats().sent - ours, sent(&bed) - theirs),
        (1, 1)
    );
}
