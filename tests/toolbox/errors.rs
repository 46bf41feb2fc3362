//! How errors are told, and what no server has a part in.

use xen9p::errno::Errno;
use xen9p::fs::Permissions;

use crate::backends::{Memory, share_to_lose};

type Desk = crate::desk::Desk<Memory>;

#[test]
fn errors_name_operation_path_number_and_the_state_of_the_backend() {
    let mut desk = Desk::new().unwrap();
    let (root, control) = share_to_lose();
    desk.root = root;
    desk.ok("mkdir /d; write /f x");
    // What each refused operation is called, besides the command itself.
    for (line, told) in [
        (
            "mkdir /f/x",
            "mkdir: cannot create directory '/f/x': Not a directory (ENOTDIR)",
        ),
        (
            "rm /none",
            "rm: cannot remove '/none': No such file or directory (ENOENT)",
        ),
        (
            "mv /none /x",
            "mv: cannot move '/none' to '/x': No such file or directory (ENOENT)",
        ),
        (
            "cp /f /none/x",
            "cp: cannot create '/none/x': No such file or directory (ENOENT)",
        ),
        ("write /d x", "write: /d: Is a directory (EISDIR)"),
        ("rm /d", "rm: cannot remove '/d': Is a directory (EISDIR)"),
        ("cd /f", "cd: /f: Not a directory (ENOTDIR)"),
        (
            "bind /none /d",
            "bind: cannot bind '/none' to '/d': No such file or directory (ENOENT)",
        ),
        (
            "bind /f /d",
            "bind: cannot bind '/f' to '/d': a directory can only be bound onto a directory",
        ),
        (
            "unmount /d",
            "unmount: cannot unmount '/d': nothing is mounted or bound there",
        ),
    ] {
        let output = desk.fails(1, line);
        assert!(output.starts_with(told), "{line}: {output}");
    }
    control.lose(&"the backend has died");
    for line in [
        "cat /f",
        "ls /d",
        "stat /f",
        "df /",
        "mkdir /x",
        "rm /f",
        "write /f x",
        "cp /f /g",
        "mv /f /g",
        "sha256 /f",
        "truncate -s 1 /f",
        "cd /d",
        "bench /b 1",
        "stats /f",
    ] {
        let output = desk.fails(1, line);
        let output = output.split_inclusive('\n').next_back().unwrap();
        let end = ": connection to the 9P server lost: the backend has died (EIO)\n";
        let (command, path) = line.split_once(' ').unwrap();
        let path = path.rsplit(' ').next().unwrap().trim_end_matches(" 1");
        assert!(
            output.ends_with(end)
                && output.starts_with(&format!("{command}: "))
                && (output.contains(path) || output.contains("/f") || output.contains("/b")),
            "{line}: {output}"
        );
    }
}

#[test]
fn wrong_calls_show_the_usage_and_give_2() {
    let mut desk = Desk::new().unwrap();
    assert_eq!(
        desk.fails(2, "frobnicate /x"),
        "frobnicate: not a command; 'help' lists them\n"
    );
    assert_eq!(
        desk.fails(2, "ls -lz /"),
        "ls: unknown option -z; usage: ls [-1aACdhlNrRSt] [PATH...]\n"
    );
    assert_eq!(
        desk.fails(2, "cat"),
        "cat: a path is missing; usage: cat PATH...\n"
    );
    assert_eq!(
        desk.fails(2, "cp /a"),
        "cp: the target after '/a' is missing; usage: cp [-adfpPrRuv] SOURCE... TARGET\n"
    );
    assert_eq!(
        desk.fails(2, "mv"),
        "mv: paths are missing; usage: mv [-fnv] SOURCE... TARGET\n"
    );
    for line in [
        "write",
        "append -n",
        "mkdir -p",
        "rm",
        "rm -r",
        "sleep",
        "sleep x",
        "sleep -1",
        "sleep 1.",
        "truncate",
        "truncate -s x /a",
        "truncate 5 /a",
        "stats x y",
        "help x",
        "selftest / /",
        "sha256",
        "stat",
    ] {
        let output = desk.fails(2, line);
        assert!(
            output.contains("; usage: ") && output.lines().count() == 1,
            "{line}: {output}"
        );
    }
}

/// The letters of a usage: what stands behind a dash, but placeholders.
fn letters_of(usage: &str) -> String {
    let words = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let options = words.filter_map(|word| word.strip_prefix('-'));
    let is_placeholder =
        |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    options.filter(|word| !is_placeholder(word)).collect()
}

#[test]
fn the_usage_of_each_command_lists_the_options_that_it_takes() {
    let mut desk = Desk::new().unwrap();
    let help = desk.ok("help");
    let commands: Vec<&str> = help
        .lines()
        .take_while(|line| !line.starts_with("Between"))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert!(commands.len() > 40, "{help}");
    // These look at their words themselves, which may be modes, tests or text.
    let own = [
        "append", "chmod", "echo", "exit", "false", "find", "true", "write",
    ];
    for command in commands.iter().filter(|command| !own.contains(command)) {
        let usage = desk.ok(&format!("{command} --help"));
        let listed = letters_of(usage.lines().next().unwrap());
        for letter in ('a'..='z').chain('A'..='Z').chain(['1']) {
            let text = desk.run(&format!("{command} -{letter}")).1;
            let is_taken = !text.contains(&format!("unknown option -{letter}"));
            let is_count = matches!(*command, "head" | "tail") && letter == '1';
            assert_eq!(
                is_taken && !is_count,
                listed.contains(letter),
                "{command} -{letter}: {usage}{text}"
            );
        }
    }
}

#[test]
fn small_commands() {
    let mut desk = Desk::new().unwrap();
    desk.ok("sleep 0.25; sleep 1");
    assert_eq!(desk.fails(143, "sleep infinity"), "sleep: interrupted\n");
    assert_eq!(
        desk.ok("stats"),
        "answer               42\nquestions            7\n"
    );
    desk.ok("truncate -s 200000 /three-and-some");
    assert_eq!(
        desk.ok("stats /three-and-some"),
        "per read of 64 KiB, of 3 and one for the end:\nquestions            2.33\n"
    );
    desk.ok("truncate -s 65535 /less");
    assert_eq!(desk.run("stats /less").0, 1);
    assert!(
        desk.ok("help")
            .contains("\ncp [-adfpPrRuv] SOURCE... TARGET ")
    );
}

#[test]
fn a_target_is_not_touched_before_the_source_could_be_read() {
    let mut desk = Desk::new().unwrap();
    desk.ok("mount #mem /m; write /target precious; write /m/target precious; write /secret x");
    desk.root
        .set_permissions("/secret", Permissions::from_mode(0o200))
        .unwrap();
    for target in ["/target", "/m/target"] {
        for command in ["cp", "mv"] {
            if (command, target) == ("mv", "/target") {
                continue;
            }
            assert!(
                desk.fails(1, &format!("{command} /secret {target}"))
                    .contains("(EACCES)")
            );
            assert_eq!(desk.ok(&format!("cat {target}")), "precious\n");
            desk.ok("stat /secret");
        }
    }
    assert_eq!(desk.ok("ls -A /m"), "target\n");
    let denied = desk.root.copy("/secret", "/target").unwrap_err();
    assert_eq!(denied.errno(), Errno::EACCES);
    assert_eq!(desk.ok("cat /target"), "precious\n");
}
