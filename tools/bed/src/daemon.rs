//! xen9pd in dom0.

use std::time::Duration;

use crate::host::Result;
use crate::xen::Bed;
use crate::{Settings, fail};

/// The program, in the project's directory.
const PROGRAM: &str = "target/xen9pd.static";

/// Time it has to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Its log, on this machine as in dom0 below /host.
pub const LOG: &str = "xen9pd.log";

/// Starts it, and waits until it answers.
const START: &str = r#"
[ -e /usr/bin/xen9pd ] || cp /host/xen9pd /usr/bin/xen9pd
setsid xen9pd run >>/host/xen9pd.log 2>&1 </dev/null &
for try in $(seq 600); do
    xen9pd status --json >/dev/null 2>&1 && exit 0
    kill -0 $! || break
    sleep 0.05
done
tail -n 5 /host/xen9pd.log
exit 1
"#;

/// Brings it to dom0 and starts it.
pub fn start(bed: &mut Bed, settings: &Settings) -> Result<()> {
    let program = settings.root.join(PROGRAM);
    bed.bring(&program, "xen9pd")?;
    start_again(bed)
}

/// Starts one that has ended.
pub fn start_again(bed: &mut Bed) -> Result<()> {
    let done = bed.run(START, START_TIMEOUT)?;
    match done.status {
        0 => Ok(()),
        _ => Err(fail!("xen9pd does not start: {}", done.output.trim_end())),
    }
}
