//! Commands do what GNU's do on the same tree: output, status, and what they leave. Where they differ, the table says how.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use xen9p_testing::server::TempDir;

use crate::backends::Xen9pd;

type Desk = crate::desk::Desk<Xen9pd>;

/// Lines that are the same for both.
#[rustfmt::skip]
const SAME: &[&str] = &[
    "ls", "ls -a", "ls -A", "ls -1r", "ls -S", "ls -Sr", "ls -t", "ls -d dir empty", "ls -R", "ls -R dir link",
    "ls -l empty", "ls -lh empty", "ls -l dir > out && head -n 1 out && rm out", "ls -la dir > out && head -n 1 out && rm out",
    "ls -lh dir > out && head -n 1 out && rm out", "ls -lR dir > out && grep total out && rm out",
    "ls link", "ls empty", "ls -1 words numbers", "ls dir words sub.txt", "ls -rR dir",
    "echo *", "echo *.txt d*/*", "echo .h* [a-n]* none*", "echo '*' \"*\" \\*", "false || echo $?", "true && echo a && echo b",
    "cat words numbers > both && cat both", "echo more >> words && cat words", "cat none", "cat dir", "cat words none numbers",
    "head words", "head -n 2 numbers", "head -2 numbers", "head -c 7 words", "head -n 3 words numbers", "head -q -n 1 words numbers",
    "head none", "head -n 0 words", "head no-newline", "tail numbers", "tail -n 3 numbers", "tail -n +98 numbers", "tail -c 5 words",
    "tail -c +4 words", "tail -n 1 no-newline", "tail -n 2 words numbers", "tail -n 1000 numbers", "tail -n 0 words", "tail empty.txt",
    "wc words", "wc -l numbers", "wc -w words numbers", "wc words numbers no-newline", "wc -c empty.txt", "wc none", "wc -lw words",
    "grep b words", "grep -n b words", "grep -v b words", "grep -c b words numbers", "grep -l b words numbers none", "grep -i B words",
    "grep '^b' words", "grep 'a$' words", "grep 'b.*a' words", "grep -E 'an+a|q' words", "grep -F . words numbers", "grep -x banana words",
    "grep '[0-4]5' numbers", "grep 'x*y' words", "grep -q b words", "grep zzz words", "grep -e b -h words numbers", "grep -H b words",
    "grep b none", "grep b dir", "grep -c '' numbers", "grep '[^a-z]' words", "grep -vc b words", "grep -E 'ba?n' words",
    "cmp words words", "cmp words numbers", "cmp -s words numbers", "cmp words longer", "cmp empty.txt words", "cmp none words",
    "touch new && cat new", "touch -c none", "touch none/x", "touch -r words new && ls -t new words", "touch words dir",
    "ln words hard && cat hard", "ln -s words soft && cat soft", "ln none x", "ln -s words", "ln words numbers", "ln -sf numbers words && cat words",
    "ln words numbers dir && ls dir", "ln -s a b c", "ln -v words hard",
    "chmod 600 words", "chmod u+x,go-r words", "chmod -R go= dir", "chmod a+X dir words", "chmod -x words", "chmod +w words", "chmod 755 none",
    "chmod -v 600 words", "chmod g+s dir && chmod 755 dir", "chmod 1777 dir",
    "chown 1 words", "chown 1:2 words", "chown :3 words", "chown -R 4 dir", "chown 1 none", "chown -h 5 link",
    "find", "find .", "find dir", "find words dir", "find dir -type f", "find . -name '*.txt'", "find . -name '*.txt' -type d", "find . -iname 'WORD*'",
    "find . -size +1", "find . -size -2 -type f", "find . -size 6c", "find . -empty", "find . -maxdepth 1", "find dir -mindepth 1 -maxdepth 1",
    "find . ! -name '*.txt' -type f", "find none", "find . -path '*deep*'", "find . -type l", "find . -newer old", "find dir/",
    "rm words", "rm none", "rm -f none words", "rm dir", "rm -r dir", "rm -rv dir/deep", "rm -v words numbers", "rm -d empty", "rm *.txt",
    "rm -r dir none words", "rm link && ls dir", "rmdir empty", "rmdir dir", "rmdir words",
    "mkdir a b", "mkdir -p x/y/z", "mkdir x/y", "mkdir dir", "mkdir -p dir", "mkdir -v a", "mkdir -m 700 a", "mkdir -pm 700 x/y", "mkdir -pv x/y/z dir/a ./b//c", "mkdir -m u=rwx,go= a",
    "cp words copy", "cp words dir", "cp words numbers dir", "cp dir x", "cp -r dir x", "cp -a dir x", "cp -p old x", "cp -pr dir x",
    "cp -u old words && cat words", "cp -u words old && cat old", "cp -v words copy", "cp -rv empty x", "cp none x", "cp words none/x",
    "cp words words", "cp -r link x", "cp link/deep x", "cp -rP link x", "cp words numbers copy", "cp -a link soft", "cp -r dir/ x",
    "ln words dir/w && ln dir/f.txt dir/deep/f && cp -a dir x", "ln words dir/w && ln dir/f.txt dir/deep/f && cp -pr dir x",
    "ln words hard && cp -a words hard empty", "ln words hard && cp -r words hard empty",
    "chmod 700 dir && cp -r dir x", "chmod 775 dir/deep && cp -r dir x", "chmod 775 dir/deep && cp -a dir x",
    "ln dir/f.txt dir/g && mkdir x && cp -a dir x && cp -a dir x",
    "mv words renamed", "mv words dir", "mv dir empty", "mv none x", "mv -n words numbers && cat numbers", "mv -v words renamed", "mv words numbers && cat numbers",
    "mv -f words numbers", "mv words numbers empty && ls empty",
    "truncate -s 3 words && cat words", "truncate -s 0 numbers && wc -c numbers", "truncate -s 9 new && wc -c new", "truncate -cs 9 none", "truncate -s 1K new && wc -c new", "truncate -s 2M new && wc -c new",
    "cd dir && ls && cd .. && ls -d dir", "cp -d link x", "cp -f words numbers",
    "cp -R dir x", "cp -fu -rv dir x", "df > out && rm out", "df -h . > out && rm out", "df -k . > out && rm out", "df none",
    "du", "du -a", "du -s dir", "du -sh dir", "du -c words dir", "du -k", "du -d 1", "du -h words", "du -ach dir", "du none",
    "find . -not -name '*.txt' -print", "find . -name '*.txt' -a -type f -and -size -3", "find . -type f,l", "find dir -type d",
    "grep -G 'ba*' words", "grep -r deep dir", "grep -R deep dir", "grep -rl deepest", "grep -rhi DEEPEST dir",
    "head -v words", "tail -v words", "tail -q -n 1 words numbers", "tail -5 numbers", "head -qv words numbers", "ls -C dir", "ls -N dir", "rm -R dir", "rm -dv empty",
    "touch -a words", "touch -m words", "touch -am none", "wc -m words", "wc -clmw words", "stat words > out && rm out", "stat link > out && head -n 1 out && rm out", "stat none", "sleep 0",
    "false", "true", "true x", "echo a # b", "rm dir empty words",
    // From another directory, with what is typed told as it is typed.
    "cd dir && find", "cd dir && find .", "cd dir && find *", "cd dir && find deep -name h.txt", "cd dir && find ..", "cd dir && find . -path './deep/*'", "cd dir && find none deep",
    "cd dir && ls *", "cd dir && ls -R", "cd dir && ls -R . deep", "cd dir && ls -d . deep f.txt", "cd dir && ls f.txt ../words", "cd dir && ls -1d ./f.txt deep/../f.txt",
    "cd dir && du", "cd dir && du -a deep", "cd dir && du *", "cd dir && du none",
    "cd dir && wc f.txt", "cd dir && wc f.txt deep/g ../words", "cd dir && wc none", "cd dir && cat none f.txt", "cd dir && cat deep",
    "cd dir && head f.txt deep/g", "cd dir && head -v f.txt", "cd dir && head none deep/g", "cd dir && tail f.txt ./deep/g", "cd dir && tail -v deep/g", "cd dir && tail none",
    "cd dir && grep -r deep", "cd dir && grep -r deep .", "cd dir && grep -r deep deep", "cd dir && grep -rl deepest", "cd dir && grep dir f.txt deep/g none", "cd dir && grep -c d f.txt deep/g",
    "cd dir && cmp f.txt deep/g", "cd dir && cmp f.txt none", "cd dir && cmp ../empty.txt f.txt",
    "cd dir && rm -v f.txt", "cd dir && rm -rv deep", "cd dir && rm -rv ../sub.txt ./deep", "cd dir && rm none", "cd dir && rm deep", "cd dir && rm -r .", "cd dir && rm -dv deep/er",
    "cd dir && cp -v f.txt g", "cd dir && cp -v f.txt deep", "cd dir && cp -v ../words .", "cd dir && cp -rv deep x", "cd dir && cp none x", "cd dir && cp f.txt ./f.txt", "cd dir && cp deep x",
    "cd dir && cp -r deep deep/x", "cd dir && cp f.txt none/x",
    "cd dir && mv -v f.txt g", "cd dir && mv -v f.txt deep", "cd dir && mv -v deep ../x", "cd dir && mv none x", "cd dir && mv f.txt ./f.txt", "cd dir && mv -v f.txt deep/g ..",
    "cd dir && ln -v f.txt hard", "cd dir && ln -sv f.txt soft && cat soft", "cd dir && ln -sv ../words && cat words", "cd dir && ln none x", "cd dir && ln f.txt deep/g",
    "cd dir && mkdir -v a", "cd dir && mkdir deep", "cd dir && mkdir none/x", "cd dir && rmdir deep", "cd dir && rmdir none", "cd dir && touch none/x", "cd dir && touch -c none",
    "cd dir && chmod -v 600 f.txt", "cd dir && chmod -Rv 700 deep", "cd dir && chmod 700 none", "cd dir && chown 1 none", "cd dir && truncate -s 1 deep", "cd dir && stat none",
    "cd dir && echo *", "cd dir && cd deep && find . -type f", "cd link && find .", "cd link && cd .. && ls -d dir", "cd dir/deep && cd ../.. && ls",
    "write", "exit 3", "false; echo no", "echo a  b 'c  d'", "echo -n x", "echo",
];

