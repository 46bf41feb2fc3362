//! The toolbox's commands on the host, over a 9P server.

extern crate alloc;

#[path = "../boot/start/cmdline.rs"]
#[allow(dead_code, reason = "only the splitting into commands is needed here")]
mod cmdline;
#[path = "../toolbox/commands/mod.rs"]
mod commands;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

use commands::Host;
use xen9p::fs::{Fs, MountOptions};
use xen9p::ns::{self, MemTree, Namespace, Tree};
use xen9p::time::Instant;
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// Runs command lines on two shares, the root and the one with the tag "other".
struct Desk {
    root: Namespace,
    other: Namespace,
    directory: Vec<u8>,
    /// What is typed on the console.
    keys: VecDeque<u8>,
    terminal: bool,
    interrupted: bool,
    started: Clock,
    console: Vec<u8>,
    counted: Cell<u64>,
    /// How often the clock was looked at, and what it gains each time.
    looks: Cell<u32>,
    tick: Duration,
}

impl Host for Desk {
    fn print(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
    }

    fn root(&self) -> Namespace {
        self.root.clone()
    }

    fn share(&mut self, tag: &str) -> Result<Namespace, String> {
        match tag {
            "other" => Ok(self.other.clone()),
            _ => Err("no such share".into()),
        }
    }

    fn tree(&mut self, source: &str) -> Result<Rc<dyn Tree>, String> {
        match source {
            "#mem" => Ok(Rc::new(MemTree::new())),
            _ => Err(format!("there is no tree '{source}'")),
        }
    }

    fn directory(&mut self) -> &mut Vec<u8> {
        &mut self.directory
    }

    fn split(&self, line: &str) -> Result<Vec<Vec<String>>, String> {
        cmdline::commands(line).map_err(|error| error.to_string())
    }

    fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn set_terminal(&mut self, on: bool) {
        self.terminal = on;
    }

    fn read_key(&mut self) -> Option<u8> {
        self.keys.pop_front()
    }

    fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupted)
    }

    fn now(&self) -> Instant {
        let looks = self.looks.replace(self.looks.get() + 1);
        Instant::from_nanos(self.started.elapsed().as_nanos() as u64) + self.tick * looks
    }

    /// For ever means until Ctrl-C, which is typed at once.
    fn sleep(&mut self, time: Duration) -> bool {
        self.interrupted = self.terminal && time == Duration::MAX;
        time != Duration::MAX
    }

    fn report(&self) -> Vec<(&'static str, String)> {
        vec![("answer", "42".into())]
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counted.set(self.counted.get() + 1);
        vec![("questions", 7 * self.counted.get())]
    }
}

/// An empty share of its own.
fn share() -> Namespace {
    share_to_lose().0
}

/// The same, and what can take its server away.
fn share_to_lose() -> (Namespace, Control) {
    let mut server = MemServer::new(MemOptions::default());
    let options = LaneOptions {
        lanes: 3,
        ..LaneOptions::default()
    };
    let (transport, control) = lanes(options, move |request| server.handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    (Namespace::new(fs), control)
}

impl Desk {
    fn new() -> Desk {
        Desk {
            root: share(),
            other: share(),
            directory: b"/".to_vec(),
            keys: VecDeque::new(),
            terminal: false,
            interrupted: false,
            started: Clock::now(),
            console: Vec::new(),
            counted: Cell::new(0),
            looks: Cell::new(0),
            tick: Duration::ZERO,
        }
    }

    /// Status and output of a command line.
    fn run(&mut self, line: &str) -> (u8, String) {
        self.console.clear();
        let status = commands::run(self, &cmdline::commands(line).unwrap());
        (status, String::from_utf8(self.console.clone()).unwrap())
    }

    /// Output of a command line that has to succeed.
    fn ok(&mut self, line: &str) -> String {
        let (status, output) = self.run(line);
        assert_eq!(status, 0, "{line}: {output}");
        output
    }

    /// Output of a command line that has to end with `status`.
    fn fails(&mut self, status: u8, line: &str) -> String {
        let (found, output) = self.run(line);
        assert_eq!(found, status, "{line}: {output}");
        output
    }
}

#[test]
fn write_append_cat() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.ok("write /a one two; append /a three; append -n /new x; cat /a /new"),
        "one two\nthree\nx"
    );
    assert_eq!(desk.ok("write -n /a ''; cat /a"), "");
    assert_eq!(desk.ok("echo 'a  b' c; echo -n x; echo"), "a  b c\nx\n");
}

