use super::*;
use crate::xen::store::fake::World;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::PathBuf;

/// How long a worker may take to say that it serves.
const TIMEOUT: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// Serves everything.
struct All;

impl Policy for All {
    fn decide(&self, _: &Key, _: &Order) -> Decision {
        Decision::Serve
    }

    fn config(&self) -> Option<PathBuf> {
        None
    }
}

const FRONTEND: &str = "/local/domain/7/device/9pfs/0";

fn key(kind: Kind) -> Key {
    Key {
        kind,
        domain: 7,
        device: 0,
    }
}

/// A world with a new device of that kind, whose frontend is there.
fn plugged(kind: Kind, frontend: &str) -> World {
    let world = World::default();
    world.set_alive(7, true);
    let back = key(kind).path();
    for (node, value) in [
        ("frontend", frontend),
        ("frontend-id", "7"),
        ("online", "1"),
        ("path", "/srv"),
        ("state", "1"),
    ] {
        world.write(&format!("{back}/{node}"), value);
    }
    world.write(&format!("{FRONTEND}/state"), "1");
    world
}

fn work(device: &mut Device, store: &mut Store) -> bool {
    work_in(false, device, store)
}

fn work_in(is_driver: bool, device: &mut Device, store: &mut Store) -> bool {
    let settings = Settings {
        directory: Path::new("/nowhere"),
        program: Path::new("/nowhere/program"),
        policy: &All,
    };
    device
        .work(store, &settings, Path::new("/nowhere/workers"), is_driver)
        .unwrap()
}

fn state(world: &World, kind: Kind) -> String {
    world.text(&format!("{}/state", key(kind).path())).unwrap()
}

#[test]
fn a_device_that_qemu_takes_first_is_left_to_it() {
    let key = key(Kind::Any);
    let world = plugged(Kind::Any, FRONTEND);
    let mut store = world.connect();
    let mut device = Device::found(key, &mut store, &All).unwrap().unwrap();
    // QEMU was quicker, and so is the frontend.
    world.write(&format!("{}/state", key.path()), "2");
    for (node, value) in [
        ("version", "1"),
        ("num-rings", "1"),
        ("ring-ref0", "8"),
        ("event-channel-0", "9"),
        ("state", "3"),
    ] {
        world.write(&format!("{FRONTEND}/{node}"), value);
    }
    assert!(work(&mut device, &mut store), "it is no more");
    assert_eq!(state(&world, Kind::Any), "2");
    assert!(Device::found(key, &mut store, &All).unwrap().is_none());
}

/// All devices of a machine wait while one question to xenstore is answered.
#[test]
fn a_connection_takes_few_questions() {
    let key = key(Kind::Daemon);
    let world = plugged(Kind::Daemon, FRONTEND);
    let mut store = world.connect();
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/worker.sh");
    let settings = Settings {
        directory: dir.path(),
        program: &program,
        policy: &All,
    };
    let mut device = Device::found(key, &mut store, &All).unwrap().unwrap();
    let mut step = |device: &mut Device, expected: &str, most: usize| {
        let before = world.questions();
        assert!(
            !device
                .work(&mut store, &settings, dir.path(), false)
                .unwrap()
        );
        let questions = world.questions() - before;
        assert!(questions <= most, "{questions} questions until {expected}");
        assert_eq!(state(&world, Kind::Daemon), expected);
    };
    // A watch, three nodes, and a transaction of four nodes that looks first.
    step(&mut device, "2", 1 + 3 + 7);
    for (node, value) in [
        ("version", "1"),
        ("num-rings", "4"),
        ("ring-ref0", "8"),
        ("event-channel-0", "9"),
        ("ring-ref1", "10"),
        ("event-channel-1", "11"),
        ("ring-ref2", "12"),
        ("event-channel-2", "13"),
        ("ring-ref3", "14"),
        ("event-channel-3", "15"),
        ("state", "3"),
    ] {
        world.write(&format!("{FRONTEND}/{node}"), value);
    }
    device.frontend_has_moved();
    step(&mut device, "2", 3 + 10);
    let mouth = device.worker().and_then(Worker::mouth).unwrap();
    let mut files = [PollFd::from_borrowed_fd(mouth, PollFlags::IN)];
    assert_eq!(poll(&mut files, Some(&TIMEOUT)), Ok(1));
    device.hear();
    assert_eq!(device.connections, 1);
    // The transaction looks first here, too.
    step(&mut device, "4", 3 + 4);
    // The event of the own state.
    step(&mut device, "4", 3);
    // The frontend begins anew with other rings, of which the event was not noticed yet.
    world.write(&format!("{FRONTEND}/ring-ref3"), "16");
    step(&mut device, "4", 3);
    device.frontend_has_moved();
    step(&mut device, "4", 3 + 10);
    assert!(!device.machine.is_serving(), "its worker has to end");
    device.worker.take().unwrap().bury();
}

