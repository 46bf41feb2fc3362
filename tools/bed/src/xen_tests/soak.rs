//! `make soak`: a guest works on two shares for minutes or hours, while dom0 keeps killing their backend, and saves the
//! guest and restores it. What is right to the last byte in the guest's eyes has to be so on this machine's disk, too.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::lab::{Lab, Share, ends_with, names_in};
use crate::domain::Domain;
use crate::host::{Context, Result};
use crate::{fail, say};

/// How long a soak is unless the user says.
const MINUTES: u64 = 3;

/// The shortest and the longest time between two disturbances, in seconds.
const CALM: (u64, u64) = (4, 25);

/// The longest time that the backend stays away, in tenths of a second.
const REPAIR: u64 = 30;

/// How long the guest may take beyond its time: to begin, and to look at everything at its end.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// Serves both shares of the domain with the name `$name` with one QEMU after another, as an administrator would who
/// knows that QEMU takes up only backends in state 1. The first is xl's, at the domain's creation and at each restore,
/// which makes another domain of it. A domain that is `saved` needs none until then.
const KEEPER: &str = r#"
served=
while ! [ -e $soak/over ]; do
    if [ -e $soak/saved ] || ! id=$(xl domid $name 2>/dev/null); then sleep 0.1; continue; fi
    if [ "$id" != "$served" ]; then
        pid=$(xenstore-read /local/domain/$id/image/device-model-pid 2>/dev/null) || { sleep 0.1; continue; }
        served=$id
        program=$(readlink /proc/$pid/exe || echo $program)
        echo $pid >$soak/pid
        while grep -q -e '^State:[[:space:]]*[A-Y]' /proc/$pid/status 2>/dev/null; do sleep 0.1; done
        continue
    fi
    sleep $(cat $soak/pause)
    ! [ -e $soak/saved ] || continue
    for share in 0 1; do xenstore-write /local/domain/0/backend/9pfs/$id/$share/state 1; done
    $program -xen-domid $id -xen-attach -name $name -nodefaults -no-user-config -vnc none -display none \
        -machine xenpv,accel=xen -m 64 >>/var/log/xen/qemu-dm-$name.log 2>&1 </dev/null &
    echo $! >$soak/pid
    wait $!
    echo "QEMU $! ended with $?"
done
"#;

/// Ends the QEMU that serves the shares now, as no program can notice.
const KILL: &str = "kill -9 $(cat $soak/pid) 2>/dev/null || true\n";

/// What happens to the guest now and then. A place for more of it.
const DISTURBANCES: &[(&str, Disturbance)] = &[
    ("the backend is killed", kill),
    ("the guest is saved and restored", restore),
    ("the guest is saved and goes on", checkpoint),
];

/// Returns for how long, at the least, the guest's clock stood still.
type Disturbance = fn(&mut Soak<'_, '_>, &mut Domain) -> Result<Duration>;

/// What the guest says when it runs again.
const RESTORED: &str = "stop: the domain was saved and restored";

/// A soak that is under way.
struct Soak<'a, 'b> {
    lab: &'a mut Lab<'b>,
    /// Sets the variables that the scripts use.
    variables: String,
    chance: Chance,
    files: Share,
    times: u32,
    /// Connections that the guest had found before the latest disturbance that cost it some.
    overcome: Option<usize>,
}

/// How many connections the guest has found again, by its console.
fn overcome(console: &str) -> usize {
    console.matches("goes on after").count()
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (bits ^ bits >> 31) % (most - least + 1)
    }
}

/// Runs it for the time that was asked for.
pub fn soak(lab: &mut Lab<'_>) -> Result<()> {
    let settings = lab.settings();
    let minutes = settings.minutes.unwrap_or(MINUTES);
    let seed = settings.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64 % 65_536 + 1)
    });
    say!("soak: {minutes} min, SEED={seed}");
    let times = run(lab, minutes * 60, seed)?;
    say!("soak: right to the last byte after {times} disturbances");
    Ok(())
}

fn run(lab: &mut Lab<'_>, seconds: u64, seed: u64) -> Result<u32> {
    let shares = [lab.directory()?, lab.directory()?];
    let files = lab.directory()?;
    files.write("pause", b"0")?;
    let command = format!("share=one recovery=reattach:300 {seconds} {seed}");
    let mut guest = lab.guest_of("soak", &command)?;
    guest.memory = 64;
    let guest = guest.with("one", &shares[0]).with("two", &shares[1]);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "soak: begins")?;
    let over = Instant::now() + Duration::from_secs(seconds);
    let variables = format!("name={}\nsoak={}\n", guest.name, files.in_dom0);
    let keeper = lab.bed()?.start_job(&format!("{variables}{KEEPER}"))?;
    let known = Instant::now() + STEP_TIMEOUT;
    while !files.path.join("pid").exists() {
        if domain.has_ended(lab.bed()?)? || Instant::now() >= known {
            return Err(fail!("the backend of the guest was not found"));
        }
    }
    let mut soak = Soak {
        lab,
        variables,
        chance: Chance(seed),
        files,
        times: 0,
        overcome: None,
    };
    let ended = soak.disturb(&mut domain, over);
    soak.files.write("over", b"")?;
    soak.dom0(KILL)?;
    let (lab, times, lost) = (soak.lab, soak.times, soak.overcome.is_some());
    let backends = lab.bed()?.wait(&keeper, STEP_TIMEOUT)?;
    let backends = backends.ok_or_else(|| fail!("the last QEMU does not end"))?;
    let console = ended?;
    print!("{}", backends.output);
    // A backend may be killed again before it serves: not every death costs a connection.
    let found = overcome(&console);
    let told = console.matches(" operations, ").count();
    if told == 0 || (lost && found == 0) {
        return Err(fail!(
            "{times} disturbances, but {found} connections found and {told} reports"
        ));
    }
    shares.iter().try_for_each(holds_what_is_listed)?;
    Ok(times)
}