#[test]
fn errors_are_told_as_unix_tells_them() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.fails(1, "cat /x"),
        "cat: /x: No such file or directory (ENOENT)\n"
    );
    // The others are still printed, the next command is not run.
    desk.ok("write /a text");
    assert_eq!(
        desk.fails(1, "cat /x /a; echo not reached"),
        "cat: /x: No such file or directory (ENOENT)\ntext\n"
    );
    desk.ok("mkdir /d");
    assert_eq!(
        desk.fails(1, "cat /d"),
        "cat: /d: Is a directory (EISDIR)\n"
    );
    assert_eq!(
        desk.fails(1, "cat nowhere:/x"),
        "cat: nowhere:/x: no such share\n"
    );
    assert_eq!(desk.fails(1, "false"), "");
}

#[test]
fn errors_name_operation_path_number_and_the_state_of_the_backend() {
    let mut desk = Desk::new();
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
    control.lose("the backend has died");
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
    let mut desk = Desk::new();
    assert!(
        desk.fails(2, "frobnicate /x")
            .starts_with("frobnicate: unknown command; there are: append bench bind cat")
    );
    assert_eq!(
        desk.fails(2, "ls -lz /"),
        "ls: unknown option -z; usage: ls [-al] [PATH...]\n"
    );
    assert_eq!(
        desk.fails(2, "cat"),
        "cat: a path is missing; usage: cat PATH...\n"
    );
    assert_eq!(
        desk.fails(2, "cp /a"),
        "cp: the target after '/a' is missing; usage: cp [-r] SOURCE... TARGET\n"
    );
    assert_eq!(
        desk.fails(2, "mv"),
        "mv: paths are missing; usage: mv SOURCE... TARGET\n"
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

#[test]
fn ls_sorts_and_hides() {
    let mut desk = Desk::new();
    desk.ok("write /b x; write /.hidden x; write '/a c' x; mkdir /d; write /d/inner x");
    assert_eq!(desk.ok("ls"), "a c\nb\nd\n");
    assert_eq!(desk.ok("ls -a /"), ".hidden\na c\nb\nd\n");
    assert_eq!(desk.ok("ls /b /d"), "/b\n/d:\ninner\n");
    assert_eq!(
        desk.fails(1, "ls /nope /d"),
        "ls: /nope: No such file or directory (ENOENT)\n/d:\ninner\n"
    );
    let long = desk.ok("ls -l");
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with("-rw-r--r--   1 ") && lines[0].ends_with(" a c"),
        "{long}"
    );
    assert!(
        lines[2].starts_with("drwxr-xr-x ") && lines[2].ends_with(" d"),
        "{long}"
    );
}

#[test]
fn cp_copies_files_and_trees() {
    let mut desk = Desk::new();
    desk.ok(
        "mkdir -p /t/deep/er; write /t/f one; write /t/deep/g two; write '/t/deep/er/h i' three",
    );
    desk.ok("cp /t/f /copy; cp /t/f /t/deep/g /t/deep/er");
    assert_eq!(
        desk.ok("cat /copy /t/deep/er/f /t/deep/er/g"),
        "one\none\ntwo\n"
    );
    assert_eq!(
        desk.fails(1, "cp /t /u"),
        "cp: -r not specified; omitting directory '/t'\n"
    );
    desk.ok("cp -r /t /u");
    assert_eq!(desk.ok("cat '/u/deep/er/h i' /u/f"), "three\none\n");
    // The target exists now: into it.
    desk.ok("cp -r /t /u");
    assert_eq!(desk.ok("cat /u/t/deep/g"), "two\n");
    assert_eq!(
        desk.fails(1, "cp /copy /copy"),
        "cp: '/copy' and '/copy' are the same file\n"
    );
    assert_eq!(desk.ok("cat /copy"), "one\n");
    assert_eq!(
        desk.fails(1, "cp /copy /u/f /t/f"),
        "cp: target '/t/f' is no directory\n"
    );
    assert!(
        desk.fails(1, "cp /copy /no/where")
            .starts_with("cp: cannot create '/no/where': No such file")
    );
    assert!(
        desk.fails(1, "cp -r /t /copy")
            .starts_with("cp: cannot create directory '/copy': File exists")
    );
}

#[test]
fn cp_into_itself_ends() {
    let mut desk = Desk::new();
    desk.ok("mkdir /t; write /t/f x");
    let output = desk.fails(1, "cp -r /t /t/inner");
    assert!(output.contains("into itself"), "{output}");
    assert_eq!(desk.ok("ls /t/inner"), "f\n");
}

#[test]
fn copies_and_moves_between_shares() {
    let mut desk = Desk::new();
    desk.ok("mkdir /t; write /t/f x; cp -r /t other:/t; write other:/t/g y; mv other:/t /back");
    assert_eq!(desk.ok("ls /back; ls other:/; cat /back/g"), "f\ng\ny\n");
    desk.ok("mv /back/f other:/f");
    assert_eq!(desk.ok("ls /back; cat other:/f"), "g\nx\n");
    // A path with a colon is a plain path all the same.
    assert_eq!(
        desk.ok("mkdir /other:; write /other:/f z; cat /other:/f"),
        "z\n"
    );
}

#[test]
fn mv_renames() {
    let mut desk = Desk::new();
    desk.ok("write /a x; mkdir /d; mv /a /b; mv /b /d; mv /d /e");
    assert_eq!(desk.ok("cat /e/b"), "x\n");
    assert_eq!(
        desk.fails(1, "mv /a /b"),
        "mv: cannot move '/a' to '/b': No such file or directory (ENOENT)\n"
    );
}

#[test]
fn rm_is_careful() {
    let mut desk = Desk::new();
    desk.ok("mkdir -p /t/a/b /t/c; write /t/a/b/f x; write /t/c/g y");
    assert_eq!(
        desk.fails(1, "rm /t"),
        "rm: cannot remove '/t': Is a directory\n"
    );
    assert_eq!(desk.fails(1, "rm -r /"), "rm: '/' is a root and stays\n");
    assert_eq!(
        desk.fails(1, "rm /nope"),
        "rm: cannot remove '/nope': No such file or directory (ENOENT)\n"
    );
    desk.ok("rm -f /nope; rm -rf /t /nope");
    assert_eq!(desk.ok("ls /"), "");
}

#[test]
fn mkdir_makes_parents_when_asked() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.fails(1, "mkdir /a/b"),
        "mkdir: cannot create directory '/a/b': No such file or directory (ENOENT)\n"
    );
    desk.ok("mkdir -p /a/b/c; mkdir -p /a/b/c");
    assert_eq!(
        desk.fails(1, "mkdir /a"),
        "mkdir: cannot create directory '/a': File exists (EEXIST)\n"
    );
}

