//! The commands on files.

use super::Desk;

#[test]
fn write_append_cat() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    assert_eq!(
        desk.ok("write /a one two; append /a three; append -n /new x; cat /a /new"),
        "one two\nthree\nx"
    );
    assert_eq!(desk.ok("write -n /a ''; cat /a"), "");
    assert_eq!(desk.ok("echo 'a  b' c; echo -n x; echo"), "a  b c\nx\n");
}

#[test]
fn errors_are_told_as_unix_tells_them() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
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
fn ls_sorts_and_hides() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("write /b x; write /.hidden x; write '/a c' x; mkdir /d; write /d/inner x");
    assert_eq!(desk.ok("ls"), "a c\nb\nd\n");
    assert_eq!(desk.ok("ls -A /"), ".hidden\na c\nb\nd\n");
    assert_eq!(desk.ok("ls -a /"), ".\n..\n.hidden\na c\nb\nd\n");
    assert_eq!(desk.ok("ls /b /d"), "/b\n\n/d:\ninner\n");
    assert_eq!(
        desk.fails(1, "ls /nope /d"),
        "ls: /nope: No such file or directory (ENOENT)\n/d:\ninner\n"
    );
    let long = desk.ok("ls -l");
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines.len(), 4);
    let blocks = |path| desk.root.metadata(path).unwrap().blocks();
    let sum: u64 = ["/a c", "/b", "/d"].map(blocks).iter().sum();
    assert_eq!(lines[0], format!("total {}", sum.div_ceil(2)));
    assert!(
        lines[1].starts_with("-rw-r--r--   1 ") && lines[1].ends_with(" a c"),
        "{long}"
    );
    assert!(
        lines[3].starts_with("drwxr-xr-x ") && lines[3].ends_with(" d"),
        "{long}"
    );
}

#[test]
fn cp_copies_files_and_trees() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
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
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir /t; write /t/f x");
    let output = desk.fails(1, "cp -r /t /t/inner");
    assert!(output.contains("into itself"), "{output}");
    assert_eq!(desk.ok("ls /t/inner"), "f\n");
}

#[test]
fn copies_and_moves_between_shares() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
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
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("write /a x; mkdir /d; mv /a /b; mv /b /d; mv /d /e");
    assert_eq!(desk.ok("cat /e/b"), "x\n");
    assert_eq!(
        desk.fails(1, "mv /a /b"),
        "mv: cannot move '/a' to '/b': No such file or directory (ENOENT)\n"
    );
}

#[test]
fn rm_is_careful() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir -p /t/a/b /t/c; write /t/a/b/f x; write /t/c/g y");
    assert_eq!(
        desk.fails(1, "rm /t"),
        "rm: cannot remove '/t': Is a directory (EISDIR)\n"
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
    let Some(mut desk) = Desk::new() else {
        return;
    };
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
    let Some(mut desk) = Desk::new() else {
        return;
    };
    let deep = "/d".repeat(desk.depth());
    desk.ok(&format!(
        "mkdir -p {deep}; write {deep}/f x; cp -r /d /copy; rm -r /d"
    ));
    assert_eq!(
        desk.ok(&format!("cat /copy{}/f; rm -r /copy; ls", &deep[2..])),
        "x\n"
    );
    if let Some(host) = desk.host() {
        assert!(std::fs::read_dir(host).unwrap().next().is_none());
    }
}

#[test]
fn sha256_agrees_with_published_sums() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    assert_eq!(
        desk.ok("write -n /e; write -n /abc abc; sha256 /e /abc"),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /e\n\
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  /abc\n"
    );
}

#[test]
fn large_files_go_through() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    let bytes: Vec<u8> = (0..3_000_017_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    desk.root.write("/large", &bytes).unwrap();
    desk.ok("cp /large other:/large; truncate -s 5 /large");
    assert!(desk.other().read("/large").unwrap() == bytes);
    assert_eq!(desk.root.read("/large").unwrap(), bytes[..5]);
}

#[test]
fn stat_and_df_show_what_the_server_says() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
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
fn selftest_passes_and_leaves_nothing() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    let output = desk.ok("selftest; ls -A /");
    assert!(output.ends_with(" 0 failed\n"), "{output}");
}

