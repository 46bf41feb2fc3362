//! Where Argo can't be used, who asks is told so at once, and why.

use xen9p::hypercall::{DomId, XenError};
use xen9p::transport::argo::{self, DialError, Listener};
use xen9p::xen::argo::{Argo, ArgoError, Support, probe};
use xen9p_testing::fake::FakeXen;

use crate::common::{Bed, CLIENT, PORT, SERVER, TIMEOUT, domain, machine};

#[test]
fn a_probe_has_four_answers() {
    let fake = FakeXen::new();
    let xen = domain(&fake, CLIENT);
    for (refusal, answer, word) in [
        (Some(XenError::ENOSYS), Support::NotBuilt, "CONFIG_ARGO"),
        (Some(XenError::EOPNOTSUPP), Support::Disabled, "argo=1"),
        (Some(XenError::ENODEV), Support::Refused, "this domain"),
        (Some(XenError::EPERM), Support::Refused, "this domain"),
        (None, Support::There, "has Argo"),
    ] {
        fake.refuse_argo(refusal);
        let found = probe(&xen.platform).unwrap();
        assert_eq!(found, answer);
        assert!(found.to_string().contains(word), "{found}");
        let own = Argo::new(&xen);
        match answer {
            Support::There => drop(own.unwrap()),
            answer => {
                let error = own.unwrap_err();
                assert_eq!(error, ArgoError::Unsupported(answer));
                assert!(error.to_string().starts_with("unsupported: "), "{error}");
            }
        }
    }
    fake.refuse_argo(Some(XenError::EFAULT));
    assert_eq!(probe(&xen.platform), Err(XenError::EFAULT));
    // Nothing was opened on the way.
    assert_eq!(xen.events.open_ports(), 1);
}

#[test]
fn a_domain_has_one_driver_of_argo() {
    let xen = domain(&machine(), CLIENT);
    let first = Argo::new(&xen).unwrap();
    assert_eq!(Argo::new(&xen).unwrap_err(), ArgoError::InUse);
    drop(first);
    Argo::new(&xen).unwrap();
}

#[test]
fn who_is_not_there_is_waited_for_and_told() {
    let fake = machine();
    let own = Argo::new(&domain(&fake, CLIENT)).unwrap();
    let begun = fake.now();
    for server in [SERVER, DomId(7)] {
        let error = argo::connect(&own, server, PORT, 8192, TIMEOUT).unwrap_err();
        assert_eq!(error, DialError::NotThere(TIMEOUT));
    }
    let took = fake.now() - begun;
    assert!(took >= TIMEOUT * 2 && took < TIMEOUT * 3, "{took:?}");
    let error = argo::connect(&own, CLIENT, PORT, 8192, TIMEOUT).unwrap_err();
    assert_eq!(error, DialError::Own);
    let listener = Listener::new(&own, CLIENT, PORT, 8192);
    assert_eq!(listener.unwrap_err(), DialError::Own);
    assert!(fake.argo_rings(CLIENT).is_empty());
}

#[test]
fn a_server_that_starts_late_is_found() {
    let bed = Bed::new(8192);
    bed.fake.remove_peers();
    let tree = bed.tree.clone();
    let server = bed.serving.borrow().xen.clone();
    let Bed {
        fake,
        client,
        serving,
        ..
    } = bed;
    drop(serving);
    assert!(fake.argo_rings(SERVER).is_empty());
    let late = crate::common::serve(&fake, server, &tree, 8192);
    let stream = argo::connect(&client, SERVER, PORT, 65_536, TIMEOUT).unwrap();
    assert!(stream.max_message() <= 8192 + 4096);
    drop((stream, late));
}

#[test]
fn a_ring_that_is_too_small_for_9p_is_told() {
    let fake = machine();
    let own = Argo::new(&domain(&fake, CLIENT)).unwrap();
    let other = Argo::new(&domain(&fake, SERVER)).unwrap();
    let ring = other.register(PORT, CLIENT, 1000).unwrap();
    let error = argo::connect(&own, SERVER, PORT, 8192, TIMEOUT).unwrap_err();
    assert!(matches!(error, DialError::Small(4000)), "{error:?}");
    drop(ring);
}
