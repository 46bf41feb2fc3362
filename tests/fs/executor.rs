//! A mount's futures run on an executor of the Rust package registry and on our own `block_on`.

use std::cell::RefCell;
use std::rc::Rc;

use futures_executor::LocalPool;
use futures_task::{LocalFutureObj, LocalSpawn};
use xen9p::fs::{Fs, MountOptions, Result, aio};
use xen9p::time::Instant;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// Makes a file of that number, copies it, and reads the copy.
async fn work(fs: aio::Fs, number: u8) -> Result<Vec<u8>> {
    let (path, copy) = (format!("/{number}"), format!("/{number}.copy"));
    fs.write(&path, vec![number; 40_000]).await?;
    fs.copy(&path, &copy).await?;
    fs.read(&copy).await
}

fn mount() -> Fs {
    let mut server = MemServer::new(MemOptions::default());
    let options = LaneOptions {
        lanes: 2,
        ..LaneOptions::default()
    };
    let (transport, _) = lanes(options, move |request| server.handle(request));
    Fs::mount(transport, &MountOptions::new()).unwrap()
}

#[test]
fn tasks_run_side_by_side_on_a_foreign_executor() {
    let mounted = mount();
    let fs = mounted.to_async();
    let mut pool = LocalPool::new();
    let done = Rc::new(RefCell::new(Vec::new()));
    for number in 1..=9 {
        let (fs, done) = (fs.clone(), done.clone());
        let task = async move {
            let found = work(fs, number).await;
            done.borrow_mut().push((number, found));
        };
        let task = LocalFutureObj::new(Box::new(task));
        pool.spawner().spawn_local_obj(task).unwrap();
    }
    // The executor's own wakers say which tasks to poll; the session only has to be looked after in between.
    let mut rounds = 0;
    loop {
        pool.run_until_stalled();
        if done.borrow().len() == 9 {
            break;
        }
        rounds += 1;
        assert!(
            rounds < 10_000,
            "{} of 9 tasks are done",
            done.borrow().len()
        );
        fs.session().wait(Instant::NEVER);
    }
    for (number, found) in done.borrow().iter() {
        assert_eq!(found.as_ref().unwrap(), &vec![*number; 40_000]);
    }
    assert!(rounds > 1);
    // And our own, on the same mount.
    let found = fs.session().block_on(work(fs.clone(), 10)).unwrap();
    assert_eq!(found, vec![10; 40_000]);
    assert_eq!(mounted.read("/10.copy").unwrap(), found);
}
