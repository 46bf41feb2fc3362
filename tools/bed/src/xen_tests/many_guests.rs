//! What is asked of xen9pd when there are many guests at once.

use std::path::PathBuf;

use super::Test;
use super::dom0_daemon::at_rest;
use super::domains::only;
use super::lab::{Lab, Share, ends_with};
use crate::domain::Domain;
use crate::host::Result;
use crate::{daemon, fail, say, tail};

/// What is asked of it in any way in which it gets devices, if there is time.
pub const TESTS: &[Test] = &[("storm-among-32", storm)];

/// Keeps all processors of dom0 busy until the file is gone.
const BUSY: &str = r#"
touch /run/busy
for cpu in 1 2 3; do (while [ -e /run/busy ]; do :; done) & done
"#;

/// Guests that begin while dom0 has no time: whether xen9pd or QEMU takes a device first, its guest works.
pub(super) fn claims_while_busy(lab: &mut Lab<'_>) -> Result<()> {
    /// At a time.
    const GUESTS: usize = 12;

    let rows = if lab.is_short() { 1 } else { 17 };
    lab.dom0(BUSY)?;
    let ended: Result<Vec<()>> = (0..rows).map(|_| begin_and_end(lab, GUESTS)).collect();
    lab.dom0("rm -f /run/busy")?;
    ended?;
    let names = lab.names_of_this_test();
    let log = tail::text(&lab.bed()?.path().join(daemon::LOG));
    // The log has the number of each domain, and which devices have got a worker.
    let taken = names.iter().filter(|name| {
        let line = format!(": domain {name} is to have ");
        let (before, _) = log.split_once(&line).unwrap_or_default();
        let device = before.rsplit(' ').next().unwrap_or_default();
        log.contains(&format!("{device}: connected, worker "))
    });
    say!("xen9pd took {} of {} devices", taken.count(), rows * GUESTS);
    at_rest(lab)
}

/// So many guests at once, each of which works on a share of its own.
fn begin_and_end(lab: &mut Lab<'_>, guests: usize) -> Result<()> {
    let begun: Result<Vec<_>> = (0..guests)
        .map(|number| {
            let share = lab.directory()?;
            let line = format!("write /in.txt guest {number}; cat /in.txt");
            let guest = lab.guest(&line).with("share", &share);
            Ok((lab.start(&guest)?, share, format!("guest {number}\n")))
        })
        .collect();
    for (domain, share, text) in &mut begun? {
        ends_with(&lab.end_of(domain)?, 0)?;
        share.holds("in.txt", text.as_bytes())?;
    }
    Ok(())
}

/// Waits until `$1` guests are served, and then says how many bytes each of the guests from the second argument on has read in `$2`
/// seconds.
const READ: &str = r#"
reached=
for try in $(seq 300); do
    [ "$(xen9pd status --json | grep -c '"frontend": "4 (Connected)"')" != $1 ] || { reached=1; break; }
    sleep 1
done
[ $reached ] || { xen9pd status; exit 1; }
sent() {
    xen9pd status --json | awk -F '"' '/"name":/ { name = $4 } /"bytes_out":/ { gsub("[^0-9]", "", $3); print name, $3 }'
}
sent > /run/before; sleep $2; sent > /run/after
awk 'NR == FNR { before[$1] = $2; next } { print $1, $2 - before[$1] }' /run/before /run/after
"#;

/// What guests are made by: three pipes, so that those that wait take no time away from what they wait for. `turn` has one line, for the
/// guest that may be made; `made` gets a line from each guest; `go` has a line for each as soon as all are made.
///
/// And dom0 gets as much of the processors as all guests together. By default Xen treats it as one guest of many, and then the guests that
/// work leave xenstored no time for those that begin.
const BEGIN: &str = r#"
rm -rf /run/storm /run/storm-pipes; mkdir /run/storm /run/storm-pipes; truncate -s 900G /run/storm/large.bin
cd /run/storm-pipes; mkfifo turn made go
(exec 7<>turn 8<>made 9<>go; exec sleep 1800) >/dev/null 2>&1 </dev/null &
echo $! >/run/storm-pipes/holder
echo >turn
xl sched-credit2 -d Domain-0 -w 8192
"#;

