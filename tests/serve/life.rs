//! Devices come and go, in the order in which xl takes them away, in others, and in the middle of a transfer: the frontend's pages
//! are given back in time, no domain becomes a zombie, and the directory that xl waits for is removed.

use std::time::Duration;

use xen9p::fs::Error;
use xen9p::hypercall::sched::{self, SuspendReturn};
use xen9p::platform::Frame;
use xen9p::transport::TransportError;
use xen9p::xen::xenbus::XenbusState::*;
use xen9p_testing::random::content;

use crate::common::{BACKEND, Bed, Device, Drivers, FRONTEND, SOON, config, domain, mount};

fn bed() -> (Bed, Drivers, Device) {
    let bed = Bed::new();
    let xen = domain(&bed.fake, FRONTEND);
    let device = bed.plug(FRONTEND, 0, "/srv");
    (bed, xen, device)
}

/// xl writes our state, as it does when the guest is paused or has stopped, and waits for the directory to go.
#[test]
fn a_guest_that_xl_destroys_is_let_go_of_in_time() {
    for is_busy in [false, true] {
        let (bed, xen, device) = bed();
        let fs = mount(&xen, &config(4, 6));
        fs.write("/file", content(1 << 20)).unwrap();
        if is_busy {
            // A request that is on its way when the domain is stopped.
            let file = fs.open("/file").unwrap();
            let mut buffer = vec![0; 1 << 20];
            fs.interrupt().set();
            let _ = file.read_at(&mut buffer, 0);
            std::mem::forget(file);
        }
        bed.fake
            .dom0()
            .write(&format!("{}/state", device.back), "6");
        bed.fake.run_for(Duration::from_millis(100));
        assert!(!bed.is_there(&device.back), "xl waits for that");
        bed.is_at_rest(0);
        std::mem::forget((fs, xen.clone()));
        bed.fake.destroy(FRONTEND);
        assert!(!bed.fake.is_zombie(FRONTEND));
    }
}

/// The other way in which xl takes a device away.
#[test]
fn a_device_that_is_unplugged_is_let_go_of_in_time() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", "text").unwrap();
    let dom0 = bed.fake.dom0();
    dom0.write(&format!("{}/online", device.back), "0");
    dom0.write(&format!("{}/state", device.back), "5");
    bed.fake.run_for(Duration::from_secs(5));
    assert!(!bed.is_there(&device.back));
    bed.is_at_rest(0);
    drop(fs);
}

/// A guest that closes its device and stops: xl finds a state that it can change, and is heard.
#[test]
fn a_guest_that_stops_in_good_order_is_let_go_of_in_time() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.unmount().unwrap();
    assert_eq!(bed.state(&device.front), Closed);
    bed.fake.run_for(Duration::from_millis(1900));
    assert_eq!(bed.state(&device.back), InitWait);
    bed.fake
        .dom0()
        .write(&format!("{}/state", device.back), "6");
    bed.fake.run_for(Duration::from_millis(100));
    assert!(!bed.is_there(&device.back));
    bed.is_at_rest(0);
}

/// A guest that closes its device and opens it again, at once or later, as another kernel does.
#[test]
fn a_frontend_comes_again_whenever_it_likes() {
    let (bed, xen, _) = bed();
    for millis in [0, 10, 900, 1100, 60_000] {
        let fs = mount(&xen, &config(2, 4));
        fs.write("/file", "text").unwrap();
        fs.unmount().unwrap();
        bed.fake.run_for(Duration::from_millis(millis));
    }
    bed.is_at_rest(1);
}

/// No toolstack takes anything away: the domain is gone, or its directory is, or its port.
#[test]
fn a_frontend_that_dies_is_noticed_soon_and_leaves_no_zombie() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", content(1 << 20)).unwrap();
    std::mem::forget((fs, xen.clone()));
    bed.fake.destroy(FRONTEND);
    assert!(bed.fake.is_zombie(FRONTEND));
    bed.fake.run_for(SOON);
    assert!(!bed.fake.is_zombie(FRONTEND));
    assert!(!bed.is_there(&device.back));
    bed.is_at_rest(0);
}

