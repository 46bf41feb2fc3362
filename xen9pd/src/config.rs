//! The configuration file, `/etc/xen9pd.toml`.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::host::{Directory, IdMap, Limits, Options, Owners, Xattrs};

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

/// Reads `none`, `squash=UID:GID` or `map=FILE`, and that file.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_owners(text: &str) -> Result<Owners, String> {
    if text == "none" {
        return Ok(Owners::None);
    }
    if let Some(file) = text.strip_prefix("map=") {
        return match Path::new(file) {
            file if file.is_absolute() => IdMap::load(file).map(Owners::Map),
            _ => Err(format!(
                "owners = {text:?}: the file has to begin with \"/\""
            )),
        };
    }
    let numbers = text
        .strip_prefix("squash=")
        .and_then(|ids| ids.split_once(':'));
    let numbers = numbers.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match numbers {
        Some((uid, gid)) if uid != u32::MAX && gid != u32::MAX => Ok(Owners::Squash { uid, gid }),
        _ => Err(format!(
            "owners = {text:?} is none of \"none\", \"squash=UID:GID\" with two numbers, and \"map=FILE\""
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
mod tests;
