//! How long it takes to bring bytes from one domain to another, in each way that there is. Two guests of this image: `send N` serves
//! domain N with bytes, `take N` asks domain N for them and measures. `make bench-transports` runs them.
//!
//! Prints lines of `time WAY BYTES NANOSECONDS`: the median of several tries, for one transfer.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use core::hint::black_box;
use core::num::NonZeroUsize;
use core::time::Duration;

use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::PAGE_SIZE;
use xen9p::println;
use xen9p::rt::{self, BarePlatform};
use xen9p::transport::export::Listen;
use xen9p::transport::stream::ByteStream;
use xen9p::transport::vchan::{self, Listener, Orders};
use xen9p::xen::Xen;
use xen9p::xen::argo::{Address, Argo, Ring};
use xen9p::xen::event::Events;
use xen9p::xen::grant::{GrantRef, OwnPages, Remote};

xen9p::bare_entry!(main);

const SIZES: [usize; 4] = [64, 4096, 64 << 10, 1 << 20];

/// How often each is measured.
const TRIES: usize = 7;

/// Bytes of one try; fewer where that would be more than so many transfers.
const BYTES: usize = 8 << 20;
const TRANSFERS: usize = 256;

/// How long the other guest may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// For Argo: the port of both, bytes of the largest message, and of the ring.
const PORT: u32 = 7;
const MESSAGE: usize = 64 << 10;
const RING: usize = 256 << 10;

/// The names and orders of the vchans. All is asked by the first.
const VCHANS: [(&str, u8); 2] = [("large", 18), ("small", 12)];

type Result<T> = core::result::Result<T, String>;
type Drivers = Xen<BarePlatform>;

/// How bytes come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the vchan of that number.
    Vchan(usize),
    Argo,
    /// An answer of a few bytes says that they are in the pages that the sender has granted.
    GrantCopy,
    MapEach,
    MapOnce,
    /// Nothing but the answer.
    Nothing,
}

/// One of these is sent for each transfer: the way's number, how many bytes, and how often one after the other.
const ASK: usize = 12;

impl Way {
    const ALL: [Way; 7] = [
        Way::Nothing,
        Way::Vchan(1),
        Way::Vchan(0),
        Way::GrantCopy,
        Way::MapEach,
        Way::MapOnce,
        Way::Argo,
    ];

    fn name(self) -> &'static str {
        match self {
            Way::Vchan(0) => "vchan-256K",
            Way::Vchan(_) => "vchan-4K",
            Way::Argo => "argo-256K",
            Way::GrantCopy => "grant-copy",
            Way::MapEach => "map-each",
            Way::MapOnce => "map-once",
            Way::Nothing => "asked",
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn main() -> u8 {
    match run() {
        Ok(()) => 0,
        Err(why) => {
            rt::emergency_print(format_args!("FAILED {why}\n"));
            1
        }
    }
}

fn run() -> Result<()> {
    let line = str::from_utf8(rt::command_line()).map_err(text)?;
    let mut words = line.split_whitespace();
    let (role, other) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let other = DomId(other.parse().map_err(text)?);
    let xen = Xen::new(Events::new(BarePlatform)).map_err(text)?;
    let argo = Argo::new(&xen);
    if let Err(error) = &argo {
        println!("no Argo here: {error}");
    }
    let pages = NonZeroUsize::new((1 << 20) / PAGE_SIZE).ok_or("no pages")?;
    let pages = xen.grants.own_pages(pages).map_err(text)?;
    match role {
        "send" => send(&xen, other, &pages, argo.ok()),
        "take" => take(&xen, other, &pages, argo.ok()),
        role => Err(format!("it can't {role}")),
    }
}

/// Sends all of it, and wakes the other side when it is done or there is no more room.
fn put(stream: &mut dyn ByteStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let count = stream.write(bytes).map_err(text)?;
        bytes = &bytes[count..];
        stream.flush().map_err(text)?;
        if !bytes.is_empty() {
            let deadline = stream.now() + PATIENCE;
            stream.wait(true, deadline).map_err(text)?;
            if stream.now() >= deadline {
                return Err("there is no room to send".into());
            }
        }
    }
    Ok(())
}

/// Reads until the buffer is full.
fn get(stream: &mut dyn ByteStream, into: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match stream.read(&mut into[filled..]).map_err(text)? {
            0 => {
                stream.flush().map_err(text)?;
                let before = stream.now();
                stream.wait(false, before + PATIENCE).map_err(text)?;
                if stream.now() >= before + PATIENCE {
                    return Err("no bytes came".into());
                }
            }
            count => filled += count,
        }
    }
    stream.flush().map_err(text)
}