/// Lines whose output or status differ, with ours and why.
#[rustfmt::skip]
const DIFFERENT: &[(&str, u8, &str, &str)] = &[
    ("ls words none", 1, "words\n", "an operand that is missing gives 1, as in every other command, not 2"),
    ("chmod u+y words", 2, "", "a wrong mode is a wrong call"),
    ("wc dir", 1, "", "GNU's counts 0 for a directory after the error"),
    ("cp", 2, "", "wrong calls have the status 2 here, GNU's 1, and the usage is in the same line"),
    ("ls -Z", 2, "", "an option that is not there; GNU's shows security contexts"),
    ("find . -exec echo", 2, "", "no command is run for what is found"),
    ("head -n -1 numbers", 2, "", "no lines are counted from the end"),
    ("ls -l words", 0, "-rw-r--r--   1     0     0         16 2001-09-09 01:46:40 words\n", "times are UTC with seconds, columns fixed, names of users not known"),
    ("cd none", 1, "", "dash ends with 2"),
    ("chown -v 1 words", 0, "ownership of 'words' changed to 1\n", "names of users are not known, nor told what was before"),
    ("sleep x", 2, "", "a wrong call"),
    ("truncate -s +5 words", 2, "", "a size is given, no change of it"),
    ("pwd", 0, "/\n", "the tree is at the root here"),
    ("du -b words", 2, "", "apparent sizes are not there"),
];

