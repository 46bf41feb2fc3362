//! Lines of commands: operators, patterns, output into files, and what is refused by its name.

use std::path::Path;
use std::time::Duration;

use xen9p::ns::{MemTree, Namespace};

use crate::backends::{Memory, share_to_lose};

type Desk = crate::desk::Desk<Memory>;

#[test]
fn operators_run_what_they_run_in_a_shell() {
    let mut desk = Desk::new().unwrap();
    for (line, status, output) in [
        ("true && echo a", 0, "a\n"),
        ("false && echo a", 1, ""),
        ("false || echo a", 0, "a\n"),
        ("true || echo a", 0, ""),
        ("false && echo a || echo b", 0, "b\n"),
        ("true || echo a && echo b", 0, "b\n"),
        ("false || false; echo not reached", 1, ""),
        (
            "false || echo $?; echo \"$?\" '$?' \\$? $",
            0,
            "1\n0 $? $? $\n",
        ),
        ("true&&echo a;echo b", 0, "a\nb\n"),
        ("exit 7; echo not reached", 7, ""),
        ("false || exit", 1, ""),
        ("", 0, ""),
        ("false && echo a; echo b", 0, "b\n"),
        ("# it's ; echo", 0, ""),
        ("#echo a", 0, ""),
        ("echo a # it's; echo b", 0, "a\n"),
        ("echo a#b '#' \\# #c", 0, "a#b # # #c\n"),
        ("echo ~ ~/x ~x a~ '~'", 0, "/ /x ~x a~ ~\n"),
    ] {
        let (found, text) = desk.run(line);
        assert_eq!(found, status, "{line}: {text}");
        assert_eq!(text, output, "{line}");
    }
}

#[test]
fn patterns_stand_for_names_in_their_order() {
    let mut desk = Desk::new().unwrap();
    desk.ok("mkdir -p /d/sub /d/e; touch /d/a.txt /d/b.txt '/d/c d.txt' /d/.hidden '/d/sub/[x]' '/d/*' /d/e/a.txt /d/ü");
    for (line, output) in [
        ("echo /d/*.txt", "/d/a.txt /d/b.txt /d/c d.txt\n"),
        ("echo /d/?", "/d/* /d/e /d/ü\n"),
        ("echo /d/[!a-d]*", "/d/* /d/e /d/sub /d/ü\n"),
        ("echo /d/[ab].txt", "/d/a.txt /d/b.txt\n"),
        ("echo /d/.h*", "/d/.hidden\n"),
        ("echo /d/*/a.txt /*/*/?.txt", "/d/e/a.txt /d/e/a.txt\n"),
        ("echo /d/*/", "/d/e/ /d/sub/\n"),
        ("echo '/d/*.txt' /d/\\* \"/d/?\"", "/d/*.txt /d/* /d/?\n"),
        ("echo /d/sub/*\\]", "/d/sub/[x]\n"),
        ("echo /d/none* /d/[", "/d/none* /d/[\n"),
        ("cd /d && echo *.txt s*/*", "a.txt b.txt c d.txt sub/[x]\n"),
        ("write other:/one 1 && echo other:/o*", "other:/one\n"),
    ] {
        desk.directory = b"/".to_vec();
        assert_eq!(desk.ok(line), output, "{line}");
    }
    desk.directory = b"/".to_vec();
    desk.ok("rm /d/*.txt; rm -r /d/*/");
    assert_eq!(desk.ok("ls -A /d"), "*\n.hidden\nü\n");
    assert_eq!(
        desk.fails(1, "cat /d/n*"),
        "cat: /d/n*: No such file or directory (ENOENT)\n"
    );
    // A name that can't be typed is not passed over in silence.
    desk.root.write(b"/d/\xff", "x").unwrap();
    assert!(desk.fails(1, "rm /d/*").contains("'?' is not UTF-8 text"));
    assert_eq!(desk.ok("ls -A /d"), "*\n.hidden\nü\n?\n");
}

