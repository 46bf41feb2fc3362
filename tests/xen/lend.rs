//! Pages that are lent can be copied to and from as long as they are, by that domain alone, and by no reference of before.

use std::num::NonZeroUsize;

use xen9p::hypercall::DomId;
use xen9p::platform::PAGE_SIZE;
use xen9p::sys;
use xen9p::xen::grant::{CopyError, GrantError, GrantRef, Grants, Limits, OwnPages, Remote};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::random::content;

const OWNER: DomId = DomId(1);
const OTHER: DomId = DomId(2);

struct Bed {
    fake: FakeXen,
    owner: Grants<FakePlatform>,
    other: Grants<FakePlatform>,
}

fn bed() -> Bed {
    let fake = FakeXen::new();
    Bed {
        owner: Grants::new(fake.add_domain(OWNER)).unwrap(),
        other: Grants::new(fake.add_domain(OTHER)).unwrap(),
        fake,
    }
}

fn pages(grants: &Grants<FakePlatform>, bytes: &[u8]) -> OwnPages<FakePlatform> {
    let count = NonZeroUsize::new(bytes.len().div_ceil(PAGE_SIZE)).unwrap();
    let pages = grants.own_pages(count).unwrap();
    pages.memory().copy_in(0, bytes);
    pages
}

fn bytes(pages: &OwnPages<FakePlatform>) -> Vec<u8> {
    let mut bytes = vec![0; pages.size()];
    pages.memory().copy_out(0, &mut bytes);
    bytes
}

fn remote(refs: &[GrantRef], offset: usize) -> Remote<'_> {
    Remote {
        domain: OWNER,
        refs,
        offset,
    }
}

fn status(error: CopyError) -> i16 {
    match error {
        CopyError::Refused(_, status) => status.0,
        other => panic!("{other}"),
    }
}

fn copies(fake: &FakeXen) -> u64 {
    let calls = fake.hypercalls(OTHER);
    let copy = (sys::__HYPERVISOR_grant_table_op, sys::GNTTABOP_copy);
    calls.get(&copy).copied().unwrap_or(0)
}

#[test]
fn bytes_are_copied_however_they_lie_in_their_pages() {
    let bed = bed();
    let size = 40 * PAGE_SIZE;
    let there = pages(&bed.owner, &content(size));
    let lent = there.lend(OTHER).unwrap();
    let here = pages(&bed.other, &vec![0; size]);
    // (here, there, length, hypercalls)
    for (ours, theirs, len, calls) in [
        (0, 0, size, 1),
        (1, 1, 16 * PAGE_SIZE, 1),
        (1, 4095, 65536, 1),
        (100, 3000, 31 * PAGE_SIZE, 1),
        (100, 3000, 33 * PAGE_SIZE, 2),
        (4095, 4095, 2, 1),
        (7, 9, 0, 0),
    ] {
        let before = copies(&bed.fake);
        here.copy_from(ours..ours + len, remote(lent.refs(), theirs))
            .unwrap();
        assert!(bytes(&here)[ours..ours + len] == content(size)[theirs..theirs + len]);
        assert_eq!(copies(&bed.fake) - before, calls, "{ours} {theirs} {len}");
    }
    here.memory().copy_in(0, &vec![0xaa; size]);
    here.copy_to(5..9000, remote(lent.refs(), 4090)).unwrap();
    let expected = [
        &content(size)[..4090],
        &[0xaa; 8995],
        &content(size)[13085..],
    ]
    .concat();
    assert!(bytes(&there) == expected);
    let end = size;
    for (range, offset) in [
        (0..end + 1, 0),
        (1..end, 2),
        (end..end + 1, 0),
        (0..1, end),
        (0..1, usize::MAX),
    ] {
        let past = here.copy_from(range, remote(lent.refs(), offset));
        assert_eq!(past, Err(CopyError::OutOfBounds));
    }
}

#[test]
fn nothing_is_reached_by_a_reference_that_has_ended() {
    let bed = bed();
    let there = pages(&bed.owner, b"kept");
    let here = pages(&bed.other, b"mine");
    let lent = there.lend(OTHER).unwrap();
    let refs = lent.refs().to_vec();
    let retired = lent.end();
    let refused = |refs: &[GrantRef]| {
        let to = here.copy_to(0..4, remote(refs, 0)).unwrap_err();
        let from = here.copy_from(0..4, remote(refs, 0)).unwrap_err();
        assert_eq!(to, from);
        assert_eq!(bytes(&there)[..4], *b"kept");
        assert_eq!(bytes(&here)[..4], *b"mine");
        status(to)
    };
    assert_eq!(refused(&refs), sys::GNTST_general_error);
    assert_eq!(refused(&[GrantRef(100_000)]), sys::GNTST_bad_gntref);
    let nowhere = Remote {
        domain: DomId(77),
        refs: &refs,
        offset: 0,
    };
    let error = here.copy_from(0..4, nowhere).unwrap_err();
    assert_eq!(status(error), sys::GNTST_bad_domain);
    // Nothing else is reached by its number, as long as the other side may still have it.
    let others: Vec<_> = (0..700)
        .map(|_| {
            let next = pages(&bed.owner, b"next");
            let lent = next.lend(OTHER).unwrap();
            assert!(!lent.refs().contains(&refs[0]));
            (next, lent)
        })
        .collect();
    assert_eq!(refused(&refs), sys::GNTST_general_error);
    drop(others);
    retired.forgotten();
    let again = there.lend(OTHER).unwrap();
    assert_eq!(again.refs(), refs, "it is the next one then");
    here.copy_from(0..4, remote(&refs, 0)).unwrap();
    // Who does not say that it has forgotten it finds it used again last of all.
    drop(again);
    let next = pages(&bed.owner, b"next");
    let all: Vec<_> = (0..400).map(|_| next.lend(OTHER).unwrap()).collect();
    assert!(all.iter().all(|lent| !lent.refs().contains(&refs[0])));
}

