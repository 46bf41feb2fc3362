//! The shares as the engine sees them, and as the command line says them.

use std::convert::Infallible;
use std::path::Path;

use p9_server::{Export, Exports, Login, Policy, Rights};
use p9_wire::{Errno, NO_USER};

use crate::config::{Share, parse_owners};
use crate::host::{HostNode, HostTree, Options, Xattrs};

/// The shares for one connection: an aname is the name of a share, or a way into one, as with [`Exports`].
#[derive(Clone, Debug)]
pub struct Shares(Vec<(Vec<u8>, HostTree, Rights)>);

impl Shares {
    /// These shares, each with its tree.
    pub fn new(shares: &[Share], trees: Vec<HostTree>) -> Shares {
        let named = shares.iter().zip(trees).map(|(share, tree)| {
            let rights = match share.options.read_only {
                true => Rights::ReadOnly,
                false => Rights::ReadWrite,
            };
            (share.name.clone().into_bytes(), tree, rights)
        });
        Shares(named.collect())
    }
}

impl Policy for Shares {
    type Node = HostNode;
    type Authentication = Infallible;

    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        proof: Option<&Infallible>,
    ) -> Result<Export<'m, HostNode>, Errno> {
        let user = (login.n_uname != NO_USER).then_some(login.n_uname);
        let mut exports = Exports::none();
        for (name, tree, rights) in &self.0 {
            let root = tree.root(user).map_err(p9_tree::Error::errno)?;
            exports = exports.with(name, root, *rights);
        }
        exports.attach(login, proof)
    }
}

/// Reads `DIR[:OPTION,...]` as it stands behind `--share`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_share(text: &str) -> Result<Share, String> {
    // There are colons in names of directories, and in options.
    let mut first = None;
    if !Path::new(text).is_dir() {
        for (at, _) in text.match_indices(':').filter(|&(at, _)| at > 0) {
            let (path, options) = text.split_at(at);
            match share_of(path, &options[1..]) {
                Ok(share) => return Ok(share),
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    match first {
        Some(error) => Err(error),
        None => share_of(text, ""),
    }
}

fn share_of(path: &str, options: &str) -> Result<Share, String> {
    let path = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
    let mut share = Share {
        name: name_of(&path),
        path,
        options: Options::default(),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let set = &mut share.options;
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => set.read_only = true,
            ("rw", "") => set.read_only = false,
            ("devices", "") => set.devices = true,
            ("one-file-system", "") => set.cross_mounts = false,
            ("owners", owners) => set.owners = parse_owners(owners)?,
            ("name", name) if !name.is_empty() => share.name = name.to_owned(),
            ("xattrs", "none") => set.xattrs = Xattrs::None,
            ("xattrs", "user") => set.xattrs = Xattrs::User,
            ("xattrs", "all") => set.xattrs = Xattrs::All,
            ("max-files", number) => set.limits.max_files = Some(parse_number(option, number)?),
            ("max-space", number) => {
                let mebibytes = parse_number(option, number)?;
                set.limits.max_space = Some(mebibytes.saturating_mul(1 << 20));
            }
            ("max-open-files", number) => {
                set.limits.max_open_files = Some(parse_number(option, number)?);
            }
            _ => {
                return Err(format!(
                    "{option:?} is no option of a share: there are ro, rw, devices, one-file-system, name=NAME, owners=none, owners=squash=UID:GID, owners=map=FILE, xattrs=none|user|all, max-files=N, max-space=MiB, max-open-files=N"
                ));
            }
        }
    }
    Ok(share)
}

fn parse_number(option: &str, number: &str) -> Result<u64, String> {
    number
        .parse()
        .map_err(|_| format!("{option:?} needs a number"))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Owners;

    #[test]
    fn a_share_is_a_directory_and_its_options() {
        let plain = parse_share("/srv/home").unwrap();
        assert_eq!((&*plain.name, plain.options), ("home", Options::default()));
        let full = parse_share("/srv/home:ro,name=x,owners=squash=1:2,devices,xattrs=none,max-files=3,max-space=1,max-open-files=9,one-file-system").unwrap();
        assert_eq!(full.path, Path::new("/srv/home"));
        assert_eq!(full.name, "x");
        let options = full.options;
        assert!(options.read_only && options.devices && !options.cross_mounts);
        assert_eq!(options.owners, Owners::Squash { uid: 1, gid: 2 });
        assert_eq!(options.xattrs, Xattrs::None);
        assert_eq!(options.limits.max_files, Some(3));
        assert_eq!(options.limits.max_space, Some(1 << 20));
        assert_eq!(options.limits.max_open_files, Some(9));
        assert!(parse_share("relative").unwrap().path.is_absolute());
        let dir = tempfile::tempdir().unwrap();
        let colon = dir.path().join("a:ro");
        std::fs::create_dir(&colon).unwrap();
        let share = parse_share(colon.to_str().unwrap()).unwrap();
        assert_eq!((share.path, share.options.read_only), (colon, false));
        for wrong in [
            "/srv:rx",
            "/srv:owners=map=/x",
            "/srv:max-files=many",
            "/srv:name=",
        ] {
            parse_share(wrong).unwrap_err();
        }
    }
}
