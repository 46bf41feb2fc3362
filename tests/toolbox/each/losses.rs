//! What must never be lost: what links lead to, targets of copies that fail, roots and directories in use.

use super::Desk;
use crate::desk::LINKS;

#[test]
fn mv_moves_links_themselves() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    for (link, target) in LINKS {
        // Within a tree, to another one, and onto what is there already: twice.
        for _ in 0..2 {
            desk.ok(&format!("mv /{link} /moved"));
            desk.is_link("/moved", target);
            desk.is_gone(&format!("/{link}"));
            desk.ok(&format!("mv /moved /m/{link}"));
            desk.is_gone("/moved");
            desk.is_link(&format!("/m/{link}"), target);
            desk.root.symlink(target, format!("/{link}")).unwrap();
        }
        desk.is_kept();
        // Into a directory, there and back.
        desk.ok(&format!("rm /m/{link}; mv /{link} /m; mv /m/{link} /"));
        desk.is_link(&format!("/{link}"), target);
        desk.is_kept();
        // To another share.
        desk.ok(&format!("mv /{link} other:/x"));
        assert_eq!(desk.other().read_link("/x").unwrap(), target.as_bytes());
        desk.ok(&format!("mv other:/x /{link}"));
        desk.is_kept();
    }
}

#[test]
fn mv_replaces_links_and_follows_those_to_directories_only() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    for target in ["/to-file", "/to-none", "/to-self"] {
        // Within a tree and from another one.
        for source in ["/new", "/m/new"] {
            let before = desk.root.read_link(target).unwrap();
            desk.ok(&format!(
                "write {source} new; mv {source} {target}; cat {target}"
            ));
            assert!(
                desk.root.symlink_metadata(target).unwrap().is_file(),
                "{target}"
            );
            desk.is_gone(source);
            desk.ok(&format!("rm {target}"));
            desk.root.symlink(before, target).unwrap();
        }
        desk.is_kept();
    }
    for source in ["/new", "/m/new"] {
        desk.ok(&format!(
            "write {source} new; mv {source} /to-dir; rm /real/new"
        ));
        desk.is_link("/to-dir", "real");
        desk.is_kept();
        // A directory does not take the place of a link.
        desk.ok(&format!("mkdir {source}"));
        for link in ["/to-file", "/to-none"] {
            let text = desk.fails(1, &format!("mv {source} {link}"));
            assert!(text.contains("(ENOTDIR)"), "{text}");
        }
        desk.ok(&format!("rm -r {source}"));
        desk.is_kept();
    }
}

#[test]
fn trees_are_moved_with_their_links() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    desk.ok("mkdir /t");
    for (link, target) in LINKS {
        desk.root
            .symlink(format!("../{target}"), format!("/t/{link}"))
            .unwrap();
    }
    desk.ok("mv /t /m/t; mv /m/t /u");
    for (link, target) in LINKS {
        desk.is_link(&format!("/u/{link}"), &format!("../{target}"));
    }
    desk.is_kept();
    // A directory that is not empty is not replaced.
    desk.ok("mkdir /m/u; write /m/u/x x");
    let text = desk.fails(1, "mv /u /m");
    assert!(text.contains("(ENOTEMPTY)"), "{text}");
    assert_eq!(desk.ok("ls /m/u"), "x\n");
    desk.ok("rm /m/u/x; mv /u /m");
    desk.is_gone("/u");
    desk.is_kept();
}

