//! Vchans in the C interface: trees of other domains are mounted, and trees are served to them, in PV and in PVH domains and
//! beside drivers of the kernel's own; nothing is left behind, and what is wrong is refused by its number.

mod domains;
mod kernel;

use std::cell::RefCell;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::time::Duration;

use domains::{OTHER, Serving, looping, other, serve, world};
use kernel::calls::{get, mount, put};
use kernel::memory::{inside, leave, outside};
use kernel::{GUEST, finish, last_error, now, turn};
use xen9p::fs::{self, Fs, MountOptions, aio};
use xen9p::hypercall::DomId;
use xen9p::ns::MemTree;
use xen9p::p9::session::{Config, Session};
use xen9p::time::Instant;
use xen9p::transport::vchan::{self, Listener, Orders, Stream};
use xen9p_capi::*;
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

const NULL: *mut xen9p_handle = null_mut();
const EBADF: i32 = -9;
const EFAULT: i32 = -14;
const EINVAL: i32 = -22;

#[test]
fn a_tree_of_another_domain_is_mounted() {
    let _turn = turn();
    for pv in [[false, false], [true, false], [false, true], [true, true]] {
        let world = world(pv[0]);
        let xen = other(&world, pv[1]);
        let tree = MemTree::new();
        tree.put("/hello", "Hello, domain.").unwrap();
        let serving = Serving::of(&xen, &tree).start(&world);
        let before = world.fake.usage(GUEST);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&world.with_windows()), 0);
            assert_eq!(xen9p_check_platform(None, null_mut()), 0);
            let fs = mount(c"vchan!7!9p");
            assert_eq!(get(fs, c"/hello"), b"Hello, domain.");
            let large: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
            put(fs, c"/large", &large);
            assert!(get(fs, c"/large") == large);
            // Once more is the same connection.
            let again = mount(c"vchan!7!9p");
            assert_eq!(xen9p_close(fs, NULL), 0);
            assert_eq!(get(again, c"/hello"), b"Hello, domain.");
            assert_eq!(xen9p_close(again, NULL), 0);
            world.fake.run_for(Duration::from_secs(2));
            assert!(!serving.borrow().export.is_connected());
            // And later another.
            let fs = mount(c"vchan!7!9p");
            assert_eq!(get(fs, c"/hello"), b"Hello, domain.");
            assert_eq!(xen9p_exit(), 0);
        }
        assert_eq!(world.fake.usage(GUEST), before);
    }
}

#[test]
fn a_tree_in_memory_is_served_to_another_domain() {
    let _turn = turn();
    for own_drivers in [false, true] {
        let mut world = world(own_drivers);
        if own_drivers {
            world = world.with_drivers();
        }
        let callbacks = match own_drivers {
            true => world.drivers(),
            false => world.callbacks(),
        };
        let before = world.fake.usage(GUEST);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&callbacks), 0);
            let tree = mount(c"#mem");
            put(tree, c"/log", b"began");
            // The other domain need not be there yet.
            let endpoint = serve(c"vchan!7!log", tree, XEN9P_READ | XEN9P_WRITE);
            assert_eq!(xen9p_poll(endpoint), 0);
            let xen = other(&world, false);
            let peer = looping(&world, endpoint);
            let connect = || {
                let stream = vchan::connect(&xen, GUEST, "log", Duration::from_secs(20)).unwrap();
                Fs::mount(vchan::framed(stream, 1 << 16), &MountOptions::new()).unwrap()
            };
            let fs = connect();
            assert_eq!(peer.borrow().said, 1);
            assert_eq!(fs.read("/log").unwrap(), b"began");
            fs.write("/answer", b"read").unwrap();
            drop(fs);
            // One after the other, and gone in between.
            world.fake.run_for(Duration::from_secs(2));
            assert_eq!(peer.borrow().said, 0);
            let fs = connect();
            assert_eq!(get(tree, c"/answer"), b"read");
            // Its tree stays as long as it is served.
            assert_eq!(xen9p_close(tree, NULL), 0);
            assert_eq!(fs.read("/log").unwrap(), b"began");
            world.fake.remove_peers();
            assert_eq!(xen9p_close(endpoint, NULL), 0);
            assert_eq!(xen9p_poll(endpoint), EBADF.into());
            let lost = fs.read("/log").unwrap_err();
            assert!(lost.to_string().contains("lost"), "{lost}");
            drop(fs);
            // Each is a tree of its own, for reading alone if that is said.
            let tree = mount(c"#mem");
            let mut stat = xen9p_stat::default();
            assert_eq!(
                xen9p_stat(tree, c"/log".as_ptr(), 0, &mut stat, NULL),
                -2,
                "another tree"
            );
            let endpoint = serve(c"vchan!7!log", tree, XEN9P_READ);
            let _peer = looping(&world, endpoint);
            let fs = connect();
            let refused = fs.write("/answer", b"read").unwrap_err();
            assert!(refused.to_string().contains("EROFS"), "{refused}");
            drop(fs);
            world.fake.remove_peers();
            assert_eq!(xen9p_exit(), 0);
        }
        assert_eq!(world.fake.usage(GUEST), before, "{own_drivers}");
    }
}

