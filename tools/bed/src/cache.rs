//! Where images of dom0 are kept: for one user, and for all users of the machine.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::fail;
use crate::host::Result;

/// Where an administrator may put images for all users.
pub const OF_ALL: &str = "/var/cache/xen-bed";

/// The directory for this user: `XEN_BED_CACHE`, or `xen-bed` in `XDG_CACHE_HOME` or in `~/.cache`.
pub fn directory() -> Result<PathBuf> {
    directory_from(|name| env::var_os(name))
        .ok_or_else(|| fail!("there is no place for the cache: set XEN_BED_CACHE, or HOME"))
}

fn directory_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG base directory specification has relative paths ignored.
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XEN_BED_CACHE")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("xen-bed")))
        .or_else(|| Some(absolute("HOME")?.join(".cache/xen-bed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_variable_counts() {
        let find = |set: &[(&str, &str)]| {
            directory_from(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let home = ("HOME", "/home/u");
        assert_eq!(find(&[home]), Some("/home/u/.cache/xen-bed".into()));
        let xdg = ("XDG_CACHE_HOME", "/c");
        assert_eq!(find(&[home, xdg]), Some("/c/xen-bed".into()));
        assert_eq!(
            find(&[home, xdg, ("XEN_BED_CACHE", "/mine")]),
            Some("/mine".into())
        );
        assert_eq!(
            find(&[home, ("XDG_CACHE_HOME", "relative")]),
            Some("/home/u/.cache/xen-bed".into())
        );
        assert_eq!(find(&[]), None);
    }
}
