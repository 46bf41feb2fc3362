//! `make bench-clients-bed`: 9P clients over a socket, in dom0 alone: its Linux has a client in the kernel, which few hosts have.

use std::fs;
use std::time::Duration;

use crate::host::{Context, Result};
use crate::xen::{self, Size};
use crate::{Settings, daemon, dom0, fail, say, tail};

/// How often each thing is measured.
const ROUNDS: usize = 5;

/// A measurement is one part in so many of that on a host, so that all is over in minutes.
const SCALE: u32 = 25;

/// Time that it may take.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(1800);

/// Both processors are dom0's: client and server are beside each other, as on a host.
const SIZE: Size = Size {
    machine: 2048,
    dom0: 1536,
    vcpus: 2,
};

/// The program, in the project's directory.
const PROGRAM: &str = "target/bench-clients.static";

/// Its report, on this machine as in dom0 below /host.
const REPORT: &str = "clients.md";

/// Runs it on files in memory.
const MEASURE: &str = "
set -e
mkdir /run/clients
mount -t tmpfs tmpfs /run/clients
cd /run/clients
cp /host/bench-clients /host/xen9pd .
./bench-clients ./xen9pd out
cp out.md /host/clients.md
";

/// Measures and writes the report.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut bed = xen::start(&image, &settings.cache(), SIZE, &[])?;
    bed.bring(&settings.root.join(PROGRAM), "bench-clients")?;
    daemon::bring(&bed, &settings.daemon())?;
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let scale = settings.scale.unwrap_or(SCALE);
    let only = settings.only.as_deref().unwrap_or_default();
    let only = only.replace('\'', r"'\''");
    let script = format!("export ROUNDS={rounds} SCALE={scale} ONLY='{only}'\n{MEASURE}");
    let job = bed.start_job(&script)?;
    let done = bed.wait(&job, CLIENTS_TIMEOUT)?;
    if done.is_none_or(|done| done.status != 0) {
        let output = bed.output_so_far(&job)?;
        return Err(fail!(
            "the clients were not measured:\n{}",
            tail::end(&output, 15)
        ));
    }
    let report = bed.path().join(REPORT);
    let text = fs::read_to_string(&report).during("read", &report)?;
    let path = settings.root.join("target/bench");
    fs::create_dir_all(&path).during("create", &path)?;
    let path = path.join("clients-bed.md");
    fs::write(&path, &text).during("write", &path)?;
    print!("{text}");
    say!("the tables are in target/bench/clients-bed.md");
    Ok(0)
}