/// Lines that put something into another file system, and are the same for both: status, what is left, and what is there.
const ACROSS: &[&str] = &[
    "ln words a && mv words a {}",
    "ln words a && mv words numbers a {}",
    "ln words a && ln words b && mv a words {}",
    "ln words a && mv words {} && mv a {}",
    "ln words dir/w && ln words dir/deep/w && mv words dir {}",
    "ln words dir/w && mv dir words old {}",
    "ln words dir/w && ln words empty/w && mv dir empty {}",
    "ln words a && cp -a words a {}",
    "ln words dir/w && cp -a words dir {}",
    "ln words a && cp -p words a {}",
    "ln words a && cp words a {}",
    "ln words dir/w && mv dir {} && mv words {}",
];

/// What is written with `false; echo no` is not run here: the first command that fails ends the line.
const ENDS: &[&str] = &["false; echo no", "write"];

fn make_tree(at: &Path) {
    let file = |name: &str, content: &str| fs::write(at.join(name), content).unwrap();
    fs::create_dir_all(at.join("dir/deep/er")).unwrap();
    fs::create_dir_all(at.join("empty")).unwrap();
    fs::create_dir_all(at.join("sub.txt")).unwrap();
    file("words", "apple\nbanana\nqx\n");
    file("old", "old\n");
    file("longer", "apple\nbanana\nqx\nmore\n");
    file(
        "numbers",
        &(1..=100).map(|n| format!("{n}\n")).collect::<String>(),
    );
    file("no-newline", "one\ntwo");
    file("empty.txt", "");
    file(".hidden", "h\n");
    file("large.txt", &"0123456789abcde\n".repeat(500));
    file("dir/f.txt", "in dir\n");
    file("dir/deep/g", "deep\n");
    file("dir/deep/er/h.txt", "deepest\n");
    std::os::unix::fs::symlink("dir", at.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at.join("dangling")).unwrap();
    // Times that do not depend on when the tree was made.
    let out = Command::new("sh")
        .args(["-c", "find . -exec touch -h -d @1000000000 {} +; touch -d @900000000 old; touch -d @1100000000 numbers"])
        .env("TZ", "UTC")
        .current_dir(at)
        .output()
        .unwrap();
    assert!(out.status.success());
}

