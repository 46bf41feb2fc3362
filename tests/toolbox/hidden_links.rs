//! A server that follows symbolic links and does not tell (xen-9pfsd): no command goes through one.

use crate::backends::{Memory, share_of_xen9pfsd};

type Desk = crate::desk::Desk<Memory>;

fn desk() -> Desk {
    let mut desk = Desk::new().unwrap();
    desk.root = share_of_xen9pfsd(
        &["/real", "/t", "/t/dir"],
        &["/real/f", "/t/f", "/t/dir/f", "/file"],
        &[
            ("/link", "/real"),
            ("/t/link", "/real"),
            ("/t/none", "/nowhere"),
            ("/to-file", "/file"),
        ],
    );
    desk.ok("mount #mem /m");
    desk
}

impl Desk {
    fn has_all(&mut self) {
        for file in ["/real/f", "/t/f", "/t/dir/f", "/file"] {
            assert_eq!(self.ok(&format!("cat {file}")), "kept\n", "{file}");
        }
    }
}

#[test]
fn nothing_is_removed_or_moved_through_links_that_the_server_hides() {
    let mut desk = desk();
    for line in [
        "rm -r /t",
        "rm -rf /t",
        "rm -r /link",
        "rm -r /t/link",
        "rm -r /real",
        "mv /t /m/t",
        "mv /link /m/link",
    ] {
        let text = desk.fails(1, line);
        assert!(
            text.contains("does not tell which entries are links"),
            "{line}: {text}"
        );
        desk.has_all();
    }
    assert_eq!(desk.ok("ls /m"), "");
    // A link to a file goes by itself.
    desk.ok("rm /to-file");
    desk.has_all();
}

#[test]
fn no_directory_in_a_directory_is_copied_from_there() {
    let mut desk = desk();
    let text = desk.fails(1, "cp -r /t /m/t");
    for dir in ["/t/dir: ", "/t/link: "] {
        assert!(text.contains(dir), "{text}");
    }
    // What is not a directory is.
    assert_eq!(desk.ok("ls /m/t; cat /m/t/f"), "f\nkept\n");
    desk.ok("cp -r /real /m/real");
    // One that leads nowhere is left out of a listing, not the listing.
    assert_eq!(desk.ok("ls /t"), "dir\nf\nlink\n");
}

/// Each command has to do with the five fids that the server allows, in any directory.
#[test]
fn no_command_needs_more_fids_than_there_are() {
    let dirs = ["/d", "/d/1", "/d/2", "/d/3", "/e"];
    let files: Vec<String> = dirs
        .iter()
        .flat_map(|dir| (0..40).map(move |file| format!("{dir}/{file:0>200}")))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let mut desk = Desk::new().unwrap();
    desk.root = share_of_xen9pfsd(&dirs, &files, &[]);
    desk.ok("mount #mem /m; mkdir -p /m/d/1/2; cp /e/* /m/d; cp /e/* /m/d/1; cp /e/* /m/d/1/2");
    // A command copies by itself what could not go together with others. The library ends with the error.
    let copied = desk.root.copy_dir_all("/m/d", "/by-library").unwrap();
    assert_eq!((copied.dirs(), copied.files()), (3, 120));
    for line in [
        "cp -r /e /e2; cp -r /m/d /copy; cp -r /m/d /copy; cp /e/* /copy; cp /m/d/* /e2",
        "cat /copy/d/1/* > /all; cp /all /m/all; sort /all > /sorted; tail -n 1 /sorted",
        "ls -lR /copy; du /copy; find / -name '*1'; grep -r kept /copy; tree /copy",
        "cd /copy/d/1/2; wc *; head -n 1 *; sha256sum *; stat *; cmp /e/000* /e2/000*",
        // The same below a mount point of another tree, which alone has many fids.
        "mkdir -p /m/b/1 /m/b/2 /m/t/1 /m/t/2; bind /copy /m/b/1; bind /e2 /m/t/1",
        "ls -lR /m/b; du -a /m/b; find /m/b; cp -r /m/b /m/c; cp -r /m/c /m/t; cp -r /m/b /m/t",
        "touch /e2/new; mkdir -p /e2/a/b/c; write /e2/a/b/c/f x; rm /e2/0*; rm -r /m/d; rm /all",
    ] {
        let text = desk.run(line).1;
        assert!(!text.contains("EMFILE"), "{line}: {text}");
    }
    for (dir, count) in [
        ("/copy", 40),
        ("/copy/1/2", 40),
        ("/copy/d/1/2", 40),
        ("/e2", 1),
    ] {
        let found = desk.ok(&format!("find {dir} -type f"));
        assert_eq!(found.lines().count(), count, "{found}");
    }
}
