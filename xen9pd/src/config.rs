//! The configuration file, `/etc/xen9pd.toml`.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::host::{Directory, Limits, Options, Owners, Xattrs};

/// Where the file is unless the command line says otherwise.
pub const PATH: &str = "/etc/xen9pd.toml";

/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// What an administrator has decided.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Which devices of guests are served.
    pub claim: Claim,
    /// The shares, in the order of the file.
    pub shares: Vec<Share>,
    defaults: Options,
}

/// Which devices of guests are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// All whose `path` is a directory; a path that is no share's has the options under `[defaults]`.
    #[default]
    All,
    /// Those whose `path` is a share's, or below one.
    Listed,
    /// None: only sockets are served.
    None,
}

/// A directory, and how it is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// What clients on a socket attach to.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// How it is shared.
    pub options: Options,
}

/// Something that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1 on; 0: the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    claim: Claim,
    #[serde(default)]
    defaults: How,
    #[serde(default)]
    share: Vec<Spanned<Entry>>,
}

/// The keys of `[defaults]` and of a `[[share]]`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct How {
    read_only: Option<bool>,
    owners: Option<OwnersText>,
    devices: Option<bool>,
    xattrs: Option<XattrsText>,
    cross_mounts: Option<bool>,
    max_files: Option<u64>,
    /// MiB, as in xl's configuration.
    max_space: Option<u64>,
    max_open_files: Option<u64>,
}

/// A `[[share]]`. The keys of [`How`] once more, since serde can't say which keys are unknown behind `flatten`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    name: Option<Spanned<String>>,
    path: Spanned<PathBuf>,
    read_only: Option<bool>,
    owners: Option<OwnersText>,
    devices: Option<bool>,
    xattrs: Option<XattrsText>,
    cross_mounts: Option<bool>,
    max_files: Option<u64>,
    max_space: Option<u64>,
    max_open_files: Option<u64>,
}

#[derive(Clone, Copy)]
struct OwnersText(Owners);

impl<'de> Deserialize<'de> for OwnersText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_owners(&text)
            .map(OwnersText)
            .map_err(serde::de::Error::custom)
    }
}

