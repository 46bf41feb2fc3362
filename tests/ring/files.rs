//! Files work over rings: the whole library on the simulated Xen, with both backends' rules, at every order, however
//! the load falls.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const GUEST: DomId = DomId(3);

struct Bed {
    fake: FakeXen,
    xen: Xen<FakePlatform>,
    share: Rc<RefCell<Share>>,
    server: Rc<RefCell<MemServer>>,
}

fn bed(program: Program) -> Bed {
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let serving = server.clone();
    let handler = Box::new(move |request: &[u8]| serving.borrow_mut().handle(request));
    let share = Share::new(&fake.dom0(), GUEST, 0, "share", program, handler);
    let share = Rc::new(RefCell::new(share));
    fake.share_peer(share.clone());
    let xen = Xen::new(Events::new(platform)).unwrap();
    Bed {
        fake,
        xen,
        share,
        server,
    }
}

impl Bed {
    fn mount(&self, rings: u16, order: u8) -> Fs {
        let device = xen9pfs::device(&self.xen, None).unwrap();
        let mut config = Config::default();
        config.rings = Some(rings);
        config.order = Some(order);
        let transport = xen9pfs::connect(&self.xen, device, &config).unwrap();
        let options = MountOptions::new().timeout(Duration::from_secs(20));
        Fs::mount(transport, &options).unwrap()
    }

    /// Nothing is left on either side, and the backend had nothing to complain of.
    fn finish(self) {
        assert_eq!(self.share.borrow().troubles(), []);
        assert_eq!(self.server.borrow().fids(), 0);
        assert_eq!(self.xen.grants.counters().used_refs, 0);
        assert_eq!(self.fake.dirty_frees(), 0);
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn files_of_any_size_over_rings_of_any_order() {
    for program in [Program::Qemu, Program::Daemon] {
        for order in 2..=9 {
            for rings in [1, 3, 4] {
                let bed = bed(program);
                let fs = bed.mount(rings, order);
                // A header more where the next request can wait in another ring.
                let header = if rings == 1 { 0 } else { 24 };
                assert_eq!(fs.msize(), (1024 << order) + header);
                let msize = fs.msize() as usize;
                for len in [0, 1, 4096, msize - 25, msize - 24, msize, 5 * msize + 77] {
                    let content = noise(len);
                    fs.write("/file", &content).unwrap();
                    assert!(bed.server.borrow().get("/file").unwrap() == content);
                    assert!(fs.read("/file").unwrap() == content);
                }
                fs.unmount().unwrap();
                bed.finish();
            }
        }
    }
}

#[test]
fn many_names_and_a_copied_tree() {
    for program in [Program::Qemu, Program::Daemon] {
        let bed = bed(program);
        let fs = bed.mount(4, 3);
        fs.create_dir("/many").unwrap();
        for index in 0..500 {
            fs.write(format!("/many/file number {index}"), format!("{index}"))
                .unwrap();
        }
        let mut names: Vec<_> = fs
            .read_dir("/many")
            .unwrap()
            .map(|entry| entry.unwrap().file_name_lossy().into_owned())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 500);
        for index in 0..500 {
            let path = format!("/many/file number {index}");
            assert_eq!(fs.read_to_string(&path).unwrap(), format!("{index}"));
            fs.remove_file(&path).unwrap();
        }
        fs.remove_dir("/many").unwrap();
        fs.unmount().unwrap();
        bed.finish();
    }
}

#[test]
fn a_backend_that_dies_fails_what_waits_and_leaves_nothing() {
    for program in [Program::Qemu, Program::Daemon] {
        let bed = bed(program);
        let fs = bed.mount(3, 6);
        fs.write("/file", noise(1 << 20)).unwrap();
        bed.share.borrow_mut().kill();
        let start = bed.fake.now();
        let error = fs.read("/file").unwrap_err();
        assert!(bed.fake.now() - start < Duration::from_secs(3));
        assert!(error.to_string().contains("died"), "{error}");
        assert!(fs.write("/other", b"x").is_err());
        drop(fs);
        assert_eq!(bed.xen.grants.counters().used_refs, 0);
        assert_eq!(bed.share.borrow().troubles(), []);
    }
}
