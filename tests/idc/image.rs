//! Two guests of this image speak to each other by `transport::idc`: `serve N` publishes for domain N, `ask N` dials domain N and has
//! it copy into a buffer and out of it, and into one that is not registered any more, which has to fail.
//!
//! Prints `FAILED WHY`, or nothing but what it does.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use core::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::rt::{self, BarePlatform};
use xen9p::transport::idc::{
    BufferError, ByGrants, Dialer, Endpoint, Event, InTransaction, Limits, LocalBuffer, Publisher,
    RemoteBuffer, Resources, Way,
};
use xen9p::transport::vchan::Orders;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;

xen9p::bare_entry!(main);

/// Bytes of a buffer: no whole number of pages.
const SIZE: usize = 300_000;

/// How long the other guest may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

type Result<T> = core::result::Result<T, String>;
type Drivers = Xen<BarePlatform>;

/// What has come so far is in words what is wrong.
fn text(error: impl Display) -> String {
    error.to_string()
}

fn content(seed: u8) -> Vec<u8> {
    (0..SIZE)
        .map(|index| (index * 7 + index / 251) as u8 ^ seed)
        .collect()
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
    match role {
        "serve" => serve(&xen, other),
        "ask" => ask(&xen, other),
        role => Err(format!("it can't {role}")),
    }
}

/// Copies into the buffer of each transaction, and out of it, until the other endpoint is gone.
fn serve(xen: &Drivers, other: DomId) -> Result<()> {
    let publisher = Publisher::new(xen, other, "idc", Orders::default()).map_err(text)?;
    let bulk = ByGrants::new(&xen.grants, other);
    let (data, back) = (
        bulk.buffer(SIZE).map_err(text)?,
        bulk.buffer(SIZE).map_err(text)?,
    );
    data.write(0, &content(1)).map_err(text)?;
    let mut end = Endpoint::new(Resources::new(Limits::default()), publisher, bulk);
    rt::emergency_print(format_args!("serving\n"));
    let mut open: Option<(InTransaction, RemoteBuffer)> = None;
    let mut sent = false;
    loop {
        let deadline = xen.events.now() + PATIENCE;
        let event = end.next(deadline).ok_or("no event came")?;
        match event {
            Event::Transaction(transaction) => {
                let remote = RemoteBuffer::from_bytes(end.parameters(transaction).unwrap_or(&[]));
                let remote = remote.ok_or("no reference")?;
                (open, sent) = (Some((transaction, remote)), false);
                if let Err(error) = end.transfer(Way::Send, &remote, 1, &data, 1..SIZE) {
                    refuse(&mut end, transaction, error)?;
                }
            }
            Event::Transferred(_, outcome) => {
                let (transaction, remote) = open.ok_or("a transfer of no transaction")?;
                match outcome {
                    Err(error) => refuse(&mut end, transaction, error)?,
                    Ok(()) if sent => {
                        let mut got = vec![0; SIZE];
                        back.read(0, &mut got).map_err(text)?;
                        let same = got.get(3..) == content(1).get(3..);
                        let code = if same { 0 } else { 5 };
                        end.complete_transaction(transaction, code, b"done")
                            .map_err(text)?;
                    }
                    Ok(()) => {
                        sent = true;
                        let begun = end.transfer(Way::Receive, &remote, 3, &back, 3..SIZE);
                        begun.map_err(text)?;
                    }
                }
            }
            Event::Disconnect(_) => {
                let _ = end.finish_disconnect();
            }
            Event::Disappear => return Ok(()),
            _ => {}
        }
    }
}

type Served = Endpoint<Publisher<BarePlatform>, ByGrants<BarePlatform>>;

/// Says that the buffer can't be reached.
fn refuse(end: &mut Served, transaction: InTransaction, error: BufferError) -> Result<()> {
    let why = error.to_string();
    end.complete_transaction(transaction, 14, why.as_bytes())
        .map_err(text)
}

fn ask(xen: &Drivers, other: DomId) -> Result<()> {
    let bulk = ByGrants::new(&xen.grants, other);
    let buffer = bulk.buffer(SIZE).map_err(text)?;
    let dialer = Dialer::new(xen, other, "idc");
    let mut end = Endpoint::new(Resources::new(Limits::default()), dialer, bulk);
    let mut remote = None;
    let mut answers = 0;
    loop {
        let deadline = xen.events.now() + PATIENCE;
        let event = end.next(deadline).ok_or("no event came")?;
        match event {
            Event::Connect => {
                let registered = end.register(&buffer).map_err(text)?;
                end.submit_transaction(&registered.to_bytes())
                    .map_err(text)?;
                remote = Some(registered);
            }
            Event::Finished(transaction, Ok(code)) => {
                let status = end.status(transaction).unwrap_or(&[]).to_vec();
                let status = String::from_utf8_lossy(&status).into_owned();
                end.release(transaction).map_err(text)?;
                rt::emergency_print(format_args!("answer {answers}: {code}, {status}\n"));
                let remote = remote.ok_or("no reference")?;
                let mut got = vec![0; SIZE];
                buffer.read(0, &mut got).map_err(text)?;
                match (answers, code) {
                    (0, 0) => {
                        if got.get(1..) != content(1).get(1..) {
                            return Err("other bytes have come".into());
                        }
                        end.unregister(&remote).map_err(text)?;
                        buffer.write(0, &vec![9; SIZE]).map_err(text)?;
                        end.submit_transaction(&remote.to_bytes()).map_err(text)?;
                    }
                    (1, 14) => {
                        if got.iter().any(|byte| *byte != 9) {
                            return Err("a buffer that is not registered was written".into());
                        }
                        end.destroy();
                    }
                    _ => return Err(format!("answer {answers} is {code}: {status}")),
                }
                answers += 1;
            }
            Event::Finished(_, Err(fault)) => return Err(fault.to_string()),
            Event::Disconnect(_) => {
                let _ = end.finish_disconnect();
            }
            Event::Destroyed => break,
            _ => {}
        }
    }
    let used = xen.grants.counters();
    match (used.mapped_pages, used.quarantined_pages) {
        (_, 0) => Ok(()),
        counters => Err(format!("pages are left in quarantine: {counters:?}")),
    }
}
