//! Kernels that embed the library, PVH as they are: they boot, and do with files what the image does. The examples and
//! the template boot, and do what they say.

use super::Test;
use super::lab::{Lab, ends_with, shows};
use crate::host::Result;
use crate::{fail, say};

pub const TESTS: &[Test] = &[
    ("embed-rust", embed_rust),
    ("embed-c", embed_c),
    ("examples", examples),
    ("template", template),
];

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
/// should be; its own xenbus and its own grants go on meanwhile, and its vfs
/// has a driver over nodes.
fn embed_c(lab: &mut Lab<'_>) -> Result<()> {
    if !lab.has_image("embed-c") {
        say!("embed-c: not tried, for the C library is not built here (make capi says why)");
        return Ok(());
    }
    let console = files(lab, "embed-c", "from-c.txt")?;
    shows(&console, "vfs works")?;
    shows(&console, "kept xenbus and grants")
}

fn examples(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write(
        "own.conf",
        b"# a comment\ngreeting = Good morning\n\ntimes=2 # twice\n",
    )?;
    share.write("dir/a.txt", b"a")?;
    let mut run = |image: &str, line: &str| {
        let guest = lab.guest_of(image, line)?.with("share", &share);
        let ended = lab.run(&guest)?;
        ends_with(&ended, 0)?;
        Ok(ended.console)
    };
    shows(
        &run("config", "/own.conf")?,
        "Good morning\r\nGood morning\r\n[xen9p]",
    )?;
    shows(&run("checksums", "")?, "2 files")?;
    run("logger", "")?;
    // The published value for "a"; the other file's first.
    let sums = std::fs::read_to_string(share.path.join("CHECKSUMS")).unwrap_or_default();
    if !sums.ends_with("af63dc4c8601ec8c  /dir/a.txt\n") && !sums.starts_with("af63dc4c8601ec8c") {
        return Err(fail!("the checksums are wrong:\n{sums}"));
    }
    let mut whole = String::new();
    for name in ["app.log.3", "app.log.2", "app.log.1", "app.log"] {
        let text = std::fs::read_to_string(share.path.join("log").join(name)).unwrap_or_default();
        if text.is_empty() || text.len() > 1024 {
            return Err(fail!("{name} has {} bytes", text.len()));
        }
        whole += &text;
    }
    let numbers = whole
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.collect();
    match numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.last() == Some(&149) {
        true => Ok(()),
        false => Err(fail!("lines were lost in rotating")),
    }
}

fn template(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let guest = lab.guest_of("my-app", "")?.with("share", &share);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 1)?;
    shows(
        &ended.console,
        "\"/hello.txt\": No such file or directory (ENOENT)",
    )?;
    share.write("hello.txt", b"hello template\n")?;
    let guest = lab.guest_of("my-app", "")?.with("share", &share);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "The share says: hello template")?;
    share.holds("from-my-app.txt", b"It works.\n")
}