/// What is left: kinds, modes, owners, sizes or contents, and the times of what was there.
fn snapshot(at: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![at.to_path_buf()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_dir() => {
                    directories.push(path.clone());
                    String::new()
                }
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => fs::read_to_string(&path).unwrap(),
            };
            // What was changed just now has not the same time in both.
            let time = if metadata.mtime() < 1_200_000_000 {
                metadata.mtime()
            } else {
                0
            };
            let name = path.strip_prefix(at).unwrap().display().to_string();
            let mode = metadata.permissions().mode();
            let links = if metadata.is_dir() {
                0
            } else {
                metadata.nlink()
            };
            let about = format!(
                "{mode:o} {}:{} {links} {time} {content}",
                metadata.uid(),
                metadata.gid()
            );
            found.insert(name, about);
        }
    }
    found
}

/// The text as both say it: lines in order where a tree's order is the server's, without numbers of errors.
fn plain(line: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| match line.rsplit_once(" (E") {
            Some((front, _)) if line.ends_with(')') => front.to_string(),
            // As older versions of GNU's cmp say.
            _ => line.replace(" differ: char ", " differ: byte "),
        })
        .collect();
    let mut calls = line.split(" && ");
    let first = calls.find(|call| !call.starts_with("cd ")).unwrap_or("");
    if first.starts_with("find")
        || first.starts_with("du")
        || first.starts_with("grep -r")
        || line.contains("-rv")
        || line.contains("-R") && !first.starts_with("ls")
    {
        lines.sort();
    }
    lines
}

/// The words of the line that errors name, each by itself, as it was typed.
fn named<'a>(line: &'a str, errors: &[String]) -> BTreeSet<&'a str> {
    let is_end = |c: char| c.is_whitespace() || "':,;".contains(c);
    let told: BTreeSet<&str> = errors.iter().flat_map(|text| text.split(is_end)).collect();
    let words = line.split_whitespace();
    words.filter(|word| told.contains(word)).collect()
}

