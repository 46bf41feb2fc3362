//! Guest domains: their xl configuration, their console, and how they ended.

mod ended;
mod guest;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fail;
use crate::host::{Context, Result};
use crate::tail::{self, Tail};
use crate::xen::{Bed, Job};

pub use ended::{Ended, Reason, Verdict};
pub use guest::{Backend, Guest, Kind, quoted};

/// How much a guest may print, in bytes.
const CONSOLE_LIMIT: u64 = 64 << 20;

/// How long a domain that is gone may leave its verdict to be waited for.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

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
/// reason 2; it may be gone after that, and another domain may have its name. xl 4.20 goes on following it, and may have
/// removed it first: `$log` has what that xl printed.
const FOLLOW: &str = r#"
id=$(xl domid $name)
while code=$(xl list -v $id 2>/dev/null | awk 'NR == 2 { print $8 }'); [ "$code" = - ] || [ "$code" = 2 ]; do sleep 0.2; done
[ -n "$code" ] || { grep -h 'has shut down' $log /run/create-$name.log 2>/dev/null | tail -n 1; exit 0; }
echo "Domain $id has shut down, reason code $code"
xl destroy $id
"#;

/// Waits until xenconsoled has closed the log of the guest `$name`, which it does when all is in it.
const CLOSED: &str = r#"
while ls -l /proc/$(pidof xenconsoled)/fd | grep -q "/guest-$name.log$"; do sleep 0.05; done
"#;

/// How long `xl save` may take.
const SAVING: Duration = Duration::from_secs(900);

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

/// Where xenconsoled writes what a guest prints.
fn console_in(bed: &Bed, name: &str) -> PathBuf {
    bed.path().join(format!("console/guest-{name}.log"))
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
        let console = console_in(bed, &guest.name);
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

    /// Waits for the end of a domain that went on after a checkpoint: xl before 4.20 stops to follow it when it is suspended.
    pub fn follow(&mut self, bed: &mut Bed) -> Result<()> {
        if !self.followed {
            let log = bed.output_path(&self.job);
            let log = log.file_name().unwrap_or_default().display();
            let script = format!("name={} log=/host/job/{log}\n{FOLLOW}", self.name);
            self.job = bed.start_job(&script)?;
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

    /// Takes the domain to the other machine of a pair by `xl migrate`, live. Returns what xl printed if that failed; the
    /// domain is to go on here then.
    pub fn migrate(&mut self, from: &mut Bed, to: &mut Bed) -> Result<Option<String>> {
        let script = format!("exec xl migrate -s peer {} other", self.name);
        let done = from.run(&script, SAVING)?;
        if done.status != 0 {
            self.followed = false;
            self.follow(from)?;
            return Ok(Some(done.output));
        }
        // xenconsoled goes by the name that the domain had when it arrived.
        self.console = console_in(to, &format!("{}--incoming", self.name));
        self.shown = Tail::new(self.console.clone());
        self.followed = false;
        self.follow(to)?;
        Ok(None)
    }

    /// Takes the domain to the other machine of a pair in a file: `xl save` here, `xl restore` there. It stands still meanwhile.
    pub fn carry(&mut self, from: &mut Bed, to: &mut Bed, guest: &Guest) -> Result<()> {
        self.save(from, "")?;
        let file = format!("{}.save", self.name);
        let (here, there) = (from.path().join(&file), to.path().join(&file));
        fs::copy(&here, &there).during("copy to the other machine", &here)?;
        self.console = console_in(to, &self.name);
        self.shown = Tail::new(self.console.clone());
        self.restore(to, Some(guest))?;
        let arrived = format!(
            "until xenstore-exists /local/domain/$(xl domid {} 2>/dev/null)/console/tty; do sleep 0.1; done",
            self.name
        );
        to.run(&arrived, SAVING).map(drop)
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

    /// Whether anything is on the console.
    pub fn has_printed(&self) -> bool {
        fs::metadata(&self.console).is_ok_and(|console| console.len() > 0)
    }

    /// All that is on the console until now.
    pub fn console(&self) -> String {
        tail::text(&self.console)
    }

    /// Fails if the guest has printed more than the limit.
    fn check_size(&self) -> Result<()> {
        match fs::metadata(&self.console) {
            Ok(console) if console.len() > CONSOLE_LIMIT => Err(fail!(
                "the guest {} has printed more than {} MiB and was given up; the end of it:\n{}",
                self.name,
                CONSOLE_LIMIT >> 20,
                tail::end(&self.console(), 5)
            )),
            _ => Ok(()),
        }
    }

    /// Ends it at once, if it still runs.
    pub fn destroy(&mut self, bed: &mut Bed) -> Result<()> {
        let script = format!("xl destroy {} 2>/dev/null || true", self.name);
        bed.run(&script, Duration::from_secs(60)).map(drop)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
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
    /// power off, before it writes its log. A guest of ours has a last line; for another one's sake this waits until
    /// xenconsoled has closed the log.
    fn wait_for_last_words(&self, bed: &mut Bed) -> Result<()> {
        let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
        while Verdict::from_console(&self.console()) == Verdict::Missing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if bed.wait(&self.job, Duration::from_millis(10))?.is_some() {
                let closed = bed.start_job(&format!("name={}\n{CLOSED}", self.name))?;
                bed.wait(&closed, left)?;
                return Ok(());
            }
        }
        Ok(())
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
                    self.wait_for_last_words(bed)?;
                }
                meanwhile(self)?;
                return Ok(Some(Ended {
                    reason,
                    console: self.console(),
                    xl,
                }));
            }
            meanwhile(self)?;
            self.check_size()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }
}
