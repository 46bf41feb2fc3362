//! Each public module of the published crates has an example in its documentation, or in that of its items, which `cargo test`
//! compiles and runs; or is listed here, with the reason why not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules without an example of their own.
const WITHOUT: &[(&str, &str)] = &[
    ("xen9p::prelude", IN_IMAGES),
    ("xen9p::rt", IN_IMAGES),
    ("xen9p::transport", "modules that have theirs"),
    ("xen-guest::hypercall::argo", ONE_FOR_ALL),
    ("xen-guest::hypercall::console_io", ONE_FOR_ALL),
    ("xen-guest::hypercall::event_channel", ONE_FOR_ALL),
    ("xen-guest::hypercall::grant_table", ONE_FOR_ALL),
    ("xen-guest::hypercall::hvm", ONE_FOR_ALL),
    ("xen-guest::hypercall::memory", ONE_FOR_ALL),
    ("xen-guest::hypercall::raw", ONE_FOR_ALL),
    ("xen-guest::hypercall::sched", ONE_FOR_ALL),
    ("xen-guest::hypercall::vcpu", ONE_FOR_ALL),
    ("xen-guest::hypercall::version", ONE_FOR_ALL),
];

const IN_IMAGES: &str =
    "what it shows is an image: template/ and examples/ are built, and booted by `make test-xen`";
const ONE_FOR_ALL: &str = "the functions of a hypercall, which the example of `hypercall` calls";

/// A module: its path, its file, and the directory of the modules in it.
struct Module {
    name: String,
    file: PathBuf,
    below: PathBuf,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The roots of the crates that the Makefile says are published.
fn crates() -> Vec<Module> {
    let makefile = read(&root().join("Makefile"));
    let line = makefile
        .lines()
        .find_map(|line| line.strip_prefix("PUBLISHED := "));
    let names = line.unwrap().split(' ');
    let module = |name: &str| {
        let below = match name {
            "xen9p" => root().join("src"),
            name => root().join("crates").join(name).join("src"),
        };
        Module {
            name: name.into(),
            file: below.join("lib.rs"),
            below,
        }
    };
    names.map(module).collect()
}

/// The modules with files of their own that a module declares, public ones or the others.
fn declared(module: &Module, public: bool) -> Vec<Module> {
    let mut found = Vec::new();
    let mut attribute = "";
    let text = read(&module.file);
    for line in text.lines() {
        let name = line.strip_prefix(if public { "pub mod " } else { "mod " });
        if let Some(name) = name.and_then(|rest| rest.strip_suffix(';'))
            && !attribute.contains("doc(hidden)")
        {
            let flat = module.below.join(format!("{name}.rs"));
            let below = module.below.join(name);
            let file = match attribute.strip_prefix("#[path = \"") {
                Some(path) => module.below.join(path.trim_end_matches("\"]")),
                None if flat.exists() => flat,
                None => below.join("mod.rs"),
            };
            let below = match file.ends_with("mod.rs") {
                true => file.parent().unwrap().into(),
                false => below,
            };
            let name = format!("{}::{name}", module.name);
            found.push(Module { name, file, below });
        }
        attribute = line;
    }
    found
}

/// How many examples a file has that are run.
fn examples(file: &Path) -> usize {
    let text = read(file);
    let docs = text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("//! ```")
            .or(line.strip_prefix("/// ```"))
    });
    // Each second one ends an example.
    docs.step_by(2).filter(|kind| kind.is_empty()).count()
}

/// Those of a module, with what its private modules have, whose items it shows as its own.
fn examples_of(module: &Module) -> usize {
    let private = declared(module, false);
    examples(&module.file) + private.iter().map(examples_of).sum::<usize>()
}

#[test]
fn each_public_module_shows_how_it_is_used() {
    let mut modules = crates();
    let mut missing = Vec::new();
    let mut unlisted: BTreeSet<&str> = WITHOUT.iter().map(|(name, _)| *name).collect();
    let mut count = 0;
    while let Some(module) = modules.pop() {
        count += 1;
        let is_listed = unlisted.remove(module.name.as_str());
        match (examples_of(&module), is_listed) {
            (0, false) => missing.push(module.name.clone()),
            (1.., true) => panic!("{} has an example: don't list it", module.name),
            _ => {}
        }
        modules.extend(declared(&module, true));
    }
    assert!(count > 60, "only {count} modules were found");
    assert!(missing.is_empty(), "without an example: {missing:?}");
    assert!(unlisted.is_empty(), "there are no modules {unlisted:?}");
}
