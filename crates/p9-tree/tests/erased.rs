//! What it costs that trees of different types are one type: the numbers in the documentation of `DynNode`.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p9_tree::trees::MemTree;
use p9_tree::{DynNode, Node, OpenFile, Result};
use p9_wire::{AttrMask, OpenFlags};
use xen9p_testing::count::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result of an operation, and how often it allocated.
fn count<T>(operation: impl Future<Output = Result<T>>) -> (T, u64) {
    let before = allocations();
    let mut operation = pin!(operation);
    match operation
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => (result.unwrap(), allocations() - before),
        Poll::Pending => panic!("a tree in memory never waits"),
    }
}

#[test]
fn each_operation_allocates_once_and_once_more_for_what_it_gives() {
    let tree = MemTree::new();
    tree.put("/d/f", "content").unwrap();
    let plain = tree.root();
    let root = DynNode::new(plain.clone());
    let names: [&[u8]; 2] = [b"d", b"f"];

    // Without, a tree in memory allocates nothing for these.
    let (node, none) = count(plain.walk(b"d"));
    assert_eq!(none, 0);
    let (file, none) = count(plain.open_at(&names, OpenFlags::empty()));
    assert_eq!(none, 0);
    assert_eq!(count(node.getattr(AttrMask::ALL)).1, 0);
    let mut buffer = [0; 16];
    drop(file);

    let (node, walk) = count(root.walk(b"d"));
    assert_eq!(walk, 2, "walk: the future and the node");
    assert_eq!(count(root.walk_at(&names)).1, 2, "walk along two names");
    assert_eq!(count(root.getattr_at(&names, AttrMask::ALL)).1, 1, "stat");
    assert_eq!(count(node.getattr(AttrMask::ALL)).1, 1, "getattr");
    let (opened, open) = count(root.open_at(&names, OpenFlags::READ_WRITE));
    assert_eq!(open, 2, "open: the future and the file");
    let mut file = None;
    opened.map(|opened| file = Some(opened));
    let file = file.unwrap();
    assert_eq!(count(file.read(&mut buffer, 0)), (7, 1), "read");
    assert_eq!(count(file.write(b"x", 0)), (1, 1), "write");
    assert_eq!(count(file.close()).1, 1, "close");
    let before = allocations();
    drop(root.clone());
    assert_eq!(allocations(), before, "a clone");
}
