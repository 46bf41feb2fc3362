//! In dom0: lets domains run, and answers each mark they make by the processor time taken until then.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use crate::marks::Result;
use crate::sys::{Domctl, Watch};

/// How often the domains are looked after while nothing happens.
const PULSE_MS: i32 = 2000;

/// Lets domains run until each has said that it is done, in its own directory `control/0`, `control/1` and so on.
///
/// Prints for each `done INDEX NANOSECONDS-SINCE-START GUEST-CPU DOM0-CPU PAGES`. Fails if one ends without having said so.
pub fn run(control: &Path, domains: &[&str]) -> Result<()> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut watch = Watch::new().map_err(failed("watching for marks"))?;
    let mut guests = Vec::new();
    for (index, domain) in domains.iter().enumerate() {
        let directory = control.join(index.to_string());
        fs::create_dir_all(&directory).map_err(failed("making a directory for marks"))?;
        watch
            .add(&directory)
            .map_err(failed("watching for marks"))?;
        guests.push(Guest {
            domain: domain
                .parse()
                .map_err(|_| format!("{domain}: not the number of a domain"))?,
            directory,
            last: Vec::new(),
            done: false,
        });
    }
    let mut xen = Domctl::open().map_err(failed("/dev/xen/privcmd"))?;
    let before = xen.info(0).map_err(failed("processor time"))?;
    let start = Instant::now();
    for guest in &guests {
        xen.unpause(guest.domain).map_err(failed("unpausing"))?;
    }
    while guests.iter().any(|guest| !guest.done) {
        let marks = watch.next(PULSE_MS).map_err(failed("waiting for marks"))?;
        if marks.is_empty()
            && guests
                .iter()
                .any(|guest| !guest.done && xen.info(guest.domain).map_or(true, |info| info.over))
        {
            return Err("a domain has ended before its work was done".into());
        }
        for (index, name) in marks {
            let Some(number) = name.strip_prefix("mark-") else {
                continue;
            };
            let guest = &mut guests[index];
            let at = start.elapsed().as_nanos();
            let own = xen.info(guest.domain).map_err(failed("processor time"))?;
            let dom0 = xen.info(0).map_err(failed("processor time"))?;
            if number == "end" {
                guest.done = true;
                let dom0 = dom0.cpu_time - before.cpu_time;
                println!("done {index} {at} {} {dom0} {}", own.cpu_time, own.pages);
                continue;
            }
            let answer = format!("{number}-{at}-{}-{}", own.cpu_time, dom0.cpu_time);
            File::create(guest.directory.join(&answer)).map_err(failed("answering"))?;
            // What is over goes, so that the listing in which the guest looks for the answer stays short. Not this mark:
            // the server still looks at the file it has just made.
            for old in std::mem::replace(&mut guest.last, vec![name, answer]) {
                fs::remove_file(guest.directory.join(old)).map_err(failed("removing a mark"))?;
            }
        }
    }
    Ok(())
}

/// A domain that makes marks.
struct Guest {
    domain: u16,
    directory: std::path::PathBuf,
    /// Names of the last mark and its answer.
    last: Vec<String>,
    done: bool,
}
