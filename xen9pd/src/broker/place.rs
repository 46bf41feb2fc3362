//! The place that xl keeps for a daemon: `libxl/xen-9pfs`. While its state says "running", xl 4.19 and later start no
//! xen-9pfsd.

use std::fs;

use crate::xen::store::{Result, Store};

const STATE: &str = "libxl/xen-9pfs/state";
const PID: &str = "libxl/xen-9pfs/pid";

/// The daemons that serve the devices in question.
const DAEMONS: [&str; 2] = ["xen-9pfsd", "xen9pd"];

/// Takes the place. One that a dead daemon has left is taken over; if a daemon lives there, the error says which.
pub fn take(store: &mut Store) -> Result<std::result::Result<(), String>> {
    let own = std::process::id();
    let done = store.transaction(|transaction| {
        let mut text = |path| -> Result<Option<String>> {
            let value = transaction.read(path)?;
            Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
        };
        if text(STATE)?.is_some() {
            let number = text(PID)?.and_then(|number| number.trim().parse().ok());
            let living = number.filter(|&number| number != own).and_then(alive);
            if let Some(name) = living {
                let number = number.unwrap_or_default();
                return Ok(Some(Err(format!(
                    "{name} serves already, process {number}: end it first"
                ))));
            }
            log::debug!("taking the place of a daemon that is gone");
        }
        transaction.write(STATE, "running")?;
        transaction.write(PID, &own.to_string())?;
        Ok(Some(Ok(())))
    })?;
    Ok(done.unwrap_or(Ok(())))
}

/// The name of this process if it is one of the daemons.
fn alive(number: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
    let name = name.trim_end();
    DAEMONS.contains(&name).then(|| name.to_owned())
}
