//! Tests under xl: the image as an ordinary PV and PVH domain, with 9pfs devices served by QEMU in dom0. What the guest
//! wrote is compared with what is on this machine's disk.

mod argo;
mod bad_input;
mod cached;
mod dom0_daemon;
mod domains;
mod embed;
mod exports;
mod files;
mod hostile;
mod lab;
mod life;
mod many_guests;
mod migrate;
mod names;
mod posix;
mod recovery;
mod save;
mod shell;
mod soak;
mod trace;
mod transports;

use crate::dom0;
use crate::domain::{Backend, Kind};
use crate::host::Result;
use crate::release::BOOKWORM;
use crate::suite::Suite;
use crate::{Settings, say};
use lab::Lab;

pub use transports::run as run_transports;

/// A test: a name, and what it does in a lab.
type Test = (&'static str, fn(&mut Lab<'_>) -> Result<()>);

/// What is tested when there is little time.
const SHORT: &[&str] = &["names", "no-such-tag"];

/// What is then tested with xen9pd, besides what is asked of it alone.
const SHORT_XEN9PD: &[&str] = &[
    "selftest",
    "backend-killed-while-copying",
    "save-restore-with-another-share",
];

/// What is then tested of domains that serve each other. Only Debian 13 has this backend: Xen 4.20 has it otherwise than 4.17.
const SHORT_DOMAINS: &[&str] = &["domains-backend", "domains-frontend-destroyed"];

/// Whether a test is among those for which there is always time. With xen9pd that is one type of guest for each way in which
/// it gets devices.
fn is_short(backend: Backend, kind: Kind, test: &str) -> bool {
    let wanted = match backend {
        Backend::Xen9pd => Kind::Pvh,
        Backend::Xen9pdInstead => Kind::Pv,
        Backend::Qemu | Backend::Daemon | Backend::QemuByHand => return SHORT.contains(&test),
    };
    let own = dom0_daemon::TESTS.iter().chain(dom0_daemon::TYPED_TESTS);
    let own = own.chain(dom0_daemon::UNTYPED_TESTS);
    let mut own = own.map(|(name, _)| *name);
    let domains = backend == Backend::Xen9pd && SHORT_DOMAINS.contains(&test);
    kind == wanted && (domains || SHORT_XEN9PD.contains(&test) || own.any(|name| name == test))
}

/// What xen-9pfsd can't do, and why. The first table in docs/xen-backends.md is made of it.
#[rustfmt::skip]
const BEYOND_9PFSD: &[(&str, &str)] = &[
    ("selftest", "it removes directories, renames, truncates and links, for which the daemon has no words"),
    ("commands", "it renames, truncates and removes directories, for which the daemon has no words"),
    ("backend-killed-while-copying", "one daemon serves all guests, so there is none to be killed for one of them"),
    ("cached", "9P2000.u does not tell when a file was changed, so that nothing is kept"),
    ("backend-killed-and-gone", "one daemon serves all guests, so there is none to be killed for one of them"),
    ("device-comes-and-goes", "the daemon dies of a device whose directory goes away"),
    ("embed-c", "it renames, for which the daemon has no words"),
    ("embed-rust", "it renames, for which the daemon has no words"),
    ("embed-rust-backend-killed", "one daemon serves all guests, so there is none to be killed for one of them"),
    ("embed-c-backend-killed", "one daemon serves all guests, so there is none to be killed for one of them"),
    ("examples", "one of them renames, for which the daemon has no words"),
    ("shell", "it renames, for which the daemon has no words"),
    ("trace-pcap", "tshark takes the Tcreate of 9P2000.u, which has a field more, for a malformed one"),
    ("two-thousand-entries", "the daemon leaves out the entry that did not fit into an answer, and starts no second listing"),
];