/// The kernel serves on when it has memory again; until then its client waits, or is told.
#[test]
fn memory_may_end_anywhere_while_a_tree_is_served() {
    let _turn = turn();
    let world = world(false);
    let xen = other(&world, false);
    let mut endpoint = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(inside(|| xen9p_init(&world.callbacks())), 0);
        let mut tree = 0;
        let mounted = inside(|| xen9p_mount(c"#mem".as_ptr(), null(), &mut tree, NULL));
        assert_eq!(mounted, 0, "{}", last_error());
        let flags = XEN9P_READ | XEN9P_WRITE;
        let address = c"vchan!7!log".as_ptr();
        let served = inside(|| xen9p_serve(address, tree, flags, &mut endpoint));
        assert_eq!(served, 0, "{}", last_error());
    }
    let _peer = looping(&world, endpoint);
    let work = || -> Result<(), String> {
        outside(|| {
            let timeout = Duration::from_secs(3);
            let stream = vchan::connect(&xen, GUEST, "log", timeout).map_err(|e| e.to_string())?;
            let options = MountOptions::new().timeout(timeout);
            let fs = Fs::mount(vchan::framed(stream, 1 << 16), &options);
            let fs = fs.map_err(|e| e.to_string())?;
            let work = || {
                fs.create_dir_all("/a/b/c")?;
                fs.write("/a/b/c/d", vec![7; 50_000])?;
                let count = fs.read("/a/b/c/d")?.len();
                let listed = fs.read_dir("/a/b")?.count();
                fs.remove_dir_all("/a")?;
                Ok((count, listed))
            };
            let done = work().map_err(|e: fs::Error| e.to_string())?;
            assert_eq!(done, (50_000, 1));
            Ok(())
        })
    };
    assert_eq!(work(), Ok(()));
    let (mut after, mut failed) = (0, 0);
    loop {
        leave(after);
        let done = work();
        leave(usize::MAX);
        world.fake.run_for(Duration::from_secs(3));
        let again = work();
        assert_eq!(again, Ok(()), "after {after} allocations, {done:?}");
        world.fake.run_for(Duration::from_secs(3));
        failed += u32::from(done.is_err());
        if done.is_ok() && after > 100 {
            break;
        }
        after += 1 + after / 8;
    }
    assert!(failed > 5, "{failed}");
    world.fake.remove_peers();
    assert_eq!(inside(|| xen9p_exit()), 0);
}

