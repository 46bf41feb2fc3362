//! Tests under xl: the image as an ordinary PV and PVH domain, with 9pfs devices served by QEMU in dom0. What the guest
//! wrote is compared with what is on this machine's disk.

mod bad_input;
mod embed;
mod files;
mod lab;
mod life;
mod names;
mod shell;

use crate::dom0;
use crate::domain::Kind;
use crate::host::Result;
use crate::suite::Suite;
use crate::{Settings, say};
use lab::Lab;

/// A test: a name, and what it does in a lab.
type Test = (&'static str, fn(&mut Lab<'_>) -> Result<()>);

/// Runs them all, PVH first.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache())?;
    std::fs::metadata(&settings.image).map_err(|error| {
        crate::fail!(
            "cannot read the image {}: {error}",
            settings.image.display()
        )
    })?;
    let mut lab = Lab::new(settings, image)?;
    let suite = Suite::new(settings.only.clone());
    let tests = || {
        files::TESTS
            .iter()
            .chain(names::TESTS)
            .chain(shell::TESTS)
            .chain(life::TESTS)
            .chain(bad_input::TESTS)
    };
    say!(
        "testing under xl: {} tests, as PVH and as PV",
        tests().count()
    );
    for kind in [Kind::Pvh, Kind::Pv] {
        lab.kind = kind;
        let embedded = embed::TESTS.iter().filter(|_| kind == Kind::Pvh);
        for (name, test) in tests().chain(embedded) {
            suite.run(&format!("xen/{}/{name}", kind.name()), || {
                lab.attempt(*test)
            });
        }
    }
    suite.finish()
}