/// Runs the image against hostile backends, PVH first; if there is little time, against the first of them.
pub fn run_hostile(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut lab = Lab::new(settings, &image)?;
    let suite = Suite::new(settings.only.clone());
    for kind in [Kind::Pvh, Kind::Pv] {
        lab.kind = kind;
        for (index, (name, test)) in hostile::TESTS.iter().enumerate() {
            if settings.short && index > 0 {
                continue;
            }
            let name = format!("hostile/{}/{name}", kind.name());
            suite.run(&name, || lab.attempt(*test));
        }
    }
    suite.finish()
}

/// Takes guests from one machine to another while they work.
pub fn run_migrate(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let suite = Suite::new(settings.only.clone());
    for backend in migrate::backends(settings.release) {
        let mut lab = migrate::Pair::new(settings, &image, backend);
        for kind in [Kind::Pvh, Kind::Pv] {
            // Where PV guests can't move live, there is no half of a migration either.
            let failing = match kind {
                Kind::Pv => &[],
                _ => migrate::FAILING,
            };
            for (name, test) in migrate::TESTS.iter().chain(failing) {
                let name = format!("migrate/{}/{}/{name}", backend.name(), kind.name());
                suite.run(&name, || lab.attempt(kind, *test));
            }
        }
    }
    suite.finish()
}

/// Has guests serve each other by Argo, if a Xen that has it can be had.
pub fn run_argo(settings: &Settings) -> Result<u8> {
    let cache = settings.cache();
    let hypervisor = match dom0::argo::prepare(&cache)? {
        Ok(hypervisor) => hypervisor,
        Err(missing) => {
            println!("left   all tests with Argo: {missing}");
            return Ok(0);
        }
    };
    let mut image = dom0::prepare(&cache, &BOOKWORM)?;
    hypervisor.put_into(&mut image);
    let suite = Suite::new(settings.only.clone());
    for kind in [Kind::Pvh, Kind::Pv] {
        let mut lab = Lab::new(settings, &image)?;
        lab.kind = kind;
        for (name, test) in argo::TESTS {
            let name = format!("argo/{}/{name}", kind.name());
            suite.run(&name, || lab.attempt(*test));
        }
    }
    suite.finish()
}

/// Has a guest work for minutes or hours while its backend is killed again and again.
pub fn run_soak(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut lab = Lab::new(settings, &image)?;
    lab.kind = settings.kind;
    let suite = Suite::new(None);
    suite.run(&format!("soak/{}", lab.kind.name()), || {
        lab.attempt(soak::soak)
    });
    suite.finish()
}

/// What QEMU 10 can't do that was started by hand, and why. The second table there.
#[rustfmt::skip]
const BEYOND_BY_HAND: &[(&str, &str)] = &[
    ("device-comes-and-goes", "QEMU 10 ends when it is to serve another device (\"does not support hotplugging\")"),
    ("embed-c-save-restore", save::NOT_BY_HAND),
    ("embed-rust-save-restore", save::NOT_BY_HAND),
    ("save-checkpoint-while-copying", save::NOT_BY_HAND),
    ("save-restore-while-copying", save::NOT_BY_HAND),
    ("save-restore-without-recovery", save::NOT_BY_HAND),
    ("save-restore-with-another-share", save::NOT_BY_HAND),
    ("save-restore-without-share", save::NOT_BY_HAND),
];

/// Why a backend can't do what a test asks, if it can't.
fn beyond(backend: Backend, test: &str) -> Option<&'static str> {
    let list = match backend {
        Backend::Qemu | Backend::Xen9pd | Backend::Xen9pdInstead => &[],
        Backend::QemuByHand => BEYOND_BY_HAND,
        Backend::Daemon => BEYOND_9PFSD,
    };
    let known = list.iter().find(|(name, _)| *name == test);
    known.map(|(_, reason)| *reason)
}

/// All tests that any domain can be put to.
fn tests() -> impl Iterator<Item = &'static Test> {
    let alike = bad_input::TESTS.iter().chain(domains::TESTS);
    let alike = alike.chain(exports::TESTS).chain(cached::TESTS);
    with_files().chain(alike).chain(argo::WITHOUT)
}

