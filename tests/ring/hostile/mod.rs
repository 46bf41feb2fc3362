//! Hostile and broken backends on the simulated Xen: every case ends with one clear error, or with none, and the kernel,
//! other mounts and the next connection are unharmed. `docs/hostile-backends.md` has a table of what comes of each.

mod cases;
mod drive;
mod xenstored;

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::{env, fs};

use cases::CASES;
use drive::{Guest, HONEST, HOSTILE};
use xen9p::hypercall::DomId;
use xen9p::transport::xen9pfs::ring::Order;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::grant::Limits;
use xen9p::xen::xenbus::XenbusState;
use xen9p_testing::backend::{Faults, Handler, PlainRing, Program, Share, Trouble};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const GUEST: DomId = DomId(7);
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hostile-backends.md");
const BEGIN: &str = "<!-- table: written by tests/ring/hostile -->\n";
const END: &str = "<!-- end of table -->";

fn server() -> Handler {
    let mut server = MemServer::new(MemOptions::default());
    Box::new(move |request| server.handle(request))
}

struct Bed {
    fake: FakeXen,
    share: Rc<RefCell<Share>>,
    guest: Guest<FakePlatform>,
}

fn bed(program: Program) -> Bed {
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let dom0 = fake.dom0();
    let honest = Share::new(&dom0, GUEST, 0, HONEST, Program::Qemu, server());
    let hostile = Share::new(&dom0, GUEST, 1, HOSTILE, program, server()).taking_scripts();
    let share = Rc::new(RefCell::new(hostile));
    fake.add_peer(honest);
    fake.share_peer(share.clone());
    let xen = Xen::new(Events::new(platform)).unwrap();
    let guest = Guest::new(xen, false).unwrap();
    Bed { fake, share, guest }
}

/// What comes of every case.
fn results(program: Program) -> Vec<String> {
    let mut bed = bed(program);
    let mut failures = String::new();
    let results = CASES
        .iter()
        .map(|case| {
            let troubles = bed.share.borrow().troubles().len();
            let result = bed.guest.attempt(case);
            let fresh = bed.share.borrow().troubles().split_off(troubles);
            // A backend may stumble over its own lies, but never over the frontend.
            let stumbles = [Trouble::Wedged, Trouble::Undecodable, Trouble::Ignored];
            if fresh.iter().any(|trouble| !stumbles.contains(trouble)) {
                let _ = writeln!(failures, "{}: {fresh:?}", case.script);
            }
            match result {
                Ok(text) => text,
                Err(why) => {
                    let _ = writeln!(failures, "{}: {why}", case.script);
                    // The next case gets a new guest.
                    bed = self::bed(program);
                    why
                }
            }
        })
        .collect();
    assert_eq!(bed.fake.dirty_frees(), 0);
    assert!(failures.is_empty(), "{program:?}:\n{failures}");
    results
}

#[test]
fn every_case_ends_well_and_the_table_in_the_docs_says_how() {
    let columns = [Program::Qemu, Program::Daemon].map(results);
    let mut table = String::from(
        "| | the backend | rings as QEMU serves them | rings as xen-9pfsd serves them |\n|---|---|---|---|\n",
    );
    for (index, case) in CASES.iter().enumerate() {
        let [qemu, daemon] = &columns;
        let daemon = match qemu[index] == daemon[index] {
            true => "the same",
            false => &daemon[index],
        };
        let _ = writeln!(
            table,
            "| {} | `{}` | {} | {daemon} |",
            case.row, case.script, qemu[index]
        );
    }
    table += "\n| | xenstored | a request to it | files that are in use |\n|---|---|---|---|\n";
    for [what, asked, used] in xenstored::results() {
        let _ = writeln!(table, "| S17 | {what} | {asked} | {used} |");
    }
    let document = fs::read_to_string(FILE).expect("docs/hostile-backends.md");
    let (before, rest) = document.split_once(BEGIN).expect("the table's beginning");
    let (old, after) = rest.split_once(END).expect("the table's end");
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        fs::write(FILE, [before, BEGIN, &table, END, after].concat()).expect("the file");
        return;
    }
    for (old, new) in old.lines().zip(table.lines()) {
        assert_eq!(
            gist(old),
            gist(new),
            "docs/hostile-backends.md; XEN9P_WRITE_TABLE=1 writes it anew"
        );
    }
    assert_eq!(
        old.lines().count(),
        table.lines().count(),
        "rows in docs/hostile-backends.md"
    );
}

/// What has to be right in a row of the docs: the case, and how it ends. Which of several errors is seen first changes
/// with every change of what the client has in flight.
fn gist(row: &str) -> Vec<&str> {
    let cell = |cell| match cell {
        "works" | "works, or an error" | "the same" => cell,
        _ if cell.starts_with("no mount: ") => "no mount",
        _ if cell.starts_with("one operation fails: ") => "one operation fails",
        _ => "an error",
    };
    let mut cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
    if let [_, _, rings @ ..] = &mut cells[..] {
        rings.iter_mut().for_each(|result| *result = cell(result));
        // Two texts may differ in one error only.
        if let [first, second] = rings
            && first == second
        {
            *second = "the same";
        }
    }
    cells
}

/// Row S18: what one backend can cost the domain has a limit, and comes back once it lets go.
#[test]
fn a_backend_that_keeps_every_page_is_not_given_more_than_so_many() {
    let mut bed = bed(Program::Qemu);
    let (connections, why) = bed.guest.exhaust().unwrap();
    let pages = connections * 2 * (1 + (1 << 5));
    let limit = Limits::default().quarantine;
    assert!((limit..limit + 200).contains(&pages), "{pages} pages");
    assert!(why.contains("still maps"), "{why}");
    assert_eq!(bed.fake.dirty_frees(), 0);
}

#[test]
fn scripts_are_understood_to_their_end_or_not_at_all() {
    let script = "stuck 2; offer max-rings 0;on Tread size 4294967295; absent versions";
    let faults: Faults = script.parse().unwrap();
    assert_eq!(faults.stuck_in, Some(XenbusState::InitWait));
    let offers = [
        ("max-rings".into(), Some("0".into())),
        ("versions".into(), None),
    ];
    assert_eq!(faults.offers, offers);
    for bad in [
        "x",
        "stuck",
        "stuck 0",
        "stuck 2 3",
        "on Tread",
        "on Tnothing twice",
        "on Tread size -1",
        "on Tread twice 2",
        "each Tread say Nothing",
    ] {
        assert!(bad.parse::<Faults>().is_err(), "{bad}");
    }
    assert!("; ;".parse::<Faults>().is_ok());
}

/// The check that finds what does not belong into shared pages finds it.
#[test]
fn what_was_not_exchanged_is_found_in_the_pages() {
    let order = Order::MIN;
    let memory = PlainRing::new(order);
    let mut ring = memory.frontend(0);
    ring.set_grant_ref(0, xen9p::xen::grant::GrantRef(77));
    let view = memory.backend();
    assert!(!view.leaks());
    assert_eq!(ring.send(&[b"a request"], 7), Ok(true));
    assert!(!view.leaks(), "not read yet, but on the wire");
    assert_eq!(view.read_requests(0, 9), b"a request");
    view.write_replies(order.bytes() - 3, b"a reply");
    assert!(!view.leaks());
    // By way of another view, whose record is its own.
    memory.backend().write_replies(100, b"of the heap");
    assert!(view.leaks());
    memory.backend().write_replies(100, &[0; 11]);
    assert!(!view.leaks());
    view.set(64 + 8, 1);
    assert!(view.leaks(), "in the padding of the interface page");
}
