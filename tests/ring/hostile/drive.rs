//! The guest's side: goes through cases on one device while another stays in use. The same code runs on the simulated
//! Xen and in an image under the real one.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use core::time::Duration;

use xen9p::fs::{Error, Fs, MountOptions};
use xen9p::platform::Platform;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::Xen;

use super::cases::{Case, Ends};

/// How long a hostile backend may take for a step, and its server for an answer, where they are to be waited for in vain.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an honest one may, on a machine that is busy with other things.
const TRUST: Duration = Duration::from_secs(60);

/// The most that a case may take, all waits included: each operation is up to its time limit, and so is each step of
/// connecting and disconnecting.
const BOUND: Duration = Duration::from_secs(300);

/// The tag of the device whose backend is hostile.
pub const HOSTILE: &str = "hostile";

/// The tag of the other one.
pub const HONEST: &str = "honest";

/// What the domain holds, as its drivers count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    grants: usize,
    ports: usize,
    watches: usize,
}

/// The guest.
pub struct Guest<P: Platform> {
    xen: Xen<P>,
    honest: Fs,
    /// Whether the backends run at the same time as the guest, rather than while it waits.
    beside: bool,
    scripts: u32,
    held: Held,
}

/// Adds what was being done to an error.
fn during<T, E: Display>(result: Result<T, E>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn ensure(condition: bool, what: &str) -> Result<(), String> {
    condition.then_some(()).ok_or_else(|| what.to_string())
}

fn content() -> Vec<u8> {
    (0..30_000u32).map(|i| (i ^ i >> 8) as u8).collect()
}

impl<P: Platform> Guest<P> {
    /// Mounts the honest device, and puts files on both. `beside` says whether backends run while the guest does.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn new(xen: Xen<P>, beside: bool) -> Result<Self, String> {
        xen.store.set_timeout(TRUST);
        let honest = Self::mount(&xen, HONEST, TRUST)?;
        let held = Held {
            grants: 0,
            ports: 0,
            watches: 0,
        };
        let mut guest = Guest {
            xen,
            honest,
            beside,
            scripts: 0,
            held,
        };
        during(
            guest.honest.write("/witness", content()),
            "the honest share",
        )?;
        guest.held = guest.held();
        guest.tell("")?;
        let hostile = Self::mount(&guest.xen, HOSTILE, TRUST)?;
        let prepared = hostile
            .create_dir("/dir")
            .and_then(|()| hostile.write("/dir/file", content()))
            .and_then(|()| hostile.write("/dir/other", b"short"))
            .and_then(|()| hostile.unmount());
        during(prepared, "preparing the hostile share")?;
        guest.flat()?;
        Ok(guest)
    }

    fn mount(xen: &Xen<P>, tag: &str, timeout: Duration) -> Result<Fs, String> {
        Self::mount_with(xen, tag, 2, timeout)
    }

    fn mount_with(xen: &Xen<P>, tag: &str, order: u8, timeout: Duration) -> Result<Fs, String> {
        let mut config = Config::default();
        config.rings = Some(2);
        config.order = Some(order);
        config.timeout = timeout;
        let options = MountOptions::new().timeout(timeout);
        let device = xen9pfs::device(xen, Some(tag)).map_err(|error| error.to_string())?;
        let transport =
            xen9pfs::connect(xen, device, &config).map_err(|error| error.to_string())?;
        Fs::mount(transport, &options).map_err(|error| error.to_string())
    }

    /// Tells the backend what to do wrong from now on, and waits until it knows.
    fn tell(&mut self, script: &str) -> Result<(), String> {
        self.scripts += 1;
        let store = &self.xen.store;
        let told = format!("{}:{script}", self.scripts);
        let watch = during(store.watch("data/backend-ready"), "watching the backend")?;
        during(
            store.write("data/backend-script", told.as_bytes()),
            "telling the backend",
        )?;
        let deadline = self.xen.events.now() + TRUST;
        loop {
            match store.read_text("data/backend-ready") {
                Ok(answer) if answer == told => return Ok(()),
                Ok(answer) if !answer.contains(':') || answer.starts_with("no ") => {
                    return Err(answer);
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.to_string()),
            }
            if during(watch.wait(deadline), "waiting for the backend")?.is_none() {
                return Err("the backend's program does not follow scripts".into());
            }
        }
    }

    fn held(&self) -> Held {
        self.xen.grants.drain();
        Held {
            grants: self.xen.grants.counters().used_refs,
            ports: self.xen.events.open_ports(),
            watches: self.xen.store.open_watches(),
        }
    }

    /// Everything that the hostile device took is back.
    fn flat(&self) -> Result<(), String> {
        let (before, now) = (self.held, self.held());
        ensure(
            before == now,
            &format!("it holds {now:?} after {before:?} before"),
        )
    }

    /// The honest share still does what it should.
    fn witness(&self) -> Result<(), String> {
        let read = during(self.honest.read("/witness"), "the honest share")?;
        ensure(read == content(), "the honest share has other content")
    }

    /// Uses files in every way that the cases lie about.
    fn work(fs: &Fs) -> Result<(), Error> {
        let content = content();
        let same = |read: Vec<u8>| {
            if read == content {
                Ok(())
            } else {
                Err(Error::InvalidInput(&"wrong content was read"))
            }
        };
        same(fs.read("/dir/file")?)?;
        fs.write("/new", &content)?;
        same(fs.read("/new")?)?;
        fs.read_dir("/dir")?
            .take(1000)
            .try_for_each(|entry| entry.map(drop))?;
        fs.metadata("/dir/other").map(drop)
    }

    /// Goes through one case, and says what came of it.
    ///
    /// # Errors
    /// It did not end as it should.
    pub fn attempt(&mut self, case: &Case) -> Result<String, String> {
        let begin = self.xen.events.now();
        self.tell(case.script)?;
        let (ends, text) = self.meet(if case.is_slow() { MOUNT_TIMEOUT } else { TRUST })?;
        let expected = match case.ends {
            Ends::Either => matches!(ends, Ends::Works | Ends::Broken | Ends::Fails),
            Ends::BrokenIfSeen => ends == Ends::Broken || self.beside && ends == Ends::Works,
            expected => expected == ends,
        };
        ensure(expected, &format!("{ends:?}: {text}, not {:?}", case.ends))?;
        ensure(
            !text.contains('\n') && (text.len() > 10 || text.is_empty()),
            "the error is not one line",
        )?;
        self.witness()?;

        // Pages that the backend has not unmapped yet stay in quarantine; only now it lets go of all.
        let kept = self.xen.grants.counters().quarantined_pages;
        ensure(
            kept > 0 || case.script != "keep-maps",
            "nothing is in quarantine",
        )?;
        self.tell("")?;
        self.flat()?;
        let again = Self::mount(&self.xen, HOSTILE, TRUST)
            .map_err(|error| format!("after {text:?}, connecting anew: {error}"))?;
        during(Self::work(&again), "working with a fresh mount")?;
        during(again.unmount(), "closing the fresh mount")?;
        self.flat()?;
        let took = self.xen.events.now() - begin;
        ensure(took < BOUND, &format!("it took {took:?}"))?;
        Ok(match case.ends {
            Ends::Either => "works, or an error".into(),
            _ if text.is_empty() => "works".into(),
            Ends::Refused => format!("no mount: {text}"),
            Ends::Fails => format!("one operation fails: {text}"),
            _ => text,
        })
    }

    /// Connects to a backend that never lets go of a page until no more can be lost, and says how often that was and
    /// what came then.
    ///
    /// # Errors
    /// It did not end, or did harm.
    #[allow(dead_code, reason = "many connections: on the simulated Xen only")]
    pub fn exhaust(&mut self) -> Result<(usize, String), String> {
        const ORDER: u8 = 5;
        const MAX_CONNECTIONS: usize = 1000;

        self.tell("keep-maps")?;
        let mut connections = 0;
        let why = loop {
            match Self::mount_with(&self.xen, HOSTILE, ORDER, MOUNT_TIMEOUT) {
                Ok(fs) => during(fs.unmount(), "closing a mount")?,
                Err(why) => break why,
            }
            connections += 1;
            ensure(
                connections < MAX_CONNECTIONS,
                "a backend may keep any number of pages",
            )?;
        };
        self.witness()?;
        self.tell("")?;
        self.flat()?;
        let again = Self::mount(&self.xen, HOSTILE, TRUST)?;
        during(Self::work(&again), "working with a fresh mount")?;
        drop(again);
        self.flat()?;
        Ok((connections, why))
    }

    /// Mounts and works, until something goes wrong or all is done.
    fn meet(&mut self, timeout: Duration) -> Result<(Ends, String), String> {
        let fs = match Self::mount(&self.xen, HOSTILE, timeout) {
            Ok(fs) => fs,
            Err(error) => return Ok((Ends::Refused, error)),
        };
        let Err(error) = Self::work(&fs) else {
            // Leaving may fail, but ends.
            drop(fs);
            return Ok((Ends::Works, String::new()));
        };
        self.witness()?;
        if fs.metadata("/dir").is_ok() {
            return Ok((Ends::Fails, error.to_string()));
        }
        // A request without an answer is given up in steps: the first error may be that of the request alone.
        let last = fs.to_async().session().error().unwrap_or(error);
        for again in [
            fs.metadata("/dir").map(drop),
            fs.read("/dir/file").map(drop),
            fs.write("/new", b"x"),
        ] {
            ensure(again == Err(last), &format!("after {last}: {again:?}"))?;
        }
        let text = match last == error {
            true => error.to_string(),
            false => format!("{error}, then {last}"),
        };
        Ok((Ends::Broken, text))
    }
}
