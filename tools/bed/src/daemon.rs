//! xen9pd in dom0.

use std::path::Path;
use std::time::Duration;

use crate::fail;
use crate::host::Result;
use crate::xen::Bed;

/// Time it has to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Its log, on this machine as in dom0 below /host.
pub const LOG: &str = "xen9pd.log";

/// Starts `$program`, xen9pd or what takes its place, and waits until it answers.
const START: &str = r#"
for name in xen9pd $program; do [ -e /usr/bin/$name ] || cp /host/$name /usr/bin/$name; done
setsid $program run >>/host/xen9pd.log 2>&1 </dev/null &
for try in $(seq 600); do
    xen9pd status --json >/dev/null 2>&1 && exit 0
    kill -0 $! || break
    sleep 0.05
done
tail -n 5 /host/xen9pd.log
exit 1
"#;

/// Ends it, and waits until it is gone.
const STOP: &str = r#"
pid=$(xenstore-read /local/domain/0/libxl/xen-9pfs/pid)
kill $pid
while [ -d /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.05; done
"#;

/// Brings the program, which has to be linked statically, to dom0 and starts it.
pub fn start(bed: &mut Bed, program: &Path) -> Result<()> {
    bring(bed, program)?;
    start_again(bed)
}

/// Brings the program to dom0.
pub fn bring(bed: &Bed, program: &Path) -> Result<()> {
    bed.bring(program, "xen9pd")
}

/// Starts one that has ended.
pub fn start_again(bed: &mut Bed) -> Result<()> {
    start_program(bed, "xen9pd")
}

/// Starts a program that takes its place: it has the same broker.
pub fn start_program(bed: &mut Bed, program: &str) -> Result<()> {
    let done = bed.run(&format!("program={program}\n{START}"), START_TIMEOUT)?;
    match done.status {
        0 => Ok(()),
        _ => Err(fail!(
            "{program} does not start: {}",
            done.output.trim_end()
        )),
    }
}

/// Ends it; workers go on until their guests end.
pub fn stop(bed: &mut Bed) -> Result<()> {
    let done = bed.run(STOP, START_TIMEOUT)?;
    match done.status {
        0 => Ok(()),
        _ => Err(fail!("xen9pd does not end: {}", done.output.trim_end())),
    }
}
