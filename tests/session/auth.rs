//! A program authenticates by the file that Tauth gives, with a server that insists on it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::MountOptions;
use xen9p::fs::aio::Fs;
use xen9p::p9::Error;
use xen9p::p9::session::{Config, Fid, Recovery, Session};
use xen9p::p9::wire::{self, Dialect, Payload, Qid, QidKind, Reader, Reply, Request};
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const NONCE: &[u8] = b"say this backwards";

/// A server that lets a client attach only after it has proven on an afid that it can read backwards.
struct Guard {
    server: MemServer,
    /// The afid, its user, and whether the proof was given on it.
    afid: Option<(wire::Fid, Vec<u8>, bool)>,
}

impl Guard {
    /// The reply to what concerns authentication; `None` for everything else.
    fn answer(
        &mut self,
        request: &Request<'_>,
    ) -> Option<std::result::Result<Reply<'static>, Errno>> {
        let current = self.afid.as_ref().map(|(afid, ..)| *afid);
        Some(match *request {
            Request::Auth { afid, uname, .. } => {
                self.afid = Some((afid, uname.to_vec(), false));
                let aqid = Qid {
                    kind: QidKind::AUTH,
                    version: 0,
                    path: 1,
                };
                Ok(Reply::Auth { aqid })
            }
            Request::Attach { afid, uname, .. } => match &self.afid {
                Some((proven, user, true)) if *proven == afid && user == uname => return None,
                _ => Err(Errno::EACCES),
            },
            Request::Read { fid, offset, count } if Some(fid) == current => {
                let rest = NONCE.get(offset as usize..).unwrap_or(&[]);
                let data = Payload(&rest[..rest.len().min(count as usize)], &[]);
                Ok(Reply::Read { data })
            }
            Request::Write { fid, data, .. } if Some(fid) == current => {
                let answer: Vec<u8> = data.0.iter().chain(data.1).rev().copied().collect();
                let proven = answer == NONCE;
                self.afid.as_mut()?.2 = proven;
                let count = answer.len() as u32;
                proven.then_some(Reply::Write { count }).ok_or(Errno::EPERM)
            }
            Request::Clunk { fid } if Some(fid) == current => {
                self.afid = None;
                Ok(Reply::Clunk)
            }
            _ => return None,
        })
    }

    fn handle(&mut self, message: &[u8]) -> Vec<u8> {
        let (tag, request) = Request::decode(Reader::new(message, Dialect::Linux)).unwrap();
        let Some(answer) = self.answer(&request) else {
            return self.server.handle(message);
        };
        let reply = answer.unwrap_or_else(|errno| Reply::Lerror {
            ecode: errno.number().into(),
        });
        let mut bytes = vec![0; 100];
        let len = reply.encode(tag, Dialect::Linux, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }
}

fn guarded() -> (Session, Rc<RefCell<Guard>>, Control) {
    let mut server = MemServer::new(MemOptions {
        // The afid is not its own.
        like_qemu: true,
        ..MemOptions::default()
    });
    server.put("/treasure", b"gold");
    let guard = Rc::new(RefCell::new(Guard { server, afid: None }));
    let serving = guard.clone();
    let (transport, control) = lanes(LaneOptions::default(), move |request| {
        serving.borrow_mut().handle(request)
    });
    (negotiated(transport), guard, control)
}

/// The same with a server that wants no authentication.
fn unguarded() -> Session {
    let mut server = MemServer::new(MemOptions {
        // The afid is not its own.
        like_qemu: true,
        ..MemOptions::default()
    });
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    negotiated(transport)
}

fn negotiated(transport: impl xen9p::transport::Transport + 'static) -> Session {
    let mut config = Config::default();
    config.msize = 1 << 16;
    config.window = 8;
    config.timeout = Duration::from_secs(1);
    let session = Session::new(Box::new(transport), &config).unwrap();
    session.block_on(session.negotiate(&Dialect::ALL)).unwrap();
    session
}

/// The program's side of the handshake.
async fn prove(afid: &Fid) -> Result<(), Error> {
    let mut nonce = [0; 100];
    let len = afid.read_at(0, &mut nonce, 0).await?;
    let mut answer = nonce[..len].to_vec();
    answer.reverse();
    afid.write_at(0, &answer, 0, true).await.map(drop)
}