/// Reads `none` or `squash=UID:GID`.
///
/// # Errors
/// What is wrong, in words; so for `map=FILE`, which is not implemented.
pub fn parse_owners(text: &str) -> Result<Owners, String> {
    if text == "none" {
        return Ok(Owners::None);
    }
    if text == "map" || text.starts_with("map=") {
        return Err("owners = \"map=…\" is not implemented: use none or squash=UID:GID".into());
    }
    let numbers = text
        .strip_prefix("squash=")
        .and_then(|ids| ids.split_once(':'));
    let numbers = numbers.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match numbers {
        Some((uid, gid)) if uid != u32::MAX && gid != u32::MAX => Ok(Owners::Squash { uid, gid }),
        _ => Err(format!(
            "owners = {text:?} is neither \"none\" nor \"squash=UID:GID\" with two numbers"
        )),
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum XattrsText {
    None,
    User,
    All,
}

impl How {
    /// These options where they are given, else those of `base`.
    fn over(&self, base: Options) -> Options {
        Options {
            read_only: self.read_only.unwrap_or(base.read_only),
            owners: self.owners.map_or(base.owners, |owners| owners.0),
            devices: self.devices.unwrap_or(base.devices),
            xattrs: match self.xattrs {
                None => base.xattrs,
                Some(XattrsText::None) => Xattrs::None,
                Some(XattrsText::User) => Xattrs::User,
                Some(XattrsText::All) => Xattrs::All,
            },
            cross_mounts: self.cross_mounts.unwrap_or(base.cross_mounts),
            limits: Limits {
                max_files: self.max_files.or(base.limits.max_files),
                max_space: match self.max_space {
                    Some(mebibytes) => Some(mebibytes.saturating_mul(1 << 20)),
                    None => base.limits.max_space,
                },
                max_open_files: self.max_open_files.or(base.limits.max_open_files),
            },
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
        let whole = |text: String| vec![Problem { line: 0, text }];
        let size = fs::metadata(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
        if size.len() > MAX_FILE {
            return Err(whole(
                "is larger than a megabyte: this is no configuration".into(),
            ));
        }
        let text =
            fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
        Config::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it; of mistakes in the form, the first.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let line = |span: Range<usize>| {
            let before = text.get(..span.start).unwrap_or(text);
            1 + before.bytes().filter(|&byte| byte == b'\n').count()
        };
        let file: File = toml::from_str(text).map_err(|error| {
            vec![Problem {
                line: error.span().map_or(0, line),
                text: error.message().to_owned(),
            }]
        })?;
        let mut problems = Vec::new();
        let defaults = file.defaults.over(Options::default());
        let mut shares: Vec<Share> = Vec::new();
        for entry in file.share {
            let entry = entry.into_inner();
            let at = line(entry.path.span());
            let name_at = entry.name.as_ref().map_or(at, |name| line(name.span()));
            let share = share_of(entry, defaults);
            let mut report = |line, text| problems.push(Problem { line, text });
            if let Err(text) = check_path(&share.path) {
                report(at, text);
            }
            if share.name.is_empty() || share.name.contains('/') {
                let text = format!(
                    "name = {:?}: a name has at least one character, and no \"/\"",
                    share.name
                );
                report(name_at, text);
            }
            if shares.iter().any(|other| other.name == share.name) {
                report(
                    name_at,
                    format!(
                        "there are two shares with the name {:?}: give one of them another with name =",
                        share.name
                    ),
                );
            }
            if shares.iter().any(|other| other.path == share.path) {
                report(at, format!("{} is shared twice", share.path.display()));
            }
            shares.push(share);
        }
        if problems.is_empty() {
            Ok(Config {
                claim: file.claim,
                shares,
                defaults,
            })
        } else {
            Err(problems)
        }
    }

    /// Opens the directory `path`, which a toolstack has asked for, and says how it is shared. Which share it is in goes by
    /// where the directory that was opened really is: no symbolic link leads from a share elsewhere, and none that changes
    /// later matters.
    ///
    /// # Errors
    /// It can't be opened, or is not shared: the text says which.
    pub fn open(&self, path: &Path) -> Result<(Directory, Options), String> {
        let error = |text: &dyn fmt::Display| format!("path={}: {text}", path.display());
        check_path(path).map_err(|text| error(&text))?;
        let directory = Directory::open(path).map_err(|problem| error(&problem))?;
        let options = self.options_of(&directory);
        match options {
            Some(options) => Ok((directory, options)),
            None => Err(error(&"the configuration does not share it")),
        }
    }

    fn options_of(&self, directory: &Directory) -> Option<Options> {
        if self.claim == Claim::None {
            return None;
        }
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.shares
            .iter()
            .map(|share| (real(&share.path), share))
            .filter(|(root, _)| directory.path().starts_with(root))
            .max_by_key(|(root, _)| root.components().count())
            .map(|(_, share)| share.options)
            .or_else(|| (self.claim == Claim::All).then_some(self.defaults))
    }

    /// What is wrong with this machine for these shares: directories that are not there.
    pub fn missing(&self) -> Vec<String> {
        let problem = |share: &Share| {
            let path = share.path.display();
            match fs::metadata(&share.path) {
                Ok(meta) if meta.is_dir() => None,
                Ok(_) => Some(format!("share {:?}: {path} is not a directory", share.name)),
                Err(error) => Some(format!("share {:?}: {path}: {error}", share.name)),
            }
        };
        self.shares.iter().filter_map(problem).collect()
    }
}

fn share_of(entry: Entry, defaults: Options) -> Share {
    let path = entry.path.into_inner();
    let last = path.file_name().unwrap_or_default();
    let name = match entry.name {
        Some(name) => name.into_inner(),
        None => last.to_string_lossy().into_owned(),
    };
    let how = How {
        read_only: entry.read_only,
        owners: entry.owners,
        devices: entry.devices,
        xattrs: entry.xattrs,
        cross_mounts: entry.cross_mounts,
        max_files: entry.max_files,
        max_space: entry.max_space,
        max_open_files: entry.max_open_files,
    };
    Share {
        name,
        options: how.over(defaults),
        path,
    }
}

fn check_path(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err(format!("path = {path:?} has to begin with \"/\""));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("path = {path:?} must not contain \"..\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
                "line 3: owners = \"root\" is neither",
            ),
            (
                "[[share]]\npath = \"/a\"\nowners = \"map=/x\"",
                "line 3: owners = \"map=…\" is not implemented",
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
}
