//! No Rust reference to memory that a peer can write to (row S14): such memory is in `src/transport` and `crates/xen-guest`, and
//! reached by raw pointer there, or as an atomic word.

use std::fs;
use std::path::{Path, PathBuf};

/// What makes a reference, or a slice, of an address.
const MAKERS: &[&str] = &[
    "from_raw_parts",
    "slice_from_raw_parts",
    "as_uninit",
    "as_mut()",
    "as_ref() }",
    "{ &*",
    "{ &mut *",
];

/// What copies as if nobody else wrote there at the same time.
const COPIERS: &[&str] = &["_nonoverlapping", "copy_to(", "copy_from(", "ptr::copy("];

/// A word that is used as an atomic for the length of one expression is fine.
const ATOMIC: &[&str] = &[
    ".load(",
    ".store(",
    ".swap(",
    ".compare_exchange",
    ".fetch_",
];

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

/// The places in a source that make a reference to something else than an atomic word, or copy without atomics.
fn references(source: &str) -> Vec<&str> {
    let code = source.split("\n#[cfg(test)]").next().unwrap_or(source);
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let copies = lines
        .clone()
        .filter(|line| COPIERS.iter().any(|copier| line.contains(copier)));
    lines
        .filter(|line| MAKERS.iter().any(|maker| line.contains(maker)))
        .filter(|line| !ATOMIC.iter().any(|use_| line.contains(use_)))
        .chain(copies)
        .collect()
}

#[test]
fn shared_memory_is_reached_by_raw_pointers_and_atomics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let drivers = root.join("crates/xen-guest/src");
    let mut files = Vec::new();
    sources(&root.join("src/transport"), &mut files);
    sources(&drivers, &mut files);
    // Hypercalls take structures on the caller's stack, and the conformance suite owns the pages that it shares.
    files.retain(|file| {
        !file.starts_with(drivers.join("hypercall")) && !file.starts_with(drivers.join("platform"))
    });
    assert!(files.len() > 10);
    let mut looked_into = 0;
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        looked_into += usize::from(source.contains("NonNull"));
        assert_eq!(references(&source), [""; 0], "{}", file.display());
    }
    assert!(
        looked_into >= 3,
        "the code has moved: look for it elsewhere"
    );
}

#[test]
fn what_is_looked_for_is_found() {
    let bad = "let page = unsafe { core::slice::from_raw_parts(at, 4096) };";
    assert_eq!(references(bad), [bad]);
    let bad = "into.copy_from_nonoverlapping(place, first);";
    assert_eq!(references(bad), [bad]);
    assert_eq!(
        references("unsafe { word.as_ref() }.load(Acquire)"),
        [""; 0]
    );
}
