//! Kernels that embed the library: they boot, and do with files what the image does. PVH only, as they are.

use super::Test;
use super::lab::{Lab, ends_with, shows};
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[("embed-rust", embed_rust), ("embed-c", embed_c)];

/// What each such kernel finds on its share, and leaves there.
fn files(lab: &mut Lab<'_>, image: &str, written: &str) -> Result<String> {
    let share = lab.directory()?;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 5) as u8).collect();
    share.write("hello.txt", b"Hello, other kernel.\n")?;
    share.write("large.bin", &large)?;
    let guest = lab.guest_of(image, "")?.with("share", &share);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "entry hello.txt")?;
    shows(&ended.console, "read Hello, other kernel.")?;
    share.holds("copy.bin", &large)?;
    share.holds(written, b"Written by a kernel of its own.\n")?;
    Ok(ended.console)
}

/// Its platform passes the conformance test before anything else, and its events come as interrupts.
fn embed_rust(lab: &mut Lab<'_>) -> Result<()> {
    let console = files(lab, "embed-rust", "from-rust.txt")?;
    let count = console
        .lines()
        .find_map(|line| line.split_once(" interrupts"));
    match count.and_then(|(count, _)| count.trim().parse::<u32>().ok()) {
        Some(count) if count > 10 => Ok(()),
        _ => Err(fail!("there were no interrupts to speak of: {count:?}")),
    }
}

/// It also calls with null pointers, closed handles and in the wrong order, and says so if that is not refused as it
/// should be.
fn embed_c(lab: &mut Lab<'_>) -> Result<()> {
    files(lab, "embed-c", "from-c.txt").map(drop)
}