#[test]
fn output_goes_into_files() {
    let mut desk = Desk::new().unwrap();
    assert_eq!(
        desk.ok("echo one > /f; echo two >>/f; cat /f>/g; cat /g"),
        "one\ntwo\n"
    );
    assert_eq!(
        desk.ok("> /empty; ls /; echo x > '/a b'; cat '/a b'"),
        "empty\nf\ng\nx\n"
    );
    // Errors go to the console all the same.
    let text = desk.fails(1, "cat /f /none > /h");
    assert_eq!(text, "cat: /none: No such file or directory (ENOENT)\n");
}

#[test]
fn output_that_can_not_be_written_is_an_error() {
    let mut desk = Desk::new().unwrap();
    assert_eq!(
        desk.fails(1, "echo x > /no/where; echo not reached"),
        "shell: /no/where: No such file or directory (ENOENT)\n"
    );
    assert_eq!(
        desk.fails(1, "echo x > /"),
        "shell: /: Is a directory (EISDIR)\n"
    );
    // A full disk.
    desk.root = Namespace::new(MemTree::with_limit(20_000));
    desk.ok("write /a 0123456789");
    for line in ["sha256 /a", "ls -l /"] {
        desk.ok(&format!("{line} >> /log"));
    }
    desk.root.write("/half", vec![b'h'; 9000]).unwrap();
    let text = desk.fails(1, "cat /half /half > /big");
    assert!(
        text.contains("/big: No space left on device (ENOSPC)"),
        "{text}"
    );
    let (root, control) = share_to_lose();
    desk.root = root;
    desk.ok("mkdir /d");
    control.lose(&"it died");
    for line in [
        "echo x > /f",
        "echo /d/*",
        "find /d",
        "du /d",
        "touch /f",
        "ln -s a /f",
        "chmod 700 /d",
        "chown 1 /d",
        "head /f",
        "tail /f",
        "wc /f",
        "rmdir /d",
        "ls -R /d",
        "cp -a /d /e",
    ] {
        let text = desk.fails(1, line);
        assert!(
            text.contains("connection to the 9P server lost: it died (EIO)"),
            "{line}: {text}"
        );
    }
    for line in ["cmp /a /b", "grep x /d/f"] {
        assert!(desk.fails(2, line).contains("it died (EIO)"), "{line}");
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let mut desk = Desk::new().unwrap();
    for (line, told) in [
        ("cat /a | wc", "there are no pipes"),
        ("cat < /a", "commands have no input"),
        ("sleep 1 &", "no command runs in the background"),
        ("echo $HOME", "there are no variables but $?"),
        ("echo \"${x}\"", "there are no variables but $?"),
        ("echo $(ls)", "there are no variables"),
        ("echo `ls`", "no command is replaced by its output"),
        ("ls 2> /err", "only output is redirected"),
        ("ls >& /err", "only output is redirected"),
        ("ls >", "a file is missing behind '>'"),
        ("ls > > x", "a file is missing behind '>'"),
        ("&& ls", "a command is missing"),
        ("ls || ", "a command is missing"),
        ("ls && ; ls", "a command is missing"),
        ("echo 'x", "opens a ' and never closes it"),
        ("exit x", "a status is a number"),
        ("xyzzy /f", "xyzzy: not a command; 'help' lists them\n"),
        (
            "less /f",
            "less: not a command; 'cat' comes nearest, 'help' lists all\n",
        ),
        ("ll /", "'ls' comes nearest"),
        ("vi /f", "'write' comes nearest"),
        ("which ls", "which: not a command; 'help' lists them\n"),
        ("poweroff", "'exit' comes nearest"),
        ("free", "'stats' comes nearest"),
        ("sudo ls /", "sudo: not a command; 'help' lists them\n"),
        (
            "export",
            "export: variables are not there; the only one is $?\n",
        ),
        ("set", "variables are not there"),
        ("x=1", "x=1: variables are not there; the only one is $?\n"),
        ("a=b ls", "variables are not there"),
        ("=x", "=x: not a command"),
        ("ls --color", "unknown option --color; usage: ls"),
        ("ls -Z", "unknown option -Z; usage: ls"),
        ("cp -a", "paths are missing"),
        ("head -n x /f", "invalid number of lines: 'x'"),
        ("head -n", "option -n needs a value"),
        ("head --lines=2", "a path is missing"),
        ("find / -exec rm", "'-exec' is not there"),
        ("find / -name", "-name needs a value"),
        ("find / -size big", "is no size"),
        ("grep '\\(a\\)' /f", "groups, counts and classes"),
        ("grep '[a' /f", "a '[' without ']'"),
        ("grep x", "a path is missing, and there is no other input"),
        ("chmod u+y /f", "invalid mode 'u+y'"),
        ("chown daemon /f", "names of users are not known here"),
        ("du -d x", "invalid maximum depth 'x'"),
        ("cmp /f", "two paths are expected"),
        ("tail -c 99999999999999999999 /f", "invalid number of bytes"),
        ("head -n ++5 /f", "invalid number of lines: '++5'"),
        ("truncate -s +5 /f", "'+5' is no number of bytes"),
        ("du -d +1", "invalid maximum depth '+1'"),
        ("find / -maxdepth +1", "'+1' is no number"),
        ("find / -size ++1", "'++1' is no size"),
        ("mkdir -m x /d", "invalid mode 'x'"),
        ("touch", "a path is missing"),
        ("ln", "a target is missing"),
    ] {
        let (status, text) = desk.run(line);
        assert!(text.contains(told) && status > 0, "{line}: {status} {text}");
    }
    // A comment hides no mistake in front of it.
    assert!(
        desk.run("ls > # x")
            .1
            .contains("a file is missing behind '>'")
    );
    for line in ["ls", "cp", "grep", "echo", "exit", "find", "touch"] {
        let text = desk.ok(&format!("{line} --help"));
        assert!(text.starts_with(&format!("usage: {line} ")), "{text}");
    }
}

#[test]
fn the_shell_takes_such_lines_too() {
    let mut desk = Desk::new().unwrap();
    let (status, text) =
        desk.types("false || echo $? > /f\rcat /*\rcat /f | wc\recho $?\rexit 3\r");
    assert_eq!(status, 3, "{text}");
    assert!(text.contains("\r\n1\n"), "{text}");
    assert!(text.contains("shell: there are no pipes"), "{text}");
    assert!(text.contains("[2] $ echo $?\r\n2\n"), "{text}");
    // What is completed is quoted, and a command comes behind an operator, too.
    desk.ok("mkdir /d; touch '/d/a*b$c'");
    let (_, text) = desk.types("true && sha\t/d/a\t\r\x04");
    assert!(text.contains("true && sha256 /d/a\\*b\\$c \r\n"), "{text}");
}

#[test]
fn names_are_in_columns_on_a_terminal_only() {
    let mut desk = Desk::new().unwrap();
    for n in 1..=12 {
        desk.ok(&format!("touch /a-file-with-number-{n}"));
    }
    let (_, text) = desk.types("ls /\r\x04");
    let rows = text.lines().filter(|line| line.starts_with("a-file"));
    let rows: Vec<&str> = rows.map(str::trim_end).collect();
    assert_eq!(rows.len(), 4, "{text}");
    assert!(rows.iter().all(|row| row.len() <= 80), "{text}");
    assert_eq!(
        rows[0],
        "a-file-with-number-1   a-file-with-number-2  a-file-with-number-6"
    );
    let (_, text) = desk.types("ls / > /list\rls -1 /\r\x04");
    assert!(
        text.contains("a-file-with-number-1\na-file-with-number-10\n"),
        "{text}"
    );
    assert_eq!(desk.ok("wc -l /list"), "13 /list\n");
}

#[test]
fn the_progress_of_a_tree_is_one_line_that_goes() {
    let mut desk = Desk::new().unwrap();
    desk.tick = Duration::from_millis(150);
    let long = "n".repeat(120);
    desk.ok(&format!("mkdir -p /t/{long}"));
    for n in 0..5 {
        desk.ok(&format!("truncate -s 3000000 /t/{long}/{n}"));
    }
    let (status, text) = desk.types("cp -r /t /copy\r\x04");
    assert_eq!(status, 0, "{text}");
    let shown: Vec<&str> = text
        .split('\r')
        .filter(|part| part.contains(" left"))
        .collect();
    assert!(shown.len() > 4, "{text}");
    for line in &shown {
        assert!(
            line.len() < 80 && line.contains(" of 5 files, ") && line.contains(" of 14.3 MiB, "),
            "{line}"
        );
    }
    assert!(shown.last().unwrap().contains("n/4: "), "{shown:?}");
    assert!(
        !text.rsplit_once("\r").unwrap().1.contains(" left"),
        "{text}"
    );
}

/// The transcript in the README is what the shell shows.
#[test]
fn the_transcript_is_what_one_sees() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme
        .split_once("<!-- a test types this -->\n```\n")
        .unwrap();
    let (transcript, _) = rest.split_once("```").unwrap();
    let mut desk = Desk::new().unwrap();
    desk.ok("mkdir /docs; write /hello.txt Hello from the host.; write /docs/nested.txt A file in a directory.");
    let mut typed = String::new();
    let mut seen: Vec<String> = Vec::new();
    for line in transcript.lines() {
        match line.split_once("$ ").filter(|_| line.starts_with("/ ")) {
            Some((_, command)) => {
                typed += &format!("{command}\r");
                seen.push(format!("\r{line}\r\n"));
            }
            None => *seen.last_mut().unwrap() += &format!("{line}\n"),
        }
    }
    assert_eq!(seen.len(), 7);
    let (status, text) = desk.types(&typed);
    assert_eq!(status, 2, "{text}");
    for part in seen {
        assert!(text.contains(&part), "{part:?}\n{text}");
    }
}