impl Soak<'_, '_> {
    /// Lets the guest have no rest until it ends. Returns its console.
    fn disturb(&mut self, domain: &mut Domain, mut over: Instant) -> Result<String> {
        let mut deadline = over + STEP_TIMEOUT;
        let mut told = 0;
        loop {
            let calm = Duration::from_secs(self.chance.between(CALM.0, CALM.1));
            let next = match Instant::now() + calm {
                next if next < over => next,
                // From here on it has to come to its end.
                _ => deadline,
            };
            let ended = domain.wait(self.lab.bed()?, Some(next), |domain| {
                let console = domain.console();
                let whole = console.rfind('\n').map_or(0, |end| end + 1);
                for line in console[told..whole].lines() {
                    println!("       {line}");
                }
                told = whole;
                Ok(())
            })?;
            if let Some(ended) = ended {
                ends_with(&ended, 0)?;
                return Ok(ended.console);
            }
            if Instant::now() >= deadline {
                return Err(fail!("the guest does not come to its end"));
            }
            // One in four comes before the guest is over the last one.
            let overcome = overcome(&domain.console());
            let is_over_it = self.overcome.is_none_or(|before| overcome > before);
            if !is_over_it && self.chance.between(1, 4) > 1 {
                continue;
            }
            let which = self.chance.between(0, DISTURBANCES.len() as u64 - 1);
            let (name, act) = DISTURBANCES[which as usize];
            self.times += 1;
            say!("{}: {name}", self.times);
            let began = Instant::now();
            over += act(self, domain)?;
            deadline += began.elapsed();
        }
    }

    /// Remembers that connections are lost now.
    fn costs(&mut self, domain: &Domain) {
        self.overcome = Some(overcome(&domain.console()));
    }

    fn dom0(&mut self, script: &str) -> Result<()> {
        let script = format!("{}{script}", self.variables);
        self.lab.dom0(&script).map(drop)
    }
}

fn kill(soak: &mut Soak<'_, '_>, domain: &mut Domain) -> Result<Duration> {
    soak.costs(domain);
    let tenths = soak.chance.between(0, REPAIR);
    let pause = format!("{}.{}", tenths / 10, tenths % 10);
    soak.files.write("pause", pause.as_bytes())?;
    soak.dom0(KILL)?;
    Ok(Duration::ZERO)
}

fn restore(soak: &mut Soak<'_, '_>, domain: &mut Domain) -> Result<Duration> {
    soak.costs(domain);
    let times = domain.console().matches(RESTORED).count() + 1;
    soak.files.write("saved", b"")?;
    domain.save(soak.lab.bed()?, "")?;
    let saved = Instant::now();
    // Only a QEMU of xl's goes with the domain.
    soak.dom0(&format!("{KILL}rm $soak/saved\n"))?;
    domain.restore(soak.lab.bed()?, None)?;
    soak.lab.console_repeats(domain, RESTORED, times)?;
    Ok(saved.elapsed())
}

fn checkpoint(soak: &mut Soak<'_, '_>, domain: &mut Domain) -> Result<Duration> {
    domain.save(soak.lab.bed()?, "-c")?;
    domain.follow(soak.lab.bed()?)?;
    Ok(Duration::ZERO)
}

/// Fails unless the share has the files that the guest has listed at its end, and no other.
fn holds_what_is_listed(share: &Share) -> Result<()> {
    let list = share.path.join("soak.list");
    let list = fs::read_to_string(&list).during("read", &list)?;
    let directory = share.path.join("soak");
    let mut expected: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    expected.sort_unstable();
    if names_in(&directory)? != expected {
        return Err(fail!("{} has other names than listed", directory.display()));
    }
    for line in list.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let path = directory.join(name);
        let content = fs::read(&path).during("read", &path)?;
        let found = format!("{name} {} {:016x}", content.len(), hash(&content));
        if found != line {
            return Err(fail!("on the disk: {found}; in the guest: {line}"));
        }
    }
    Ok(())
}

/// As the guest makes it of a file's content (tests/session/soak/work.rs): FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
