//! Names that are not for a terminal.

use super::Desk;

#[test]
fn control_characters_are_not_printed() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    let odd: [&[u8]; 5] = [
        b"bell\x07",
        b"line\nfeed",
        b"red\x1b[31m",
        "c1\u{9b}m".as_bytes(),
        "good \u{fc}\u{1f600}".as_bytes(),
    ];
    desk.ok("mkdir /d");
    for name in odd {
        desk.root.write([b"/d/", name].concat(), "x").unwrap();
    }
    desk.root.symlink("to\x1b[2J", "/d/link").unwrap();
    let shown = "bell?\nc1?m\ngood \u{fc}\u{1f600}\nline?feed\nlink\nred?[31m\n";
    assert_eq!(desk.ok("ls /d"), shown);
    assert!(desk.ok("ls -l /d").contains("link -> to?[2J\n"));
    let raw = desk.ok("ls --raw /d");
    assert!(raw.contains("line\nfeed\n") && raw.contains("red\x1b[31m\n"), "{raw:?}");
    assert!(desk.ok("ls -l --raw /d").contains("link -> to\x1b[2J\n"));
    // Where they are part of what is told, too.
    for line in [
        "sha256 '/d/bell\x07'",
        "stat '/d/bell\x07'",
        "ls '/d/bell\x07'",
        "ls -l '/d/bell\x07'",
        "df '/d/bell\x07'",
    ] {
        let text = desk.ok(line);
        assert!(text.contains("/d/bell?") && !text.contains('\x07'), "{line}: {text:?}");
    }
    for line in [
        "cat '/d/no\x1b'",
        "rm '/d/no\x1b'",
        "cp '/d/no\x1b' /x",
        "mv '/d/no\x1b' /x",
        "cd '/d/no\x1b'",
        "mkdir '/no/no\x1b'",
        "write '/no/no\x1b' x",
        "bind '/d/no\x1b' /d",
    ] {
        let text = desk.fails(1, line);
        assert!(text.contains("/no?") && !text.contains('\x1b'), "{line}: {text:?}");
    }
    desk.root.create_dir("/d\x1bc").unwrap();
    desk.root.write("/d\x1bc/f\x1bc", "x").unwrap();
    assert_eq!(desk.ok("cd '/d\x1bc'; pwd; mount #mem .; ns"), "/d?c\n/d?c\tdirectory\nroot:/\tshare, at /\n");
    desk.ok("unmount '/d\x1bc'; cp -r '/d\x1bc' /e; rm -r '/d\x1bc' /d");
    assert_eq!(desk.ok("ls / /e"), "/:\ne\n\n/e:\nf?c\n");
}

#[test]
fn names_of_255_bytes_work_and_longer_ones_are_refused() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    desk.ok(&format!("mkdir /{longest}; write /{longest}/{longest} x; cat /{longest}/{longest}"));
    desk.ok(&format!("mv /{longest}/{longest} /f; mv /f /{longest}; mkdir /m; mount #mem /m"));
    desk.ok(&format!("cp -r /{longest} /m; mv /m/{longest} /m/x; mv /m/x/f /{longest}/f; rm -r /{longest}"));
    for line in [
        format!("cat /{too_long}"),
        format!("write /{too_long} x"),
        format!("mkdir /{too_long}"),
        format!("mkdir -p /a/{too_long}"),
        format!("rm /{too_long}"),
        format!("rm -rf /{too_long}"),
        format!("mv /m /{too_long}"),
        format!("ls /{too_long}"),
        format!("cd /{too_long}"),
    ] {
        let text = desk.fails(1, &line);
        assert!(text.contains("(ENAMETOOLONG)") || line.starts_with("mv"), "{text}");
    }
}

#[test]
fn links_say_up_to_what_fits_a_message() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    // The longest that Linux makes; with small messages the reply does not fit, and no more than that fails.
    let target = format!("/{}", "x/".repeat(2047));
    assert_eq!(target.len(), 4095);
    desk.ok("mkdir /d; write /d/f x");
    desk.root.symlink(target.as_bytes(), "/d/long").map_or_else(
        |error| assert!(error.errno() != xen9p::errno::Errno::ENOENT, "{error}"),
        drop,
    );
    desk.run("ls -l /d");
    desk.run("cat /d/long");
    desk.run("cp -r /d /copy");
    assert_eq!(desk.ok("cat /d/f; ls /copy/f"), "x\n/copy/f\n");
    desk.ok("rm -r /d /copy");
}
