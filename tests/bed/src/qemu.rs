//! The machine that QEMU emulates: what every boot of Xen has in common.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host;

/// The processor: a plain one with SVM and nested paging, for PVH guests. Richer ones bring trouble: a Debian PV dom0
/// does not survive SMAP and SMEP, Xen dies of MONITOR when it idles, RDTSCP hangs PVH guests, and with AVX programs in
/// dom0 now and then find their memory corrupted when a PVH guest runs beside them (malloc's complaints in dom0's QEMU).
const CPU: &str = "qemu64,+svm,+npt";

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
        qemu.args(["-machine", "q35,accel=tcg", "-cpu", CPU, "-smp", "2"])
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
