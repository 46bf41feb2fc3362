//! A xenstored that lies (row S17). There is only one, and it knows of every device: a kernel that can't trust it has no
//! devices any more, but goes on.

use super::drive::HONEST;
use super::{GUEST, server};
use std::time::Duration;
use xen9p::fs::{Fs, MountOptions};
use xen9p::platform::Platform;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::store::wire::{Header, Kind};
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::FakeXen;

/// A word of the guest's ring page (public/io/xs_wire.h, struct xenstore_domain_interface).
fn poke(fake: &FakeXen, offset: usize, value: u32) {
    let page = fake.platform(GUEST).xenstore_ring().unwrap().page;
    // SAFETY: an aligned word inside the page.
    unsafe { page.cast::<u32>().add(offset / 4).write_volatile(value) };
}

fn say(fake: &FakeXen, kind: Kind, request: u32, length: u32, payload: &[u8]) {
    let header = Header {
        kind,
        request,
        transaction: 0,
        length,
    };
    fake.inject_store_bytes(GUEST, &header.encode());
    fake.inject_store_bytes(GUEST, payload);
}

type Lie = fn(&FakeXen);

#[rustfmt::skip]
const LIES: &[(&str, Lie)] = &[
    ("an index that goes beyond the ring, to be read", |fake| poke(fake, 2060, 0x8000_0000)),
    ("an index that goes beyond the ring, of what was read", |fake| poke(fake, 2048, 0x8000_0000)),
    ("an error in the ring page", |fake| poke(fake, 2072, 3)),
    ("an answer to a request that was never made", |fake| say(fake, Kind::READ, 1 << 30, 0, b"")),
    ("an answer of 4,097 bytes", |fake| say(fake, Kind::READ, 0, 4097, b"")),
    ("an answer of 4,294,967,295 bytes", |fake| say(fake, Kind::READ, 0, u32::MAX, b"")),
    ("half a watch event", |fake| say(fake, Kind::WATCH_EVENT, 0, 2, b"x\0")),
    ("an event of no watch", |fake| say(fake, Kind::WATCH_EVENT, 0, 5, b"a\x0099\0")),
    ("no answer ever again", |fake| fake.store_faults(|faults| faults.mute = true)),
    ("half an answer, and then nothing", |fake| {
        say(fake, Kind::WATCH_EVENT, 0, 100, b"half");
        fake.store_faults(|faults| faults.mute = true);
    }),
];

/// What comes of each: what a request to xenstore ends with, and the use of files.
pub fn results() -> Vec<[String; 3]> {
    LIES.iter()
        .map(|&(what, lie)| {
            let fake = FakeXen::new();
            let platform = fake.add_domain(GUEST);
            let share = Share::new(&fake.dom0(), GUEST, 0, HONEST, Program::Qemu, server());
            fake.add_peer(share);
            let xen = Xen::new(Events::new(platform)).unwrap();
            let transport = xen9pfs::device(&xen, None)
                .and_then(|device| xen9pfs::connect(&xen, device, &Config::default()))
                .unwrap();
            let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
            fs.write("/file", b"text").unwrap();

            xen.store.set_timeout(Duration::from_secs(2));
            let begin = fake.now();
            lie(&fake);
            let asked = xen.store.read("domid").map(drop);
            let used = fs.read("/file").map(|read| assert_eq!(read, b"text"));
            // Dropped in good order or not, but dropped.
            drop(fs);
            assert!(fake.now() - begin < Duration::from_secs(60), "{what}");
            assert_eq!(fake.dirty_frees(), 0);
            let text = |error: Option<String>| error.unwrap_or_else(|| "works".into());
            [
                what.to_owned(),
                text(asked.err().map(|error| error.to_string())),
                text(used.err().map(|error| error.to_string())),
            ]
        })
        .collect()
}
