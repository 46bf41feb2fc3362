//! docs/rows.md names only tests that exist, and each row once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of the tests under xl.
fn bed() -> String {
    let directory = root().join("tools/bed/src/xen_tests");
    let files = fs::read_dir(&directory).expect("the tests under xl");
    files
        .map(|file| read(&file.expect("an entry").path()))
        .collect()
}

#[test]
fn every_row_names_tests_that_exist() {
    let document = read(&root().join("docs/rows.md"));
    let bed = bed();
    let (rows, rest) = document
        .split_once("## Not to be had")
        .expect("the last section");
    let mut seen = BTreeSet::new();
    for line in rows.lines().filter(|line| line.starts_with("| ")) {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, what, tests] = columns[..] else {
            panic!("a row has three columns: {line}")
        };
        if row == "row" {
            continue;
        }
        assert!(seen.insert(row), "row {row} is there twice");
        assert!(
            !what.is_empty() && spans(tests).next().is_some(),
            "row {row} names no test"
        );
        for test in spans(tests) {
            let (place, name) = test
                .split_once(": ")
                .unwrap_or_else(|| panic!("{row}: {test}"));
            let there = match place {
                "make test-xen" | "make test-argo" => bed.contains(&format!("(\"{name}\"")),
                file => {
                    let text = read(&root().join(file));
                    // Some are for several kinds of machine.
                    ["(", "<"]
                        .iter()
                        .any(|end| text.contains(&format!("fn {name}{end}")))
                }
            };
            assert!(there, "row {row}: there is no test {test}");
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
    assert!(
        rest.contains("| P.1 |"),
        "what can't be had has its reasons"
    );
}