#[test]
fn cp_follows_its_operands_but_not_with_r() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    desk.ok("cp /to-file /copy; cp /to-file /to-dir; cp /to-file /copy");
    assert!(desk.root.symlink_metadata("/copy").unwrap().is_file());
    assert_eq!(
        desk.ok("cat /copy /real/to-file; rm /real/to-file"),
        "keep\nkeep\n"
    );
    for (line, told) in [
        (
            "cp /to-dir /c",
            "-r not specified; omitting directory '/to-dir'",
        ),
        (
            "cp /to-none /c",
            "/to-none: No such file or directory (ENOENT)",
        ),
        ("cp /to-self /c", "/to-self: "),
        (
            "cp /file /to-none",
            "not writing through dangling symlink '/to-none'",
        ),
        ("cp /file /to-self", "cannot create '/to-self': "),
        (
            "cp /file /to-file",
            "'/file' and '/to-file' are the same file",
        ),
        (
            "cp /to-file /file",
            "'/to-file' and '/file' are the same file",
        ),
        (
            "cp -r /to-file /file",
            "'/to-file' and '/file' are the same file",
        ),
        (
            "cp -r /to-self /to-self",
            "'/to-self' and '/to-self' are the same file",
        ),
        (
            "cp -r /real /to-file",
            "cannot create directory '/to-file': File exists",
        ),
        (
            "cp -r /real /to-none",
            "cannot create directory '/to-none': File exists",
        ),
        ("cp -r /real /real", "cannot copy a directory, '/real', into itself, '/real/real'"),
    ] {
        let text = desk.fails(1, line);
        assert!(text.starts_with(&format!("cp: {told}")), "{line}: {text}");
        desk.fails(1, "stat /c");
        desk.fails(1, "stat /nowhere");
        desk.is_link("/to-none", "nowhere");
        desk.ok("rm -rf /real/real");
        desk.is_kept();
    }
    // Links are copied as links, twice too.
    for _ in 0..2 {
        for (link, target) in LINKS {
            desk.ok(&format!("cp -r /{link} /copied-{link}"));
            if target != "real" {
                desk.is_link(&format!("/copied-{link}"), target);
            }
        }
        desk.ok("rm -f /real/to-dir");
        desk.is_link("/copied-to-dir", "real");
        desk.is_kept();
    }
    // Through a link to a file, as everywhere.
    desk.ok("write /new new; cp /new /to-file");
    desk.is_link("/to-file", "file");
    assert_eq!(desk.ok("cat /file; write /file keep"), "new\n");
    desk.is_kept();
}

#[test]
fn trees_are_copied_with_their_links_onto_trees_with_links() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    desk.ok("mkdir -p /t/d; write /t/d/f new");
    for (link, target) in LINKS {
        desk.root
            .symlink(format!("../{target}"), format!("/t/{link}"))
            .unwrap();
    }
    for to in ["/u", "/m/u", "other:/u"] {
        for _ in 0..2 {
            desk.ok(&format!("cp -r /t/. {to}"));
            desk.is_kept();
        }
    }
    for (link, target) in LINKS {
        desk.is_link(&format!("/u/{link}"), &format!("../{target}"));
    }
    // A link to a directory is no directory to copy one into.
    desk.root.symlink("../real", "/m/d").unwrap();
    desk.ok("rm -r /u/d");
    desk.root.symlink("../real", "/u/d").unwrap();
    desk.fails(1, "cp -r /t/. /u");
    desk.is_kept();
}

#[test]
fn rm_removes_links_themselves() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    for command in ["rm", "rm -r", "rm -rf"] {
        for (link, target) in LINKS {
            desk.ok(&format!("{command} /{link}"));
            desk.is_gone(&format!("/{link}"));
            desk.root.symlink(target, format!("/{link}")).unwrap();
        }
        desk.ok("mkdir /t");
        for (link, target) in LINKS {
            desk.root
                .symlink(format!("../{target}"), format!("/t/{link}"))
                .unwrap();
        }
        desk.ok("rm -r /t");
        desk.is_kept();
    }
}

