//! tests/README.md lists every test file with what it claims, which is the first paragraph of its documentation, and every
//! hostile case that is cited is in docs/hostile-cases.md. With `XEN9P_WRITE_TABLE` set, the list is written anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The programs of host tests, and the models.
const PROGRAMS: &[&str] = &[
    "argo",
    "domains",
    "fs",
    "idc",
    "models/src",
    "ns",
    "repository",
    "ring",
    "serve",
    "session",
    "toolbox",
    "vchan",
    "wire",
    "xen",
];

const BEGIN: &str = "<!-- table: written by tests/repository/documents.rs -->\n";
const END: &str = "<!-- end of table -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files below a directory, in order.
fn rust_files(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files = BTreeSet::new();
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path);
        }
    }
    files
}

/// The first paragraph of a file's documentation.
fn claim(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph = lines.map(str::trim).take_while(|line| !line.is_empty());
    paragraph.collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Links to the documents that a file names.
fn documents(text: &str) -> String {
    let names: BTreeSet<&str> = text
        .split("docs/")
        .skip(1)
        .filter_map(|rest| rest.split_once(".md"))
        .map(|(name, _)| name)
        .filter(|name| root().join(format!("docs/{name}.md")).exists())
        .collect();
    let links = names
        .iter()
        .map(|name| format!("[{name}](../docs/{name}.md)"));
    links.collect::<Vec<_>>().join(", ")
}

fn table() -> String {
    let tests = root().join("tests");
    let mut table = String::new();
    for program in PROGRAMS {
        let directory = tests.join(program);
        let files = rust_files(&directory);
        let about = ["main.rs", "lib.rs"].map(|name| directory.join(name));
        let about = about.iter().find(|path| path.exists()).expect("a root");
        let _ = writeln!(
            table,
            "\n### `{program}`\n\n{}\n\n| file | claim | document |\n|---|---|---|",
            claim(&read(about))
        );
        for file in files.iter().filter(|file| *file != about) {
            let text = read(file);
            let claim = claim(&text);
            assert!(
                claim.len() > 20,
                "{} has to say in its first line (//!) what it claims",
                file.display()
            );
            let name = file.strip_prefix(&directory).expect("below").display();
            let documents = documents(&text);
            let _ = writeln!(
                table,
                "| [{name}]({program}/{name}) | {claim} | {documents} |"
            );
        }
    }
    table + "\n"
}

#[test]
fn every_test_file_is_listed_with_its_claim() {
    let file = root().join("tests/README.md");
    let document = read(&file);
    let (before, rest) = document.split_once(BEGIN).expect("the list's beginning");
    let (old, after) = rest.split_once(END).expect("the list's end");
    let table = table();
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        fs::write(&file, [before, BEGIN, &table, END, after].concat()).expect("tests/README.md");
        return;
    }
    assert!(
        old == table,
        "tests/README.md is not what the test files say; this writes it anew: \
         XEN9P_WRITE_TABLE=1 cargo test --test repository"
    );
}

/// The hostile cases that a text cites: S and a number, as a word.
fn cases(text: &str) -> BTreeSet<u32> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.strip_prefix('S')?.parse().ok())
        .collect()
}

#[test]
fn every_hostile_case_that_is_cited_is_in_the_list() {
    let list = read(&root().join("docs/hostile-cases.md"));
    let listed: BTreeSet<u32> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| S")?.split_once(' ')?.0.parse().ok())
        .collect();
    assert_eq!(listed, (1..=19).collect(), "docs/hostile-cases.md");
    let mut cited = cases(&read(&root().join("docs/hostile-backends.md")));
    for file in rust_files(&root().join("tests/ring/hostile")) {
        cited.extend(cases(&read(&file)));
    }
    assert!(cited.len() > 10, "cited are {cited:?}");
    assert!(cited.is_subset(&listed), "cited are {cited:?}");
}

/// Files that a document links to, relative to it.
fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.split('#').next().unwrap_or(""));
    targets
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .collect()
}

#[test]
fn links_lead_to_files() {
    let mut documents: Vec<PathBuf> = ["README", "CONTRIBUTING", "SECURITY", "CHANGELOG"]
        .map(|name| root().join(name).with_extension("md"))
        .into();
    documents.push(root().join("tests/README.md"));
    for entry in fs::read_dir(root().join("docs")).expect("docs") {
        let path = entry.expect("a directory entry").path();
        documents.extend(path.extension().is_some_and(|e| e == "md").then_some(path));
    }
    let mut found = 0;
    for document in documents {
        let text = read(&document);
        let directory = document.parent().expect("a directory");
        for link in links(&text) {
            let target = directory.join(link);
            assert!(target.exists(), "{}: {link}", document.display());
            found += 1;
        }
    }
    assert!(found > 20, "{found} links");
}
