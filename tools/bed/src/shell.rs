//! `xen-bed dom0`: a shell or a script in dom0. `xen-bed pair`: the same with a second machine beside it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;

use crate::dom0::Image;
use crate::host::{Context, Result};
use crate::keyboard::Keyboard;
use crate::run::{self, BASE_MEMORY, Dom0};
use crate::share::Share;
use crate::tail::Tail;
use crate::xen::{self, Bed, Job, Mount, Size};
use crate::{cache, daemon, dom0, fail, say};

/// The work in dom0.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A shell script, `-` for stdin; without one there is a shell on this terminal
    #[arg(conflicts_with = "command")]
    pub script: Option<PathBuf>,
    /// The script itself
    #[arg(short, long, value_name = "TEXT")]
    pub command: Option<String>,
    /// A directory that dom0 has as /mnt/TAG (or /mnt/share)
    #[arg(long = "share", value_name = "DIR[:TAG[:ro]]", value_parser = Share::parse)]
    pub shares: Vec<Share>,
    /// Memory for guests in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=65536))]
    pub memory: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub dom0: Dom0,
}

/// Gives a shell the console that goes to the host.
const SHELL: &str = r#"
# Xen's console is the first; the kernel gave this one the next number.
tty=/dev/hvc1
export HOME=/ PS1='dom0# ' TERM=$term
exec setsid sh -c "exec sh -i <$tty >$tty 2>&1"
"#;

/// How often news are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Boots dom0, runs the script or shell there, and returns its status.
pub fn run(options: &Options) -> Result<u8> {
    work(options, |image, parent, size, mounts| {
        Ok((xen::start(image, parent, size, mounts)?, None))
    })
}

/// Boots two machines, runs the script or shell in the dom0 of the first, and returns its status.
pub fn run_pair(options: &Options) -> Result<u8> {
    work(options, |image, parent, size, mounts| {
        let (first, second) = xen::start_pair(image, parent, size, mounts)?;
        Ok((first, Some(second)))
    })
}

/// The dom0 to work in, and another beside it.
type Beds = (Bed, Option<Bed>);

fn work(
    options: &Options,
    start: impl FnOnce(&Image, &Path, Size, &[Mount]) -> Result<Beds>,
) -> Result<u8> {
    let script = match (&options.script, &options.command) {
        (None, Some(text)) => Some(text.clone()),
        (Some(path), _) if path.as_os_str() == "-" => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.during("read", path)?;
            Some(text)
        }
        (Some(path), _) => Some(std::fs::read_to_string(path).during("read", path)?),
        (None, None) => None,
    };
    let release = options.dom0.xen;
    let daemon = match options.dom0.backend.as_str() {
        "" => None,
        name if release.backends_named(name)?[0].is_xen9pd() => {
            Some(run::find_xen9pd(options.dom0.xen9pd.as_deref())?)
        }
        _ => None,
    };
    let (mounts, shares) = Share::mounts(&options.shares)?;
    let parent = cache::directory()?;
    let image = dom0::prepare(&parent, release)?;
    let size = Size::of_machine(BASE_MEMORY + options.memory);
    let (mut bed, mut other) = start(&image, &parent, size, &mounts)?;
    let mut links = String::from("mkdir -p /mnt\n");
    for (tag, path) in &shares {
        links += &format!("ln -s {path} /mnt/{tag}\n");
    }
    for bed in std::iter::once(&mut bed).chain(&mut other) {
        if let Some(program) = &daemon {
            daemon::start(bed, program)?;
        }
        bed.run(&links, Duration::from_secs(60))?;
    }
    let status = match script {
        Some(script) => {
            let job = bed.start_job(&script)?;
            follow(&mut bed, &job)?
        }
        None => talk(&mut bed)?,
    };
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Shows what a script prints until its end.
fn follow(bed: &mut Bed, job: &Job) -> Result<i32> {
    let mut output = Tail::new(bed.output_path(job));
    loop {
        let done = bed.wait(job, POLL_INTERVAL)?;
        output.copy_new(&mut io::stdout())?;
        if let Some(done) = done {
            return Ok(done.status);
        }
    }
}

/// Joins this terminal and a shell until that ends.
fn talk(bed: &mut Bed) -> Result<i32> {
    let [mut keys, mut screen] = bed.shell()?;
    say!("a shell in dom0; exit or Ctrl-] ends it, with all that it has started");
    let (sender, shown) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            if sender.send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let term = std::env::var("TERM").unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let term = if term.chars().all(is_plain) {
        term
    } else {
        String::new()
    };
    let keyboard = Keyboard::take();
    let job = bed.start_job(&format!("term={term}\n{SHELL}"))?;
    let status = loop {
        let done = bed.wait(&job, POLL_INTERVAL)?;
        let fresh: Vec<u8> = shown.try_iter().flatten().collect();
        io::stdout()
            .write_all(&fresh)
            .and_then(|()| io::stdout().flush())
            .map_err(|error| fail!("cannot show the shell's output: {error}"))?;
        if let Some(done) = done {
            break done;
        }
        let (typed, give_up) = keyboard.typed();
        if give_up {
            return Ok(0);
        }
        keys.write_all(&typed)
            .map_err(|error| fail!("cannot type to dom0: {error}"))?;
    };
    drop(keyboard);
    if !status.output.is_empty() {
        eprint!("{}", status.output);
    }
    Ok(status.status)
}