#[test]
fn ls_and_stat_show_links_wherever_they_lead() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    for link in ["/to-file", "/to-none", "/to-self"] {
        assert_eq!(desk.ok(&format!("ls {link}")), format!("{link}\n"));
        desk.ok(&format!("ls -l {link}"));
        desk.ok(&format!("stat {link}"));
    }
    assert_eq!(desk.ok("ls /to-dir"), "f\n");
    assert!(desk.ok("ls -l /to-dir").ends_with(" /to-dir -> real\n"));
    assert!(desk.ok("stat /to-dir").contains("symbolic link"));
    // What reads and writes a file follows, to where a file can be made, too.
    assert_eq!(
        desk.ok("cat /to-file; write /to-none made; cat /nowhere; rm /nowhere"),
        "keep\nmade\n"
    );
    desk.is_link("/to-none", "nowhere");
    for line in [
        "cat /to-self",
        "write /to-self x",
        "append /to-self x",
        "sha256 /to-self",
        "cd /to-none",
        "truncate -s 1 /to-self",
    ] {
        desk.fails(1, line);
    }
    for line in ["mkdir /to-none", "mkdir -p /to-none", "mkdir /to-dir"] {
        assert!(desk.fails(1, line).contains("(EEXIST)"), "{line}");
    }
    desk.ok("mkdir -p /to-dir/x; rm -r /real/x");
    desk.is_kept();
}

#[test]
fn nothing_is_copied_onto_itself() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir /d; write /d/f keep");
    desk.root.hard_link("/d/f", "/hard").unwrap();
    for line in [
        "cp /d/f /d/f",
        "cp /d/f /d",
        "cp /d/f /hard",
        "cp -r /d/. /d",
        "mv /d/f /d/../d/f",
        "mv /d/f /d",
    ] {
        let text = desk.fails(1, line);
        assert!(text.contains("are the same file"), "{line}: {text}");
        assert_eq!(desk.ok("cat /d/f"), "keep\n");
    }
    for to in ["/d/f", "/hard"] {
        desk.root.copy("/d/f", to).unwrap_err();
        assert_eq!(desk.ok("cat /d/f"), "keep\n");
    }
    // What was just made is not replaced by its namesake.
    desk.ok("mkdir -p /a /b /to; write /a/x one; write /b/x two");
    for command in ["cp", "mv"] {
        let text = desk.fails(1, &format!("{command} /a/x /b/x /to"));
        assert!(
            text.contains("will not overwrite just-created '/to/x'"),
            "{text}"
        );
        assert_eq!(desk.ok("cat /to/x /b/x"), "one\ntwo\n");
    }
}

#[test]
fn roots_mount_points_and_dots_are_refused_before_anything_is_removed() {
    let Some(mut desk) = Desk::new() else {
        return;
    };
    desk.ok("mkdir -p /d/e /p/q; write /d/e/f x; write /p/q/f x; mount #mem /p/m; write /p/m/f x");
    desk.ok("write other:/f x; cd /d/e");
    for path in [
        "/",
        "//",
        "///",
        "/.",
        "/./",
        "/..",
        "/../",
        "/d/..",
        "/d/../",
        "/d/e/../..",
        "/.//.",
        ".",
        "./",
        "..",
        "../",
        "../..",
        "./..",
        "../.",
        "/d/e/.",
        "/d/e/./",
        "other:/",
        "other://",
        "other:/.",
        "other:/..",
        "/p",
        "/p/",
        "/p/m",
        "/p/m/",
        "/p/./m",
        "/p/m/.",
        "/d/../p",
        "../../p",
        "/p/q/../m",
        "",
    ] {
        for command in ["rm", "rm -r", "rm -rf"] {
            let quoted = format!("{command} '{path}'");
            if path.is_empty() && command == "rm -rf" {
                desk.ok(&quoted);
            } else {
                desk.fails(1, &quoted);
            }
            assert_eq!(
                desk.ok("cat /d/e/f /p/q/f /p/m/f other:/f"),
                "x\nx\nx\nx\n",
                "{quoted}"
            );
        }
        let moved = format!("mv '{path}' /else");
        desk.fails(1, &moved);
        desk.fails(1, &format!("mv '{path}' other:/else"));
        assert_eq!(
            desk.ok("cat /d/e/f /p/q/f /p/m/f other:/f"),
            "x\nx\nx\nx\n",
            "{moved}"
        );
        desk.ok("rm -rf other:/else");
    }
    // Through a link in the way, too.
    desk.root.symlink("p", "/link").unwrap();
    desk.fails(1, "rm -r /link/m");
    assert_eq!(desk.ok("cat /p/m/f"), "x\n");
    desk.ok("rm -r /link /p/q /d; unmount /p/m; rm -r /p");
}