/// Makes the guest `$1`, which doesn't run before all are made: each that works leaves less time for making the next. One at a time,
/// so that xen9pd is in time for the device: on Xen 4.17 QEMU would have it.
const MAKE: &str = r#"
cd /run/storm-pipes; exec 7<>turn 8<>made 9<>go
read -t 600 turn <&7 || exit
made=0
xl create -q -p /host/$1.cfg || made=$?
echo >&7
[ $made = 0 ] || exit $made
echo >&8
read -t 600 go <&9 || exit
xl unpause $1
"#;

/// Lets the guests run as soon as there are `$1` of them.
const GO: &str = r#"
cd /run/storm-pipes; exec 8<>made 9<>go
for guest in $(seq $1); do read -t 600 made <&8 || { xl list; exit 1; }; done
for guest in $(seq $1); do echo >&9; done
"#;

/// Ends all guests, and what [`BEGIN`] has begun.
const END: &str = r#"
for name in $(xl list | awk 'NR > 2 { print $1 }'); do xl destroy $name; done
kill $(cat /run/storm-pipes/holder); xl sched-credit2 -d Domain-0 -w 256
"#;

/// 32 guests read as fast as they can, and then one of them gives way to a guest that sends requests as fast as it can: the others
/// keep at least half of what each had.
fn storm(lab: &mut Lab<'_>) -> Result<()> {
    lab.dom0(BEGIN)?;
    let shares = fair_and_least(lab);
    let ended = lab.dom0(END);
    let (fair, least) = shares?;
    ended?;
    only(lab, &[])?;
    at_rest(lab)?;
    match least >= fair / 2 {
        true => Ok(()),
        false => Err(fail!("one guest had only {least} of {fair} bytes")),
    }
}

/// How many bytes a guest reads on average, and the least that one reads beside a storm.
fn fair_and_least(lab: &mut Lab<'_>) -> Result<(u64, u64)> {
    const GUESTS: usize = 32;
    const SECONDS: u32 = 20;

    let share = Share {
        path: PathBuf::new(),
        in_dom0: "/run/storm".into(),
    };
    let mut readers: Vec<(String, Domain)> = Vec::new();
    for _ in 0..GUESTS {
        let mut guest = lab.guest("rings=1 sha256 /large.bin").with("share", &share);
        guest.memory = 16;
        let make = format!("set -- {}\n{MAKE}", guest.name);
        readers.push((guest.name.clone(), lab.start_by(&guest, &make)?));
    }
    lab.dom0(&format!("set -- {GUESTS}\n{GO}"))?;
    let read = |lab: &mut Lab<'_>, readers: &[(String, Domain)]| -> Result<Vec<u64>> {
        let output = lab.dom0(&format!("set -- {GUESTS} {SECONDS}\n{READ}"))?;
        let all = output.lines().filter_map(|line| line.split_once(' '));
        let of_readers = all.filter(|(name, _)| readers.iter().any(|(known, _)| known == name));
        let bytes: Vec<u64> = of_readers
            .filter_map(|(_, sent)| sent.parse().ok())
            .collect();
        match bytes.len() == readers.len() {
            true => Ok(bytes),
            false => Err(fail!(
                "{} guests, but the daemon says: {output}",
                readers.len()
            )),
        }
    };
    let before = read(lab, &readers)?;
    if let Some((name, _)) = readers.pop() {
        lab.dom0(&format!("xl destroy {name}"))?;
    }
    let storm = lab.guest_of("lying-frontend", "")?.with("storm", &share);
    let _storm = lab.start(&storm)?;
    let after = read(lab, &readers)?;
    let fair = before.iter().sum::<u64>() / before.len() as u64;
    let [least, most] = [after.iter().min(), after.iter().max()].map(|bytes| *bytes.unwrap_or(&0));
    say!("a guest's fair share is {fair} bytes; beside a storm each had {least} to {most}");
    Ok((fair, least))
}