/// Sends all of it by Argo, and sleeps while the ring is full.
fn put_by_argo(xen: &Drivers, argo: &Argo<BarePlatform>, to: DomId, bytes: &[u8]) -> Result<()> {
    let to = Address {
        domain: to,
        port: PORT,
    };
    for piece in bytes.chunks(MESSAGE) {
        let deadline = xen.events.now() + PATIENCE;
        loop {
            let seen = xen.events.generation();
            match argo.send(PORT, to, &[piece], 0) {
                Ok(()) => break,
                Err(XenError::EAGAIN) if xen.events.now() < deadline => {
                    xen.events.wait(seen, deadline);
                }
                Err(error) => return Err(text(error)),
            }
        }
    }
    Ok(())
}

/// Takes messages off the ring until the buffer is full.
fn get_by_argo(
    xen: &Drivers,
    argo: &Argo<BarePlatform>,
    ring: &mut Ring<BarePlatform>,
    into: &mut [u8],
) -> Result<()> {
    let deadline = xen.events.now() + PATIENCE;
    let mut filled = 0;
    while filled < into.len() {
        let seen = xen.events.generation();
        match ring.peek().map_err(|broken| broken.0.to_string())? {
            Some(message) => {
                let end = filled + message.len as usize;
                let place = into.get_mut(filled..end).ok_or("too many bytes came")?;
                ring.copy_out(0, place);
                filled = end;
                if ring.consume(MESSAGE as u32) {
                    argo.wake_senders().map_err(text)?;
                }
            }
            None if xen.events.now() >= deadline => return Err("no bytes came".into()),
            None => xen.events.wait(seen, deadline),
        }
    }
    Ok(())
}

/// Waits for the other guest to connect.
fn accept<L: Listen>(xen: &Drivers, listener: &mut L) -> Result<L::Stream>
where
    L::Error: Display,
{
    let deadline = xen.events.now() + PATIENCE;
    loop {
        if let Some(stream) = listener.accept().map_err(text)? {
            return Ok(stream);
        }
        if xen.events.now() >= deadline {
            return Err("the other guest does not connect".into());
        }
        xen.events.sleep_until(deadline.min(listener.next_check()));
    }
}

/// Does as it is asked, until it is asked for a way that there is not.
fn send(
    xen: &Drivers,
    other: DomId,
    pages: &OwnPages<BarePlatform>,
    argo: Option<Argo<BarePlatform>>,
) -> Result<()> {
    let bytes = content(pages.size());
    pages.memory().copy_in(0, &bytes);
    let lent = pages.lend(other).map_err(text)?;
    let mut vchans = Vec::new();
    let mut listeners = Vec::new();
    for (name, order) in VCHANS {
        let orders = Orders::new(order, order).ok_or("orders")?;
        listeners.push(Listener::new(xen, other, name, orders).map_err(text)?);
    }
    println!("serving");
    for listener in &mut listeners {
        vchans.push(accept(xen, listener)?);
    }
    let refs: Vec<u8> = lent.refs().iter().flat_map(|r| r.0.to_le_bytes()).collect();
    put(&mut vchans[0], &refs)?;
    loop {
        let mut ask = [0; ASK];
        get(&mut vchans[0], &mut ask)?;
        let number = |at: usize| ask.get(at..at + 4).map_or(0, little) as usize;
        let (way, size, count) = (number(0), number(4), number(8));
        let Some(&way) = Way::ALL.get(way) else {
            return Ok(());
        };
        let bytes = bytes.get(..size).ok_or("too many bytes are asked for")?;
        for _ in 0..count {
            match way {
                Way::Vchan(index) => put(&mut vchans[index], bytes)?,
                Way::Argo => put_by_argo(xen, argo.as_ref().ok_or("no Argo")?, other, bytes)?,
                _ => put(&mut vchans[0], &ask)?,
            }
        }
    }
}

fn little(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

/// What the one that measures has.
struct Taker<'a> {
    xen: &'a Drivers,
    other: DomId,
    pages: &'a OwnPages<BarePlatform>,
    refs: Vec<GrantRef>,
    vchans: Vec<vchan::Stream<BarePlatform>>,
    argo: Option<(Argo<BarePlatform>, Ring<BarePlatform>)>,
    bytes: Vec<u8>,
    got: Vec<u8>,
}

fn take(
    xen: &Drivers,
    other: DomId,
    pages: &OwnPages<BarePlatform>,
    argo: Option<Argo<BarePlatform>>,
) -> Result<()> {
    let mut vchans = Vec::new();
    for (name, _) in VCHANS {
        vchans.push(vchan::connect(xen, other, name, PATIENCE).map_err(text)?);
    }
    let mut refs = vec![0; 4 * (pages.size() / PAGE_SIZE)];
    get(&mut vchans[0], &mut refs)?;
    let refs = refs
        .chunks(4)
        .map(|bytes| GrantRef(little(bytes)))
        .collect();
    let argo = match argo {
        None => None,
        Some(argo) => {
            let ring = argo.register(PORT, other, RING).map_err(text)?;
            Some((argo, ring))
        }
    };
    let mut taker = Taker {
        xen,
        other,
        pages,
        refs,
        vchans,
        argo,
        bytes: content(pages.size()),
        got: vec![0; pages.size()],
    };
    taker.measure()?;
    put(&mut taker.vchans[0], &[0xff; ASK])
}

