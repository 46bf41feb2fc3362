//! Files work over rings: the whole library on the simulated Xen, with both backends' rules, at every order, however
//! the load falls.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p_testing::backend::Program;
use xen9p_testing::bed::guest::{Bed, bed_with_files};
use xen9p_testing::random::content;
use xen9p_testing::server::mem::MemServer;

struct Served {
    bed: Bed,
    server: Rc<RefCell<MemServer>>,
}

fn served(program: Program) -> Served {
    let (bed, server) = bed_with_files(program);
    Served { bed, server }
}

impl Served {
    fn mount(&self, rings: u16, order: u8) -> Fs {
        let device = xen9pfs::device(&self.bed.xen, None).unwrap();
        let mut config = Config::default();
        config.rings = Some(rings);
        config.order = Some(order);
        let transport = xen9pfs::connect(&self.bed.xen, device, &config).unwrap();
        let options = MountOptions::new().timeout(Duration::from_secs(20));
        Fs::mount(transport, &options).unwrap()
    }

    /// Nothing is left on either side, and the backend had nothing to complain of.
    fn finish(self) {
        assert_eq!(self.bed.share.borrow().troubles(), []);
        assert_eq!(self.server.borrow().fids(), 0);
        assert_eq!(self.bed.xen.grants.counters().used_refs, 0);
        assert_eq!(self.bed.fake.dirty_frees(), 0);
    }
}

#[test]
fn files_of_any_size_over_rings_of_any_order() {
    for program in [Program::Qemu, Program::Daemon] {
        for order in 2..=9 {
            for rings in [1, 3, 4] {
                let served = served(program);
                let fs = served.mount(rings, order);
                // A header more where the next request can wait in another ring.
                let header = if rings == 1 { 0 } else { 24 };
                assert_eq!(fs.msize(), (1024 << order) + header);
                let msize = fs.msize() as usize;
                for len in [0, 1, 4096, msize - 25, msize - 24, msize, 5 * msize + 77] {
                    let content = content(len);
                    fs.write("/file", &content).unwrap();
                    assert!(served.server.borrow().get("/file").unwrap() == content);
                    assert!(fs.read("/file").unwrap() == content);
                }
                fs.unmount().unwrap();
                served.finish();
            }
        }
    }
}

#[test]
fn many_names_and_a_copied_tree() {
    for program in [Program::Qemu, Program::Daemon] {
        let served = served(program);
        let fs = served.mount(4, 3);
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
        served.finish();
    }
}

#[test]
fn a_backend_that_dies_fails_what_waits_and_leaves_nothing() {
    for program in [Program::Qemu, Program::Daemon] {
        let served = served(program);
        let fs = served.mount(3, 6);
        fs.write("/file", content(1 << 20)).unwrap();
        served.bed.share.borrow_mut().kill();
        let start = served.bed.fake.now();
        let error = fs.read("/file").unwrap_err();
        assert!(served.bed.fake.now() - start < Duration::from_secs(3));
        assert!(error.to_string().contains("died"), "{error}");
        assert!(fs.write("/other", b"x").is_err());
        drop(fs);
        assert_eq!(served.bed.xen.grants.counters().used_refs, 0);
        assert_eq!(served.bed.share.borrow().troubles(), []);
    }
}