#[test]
fn trees_deeper_than_any_stack() {
    let mut desk = Desk::new();
    let deep = "/d".repeat(200);
    desk.ok(&format!(
        "mkdir -p {deep}; write {deep}/f x; cp -r /d /copy; rm -r /d"
    ));
    assert_eq!(
        desk.ok(&format!("cat /copy{}/f; rm -r /copy; ls", &deep[2..])),
        "x\n"
    );
}

#[test]
fn sha256_agrees_with_published_sums() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.ok("write -n /e; write -n /abc abc; sha256 /e /abc"),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /e\n\
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  /abc\n"
    );
}

#[test]
fn large_files_go_through() {
    let mut desk = Desk::new();
    let bytes: Vec<u8> = (0..3_000_017_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    desk.root.write("/large", &bytes).unwrap();
    desk.ok("cp /large other:/large; truncate -s 5 /large");
    assert!(desk.other.read("/large").unwrap() == bytes);
    assert_eq!(desk.root.read("/large").unwrap(), bytes[..5]);
}

#[test]
fn stat_and_df_show_what_the_server_says() {
    let mut desk = Desk::new();
    let stat = desk.ok("write /f 12345; stat /f");
    assert!(stat.starts_with("  File: /f\n  Size: 6\t"), "{stat}");
    assert!(
        stat.contains("regular file\n") && stat.contains("(0644/-rw-r--r--)"),
        "{stat}"
    );
    let df = desk.ok("df");
    assert_eq!(df.lines().count(), 2, "{df}");
    assert!(df.ends_with("% /\n"), "{df}");
}

#[test]
fn small_commands() {
    let mut desk = Desk::new();
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
    assert!(desk.ok("help").contains("\ncp [-r] SOURCE... TARGET "));
}

#[test]
fn selftest_passes_and_leaves_nothing() {
    let mut desk = Desk::new();
    let output = desk.ok("selftest; ls -a /");
    assert!(output.ends_with(" 0 failed\n"), "{output}");
}

#[test]
fn the_directory_is_where_relative_paths_start() {
    let mut desk = Desk::new();
    desk.ok("mkdir -p /a/b; write /a/b/f x; cd a/b; write g y; cd ..; mkdir c");
    assert_eq!(desk.ok("pwd; ls; cat b/f b/g"), "/a\nb\nc\nx\ny\n");
    assert_eq!(desk.ok("cd; pwd; ls"), "/\na\n");
    assert_eq!(
        desk.fails(1, "cd /a/b/f"),
        "cd: /a/b/f: Not a directory (ENOTDIR)\n"
    );
    assert_eq!(
        desk.fails(1, "cd /a; cat b/none"),
        "cat: /a/b/none: No such file or directory (ENOENT)\n"
    );
    assert!(desk.fails(1, "cd other:/").contains("mount it first"));
}

#[test]
fn the_name_space_is_changed_by_commands() {
    let mut desk = Desk::new();
    desk.ok("mkdir /etc; write /etc/hosts root; mount #mem /overlay; write /overlay/hosts mine; bind -bc /overlay /etc");
    desk.ok("write /etc/motd hello");
    assert_eq!(desk.ok("cat /etc/hosts /overlay/motd"), "mine\nhello\n");
    assert_eq!(
        desk.ok("ns"),
        "/etc\tdirectory, a union of 2\n/overlay\tdirectory\n"
    );
    // Between trees a move is a copy.
    desk.ok("mv /overlay/motd /motd; cat /motd; unmount /overlay /etc; mount -r #mem /ro");
    assert_eq!(desk.ok("cat /etc/hosts"), "root\n");
    let refusal = desk.fails(1, "write /ro/x y");
    assert_eq!(refusal, "write: /ro/x: Read-only file system (EROFS)\n");
    assert!(
        desk.fails(1, "mount nothing /n")
            .contains("no tree 'nothing'")
    );
    assert!(desk.fails(1, "unmount /etc").contains("nothing is mounted"));
    assert!(desk.fails(1, "bind /nowhere /etc").contains("(ENOENT)"));
    assert!(
        desk.fails(1, "bind /motd /etc")
            .contains("onto a directory")
    );
    desk.fails(2, "bind -ab /motd /etc");
}

impl Desk {
    /// What the terminal shows, escape sequences cut out, when these keys are typed in the shell.
    fn types(&mut self, keys: &str) -> (u8, String) {
        self.keys = keys.bytes().collect();
        let (status, shown) = self.run("shell");
        let mut text = String::new();
        let mut rest = shown.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            text += before;
            let end = after
                .find(|c: char| c.is_ascii_alphabetic() || c == '~')
                .unwrap();
            rest = &after[end + 1..];
        }
        (status, text + rest)
    }
}

