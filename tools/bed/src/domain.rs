//! Guest domains: their xl configuration, their console, and how they ended.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fail;
use crate::host::{Context, Result};
use crate::qemu::PVH_CPU;
use crate::tail::{self, Tail};
use crate::xen::{Bed, Job};

/// Longest command line a PV guest can be given, in bytes: start_info.cmd_line with its final NUL (Xen
/// public/xen.h, MAX_GUEST_CMDLINE).
const PV_COMMAND_LINE: usize = 1024;

/// How long a domain that is gone may leave its verdict to be waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Saves domain `$name` with options `$options`. The file is on this machine, as dom0's memory is short, and goes there
/// by way of a pipe: libxl writes pages of another domain, which Linux does not send to a directory of another machine.
const SAVE: &str = r#"
pipe=/run/save.pipe
[ -p $pipe ] || mkfifo $pipe
cat $pipe > /host/$name.save &
xl save $options $name $pipe > /run/save.log 2>&1
status=$?
[ $status = 0 ] || kill $!
wait
grep -v progress: /run/save.log
exit $status
"#;

/// Waits until domain `$name` has stopped, says so in xl's words, and removes it. Each save stops it for a while, with
/// reason 2; it may be gone after that, and another domain may have its name. xl 4.20 may have gone on following it, and
/// removed it first.
const FOLLOW: &str = r#"
id=$(xl domid $name)
while code=$(xl list -v $id 2>/dev/null | awk 'NR == 2 { print $8 }'); [ "$code" = - ] || [ "$code" = 2 ]; do sleep 0.2; done
[ -n "$code" ] || { grep 'has shut down' /run/create-$name.log 2>/dev/null | tail -n 1; exit 0; }
echo "Domain $id has shut down, reason code $code"
xl destroy $id
"#;

/// How long `xl save` may take.
const SAVING: Duration = Duration::from_secs(900);

/// Domain type, the xl option `type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Paravirtualised.
    Pv,
    /// In a hardware container, entered in 32-bit mode.
    Pvh,
}

impl Kind {
    /// xl's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pv => "pv",
            Kind::Pvh => "pvh",
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
}

impl Guest {
    /// The file that `xl create` reads.
    pub fn config(&self) -> Result<String> {
        let len = self.command_line.len();
        if self.kind == Kind::Pv && len >= PV_COMMAND_LINE {
            return Err(fail!(
                "the command line takes {len} bytes, a PV guest can be given {}; use TYPE=pvh or shorten APP",
                PV_COMMAND_LINE - 1
            ));
        }
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
            Kind::Pvh => format!("cpus={}\n", quoted(PVH_CPU)),
            Kind::Pv => String::new(),
        };
        Ok(format!(
            "{ramdisk}{cpus}name={}\ntype={}\nkernel={}\nmemory={}\nvcpus={}\nextra={}\np9=[{}]\n\
             on_poweroff=\"destroy\"\non_reboot=\"destroy\"\non_crash=\"destroy\"\n",
            quoted(&self.name),
            quoted(self.kind.name()),
            quoted(&self.kernel),
            self.memory,
            self.vcpus,
            quoted(&self.command_line),
            shares.join(",")
        ))
    }
}

/// Script that makes xl start another xen-9pfsd when the one it believes to run has died: the daemon of Xen 4.20 does not
/// survive every guest.
const NEW_DAEMON: &str =
    "pidof xen-9pfsd >/dev/null || xenstore-rm /local/domain/0/libxl/xen-9pfs 2>/dev/null\n";

/// Script that makes the domain with the name `$name`, once more if the daemon died of its predecessor at that moment.
const CREATE_WITH_DAEMON: &str = r#"
for try in 1 2; do
    status=0
    xl create -F /host/$name.cfg >/run/create-$name.log 2>&1 || status=$?
    [ $try = 1 ] && grep -q 'unable to add 9pfs devices' /run/create-$name.log && ! pidof xen-9pfsd >/dev/null || break
    xenstore-rm /local/domain/0/libxl/xen-9pfs 2>/dev/null || true
done
cat /run/create-$name.log
exit $status
"#;

