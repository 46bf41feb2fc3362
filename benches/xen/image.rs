//! The benchmark's guest without a system: the workload over `xen9p::fs`.
//!
//! Command line: `run CONTROL FILES OUT SCALE`, `cached` instead of `run` for a mount with a cache; `sweep CONTROL FILES OUT` for a comparison of settings; `growth CONTROL
//! FILES OUT` for how time and memory grow with the work; `pair CONTROL FILES OUT` for one of many domains at once.
#![no_std]
#![no_main]

extern crate alloc;

mod content;
mod growth;
mod marks;
mod workload;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use xen9p::fs::{Fs, OpenOptions};
use xen9p::p9::session::Session;
use xen9p::println;
use xen9p::rt;
use xen9p::tree::Node;
use xen9p::tree::files::{self, aio};

use content::{Amounts, BIG, IN_PAGES, MADE, PAGE, Seed, fill, places};
use marks::{Marks, Result, Signals, check};
use workload::Host;

xen9p::entry!(main);

/// Bytes of the cache, where there is one: the largest file that is read fits, and as much again.
const CACHE: usize = 128 << 20;

fn main(fs: &Fs) -> Result<()> {
    let words = rt::args().map_err(|error| error.to_string())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let session = fs.to_async().session().clone();
    let host = Bare {
        fs: &**fs,
        session: session.clone(),
    };
    match words[..] {
        ["run", control, files, out, scale] => run(&host, "ours", [control, files, out, scale]),
        ["cached", control, files, out, scale] => {
            let fs = &fs.cached(CACHE);
            let host = Bare { fs, session };
            run(&host, "ours_cached", [control, files, out, scale])
        }
        ["sweep", control, files, out] => {
            let mut marks = Marks::new(control);
            workload::first_byte(&host, &mut marks, files, "ours")?;
            let mut buffer = vec![0; workload::CALL];
            let amounts = Amounts::new(1, "ours");
            workload::bulk(&host, &mut marks, "ours", files, out, &mut buffer, amounts)?;
            let file = host.open(&format!("{files}/big"))?;
            for (count, depth) in [(128, 1), (512, 4), (1024, 16), (1024, 64)] {
                let places: Vec<u64> = places(BIG, count, depth).collect();
                let name = format!("rand-read-{depth}");
                marks.row(&host, "ours", &name, count, || {
                    host.read_pages(&file, &places, depth, MADE)
                })?;
            }
            marks.end(&host)?;
            marks.print(&host);
            Ok(())
        }
        ["growth", control, files, out] => {
            let mut marks = Marks::new(control);
            for round in 0..3 {
                for times in [1, 10] {
                    let out = format!("{out}/{round}-{times}");
                    growth::growth(&host, &mut marks, "ours", files, &out, times)?;
                    let used = rt::memory_info().used() as u64;
                    marks.note("ours", &format!("memory-{times}"), 1, used);
                }
            }
            marks.end(&host)?;
            marks.print(&host);
            Ok(())
        }
        ["pair", control, files, out] => {
            // Small calls: such a domain has little memory.
            let mut buffer = vec![0; 256 << 10];
            workload::read_file(&host, &format!("{files}/pages"), &mut buffer, IN_PAGES)?;
            fill(&mut buffer);
            workload::write_file(&host, &format!("{out}/written-4k"), &mut buffer, IN_PAGES)?;
            Marks::new(control).end(&host)
        }
        _ => Err(
            "usage: run|cached CONTROL FILES OUT SCALE | sweep CONTROL FILES OUT | growth CONTROL FILES OUT | pair CONTROL FILES OUT"
                .into(),
        ),
    }
}

/// Does all rows, as those of `mode`.
fn run<N: Node + 'static>(host: &Bare<'_, N>, mode: &str, words: [&str; 4]) -> Result<()> {
    let [control, files, out, scale] = words;
    let scale = scale.parse().map_err(|_| "SCALE is not a number")?;
    let mut marks = Marks::new(control);
    marks.note(mode, "mounted", 1, rt::uptime().as_nanos() as u64);
    workload::first_byte(host, &mut marks, files, mode)?;
    let amounts = Amounts::new(scale, mode);
    workload::run(host, &mut marks, mode, files, out, amounts)?;
    marks.row(host, mode, "names", amounts.entries as u64, || {
        let names = host.names(&format!("{files}/many"))?;
        check(names.len() == amounts.entries, "a listing")
    })?;
    marks.end(host)?;
    marks.print(host);
    Ok(())
}

/// Files by the library's asynchronous face, one operation after the other unless several are asked for: which is what
/// its blocking face is.
struct Bare<'a, N> {
    fs: &'a files::Fs<N>,
    session: Session,
}

/// An error, as text, with what was being done.
fn at<T>(path: &str, result: xen9p::fs::Result<T>) -> Result<T> {
    result.map_err(|error| format!("{path}: {error}"))
}

impl<N: Node + 'static> Signals for Bare<'_, N> {
    fn now(&self) -> Duration {
        rt::uptime()
    }

    fn print(&self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }

    fn requests(&self) -> u64 {
        self.session.stats().requests
    }

    fn touch(&self, path: &str) -> Result<()> {
        self.create(path).map(drop)
    }

