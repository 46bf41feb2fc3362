//! Guests as xl is to make them.

use crate::fail;
use crate::host::Result;
use crate::qemu::PVH_CPU;

/// Longest command line a PV guest can be given, in bytes: start_info.cmd_line with its final NUL (Xen
/// public/xen.h, MAX_GUEST_CMDLINE).
const PV_COMMAND_LINE: usize = 1024;

/// How xl is given the image of an HVM guest: an ELF file that is run in place of the firmware, with no device but Xen's
/// to be of use. xl wants a BIOS all the same, which is any file, as no firmware looks at it.
const HVM_KERNEL: &str = "bios=\"seabios\"\nbios_path_override=\"/init\"\nnographic=1\nvnc=0\nsdl=0\nserial=\"none\"\nvga=\"none\"\nfirmware_override";

/// Domain type, the xl option `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Paravirtualised.
    Pv,
    /// In a hardware container, entered in 32-bit mode.
    Pvh,
    /// The same with an emulated PC around it. An ELF image is loaded in place of the firmware.
    Hvm,
}

impl Kind {
    /// xl's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pv => "pv",
            Kind::Pvh => "pvh",
            Kind::Hvm => "hvm",
        }
    }
}

/// What serves a guest's 9pfs devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// QEMU, started by xl.
    Qemu,
    /// xen-9pfsd, started by xl.
    Daemon,
    /// QEMU, started by hand while the guest is paused: for an xl that starts none.
    QemuByHand,
    /// xen9pd, for devices that xl makes for a daemon: `type=xen_9pfsd`.
    Xen9pd,
    /// xen9pd, for devices that xl makes for QEMU.
    Xen9pdInstead,
}

impl Backend {
    /// A name for it, for tests.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Qemu => "xen",
            Backend::QemuByHand => "xen4.20-qemu",
            Backend::Daemon => "xen4.20-9pfsd",
            Backend::Xen9pd => "xen9pd",
            Backend::Xen9pdInstead => "xen9pd-untyped",
        }
    }

    /// Whether it is the project's own daemon.
    pub fn is_xen9pd(self) -> bool {
        matches!(self, Backend::Xen9pd | Backend::Xen9pdInstead)
    }
}

/// A guest as `xl create` is to make it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name, unique among the guests of one bed.
    pub name: String,
    /// PV or PVH.
    pub kind: Kind,
    /// Path of the image in dom0.
    pub kernel: String,
    /// Path in dom0 of the first file system, if it gets one.
    pub ramdisk: Option<String>,
    /// Its memory, in MiB.
    pub memory: u32,
    /// Its virtual processors.
    pub vcpus: u32,
    /// Its command line.
    pub command_line: String,
    /// Its 9pfs devices: tag, and directory in dom0.
    pub shares: Vec<(String, String)>,
    /// What serves them.
    pub backend: Backend,
    /// Further lines of xl's configuration, which outdo those that are made of the rest.
    pub more: String,
}

impl Guest {
    /// The file that `xl create` reads.
    pub fn config(&self) -> Result<String> {
        let len = self.command_line.len();
        if self.kind == Kind::Pv && len >= PV_COMMAND_LINE {
            return Err(fail!(
                "the command line takes {len} bytes, a PV guest can be given {}; shorten it, or make the guest PVH",
                PV_COMMAND_LINE - 1
            ));
        }
        if self.kind == Kind::Hvm && (len > 0 || self.ramdisk.is_some()) {
            return Err(fail!(
                "an HVM guest's image is run in place of the firmware, which gets neither command line nor ramdisk"
            ));
        }
        let command_line = match self.kind {
            Kind::Hvm => String::new(),
            Kind::Pv | Kind::Pvh => format!("extra={}\n", quoted(&self.command_line)),
        };
        let served_by = match self.backend {
            Backend::Qemu | Backend::QemuByHand | Backend::Xen9pdInstead => "",
            Backend::Daemon | Backend::Xen9pd => ",type=xen_9pfsd",
        };
        let shares: Vec<String> = self
            .shares
            .iter()
            .map(|(tag, path)| {
                quoted(&format!(
                    "tag={tag},path={path},security_model=none{served_by}"
                ))
            })
            .collect();
        let ramdisk = match &self.ramdisk {
            Some(path) => format!("ramdisk={}\n", quoted(path)),
            None => String::new(),
        };
        let cpus = match self.kind {
            Kind::Pvh | Kind::Hvm => format!("cpus={}\n", quoted(PVH_CPU)),
            Kind::Pv => String::new(),
        };
        let kernel = match self.kind {
            Kind::Hvm => HVM_KERNEL,
            Kind::Pv | Kind::Pvh => "kernel",
        };
        Ok(format!(
            "{ramdisk}{cpus}name={}\ntype={}\n{kernel}={}\nmemory={}\nvcpus={}\n{command_line}p9=[{}]\n\
             on_poweroff=\"destroy\"\non_reboot=\"destroy\"\non_crash=\"destroy\"\n{}\n",
            quoted(&self.name),
            quoted(self.kind.name()),
            quoted(&self.kernel),
            self.memory,
            self.vcpus,
            shares.join(","),
            self.more
        ))
    }

    /// The same guest with one more 9pfs device, whose directory is one of dom0's.
    pub fn with(mut self, tag: &str, directory: impl Into<String>) -> Guest {
        self.shares.push((tag.to_owned(), directory.into()));
        self
    }
}

/// A string of xl's configuration language. (Its hexadecimal escapes exist, but xl 4.17 misreads them.)
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c.is_ascii_control() => out += &format!("\\{:03o}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_command_line_can_end_its_string() {
        assert_eq!(quoted(r#"a "b" 'c' \ d"#), r#""a \"b\" 'c' \\ d""#);
        assert_eq!(quoted("ü\n\u{1b}"), r#""ü\n\033""#);
    }

    #[test]
    fn a_command_line_too_long_for_pv_is_refused() {
        let mut guest = Guest {
            name: "g".into(),
            kind: Kind::Pv,
            kernel: "/k".into(),
            ramdisk: None,
            memory: 16,
            vcpus: 1,
            command_line: "x".repeat(1023),
            shares: vec![],
            backend: Backend::Qemu,
            more: String::new(),
        };
        assert!(guest.config().is_ok());
        guest.command_line.push('x');
        assert!(guest.config().is_err());
        guest.kind = Kind::Pvh;
        assert!(guest.config().is_ok());
    }
}
