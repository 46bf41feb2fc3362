//! A 9pfs backend in a Linux dom0: the program that the simulated Xen has as
//! [`Share`](xen9p_testing::backend::Share), on the devices of a real one.
//!
//! usage: `xen9p-backend qemu|daemon DOMAIN DEVICE [honest]`
//!
//! Serves device DEVICE of domain DOMAIN, whose nodes are there, as QEMU or as xen-9pfsd would, with files in its own
//! memory. Scripts in xenstore, which the guest writes, say what it does wrong; without one it is honest. Ends when the domain does, and then says what
//! troubles there were: nothing but zeros and wire data may ever have been in the pages that the guest shared.

mod device;
mod store;
mod xen;

use std::env;
use std::process::ExitCode;

use xen9p::hypercall::DomId;
use xen9p_testing::backend::{Program, Share, Trouble};
use xen9p_testing::server::mem::{MemOptions, MemServer};

use xen::Dom0;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xen9p-backend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let usage = "usage: xen9p-backend qemu|daemon DOMAIN DEVICE [honest]";
    let (honest, [program, domain, device]) = (match &arguments[..] {
        [rest @ .., last] if last == "honest" => (true, rest),
        all => (false, all),
    }) else {
        return Err(usage.into());
    };
    let program = match program.as_str() {
        "qemu" => Program::Qemu,
        "daemon" => Program::Daemon,
        _ => return Err(usage.into()),
    };
    let guest = DomId(domain.parse().map_err(|_| usage)?);
    let front = format!("/local/domain/{domain}/device/9pfs/{device}");
    let dom0 = Dom0::open().map_err(|error| format!("opening the devices of Xen: {error}"))?;
    let back = dom0
        .value(&format!("{front}/backend"))
        .ok_or_else(|| format!("there is no device at {front}"))?;
    let back = String::from_utf8(back).map_err(|_| "the backend's path is no text")?;
    let scripts = format!("/local/domain/{domain}/data");
    for path in [&front, &back, &scripts] {
        dom0.watch(path)
            .map_err(|error| format!("watching {path}: {error}"))?;
    }
    let mut server = MemServer::new(MemOptions::default());
    let handler = Box::new(move |request: &[u8]| server.handle(request));
    let machine = Box::new(dom0.clone());
    let mut share = Share::on(machine, guest, (front.clone(), back), program, handler);
    if !honest {
        share = share.taking_scripts();
    }
    println!("serving");
    while dom0.value(&front).is_some() {
        while share.work() {}
        dom0.wait().map_err(|error| format!("waiting: {error}"))?;
    }
    share.kill();
    share.unmap();
    let troubles = share.troubles();
    println!("troubles: {troubles:?}");
    let unforgivable = [
        Trouble::Leak,
        Trouble::Misrouted,
        Trouble::NoRoom,
        Trouble::Overwrite,
    ];
    Ok(
        match troubles
            .iter()
            .any(|trouble| unforgivable.contains(trouble))
        {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        },
    )
}
