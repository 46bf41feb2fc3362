//! Serves a [thermometer](device) to another domain, by the target in its argument: `mount=#mem:/ vchan!8!thermometer`.
#![no_std]
#![no_main]

extern crate alloc;

mod device;

use xen9p::{ns::Namespace, rt, server::Rights};

xen9p::entry!(main);

fn main(_: &Namespace) -> Result<(), alloc::boxed::Box<dyn core::error::Error>> {
    // A virtual machine has no sensor: it gets warmer by a degree a minute.
    let device = device::thermometer(|| 20 + (rt::uptime().as_secs() / 60) as i32)?;
    let target = rt::args()?.concat().parse()?;
    rt::serve("/thermometer", &device, &target, Rights::ReadWrite)?;
    Ok(rt::sleep(core::time::Duration::MAX)?)
}
