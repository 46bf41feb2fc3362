//! A hypervisor with Argo, built from Debian's source package of Xen 4.17: no hypervisor of Debian's has it compiled in.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::Image;
use crate::host::{self, Context, Result};
use crate::leave::Doomed;
use crate::release::ARGO;
use crate::{cache, fail, say, scratch};

/// What Xen is told besides; Argo is off otherwise.
const XEN_OPTIONS: &str = "argo=1";

/// What differs from the configuration that Xen's makefiles would choose. Argo is hidden unless what has no security support
/// is shown.
const CONFIG: &str = "CONFIG_DEBUG=n\nCONFIG_UNSUPPORTED=y\nCONFIG_ARGO=y\n";

/// MiB of disk that the source and what is built of it take.
const BUILD_SPACE_MIB: u64 = 300;

/// Programs that building takes: name, Debian's packages, and what for.
pub const TO_BUILD: &[(&str, &str, &str)] = &[
    ("apt-get", "apt", "downloads Xen's source"),
    ("dpkg-source", "dpkg-dev", "unpacks it"),
    ("patch", "patch", "applies Debian's changes"),
    ("xz", "xz-utils", "unpacks it"),
    ("make", "make", "builds Xen"),
    ("gcc", "gcc libc6-dev", "compiles it"),
    ("ld", "binutils", "links it"),
    ("flex", "flex", "reads its configuration"),
    ("bison", "bison", "reads its configuration"),
    ("python3", "python3", "makes its headers"),
];

/// Why there is no hypervisor, as far as this machine and the network are to blame.
type Missing = String;

/// The directory of a hypervisor that needs no building, in this cache or in that of all users.
pub fn cached(cache: &Path) -> Option<PathBuf> {
    let name = prefix();
    let in_cache = |cache: &Path| {
        let entries = fs::read_dir(cache).ok()?;
        let mut found = entries.flatten().filter(|entry| {
            let file_name = entry.file_name();
            file_name.to_string_lossy().starts_with(&name)
        });
        Some(found.next()?.path())
    };
    in_cache(cache).or_else(|| in_cache(Path::new(cache::OF_ALL)))
}

/// What the names of directories begin with whose hypervisor is configured like this; the package's version follows.
fn prefix() -> String {
    let mut hasher = DefaultHasher::new();
    CONFIG.hash(&mut hasher);
    format!("argo-{:016x}-", hasher.finish())
}

/// A hypervisor with Argo. It is not removed from the cache while this lives.
pub struct Hypervisor {
    xen: PathBuf,
    version: String,
    used: File,
}

impl Hypervisor {
    /// Puts it into the place of an image's own.
    pub fn put_into(self, image: &mut Image) {
        image.xen = self.xen;
        image.xen_options = XEN_OPTIONS;
        image.versions += &format!(
            "xen-hypervisor with Argo, from the source package {}\n",
            self.version
        );
        image.used.push(self.used);
    }
}

/// Hands out the cached hypervisor, or builds it. The inner error says what this machine lacks, or why there is no source.
pub fn prepare(cache: &Path) -> Result<std::result::Result<Hypervisor, Missing>> {
    let directory = match cached(cache) {
        Some(directory) => directory,
        None => {
            let building = cache.join("build");
            let _turn = super::take_turn(&building)?;
            // It may just have been built.
            match cached(cache) {
                Some(directory) => directory,
                None => match build(cache, &building)? {
                    Ok(directory) => directory,
                    Err(missing) => return Ok(Err(missing)),
                },
            }
        }
    };
    let used = super::hold(&directory)?;
    let version = directory.join("version");
    let version = fs::read_to_string(&version).during("read", &version)?;
    say!("hypervisor with Argo: Debian's source package, {version}");
    Ok(Ok(Hypervisor {
        xen: directory.join("xen"),
        version,
        used,
    }))
}

