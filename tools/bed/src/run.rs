//! `make run`: one guest, its console live on stdout, its status as ours.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::domain::{Domain, Guest, Kind, Verdict};
use crate::host::{Context, Result};
use crate::keyboard::Keyboard;
use crate::tail::Tail;
use crate::xen::{self, Mount, Size};
use crate::{Settings, daemon, dom0, fail, say};

/// How often this terminal's keys are taken to the guest.
const KEYS: Duration = Duration::from_millis(20);

/// Status when the guest panicked. Rust's own programs use it, too.
const PANICKED: u8 = 101;

/// What runs when the user does not say.
const DEMO: &str = "cat /hello.txt; write /from-guest.txt Written by a guest that has no operating system.; ls -l /";

/// What is shared when the user does not say, in the project's directory.
const SAMPLES: &str = "target/share";

/// Machine memory that is not the guest's, in MiB: Xen's, dom0's, and a 9pfs backend per share.
pub const BASE_MEMORY: u32 = 1024;

/// Runs the image and returns the status to end with.
pub fn run(settings: &Settings) -> Result<u8> {
    let share = share(settings)?;
    let shown = settings
        .share
        .as_deref()
        .unwrap_or(Path::new(SAMPLES))
        .display();
    let guest = Guest {
        name: "xen9p".to_owned(),
        kind: settings.kind,
        kernel: "/host/xen9p.elf".to_owned(),
        ramdisk: None,
        memory: settings.memory,
        vcpus: 1,
        command_line: settings.app.clone().unwrap_or_else(|| DEMO.to_owned()),
        shares: vec![("share".to_owned(), "/share".to_owned())],
        backend: settings.backend(),
    };
    guest.config()?;
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    if settings.verbose {
        eprintln!("--- packages of dom0:\n{}", image.versions.trim_end());
    }
    let mounts = [Mount {
        tag: "share".to_owned(),
        path: share,
    }];
    let mut bed = xen::start(
        &image,
        &settings.cache(),
        Size::of_machine(BASE_MEMORY + guest.memory),
        &mounts,
    )?;
    bed.bring(&settings.image, "xen9p.elf")?;
    if guest.backend.is_xen9pd() {
        daemon::start(&mut bed, settings)?;
    }
    say!(
        "xl create: {} guest, {} MiB, share {shown}",
        guest.kind.name(),
        guest.memory,
    );
    let mut domain = Domain::create(&mut bed, &guest)?;
    let mut noise = Tail::new(bed.dom0_log());
    let keyboard = Keyboard::for_app(&guest.command_line);
    let mut show = |domain: &mut Domain| {
        if settings.verbose {
            noise.copy_new(&mut io::stderr())?;
        }
        domain.show_console(&mut io::stdout())
    };
    let ended = loop {
        let deadline = keyboard.as_ref().map(|_| Instant::now() + KEYS);
        if let Some(ended) = domain.wait(&mut bed, deadline, &mut show)? {
            break ended;
        }
        // What is typed before there is a console waits.
        if let Some(keyboard) = keyboard.as_ref().filter(|_| !domain.console().is_empty()) {
            match keyboard.typed() {
                (_, true) => return Err(fail!("given up by Ctrl-]")),
                (keys, false) if keys.is_empty() => {}
                // A guest that has just ended takes no keys.
                (keys, false) => drop(domain.types(&mut bed, &keys)),
            }
        }
    };
    drop(keyboard);
    if settings.verbose {
        eprintln!("--- xl:\n{}", ended.xl.trim_end());
    }
    match (Verdict::from_console(&ended.console), ended.reason) {
        (Verdict::Exit(status), _) => {
            say!("guest ended with status {status}; its files are in {shown}");
            Ok(u8::try_from(status).unwrap_or(u8::MAX))
        }
        (Verdict::Panic(text), _) => {
            say!("guest panicked: {text}");
            Ok(PANICKED)
        }
        (Verdict::Missing, None) => Err(fail!(
            "xl could not run the guest:\n{}",
            ended.xl.trim_end()
        )),
        (Verdict::Missing, Some(reason)) => Err(fail!(
            "the guest ended without a verdict ({reason:?})\n--- end of the console of Xen and dom0:\n{}",
            bed.dom0_console(20)
        )),
    }
}

/// For a look around: runs shell scripts in dom0 that find the image as /host/xen9p.elf, and prints what they print.
pub fn in_dom0(settings: &Settings, scripts: impl Iterator<Item = String>) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut bed = xen::start(
        &image,
        &settings.cache(),
        Size::of_machine(2 * BASE_MEMORY),
        &[],
    )?;
    bed.bring(&settings.image, "xen9p.elf")?;
    if settings.backend().is_xen9pd() {
        daemon::start(&mut bed, settings)?;
    }
    let mut status = 0;
    for script in scripts {
        let done = bed.run(&script, Duration::from_secs(600))?;
        print!("{}", done.output);
        status = done.status;
    }
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// The directory to share: the user's, or one with samples.
fn share(settings: &Settings) -> Result<PathBuf> {
    if let Some(share) = &settings.share {
        return match fs::canonicalize(share) {
            Ok(path) if path.is_dir() => Ok(path),
            Ok(_) => Err(fail!("SHARE={} is not a directory", share.display())),
            Err(error) => Err(fail!("SHARE={}: {error}", share.display())),
        };
    }
    let path = settings.root.join(SAMPLES);
    sample(&path, "hello.txt", "Hello from the host.\n")?;
    sample(&path, "docs/nested.txt", "A file in a directory.\n")?;
    Ok(path)
}

/// Makes a sample file unless there is one.
fn sample(share: &Path, name: &str, text: &str) -> Result<()> {
    let path = share.join(name);
    let parent = path.parent().unwrap_or(share);
    fs::create_dir_all(parent).during("create", parent)?;
    match fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).during("write", &path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).during("create", &path),
    }
}

/// Reads TYPE.
pub fn kind(value: &str) -> Result<Kind> {
    match value {
        "" | "pvh" => Ok(Kind::Pvh),
        "pv" => Ok(Kind::Pv),
        other => Err(fail!("TYPE={other}: it is pvh or pv")),
    }
}
