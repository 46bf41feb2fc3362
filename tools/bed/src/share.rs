//! Directories for guests, as they are named on the command line: `DIR[:TAG[:ro]]`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fail;
use crate::host::Result;
use crate::xen::Mount;

/// A directory that a guest gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The directory, as the user named it.
    pub shown: PathBuf,
    /// What the guest knows it by.
    pub tag: String,
    /// Whether the guest can't write there.
    pub read_only: bool,
}

/// A guest's 9pfs devices: tag, and directory in dom0.
pub type Devices = Vec<(String, String)>;

/// The tag of a share that was given none.
const TAG: &str = "share";

impl Share {
    /// Reads `DIR[:TAG[:ro]]`. Colons that are part of the directory's name are taken for that if there is such a one.
    pub fn parse(text: &str) -> Result<Share> {
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) if !Path::new(text).is_dir() => (rest, true),
            _ => (text, false),
        };
        let (directory, tag) = match rest.rsplit_once(':') {
            Some((directory, tag)) if !Path::new(rest).is_dir() => (directory, tag),
            _ => (rest, TAG),
        };
        check_tag(tag)?;
        if directory.is_empty() {
            return Err(fail!("share {text}: it is DIR, DIR:TAG or DIR:TAG:ro"));
        }
        Ok(Share {
            shown: directory.into(),
            tag: tag.to_owned(),
            read_only,
        })
    }

    /// What dom0 is to have for these shares: a mount each, with the guest's tag and the directory's path in dom0.
    pub fn mounts(shares: &[Share]) -> Result<(Vec<Mount>, Devices)> {
        let (mut mounts, mut devices) = (Vec::new(), Vec::new());
        for (index, share) in shares.iter().enumerate() {
            if devices.iter().any(|(tag, _)| *tag == share.tag) {
                let tag = &share.tag;
                return Err(fail!(
                    "two shares have the tag {tag}: name another, as in DIR:TAG"
                ));
            }
            let path = match fs::canonicalize(&share.shown) {
                Ok(path) if path.is_dir() => path,
                Ok(_) => return Err(fail!("share {}: not a directory", share.shown.display())),
                Err(error) => return Err(fail!("share {}: {error}", share.shown.display())),
            };
            let tag = format!("share{index}");
            devices.push((share.tag.clone(), format!("/{tag}")));
            mounts.push(Mount {
                tag,
                path,
                read_only: share.read_only,
            });
        }
        Ok((mounts, devices))
    }
}

/// Fails unless QEMU, which makes an identifier of it, and xl take this for a tag.
pub fn check_tag(tag: &str) -> Result<()> {
    let is_tag = tag.starts_with(|c: char| c.is_ascii_alphabetic())
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    match is_tag {
        true => Ok(()),
        false => Err(fail!(
            "share tag {tag:?}: it is a letter, then letters, digits, '-', '.' or '_'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(shown: &str, tag: &str, read_only: bool) -> Share {
        Share {
            shown: shown.into(),
            tag: tag.into(),
            read_only,
        }
    }

    #[test]
    fn a_tag_and_read_only_may_follow_the_directory() {
        let parse = |text| Share::parse(text).unwrap();
        assert_eq!(parse("some dir"), share("some dir", "share", false));
        assert_eq!(parse("/d:data"), share("/d", "data", false));
        assert_eq!(parse("/d:data:ro"), share("/d", "data", true));
        for bad in ["/d:", "/d:1", "/d:a b", ":data", "/d:a,b"] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_whose_name_has_colons_is_found() {
        let name = format!("xen-bed-{}:x:ro", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        let text = path.to_str().unwrap();
        assert_eq!(Share::parse(text).unwrap(), share(text, "share", false));
        let tagged = Share::parse(&format!("{text}:t:ro")).unwrap();
        assert_eq!(tagged, share(text, "t", true));
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn a_share_that_is_not_there_and_a_tag_used_twice_are_refused() {
        let gone = Share::mounts(&[share("/no/such/dir", "a", false)]);
        assert!(gone.err().unwrap().0.contains("/no/such/dir"));
        let twice = Share::mounts(&[share("/", "a", false), share("/tmp", "a", false)]);
        assert!(twice.err().unwrap().0.contains("tag a"));
    }
}
