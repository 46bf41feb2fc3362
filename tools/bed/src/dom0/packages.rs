//! Debian's packages: downloaded and unpacked, with none of their scripts run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::host::{self, Context, Result};
use crate::release::Release;
use crate::{fail, say};

/// Downloads the packages and what they depend on and unpacks them, running none of their scripts. Returns one line
/// per package, "NAME VERSION".
pub fn unpack(release: &Release, work: &Path, root: &Path) -> Result<String> {
    say!(
        "dom0 image: downloading and unpacking Debian packages ({})",
        release.suite
    );
    let names = work.join("packages");
    if let Err(fail) = download(release, root, &names) {
        if !is_passing(&fail.0) {
            return Err(fail);
        }
        // A mirror that is being updated offers lists of packages that it no longer has, for a while.
        say!("dom0 image: {fail}; trying again with new lists of packages");
        if root.exists() {
            fs::remove_dir_all(root).during("remove", root)?;
        }
        download(release, root, &names)?;
    }
    merge_usr(root)?;
    let names = fs::read_to_string(&names).during("read", &names)?;
    let mut lines = String::new();
    for name in names.lines().filter_map(|name| name.strip_suffix(".deb")) {
        let mut parts = name.splitn(3, '_');
        let (Some(package), Some(version)) = (parts.next(), parts.next()) else {
            continue;
        };
        lines += &format!("{package} {}\n", version.replace("%3a", ":"));
    }
    Ok(lines)
}

/// Whether a failed download may succeed with lists of packages that are fetched anew, as mmdebstrap always does.
fn is_passing(message: &str) -> bool {
    ["404  Not Found", "Hash Sum mismatch", "unexpected size"]
        .iter()
        .any(|sign| message.contains(sign))
}

fn download(release: &Release, root: &Path, names: &Path) -> Result<()> {
    if !host::has_program("mmdebstrap") {
        return Err(fail!(
            "making the image of dom0 takes mmdebstrap, which is missing; xen-bed doctor tells what to type"
        ));
    }
    let mut command = host::tied("mmdebstrap");
    command
        .arg("--variant=extract")
        // Unpacking needs no root; which mode runs without it depends on who asks.
        .arg(if host::is_root() {
            "--mode=root"
        } else {
            "--mode=chrootless"
        })
        .args(apt_options())
        .args(keyring())
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg(format!("--include={}", release.packages.join(",")))
        .arg("--extract-hook=ls \"$1\"/var/cache/apt/archives > \"$XEN_BED_NAMES\"")
        .env("XEN_BED_NAMES", names)
        .arg(release.suite)
        .arg(root);
    let done = host::output(&mut command)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(fail!(
            "cannot get dom0's packages from Debian's mirror (is it reachable?): {}",
            reasons(&String::from_utf8_lossy(&done.stderr))
        )),
    }
}

/// Debian's keys: another distribution's apt does not look for them.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn keyring() -> Option<String> {
    let is_there = Path::new(KEYRING).exists();
    is_there.then(|| format!("--keyring={KEYRING}"))
}

/// What of mmdebstrap's and apt's words tells why they failed.
fn reasons(text: &str) -> String {
    let tells = |line: &&str| {
        [
            "Failed to fetch",
            "404",
            "Could not",
            "Temporary failure",
            "No space",
            "Hash Sum",
            "E: Unable",
        ]
        .iter()
        .any(|sign| line.contains(sign))
    };
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(tells).collect();
    if lines.is_empty() {
        lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("E:"))
            .collect();
    }
    lines.dedup();
    lines.truncate(3);
    lines.join(" | ")
}

/// Makes the links into /usr that newer releases have, and that come with a package which is not needed.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64"] {
        let (path, target) = (root.join(name), Path::new("usr").join(name));
        if !path.exists() {
            std::os::unix::fs::symlink(target, &path).during("create", &path)?;
        }
    }
    Ok(())
}

/// How this machine's apt reaches the network (proxies and such), for mmdebstrap, which starts from nothing.
fn apt_options() -> Vec<String> {
    let dump = Command::new("apt-config").arg("dump").output();
    let dump = dump.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&dump)
        .lines()
        .filter(|line| line.starts_with("Acquire::http") && !line.ends_with(" \"\";"))
        .map(|line| format!("--aptopt={line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_gone_is_looked_for_again_and_no_network_is_not() {
        assert!(is_passing(
            "E: Failed to fetch http://m/a.deb 404  Not Found"
        ));
        assert!(!is_passing("E: Could not resolve 'm'"));
    }
}
