//! The TOML file that describes guests and tests.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use crate::domain::Kind;
use crate::fail;
use crate::host::{Context, Result};
use crate::share;

/// All of a file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of Xen, if not the usual.
    pub xen: Option<String>,
    /// What serves shares, if not the usual.
    pub backend: Option<String>,
    /// The guests that tests start, by name.
    #[serde(default, rename = "guest")]
    pub guests: BTreeMap<String, GuestPlan>,
    /// The tests.
    #[serde(default, rename = "test")]
    pub tests: Vec<TestPlan>,
    /// Where the file is: paths in it are relative to that.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// A guest.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct GuestPlan {
    /// An ELF file or a bzImage; `@linux` is the Linux of dom0's release.
    pub kernel: PathBuf,
    /// First file system; `@linux` is one with a shell on the console.
    pub ramdisk: Option<PathBuf>,
    /// Command line.
    #[serde(default)]
    pub cmdline: String,
    /// MiB of memory.
    #[serde(default = "memory")]
    pub memory: u32,
    /// Virtual processors.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Further lines of xl's configuration.
    #[serde(default)]
    pub config: String,
    /// Directories, by tag.
    #[serde(default, rename = "share")]
    pub shares: BTreeMap<String, SharePlan>,
}

fn memory() -> u32 {
    64
}

fn one() -> u32 {
    1
}

/// A directory for a guest: a new one for each test, with a copy of what is in another.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct SharePlan {
    /// What is copied.
    pub dir: Option<PathBuf>,
    /// Further files in it: path and content.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// A test.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct TestPlan {
    /// Its name.
    pub name: String,
    /// Kinds of domain: it is run with each. Otherwise each guest is what its kernel says.
    #[serde(default)]
    pub types: Vec<Kind>,
    /// Seconds that all of it may take.
    #[serde(default = "seconds")]
    pub timeout: u64,
    /// What is done.
    #[serde(rename = "steps")]
    written: Vec<Spanned<Step>>,
    /// The same, judged.
    #[serde(skip)]
    pub steps: Vec<Action>,
}

fn seconds() -> u64 {
    60
}

/// A step as it is written. One of the first six says what it is.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields)]
struct Step {
    start: Option<String>,
    console: Option<Pattern>,
    #[serde(rename = "type")]
    keys: Option<String>,
    dom0: Option<String>,
    file: Option<String>,
    ends: Option<End>,
    /// The guest that it is about: the last that was started, unless it is said.
    on: Option<String>,
    /// With `dom0`.
    output: Option<Pattern>,
    status: Option<i32>,
    /// With `file`.
    content: Option<Pattern>,
}

/// How a guest is to end.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It powers off.
    Poweroff,
    /// It asks to be started again.
    Reboot,
    /// It crashes.
    Crash,
}

/// A regular expression; `^` and `$` are the ends of lines.
#[derive(Deserialize, Clone, Debug)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Where the first match ends.
    pub fn end_in(&self, text: &str) -> Option<usize> {
        self.0.find(text).map(|found| found.end())
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> std::result::Result<Pattern, regex::Error> {
        let mut builder = RegexBuilder::new(&text);
        // Consoles end lines with a carriage return as well.
        builder.multi_line(true).crlf(true).build().map(Pattern)
    }
}

/// What a step does. The guest's name comes first where it is about one.
#[derive(Clone, Debug)]
pub enum Action {
    /// Starts a guest.
    Start(String),
    /// Waits until this is on the console, after what the last such step found.
    Console(String, Pattern),
    /// Types.
    Type(String, String),
    /// Runs a script in dom0, which must end with this status and print that.
    Dom0 {
        script: String,
        status: i32,
        output: Option<Pattern>,
    },
    /// Looks at a file of a share: its tag, its path, and its expected content.
    File {
        guest: String,
        tag: String,
        path: String,
        content: Option<Pattern>,
    },
    /// Waits until the guest ends that way.
    Ends(String, End),
}

impl Plan {
    /// Reads a file; an error tells the line.
    pub fn read(path: &Path) -> Result<Plan> {
        let text = fs::read_to_string(path).during("read", path)?;
        let mut plan =
            Plan::parse(&text).map_err(|problem| fail!("{}: {problem}", path.display()))?;
        plan.directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(plan)
    }

    fn parse(text: &str) -> std::result::Result<Plan, String> {
        let mut plan: Plan = toml::from_str(text).map_err(|error| {
            let place = error
                .span()
                .map_or(String::new(), |span| line_of(text, &span));
            format!("{place}{}", error.message().trim_end())
        })?;
        for (name, guest) in &plan.guests {
            check_name(name)?;
            for (tag, share) in &guest.shares {
                share::check_tag(tag).map_err(|fail| format!("guest {name}: {fail}"))?;
                for path in share.files.keys() {
                    check_path(path).map_err(|problem| format!("guest {name}: {problem}"))?;
                }
            }
        }
        if plan.tests.is_empty() {
            return Err("it has no [[test]]".to_owned());
        }
        let guests = &plan.guests;
        for test in &mut plan.tests {
            let mut started: Vec<String> = Vec::new();
            for written in &test.written {
                let action = judge(written.get_ref(), guests, &mut started)
                    .map_err(|problem| format!("{}{problem}", line_of(text, &written.span())))?;
                test.steps.push(action);
            }
        }
        Ok(plan)
    }
}

fn line_of(text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    format!("line {}: ", before.matches('\n').count() + 1)
}

/// Names of guests are variables of the scripts in dom0.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let is_good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match is_good {
        true => Ok(()),
        false => Err(format!(
            "guest {name:?}: its name is a lower-case letter, then such letters, digits or '_'"
        )),
    }
}

