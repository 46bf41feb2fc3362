//! Kernels that embed the library: they boot, and do with files what the image does. The examples and the template boot, and
//! do what they say.

use super::Test;
use super::domains::{next_number, only, other_guest};
use super::lab::{Lab, Share, ends_with, shows};
use super::recovery::{kill_backend, revive};
use crate::domain::{Guest, Kind};
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

/// Those with another domain, to which backends are all alike.
pub const DOMAIN_TESTS: &[Test] = &[
    (
        "embed-c-mounts-another-domain",
        embed_c_mounts_another_domain,
    ),
    (
        "embed-c-serves-another-domain",
        embed_c_serves_another_domain,
    ),
];

/// Those that are tried as one type alone: the image that they boot is tried as both.
pub const ONCE: &[&str] = &["examples", "template"];

/// What each such kernel finds on its share, and leaves there.
fn files(lab: &mut Lab<'_>, image: &str, written: &str) -> Result<String> {
    let share = lab.directory()?;
    let guest = lab.guest_of(image, "")?.with("share", &share);
    works(lab, &guest, &share, written)
}

/// That a kernel lists, reads, writes, renames and copies on what is this share in the end.
fn works(lab: &mut Lab<'_>, guest: &Guest, share: &Share, written: &str) -> Result<String> {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 5) as u8).collect();
    share.write("hello.txt", b"Hello, other kernel.\n")?;
    share.write("large.bin", &large)?;
    let ended = lab.run(guest)?;
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
    one_of(lab, ["embed-c", "embed-c-pv"])
}

/// The image of these two, PVH and PV, for domains of this kind, if it could be built.
fn one_of(lab: &Lab<'_>, images: [&'static str; 2]) -> Option<&'static str> {
    let image = images[usize::from(lab.kind == Kind::Pv)];
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

/// It goes on with an open file after it was saved and restored: the mount has recovery, and its drivers begin anew. The one
/// in C has threads meanwhile, of which one is taken off the processor in the middle of its work.
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
    let console = save_restore(lab, image)?;
    shows(&console, "threads go on")?;
    shows(&console, "kept xenbus and grants")
}

/// The same kernels with the object that has vchans.
const WITH_VCHANS: [&str; 2] = ["embed-c-vchan", "embed-c-vchan-pv"];

/// It mounts what a guest of ours exports by a vchan, and has the pages of that mapped in windows.
fn embed_c_mounts_another_domain(lab: &mut Lab<'_>) -> Result<()> {
    let Some(image) = one_of(lab, WITH_VCHANS) else {
        return Ok(());
    };
    let (share, unused) = (lab.directory()?, lab.directory()?);
    let first = next_number(lab)?;
    let line = format!(
        "export=/:vchan!{}!all echo serving; sleep infinity",
        first + 1
    );
    let server = other_guest(lab, &line).with("share", &share);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let client = lab.guest_of(image, &format!("vchan!{first}!all"))?;
    let console = works(lab, &client.with("share", &unused), &share, "from-c.txt")?;
    shows(&console, "kept xenbus and grants")?;
    only(lab, &[&server])?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// It serves a tree in its memory to a guest of ours, until that is gone.
fn embed_c_serves_another_domain(lab: &mut Lab<'_>) -> Result<()> {
    let Some(image) = one_of(lab, WITH_VCHANS) else {
        return Ok(());
    };
    let unused = lab.directory()?;
    let first = next_number(lab)?;
    let server = lab.guest_of(image, &format!("export vchan!{}!data", first + 1))?;
    let server = server.with("share", &unused);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    // Less than the self-test, for which an eighth of the kernel's memory is too little.
    let work = "mkdir /d; write /d/a Written by another domain.; cp /d/a /b; mv /b /written; rm -r /d; ls -l /";
    let client = other_guest(lab, &format!("mount=vchan!{first}!data:/ {work}"));
    ends_with(&lab.run(&client)?, 0)?;
    let ended = lab.end_of(&mut server_domain)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "kept xenbus and grants")?;
    only(lab, &[])
}

fn examples(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write(
        "own.conf",
        b"# a comment\ngreeting = Good morning\n\ntimes=2 # twice\n",
    )?;
    share.write("dir/a.txt", b"a")?;
    let mut run_to = |status: i32, image: &str, line: &str| {
        let guest = lab.guest_of(image, line)?.with("share", &share);
        let ended = lab.run(&guest)?;
        ends_with(&ended, status)?;
        Ok(ended.console)
    };
    shows(
        &run_to(1, "config", "/none.conf")?,
        "config: /none.conf: No such file or directory (ENOENT)",
    )?;
    let mut run = |image: &str, line: &str| run_to(0, image, line);
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