/// Those whose guests use files.
fn with_files() -> impl Iterator<Item = &'static Test> {
    files::TESTS
        .iter()
        .chain(names::TESTS)
        .chain(shell::TESTS)
        .chain(trace::TESTS)
        .chain(life::TESTS)
        .chain(recovery::TESTS)
        .chain(save::TESTS)
}

/// Runs them all, PVH first. Not side by side in two dom0s: on two processors a test then takes ten times as long.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    std::fs::metadata(&settings.image).map_err(|error| {
        crate::fail!(
            "cannot read the image {}: {error}",
            settings.image.display()
        )
    })?;
    let mut lab = Lab::new(settings, &image)?;
    let suite = Suite::new(settings.only.clone());
    say!(
        "testing under xl: {} tests, as PVH and as PV",
        tests().count()
    );
    for (index, &backend) in settings.backends.iter().enumerate() {
        lab.serve_by(backend);
        for kind in [Kind::Pvh, Kind::Pv] {
            lab.kind = kind;
            let once = |name: &str| {
                domains::ONCE.contains(&name)
                    || embed::ONCE.contains(&name)
                    || files::ONCE.contains(&name)
            };
            let daemon = dom0_daemon::TESTS.iter();
            let typed = dom0_daemon::TYPED_TESTS.iter();
            let typed = typed.filter(|_| backend == Backend::Xen9pd);
            let daemon = daemon.chain(many_guests::TESTS.iter().chain(posix::TESTS));
            let daemon = daemon.filter(|_| backend.is_xen9pd());
            let untyped = dom0_daemon::UNTYPED_TESTS.iter();
            let untyped = untyped.filter(|_| backend == Backend::Xen9pdInstead);
            // To most of these, backends are all alike.
            let without = argo::WITHOUT.iter().filter(|_| !settings.release.has_argo);
            let alike = bad_input::TESTS.iter().chain(domains::TESTS).chain(without);
            let alike = alike.chain(exports::TESTS).chain(embed::DOMAIN_TESTS);
            let alike = alike.chain(cached::TESTS);
            let alike = alike.filter(|_| index == 0);
            let tests = with_files().chain(alike).chain(embed::TESTS);
            let own = typed.chain(daemon).chain(untyped);
            let tests = tests.chain(own);
            let wanted = |name: &str| match kind {
                Kind::Pv => !once(name),
                _ => !posix::IN_PV.contains(&name),
            };
            for (name, test) in tests.filter(|(name, _)| wanted(name)) {
                let whole = format!("{}/{}/{name}", backend.name(), kind.name());
                if settings.short && !is_short(backend, kind, name) {
                    continue;
                }
                match beyond(backend, name) {
                    Some(reason) => suite.leave_out(&whole, reason),
                    None => suite.run(&whole, || lab.attempt(*test)),
                }
            }
        }
    }
    suite.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/xen-backends.md");
    const BEGIN: &str = "<!-- table: written by tools/bed/src/xen_tests/mod.rs -->\n";
    const END: &str = "<!-- end of table -->";

    #[test]
    fn the_docs_list_what_a_backend_cannot_do() {
        let old = std::fs::read_to_string(FILE).expect("docs/xen-backends.md");
        let mut new = String::new();
        let mut rest = old.as_str();
        for list in [BEYOND_9PFSD, BEYOND_BY_HAND] {
            let (before, table) = rest.split_once(BEGIN).expect("a table's beginning");
            (_, rest) = table.split_once(END).expect("a table's end");
            new += &format!("{before}{BEGIN}| test | why not |\n|---|---|\n");
            for (name, reason) in list {
                let mut known = tests().chain(embed::TESTS);
                assert!(known.any(|(test, _)| test == name), "{name} is no test");
                new += &format!("| `{name}` | {reason} |\n");
            }
            new += END;
        }
        new += rest;
        if std::env::var_os("XEN9P_WRITE_TABLE").is_some() {
            std::fs::write(FILE, new).expect("the file");
            return;
        }
        assert_eq!(
            old, new,
            "docs/xen-backends.md; XEN9P_WRITE_TABLE=1 writes it anew"
        );
    }
}
