//! A guest with a cache: what it knows it does not ask for again, and what others changed it sees when it opens it.

use super::Test;
use super::lab::{Lab, content, ends_with, shows};
use super::recovery::replace_backend;
use crate::domain::Domain;
use crate::fail;
use crate::host::Result;

/// The image under test with the feature `cache`.
const IMAGE: &str = "xen9p-cache";

pub const TESTS: &[Test] = &[("cached", cached)];

const SIZE: usize = 1 << 20;

/// Bytes that came from the server, each time that the guest has told.
fn bytes_in(lab: &mut Lab<'_>, domain: &mut Domain, times: usize) -> Result<Vec<usize>> {
    // What stands behind them has been told then, too.
    lab.console_repeats(domain, "bytes copied out", times)?;
    let console = domain.console();
    let lines = console.lines();
    let told = lines.filter_map(|line| line.trim().strip_prefix("bytes in "));
    let told: Vec<usize> = told.filter_map(|count| count.trim().parse().ok()).collect();
    match told.len() == times {
        true => Ok(told),
        false => Err(fail!(
            "the guest has told {told:?}, and not {times} numbers"
        )),
    }
}

/// Whether the file came from the server between the last two of these.
fn came_again(bytes: &[usize]) -> Result<bool> {
    match bytes {
        [.., before, after] => Ok(after - before >= SIZE),
        _ => Err(fail!("{bytes:?} are no two numbers")),
    }
}

fn cached(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("f", &content(SIZE))?;
    share.write("d/first", b"one\n")?;
    let line = "recovery=reattach cache=open:8 shell";
    let guest = lab.guest_of(IMAGE, line)?.with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "/ $ ")?;
    // Twice: what is read at once after it was first seen may have changed without a trace. The time in between is what
    // tells that it did not.
    let warm =
        b"ls /d; cat /d/first; sha256 /f; sleep 1; ls /d; sha256 /f; stats; sha256 /f; stats\r";
    domain.types(lab.bed()?, warm)?;
    if came_again(&bytes_in(lab, &mut domain, 2)?)? {
        return Err(fail!("an unchanged file was read from the server again"));
    }
    // The same length, so that the size does not tell.
    let other: Vec<u8> = content(SIZE).into_iter().map(|byte| !byte).collect();
    share.write("f", &other)?;
    share.write("d/first", b"two\n")?;
    share.write("d/second", b"")?;
    domain.types(lab.bed()?, b"sha256 /f; cat /d/first; ls /d; stats\r")?;
    if !came_again(&bytes_in(lab, &mut domain, 3)?)? {
        return Err(fail!("a file that dom0 changed was not read anew"));
    }
    shows(&domain.console(), "\r\ntwo\r\n")?;
    shows(&domain.console(), "second\r\n")?;
    // What was known of the lost server is not known of the next one.
    domain.types(lab.bed()?, b"sleep 1; sha256 /f; sha256 /f; stats\r")?;
    bytes_in(lab, &mut domain, 4)?;
    replace_backend(lab, &guest)?;
    domain.types(lab.bed()?, b"cat /d/first; sha256 /f; stats; exit 0\r")?;
    if !came_again(&bytes_in(lab, &mut domain, 5)?)? {
        return Err(fail!("the loss of the backend left the cache as it was"));
    }
    let ended = lab.end_of(&mut domain)?;
    shows(&ended.console, "goes on after")?;
    ends_with(&ended, 0)
}