#[test]
fn the_program_convinces_the_server_and_attaches() {
    let (session, guard, control) = guarded();
    let content = session.block_on(async {
        let (afid, qid) = session.auth(b"ann", 7, b"").await?;
        assert!(qid.kind.contains(QidKind::AUTH));
        prove(&afid).await?;
        let (root, qid) = session.attach(Some(&afid), b"ann", 7, b"").await?;
        afid.close().await?;
        let fs = Fs::from_root(root, qid, &MountOptions::new());
        fs.read("/treasure").await
    });
    assert_eq!(content.as_deref(), Ok(&b"gold"[..]));
    assert!(guard.borrow().afid.is_none());
    drop(session);
    assert_eq!(guard.borrow().server.fids(), 0);
    assert_eq!(control.reserved(), 0);
}

#[test]
fn who_has_not_convinced_the_server_stays_outside() {
    let (session, guard, _control) = guarded();
    let refused = Err(Error::Errno(Errno::EACCES));
    session.block_on(async {
        let attach = async |afid, user: &[u8]| session.attach(afid, user, 7, b"").await.map(drop);
        assert_eq!(attach(None, b"ann").await, refused);
        let (afid, _) = session.auth(b"ann", 7, b"").await.unwrap();
        assert_eq!(attach(Some(&afid), b"ann").await, refused);
        let wrong = afid.write_at(0, NONCE, 0, true).await;
        assert_eq!(wrong, Err(Error::Errno(Errno::EPERM)));
        assert_eq!(attach(Some(&afid), b"ann").await, refused);
        prove(&afid).await.unwrap();
        assert_eq!(attach(Some(&afid), b"bob").await, refused);
        assert_eq!(attach(None, b"ann").await, refused);
        assert_eq!(attach(Some(&afid), b"ann").await, Ok(()));
    });
    session.pump();
    // The afid was dropped, not closed; refusals left nothing behind either.
    assert!(guard.borrow().afid.is_none());
    assert_eq!(session.fids_in_use(), 0);
}

#[test]
fn a_server_that_wants_no_authentication_says_so() {
    let session = unguarded();
    let auth = session.block_on(session.auth(b"ann", 7, b""));
    assert_eq!(
        auth.map(drop),
        Err(Error::Unsupported {
            request: xen9p::p9::wire::kind::TAUTH,
            dialect: Dialect::Linux
        })
    );
    assert_eq!(session.fids_in_use(), 0);
    let attached = session.block_on(session.attach(None, b"ann", 7, b""));
    assert!(attached.is_ok());
}

/// What convinced a server is nothing to the next one: a session that recovers says so before the handshake, and goes on
/// with servers that want none.
#[test]
fn recovery_and_authentication_exclude_each_other() {
    let never = || Recovery::new(|| Ok(None), Duration::ZERO);
    let refusal = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::InvalidInput(_)));
        let text = error.to_string();
        assert!(text.contains("authentication") && text.contains("mount without recovery"));
    };

    let (session, guard, control) = guarded();
    session.set_recovery(never());
    refusal(session.block_on(session.auth(b"ann", 7, b"")).map(drop));
    session.pump();
    assert!(guard.borrow().afid.is_none());
    assert_eq!(session.fids_in_use(), 0);
    assert_eq!(control.reserved(), 0);

    // The other way round, too.
    let (session, ..) = guarded();
    let (afid, _) = session.block_on(session.auth(b"ann", 7, b"")).unwrap();
    session.block_on(prove(&afid)).unwrap();
    session.set_recovery(never());
    let attached = session.block_on(session.attach(Some(&afid), b"ann", 7, b""));
    refusal(attached.map(drop));

    let session = unguarded();
    session.set_recovery(never());
    let auth = session.block_on(session.auth(b"ann", 7, b""));
    assert!(matches!(auth, Err(Error::Unsupported { .. })));
    let attached = session.block_on(session.attach(None, b"ann", 7, b""));
    assert!(attached.is_ok());
}

#[test]
fn an_afid_of_another_session_is_refused() {
    let (session, ..) = guarded();
    let (other, ..) = guarded();
    let (afid, _) = other.block_on(other.auth(b"ann", 7, b"")).unwrap();
    let attached = session.block_on(session.attach(Some(&afid), b"ann", 7, b""));
    assert_eq!(attached.map(drop), Err(Error::Closed));
}