#[test]
fn the_shell_runs_lines_and_ends_with_the_last_status() {
    let mut desk = Desk::new();
    assert_eq!(desk.types("exit 7\r").0, 7);
    assert_eq!(desk.types("false\rexit\r").0, 1);
    let (status, text) = desk.types("mkdir /d; cd d\rwrite f one\rcat f; echo end\rexit\r");
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("\r/d $ cat f; echo end\r\none\nend\n"),
        "{text}"
    );
    let (status, text) = desk.types("cat /nope; echo not this\recho '\r\x04");
    assert_eq!(status, 2);
    assert!(text.contains("/d [1] $ "), "{text}");
    assert!(!text.contains("\nnot this"), "{text}");
    assert!(
        text.contains("opens a '") && text.contains("[2] $ "),
        "{text}"
    );
    // Ctrl-C ends a command, and a line, but not the shell.
    let (status, text) = desk.types("sleep infinity\recho half\x03echo whole\r\x04");
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("sleep: interrupted\n"), "{text}");
    assert!(
        text.contains("[130] $ ") && text.contains("\nwhole\n"),
        "{text}"
    );
    // No shell in a shell; a console that ends is the end of the shell.
    assert!(desk.types("shell\r\x04").1.contains("this is one already"));
    assert_eq!(desk.types("echo unfinished").0, 143);
}

