//! Directories whose setgid bit is set give their group to what is made in them, and the bit to directories.

use super::Desk;
use xen9p::fs::Permissions;

#[test]
fn what_is_made_in_a_setgid_directory_takes_its_group() {
    const GROUP: u32 = 1234;
    let Some(mut desk) = Desk::new() else { return };
    desk.ok("mkdir -p /t/below; write /t/f x; write /t/below/f x; mkdir /sg; mount #mem /m; write /m/f x");
    desk.root.chown("/sg", None, Some(GROUP)).unwrap();
    desk.root
        .set_permissions("/sg", Permissions::from_mode(0o2775))
        .unwrap();
    desk.ok("write /sg/f x; append /sg/a x; mkdir /sg/d; mkdir -p /sg/p/q; cp /t/f /sg/copy; cp -r /t /sg/t; mv /m/f /sg/moved");
    desk.root.symlink("f", "/sg/link").unwrap();
    for (path, is_dir) in [
        ("/sg/f", false),
        ("/sg/a", false),
        ("/sg/d", true),
        ("/sg/p", true),
        ("/sg/p/q", true),
        ("/sg/copy", false),
        ("/sg/t", true),
        ("/sg/t/f", false),
        ("/sg/t/below", true),
        ("/sg/t/below/f", false),
        ("/sg/moved", false),
        ("/sg/link", false),
    ] {
        let found = desk.root.symlink_metadata(path).unwrap();
        assert_eq!(found.is_dir(), is_dir, "{path}");
        assert_eq!(found.gid(), GROUP, "{path}");
        assert_eq!(found.mode() & 0o2000 != 0, is_dir, "{path}: {:o}", found.mode());
    }
    // Elsewhere nothing does.
    let other = desk.root.symlink_metadata("/t/f").unwrap();
    assert_ne!(other.gid(), GROUP);
}