impl Taker<'_> {
    fn measure(&mut self) -> Result<()> {
        for size in SIZES {
            let count = (BYTES / size).clamp(1, TRANSFERS);
            let mut all: Vec<(&str, Vec<u64>)> = Vec::new();
            for _ in 0..TRIES {
                let mut note = |name, nanos: u64| match all.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, times)) => times.push(nanos),
                    None => all.push((name, vec![nanos])),
                };
                note("two-copies", self.two_copies(size, count));
                for (number, way) in Way::ALL.into_iter().enumerate() {
                    if way == Way::Argo && self.argo.is_none() {
                        continue;
                    }
                    note(way.name(), self.asked(number, way, size, count)?);
                }
                note("vchan-stream", self.streamed(Way::Vchan(0), size, count)?);
                if self.argo.is_some() {
                    note("argo-stream", self.streamed(Way::Argo, size, count)?);
                }
            }
            for (name, mut times) in all {
                times.sort_unstable();
                println!("time {name} {size} {}", times[times.len() / 2]);
            }
        }
        Ok(())
    }

    /// One transfer's part of the time that so many took.
    fn timed(
        &mut self,
        count: usize,
        mut work: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<u64> {
        let begun = self.xen.events.now();
        for _ in 0..count {
            work(self)?;
        }
        let took = self.xen.events.now() - begun;
        Ok(took.as_nanos() as u64 / count as u64)
    }

    /// What a ring costs at least: bytes are copied into shared memory and out of it.
    fn two_copies(&mut self, size: usize, count: usize) -> u64 {
        let done = self.timed(count, |this| {
            let memory = this.pages.memory();
            memory.copy_in(0, &black_box(&this.bytes)[..size]);
            memory.copy_out(0, &mut black_box(&mut this.got)[..size]);
            Ok(())
        });
        done.unwrap_or(0)
    }

    fn ask(&mut self, way: usize, size: usize, count: usize) -> Result<()> {
        let words = [way, size, count].map(|word| (word as u32).to_le_bytes());
        put(&mut self.vchans[0], words.as_flattened())
    }

    /// Transfers of which each is asked for when the one before it is there.
    fn asked(&mut self, number: usize, way: Way, size: usize, count: usize) -> Result<u64> {
        let kept = match way {
            Way::MapOnce => Some(self.map(size)?),
            _ => None,
        };
        self.got.fill(0);
        let took = self.timed(count, |this| {
            this.ask(number, size, 1)?;
            let got = &mut this.got[..size];
            match way {
                Way::Vchan(index) => return get(&mut this.vchans[index], got),
                Way::Argo => {
                    let (argo, ring) = this.argo.as_mut().ok_or("no Argo")?;
                    return get_by_argo(this.xen, argo, ring, got);
                }
                _ => get(&mut this.vchans[0], &mut [0; ASK])?,
            }
            match way {
                Way::GrantCopy => {
                    let remote = Remote {
                        domain: this.other,
                        refs: &this.refs,
                        offset: 0,
                    };
                    this.pages.copy_from(0..size, remote).map_err(text)?;
                }
                Way::MapOnce => kept.as_ref().ok_or("not mapped")?.memory().copy_out(0, got),
                Way::MapEach => {
                    let mapped = this.map(size)?;
                    mapped.memory().copy_out(0, &mut this.got[..size]);
                }
                _ => {}
            }
            Ok(())
        })?;
        if way == Way::GrantCopy {
            self.pages.memory().copy_out(0, &mut self.got[..size]);
        }
        match way == Way::Nothing || self.got[..size] == self.bytes[..size] {
            true => Ok(took),
            false => Err(format!("{}: other bytes have come", way.name())),
        }
    }

    /// All are asked for at once, and come as fast as they can.
    fn streamed(&mut self, way: Way, size: usize, count: usize) -> Result<u64> {
        let number = Way::ALL.iter().position(|known| *known == way);
        let number = number.ok_or("no such way")?;
        let mut left = Some(count);
        self.timed(count, |this| {
            if let Some(count) = left.take() {
                this.ask(number, size, count)?;
            }
            let got = &mut this.got[..size];
            match way {
                Way::Argo => {
                    let (argo, ring) = this.argo.as_mut().ok_or("no Argo")?;
                    get_by_argo(this.xen, argo, ring, got)
                }
                _ => get(&mut this.vchans[0], got),
            }
        })
    }

    fn map(&self, size: usize) -> Result<xen9p::xen::grant::MappedPages<BarePlatform>> {
        let refs = &self.refs[..size.div_ceil(PAGE_SIZE)];
        self.xen.grants.map(self.other, refs).map_err(text)
    }
}
