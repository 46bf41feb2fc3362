//! Trees, servers and looks at them that the tests of name spaces share.

use xen9p::errno::Errno;
use xen9p::fs::Error;
use xen9p::ns::{MemTree, Namespace};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

use xen9p_testing::bed::memory::{Bed, bed_with};

pub fn names(ns: &Namespace, path: &str) -> Vec<String> {
    let entries = ns.read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    match result {
        Err(Error::Errno(errno)) => errno,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub fn served(files: &[(&str, &str)]) -> Bed {
    bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        for (path, content) in files {
            server.put(path, content.as_bytes());
        }
    })
}

pub fn tree(files: &[(&str, &str)]) -> MemTree {
    let tree = MemTree::new();
    for (path, content) in files {
        tree.put(path, content).unwrap();
    }
    tree
}