/// Script that starts QEMU for the paused domain `$1`, as `$qemu`, and waits until it offers all shares.
fn qemu_by_hand(guest: &Guest) -> String {
    format!(
        "/usr/libexec/xen-qemu-system-i386 -xen-domid $1 -xen-attach -name {name} -nodefaults -no-user-config -vnc none \
         -display none -machine xenpv -m {memory} </dev/null >/var/log/xen/qemu-dm-{name}.log 2>&1 &\n\
         qemu=$!\n\
         for share in $(seq 0 {last}); do for try in $(seq 600); do\n\
         test \"$(xenstore-read /local/domain/0/backend/9pfs/$1/$share/state)\" != 2 || break\n\
         test -d /proc/$qemu; sleep 0.05\n\
         done; done\n",
        name = guest.name,
        memory = guest.memory,
        last = guest.shares.len() - 1,
    )
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

/// What xl says of how a domain ended (Xen public/sched.h, SHUTDOWN_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The guest powered off.
    PowerOff,
    /// It asked to be started again.
    Reboot,
    /// It crashed, or told so.
    Crash,
    /// Something else: suspend, watchdog, soft reset.
    Other(u32),
}

impl Reason {
    fn from_xl(output: &str) -> Option<Reason> {
        let rest = output.split("has shut down, reason code ").nth(1)?;
        let code = rest.split_whitespace().next()?.parse().ok()?;
        Some(match code {
            0 => Reason::PowerOff,
            1 => Reason::Reboot,
            3 => Reason::Crash,
            other => Reason::Other(other),
        })
    }
}

/// How a domain ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why, as Xen was told; `None` if xl could not create it, or it vanished.
    pub reason: Option<Reason>,
    /// All that was on its console.
    pub console: String,
    /// What xl printed.
    pub xl: String,
}

/// What the guest itself had to say at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// `[xen9p] exit N`
    Exit(i32),
    /// `[xen9p] panic: TEXT`
    Panic(String),
    /// Neither.
    Missing,
}

impl Verdict {
    /// Finds it on a console.
    pub fn from_console(console: &str) -> Verdict {
        for line in console.lines().rev() {
            if let Some((_, text)) = line.split_once("[xen9p] panic: ") {
                return Verdict::Panic(text.trim_end().to_owned());
            }
            if let Some((_, status)) = line.split_once("[xen9p] exit ")
                && let Ok(status) = status.trim().parse()
            {
                return Verdict::Exit(status);
            }
        }
        Verdict::Missing
    }
}

/// A domain that was asked for: being made, running, or gone.
pub struct Domain {
    name: String,
    job: Job,
    console: PathBuf,
    shown: Tail,
    /// Whether the job outlives checkpoints.
    followed: bool,
}

impl Domain {
    /// Has xl make the guest and run it.
    pub fn create(bed: &mut Bed, guest: &Guest) -> Result<Domain> {
        if guest.backend == Backend::QemuByHand && !guest.shares.is_empty() {
            return Self::create_after(bed, guest, &qemu_by_hand(guest));
        }
        let name = &guest.name;
        let script = match guest.backend {
            Backend::Daemon => format!("name={name}{CREATE_WITH_DAEMON}"),
            _ => format!("exec xl create -F /host/{name}.cfg"),
        };
        Self::create_by(bed, guest, &script)
    }

    /// Has xl make the guest, runs a script in dom0 with the domain's id as `$1`, and lets the guest run.
    pub fn create_after(bed: &mut Bed, guest: &Guest, script: &str) -> Result<Domain> {
        let name = &guest.name;
        let script = format!(
            "set -e\nxl create -p /host/{name}.cfg\nset -- $(xl domid {name})\n{script}\nxl unpause {name}\n\
             log=/var/log/xen/xl-{name}.log\n\
             until grep -q 'has shut down' $log; do sleep 0.1; done; cat $log\n\
             test -z \"$qemu\" || kill $qemu\n"
        );
        Self::create_by(bed, guest, &script)
    }

    /// Runs a script in dom0 that makes the guest from `/host/NAME.cfg`, lets it run, and prints xl's record of how it
    /// ended.
    pub fn create_by(bed: &mut Bed, guest: &Guest, script: &str) -> Result<Domain> {
        let config = bed.path().join(format!("{}.cfg", guest.name));
        fs::write(&config, guest.config()?).during("write", &config)?;
        let prepare = match guest.backend {
            Backend::Daemon => NEW_DAEMON,
            _ => "",
        };
        let job = bed.start_job(&format!("{prepare}{script}"))?;
        let console = bed.path().join(format!("console/guest-{}.log", guest.name));
        Ok(Domain {
            name: guest.name.clone(),
            job,
            shown: Tail::new(console.clone()),
            console,
            followed: false,
        })
    }

    /// Has xl save the domain to a file, by `xl save` with these options.
    pub fn save(&self, bed: &mut Bed, options: &str) -> Result<()> {
        let name = &self.name;
        let script = format!("name={name} options='{options}'\n{SAVE}");
        let done = bed.run(&script, SAVING)?;
        match done.status {
            0 => Ok(()),
            status => Err(fail!(
                "xl save ended with status {status}:\n{}",
                done.output.trim_end()
            )),
        }
    }

