//! Hostile backends: `tests/backend` in dom0 plays them to an image of our own, which goes through all cases in one boot.
//! Each has to end in the way that it ends on the simulated Xen; which error is seen first may depend on the machine.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Test;
use super::bad_input::device;
use super::lab::{Lab, ends_with};
use crate::fail;
use crate::host::Result;
use crate::tail;

pub const TESTS: &[Test] = &[
    ("as-qemu", |lab| meet(lab, "qemu")),
    ("as-9pfsd", |lab| meet(lab, "daemon")),
];

/// How long all cases may take; some of them wait for what does not come, and a slow machine adds to it.
const RUN_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long the backends may take to notice that the guest has gone.
const LAST_WORDS: Duration = Duration::from_secs(30);

fn meet(lab: &mut Lab<'_>, program: &str) -> Result<()> {
    let root = lab.root();
    let words = if lab.is_short() { "short" } else { "" };
    let guest = lab.guest_of("hostile", words)?;
    let binary = root.join("target/xen9p-backend");
    lab.bed()?.bring(&binary, "xen9p-backend")?;
    let state = [("state", "1")];
    let mut script = device(0, "honest", &state) + &device(1, "hostile", &state);
    let logs = [0, 1].map(|number| format!("{}-backend-{number}.log", guest.name));
    let backends = ["qemu $1 0 honest".to_owned(), format!("{program} $1 1")];
    for (arguments, log) in backends.iter().zip(&logs) {
        script +=
            &format!("(/host/xen9p-backend {arguments} || true; echo over) >/host/{log} 2>&1 &\n");
    }
    let mut domain = lab.start_after(&guest, &script)?;
    let deadline = Instant::now() + RUN_TIMEOUT;
    let ended = domain.wait(lab.bed()?, Some(deadline), |_| Ok(()))?;
    let ended =
        ended.ok_or_else(|| fail!("the cases take more than {} s", RUN_TIMEOUT.as_secs()))?;
    let failed: Vec<&str> = ended
        .console
        .lines()
        .filter(|line| line.starts_with("FAILED"))
        .collect();
    if !failed.is_empty() {
        return Err(fail!("{}", failed.join("\n")));
    }
    ends_with(&ended, 0)?;
    for log in logs {
        let path = lab.bed()?.path().join(log);
        said_nothing_bad(&path)?;
    }
    Ok(())
}

/// Fails unless the backend saw only what it may see.
fn said_nothing_bad(log: &Path) -> Result<()> {
    let deadline = Instant::now() + LAST_WORDS;
    loop {
        let text = tail::text(log);
        if text.contains("over") {
            let Some((_, troubles)) = text.split_once("troubles: ") else {
                return Err(fail!("the backend died: {}", tail::end(&text, 5)));
            };
            let bad = ["Leak", "Misrouted", "NoRoom", "Overwrite"];
            return match bad.iter().find(|name| troubles.contains(*name)) {
                Some(name) => Err(fail!("the backend found: {name}")),
                None => Ok(()),
            };
        }
        if Instant::now() >= deadline {
            return Err(fail!(
                "the backend outlives its guest: {}",
                tail::end(&text, 5)
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
