//! Kernels that embed the library: they boot, and do with files what the image does. The examples and the template boot, and
//! do what they say.

use super::Test;
use super::lab::{Lab, ends_with, shows};
use super::recovery::{kill_backend, revive};
use crate::domain::Kind;
use crate::host::Result;
use crate::{fail, say};

pub const TESTS: &[Test] = &[
    ("embed-rust", embed_rust),
    ("embed-rust-backend-killed", embed_rust_backend_killed),
    ("embed-rust-save-restore", embed_rust_save_restore),
    ("embed-c", embed_c),
    ("embed-c-backend-killed", embed_c_backend_killed),
    ("embed-c-save-restore", embed_c_save_restore),
    ("examples", examples),
    ("template", template),
];

/// Those of kernels that are PV as well, where they can't be saved.
pub const PV_TESTS: &[Test] = &[
    ("embed-rust", embed_rust),
    ("embed-rust-backend-killed", embed_rust_backend_killed),
    ("embed-c", embed_c),
    ("embed-c-backend-killed", embed_c_backend_killed),
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

/// Its platform passes the conformance test before anything else, and PVH its events come as interrupts.
fn embed_rust(lab: &mut Lab<'_>) -> Result<()> {
    let console = files(lab, "embed-rust", "from-rust.txt")?;
    if lab.kind == Kind::Pv {
        return shows(&console, "0 interrupts");
    }
    let count = console
        .lines()
        .find_map(|line| line.split_once(" interrupts"));
    match count.and_then(|(count, _)| count.trim().parse::<u32>().ok()) {
        Some(count) if count > 10 => Ok(()),
        _ => Err(fail!("there were no interrupts to speak of: {count:?}")),
    }
}

/// The image for domains of this kind, if it could be built.
fn image_in_c(lab: &Lab<'_>) -> Option<&'static str> {
    let image = match lab.kind {
        Kind::Pv => "embed-c-pv",
        _ => "embed-c",
    };
    let has = lab.has_image(image);
    if !has {
        say!("{image}: not tried, for the C library is not built here (make capi says why)");
    }
    has.then_some(image)
}

/// It also calls with null pointers, closed handles and in the wrong order, and says so if that is not refused as it
/// should be. A timer takes the processor from its threads, of which two use files of one mount; its own xenbus and its
/// own grants go on meanwhile, and its vfs has a driver over nodes.
fn embed_c(lab: &mut Lab<'_>) -> Result<()> {
    let Some(image) = image_in_c(lab) else {
        return Ok(());
    };
    let console = files(lab, image, "from-c.txt")?;
    shows(&console, "vfs works")?;
    shows(&console, "preemptions ")?;
    shows(&console, "kept xenbus and grants")
}

/// That its backend has died is told by an error, and the kernel goes on.
fn backend_killed(lab: &mut Lab<'_>, image: &str) -> Result<String> {
    let share = lab.directory()?;
    share.write("hello.txt", b"Hello, other kernel.\n")?;
    let guest = lab.guest_of(image, "lose")?.with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "waits for its backend to die")?;
    kill_backend(lab, &guest)?;
    let ended = lab.end_of(&mut domain)?;
    revive(lab)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "lost: ")?;
    shows(&ended.console, "its event channel is gone")?;
    Ok(ended.console)
}

fn embed_rust_backend_killed(lab: &mut Lab<'_>) -> Result<()> {
    backend_killed(lab, "embed-rust").map(drop)
}

/// Everything is given back, too.
fn embed_c_backend_killed(lab: &mut Lab<'_>) -> Result<()> {
    let Some(image) = image_in_c(lab) else {
        return Ok(());
    };
    let console = backend_killed(lab, image)?;
    shows(&console, "kept xenbus and grants")
}

/// It goes on with an open file after it was saved and restored: the mount has recovery, and its drivers begin anew.
fn save_restore(lab: &mut Lab<'_>, image: &str) -> Result<String> {
    let share = lab.directory()?;
    let mut guest = lab.guest_of(image, "save")?.with("share", &share);
    // What xl 4.17 can restore.
    guest.memory = 64;
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "waits to be saved")?;
    domain.save(lab.bed()?, "")?;
    domain.restore(lab.bed()?, None)?;
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "goes on")?;
    share.holds("kept.txt", b"before after")?;
    Ok(ended.console)
}

fn embed_rust_save_restore(lab: &mut Lab<'_>) -> Result<()> {
    shows(&save_restore(lab, "embed-rust")?, "goes on, Resumed")
}

fn embed_c_save_restore(lab: &mut Lab<'_>) -> Result<()> {
    let Some(image) = image_in_c(lab) else {
        return Ok(());
    };
    shows(&save_restore(lab, image)?, "kept xenbus and grants")
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