/// Paths in a share stay there.
fn check_path(path: &str) -> std::result::Result<(), String> {
    let parts = path.split('/');
    let stays = parts
        .clone()
        .all(|part| !part.is_empty() && part != "." && part != "..");
    match stays {
        true => Ok(()),
        false => Err(format!("{path:?}: it is a path in the share, as dir/file")),
    }
}

/// Makes an action of a step, if it is one.
fn judge(
    step: &Step,
    guests: &BTreeMap<String, GuestPlan>,
    started: &mut Vec<String>,
) -> std::result::Result<Action, String> {
    let said = [
        step.start.is_some(),
        step.console.is_some(),
        step.keys.is_some(),
        step.dom0.is_some(),
        step.file.is_some(),
        step.ends.is_some(),
    ];
    if said.iter().filter(|&&said| said).count() != 1 {
        return Err("a step has one of start, console, type, dom0, file, ends".to_owned());
    }
    if (step.output.is_some() || step.status.is_some()) && step.dom0.is_none() {
        return Err("output and status go with dom0".to_owned());
    }
    if step.content.is_some() && step.file.is_none() {
        return Err("content goes with file".to_owned());
    }
    if let Some(script) = &step.dom0 {
        return Ok(Action::Dom0 {
            script: script.clone(),
            status: step.status.unwrap_or(0),
            output: step.output.clone(),
        });
    }
    if let Some(name) = &step.start {
        if !guests.contains_key(name) {
            return Err(format!("there is no [guest.{name}]"));
        }
        if started.contains(name) {
            return Err(format!("guest {name} is started twice"));
        }
        started.push(name.clone());
        return Ok(Action::Start(name.clone()));
    }
    let guest = match &step.on {
        None => started.last().ok_or("no guest was started before")?,
        Some(name) => started
            .iter()
            .find(|known| *known == name)
            .ok_or_else(|| format!("guest {name} was not started before"))?,
    };
    let guest = guest.clone();
    if let Some(path) = &step.file {
        let (tag, path) = path
            .split_once(':')
            .ok_or_else(|| format!("file {path:?}: it is TAG:PATH"))?;
        check_path(path)?;
        if !guests[&guest].shares.contains_key(tag) {
            return Err(format!("guest {guest} has no share {tag}"));
        }
        return Ok(Action::File {
            guest,
            tag: tag.to_owned(),
            path: path.to_owned(),
            content: step.content.clone(),
        });
    }
    match (&step.console, &step.keys, step.ends) {
        (Some(pattern), _, _) => Ok(Action::Console(guest, pattern.clone())),
        (_, Some(keys), _) => Ok(Action::Type(guest, keys.clone())),
        (_, _, Some(end)) => Ok(Action::Ends(guest, end)),
        _ => Err("the step says nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[guest.hello]
kernel = "hello.elf"
share.share = { files = { "in.txt" = "in" } }

[[test]]
name = "hello"
types = ["pv", "pvh"]
steps = [
  { start = "hello" },
  { console = "^Hello$" },
  { type = "bye\r" },
  { dom0 = "xl list $hello", output = "hello" },
  { file = "share:out.txt", content = "out" },
  { ends = "poweroff" },
]
"#;

    #[test]
    fn a_plan_is_read() {
        let plan = Plan::parse(GOOD).unwrap();
        assert_eq!(plan.tests[0].types, [Kind::Pv, Kind::Pvh]);
        assert_eq!(plan.tests[0].steps.len(), 6);
        let Action::Console(guest, pattern) = &plan.tests[0].steps[1] else {
            panic!("{:?}", plan.tests[0].steps[1]);
        };
        assert_eq!(guest, "hello");
        assert_eq!(pattern.end_in("Oh\r\nHello\r\n"), Some(9));
        assert_eq!(pattern.end_in("Hello, you\r\n"), None);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let problem = |old: &str, new: &str| {
            assert!(GOOD.contains(old), "{old}");
            Plan::parse(&GOOD.replace(old, new)).unwrap_err()
        };
        #[rustfmt::skip]
        let cases = [
            ("kernel =", "kernle =", "line 3: ", "unknown field `kernle`"),
            ("\"pv\"", "\"pw\"", "line 8: ", "unknown variant `pw`"),
            ("\"^Hello$\"", "\"(\"", "line 11: ", "unclosed group"),
            ("start = \"hello\"", "start = \"other\"", "line 10: ", "no [guest.other]"),
            ("type = \"bye\\r\"", "type = \"x\", on = \"other\"", "line 12: ", "was not started"),
            ("output = ", "content = ", "line 13: ", "content goes with file"),
            ("share:out.txt", "other:out.txt", "line 14: ", "no share other"),
            ("share:out.txt", "share:../out.txt", "line 14: ", "path in the share"),
            ("ends = \"poweroff\"", "ends = \"off\"", "line 15: ", "unknown variant `off`"),
            ("{ ends", "{ start = \"hello\", ends", "line 15: ", "one of start"),
            ("name = \"hello\"\n", "", "line 6: ", "missing field `name`"),
            ("[[test]]", "[[test]", "line 6: ", ""),
        ];
        for (old, new, line, text) in cases {
            let problem = problem(old, new);
            assert!(problem.starts_with(line), "{new}: {problem}");
            assert!(problem.contains(text), "{new}: {problem}");
        }
        assert!(problem("guest.hello", "guest.Hello").contains("lower-case"));
        assert!(Plan::parse("").unwrap_err().contains("no [[test]]"));
    }
}