#[test]
fn a_part_of_a_share_is_served() {
    let _turn = turn();
    let world = world(false);
    let xen = other(&world, false);
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        let fs = mount(c"share");
        assert_eq!(xen9p_mkdir(fs, c"/public".as_ptr(), 0o755, NULL), 0);
        put(fs, c"/private", b"secret");
        put(fs, c"/public/page", b"for all");
        let mut node = 0;
        let found = xen9p_lookup(fs, c"/public".as_ptr(), &mut node, NULL);
        assert_eq!(found, 0);
        let endpoint = serve(c"vchan!7!page", node, XEN9P_READ | XEN9P_WRITE);
        assert_eq!(xen9p_close(node, NULL), 0);
        let _peer = looping(&world, endpoint);
        let stream = vchan::connect(&xen, GUEST, "page", Duration::from_secs(20)).unwrap();
        let client = Fs::mount(vchan::framed(stream, 1 << 16), &MountOptions::new()).unwrap();
        assert_eq!(client.read("/page").unwrap(), b"for all");
        assert!(client.read("/../private").is_err());
        let large: Vec<u8> = (0..200_000_u32).map(|n| (n / 5) as u8).collect();
        client.write("/large", &large).unwrap();
        assert!(client.read("/large").unwrap() == large);
        world.fake.remove_peers();
        drop(client);
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn two_domains_that_mount_each_other_do_not_wait_for_each_other() {
    let _turn = turn();
    let world = world(false);
    let xen = other(&world, false);
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.with_windows()), 0);
        let tree = mount(c"#mem");
        serve(c"vchan!7!ours", tree, XEN9P_READ);
        // The other one answers when it has mounted that, which is while this one waits for it.
        let mut serving = Serving::of(&xen, &MemTree::new());
        let stream = vchan::connect(&xen, GUEST, "ours", Duration::from_secs(5)).unwrap();
        let framed = Box::new(vchan::framed(stream, 1 << 16));
        let session = Session::new(framed, &Config::default()).unwrap();
        let of = session.clone();
        serving.session = Some(session);
        serving.first = Some(Box::pin(async move {
            aio::Fs::mount(&of, &MountOptions::new()).await
        }));
        serving.export.poll();
        let serving = serving.start(&world);
        let callbacks = world.callbacks();
        let begun = now(callbacks.context);
        let fs = mount(c"vchan!7!9p");
        let took = Duration::from_nanos(now(callbacks.context) - begun);
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(serving.borrow().first.is_none());
        put(fs, c"/theirs", b"x");
        world.fake.remove_peers();
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn a_server_that_begins_anew_is_found_again() {
    let _turn = turn();
    let world = world(false);
    let xen = other(&world, false);
    let tree = MemTree::new();
    tree.put("/hello", "Hello again.").unwrap();
    let serving = Serving::of(&xen, &tree).start(&world);
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        recovery: 30,
        ..Default::default()
    };
    let (mut fs, mut file) = (0, 0);
    let mut text = [0_u8; 12];
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.with_windows()), 0);
        for recovers in [true, false] {
            let options = if recovers { &raw const options } else { null() };
            assert_eq!(
                xen9p_mount(c"vchan!7!9p".as_ptr(), options, &mut fs, NULL),
                0
            );
            let opened = xen9p_open(fs, c"/hello".as_ptr(), XEN9P_READ, 0, &mut file, NULL);
            assert_eq!(opened, 0, "{}", last_error());
            let again = Serving::of(&xen, &tree).export;
            drop(std::mem::replace(&mut serving.borrow_mut().export, again));
            let count = xen9p_read(file, text.as_mut_ptr().cast(), 12, 0, NULL);
            assert_eq!(count, if recovers { 12 } else { -5 }, "{}", last_error());
            xen9p_close(file, NULL);
            xen9p_close(fs, NULL);
        }
        assert_eq!(&text, b"Hello again.");
        // What is lost is mounted anew.
        let fs = mount(c"vchan!7!9p");
        assert_eq!(get(fs, c"/hello"), b"Hello again.");
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn a_client_that_dies_is_noticed_by_waiting() {
    let _turn = turn();
    let world = world(false);
    let xen = other(&world, false);
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        let tree = mount(c"#mem");
        let endpoint = serve(c"vchan!7!log", tree, XEN9P_READ);
        let stream = vchan::connect(&xen, GUEST, "log", Duration::from_secs(5)).unwrap();
        assert_eq!(xen9p_wait(endpoint, XEN9P_FOREVER), 0);
        assert_eq!(xen9p_poll(endpoint), 1);
        std::mem::forget((stream, xen));
        world.fake.destroy(OTHER);
        let begun = world.fake.now();
        while xen9p_poll(endpoint) == 1 {
            assert_eq!(xen9p_wait(endpoint, XEN9P_FOREVER), 0);
        }
        assert!(world.fake.now() - begun <= Duration::from_secs(2));
        assert!(!world.fake.is_zombie(OTHER));
        assert_eq!(xen9p_exit(), 0);
    }
}

/// A client that has said that it goes may have pages mapped for some moments more.
#[test]
fn the_end_waits_for_a_client_that_still_has_pages_mapped() {
    let _turn = turn();
    for lets_go in [true, false] {
        let world = world(false);
        let xen = other(&world, false);
        let before = world.fake.usage(GUEST);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&world.callbacks()), 0);
            serve(c"vchan!7!log", mount(c"#mem"), XEN9P_READ);
            let stream = vchan::connect(&xen, GUEST, "log", Duration::from_secs(5)).unwrap();
            let begun = world.fake.now();
            let unmaps_at = begun + Duration::from_millis(300);
            match lets_go {
                true => world.fake.share_peer(Rc::new(RefCell::new(Late {
                    stream: Some(stream),
                    unmaps_at,
                }))),
                false => std::mem::forget((stream, xen)),
            }
            assert_eq!(xen9p_exit(), 0);
            let took = world.fake.now() - begun;
            assert!(took < Duration::from_secs(4), "{took:?}");
            assert_eq!(world.fake.usage(GUEST) == before, lets_go);
        }
    }
}

/// Ends its connection when it is time.
struct Late {
    stream: Option<Stream<FakePlatform>>,
    unmaps_at: Instant,
}