    fn names(&self, path: &str) -> Result<Vec<(String, bool)>> {
        at(path, self.fs.read_dir(path))?
            .map(|entry| {
                let entry = at(path, entry)?;
                let kind = at(path, entry.file_type())?;
                Ok((entry.file_name_lossy().into_owned(), kind.is_dir()))
            })
            .collect()
    }
}

impl<N: Node + 'static> Host for Bare<'_, N> {
    type File = aio::File<N::File>;

    fn open(&self, path: &str) -> Result<Self::File> {
        at(path, self.fs.open(path)).map(|file| file.into_async())
    }

    fn open_both(&self, path: &str) -> Result<Self::File> {
        let mut options = OpenOptions::new();
        at(path, options.read(true).write(true).open(self.fs, path)).map(|file| file.into_async())
    }

    fn create(&self, path: &str) -> Result<Self::File> {
        at(path, self.fs.create(path)).map(|file| file.into_async())
    }

    fn read(&self, file: &mut Self::File, into: &mut [u8]) -> Result<usize> {
        at("read", self.block_on(file.read(into)))
    }

    fn write(&self, file: &mut Self::File, from: &[u8]) -> Result<()> {
        at("write", self.block_on(file.write_all(from)))
    }

    fn sync(&self, file: &Self::File) -> Result<()> {
        at("sync", self.block_on(file.sync_all()))
    }

    fn read_pages(
        &self,
        file: &Self::File,
        places: &[u64],
        depth: usize,
        seed: Seed,
    ) -> Result<()> {
        let mut pages = vec![[0; PAGE]; depth];
        if depth == 1 {
            return places.iter().try_for_each(|&place| {
                at(
                    "read",
                    self.block_on(file.read_exact_at(&mut pages[0], place)),
                )?;
                right(seed, &pages[0], place)
            });
        }
        let next = Cell::new(places.iter());
        self.block_on_all(pages.iter_mut().map(|page| async {
            while let Some(place) = take(&next) {
                at("read", file.read_exact_at(page, place).await)?;
                right(seed, page, place)?;
            }
            Ok(())
        }))
    }

    fn write_pages(
        &self,
        file: &Self::File,
        places: &[u64],
        depth: usize,
        seed: Seed,
    ) -> Result<()> {
        let mut pages = vec![[0; PAGE]; depth];
        pages.iter_mut().for_each(|page| fill(page));
        if depth == 1 {
            return places.iter().try_for_each(|&place| {
                seed.put(&mut pages[0], place);
                at("write", self.block_on(file.write_all_at(&pages[0], place)))
            });
        }
        let next = Cell::new(places.iter());
        self.block_on_all(pages.iter_mut().map(|page| async {
            while let Some(place) = take(&next) {
                seed.put(page, place);
                at("write", file.write_all_at(page, place).await)?;
            }
            Ok(())
        }))
    }

    fn size(&self, path: &str) -> Result<u64> {
        at(path, self.fs.metadata(path)).map(|metadata| metadata.len())
    }

    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<()> {
        for entry in at(path, self.fs.read_dir(path))?.with_metadata() {
            let (entry, metadata) = at(path, entry)?;
            each(&entry.file_name_lossy(), at(path, metadata)?.len());
        }
        Ok(())
    }

    fn create_dir(&self, path: &str) -> Result<()> {
        at(path, self.fs.create_dir(path))
    }

    fn remove(&self, path: &str) -> Result<()> {
        at(path, self.fs.remove_file(path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        at(from, self.fs.rename(from, to))
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        at(from, self.fs.copy(from, to)).map(drop)
    }
}

impl<N: Node> Bare<'_, N> {
    fn block_on<T>(&self, operation: impl Future<Output = T>) -> T {
        self.session.block_on(operation)
    }

    /// Runs all of these at the same time to their ends, each polled only when it was woken, as any executor does it.
    fn block_on_all(
        &self,
        work: impl Iterator<Item = impl Future<Output = Result<()>>>,
    ) -> Result<()> {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let mut running: Vec<_> = work
            .map(|future| {
                let woken = Arc::new(Woken(AtomicBool::new(true)));
                let waker = Waker::from(woken.clone());
                (Box::pin(future), woken, waker)
            })
            .collect();
        let all = poll_fn(|_| {
            let mut failed = None;
            running.retain_mut(|(future, woken, waker)| {
                if !woken.0.swap(false, Ordering::Relaxed) {
                    return true;
                }
                match future.as_mut().poll(&mut Context::from_waker(waker)) {
                    Poll::Pending => true,
                    Poll::Ready(result) => {
                        failed = failed.take().or(result.err());
                        false
                    }
                }
            });
            match failed {
                Some(why) => Poll::Ready(Err(why)),
                None if running.is_empty() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        });
        self.block_on(all)
    }
}

/// The next free place.
fn take(next: &Cell<core::slice::Iter<'_, u64>>) -> Option<u64> {
    let mut iter = next.take();
    let place = iter.next().copied();
    next.set(iter);
    place
}

fn right(seed: Seed, page: &[u8], place: u64) -> Result<()> {
    if seed.looks_right(page, place) {
        Ok(())
    } else {
        Err("wrong data: a page".into())
    }
}
