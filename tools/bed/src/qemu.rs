//! The machine that QEMU emulates: what every boot of Xen has in common.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::accel::Accelerator;
use crate::host::{self, Context, Result};

/// The processor that is emulated: a plain one with SVM and nested paging, for PVH guests. Richer ones bring trouble: a
/// Debian PV dom0 does not survive SMAP and SMEP, Xen dies of MONITOR when it idles, RDTSCP hangs PVH guests, and with AVX
/// programs in dom0 now and then find their memory corrupted when a PVH guest runs beside them (malloc's complaints in
/// dom0's QEMU).
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
    /// What runs it.
    pub accelerator: Accelerator,
    /// The hypervisor.
    pub xen: &'a Path,
    /// Xen's options beyond those that all boots have.
    pub xen_options: &'a str,
    /// dom0's kernel.
    pub kernel: &'a Path,
    /// dom0's command line.
    pub kernel_options: &'a str,
    /// dom0's first file system.
    pub initrd: Option<&'a Path>,
    /// Machine memory, in MiB.
    pub memory: u32,
    /// Name of the file in the machine's directory that the console of Xen and dom0 goes to.
    pub console: &'a str,
}

impl Machine<'_> {
    /// The command that runs it, in a directory of its own. QEMU ends when Xen wants to reboot.
    pub fn command(&self, directory: &Path) -> Result<Command> {
        // QEMU takes a blank for the end of the path of a multiboot module: it gets names without one.
        let link = |path: &Path, name: &str| {
            let link = directory.join(name);
            symlink(path, &link).during("create", &link)
        };
        link(self.kernel, "dom0-kernel")?;
        // A doubled comma stands for itself.
        let mut modules = format!("dom0-kernel {}", self.kernel_options.replace(',', ",,"));
        if let Some(initrd) = self.initrd {
            link(initrd, "dom0-initrd")?;
            modules += ",dom0-initrd";
        }
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("q35,accel=kvm", "host"),
            Accelerator::Tcg => ("q35,accel=tcg", CPU),
        };
        let mut qemu = host::tied("qemu-system-x86_64");
        qemu.current_dir(directory)
            .args(["-machine", accelerator, "-cpu", cpu, "-smp", CPUS])
            .args(["-m", &format!("{}M", self.memory)])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(self.xen)
            .args(["-append", &format!("{XEN_OPTIONS} {}", self.xen_options)])
            .args(["-initrd", &modules])
            .args(["-serial", &format!("file:{}", self.console)]);
        Ok(qemu)
    }
}