#[test]
fn a_directory_of_the_frontend_that_vanishes_ends_the_connection() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", "text").unwrap();
    bed.fake.dom0().rm(&device.front);
    bed.fake.run_for(Duration::from_millis(100));
    assert_eq!(bed.mapped(), 0);
    bed.is_at_rest(0);
    drop(fs);
}

#[test]
fn a_directory_of_the_backend_that_vanishes_ends_the_connection() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    bed.fake.dom0().rm(&device.back);
    bed.fake.run_for(Duration::from_millis(100));
    assert_eq!(bed.mapped(), 0);
    bed.is_at_rest(0);
    drop(fs);
}

/// The backend's domain is destroyed: its frontend is told, and the domain is gone.
#[test]
fn a_backend_that_dies_is_noticed() {
    let (bed, xen, _) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", "text").unwrap();
    let file = fs.open("/file").unwrap();
    let Bed { fake, serving, .. } = bed;
    fake.remove_peers();
    std::mem::forget(serving);
    fake.destroy(BACKEND);
    let lost = file.read(&mut [0; 4]).unwrap_err();
    assert!(
        matches!(lost, Error::Transport(TransportError::Lost(_))),
        "{lost}"
    );
    drop((file, fs));
    assert_eq!(xen.grants.drain(), 0);
    assert!(!fake.is_zombie(BACKEND));
    std::mem::forget(xen);
    fake.destroy(FRONTEND);
    assert!(!fake.is_zombie(FRONTEND));
}

/// A program that ends its backend gives everything back, and says so.
#[test]
fn a_backend_that_ends_closes_its_devices() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", "text").unwrap();
    bed.fake.remove_peers();
    let Bed { fake, serving, .. } = bed;
    drop(serving);
    let state = fake.dom0().read_text(&format!("{}/state", device.back));
    assert_eq!(state.as_deref(), Some("6"));
    assert!(fs.read("/file").is_err());
    drop(fs);
    assert_eq!(xen.grants.drain(), 0);
}

/// No mapping outlives a save. The frontend of a domain that goes on where it was is served again.
#[test]
fn a_save_of_the_backend_ends_its_connections() {
    let (bed, xen, device) = bed();
    let fs = mount(&xen, &config(4, 6));
    fs.write("/file", "text").unwrap();
    bed.fake.cancel_suspend(BACKEND);
    let server = bed.serving.borrow().xen.clone();
    let machine = || {
        // SAFETY: nothing of the simulated domain is in the way of its suspend.
        let outcome: SuspendReturn = unsafe { sched::suspend(&server.platform, Frame(0)) }?;
        Ok(outcome)
    };
    {
        let _held = bed.serving.borrow_mut();
        server.suspend(machine).unwrap();
    }
    assert_eq!(bed.mapped(), 0);
    assert!(fs.read("/file").is_err());
    drop(fs);
    bed.reaches(&device.back, InitWait);
    let fs = mount(&xen, &config(4, 6));
    assert_eq!(fs.read_to_string("/file").unwrap(), "text");
}

/// Devices come by the dozen, and go.
#[test]
fn many_devices_are_served_and_none_is_left() {
    let bed = Bed::new();
    let mut all = Vec::new();
    for number in 0..20 {
        let id = xen9p::hypercall::DomId(100 + number);
        let xen = domain(&bed.fake, id);
        let device = bed.plug(id, 0, "/srv");
        let fs = mount(&xen, &config(2, 4));
        fs.write(format!("/{number}"), "text").unwrap();
        all.push((xen, device, fs));
    }
    assert_eq!(bed.connections(), 20);
    for (_, device, _) in &all {
        bed.fake
            .dom0()
            .write(&format!("{}/state", device.back), "6");
    }
    bed.fake.run_for(Duration::from_millis(500));
    bed.is_at_rest(0);
}
