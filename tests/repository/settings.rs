//! The settings that `make help` lists are those that the Makefile and the programs it calls take, and each with the commands that
//! take it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Variables of make and of the environment.
const OF_OTHERS: &[&str] = &[
    "CARGO_HOME",
    "CURDIR",
    "HOME",
    "MAKE",
    "MAKECMDGOALS",
    "MAKEFLAGS",
];

/// Programs that read settings of the environment, by how a recipe calls them, and whether each call reads all.
const PROGRAMS: &[(&str, &str, bool)] = &[
    ("$(OWN_TESTS)", "tools/bed/src/own_tests.rs", false),
    (
        "target/clients/release/bench-clients",
        "benches/clients/src/main.rs",
        true,
    ),
    ("target/release/posix", "tests/posix/src/main.rs", true),
    ("tests/package-check.sh", "tests/package-check.sh", true),
];

/// Commands that boot an image as `run` does, and take its settings, which are not listed for them.
const AS_RUN: &[&str] = &["bench-costs", "test-trixie"];

type Names = BTreeSet<String>;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && (text.chars()).all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The names in capitals that stand behind one of `fronts` in a text.
fn names_behind(text: &str, fronts: &[&str]) -> Names {
    let ends = |front| {
        text.match_indices(front)
            .map(|(at, front)| at + front.len())
    };
    let found = fronts.iter().copied().flat_map(ends).map(|at| {
        let word = text[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        word.into_iter().next().unwrap_or_default()
    });
    let names = found.filter(|name| is_name(name) && !OF_OTHERS.contains(name));
    names.map(String::from).collect()
}

/// The settings that a program reads.
fn read_by(source: &str) -> Names {
    let fronts = [
        "given(\"",
        "text(\"",
        "number(\"",
        "variable(\"",
        "var(\"",
        "${",
    ];
    names_behind(&read(source), &fronts)
}

#[derive(Default)]
struct Makefile {
    /// Values of variables, with what they are made of not put in.
    variables: BTreeMap<String, String>,
    /// What it hands to programs.
    exported: Names,
    /// What each rule needs, and the lines of its recipe.
    rules: BTreeMap<String, Vec<String>>,
    /// The rules that `make help` lists.
    commands: Names,
    /// The settings that it lists, and the commands of each.
    settings: BTreeMap<String, Names>,
}

impl Makefile {
    fn read() -> Makefile {
        let mut found = Makefile::default();
        let text = read("Makefile").replace("\\\n", " ");
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Names>();
        let mut rule = String::new();
        for line in text.lines() {
            if let Some(setting) = line.strip_prefix("#: ") {
                let (front, commands) = setting.split_once(" [").expect("commands in brackets");
                let name = front.split(' ').next().unwrap_or_default();
                let commands = words(commands.trim_end_matches(']'));
                found.settings.insert(name.into(), commands);
            } else if let Some(recipe) = line.strip_prefix('\t') {
                found
                    .rules
                    .entry(rule.clone())
                    .or_default()
                    .push(recipe.into());
            } else if let Some(names) = line.strip_prefix("export ") {
                found.exported = words(names);
            } else if let Some((name, value)) = line.split_once('=')
                // One with a question mark is a setting.
                && is_name(name.trim_end_matches([':', ' ']))
            {
                let name = name.trim_end_matches([':', ' ']);
                found.variables.insert(name.into(), value.into());
            } else if let Some((target, needs)) = line.split_once(':')
                && target.starts_with(|c: char| c.is_ascii_lowercase())
            {
                rule = target.into();
                let (needs, help) = needs.split_once("##").unwrap_or((needs, ""));
                if !help.is_empty() {
                    found.commands.insert(rule.clone());
                }
                found.rules.insert(rule.clone(), vec![needs.into()]);
            }
        }
        found
    }

    /// The settings that a line uses, also by the variables in it. What it sets itself is no setting of its user.
    fn used(&self, line: &str) -> Names {
        let mut used = Names::new();
        for name in names_behind(line, &["$(", "${", "$$"]) {
            match self.variables.get(&name) {
                Some(value) => used.extend(self.used(value)),
                None => drop(used.insert(name)),
            }
        }
        for (call, source, reads_all) in PROGRAMS {
            if *reads_all && line.contains(call) {
                used.extend(read_by(source));
            }
        }
        let is_set = |name: &str| {
            line.contains(&format!("{name}=")) && !line.contains(&format!("{name}='$({name})'"))
        };
        used.retain(|name| !is_set(name));
        used
    }
}

#[test]
fn make_help_lists_the_settings_that_are_taken() {
    let makefile = Makefile::read();
    let listed: Names = makefile.settings.keys().cloned().collect();
    let lines = makefile.rules.values().flatten();
    let mut taken: Names = lines.flat_map(|line| makefile.used(line)).collect();
    taken.extend(makefile.exported.iter().cloned());
    for (_, source, _) in PROGRAMS.iter().filter(|(_, _, reads_all)| !reads_all) {
        let read = read_by(source);
        assert!(
            read.is_subset(&makefile.exported),
            "export what {source} reads: {read:?}"
        );
        taken.extend(read);
    }
    assert_eq!(listed, taken);

    for (setting, commands) in &makefile.settings {
        assert!(!commands.is_empty(), "no command takes {setting}");
        for command in commands {
            assert!(
                makefile.commands.contains(command),
                "{setting}: no command {command}"
            );
            let takes = makefile.rules[command].iter().any(|line| {
                let by_program = |(call, source, _): &(&str, &str, bool)| {
                    line.contains(call)
                        && read_by(source).contains(setting)
                        && !line.contains(&format!("{setting}="))
                };
                makefile.used(line).contains(setting) || PROGRAMS.iter().any(by_program)
            });
            assert!(takes, "{command} does not take {setting}");
        }
    }
    for command in makefile
        .commands
        .iter()
        .filter(|it| !AS_RUN.contains(&it.as_str()))
    {
        for setting in makefile.rules[command]
            .iter()
            .flat_map(|line| makefile.used(line))
        {
            assert!(
                makefile.settings[&setting].contains(command),
                "{command} takes {setting}"
            );
        }
    }
}
