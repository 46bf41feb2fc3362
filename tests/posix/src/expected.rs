//! Failures that are known and justified: the file `expected-failures.txt`.

use std::collections::BTreeSet;

use crate::suites::{Outcome, Outcomes};

/// Why a failure is not the client's.
const CAUSES: [&str; 3] = ["protocol", "server", "fuse"];

/// What the list says about one server's failures, held against what happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub passed: usize,
    pub skipped: usize,
    /// Failures that are listed.
    pub expected: Vec<String>,
    /// Failures that are not, and tests that did not run though they did on the host.
    pub unexpected: Vec<String>,
    /// Tests that are listed but passed.
    pub better: Vec<String>,
    /// Tests that failed on the host too: they say nothing about the client.
    pub host: Vec<String>,
}

/// The tests that are expected to fail with `server`. The text has a line for each: servers
/// (separated by commas, or `*`), test, cause, reason; `#` begins a comment.
pub fn list(text: &str, server: &str) -> Result<BTreeSet<String>, String> {
    let mut tests = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(servers), Some(test), Some(cause), Some(_reason)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(format!(
                "line {number}: it takes servers, test, cause and reason"
            ));
        };
        if !CAUSES.contains(&cause) {
            return Err(format!(
                "line {number}: {cause} is none of {}",
                CAUSES.join(", ")
            ));
        }
        if servers != "*" && !servers.split(',').any(|name| name == server) {
            continue;
        }
        for test in alternatives(test) {
            if let Some(twice) = tests.replace(test) {
                return Err(format!(
                    "line {number}: {twice} is listed twice for {server}"
                ));
            }
        }
    }
    Ok(tests)
}

/// All that a name with `{a,b}` in it stands for.
fn alternatives(test: &str) -> Vec<String> {
    let parts = test
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match parts {
        Some((before, (inside, after))) => inside
            .split(',')
            .map(|one| format!("{before}{one}{after}"))
            .collect(),
        None => vec![test.to_owned()],
    }
}

/// Holds what happened on the mount against the list and against the bare host directory.
pub fn judge(mount: &Outcomes, host: &Outcomes, listed: &BTreeSet<String>) -> Verdict {
    let mut verdict = Verdict::default();
    for (test, on_host) in host {
        let name = test.clone();
        match (mount.get(test), on_host) {
            (Some(Outcome::Passed), _) if listed.contains(test) => verdict.better.push(name),
            (Some(Outcome::Passed), _) => verdict.passed += 1,
            (_, Outcome::Skipped) => verdict.skipped += 1,
            (_, Outcome::Failed) => verdict.host.push(name),
            (_, _) if listed.contains(test) => verdict.expected.push(name),
            (Some(Outcome::Failed), _) => verdict.unexpected.push(name),
            (Some(Outcome::Skipped) | None, Outcome::Passed) => {
                verdict.unexpected.push(format!("{name} (did not run)"))
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, Passed, Skipped};

    fn outcomes(list: &[(&str, Outcome)]) -> Outcomes {
        list.iter()
            .map(|&(name, outcome)| (name.to_owned(), outcome))
            .collect()
    }

    #[test]
    fn only_differences_from_the_host_count() {
        let host = outcomes(&[
            ("a", Passed),
            ("b", Passed),
            ("c", Failed),
            ("d", Skipped),
            ("e", Passed),
            ("f", Passed),
        ]);
        let mount = outcomes(&[
            ("a", Passed),
            ("b", Failed),
            ("c", Failed),
            ("d", Failed),
            ("e", Failed),
        ]);
        let listed = ["a".to_owned(), "b".to_owned()].into();
        let verdict = judge(&mount, &host, &listed);
        assert_eq!(verdict.better, ["a"]);
        assert_eq!(verdict.expected, ["b"]);
        assert_eq!(verdict.host, ["c"]);
        assert_eq!(verdict.skipped, 1);
        assert_eq!(verdict.unexpected, ["e", "f (did not run)"]);
    }

    #[test]
    fn entries_need_a_cause_and_a_reason() {
        let text = "# comment\nqemu,diod  open::x  server  it says so\ndiod open::y protocol no such message\n";
        assert_eq!(list(text, "qemu"), Ok(["open::x".to_owned()].into()));
        assert_eq!(list(text, "diod").map(|tests| tests.len()), Ok(2));
        let both = list("* open::{x,y} fuse why\n", "p9");
        assert_eq!(
            both,
            Ok(["open::x".to_owned(), "open::y".to_owned()].into())
        );
        assert!(list("* open::{x,y} fuse why\np9 open::y fuse why", "p9").is_err());
        assert!(list("qemu open::x server", "qemu").is_err());
        assert!(list("qemu open::x weather rain", "qemu").is_err());
        assert!(list("qemu a fuse x\nqemu a fuse x", "qemu").is_err());
    }

    #[test]
    fn the_list_itself_is_sound() {
        for server in crate::servers::Server::ALL {
            list(crate::EXPECTED, server.name()).expect("well-formed");
        }
    }
}
