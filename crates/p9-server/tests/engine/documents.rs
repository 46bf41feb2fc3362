//! docs/9p-support.md says of every request in which dialects the server takes it.

use std::collections::BTreeMap;

use p9_wire::*;
use xen9p_testing::server::mem::ready;

use crate::peer::{attached, tree};

/// Whether the server knows a request of this type, which has no content here.
fn takes(dialect: Dialect, kind: u8) -> bool {
    let tree = tree();
    let rights = p9_server::Rights::ReadWrite;
    let mut peer = attached(&tree, dialect, rights, p9_server::Limits::default());
    let message = [7, 0, 0, 0, kind, 1, 0];
    let job = peer.server.accept(0, &message).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let done = ready(job.run(&mut buffer));
    let len = peer.server.complete(done, &mut buffer).len();
    let reply = Reply::decode(Reader::new(&buffer[..len], dialect))
        .unwrap()
        .1;
    // Of a Tversion without content comes an error, too.
    let errno = match reply {
        Reply::Error { ename, .. } => Errno::from_text(ename),
        other => other.errno(),
    };
    errno.expect("an error") != Errno::EOPNOTSUPP
}

#[test]
fn the_table_of_requests_is_what_the_server_takes() {
    let document = include_str!("../../../../docs/9p-support.md");
    let rows: BTreeMap<&str, [bool; 3]> = document
        .lines()
        .filter(|line| line.starts_with("| T"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1], [2, 3, 4].map(|cell| cells[cell] == "yes"))
        })
        .collect();
    let dialects = [Dialect::Linux, Dialect::Unix, Dialect::Plan9];
    let mut known = 0;
    for kind in 0..=u8::MAX {
        let name = kind::name(kind);
        if !name.starts_with('T') {
            continue;
        }
        known += 1;
        let row = rows
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(*row, dialects.map(|dialect| takes(dialect, kind)), "{name}");
    }
    assert_eq!(rows.len(), known, "a row is of no request");
}