    /// Waits for the end of a domain that went on after a checkpoint: xl stops to follow it when it is suspended.
    pub fn follow(&mut self, bed: &mut Bed) -> Result<()> {
        if !self.followed {
            self.job = bed.start_job(&format!("name={}\n{FOLLOW}", self.name))?;
            self.followed = true;
        }
        Ok(())
    }

    /// Has xl make a new domain of the one that was saved, with the shares of another guest if there is one.
    pub fn restore(&mut self, bed: &mut Bed, guest: Option<&Guest>) -> Result<()> {
        let name = &self.name;
        if let Some(guest) = guest {
            let config = bed.path().join(format!("{name}.cfg"));
            fs::write(&config, guest.config()?).during("write", &config)?;
        }
        // The console's terminal is another one.
        let script = format!(
            "rm -f /run/tty-{name}\nexec xl restore -F /host/{name}.cfg /host/{name}.save\n"
        );
        self.job = bed.start_job(&script)?;
        self.followed = false;
        Ok(())
    }

    /// Types on the console, as `xl console` would. The domain has to be there.
    pub fn types(&self, bed: &mut Bed, keys: &[u8]) -> Result<()> {
        let name = &self.name;
        let octal: String = keys.iter().map(|key| format!("\\\\{key:03o}")).collect();
        // The terminal that xenconsoled made for it is looked up once.
        let script = format!(
            "tty=/run/tty-{name}\n[ -s $tty ] || xenstore-read /local/domain/$(xl domid {name})/console/tty >$tty\n\
             printf {octal} >$(cat $tty)\n"
        );
        match bed.run(&script, Duration::from_secs(60))? {
            done if done.status == 0 => Ok(()),
            done => Err(fail!(
                "cannot type on the console of {name}: {}",
                done.output.trim_end()
            )),
        }
    }

    /// Copies to `out` what has appeared on the console since the last call.
    pub fn show_console(&mut self, out: &mut impl Write) -> Result<()> {
        self.shown.copy_new(out)
    }

    /// All that is on the console until now.
    pub fn console(&self) -> String {
        tail::text(&self.console)
    }

    /// What xl has printed until now.
    pub fn xl(&self, bed: &Bed) -> Result<String> {
        bed.output_so_far(&self.job)
    }

    /// Whether the domain has ended. Waits a few milliseconds for news.
    pub fn has_ended(&mut self, bed: &mut Bed) -> Result<bool> {
        Ok(self.wait(bed, Some(Instant::now()), |_| Ok(()))?.is_some())
    }

    /// Gives xenconsoled time to write down the end of the console: it takes the text from the guest, who then may
    /// power off, before it writes its log.
    fn wait_for_last_words(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline
            && Verdict::from_console(&self.console()) == Verdict::Missing
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end of the domain; `None` if it still runs at the deadline. `meanwhile` is called every
    /// few milliseconds.
    pub fn wait(
        &mut self,
        bed: &mut Bed,
        deadline: Option<Instant>,
        mut meanwhile: impl FnMut(&mut Domain) -> Result<()>,
    ) -> Result<Option<Ended>> {
        loop {
            let done = bed.wait(&self.job, Duration::from_millis(10))?;
            let xl = self.xl(bed)?;
            let reason = Reason::from_xl(&xl);
            // xl still has the remains of the domain to remove when it knows the reason: no need to wait for that.
            if done.is_some() || reason.is_some() {
                if reason.is_some() {
                    self.wait_for_last_words();
                }
                meanwhile(self)?;
                return Ok(Some(Ended {
                    reason,
                    console: self.console(),
                    xl,
                }));
            }
            meanwhile(self)?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts() {
        assert_eq!(Verdict::from_console("hello\n"), Verdict::Missing);
        assert_eq!(
            Verdict::from_console("[xen9p] exit 3\r\n"),
            Verdict::Exit(3)
        );
        assert_eq!(
            Verdict::from_console("[xen9p] exit 0\nregisters\n[xen9p] panic: page fault at 0x10\n"),
            Verdict::Panic("page fault at 0x10".to_owned())
        );
    }

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
        };
        assert!(guest.config().is_ok());
        guest.command_line.push('x');
        assert!(guest.config().is_err());
        guest.kind = Kind::Pvh;
        assert!(guest.config().is_ok());
    }

    #[test]
    fn reasons_are_read_from_what_xl_prints() {
        assert_eq!(
            Reason::from_xl("Domain 3 has shut down, reason code 3 0x3\n"),
            Some(Reason::Crash)
        );
        assert_eq!(Reason::from_xl("Parsing config\n"), None);
    }
}