#[test]
fn a_device_is_forgotten_with_its_domain_though_its_nodes_stay() {
    for kind in Kind::ALL {
        let key = key(kind);
        let world = plugged(kind, FRONTEND);
        let mut store = world.connect();
        let mut device = Device::found(key, &mut store, &All).unwrap().unwrap();
        assert!(!work(&mut device, &mut store));
        assert_eq!(state(&world, kind), "2");
        world.set_alive(7, false);
        device.domain_is_gone();
        assert!(work(&mut device, &mut store), "it is no more");
        assert!(Device::found(key, &mut store, &All).unwrap().is_none());
        assert_eq!(store.watches(), 0);
    }
}

/// The toolstack waits for that. Of a guest that it destroys it writes the backend's state itself.
#[test]
fn a_driver_domain_removes_the_directory_of_a_device_that_is_over() {
    let ends: [&dyn Fn(&World); 3] = [
        &|world| {
            let back = key(Kind::Any).path();
            world.write(&format!("{back}/online"), "0");
            world.write(&format!("{back}/state"), "5");
            world.write(&format!("{FRONTEND}/state"), "6");
        },
        &|world| world.write(&format!("{}/state", key(Kind::Any).path()), "6"),
        &|world| world.remove(FRONTEND),
    ];
    for end in ends {
        for is_driver in [true, false] {
            let world = plugged(Kind::Any, FRONTEND);
            let mut store = world.connect();
            let found = Device::found(key(Kind::Any), &mut store, &All).unwrap();
            let mut device = found.unwrap();
            assert!(!work_in(is_driver, &mut device, &mut store));
            assert_eq!(state(&world, Kind::Any), "2");
            end(&world);
            assert_eq!(work_in(is_driver, &mut device, &mut store), is_driver);
            let back = world.text(&format!("{}/state", key(Kind::Any).path()));
            assert_eq!(back.is_none(), is_driver);
        }
    }
}

#[test]
fn a_frontend_of_another_domain_is_refused() {
    let key = key(Kind::Daemon);
    let world = plugged(Kind::Daemon, "/local/domain/0/device/9pfs/0");
    let mut store = world.connect();
    assert!(Device::found(key, &mut store, &All).unwrap().is_none());
    assert_eq!(state(&world, Kind::Daemon), "6");
    let reason = world.text("error/backend/xen_9pfs/7/0/error").unwrap();
    assert!(reason.contains("not in domain 7"), "{reason}");
}

/// Serves what can be shared, as the program does.
struct Shared(crate::config::Config);

impl Policy for Shared {
    fn decide(&self, _: &Key, order: &Order) -> Decision {
        match self.0.open(Path::new(&order.path)) {
            Ok(_) => Decision::Serve,
            Err(why) => Decision::Refuse(why),
        }
    }

    fn config(&self) -> Option<PathBuf> {
        None
    }
}

/// The toolstack shows this node.
#[test]
fn a_path_that_can_t_be_shared_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let policy = Shared(crate::config::Config::default());
    let paths = [
        (
            "missing",
            "the directory can't be opened: No such file or directory",
        ),
        ("file", "Not a directory"),
        ("../file", "must not contain \"..\""),
    ];
    for (name, reason) in paths {
        let key = key(Kind::Daemon);
        let world = plugged(Kind::Daemon, FRONTEND);
        let path = dir.path().join(name);
        world.write(&format!("{}/path", key.path()), path.to_str().unwrap());
        let mut store = world.connect();
        assert!(Device::found(key, &mut store, &policy).unwrap().is_none());
        assert_eq!(state(&world, Kind::Daemon), "6");
        let said = world.text("error/backend/xen_9pfs/7/0/error").unwrap();
        assert!(said.contains(reason), "{said}");
        assert!(said.contains(name), "{said}");
    }
}
