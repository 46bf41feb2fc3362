//! A slash behind a name says that it is a directory's.

use super::Desk;

#[test]
fn a_name_with_a_slash_is_a_directorys() {
    let Some(mut desk) = Desk::with_links() else {
        return;
    };
    desk.ok("mkdir /empty; mount #mem /n; write /n/file keep");
    for (line, errno) in [
        ("cat /file/", "ENOTDIR"),
        ("cat /file/.", "ENOTDIR"),
        ("cat /to-file/", "ENOTDIR"),
        ("cat /n/file/", "ENOTDIR"),
        ("cat /none/", "ENOENT"),
        ("cat /real/", "EISDIR"),
        ("cat /to-dir/", "EISDIR"),
        ("sha256 /file/", "ENOTDIR"),
        ("sha256 /real", "EISDIR"),
        ("ls /file/", "ENOTDIR"),
        ("ls -l /to-file/", "ENOTDIR"),
        ("stat /file/", "ENOTDIR"),
        ("stat /to-none/", "ENOENT"),
        ("df /file/", "ENOTDIR"),
        ("cd /file/", "ENOTDIR"),
        ("stats /file/", "ENOTDIR"),
        ("write /new/ x", "EISDIR"),
        ("write /n/new/ x", "EISDIR"),
        ("write /file/ x", "ENOTDIR"),
        ("write /to-none/ x", "EISDIR"),
        ("write /none/new/ x", "ENOENT"),
        ("append /file/ x", "ENOTDIR"),
        ("append /new/ x", "EISDIR"),
        ("truncate -s 0 /file/", "ENOTDIR"),
        ("truncate -s 0 /new/", "EISDIR"),
        ("truncate -s 0 /n/file/", "ENOTDIR"),
        ("bench /new/ 1", "EISDIR"),
        ("rm /file/", "ENOTDIR"),
        ("rm /n/file/", "ENOTDIR"),
        ("rm -rf /file/", "ENOTDIR"),
        ("rm -r /to-dir/", "ENOTDIR"),
        ("rm -r /to-dir//", "ENOTDIR"),
        ("rm /to-none/", "ENOTDIR"),
        ("mkdir /file/", "EEXIST"),
        ("mkdir /real/", "EEXIST"),
        ("mkdir /to-none/", "EEXIST"),
        ("mkdir /new/.", "ENOENT"),
        ("cp /file/ /new", "ENOTDIR"),
        ("cp /file /new/", "EISDIR"),
        ("cp /file /real/f/", "ENOTDIR"),
        ("mv /file/ /new", "ENOTDIR"),
        ("mv /file /new/", "ENOTDIR"),
        ("mv /to-dir/ /new", "ENOTDIR"),
        ("mv /to-dir/ /n", "ENOTDIR"),
        ("mv /to-dir/ other:/new", "ENOTDIR"),
        ("mv /file/ other:/new", "ENOTDIR"),
        ("mv /file other:/new/", "EISDIR"),
        ("mv /n/file/ /new", "ENOTDIR"),
        ("mv /n/file /new/", "ENOTDIR"),
        ("mv /empty /file/", "ENOTDIR"),
        ("bind /file/ /real/f", "ENOTDIR"),
    ] {
        let text = desk.fails(1, line);
        assert!(text.contains(&format!("({errno})")), "{line}: {text}");
        for path in ["/new", "/n/new", "/nowhere"] {
            desk.is_gone(path);
        }
        assert_eq!(desk.ok("cat /n/file; ls other:/"), "keep\n", "{line}");
        desk.is_link("/to-dir", "real");
        desk.is_link("/to-none", "nowhere");
        desk.is_kept();
    }
    // Directories have it by right.
    desk.ok("mkdir /d/; mkdir -p /d/e/./f/; write /d/x x; cd /d/; ls /d/ /to-dir/; mv /d/ /g/; mv /g/ /n/g/; cp -r /n/g/ /h/");
    assert_eq!(desk.ok("cat /h/x; ls /h/e"), "x\nf\n");
    desk.ok("rm -r /h/ /n/g/; rm -r /empty//; cp /file /real/; mv /file /to-dir/; mv /real/file /");
    desk.is_kept();
}
