//! Requests on open files allocate nothing (docs/speed.md), and a listing with attributes three times for an entry.

use xen9p::fs::{Fs, MountOptions, OpenOptions};
use xen9p::ns::Namespace;
use xen9p_testing::count::allocations;
use xen9p_testing::server::mem::MemOptions;
use xen9p_testing::server::real::memory;
use xen9p_testing::server::still::Still;

/// Allocations of `work`, after it was done twice to let tables reach their size.
fn count(mut work: impl FnMut()) -> u64 {
    work();
    work();
    let before = allocations();
    work();
    allocations() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(count(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn requests_on_open_files_allocate_nothing() {
    let msize = 64 << 10;
    let fs = Fs::mount(Still::new(msize), &MountOptions::new()).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fs, "/f")
        .unwrap();
    let mut small = [0; 100];
    let mut page = vec![0; 4096];
    // Many requests at once, and more than the window holds.
    let mut large = vec![0; 1 << 20];
    let mut huge = vec![0; 8 << 20];
    let requests = |work: &dyn Fn()| {
        let before = fs.stats().requests;
        work();
        fs.stats().requests - before
    };
    assert_eq!(
        requests(&|| file.write_all_at(&[0; 1 << 20], 0).unwrap()),
        17
    );

    assert_eq!(
        count(|| file.read_exact_at(&mut small, 12_345).unwrap()),
        0,
        "small read"
    );
    assert_eq!(
        count(|| file.read_exact_at(&mut page, 8192).unwrap()),
        0,
        "page read"
    );
    assert_eq!(
        count(|| file.read_exact_at(&mut large, 0).unwrap()),
        0,
        "read of 1 MiB"
    );
    assert_eq!(
        count(|| file.read_exact_at(&mut huge, 0).unwrap()),
        0,
        "read of 8 MiB"
    );
    assert_eq!(
        count(|| file.write_all_at(&small, 12_345).unwrap()),
        0,
        "small write"
    );
    assert_eq!(
        count(|| file.write_all_at(&page, 8192).unwrap()),
        0,
        "page write"
    );
    assert_eq!(
        count(|| file.write_all_at(&large, 0).unwrap()),
        0,
        "write of 1 MiB"
    );
    assert_eq!(
        count(|| file.write_all_at(&huge, 0).unwrap()),
        0,
        "write of 8 MiB"
    );
    // What is read ahead grows at first.
    (0..1000).for_each(|_| file.read_exact(&mut page).unwrap());
    assert_eq!(
        count(|| file.read_exact(&mut page).unwrap()),
        0,
        "read at the position"
    );
    // So does what is written behind.
    let behind = OpenOptions::new()
        .write(true)
        .write_behind(1 << 20)
        .open(&fs, "/f")
        .unwrap();
    let write_pages = || (0..1000).for_each(|_| behind.write_all(&page).unwrap());
    assert_eq!(count(write_pages), 0, "pages written behind");
    behind.close().unwrap();
    let metadata = || assert!(file.metadata().unwrap().is_file());
    assert_eq!(count(metadata), 0, "metadata");
}

#[test]
fn requests_on_open_files_of_a_name_space_allocate_nothing() {
    let fs = Fs::mount(Still::new(64 << 10), &MountOptions::new()).unwrap();
    let ns = Namespace::new(fs);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&ns, "/f")
        .unwrap();
    let mut page = vec![0; 4096];
    let mut large = vec![0; 1 << 20];
    let read = || file.read_exact_at(&mut page, 8192).unwrap();
    assert_eq!(count(read), 0, "page read");
    let read = || file.read_exact_at(&mut large, 0).unwrap();
    assert_eq!(count(read), 0, "read of 1 MiB");
    assert_eq!(
        count(|| file.write_all_at(&page, 8192).unwrap()),
        0,
        "page write"
    );
    (0..1000).for_each(|_| file.read_exact(&mut page).unwrap());
    let read = || file.read_exact(&mut page).unwrap();
    assert_eq!(count(read), 0, "read at the position");
}

/// For each entry its name, the operation that asks for its attributes, and the one of the directory that this does. What comes of
/// them takes none where replies come in order, nor does waiting for them.
#[test]
fn a_listing_with_attributes_allocates_three_times_for_an_entry() {
    const MORE: u64 = 256;
    let server = memory(MemOptions::default(), |server| {
        for (directory, entries) in [("few", 64), ("many", 64 + MORE)] {
            for n in 0..entries {
                server.put(&format!("/{directory}/{n}"), b"content");
            }
        }
    });
    let fs = Fs::mount(server.unwrap(), &MountOptions::new()).unwrap();
    let list = |path: &str, entries| {
        count(|| {
            let listing = fs.read_dir(path).unwrap().with_metadata();
            let sizes = listing.map(|entry| entry.unwrap().1.unwrap().len());
            assert_eq!(sizes.sum::<u64>(), 7 * entries);
        })
    };
    let more = list("/many", 64 + MORE) - list("/few", 64);
    // Beside that, entries are taken of the listing 64 at a time.
    assert!((3 * MORE..3 * MORE + 16).contains(&more), "{more}");
}