/// Programs that are missing, by their packages' names.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<_> = TO_BUILD
        .iter()
        .filter(|(program, ..)| !host::has_program(program))
        .map(|&(_, package, _)| package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn build(cache: &Path, building: &Path) -> Result<std::result::Result<PathBuf, Missing>> {
    let missing = missing_packages();
    if !missing.is_empty() {
        return Ok(Err(format!(
            "building a Xen with Argo takes packages that are not installed; as root, type: apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        )));
    }
    if building.display().to_string().contains(char::is_whitespace) {
        return Ok(Err(format!(
            "Xen's makefiles can't build in {}, which has a blank in it; set XEN_BED_CACHE to another directory",
            building.display()
        )));
    }
    let free = host::free_mib(building)?;
    if free < BUILD_SPACE_MIB {
        return Err(fail!(
            "building a Xen with Argo takes {BUILD_SPACE_MIB} MiB of disk, {} has {free} MiB left",
            building.display()
        ));
    }
    let work = Doomed::new(building.join("argo"));
    // A build that was killed has left it.
    if work.path().exists() {
        fs::remove_dir_all(work.path()).during("remove", work.path())?;
    }
    let image = work.path().join("new");
    fs::create_dir_all(&image).during("create", &image)?;
    let (source, version) = match Source::new(work.path())?.get()? {
        Ok(found) => found,
        Err(missing) => return Ok(Err(missing)),
    };
    compile(&source)?;
    let (built, place) = (source.join("xen/xen"), image.join("xen"));
    fs::copy(&built, &place).during("read", &built)?;
    super::write(&image.join("version"), version.as_bytes())?;
    scratch::lock_file(&image)?;
    let directory = cache.join(format!("{}{version}", prefix()));
    fs::rename(&image, &directory).during("create", &directory)?;
    Ok(Ok(directory))
}

/// Compiles the hypervisor alone, without Xen's tools, at a low priority.
fn compile(source: &Path) -> Result<()> {
    say!("hypervisor with Argo: compiling it, which takes a few minutes");
    let config = source.join("xen/.config");
    super::write(&config, CONFIG.as_bytes())?;
    let make = |target: &[&str]| {
        let mut command = host::tied("nice");
        command
            .args(["-n", "10", "make", "-C"])
            .arg(source.join("xen"))
            .arg("XEN_TARGET_ARCH=x86_64")
            .args(target)
            .env("LC_ALL", "C")
            // It downloads nothing more.
            .envs([("WGET", "/bin/false"), ("GIT", "/bin/false")])
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS");
        host::output_of(&mut command, "compiling Xen").map(drop)
    };
    make(&["olddefconfig"])?;
    let chosen = fs::read_to_string(&config).during("read", &config)?;
    if !chosen.lines().any(|line| line == "CONFIG_ARGO=y") {
        return Err(fail!(
            "this source of Xen can't be configured with Argo: CONFIG_ARGO=y is not in {}",
            config.display()
        ));
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    make(&[&format!("-j{processors}")])
}

/// apt with lists of its own, of source packages alone.
struct Source<'a> {
    work: &'a Path,
}

impl<'a> Source<'a> {
    fn new(work: &'a Path) -> Result<Source<'a>> {
        for name in ["sources", "lists/partial", "archives/partial", "source"] {
            let path = work.join(name);
            fs::create_dir_all(&path).during("create", &path)?;
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .unwrap_or(ARGO.suite);
        let apt = Path::new("/etc/apt");
        let parts = fs::read_dir(apt.join("sources.list.d"));
        let parts = parts.into_iter().flatten().flatten();
        let files = parts
            .map(|entry| entry.path())
            .chain([apt.join("sources.list")]);
        for (number, path) in files.enumerate() {
            let ending = match path.extension().and_then(|ending| ending.to_str()) {
                Some(ending @ ("sources" | "list")) => ending,
                _ => continue,
            };
            // One that this user can't read is of no use to them.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let place = work.join(format!("sources/{number}.{ending}"));
            super::write(&place, of_source(&text, codename).as_bytes())?;
        }
        Ok(Source { work })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = host::tied(program);
        let path = |name: &str| self.work.join(name).display().to_string();
        let options = [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={}", path("sources")),
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::Cache={}", self.work.display()),
            // It is this user's directory, which apt's own user may not be let into.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        for option in options {
            command.args(["-o", &option]);
        }
        command
            .current_dir(self.work.join("source"))
            .env("LC_ALL", "C");
        command
    }

    /// Gets and unpacks the newest source that can be had: the directory, and the version. A mirror may list versions that
    /// it does not have.
    fn get(&self) -> Result<std::result::Result<(PathBuf, String), Missing>> {
        say!("hypervisor with Argo: downloading Xen's source package");
        let update = host::output(self.command("apt-get").arg("update"))?;
        let listed = host::output(self.command("apt-cache").args(["showsrc", "xen"]))?;
        let mut versions = versions(&String::from_utf8_lossy(&listed.stdout));
        versions.sort_by(|a, b| newest_first(a, b));
        let mut reasons = match versions.is_empty() {
            true => vec![format!(
                "apt lists no source package of Xen {} from where this machine's packages come from: {}",
                ARGO.xen,
                reason(&update.stderr)
            )],
            false => Vec::new(),
        };
        for version in versions {
            let mut get = self.command("apt-get");
            let done = host::output(get.args(["source", &format!("xen={version}")]))?;
            if done.status.success() {
                return Ok(Ok((self.unpacked()?, version)));
            }
            reasons.push(format!("{version}: {}", reason(&done.stderr)));
        }
        Ok(Err(format!(
            "there is no source to build a Xen with Argo of: {}",
            reasons.join("; ")
        )))
    }

    fn unpacked(&self) -> Result<PathBuf> {
        let place = self.work.join("source");
        let entries = fs::read_dir(&place).during("list", &place)?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths
            .find(|path| path.join("xen/Makefile").is_file())
            .ok_or_else(|| fail!("the source package brought no hypervisor"))
    }
}

/// The first of apt's complaints.
fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let complaint = text.lines().find(|line| line.starts_with("E:"));
    complaint
        .or(text.lines().find(|line| line.starts_with("W:")))
        .unwrap_or("apt does not say why")
        .to_owned()
}

/// The versions of the release's Xen that apt lists, each once.
fn versions(listed: &str) -> Vec<String> {
    let mut versions: Vec<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("Version: "))
        .filter(|version| version.starts_with(ARGO.xen))
        .map(str::to_owned)
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

fn newest_first(a: &str, b: &str) -> Ordering {
    let is_newer = |a: &str, b: &str| {
        let compare = Command::new("dpkg")
            .args(["--compare-versions", a, "gt", b])
            .status();
        compare.is_ok_and(|status| status.success())
    };
    is_newer(b, a).cmp(&is_newer(a, b))
}

/// What apt is told of where packages come from, with source packages in place of others, and the release's in place of the
/// machine's.
fn of_source(text: &str, codename: &str) -> String {
    let suite = |word: &str| match word.strip_prefix(codename) {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => format!("{}{rest}", ARGO.suite),
        _ => word.to_owned(),
    };
    let mut result = String::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = match words.next() {
            Some("Types:") => {
                result += "Types: deb-src\n";
                continue;
            }
            Some("deb") => "deb-src",
            // Either is in the place of the other.
            Some("deb-src") => continue,
            Some(word) if word.starts_with('#') => continue,
            Some("Suites:") => "Suites:",
            // The empty line between two entries, and all else.
            _ => {
                result += line;
                result.push('\n');
                continue;
            }
        };
        result += first;
        for word in words {
            result.push(' ');
            result += &suite(word);
        }
        result.push('\n');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_packages_come_from_where_the_others_do() {
        let stanza = "# a mirror\nTypes: deb\nURIs: http://m/debian\nSuites: trixie trixie-updates sid\nComponents: main\n\nTypes: deb";
        assert_eq!(
            of_source(stanza, "trixie"),
            "Types: deb-src\nURIs: http://m/debian\nSuites: bookworm bookworm-updates sid\nComponents: main\n\nTypes: deb-src\n"
        );
        let line = "deb [arch=amd64] http://m/debian trixie-security main\ndeb-src http://m/debian trixie main\n";
        assert_eq!(
            of_source(line, "trixie"),
            "deb-src [arch=amd64] http://m/debian bookworm-security main\n"
        );
    }

    #[test]
    fn each_version_is_tried_once_and_the_newest_first() {
        let listed = "Package: xen\nVersion: 4.17.5-1\n\nVersion: 4.17.10-1\nVersion: 4.17.5-1\nVersion: 4.20.1-1\n";
        let mut found = versions(listed);
        found.sort_by(|a, b| newest_first(a, b));
        assert_eq!(found, ["4.17.10-1", "4.17.5-1"]);
    }
}
