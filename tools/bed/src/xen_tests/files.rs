//! Files: what comes over is what was there.

use std::fs;
use std::path::{Path, PathBuf};

use super::Test;
use super::lab::{Lab, Share, same_trees, shows};
use crate::fail;
use crate::host::{Context, Result};

pub const TESTS: &[Test] = &[
    ("selftest", selftest),
    ("copy-both-ways", copy_both_ways),
    ("names", names),
    ("deep-directories", deep_directories),
    ("two-thousand-entries", two_thousand_entries),
    ("commands", commands),
    ("checksum", checksum),
];

/// Those that are tried as one type alone: what a share holds is the same to both.
pub const ONCE: &[&str] = &["deep-directories", "two-thousand-entries"];

/// On dom0's own memory: hundreds of small operations, which a live directory of this machine makes slow.
fn selftest(lab: &mut Lab<'_>) -> Result<()> {
    let share = Share {
        path: PathBuf::new(),
        // Its own: a run may ask several backends in one dom0.
        in_dom0: format!("/run/selftest-{}-{}", lab.backend.name(), lab.kind.name()),
    };
    lab.dom0(&format!("mkdir {}", share.in_dom0))?;
    lab.succeeds(&share, "selftest; stats")?;
    match lab.dom0(&format!("ls -A {}", share.in_dom0))?.as_str() {
        "" => Ok(()),
        left => Err(fail!("selftest left behind: {}", left.trim_end())),
    }
}

/// Files of all sizes are read from this machine and written back to it.
fn copy_both_ways(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let mut random = Random::new();
    let sizes = [
        0,
        1,
        511,
        4095,
        4096,
        4097,
        65_536,
        300_001,
        1 << 20,
        (1 << 20) + 1,
        16 << 20,
    ];
    for size in sizes {
        share.write(&format!("in/{size}.bin"), &random.bytes(size))?;
    }
    lab.succeeds(&share, "cp -r /in /out")?;
    let files = same_trees(&share.path.join("in"), &share.path.join("out"))?;
    if files == sizes.len() {
        Ok(())
    } else {
        Err(fail!("{files} files of {} were compared", sizes.len()))
    }
}

/// Names with blanks, quotes, several scripts, and of the greatest length.
fn names(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let longest = "n".repeat(255);
    let names = [
        "with two  blanks",
        "größe",
        "日本語",
        "☃🦀",
        "it's \"quoted\"",
        "semi;colon",
        "-dash",
        ".hidden",
        &longest,
    ];
    for name in names {
        share.write(&format!("in/{name}"), name.as_bytes())?;
    }
    let console = lab.succeeds(
        &share,
        "cp -r /in /out; mkdir '/new dir'; write '/new dir/ünï cödé.txt' written; ls /in; cat '/in/with two  blanks'",
    )?;
    same_trees(&share.path.join("in"), &share.path.join("out"))?;
    share.holds("new dir/ünï cödé.txt", b"written\n")?;
    shows(&console, "日本語")?;
    shows(&console, &longest)
}

/// Deeper than the sixteen names that one walk of 9P may take.
fn deep_directories(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let path = |name: &str| {
        (1..=20)
            .map(|level| format!("{name}{level}/"))
            .collect::<String>()
    };
    share.write(
        &format!("{}bottom.txt", path("in")),
        b"twenty levels down\n",
    )?;
    let console = lab.succeeds(
        &share,
        &format!(
            "cat /{0}bottom.txt; mkdir -p /{1}; write /{1}bottom.txt from the guest; cp -r /in1 /copy; ls /{0}",
            path("in"),
            path("out")
        ),
    )?;
    shows(&console, "twenty levels down")?;
    share.holds(&format!("{}bottom.txt", path("out")), b"from the guest\n")?;
    same_trees(&share.path.join("in1"), &share.path.join("copy")).map(drop)
}

fn two_thousand_entries(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let names: Vec<String> = (0..2000)
        .map(|n| format!("entry-{n:04}-{}", "x".repeat(n % 40)))
        .collect();
    for name in &names {
        share.write(&format!("many/{name}"), b"")?;
    }
    let console = lab.succeeds(&share, "ls /many")?;
    let mut listed: Vec<&str> = console
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("entry-"))
        .collect();
    listed.sort_unstable();
    if listed.iter().eq(names.iter()) {
        Ok(())
    } else {
        Err(fail!("ls listed {} names, not the 2000", listed.len()))
    }
}

/// What each command leaves on this machine's disk.
fn commands(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("old/file.txt", b"old\n")?;
    share.write("gone/deep/file.txt", b"to be removed")?;
    share.write("long.bin", &[7; 5000])?;
    let console = lab.succeeds(
        &share,
        "mkdir -p /a/b/c; write /a/b/c/new.txt one line; append /a/b/c/new.txt and another; mv /old/file.txt /a/moved.txt; \
         rm -r /gone; truncate -s 1234 /long.bin; echo words \"on the\" 'console'; stat /long.bin; df; ls -l /a",
    )?;
    share.holds("a/b/c/new.txt", b"one line\nand another\n")?;
    share.holds("a/moved.txt", b"old\n")?;
    share.holds("long.bin", &[7; 1234])?;
    absent(&share, "gone")?;
    absent(&share, "old/file.txt")?;
    shows(&console, "words on the console")?;
    shows(&console, "1234")?;
    shows(&console, "moved.txt")
}

fn absent(share: &Share, name: &str) -> Result<()> {
    if share.path.join(name).exists() {
        Err(fail!("{name} is still there"))
    } else {
        Ok(())
    }
}

/// The guest's checksum is the one this machine's sha256sum finds.
fn checksum(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("data.bin", &Random::new().bytes(3_333_333))?;
    let sum = std::process::Command::new("sha256sum")
        .arg(share.path.join("data.bin"))
        .output();
    let sum = sum.during("run", Path::new("sha256sum"))?.stdout;
    let sum = String::from_utf8_lossy(&sum);
    let sum = sum
        .split_whitespace()
        .next()
        .ok_or_else(|| fail!("sha256sum printed nothing"))?;
    let console = lab.succeeds(&share, "sha256 /data.bin")?;
    shows(&console, sum)
}

/// Bytes that are different in each run (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |time| time.as_nanos() as u64);
        Random(now | 1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// A file of zeros that takes no room on this machine's disk.
pub fn write_sparse(share: &Share, name: &str, len: u64) -> Result<()> {
    let path = share.path.join(name);
    fs::File::create(&path)
        .and_then(|file| file.set_len(len))
        .during("write", &path)
}