#[test]
fn pages_are_lent_to_several_domains_each_for_itself() {
    let bed = bed();
    let third = Grants::new(bed.fake.add_domain(DomId(3))).unwrap();
    let there = pages(&bed.owner, b"both");
    let [second, other] = [OTHER, DomId(3)].map(|id| there.lend(id).unwrap());
    let (here, elsewhere) = (pages(&bed.other, b"...."), pages(&third, b"...."));
    // Each by its own reference alone.
    assert!(here.copy_from(0..4, remote(other.refs(), 0)).is_err());
    assert!(elsewhere.copy_from(0..4, remote(second.refs(), 0)).is_err());
    drop(second.end());
    assert_eq!(bytes(&here)[..4], *b"....");
    elsewhere.copy_from(0..4, remote(other.refs(), 0)).unwrap();
    assert_eq!(bytes(&elsewhere)[..4], *b"both");
}

/// The stray references of 2010: a buffer that is handed back is not reached again, and a page that is mapped still is used for
/// nothing else.
#[test]
fn a_page_that_is_still_mapped_is_never_used_again() {
    let bed = bed();
    let there = pages(&bed.owner, b"lent");
    let lent = there.lend(OTHER).unwrap();
    let mapped = bed
        .fake
        .domain(OTHER)
        .map_grant(OWNER, lent.refs()[0].0, true)
        .unwrap();
    let refs = lent.refs().to_vec();
    // To end it waits for nothing.
    drop(lent.end());
    assert!(there.is_held());
    drop(there);
    let counters = bed.owner.counters();
    assert_eq!(
        (counters.quarantined_pages, counters.quarantined_refs),
        (1, 1)
    );
    mapped.write(0, b"late");
    for _ in 0..700 {
        let next = pages(&bed.owner, b"next");
        let lent = next.lend(DomId(0)).unwrap();
        assert!(!lent.refs().contains(&refs[0]));
        mapped.write(0, b"late");
        assert_eq!(bytes(&next)[..4], *b"next");
    }
    drop(mapped);
    assert_eq!(bed.owner.drain(), 0);
    assert_eq!(bed.fake.usage(OWNER).pages, 0);
    assert_eq!(bed.fake.dirty_frees(), 0);
}

#[test]
fn pages_that_were_held_can_be_lent_when_they_are_let_go_of() {
    let bed = bed();
    let there = pages(&bed.owner, b"lent");
    let lent = there.lend(OTHER).unwrap();
    let mapped = bed
        .fake
        .domain(OTHER)
        .map_grant(OWNER, lent.refs()[0].0, false)
        .unwrap();
    drop(lent.end());
    assert!(there.is_held());
    drop(mapped);
    assert!(!there.is_held());
    drop(there);
    let counters = bed.owner.counters();
    assert_eq!((counters.used_refs, counters.quarantined_pages), (0, 0));
    assert_eq!(
        (bed.fake.usage(OWNER).pages, bed.fake.usage(OWNER).grants),
        (0, 0)
    );
}

#[test]
fn limits_and_shortage_leave_nothing_behind() {
    let bed = bed();
    bed.owner.set_limits(Limits {
        pages: 4,
        ..Limits::default()
    });
    let some = pages(&bed.owner, &[1; 3 * PAGE_SIZE]);
    let more = bed.owner.own_pages(NonZeroUsize::new(2).unwrap());
    assert_eq!(more.map(drop), Err(GrantError::Limit(3)));
    bed.fake.limit_grant_frames(OWNER, 0);
    assert!(matches!(
        some.lend(OTHER).map(drop),
        Err(GrantError::Table(_))
    ));
    bed.fake.limit_grant_frames(OWNER, 1);
    let lent = some.lend(OTHER).unwrap();
    assert_eq!(bed.owner.counters().used_refs, 3);
    drop(some);
    assert_eq!(bed.fake.usage(OWNER).pages, 3, "what is lent keeps them");
    drop(lent);
    let counters = bed.owner.counters();
    assert_eq!((counters.shared_pages, counters.used_refs), (0, 0));
    assert_eq!(bed.fake.usage(OWNER).pages, 0);
}