/// Whether an error shows where a path leads from the root on: what the lines name is named from where they are.
fn has_full_path(errors: &[String]) -> bool {
    let words = errors.iter().flat_map(|text| text.split([' ', '\'']));
    words.into_iter().any(|word| word.starts_with('/'))
}

struct Ran {
    status: u8,
    output: Vec<String>,
    errors: Vec<String>,
    tree: BTreeMap<String, String>,
}

fn gnu(line: &str) -> Ran {
    let dir = TempDir::new().unwrap();
    make_tree(dir.path());
    let out = Command::new("sh")
        .args(["-c", line])
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir(dir.path())
        .output()
        .unwrap();
    Ran {
        status: out.status.code().unwrap() as u8,
        output: plain(line, &String::from_utf8(out.stdout).unwrap()),
        errors: plain(line, &String::from_utf8(out.stderr).unwrap()),
        tree: snapshot(dir.path()),
    }
}

fn ours(line: &str) -> Option<Ran> {
    let mut desk = Desk::new()?;
    let host = desk.host().unwrap();
    make_tree(&host);
    let (status, all) = desk.run(line);
    let errors = String::from_utf8(std::mem::take(&mut desk.errors)).unwrap();
    let mut output = all;
    for error in errors.split_inclusive('\n') {
        output = output.replacen(error, "", 1);
    }
    Some(Ran {
        status,
        output: plain(line, &output),
        errors: plain(line, &errors),
        tree: snapshot(&host),
    })
}

