//! The directory, the name space, the shell.

use std::time::Duration;

use crate::backends::Memory;

type Desk = crate::desk::Desk<Memory>;

#[test]
fn the_directory_is_where_relative_paths_start() {
    let mut desk = Desk::new().unwrap();
    desk.ok("mkdir -p /a/b; write /a/b/f x; cd a/b; write g y; cd ..; mkdir c");
    assert_eq!(desk.ok("pwd; ls; cat b/f b/g"), "/a\nb\nc\nx\ny\n");
    assert_eq!(desk.ok("cd; pwd; ls"), "/\na\n");
    assert_eq!(
        desk.fails(1, "cd /a/b/f"),
        "cd: /a/b/f: Not a directory (ENOTDIR)\n"
    );
    assert_eq!(
        desk.fails(1, "cd /a; cat b/none"),
        "cat: b/none: No such file or directory (ENOENT)\n"
    );
    assert!(desk.fails(1, "cd other:/").contains("mount it first"));
    // To the directory before, which is told, and back; to the root by its names in a shell.
    assert_eq!(
        desk.ok("cd /a/b; cd /a; cd -; pwd; cd -; pwd"),
        "/a/b\n/a/b\n/a\n/a\n"
    );
    assert_eq!(desk.ok("cd ~; pwd; cd ~/a; pwd; cd; pwd"), "/\n/a\n/\n");
    let mut new = Desk::new().unwrap();
    assert_eq!(new.fails(1, "cd -"), "cd: there was no directory before\n");
}

#[test]
fn the_name_space_is_changed_by_commands() {
    let mut desk = Desk::new().unwrap();
    desk.ok("mkdir /etc; write /etc/hosts root; mount #mem /overlay; write /overlay/hosts mine; bind -bc /overlay /etc");
    desk.ok("write /etc/motd hello");
    assert_eq!(desk.ok("cat /etc/hosts /overlay/motd"), "mine\nhello\n");
    assert_eq!(
        desk.ok("ns"),
        "/etc\tdirectory, a union of 2\n/overlay\tdirectory\nroot:/\tshare, at /\n"
    );
    assert_eq!(
        desk.ok("ls other:/; ns > /list; tail -n 2 /list"),
        "root:/\tshare, at /\nother:/\tshare\n"
    );
    assert_eq!(desk.ok("mount"), desk.ok("ns"));
    // Between trees a move is a copy.
    desk.ok("mv /overlay/motd /motd; cat /motd; umount /overlay /etc; mount -r #mem /ro");
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

#[test]
fn the_shell_runs_lines_and_ends_with_the_last_status() {
    let mut desk = Desk::new().unwrap();
    assert_eq!(desk.types("exit 7\r").0, 7);
    assert_eq!(desk.types("false\rexit\r").0, 1);
    let (status, text) = desk.types("mkdir /d; cd d\rwrite f one\rcat f; echo end\rexit\r");
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("\r/d $ cat f; echo end\r\none\nend\n"),
        "{text}"
    );
    let (status, text) =
        desk.types("cat /nope; echo also this, $?\rcat /nope && echo not this\recho '\r\x04");
    assert_eq!(status, 2);
    assert!(text.contains("/d [1] $ "), "{text}");
    assert!(text.contains("\nalso this, 1\n"), "{text}");
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
    let mut desk = Desk::new().unwrap();
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
    let mut desk = Desk::new().unwrap();
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
    let mut desk = Desk::new().unwrap();
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
    let mut desk = Desk::new().unwrap();
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