/// What `make run` shows according to the README: the lines of xen-bed are texts of its source, those of the guest what the toolbox
/// says to the line and the files that the Makefile has.
#[test]
fn the_sample_of_make_run_is_what_one_sees() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```\n$ make run\n").unwrap();
    let (sample, _) = rest.split_once("```").unwrap();
    let by_bed = |line: &&str| line.starts_with("[ ") && line.contains(" s] ");
    let (bed, guest): (Vec<&str>, Vec<&str>) = sample.lines().partition(by_bed);

    let mut sources = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bed/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => sources += &std::fs::read_to_string(path).unwrap(),
            }
        }
    }
    for line in bed {
        let (_, said) = line.split_once(" s] ").unwrap();
        let is_said = sources.split('"').any(|text| is_of(said, text));
        assert!(is_said, "xen-bed does not say {said:?}");
    }

    let makefile = include_str!("../../Makefile");
    let mut desk = Desk::new().unwrap();
    desk.ok("mkdir /docs");
    for made in makefile.lines().filter(|line| line.contains("|| echo '")) {
        let (_, made) = made.split_once("|| echo ").unwrap();
        let (text, path) = made.split_once(" > target/share").unwrap();
        desk.ok(&format!("write {path} {text}"));
    }
    let demo = makefile
        .lines()
        .find_map(|line| line.strip_prefix("DEMO := "));
    let (status, mut text) = desk.run(demo.unwrap());
    text += &format!("[xen9p] exit {status}\n");
    let shown: Vec<String> = text.lines().map(without_times).collect();
    let guest: Vec<String> = guest.into_iter().map(without_times).collect();
    assert_eq!(shown, guest);
}

/// Whether a line was made of a text, which may have values in braces.
fn is_of(line: &str, text: &str) -> bool {
    let mut pieces = text.split('{').enumerate().map(|(nth, piece)| match nth {
        0 => piece,
        _ => piece.split_once('}').map_or("\0", |(_, behind)| behind),
    });
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first).filter(|_| first.len() >= 10) else {
        return false;
    };
    let mut last = first;
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
        last = piece;
    }
    rest.is_empty() || last.is_empty()
}

/// A line of `ls -l` without its time; of directories, and of what all take, without numbers, which are the server's.
fn without_times(line: &str) -> String {
    if line.starts_with("total ") {
        return "total #".into();
    }
    let is_dir = line.starts_with("drwx");
    let time = line.find(" 20").filter(|_| line.contains("rw"));
    let hide = |(at, c): (usize, char)| match c.is_ascii_digit() {
        true if is_dir || time.is_some_and(|time| at > time && at < time + 20) => '#',
        _ => c,
    };
    line.char_indices().map(hide).collect()
}
