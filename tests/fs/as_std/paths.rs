//! Paths are taken apart and put together as `std` does it.

use std::path::Path as StdPath;

use proptest::prelude::*;
use xen9p::std::path::{Path, PathBuf};

fn same(ours: Option<&Path>, theirs: Option<&std::ffi::OsStr>) {
    let ours = ours.map(Path::as_bytes);
    assert_eq!(ours, theirs.map(std::ffi::OsStr::as_encoded_bytes));
}

fn check(text: &str, other: &str) {
    let (ours, theirs) = (Path::new(text), StdPath::new(text));
    same(ours.file_name(), theirs.file_name());
    same(ours.file_stem(), theirs.file_stem());
    same(ours.extension(), theirs.extension());
    same(ours.parent(), theirs.parent().map(StdPath::as_os_str));
    let texts = [
        (ours.join(other), theirs.join(other)),
        (ours.with_file_name(other), theirs.with_file_name(other)),
    ];
    for (ours, theirs) in texts {
        assert_eq!(ours.to_str(), theirs.to_str(), "{text} {other}");
    }
    // What std makes of "..a" without the "a" is "..", which has no name: there it stops half way.
    if !other.contains('/')
        && !ours
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b".."))
    {
        let (ours, theirs) = (ours.with_extension(other), theirs.with_extension(other));
        assert_eq!(ours.to_str(), theirs.to_str(), "{text} {other}");
    }
    assert_eq!(ours.is_absolute(), theirs.is_absolute());
    let (mut ours, mut theirs) = (ours.to_path_buf(), theirs.to_path_buf());
    assert_eq!(ours.pop(), theirs.pop());
    assert_eq!(ours.to_str(), theirs.to_str());
}

#[test]
fn odd_paths() {
    for text in [
        "", "/", "//", ".", "..", "/.", "/..", "a", "/a", "a/", "/a/", "a/.", "./a", "a/..",
        "a//b", "a/./b", ".a", "a.", "a.b", ".a.b", "..b", "/a.b/", "a.b/.", "...", "a/./.",
        "././a",
    ] {
        for other in ["", "x", "/x", "x.y"] {
            check(text, other);
        }
    }
}

proptest! {
    #[test]
    fn any_path(text in "[a./]{0,12}", other in "[a./]{0,6}") {
        check(&text, &other);
    }

    #[test]
    fn prefixes(text in "[ab./]{0,8}", base in "[ab./]{0,4}") {
        // What std thinks of a "." in front is left out.
        prop_assume!(!text.starts_with('.') && !base.starts_with('.'));
        prop_assert_eq!(Path::new(&text).starts_with(&base), StdPath::new(&text).starts_with(&base));
    }
}

#[test]
fn paths_need_not_be_text() {
    let path = PathBuf::from(b"/data/\xff.\xfe".to_vec());
    assert_eq!(path.extension(), Some(Path::new(b"\xfe")));
    assert_eq!(path.to_str(), None);
    assert_eq!(path.display().to_string(), "/data/\u{fffd}.\u{fffd}");
    assert_eq!(format!("{path:?}"), r#""/data/\xff.\xfe""#);
    assert_eq!(format!("{:>8}|", Path::new("/a").display()), "      /a|");
    assert_eq!(path.clone().into_string(), Err(path));
}
