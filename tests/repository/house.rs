//! The crates depend on one another as docs/architecture.md says, and those that claim to run anywhere do; and no source
//! has more than 500 lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate of the library, and those of them that it may depend on.
const FLOORS: &[(&str, &[&str])] = &[
    ("xen9p-time", &[]),
    ("xen-abi", &[]),
    ("xen-guest", &["xen-abi", "xen9p-time"]),
    ("p9-wire", &[]),
    ("p9-tree", &["p9-wire"]),
    ("p9-client", &["p9-tree", "p9-wire", "xen9p-time"]),
    ("p9-server", &["p9-tree", "p9-wire"]),
];

/// Crates without unsafe code that name no architecture.
const ANYWHERE: &[&str] = &["xen9p-time", "p9-wire", "p9-tree", "p9-client", "p9-server"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates of the library that a manifest depends on, whatever else it needs for its tests.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).unwrap_or_else(|error| {
        panic!("{}: {error}", manifest.display());
    });
    let manifest: toml::Table = text.parse().unwrap();
    let floors: BTreeSet<&str> = FLOORS.iter().map(|(name, _)| *name).collect();
    let tables = ["dependencies", "build-dependencies"];
    let named = tables
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned());
    named
        .filter(|name| floors.contains(name.as_str()) || name == "xen9p")
        .collect()
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn no_crate_depends_on_one_above_it() {
    let mut there: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort_unstable();
    let mut listed: Vec<_> = FLOORS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(there, listed, "list the crate, and what it may depend on");
    for (name, allowed) in FLOORS {
        let found = dependencies(&root().join("crates").join(name).join("Cargo.toml"));
        let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.into()).collect();
        let more: Vec<_> = found.difference(&allowed).collect();
        assert!(more.is_empty(), "{name} must not depend on {more:?}");
    }
    // The daemon is no user of the client or of the drivers' rings.
    let daemon = dependencies(&root().join("xen9pd/Cargo.toml"));
    for above in ["xen9p", "p9-client"] {
        assert!(!daemon.contains(above), "xen9pd must not depend on {above}");
    }
}

#[test]
fn what_runs_anywhere_has_no_unsafe_code_and_names_no_architecture() {
    for name in ANYWHERE {
        let directory = root().join("crates").join(name).join("src");
        let library = fs::read_to_string(directory.join("lib.rs")).unwrap();
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            assert!(library.contains(attribute), "{name} lacks {attribute}");
        }
        let mut files = Vec::new();
        sources(&directory, &mut files);
        assert!(!files.is_empty());
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for word in [
                "target_arch",
                "core::arch",
                "std::arch",
                "target_pointer_width",
            ] {
                assert!(!text.contains(word), "{} says {word}", file.display());
            }
        }
    }
}

/// The most lines of a file.
const LINES: usize = 500;

/// Written by a program.
const GENERATED: &[&str] = &["crates/xen-abi/src/bindings.rs"];

#[test]
fn no_file_is_longer_than_500_lines() {
    let tracked = Command::new("git")
        .args(["ls-files", "-z", "--", "*.rs"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tracked.status.success(), "git lists what it tracks");
    let tracked = String::from_utf8(tracked.stdout).unwrap();
    let files: Vec<&str> = tracked.split_terminator('\0').collect();
    for generated in GENERATED {
        assert!(files.contains(generated), "{generated} is not there");
    }
    let mut long = Vec::new();
    for file in files {
        // A file that is deleted is tracked until that is committed.
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        let lines = text.lines().count();
        if lines > LINES && !GENERATED.contains(&file) {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "too long: {long:#?}");
}

/// `make run` builds the toolbox and makes sample files only where it uses them: an app from the template uses neither.
#[test]
fn make_run_builds_what_it_boots() {
    let needs = |settings: &[&str]| {
        // The rules as make understands them; nothing is run for that.
        let out = Command::new("make")
            .args(["--print-data-base", "--question", "help"])
            .args(settings)
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .current_dir(root())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let rule = text.lines().find_map(|line| line.strip_prefix("run: "));
        let needs: Vec<String> = rule.unwrap().split(' ').map(String::from).collect();
        needs
    };
    let none: [&str; 2] = ["SHARE=", "BED="];
    assert_eq!(needs(&none), ["packages-for-run", "kernel", "samples"]);
    let app = ["IMAGE=/app.elf", "SHARE=/files", "BED="];
    assert_eq!(needs(&app), ["packages-for-run"]);
}