#[test]
fn what_takes_long_shows_how_far_it_is_on_a_terminal_only() {
    let mut desk = Desk::new();
    desk.tick = Duration::from_millis(150);
    desk.ok("truncate -s 8000000 /big");
    for (line, shown) in [("cp /big /copy", "\r/big: "), ("bench /b 8", "\r/b: ")] {
        let (status, text) = desk.types(&format!("{line}\r\x04"));
        assert_eq!(status, 0, "{text}");
        let progress = text.split('\r').filter(|part| part.contains(" left"));
        let progress: Vec<&str> = progress.collect();
        assert!(progress.len() > 2 && text.contains(shown), "{line}: {text}");
        for part in progress {
            assert!(part.contains("%, ") && part.contains("iB/s, "), "{part}");
        }
        let quiet = desk.ok(line);
        assert!(!quiet.contains(" left") && !quiet.contains('\r'), "{quiet}");
    }
}

#[test]
fn bench_measures_and_leaves_nothing() {
    let mut desk = Desk::new();
    let text = desk.ok("bench; ls");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].starts_with("write, sync    1.0 MiB a call ")
            && lines[0].contains("/s, 32.0 MiB in ")
    );
    assert!(
        lines[1].starts_with("read           1.0 MiB a call ")
            && lines[1].contains("/s, 32.0 MiB in ")
    );
    assert!(
        lines[2].starts_with("read           4.0 KiB anywhere ") && lines[2].ends_with(" each")
    );
    // A file that is there is not for this.
    desk.ok("write /mine kept");
    assert_eq!(
        desk.fails(1, "bench /mine"),
        "bench: cannot create '/mine': File exists (EEXIST)\n"
    );
    assert_eq!(desk.ok("cat /mine"), "kept\n");
    for line in ["bench /b 0", "bench /b x", "bench a 1 c"] {
        assert!(desk.fails(2, line).contains("; usage: bench "), "{line}");
    }
}

#[test]
fn lines_are_edited() {
    let mut desk = Desk::new();
    for (keys, line) in [
        ("echo abc\x7f\x7fx", "ax"),
        ("echo bc\x02\x02a", "abc"),
        ("cho ab\x01e\x05c", "abc"),
        ("echo abc\x1b[D\x1b[D\x1b[3~d", "adc"),
        ("echo a b\x17c", "a c"),
        ("rm -r /\x15echo safe", "safe"),
        ("echo ab cd\x1b[D\x1b[D\x1b[D\x0b!", "ab!"),
        ("echo größe\x7fn", "größn"),
        ("xecho a\x1b[H\x04\x1b[F!", "a!"),
        ("echo a\x1b[20~\x1bOD\x1bOCb", "ab"),
    ] {
        let (_, text) = desk.types(&format!("{keys}\r\x04"));
        assert!(text.contains(&format!("\n{line}\n")), "{keys:?}: {text}");
    }
    let (_, text) = desk.types("echo one\recho two\r\x1b[A\x1b[A\r\x10\x10\x0e\r\x04");
    assert_eq!(text.matches("\none\n").count(), 3, "{text}");
    // What was being written is there again.
    let (_, text) = desk.types("echo x\recho new\x1b[A\x1b[B!\r\x04");
    assert!(text.contains("\nnew!\n"), "{text}");
}

#[test]
fn words_are_completed() {
    let mut desk = Desk::new();
    desk.ok("mkdir -p /data/deep; write /data/deep/file.txt f; write '/data/a b' ab; write /data/deeds d");
    let (_, text) = desk.types("cat /da\tdeep/f\t\recho x; sha\t/data/a\t\r\x04");
    assert!(text.contains("cat /data/deep/file.txt \r\nf\n"), "{text}");
    assert!(
        text.contains("echo x; sha256 /data/a\\ b \r\nx\n"),
        "{text}"
    );
    let (_, text) = desk.types("cd /data\rls d\t\t\x15\x04");
    assert!(text.contains("ls dee"), "{text}");
    assert!(text.contains("\r\ndeeds  deep/  \r\n"), "{text}");
    // Nothing fits: nothing happens.
    assert!(desk.types("cat /nowhere/x\t\t\x15\x04").0 == 0);
}
