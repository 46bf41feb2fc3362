//! Memory may end at any allocation of a mount, of files, nodes and attributes, of calls that are started, and while a lost
//! backend is looked for: each call returns a defined error, and everything works when there is memory again.

mod kernel;

use kernel::memory::{self, Way, inside};
use kernel::{GUEST, World, last_error, turn};
use xen9p_capi::*;

/// Has memory end everywhere in this work; returns at how many places there was none.
fn everywhere(world: &World, way: Way, lose: &dyn Fn()) -> usize {
    let before = world.fake.usage(GUEST);
    // SAFETY: the callbacks keep their promises, for as long as the kernel lives.
    let points = unsafe {
        assert_eq!(inside(|| xen9p_init(&world.callbacks())), 0);
        memory::end_everywhere(way, lose)
    };
    assert_eq!(inside(|| xen9p_exit()), 0);
    assert_eq!(world.fake.usage(GUEST), before);
    points
}

#[test]
fn it_may_end_anywhere() {
    let _turn = turn();
    for is_started in [false, true] {
        let way = Way {
            is_started,
            recovery: 0,
            cache: 0,
        };
        let points = everywhere(&World::new(), way, &|| ());
        assert!(points > 100, "{points}");
    }
}

#[test]
fn it_may_end_while_a_lost_backend_is_looked_for() {
    let _turn = turn();
    let world = World::new();
    let lose = || {
        memory::outside(|| {
            world.share.borrow_mut().kill();
            world.share.borrow_mut().restart();
        });
    };
    let way = Way {
        is_started: false,
        recovery: 30,
        cache: 0,
    };
    let points = everywhere(&world, way, &lose);
    assert!(points > 100, "{points}");
}

#[cfg(feature = "cache")]
#[test]
fn it_may_end_where_a_cache_has_the_rest() {
    let _turn = turn();
    let way = Way {
        is_started: false,
        recovery: 0,
        cache: 1 << 20,
    };
    let points = everywhere(&World::new(), way, &|| ());
    assert!(points > 100, "{points}");
}

#[test]
fn what_is_refused_for_want_of_memory_is_told_with_its_path() {
    let _turn = turn();
    let world = World::new();
    let mut stat = xen9p_stat::default();
    // SAFETY: all pointers are valid; the callbacks keep their promises.
    unsafe {
        assert_eq!(inside(|| xen9p_init(&world.callbacks())), 0);
        // There is no reserve before the first call.
        memory::leave(0);
        let refused = inside(|| xen9p_stat(7, c"/a".as_ptr(), 0, &mut stat, std::ptr::null_mut()));
        memory::leave(usize::MAX);
        assert_eq!(refused, -12);
        assert_eq!(last_error(), "stat \"/a\": Cannot allocate memory (ENOMEM)");
        assert_eq!(inside(|| xen9p_exit()), 0);
    }
}
