use super::*;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

/// What xenstored sends: kind and payload.
type Sent = (Kind, &'static [u8]);

/// A connection to a xenstored that answers each request with what comes next in this list, in pieces of a few bytes; at
/// its end it returns what it was asked.
fn xenstored(answers: Vec<Vec<Sent>>) -> (Store<UnixStream>, JoinHandle<Vec<(Kind, String)>>) {
    xenstored_at("", answers)
}

fn xenstored_at(
    home: &'static str,
    answers: Vec<Vec<Sent>>,
) -> (Store<UnixStream>, JoinHandle<Vec<(Kind, String)>>) {
    let (own, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for sent in answers {
            let mut header = [0; 16];
            theirs.read_exact(&mut header).unwrap();
            let header = Header::decode(&header);
            let mut payload = vec![0; header.length as usize];
            theirs.read_exact(&mut payload).unwrap();
            asked.push((header.kind, String::from_utf8(payload).unwrap()));
            for (kind, payload) in sent {
                let header = Header {
                    kind,
                    request: 0,
                    transaction: 0,
                    length: payload.len() as u32,
                };
                for piece in [&header.encode()[..], payload].concat().chunks(7) {
                    theirs.write_all(piece).unwrap();
                }
            }
        }
        asked
    });
    (Store::on(own, home), server)
}

const EVENT: Sent = (Kind::WATCH_EVENT, b"backend/9pfs/3/0/state\0t\0");

#[test]
fn events_between_answers_are_kept_in_order() {
    let (mut store, server) = xenstored(vec![
        vec![EVENT, (Kind::READ, b"4"), (Kind::WATCH_EVENT, b"x\0y\0")],
        vec![(Kind::ERROR, b"ENOENT\0")],
    ]);
    assert_eq!(store.number("state").unwrap(), Some(4));
    assert_eq!(store.read("nothing").unwrap(), None);
    let event = |path: &str, token: &str| Some((path.to_owned(), token.to_owned()));
    assert_eq!(store.event().unwrap(), event("backend/9pfs/3/0/state", "t"));
    assert_eq!(store.event().unwrap(), event("x", "y"));
    assert_eq!(
        server.join().unwrap(),
        [
            (Kind::READ, "state\0".into()),
            (Kind::READ, "nothing\0".into())
        ]
    );
}

/// Of what belongs to no domain, xenstored takes relative paths for others.
#[test]
fn on_the_socket_relative_paths_are_those_of_domain_0() {
    let ok = || vec![(Kind::WRITE, &b"OK\0"[..])];
    let (mut store, server) = xenstored_at(
        SOCKET_HOME,
        vec![vec![(Kind::READ, b"4")], ok(), ok(), ok(), ok(), ok(), ok()],
    );
    assert_eq!(store.number("backend/9pfs/3/0/state").unwrap(), Some(4));
    store.write("libxl/pid", "1").unwrap();
    store.remove("error/x").unwrap();
    store.directory("backend").unwrap();
    store.watch("backend", "t").unwrap();
    store.unwatch("backend", "t").unwrap();
    store.watch("@releaseDomain", "t").unwrap();
    let asked: Vec<String> = server
        .join()
        .unwrap()
        .into_iter()
        .map(|asked| asked.1)
        .collect();
    assert_eq!(
        asked,
        [
            "/local/domain/0/backend/9pfs/3/0/state\0",
            "/local/domain/0/libxl/pid\x001",
            "/local/domain/0/error/x\0",
            "/local/domain/0/backend\0",
            "/local/domain/0/backend\0t\0",
            "/local/domain/0/backend\0t\0",
            "@releaseDomain\0t\0",
        ]
    );
}

#[test]
fn on_the_socket_events_in_the_own_directory_have_relative_paths() {
    let (mut store, server) = xenstored_at(
        SOCKET_HOME,
        vec![vec![
            (
                Kind::WATCH_EVENT,
                b"/local/domain/0/backend/9pfs/3/0/state\0t\0",
            ),
            (Kind::WATCH_EVENT, b"/local/domain/3/state\0u\0"),
            (Kind::WATCH_EVENT, b"@releaseDomain\0v\0"),
            (Kind::READ, b"4"),
        ]],
    );
    assert_eq!(store.number("/local/domain/3/x").unwrap(), Some(4));
    let events: Vec<_> = std::iter::from_fn(|| store.event().ok()?).collect();
    let paths: Vec<&str> = events.iter().map(|(path, _)| &path[..]).collect();
    assert_eq!(
        paths,
        [
            "backend/9pfs/3/0/state",
            "/local/domain/3/state",
            "@releaseDomain"
        ]
    );
    assert_eq!(server.join().unwrap()[0].1, "/local/domain/3/x\0");
}

#[test]
fn a_transaction_that_meets_another_is_made_again() {
    let begin = || vec![(Kind::TRANSACTION_START, &b"7\0"[..])];
    let (mut store, server) = xenstored(vec![
        begin(),
        vec![(Kind::WRITE, b"OK\0")],
        vec![(Kind::ERROR, b"EAGAIN\0")],
        begin(),
        vec![(Kind::WRITE, b"OK\0")],
        vec![(Kind::TRANSACTION_END, b"OK\0")],
    ]);
    let mut tries = 0;
    let done = store.transaction(|transaction| {
        tries += 1;
        transaction.write("state", "2")?;
        Ok(Some(tries))
    });
    assert_eq!(done.unwrap(), Some(2));
    let asked = server.join().unwrap();
    assert_eq!(asked[1], (Kind::WRITE, "state\x002".into()));
    assert_eq!(asked[5], (Kind::TRANSACTION_END, "T\0".into()));
}

#[test]
fn a_transaction_that_is_given_up_writes_nothing() {
    let (mut store, server) = xenstored(vec![
        vec![(Kind::TRANSACTION_START, b"7\0")],
        vec![(Kind::READ, b"6")],
        vec![(Kind::TRANSACTION_END, b"OK\0")],
    ]);
    let done = store.transaction(|transaction| {
        assert_eq!(transaction.read("state")?, Some(b"6".to_vec()));
        Ok(None::<()>)
    });
    assert_eq!(done.unwrap(), None);
    assert_eq!(
        server.join().unwrap()[2],
        (Kind::TRANSACTION_END, "F\0".into())
    );
}

#[test]
fn a_watch_that_has_ended_has_no_events_and_is_not_counted() {
    let (mut store, server) = xenstored(vec![
        vec![(Kind::WATCH, b"OK\0"), EVENT],
        vec![(Kind::WATCH, b"OK\0"), (Kind::WATCH_EVENT, b"b\0other\0")],
        vec![(Kind::UNWATCH, b"OK\0")],
    ]);
    store.watch("backend", "t").unwrap();
    store.watch("b", "other").unwrap();
    assert_eq!(store.watches(), 2);
    store.unwatch("backend", "t").unwrap();
    assert_eq!(store.watches(), 1);
    let events: Vec<_> = std::iter::from_fn(|| store.event().ok()?).collect();
    assert_eq!(events, [("b".to_owned(), "other".to_owned())]);
    server.join().unwrap();
}

#[test]
fn a_xenstored_that_is_gone_or_talks_nonsense_is_an_error() {
    let (mut store, server) = xenstored(vec![]);
    server.join().unwrap();
    assert!(matches!(store.read("x"), Err(Error::Lost(_))));
    let (own, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[0xff; 16]).unwrap();
    assert!(matches!(Store::on(own, "").event(), Err(Error::Lost(_))));
}
