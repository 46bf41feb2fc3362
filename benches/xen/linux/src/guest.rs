//! First process of a Linux guest: loads the modules, mounts the share, does the work, powers off.
//!
//! Kernel command line: `bench=CONTROL:FILES:OUT:SCALE:MODE,MODE...`; for each mode the share is mounted anew, and
//! what it writes goes to OUT/MODE.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::content::{Amounts, PAGE, Seed, fill};
use crate::marks::{Marks, Result, Signals};
use crate::sys;
use crate::workload::{self, Host};

/// In the order in which they have to be loaded.
const MODULES: [&str; 5] = ["netfs", "fscache", "9pnet", "9pnet_xen", "9p"];

/// Where the share is mounted.
const SHARE: &str = "/share";

/// Options of `mount`, beyond those that all have.
fn options(mode: &str) -> Result<&'static str> {
    match mode {
        // The largest message that this transport has; by default nothing is cached.
        "linux_best" => Ok("msize=524288,cache=none"),
        "linux_default" => Ok(""),
        "linux_cached" => Ok("msize=524288,cache=loose"),
        _ => Err(format!("{mode}: no such mode")),
    }
}

/// Does everything, prints the verdict and powers off.
pub fn main() -> ! {
    let status = match run() {
        Ok(()) => 0,
        Err(why) => {
            println!("bench: {why}");
            1
        }
    };
    println!("[xen9p] exit {status}");
    // The console's driver sends what is left when it is closed; dom0 waits for the verdict.
    sys::power_off()
}

fn run() -> Result<()> {
    let at = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    for module in MODULES {
        let file = File::open(format!("/modules/{module}.ko")).map_err(at(module))?;
        sys::load_module(&file).map_err(at(module))?;
    }
    fs::create_dir_all("/proc").map_err(at("/proc"))?;
    sys::mount_at("proc", "/proc", "proc", "").map_err(at("/proc"))?;
    let line = fs::read_to_string("/proc/cmdline").map_err(at("/proc/cmdline"))?;
    let task = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("bench="))
        .ok_or("the command line has no bench=")?;
    let parts: Vec<&str> = task.split(':').collect();
    let [control, files, out, scale, modes] = parts[..] else {
        return Err(format!("what is bench={task}?"));
    };
    let scale = scale.parse().map_err(|_| "the scale is not a number")?;
    fs::create_dir_all(SHARE).map_err(at(SHARE))?;
    let host = Linux {
        start: Instant::now(),
    };
    let below = |path: &str| format!("{SHARE}{path}");
    let mut marks = Marks::new(&below(control));
    let modes: Vec<&str> = modes.split(',').collect();
    for (index, mode) in modes.iter().copied().enumerate() {
        let all = format!("trans=xen,version=9p2000.L,{}", options(mode)?);
        sys::mount_at("share", SHARE, "9p", all.trim_end_matches(',')).map_err(at(mode))?;
        if index == 0 {
            workload::first_byte(&host, &mut marks, &below(files), mode)?;
        }
        let out = below(&format!("{out}/{mode}"));
        let amounts = Amounts::new(scale, mode);
        workload::run(&host, &mut marks, mode, &below(files), &out, amounts)?;
        if index + 1 == modes.len() {
            marks.end(&host)?;
        }
        sys::unmount(SHARE).map_err(at("unmounting"))?;
    }
    marks.print(&host);
    Ok(())
}

/// Files by `std::fs`.
struct Linux {
    start: Instant,
}

fn at<T>(path: &str, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| format!("{path}: {error}"))
}

impl Signals for Linux {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn print(&self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }

    fn requests(&self) -> u64 {
        0
    }

    fn touch(&self, path: &str) -> Result<()> {
        self.create(path).map(drop)
    }

    fn names(&self, path: &str) -> Result<Vec<(String, bool)>> {
        at(path, fs::read_dir(path))?
            .map(|entry| {
                let entry = at(path, entry)?;
                let kind = at(path, entry.file_type())?;
                Ok((
                    entry.file_name().to_string_lossy().into_owned(),
                    kind.is_dir(),
                ))
            })
            .collect()
    }
}

impl Host for Linux {
    type File = File;

    fn open(&self, path: &str) -> Result<File> {
        at(path, File::open(path))
    }

    fn open_both(&self, path: &str) -> Result<File> {
        at(path, OpenOptions::new().read(true).write(true).open(path))
    }

    fn create(&self, path: &str) -> Result<File> {
        at(path, File::create(path))
    }

    fn read(&self, file: &mut File, into: &mut [u8]) -> Result<usize> {
        at("read", file.read(into))
    }

    fn write(&self, file: &mut File, from: &[u8]) -> Result<()> {
        at("write", file.write_all(from))
    }

    fn sync(&self, file: &File) -> Result<()> {
        at("sync", file.sync_all())
    }

    fn read_pages(&self, file: &File, places: &[u64], depth: usize, seed: Seed) -> Result<()> {
        on_threads(places, depth, |page, place| {
            at("read", file.read_exact_at(page, place))?;
            if seed.looks_right(page, place) {
                Ok(())
            } else {
                Err("wrong data: a page".into())
            }
        })
    }

    fn write_pages(&self, file: &File, places: &[u64], depth: usize, seed: Seed) -> Result<()> {
        on_threads(places, depth, |page, place| {
            seed.put(page, place);
            at("write", file.write_all_at(page, place))
        })
    }

    fn size(&self, path: &str) -> Result<u64> {
        at(path, fs::metadata(path)).map(|metadata| metadata.len())
    }

    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<()> {
        for entry in at(path, fs::read_dir(path))? {
            let entry = at(path, entry)?;
            let size = at(path, entry.metadata())?.len();
            each(&entry.file_name().to_string_lossy(), size);
        }
        Ok(())
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        at(path, fs::create_dir(path))
    }

    fn remove(&self, path: &str) -> Result<()> {
        at(path, fs::remove_file(path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        at(from, fs::rename(from, to))
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        at(from, fs::copy(from, to)).map(drop)
    }
}

/// Does the same at every place, on so many threads; the one that runs now is among them.
fn on_threads(
    places: &[u64],
    depth: usize,
    work: impl Fn(&mut [u8], u64) -> Result<()> + Sync,
) -> Result<()> {
    let next = Mutex::new(places.iter());
    let take = || next.lock().ok().and_then(|mut next| next.next().copied());
    let worker = || {
        let mut page = vec![0; PAGE];
        fill(&mut page);
        while let Some(place) = take() {
            work(&mut page, place)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..depth).map(|_| scope.spawn(worker)).collect();
        let own = worker();
        others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|_| Err("a thread died".into())))
            .fold(own, |all, one| all.and(one))
    })
}