#[test]
fn cp_a_keeps_hard_links_and_attributes_of_users() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir -p /d/e; write /d/1 one; write /d/other o");
    let linked = desk.root.hard_link("/d/1", "/d/e/2").is_ok();
    if linked {
        desk.root.hard_link("/d/1", "/d/3").unwrap();
        desk.root.hard_link("/d/1", "/outside").unwrap();
    }
    let kept = ["/d", "/d/e", "/d/1"].map(|path| {
        let set = desk.root.set_xattr(path, "user.mark", path);
        (path, set.is_ok())
    });
    // Twice, so that names are taken.
    desk.ok("cp -a /d /copy; cp -a /d/1 /d/e /d/3 /copy; cp -r /d /plain");
    let about = |path: &str| desk.root.metadata(path).unwrap();
    if linked {
        for path in ["/copy/1", "/copy/3", "/copy/e/2"] {
            assert_eq!(about(path).nlink(), 3, "{path}");
            assert_eq!(about(path).ino(), about("/copy/1").ino());
        }
        for path in ["/plain/1", "/plain/3", "/plain/e/2", "/copy/other"] {
            assert_eq!(about(path).nlink(), 1, "{path}");
        }
        assert_eq!(about("/d/1").nlink(), 4);
    }
    for (path, has) in kept {
        let copy = path.replacen("/d", "/copy", 1);
        let found = desk.root.xattr(copy, "user.mark").ok();
        assert_eq!(found, has.then(|| path.into()), "{path}");
        let plain = path.replacen("/d", "/plain", 1);
        assert!(desk.root.xattr(plain, "user.mark").is_err());
    }
    let shown = desk.ok("ls /copy /copy/e; cat /copy/1");
    let three = if linked { "1\n3\ne\nother\n\n/copy/e:\n2\none\n" } else { "1\ne\nother\n\n/copy/e:\none\n" };
    assert_eq!(shown, format!("/copy:\n{three}"));
}

#[test]
fn mv_to_another_share_keeps_hard_links() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir -p /d/e; write /d/1 one; write /d/alone a");
    if desk.root.hard_link("/d/1", "/d/e/2").is_err() {
        return;
    }
    desk.root.hard_link("/d/1", "/outside").unwrap();
    desk.ok("mv /d other:/moved");
    let other = desk.other();
    let about = |path: &str| other.metadata(path).unwrap();
    assert_eq!(about("/moved/1").ino(), about("/moved/e/2").ino());
    assert_eq!((about("/moved/1").nlink(), about("/moved/alone").nlink()), (2, 1));
    // What has a name elsewhere is the same there, and alone here.
    assert_eq!(desk.root.metadata("/outside").unwrap().nlink(), 1);
    desk.is_gone("/d");
    desk.ok("append other:/moved/e/2 two");
    assert_eq!(desk.ok("cat other:/moved/1 /outside"), "one\ntwo\none\n");
}

#[test]
fn mv_of_several_keeps_hard_links_between_them() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir -p /d/e /to; write /a one; write /x x; write /d/x y");
    let names = ["/b", "/d/c", "/d/e/f"];
    if names.iter().any(|name| desk.root.hard_link("/a", name).is_err()) {
        return;
    }
    desk.ok("write other:/taken gone; mv /a /x /b /d other:/; mv other:/b other:/taken");
    let other = desk.other();
    let about = |path: &str| other.metadata(path).unwrap();
    for path in ["/a", "/taken", "/d/c", "/d/e/f"] {
        assert_eq!((about(path).ino(), about(path).nlink()), (about("/a").ino(), 4), "{path}");
    }
    assert_eq!((about("/x").nlink(), about("/d/x").nlink()), (1, 1));
    desk.is_gone("/a");
    desk.is_gone("/d");
    // Onto one that is there, and a file that was the same size before.
    desk.ok("write /1 one; write /3 two; write /to/2 old");
    desk.root.hard_link("/1", "/2").unwrap();
    desk.ok("cp /to/2 other:/2; mv /1 /2 /3 other:/");
    assert_eq!(desk.other().metadata("/1").unwrap().nlink(), 2);
    assert_eq!(desk.ok("cat other:/1 other:/2 other:/3"), "one\none\ntwo\n");
}