impl Peer for Late {
    fn step(&mut self, fake: &FakeXen) -> bool {
        fake.now() >= self.unmaps_at && self.stream.take().is_some()
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.stream.as_ref().map(|_| self.unmaps_at)
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let _turn = turn();
    let world = world(false);
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        timeout: 1,
        ..Default::default()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid or null; strings end with a NUL.
    unsafe {
        let address = c"vchan!7!9p".as_ptr();
        assert_eq!(xen9p_serve(address, 1, XEN9P_READ, &mut fs), -6);
        // Windows are four callbacks, or none.
        let mut half = world.with_windows();
        half.set_window = None;
        assert_eq!(xen9p_init(&half), EINVAL);
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        assert_eq!(xen9p_mount(address, &options, &mut fs, NULL), -95);
        assert!(last_error().contains("alloc_window"), "{}", last_error());
        assert_eq!(xen9p_exit(), 0);

        assert_eq!(xen9p_init(&world.with_windows()), 0);
        for malformed in [
            c"vchan!",
            c"vchan!7",
            c"vchan!7!",
            c"vchan!!x",
            c"vchan!x!y",
            c"vchan!7!a b",
            c"vchan!-1!x",
            c"vchan!32752!x",
            c"vchan!99999999999!x",
            c"vchan!7!nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
            // This domain itself.
            c"vchan!3!x",
        ] {
            let mounted = xen9p_mount(malformed.as_ptr(), &options, &mut fs, NULL);
            assert_eq!(mounted, EINVAL, "{malformed:?}: {}", last_error());
            let tree = mount(c"#mem");
            let served = xen9p_serve(malformed.as_ptr(), tree, XEN9P_READ, &mut fs);
            assert_eq!(served, EINVAL, "{malformed:?}: {}", last_error());
            assert_eq!(xen9p_close(tree, NULL), 0);
        }
        let no_text = c"vchan!7!\xff".as_ptr();
        assert_eq!(xen9p_mount(no_text, &options, &mut fs, NULL), EINVAL);
        // Nobody publishes it, or for another domain.
        assert_eq!(xen9p_mount(address, &options, &mut fs, NULL), -110);
        let other = other(&world, false);
        let mut for_another = Listener::new(&other, DomId(9), "9p", Orders::default()).unwrap();
        let _ = for_another.accept();
        assert_eq!(xen9p_mount(address, &options, &mut fs, NULL), -110);

        let tree = mount(c"#mem");
        let (mut endpoint, mut second) = (0, 0);
        let mut serve = |address, tree, flags| xen9p_serve(address, tree, flags, &mut second);
        assert_eq!(serve(null(), tree, XEN9P_READ), EFAULT);
        assert_eq!(serve(no_text, tree, XEN9P_READ), EINVAL);
        assert_eq!(serve(c"share".as_ptr(), tree, XEN9P_READ), EINVAL);
        assert_eq!(serve(c"".as_ptr(), tree, XEN9P_READ), EINVAL);
        for flags in [0, XEN9P_WRITE, XEN9P_READ | XEN9P_CREATE, u32::MAX] {
            assert_eq!(serve(address, tree, flags), EINVAL);
        }
        for closed in [0, u32::MAX, tree + (1 << 16)] {
            assert_eq!(serve(address, closed, XEN9P_READ), EBADF);
        }
        let nowhere = xen9p_serve(address, tree, XEN9P_READ, null_mut());
        assert_eq!(nowhere, EFAULT);
        put(tree, c"/f", b"x");
        let mut file = 0;
        let opened = xen9p_open(tree, c"/f".as_ptr(), XEN9P_READ, 0, &mut file, NULL);
        assert_eq!(opened, 0);
        assert_eq!(xen9p_serve(address, file, XEN9P_READ, &mut second), EBADF);
        assert_eq!(xen9p_serve(address, tree, XEN9P_READ, &mut endpoint), 0);
        let twice = xen9p_serve(address, tree, XEN9P_READ, &mut second);
        assert_eq!(twice, -98, "{}", last_error());
        // An endpoint is no other kind.
        assert_eq!(
            xen9p_serve(address, endpoint, XEN9P_READ, &mut second),
            EBADF
        );
        assert_eq!(xen9p_sync(endpoint, NULL), EBADF);
        assert_eq!(xen9p_mkdir(endpoint, c"/d".as_ptr(), 0o755, NULL), EBADF);
        assert_eq!(xen9p_poll(tree), EBADF.into());
        // From within a callback, which is the wait.
        world.kernel.meddle.set(Some(0));
        assert_eq!(xen9p_wait(endpoint, XEN9P_FOREVER), 0);
        assert_eq!(world.kernel.meddle.take(), Some(-16));
        // A started close is one, too.
        let mut op = 0;
        assert_eq!(xen9p_close(endpoint, &mut op), 0);
        assert_eq!(finish(op), 0);
        assert_eq!(xen9p_close(endpoint, NULL), EBADF);
        assert_eq!(xen9p_wait(endpoint, XEN9P_FOREVER), EBADF);
        assert_eq!(xen9p_exit(), 0);
        assert_eq!(xen9p_poll(endpoint), -6);
        assert_eq!(xen9p_serve(address, tree, XEN9P_READ, &mut fs), -6);
    }
}
