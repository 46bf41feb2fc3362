//! What becomes of files when the connection is lost: each cause, and each operation that may be in flight. The tables
//! in docs/lost-backends.md are written from what happens here.

mod causes;
mod operations;
use std::fmt::Write as _;
use std::{env, fs};

use causes::{CAUSES, fails, goes_on};
use operations::{ACTS, treatment};
use xen9p::p9::wire::kind;
use xen9p_testing::backend::Program;

const FILE: &str = "docs/lost-backends.md";

fn tables() -> String {
    let mut text = String::from(
        "| the backend | noticed by | what everything on the mount fails with | with recovery, once there is a backend again |\n|---|---|---|---|\n",
    );
    for cause in &CAUSES {
        let qemu = fails(Program::Qemu, cause);
        let on = goes_on(Program::Qemu, cause);
        if !cause.what.contains("killed, and another") && !cause.what.contains("same number") {
            // xen-9pfsd takes no rings up by itself.
            assert_eq!(fails(Program::Daemon, cause), qemu, "{}", cause.what);
            assert_eq!(goes_on(Program::Daemon, cause), on, "{}", cause.what);
        }
        let _ = writeln!(
            text,
            "| {} | {} | {qemu} | {on} |",
            cause.what, cause.noticed
        );
    }
    text += "\n| in flight | request | not done when the connection is lost | done | without recovery |\n|---|---|---|---|---|\n";
    for act in &ACTS {
        let request = match act.1 {
            0 => "",
            request => kind::name(request),
        };
        let [before, after] = [false, true].map(|done| treatment(act, true, done));
        let fails = treatment(act, false, true);
        let after = if after == before { "the same" } else { &after };
        let _ = writeln!(
            text,
            "| {} | {request} | {before} | {after} | {fails} |",
            act.0
        );
    }
    text
}

#[test]
fn the_tables_in_the_docs_are_what_happens() {
    const BEGIN: &str = "<!-- tables: written by tests/ring/losses -->\n";
    const END: &str = "<!-- end of tables -->";
    let tables = tables();
    let document = fs::read_to_string(FILE).expect(FILE);
    let (before, rest) = document.split_once(BEGIN).expect("the tables' beginning");
    let (old, after) = rest.split_once(END).expect("the tables' end");
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        fs::write(FILE, [before, BEGIN, &tables, END, after].concat()).expect("the file");
        return;
    }
    for (old, new) in old.lines().zip(tables.lines()) {
        assert_eq!(old, new, "{FILE}; XEN9P_WRITE_TABLE=1 writes it anew");
    }
    assert_eq!(
        old.lines().count(),
        tables.lines().count(),
        "rows in {FILE}"
    );
}
