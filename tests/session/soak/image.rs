//! The guest of `make soak`: works on the shares "one" and "two" until its time is over, whatever becomes of their
//! backend, and looks now and then whether it holds no more than at the beginning.
//!
//! `extra = "share=one recovery=reattach:300 SECONDS SEED"`. Ends with status 0 if all was right to the end.
#![no_std]
#![no_main]

extern crate alloc;

mod work;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use work::{Random, Work};
use xen9p::fs::Fs;
use xen9p::println;
use xen9p::rt::{self, Resources};

xen9p::entry!(main);

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often to look again before too much is too much: what is given back may take a request more.
const LOOKS: usize = 20;

/// What memory in use may differ by, in bytes, the model not counted: what a reply or two take.
const MEMORY: usize = 512 << 10;

fn main(one: &Fs) -> Result<(), String> {
    let arguments = rt::args().map_err(|error| error.to_string())?;
    let numbers: Option<Vec<u64>> = arguments.iter().map(|text| text.parse().ok()).collect();
    let Some([seconds, seed]) = numbers.as_deref() else {
        return Err("usage: SECONDS SEED".into());
    };
    let two = rt::share("two").map_err(|error| error.to_string())?;
    let mut random = Random::new(*seed);
    let shares = [one.clone(), two];
    let mut works = Vec::new();
    for (number, fs) in (1..).zip(&shares) {
        works.push(Work::new(fs.clone(), seed + number)?);
    }
    // The buffers that sessions keep are there after the first operations.
    for _ in 0..30 {
        step(&mut works, &mut random)?;
    }
    let before = Held::now(&shares, &works);
    println!("soak: begins with {before:?}");
    let end = rt::now() + Duration::from_secs(*seconds);
    let mut next = rt::now() + INTERVAL;
    while rt::now() < end {
        step(&mut works, &mut random)?;
        if rt::now() >= next {
            next = rt::now() + INTERVAL;
            let held = settled(&before, &shares, &mut works)?;
            tell(&shares, &works, &held);
        }
    }
    settled(&before, &shares, &mut works)?;
    works.into_iter().try_for_each(Work::finish)?;
    println!("soak: all is as it should be");
    Ok(())
}

fn step(works: &mut [Work], random: &mut Random) -> Result<(), String> {
    let at = random.below(works.len());
    let Some(work) = works.get_mut(at) else {
        return Ok(());
    };
    work.step()
        .map_err(|error| format!("share {}: {error}", at + 1))
}

/// What has to be flat.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    resources: Resources,
    fids: usize,
    memory: usize,
}

impl Held {
    fn now(shares: &[Fs], works: &[Work]) -> Held {
        let model: usize = works.iter().map(Work::model).sum();
        let fids = |fs: &Fs| fs.to_async().session().fids_in_use();
        let open: usize = works.iter().map(Work::open_files).sum();
        Held {
            resources: rt::resources(),
            fids: shares.iter().map(fids).sum::<usize>() - open,
            memory: rt::memory_info().used() - model,
        }
    }

    fn is_like(&self, before: &Held) -> bool {
        self.resources == before.resources
            && self.fids <= before.fids
            && self.memory.abs_diff(before.memory) <= MEMORY
    }
}

/// What is held once it is as much as at the beginning.
fn settled(before: &Held, shares: &[Fs], works: &mut [Work]) -> Result<Held, String> {
    let mut held = Held::now(shares, works);
    for _ in 0..LOOKS {
        if held.is_like(before) {
            return Ok(held);
        }
        works.iter_mut().try_for_each(Work::step)?;
        held = Held::now(shares, works);
    }
    Err(format!(
        "it holds {held:?} after {before:?} at the beginning"
    ))
}

fn tell(shares: &[Fs], works: &[Work], held: &Held) {
    let sum = |count: fn(&Work) -> u64| works.iter().map(count).sum::<u64>();
    let stats = |count: fn(&Fs) -> u64| shares.iter().map(count).sum::<u64>();
    println!(
        "soak: {} s, {} operations, {} connections lost, {} found, {} outcomes unknown; {held:?}",
        rt::uptime().as_secs(),
        sum(|work| work.operations),
        stats(|fs| fs.stats().losses),
        stats(|fs| fs.stats().recoveries),
        sum(|work| work.unknown),
    );
}