#[test]
fn what_is_the_same_is_the_same() {
    let mut differences = Vec::new();
    for line in SAME.iter().filter(|line| !ENDS.contains(line)) {
        let Some(ours) = ours(line) else { return };
        let theirs = gnu(line);
        if ours.status != theirs.status {
            differences.push(format!(
                "{line}: status {} for {}: {:?} {:?}",
                ours.status, theirs.status, ours.errors, theirs.errors
            ));
        }
        if ours.output != theirs.output {
            differences.push(format!(
                "{line}: output\n  {:?}\n  {:?}",
                ours.output, theirs.output
            ));
        }
        let (told, theirs_told) = (named(line, &ours.errors), named(line, &theirs.errors));
        if ours.errors.is_empty() != theirs.errors.is_empty()
            || !told.is_superset(&theirs_told)
            || has_full_path(&ours.errors)
        {
            differences.push(format!(
                "{line}: errors\n  {:?}\n  {:?}",
                ours.errors, theirs.errors
            ));
        }
        if ours.tree != theirs.tree {
            let changed = ours
                .tree
                .iter()
                .filter(|(name, about)| theirs.tree.get(*name) != Some(about));
            let changed: Vec<_> = changed
                .map(|(name, about)| format!("{name}: {about} / {:?}", theirs.tree.get(name)))
                .collect();
            let missing: Vec<_> = theirs
                .tree
                .keys()
                .filter(|name| !ours.tree.contains_key(*name))
                .collect();
            differences.push(format!(
                "{line}: tree\n  {changed:?}\n  missing {missing:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What is in another file system, with how many names each file has there.
fn names_and_links(fs: &xen9p::ns::Namespace) -> BTreeMap<String, (u64, Vec<u8>)> {
    let walk = fs.walk_dir("/").unwrap();
    let found = walk.map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let about = match metadata.is_file() {
            true => (metadata.nlink(), fs.read(entry.path()).unwrap()),
            false => (0, Vec::new()),
        };
        (entry.path_lossy(), about)
    });
    found.collect()
}

#[test]
fn what_goes_to_another_file_system_is_the_same_there() {
    for line in ACROSS {
        let Some(mut desk) = Desk::new() else { return };
        let host = desk.host().unwrap();
        make_tree(&host);
        let (status, text) = desk.run(&line.replace("{}", "other:/"));
        let ours = (status, snapshot(&host), names_and_links(&desk.other()));

        // The other one of GNU's is in memory.
        let (from, to) = (
            TempDir::new().unwrap(),
            TempDir::new_in("/dev/shm").unwrap(),
        );
        let device = |at: &Path| fs::metadata(at).unwrap().dev();
        assert_ne!(device(from.path()), device(to.path()), "one file system");
        make_tree(from.path());
        let to_text = to.path().display().to_string();
        let out = Command::new("sh")
            .args(["-c", &line.replace("{}", &to_text)])
            .current_dir(from.path())
            .output()
            .unwrap();
        let there = snapshot(to.path()).into_iter().map(|(name, about)| {
            let mut words = about.splitn(5, ' ').skip(2);
            let links = words.next().unwrap().parse().unwrap();
            let content = words.nth(1).unwrap_or_default();
            let is_file = !about.starts_with('4') && !about.starts_with("12");
            let about = match is_file {
                true => (links, content.as_bytes().to_vec()),
                false => (0, Vec::new()),
            };
            (format!("/{name}"), about)
        });
        let theirs = (
            out.status.code().unwrap() as u8,
            snapshot(from.path()),
            there.collect(),
        );
        assert_eq!(ours, theirs, "{line}: {text}");
    }
}

#[test]
fn what_differs_differs_as_the_table_says() {
    for (line, status, output, why) in DIFFERENT {
        let Some(ours) = ours(line) else { return };
        assert_eq!(
            (ours.status, ours.output.join("\n")),
            (*status, output.trim_end().to_string()),
            "{line}: {why}"
        );
        let theirs = gnu(line);
        assert!(
            (ours.status, &ours.output) != (theirs.status, &theirs.output),
            "{line} is the same now"
        );
    }
}

/// Commands that GNU has none of with that meaning, and those whose output is of the moment.
const OWN: &[&str] = &[
    "append", "bench", "bind", "devices", "exports", "help", "log", "mount", "ns", "selftest",
    "serve", "sha256", "shell", "stats", "umount", "unmount", "unserve", "write",
];

/// The commands in the tables, each with the options that it is called with there.
fn tried() -> BTreeMap<String, BTreeSet<String>> {
    let mut tried: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let different = DIFFERENT.iter().map(|(line, ..)| *line);
    for line in SAME.iter().copied().chain(different) {
        for call in line
            .split("&&")
            .flat_map(|part| part.split([';', '|', '>']))
        {
            let mut words = call.split_whitespace();
            let Some(command) = words.next() else {
                continue;
            };
            let options = tried.entry(command.to_string()).or_default();
            for word in words.filter_map(|word| word.strip_prefix('-')) {
                match command {
                    "find" => options.extend([word.to_string()]),
                    _ => options.extend(word.chars().map(String::from)),
                }
            }
        }
    }
    tried
}

#[test]
fn each_command_and_each_option_is_in_the_table() {
    let Some(mut desk) = Desk::new() else { return };
    let help = desk.ok("help");
    let commands = help.lines().take_while(|line| !line.starts_with("Between"));
    let commands = commands.filter_map(|line| line.split(' ').next());
    let tried = tried();
    let mut missing = Vec::new();
    for command in commands.filter(|command| !OWN.contains(command)) {
        let Some(options) = tried.get(command) else {
            missing.push(command.to_string());
            continue;
        };
        let usage = desk.ok(&format!("{command} --help"));
        let usage = usage.lines().next().unwrap();
        let words = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        for word in words.filter_map(|word| word.strip_prefix('-')) {
            if word.is_empty() {
                // The sign of a number.
                continue;
            }
            let one_by_one = word.chars().map(String::from);
            let listed: Vec<String> = match command {
                "find" => vec![word.to_string()],
                // -LINES
                _ if word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase()) => continue,
                _ => one_by_one.collect(),
            };
            let listed = listed
                .into_iter()
                .filter(|option| !options.contains(option));
            missing.extend(listed.map(|option| format!("{command} -{option}")));
        }
    }
    assert!(missing.is_empty(), "not tried: {missing:?}");
}
