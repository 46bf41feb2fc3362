//! The machine that QEMU emulates: what every boot of Xen has in common.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host;

/// The processor: a plain one with SVM and nested paging, for PVH guests. Richer ones bring trouble: a Debian PV dom0
/// does not survive SMAP and SMEP, Xen dies of MONITOR when it idles, RDTSCP hangs PVH guests, and with AVX programs in
/// dom0 now and then find their memory corrupted when a PVH guest runs beside them (malloc's complaints in dom0's QEMU).
const CPU: &str = "qemu64,+svm,+npt";

/// Number of processors.
const CPUS: &str = "2";

/// The processor for PVH guests: not the first.
///
/// In QEMU (7.2 up to today's at least) every processor that loads the state of its FPU, as Xen does for each context
/// switch, writes to a word of the *first* processor's state, in order to withdraw IGNNE#, and not atomically
/// (`cpu_clear_ignne`). The same word has whether nested paging is on. When the first processor enters a guest at that
/// moment, the guest runs without nested paging, and ends by a triple fault at its next instruction.
pub const PVH_CPU: &str = "1";

/// Xen's own options: its console on the first serial port, nothing that takes time for nothing.
const XEN_OPTIONS: &str = "console=com1 cpuidle=0 bootscrub=0 loglvl=warning guest_loglvl=all";

/// A machine that boots Xen.
pub struct Machine<'a> {
    /// The hypervisor.
    pub xen: &'a Path,
    /// Xen's options beyond those that all boots have.
    pub xen_options: &'a str,
    /// dom0's kernel.
    pub kernel: &'a Path,
    /// dom0's command line.
    pub kernel_options: &'a str,
    /// dom0's file system, if it has one.
    pub initrd: Option<&'a Path>,
    /// Memory, in MiB.
    pub memory: u32,
    /// Where the console of Xen and dom0 goes.
    pub console: PathBuf,
}

impl Machine<'_> {
    /// The command that runs it. QEMU ends when Xen wants to reboot.
    pub fn command(&self) -> Command {
        // QEMU parts the multiboot modules by commas; a doubled one stands for itself.
        let escape = |text: &str| text.replace(',', ",,");
        let mut modules = format!(
            "{} {}",
            escape(&self.kernel.display().to_string()),
            escape(self.kernel_options)
        );
        if let Some(initrd) = self.initrd {
            modules += &format!(",{}", escape(&initrd.display().to_string()));
        }
        let mut qemu = host::tied("qemu-system-x86_64");
        qemu.args(["-machine", "q35,accel=tcg", "-cpu", CPU, "-smp", CPUS])
            .args(["-m", &format!("{}M", self.memory)])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(self.xen)
            .args(["-append", &format!("{XEN_OPTIONS} {}", self.xen_options)])
            .args(["-initrd", &modules])
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()));
        qemu
    }
}
