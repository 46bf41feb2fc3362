//! Pages of another domain are mapped for reading and writing, are let go of when their handle is dropped, and their
//! addresses are not used again before Xen has unmapped them; in PV and in PVH domains.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::PAGE_SIZE;
use xen9p::sys;
use xen9p::xen::grant::{GrantRef, GrantStatus, Grants, Limits, MapError};
use xen9p_testing::fake::{FakePlatform, FakeXen};

const OWNER: DomId = DomId(1);
const GUEST: DomId = DomId(2);

struct Bed {
    xen: FakeXen,
    owner: Grants<FakePlatform>,
    guest: Grants<FakePlatform>,
}

/// Two domains, the second of which maps what the first grants.
fn beds() -> [Bed; 2] {
    [false, true].map(|pv| {
        let xen = FakeXen::new();
        let owner = Grants::new(xen.add_domain(OWNER)).unwrap();
        let guest = Grants::new(xen.add_domain(GUEST)).unwrap();
        if pv {
            xen.make_pv(GUEST);
        }
        Bed { xen, owner, guest }
    })
}

fn pages(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[test]
fn mapped_pages_are_the_owners_in_order() {
    for Bed { xen, owner, guest } in beds() {
        // More than one hypercall's worth.
        let shared = owner.share(pages(67), GUEST).unwrap();
        let mapped = guest.map(OWNER, shared.refs()).unwrap();
        assert_eq!(mapped.size(), 67 * PAGE_SIZE);
        for index in 0..67 {
            let at = index * PAGE_SIZE + 8;
            let (ours, theirs) = (shared.memory(), mapped.memory());
            ours.word::<u32>(at).store(index as u32, Ordering::Relaxed);
            assert_eq!(theirs.word::<u32>(at).load(Ordering::Relaxed), index as u32);
            theirs.word::<u32>(at).store(7, Ordering::Relaxed);
            assert_eq!(ours.word::<u32>(at).load(Ordering::Relaxed), 7);
        }
        let counters = guest.counters();
        assert_eq!(
            (counters.mapped_pages, counters.total_mapped_pages),
            (67, 67)
        );
        // The owner can't have them back as long.
        assert!(!shared.revoke());
        drop(mapped);
        assert_eq!(owner.drain(), 0);
        assert_eq!(guest.counters().mapped_pages, 0);
        assert_eq!(xen.usage(OWNER).grants, 0);
    }
}

#[test]
fn one_reference_that_is_refused_leaves_nothing_mapped() {
    for Bed { xen, owner, guest } in beds() {
        let shared = owner.share(pages(40), GUEST).unwrap();
        let stranger = owner.share(pages(1), DomId(0)).unwrap();
        for (reference, status) in [
            (stranger.refs()[0].0, sys::GNTST_general_error),
            (511, sys::GNTST_general_error),
            (100_000, sys::GNTST_bad_gntref),
        ] {
            let reference = GrantRef(reference);
            let mut refs = shared.refs().to_vec();
            refs[35] = reference;
            let refused = guest.map(OWNER, &refs).map(drop).unwrap_err();
            assert_eq!(refused, MapError::Refused(reference, GrantStatus(status)));
            assert!(refused.to_string().contains(&reference.to_string()));
            assert_eq!(guest.counters().mapped_pages, 0);
        }
        let refs = shared.refs();
        let refused = guest.map(DomId(9), refs).map(drop);
        let status = GrantStatus(sys::GNTST_bad_domain);
        assert_eq!(refused, Err(MapError::Refused(refs[0], status)));
        for own in [GUEST, DomId::SELF] {
            assert_eq!(guest.map(own, refs).map(drop), Err(MapError::Own));
        }
        assert_eq!(guest.map(OWNER, &[]).map(drop), Err(MapError::NoWindow(0)));
        // Nothing of it is in the way of this.
        assert!(shared.revoke());
        drop(stranger);
        assert_eq!(xen.usage(OWNER).grants, 0);
    }
}

#[test]
fn limits_are_errors() {
    for Bed { xen, owner, guest } in beds() {
        let shared = owner.share(pages(6), GUEST).unwrap();
        guest.set_limits(Limits {
            mapped: 8,
            ..Limits::default()
        });
        let first = guest.map(OWNER, shared.refs()).unwrap();
        assert_eq!(
            guest.map(OWNER, shared.refs()).map(drop),
            Err(MapError::Limit(6))
        );
        // The same page twice is no fault.
        let again = guest.map(OWNER, &shared.refs()[..2]).unwrap();
        drop((first, again));
        xen.limit_maps(GUEST, 5);
        let refused = guest.map(OWNER, shared.refs()).map(drop);
        let status = GrantStatus(sys::GNTST_no_space);
        assert_eq!(refused, Err(MapError::Refused(shared.refs()[5], status)));
        drop(guest.map(OWNER, &shared.refs()[..5]).unwrap());
        assert!(shared.revoke());
    }
}

/// In a PVH domain Xen would destroy who maps a page where another is: the simulated one panics.
#[test]
fn an_address_is_not_used_again_before_xen_has_unmapped_it() {
    for Bed { xen, owner, guest } in beds() {
        let shared = owner.share(pages(3), GUEST).unwrap();
        let mapped = guest.map(OWNER, shared.refs()).unwrap();
        let unmap = (
            sys::__HYPERVISOR_grant_table_op,
            sys::GNTTABOP_unmap_grant_ref,
        );
        for _ in 0..2 {
            xen.fail_hypercall(unmap.0, unmap.1, 0, XenError::EFAULT);
        }
        drop(mapped);
        let counters = guest.counters();
        assert_eq!((counters.mapped_pages, counters.stuck_pages), (0, 3));
        // This tries to unmap the first ones once more, in vain, and takes other addresses.
        let other = guest.map(OWNER, &shared.refs()[..1]).unwrap();
        assert_eq!(guest.counters().stuck_pages, 3);
        drop(other);
        guest.drain();
        assert_eq!(guest.counters().stuck_pages, 0);
        assert!(shared.revoke());
    }
}

#[test]
fn the_dead_keep_their_pages_until_the_last_is_unmapped() {
    for Bed { xen, owner, guest } in beds() {
        let shared = owner.share(pages(2), GUEST).unwrap();
        let mapped = guest.map(OWNER, shared.refs()).unwrap();
        shared.memory().word::<u8>(0).store(9, Ordering::Relaxed);
        std::mem::forget((owner, shared));
        xen.destroy(OWNER);
        assert!(xen.is_zombie(OWNER));
        assert_eq!(mapped.memory().word::<u8>(0).load(Ordering::Relaxed), 9);
        drop(mapped);
        assert!(!xen.is_zombie(OWNER));
    }
}
