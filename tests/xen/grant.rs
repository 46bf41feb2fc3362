//! Shared pages are empty, only the peer can map them, and they come back zeroed, or wait in quarantine until the peer
//! lets go.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;
use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::{InUse, PAGE_SIZE, Platform, Resource};
use xen9p::time::Instant;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::grant::{Counters, GrantError, Grants, Limits, SharedPages};
use xen9p_testing::fake::{FakePlatform, FakeXen, MapError, MappedGrant, Peer};

const GUEST: DomId = DomId(1);

fn guest() -> (FakeXen, Grants<FakePlatform>) {
    let xen = FakeXen::new();
    let grants = Grants::new(xen.add_domain(GUEST)).unwrap();
    (xen, grants)
}

fn pages(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn map(xen: &FakeXen, shared: &SharedPages<FakePlatform>, index: usize) -> MappedGrant {
    let reference = shared.refs()[index];
    let mapped = xen.dom0().map_grant(GUEST, reference.0, true);
    mapped.unwrap()
}

/// Writes to shared memory as a driver would.
fn write(shared: &SharedPages<FakePlatform>, offset: usize, byte: u8) {
    assert!(offset < shared.size());
    // SAFETY: inside the shared pages, by raw pointer.
    unsafe { shared.as_ptr().add(offset).write_volatile(byte) };
}

#[test]
fn shared_pages_are_empty_and_the_same_on_both_sides() {
    let (xen, grants) = guest();
    let shared = grants.share(pages(3), DomId(0)).unwrap();
    assert!(shared.refs().iter().all(|reference| reference.0 >= 8));
    for index in 0..3 {
        let mapped = map(&xen, &shared, index);
        let mut content = [1; PAGE_SIZE];
        mapped.read(0, &mut content);
        assert_eq!(content, [0; PAGE_SIZE]);
        write(&shared, index * PAGE_SIZE + 5, index as u8 + 1);
        mapped.read(0, &mut content[..6]);
        assert_eq!(content[..6], [0, 0, 0, 0, 0, index as u8 + 1]);
    }
}

#[test]
fn everything_comes_back_zeroed() {
    let (xen, grants) = guest();
    let before = xen.usage(GUEST);
    let shared = grants.share(pages(5), DomId(0)).unwrap();
    assert_eq!(xen.usage(GUEST).grants, 5);
    drop(map(&xen, &shared, 4));
    write(&shared, 4 * PAGE_SIZE, 0xaa);
    assert!(shared.revoke());
    assert_eq!(xen.usage(GUEST), before);
    assert_eq!(grants.counters(), Counters::default());
    assert_eq!(xen.dirty_frees(), 0);
}

#[test]
fn nobody_else_can_map_and_nobody_afterwards() {
    let (xen, grants) = guest();
    xen.add_domain(DomId(2));
    let shared = grants.share(pages(1), DomId(2)).unwrap();
    let reference = shared.refs()[0].0;
    let map = |domain| xen.domain(DomId(domain)).map_grant(GUEST, reference, true);
    assert_eq!(map(0).map(drop), Err(MapError::NotPermitted));
    assert!(map(2).is_ok());
    drop(shared);
    assert_eq!(map(2).map(drop), Err(MapError::NotPermitted));
}

#[test]
fn what_the_peer_holds_waits_in_quarantine_until_it_lets_go() {
    let (xen, grants) = guest();
    let shared = grants.share(pages(4), DomId(0)).unwrap();
    let refs = shared.refs().to_vec();
    let held = map(&xen, &shared, 1);
    assert!(!shared.revoke());
    let counters = grants.counters();
    assert_eq!(
        (counters.quarantined_pages, counters.quarantined_refs),
        (4, 1)
    );
    assert_eq!((counters.shared_pages, counters.used_refs), (0, 1));

    // The peer can still scribble on its page; what is shared next is something else.
    held.write(0, b"late");
    let next = grants.share(pages(8), DomId(0)).unwrap();
    assert!(!next.refs().contains(&refs[1]));
    for index in 0..8 {
        let mut start = [1; 4];
        map(&xen, &next, index).read(0, &mut start);
        assert_eq!(start, [0; 4]);
    }
    assert_eq!(grants.drain(), 4);
    drop(held);
    assert_eq!(grants.drain(), 0);
    drop(next);
    let mut expected = Counters::default();
    expected.total_quarantined_pages = 4;
    assert_eq!(grants.counters(), expected);
    assert_eq!((xen.usage(GUEST).pages, xen.dirty_frees()), (0, 0));
}

/// Lets go of a page when it is time, and says so by no event.
struct LateUnmap {
    held: Option<MappedGrant>,
    at: Instant,
}

impl Peer for LateUnmap {
    fn step(&mut self, fake: &FakeXen) -> bool {
        fake.now() >= self.at && self.held.take().is_some()
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.held.as_ref().map(|_| self.at)
    }
}

#[test]
fn a_kernel_that_ends_its_drivers_waits_for_what_is_still_mapped() {
    let timeout = Duration::from_secs(2);
    for lets_go in [true, false] {
        let fake = FakeXen::new();
        let xen = Xen::new(Events::new(fake.add_domain(GUEST))).unwrap();
        let before = fake.usage(GUEST);
        assert_eq!(xen.wait_until_unmapped(timeout), 0);
        let shared = xen.grants.share(pages(4), DomId(0)).unwrap();
        let begun = fake.now();
        let held = Some(map(&fake, &shared, 1));
        let at = begun + Duration::from_millis(if lets_go { 300 } else { 10_000 });
        fake.add_peer(LateUnmap { held, at });
        drop(shared);
        assert_eq!(
            xen.wait_until_unmapped(timeout),
            if lets_go { 0 } else { 4 }
        );
        let took = fake.now() - begun;
        match lets_go {
            true => assert!(took < Duration::from_millis(700), "{took:?}"),
            false => assert!(took < timeout * 2, "{took:?}"),
        }
        assert_eq!(fake.usage(GUEST) == before, lets_go);
    }
}

#[test]
fn quarantine_is_drained_by_the_next_one_who_shares() {
    let (xen, grants) = guest();
    let shared = grants.share(pages(1), DomId(0)).unwrap();
    let held = map(&xen, &shared, 0);
    drop(shared);
    drop(held);
    let _next = grants.share(pages(1), DomId(0)).unwrap();
    assert_eq!(grants.counters().quarantined_pages, 0);
}

#[test]
fn the_table_grows_and_says_when_it_cannot() {
    let (xen, grants) = guest();
    xen.limit_grant_frames(GUEST, 5);
    // Four rings of the largest kind, as the reference counts them: 2052 references, 5 frames.
    let shared = grants.share(pages(2052), DomId(0)).unwrap();
    let mut refs = shared.refs().to_vec();
    refs.sort_unstable();
    refs.dedup();
    assert_eq!(refs.len(), 2052);
    assert_eq!(map(&xen, &shared, 2051).load(0), 0);
    let refused = grants.share(pages(5 * 512 - 8 - 2052 + 1), DomId(0));
    assert_eq!(refused.map(drop), Err(GrantError::Table(XenError::ENOSPC)));
    assert_eq!(xen.usage(GUEST).pages, 2052);
    let _rest = grants.share(pages(5 * 512 - 8 - 2052), DomId(0)).unwrap();
}

#[test]
fn shortage_and_limits_are_errors_that_leave_nothing_behind() {
    let (xen, grants) = guest();
    let before = xen.usage(GUEST);
    xen.limit_pages(GUEST, 3);
    let refused = grants.share(pages(4), DomId(0));
    assert_eq!(refused.map(drop), Err(GrantError::NoMemory));
    xen.limit_pages(GUEST, 100);
    grants.set_limits(Limits {
        pages: 6,
        quarantine: 1,
        ..Limits::default()
    });
    let shared = grants.share(pages(4), DomId(0)).unwrap();
    let refused = grants.share(pages(3), DomId(0));
    assert_eq!(refused.map(drop), Err(GrantError::Limit(4)));
    let held = map(&xen, &shared, 0);
    drop(shared);
    let refused = grants.share(pages(1), DomId(0));
    assert_eq!(refused.map(drop), Err(GrantError::Quarantine(4)));
    drop(held);
    drop(grants.share(pages(1), DomId(0)).unwrap());
    assert_eq!(xen.usage(GUEST), before);
}

/// What one domain does not let go of is not held against another.
#[test]
fn each_domain_has_a_quarantine_of_its_own() {
    let (xen, grants) = guest();
    xen.add_domain(DomId(2));
    grants.set_limits(Limits {
        pages: 10,
        quarantine: 1,
        ..Limits::default()
    });
    let shared = grants.share(pages(4), DomId(2)).unwrap();
    let reference = shared.refs()[0].0;
    let held = xen.domain(DomId(2)).map_grant(GUEST, reference, true);
    drop(shared);
    let refused = grants.share(pages(1), DomId(2));
    assert_eq!(refused.map(drop), Err(GrantError::Quarantine(4)));
    drop(grants.share(pages(1), DomId(0)).unwrap());
    drop(held);
    drop(grants.share(pages(1), DomId(2)).unwrap());
}

#[test]
fn entries_that_somebody_left_behind_are_not_touched() {
    let (xen, grants) = guest();
    let frame = xen.platform(GUEST).grant_frame(0).unwrap();
    let entry = frame.cast::<u64>();
    // SAFETY: entry 9 of the table's first frame.
    unsafe { entry.add(9).write_volatile(1) };
    let shared = grants.share(pages(503), DomId(0)).unwrap();
    assert!(!shared.refs().iter().any(|reference| reference.0 == 9));
    // SAFETY: as above.
    assert_eq!(unsafe { entry.add(9).read_volatile() }, 1);
}

/// What may happen to shared pages.
#[derive(Clone, Debug)]
enum Step {
    Share(usize),
    Drop(usize),
    Map(usize, usize),
    Unmap(usize),
    Drain,
}

#[test]
fn a_domain_has_one_grant_table() {
    let (xen, grants) = guest();
    let second = || Grants::new(xen.platform(GUEST));
    let in_use = InUse(Resource::GrantTable);
    assert_eq!(second().map(drop), Err(in_use));
    assert!(in_use.to_string().contains("clone the `Grants`"));
    let shared = grants.share(pages(2), DomId(0)).unwrap();
    let mapped = map(&xen, &shared, 0);
    let held = shared.refs()[0];
    drop(grants);
    assert_eq!(second().map(drop), Err(in_use), "shared pages keep it");
    drop(shared);
    let grants = second().unwrap();
    // What is still mapped is not handed out, nor are its pages.
    let shared = grants.share(pages(500), DomId(0)).unwrap();
    assert!(!shared.refs().contains(&held));
    mapped.read(0, &mut [0; 8]);
    // Other domains have tables of their own.
    assert!(Grants::new(xen.add_domain(DomId(2))).is_ok());
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..20usize).prop_map(Step::Share),
        any::<usize>().prop_map(Step::Drop),
        any::<(usize, usize)>().prop_map(|(block, page)| Step::Map(block, page)),
        any::<usize>().prop_map(Step::Unmap),
        Just(Step::Drain),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever the order: a mapped page keeps what its peer wrote to it (so it has no other user),
    /// and in the end everything is back. The simulation itself checks that no page is freed
    /// while it is granted.
    #[test]
    fn pages_are_never_in_two_hands(steps in steps()) {
        let (xen, grants) = guest();
        let mut blocks: Vec<SharedPages<FakePlatform>> = Vec::new();
        let mut maps: Vec<(MappedGrant, u32)> = Vec::new();
        let mut mark = 0;
        for step in steps {
            match step {
                Step::Share(count) => {
                    let shared = grants.share(pages(count), DomId(0)).unwrap();
                    for index in 0..count {
                        prop_assert_eq!(map(&xen, &shared, index).load(0), 0);
                    }
                    blocks.push(shared);
                }
                Step::Drop(index) if !blocks.is_empty() => {
                    let index = index % blocks.len();
                    drop(blocks.swap_remove(index));
                }
                Step::Map(block, page) if !blocks.is_empty() => {
                    let block = &blocks[block % blocks.len()];
                    let index = page % block.count().get();
                    let mapped = map(&xen, block, index);
                    // One mark per page: mapping it twice must not look like two owners.
                    if mapped.load(0) == 0 {
                        mark += 1;
                        mapped.store(0, mark);
                        maps.push((mapped, mark));
                    }
                }
                Step::Unmap(index) if !maps.is_empty() => {
                    let index = index % maps.len();
                    drop(maps.swap_remove(index));
                }
                Step::Drain => {
                    grants.drain();
                }
                _ => {}
            }
            for (mapped, mark) in &maps {
                prop_assert_eq!(mapped.load(0), *mark);
            }
            let counters = grants.counters();
            let usage = xen.usage(GUEST);
            prop_assert_eq!(counters.shared_pages + counters.quarantined_pages, usage.pages);
            prop_assert_eq!(counters.used_refs, usage.grants);
        }
        blocks.clear();
        maps.clear();
        prop_assert_eq!(grants.drain(), 0);
        prop_assert_eq!(grants.counters().used_refs, 0);
        prop_assert_eq!(xen.usage(GUEST).pages, 0);
        prop_assert_eq!(xen.dirty_frees(), 0);
    }
}
