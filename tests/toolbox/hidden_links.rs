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
