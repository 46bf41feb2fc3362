//! What is understood of a configuration file, and what is said of one that has mistakes.

use super::*;

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_file_is_understood() {
    let config = Config::parse(
        r#"
        claim = "listed"
        [defaults]
        read-only = true
        max-open-files = 100
        [[share]]
        name = "home"
        path = "/srv/home"
        read-only = false
        owners = "squash=1000:1001"
        xattrs = "none"
        devices = true
        cross-mounts = false
        max-files = 5
        max-space = 3
        [[share]]
        path = "/srv/music"
        "#,
    )
    .unwrap();
    assert_eq!(config.claim, Claim::Listed);
    let [home, music] = &config.shares[..] else {
        panic!()
    };
    assert_eq!((&*home.name, &*music.name), ("home", "music"));
    let expected = Options {
        read_only: false,
        owners: Owners::Squash {
            uid: 1000,
            gid: 1001,
        },
        devices: true,
        xattrs: Xattrs::None,
        cross_mounts: false,
        limits: Limits {
            max_files: Some(5),
            max_space: Some(3 << 20),
            max_open_files: Some(100),
        },
    };
    assert_eq!(home.options, expected);
    assert!(music.options.read_only);
    assert_eq!(music.options.limits.max_open_files, Some(100));
}

#[test]
fn each_mistake_has_its_line() {
    let cases = [
        ("claim = \"some\"", "line 1: unknown variant `some`"),
        ("\n[[share]]\npath = 3", "line 3: invalid type: integer"),
        ("\n[[share]]\nname = \"x\"", "line 2: missing field `path`"),
        (
            "[[share]]\npath = \"/a\"\nreadonly = true",
            "line 3: unknown field `readonly`",
        ),
        ("nonsense", "line 1: "),
        (
            "[[share]]\npath = \"srv\"",
            "line 2: path = \"srv\" has to begin with",
        ),
        (
            "[[share]]\npath = \"/srv/../etc\"",
            "line 2: path = \"/srv/../etc\" must not",
        ),
        (
            "[[share]]\npath = \"/a\"\nname = \"a/b\"",
            "line 3: name = \"a/b\"",
        ),
        ("[[share]]\npath = \"/\"", "line 2: name = \"\""),
        (
            "[[share]]\npath = \"/a\"\nowners = \"root\"",
            "line 3: owners = \"root\" is none of",
        ),
        (
            "[[share]]\npath = \"/a\"\nowners = \"map=/x\"",
            "line 3: /x can't be read: No such file",
        ),
        (
            "[[share]]\npath = \"/a\"\nowners = \"squash=0:4294967295\"",
            "line 3: owners",
        ),
        (
            "[[share]]\npath = \"/a\"\nauto-delete = true",
            "line 3: unknown field `auto-delete`",
        ),
        ("[defaults]\nmax-files = -1", "line 2: "),
    ];
    for (text, expected) in cases {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text:?}: {found:?}");
    }
}

#[test]
fn all_shares_are_checked() {
    let text = "[[share]]\npath = \"/a\"\n[[share]]\npath = \"b\"\n[[share]]\npath = \"/x/a\"\n[[share]]\npath = \"/a\"\nname = \"c\"";
    let found = problems(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("line 4: "));
    assert!(found[1].starts_with("line 6: there are two shares with the name \"a\""));
    assert!(found[2].starts_with("line 8: /a is shared twice"));
}

#[test]
fn a_path_has_the_options_of_the_share_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    for name in ["share", "share/inner", "share2", "share/inner/deep"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(root.join("share2"), root.join("share/link")).unwrap();
    let text = |claim: &str| {
        format!(
            "claim = {claim:?}\n[[share]]\npath = {:?}\nmax-files = 1\n[[share]]\npath = {:?}\nmax-files = 2",
            root.join("share"),
            root.join("share/inner")
        )
    };
    let files = |claim: &str, path: &str| {
        let config = Config::parse(&text(claim)).unwrap();
        let opened = config.open(&root.join(path));
        opened.map(|(_, options)| options.limits.max_files)
    };
    assert_eq!(files("listed", "share"), Ok(Some(1)));
    assert_eq!(files("listed", "share/inner/deep"), Ok(Some(2)));
    let refused = |claim, path, expected: &str| {
        let text = files(claim, path).unwrap_err();
        assert!(text.ends_with(expected), "{path}: {text}");
    };
    // Neither a longer name, nor a link, nor "..".
    for path in ["share2", "share/link", ""] {
        refused("listed", path, "the configuration does not share it");
    }
    refused("listed", "share/../share2", "must not contain \"..\"");
    let missing = "share/not-there";
    refused(
        "listed",
        missing,
        "not-there: the directory can't be opened: No such file or directory (os error 2)",
    );
    fs::write(root.join("share/file"), "").unwrap();
    refused("listed", "share/file", "Not a directory (os error 20)");
    assert_eq!(files("all", "share2"), Ok(None));
    refused("none", "share", "the configuration does not share it");
    let relative = Config::default().open(Path::new("relative"));
    assert!(relative.unwrap_err().contains("has to begin with"));
}

/// The directory that was judged is the one that is served.
#[test]
fn a_link_that_is_changed_after_the_check_changes_nothing() {
    use rustix::fs::{AtFlags, statat};
    use std::os::unix::fs::MetadataExt as _;

    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    for name in ["share", "secret"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let text = format!(
        "claim = \"listed\"\n[[share]]\npath = {:?}",
        root.join("share")
    );
    let config = Config::parse(&text).unwrap();
    let link = root.join("link");
    std::os::unix::fs::symlink(root.join("share"), &link).unwrap();
    let (directory, _) = config.open(&link).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(root.join("secret"), &link).unwrap();
    config.open(&link).unwrap_err();
    let served = statat(&directory, "", AtFlags::EMPTY_PATH).unwrap();
    let share = fs::metadata(root.join("share")).unwrap();
    assert_eq!((served.st_dev, served.st_ino), (share.dev(), share.ino()));
    assert_eq!(directory.path(), root.join("share"));
}
