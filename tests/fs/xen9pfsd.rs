//! Files work on a server like xen-9pfsd, with 9P2000.u, nine requests and five fids, and a lost connection to it is
//! found again (docs/xen-backends.md).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, LockRange, MountOptions, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::*;
use xen9p::transport::Transport;
use xen9p_testing::server::lanes::{LaneOptions, lanes};

/// Fids that it allows, the root's included.
const MOST_FIDS: usize = 5;

struct Held {
    path: String,
    open: bool,
    remove: bool,
    /// How far a listing has come.
    listed: usize,
    offset: u64,
}

/// Directories are paths without content.
#[derive(Default)]
struct Daemon {
    files: BTreeMap<String, Option<Vec<u8>>>,
    fids: HashMap<Fid, Held>,
    flushes: usize,
}

fn qid(path: &str, is_dir: bool) -> Qid {
    let number = path.bytes().fold(17, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    Qid {
        kind: if is_dir {
            QidKind::DIR
        } else {
            QidKind::empty()
        },
        version: 0,
        path: number,
    }
}

impl Daemon {
    fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || matches!(self.files.get(path), Some(None))
    }

    fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.files.contains_key(path)
    }

    fn stat<'a>(&self, path: &'a str) -> Stat<'a> {
        let content = self.files.get(path).and_then(Option::as_ref);
        let is_dir = self.is_dir(path);
        let mut mode = DirMode::from_bits_retain(if is_dir { 0o755 } else { 0o644 });
        mode.set(DirMode::DIR, is_dir);
        Stat {
            qid: qid(path, is_dir),
            mode,
            atime: 1,
            mtime: 2,
            length: content.map_or(0, |content| content.len() as u64),
            name: path.rsplit('/').next().unwrap_or("").as_bytes(),
            n_uid: 0,
            n_gid: 0,
            ..Stat::UNCHANGED
        }
    }

    /// Entries from the `from`th on in its own layout, and how many those are. One that does not fit
    /// is skipped, and lost.
    fn listing(&self, dir: &str, from: usize, count: u32) -> (Vec<u8>, usize) {
        let parent = |path: &str| path.rsplit_once('/').map_or("", |(dir, _)| dir).to_string();
        let below = self.files.keys().filter(|path| parent(path) == dir);
        let (mut data, mut claimed, mut seen) = (Vec::new(), 0, 0);
        for path in below.skip(from) {
            seen += 1;
            let mut bytes = vec![0; 1000];
            let len = self.stat(path).encode(Dialect::Unix, &mut bytes).unwrap();
            let fields = &bytes[2..len];
            let outer = fields.len() as u16 + 12;
            if claimed + usize::from(outer) > count as usize {
                continue;
            }
            claimed += usize::from(outer);
            data.extend(outer.to_le_bytes());
            data.extend((outer - 2).to_le_bytes());
            data.extend(fields);
        }
        data.resize(claimed, 0xaa);
        (data, seen)
    }

    fn handle(&mut self, request: &[u8]) -> Vec<u8> {
        let (tag, request) = Request::decode(Reader::new(request, Dialect::Unix))
            .or_else(|_| Request::decode(Reader::new(request, Dialect::Linux)))
            .expect("a request");
        let mut data = Vec::new();
        let reply = self.answer(&request, &mut data).unwrap_or_else(|errno| {
            data = errno.text().as_bytes().to_vec();
            Reply::Error {
                ename: b"",
                errno: errno.number().into(),
            }
        });
        let reply = match reply {
            Reply::Error { errno, .. } => Reply::Error {
                ename: &data,
                errno,
            },
            Reply::Read { .. } => Reply::Read {
                data: Payload(&data, &[]),
            },
            other => other,
        };
        let mut bytes = vec![0; 1 << 17];
        let len = reply.encode(tag, Dialect::Unix, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn held(&mut self, fid: Fid) -> Result<&mut Held, Errno> {
        self.fids.get_mut(&fid).ok_or(Errno::EBADF)
    }

    fn answer(
        &mut self,
        request: &Request<'_>,
        data: &mut Vec<u8>,
    ) -> Result<Reply<'static>, Errno> {
        match *request {
            Request::Version { msize, version } => Ok(Reply::Version {
                msize: msize.min(32 << 10),
                version: if version == b"9P2000.u" {
                    b"9P2000.u"
                } else {
                    b"unknown"
                },
            }),
            Request::Attach { fid, .. } => {
                self.bind(fid, String::new())?;
                Ok(Reply::Attach { qid: qid("", true) })
            }
            Request::Walk { fid, newfid, names } => self.walk(fid, newfid, &names),
            Request::Open { fid, mode } => {
                let path = self.held(fid)?.path.clone();
                if mode.contains(OpenMode::APPEND) {
                    return Err(Errno::EINVAL);
                }
                if mode.contains(OpenMode::TRUNCATE)
                    && let Some(Some(content)) = self.files.get_mut(&path)
                {
                    content.clear();
                }
                let held = self.held(fid)?;
                held.open = true;
                held.remove = mode.contains(OpenMode::REMOVE_ON_CLOSE);
                Ok(Reply::Open {
                    qid: qid(&path, self.is_dir(&path)),
                    iounit: 0,
                })
            }
            Request::Create {
                fid, name, perm, ..
            } => {
                let held = self.held(fid)?;
                held.path = format!("{}/{}", held.path, String::from_utf8_lossy(name));
                let path = held.path.clone();
                if self.exists(&path) {
                    // The fid has moved all the same.
                    return Err(Errno::EEXIST);
                }
                self.held(fid)?.open = true;
                let is_dir = perm.contains(DirMode::DIR);
                let content = (!is_dir).then(Vec::new);
                self.files.insert(path.clone(), content);
                Ok(Reply::Create {
                    qid: qid(&path, is_dir),
                    iounit: 0,
                })
            }
            Request::Read { fid, offset, count } => {
                let Held {
                    path,
                    listed,
                    offset: wanted,
                    ..
                } = self.held(fid)?;
                let (path, mut from) = (path.clone(), *listed);
                if offset == 0 {
                    from = 0;
                } else if offset != *wanted && self.is_dir(&path) {
                    return Err(Errno::EINVAL);
                }
                if let Some(Some(content)) = self.files.get(&path) {
                    let rest = content.get(offset as usize..).unwrap_or(&[]);
                    data.extend(rest.iter().take(count as usize));
                } else {
                    let (listing, seen) = self.listing(&path, from, count);
                    let held = self.held(fid)?;
                    held.listed = from + seen;
                    held.offset = offset + listing.len() as u64;
                    *data = listing;
                }
                Ok(Reply::Read {
                    data: Payload::default(),
                })
            }
            Request::Write {
                fid,
                offset,
                data: new,
            } => {
                assert!(!new.is_empty(), "its answer to an empty write is any error");
                let path = self.held(fid)?.path.clone();
                let content = self.files.get_mut(&path).and_then(Option::as_mut);
                let content = content.ok_or(Errno::EISDIR)?;
                let end = offset as usize + new.len();
                content.resize(content.len().max(end), 0);
                for (place, byte) in content[offset as usize..end].iter_mut().zip(new.bytes()) {
                    *place = byte;
                }
                Ok(Reply::Write {
                    count: new.len() as u32,
                })
            }
            Request::Clunk { fid } => {
                let held = self.fids.remove(&fid).ok_or(Errno::EBADF)?;
                if held.remove {
                    self.files.remove(&held.path);
                }
                Ok(Reply::Clunk)
            }
            Request::Stat { fid } => {
                let path = self.held(fid)?.path.clone();
                assert!(
                    !path.is_empty(),
                    "the daemon dies, and all its guests' files with it"
                );
                // Names are left out: nothing here looks at them.
                Ok(Reply::Stat {
                    stat: Stat {
                        name: b"",
                        ..self.stat(&path)
                    }
                    .detached(),
                })
            }
            Request::Flush { .. } => {
                self.flushes += 1;
                Err(Errno::EOPNOTSUPP)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn bind(&mut self, fid: Fid, path: String) -> Result<(), Errno> {
        if self.fids.contains_key(&fid) {
            return Err(Errno::EBADF);
        }
        if self.fids.len() == MOST_FIDS {
            return Err(Errno::EMFILE);
        }
        let held = Held {
            path,
            open: false,
            remove: false,
            listed: 0,
            offset: 0,
        };
        self.fids.insert(fid, held);
        Ok(())
    }

    fn walk(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]]) -> Result<Reply<'static>, Errno> {
        let held = self.held(fid)?;
        if held.open {
            return Err(Errno::EINVAL);
        }
        let mut path = held.path.clone();
        let mut qids = Qids::new();
        for name in names {
            path = format!("{path}/{}", String::from_utf8_lossy(name));
            if !self.exists(&path) {
                break;
            }
            assert!(qids.push(qid(&path, self.is_dir(&path))));
        }
        if qids.len() < names.len() {
            return if qids.is_empty() {
                Err(Errno::ENOENT)
            } else {
                Ok(Reply::Walk { qids })
            };
        }
        if fid == newfid {
            self.held(fid)?.path = path;
        } else {
            self.bind(newfid, path)?;
        }
        Ok(Reply::Walk { qids })
    }
}

/// A stat without borrowed names.
trait Detached {
    fn detached(self) -> Stat<'static>;
}

impl Detached for Stat<'_> {
    fn detached(self) -> Stat<'static> {
        Stat {
            qid: self.qid,
            mode: self.mode,
            atime: self.atime,
            mtime: self.mtime,
            length: self.length,
            n_uid: self.n_uid,
            n_gid: self.n_gid,
            ..Stat::UNCHANGED
        }
    }
}

#[test]
fn files_on_a_server_like_xen_9pfsd() {
    let daemon = Rc::new(RefCell::new(Daemon::default()));
    let serving = daemon.clone();
    let options = LaneOptions {
        lanes: 4,
        ..LaneOptions::default()
    };
    let (transport, control) = lanes(options, move |request| serving.borrow_mut().handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    assert_eq!(fs.dialect(), Dialect::Unix);
    assert_eq!(fs.msize(), 32 << 10);

    // The root's attributes, by every way to it.
    assert!(fs.metadata("/").unwrap().is_dir());
    assert!(fs.metadata("/a/..").unwrap().is_dir());
    assert!(fs.open("/").unwrap().metadata().unwrap().is_dir());

    // Far more files than fids.
    fs.create_dir_all("/logs/old").unwrap();
    for index in 0..40 {
        let content = vec![index as u8; index * 3000];
        let path = format!("/logs/{index}");
        fs.write(&path, &content).unwrap();
        assert!(fs.read(&path).unwrap() == content);
        assert_eq!(fs.metadata(&path).unwrap().len(), content.len() as u64);
    }
    assert_eq!(fs.metadata("/logs/none"), Err(Error::Errno(Errno::ENOENT)));
    let mut names: Vec<_> = fs
        .read_dir("/logs")
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name_lossy().into_owned(),
                entry.file_type().unwrap().is_dir(),
            )
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 41);
    assert_eq!(names[40], ("old".into(), true));

    // Appending and making anew, which it has no words for.
    let mut append = OpenOptions::new();
    append.append(true).create(true);
    for text in ["one", ", two"] {
        let log = append.open(&fs, "/logs/log").unwrap();
        log.write_all(text.as_bytes()).unwrap();
        log.close().unwrap();
    }
    assert_eq!(fs.read("/logs/log").unwrap(), b"one, two");
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    let taken = new.open(&fs, "/logs/log").map(drop);
    assert_eq!(taken, Err(Error::Errno(Errno::EEXIST)));
    fs.write("/logs/log", b"").unwrap();
    assert_eq!(fs.read("/logs/log").unwrap(), b"");

    // Removing by its only way.
    fs.remove_file("/logs/log").unwrap();
    assert!(!fs.exists("/logs/log").unwrap());

    // It follows links without a word: what looks like a directory in a directory may lead out of the tree.
    fs.create_dir_all("/deep/dir").unwrap();
    fs.write("/deep/dir/file", b"elsewhere").unwrap();
    let refused = fs.remove_dir_all("/deep");
    assert!(
        matches!(refused, Err(Error::Unsupported { .. })),
        "{refused:?}"
    );
    assert_eq!(fs.read("/deep/dir/file").unwrap(), b"elsewhere");

    // What it lacks is said, not passed over.
    let file = fs.open("/logs/1").unwrap();
    assert!(matches!(file.sync_all(), Err(Error::Unsupported { .. })));
    assert!(matches!(
        file.try_lock(LockRange::ALL, true).map(drop),
        Err(Error::Unsupported { .. })
    ));
    assert_eq!(
        fs.rename("/logs/1", "/logs/x").unwrap_err().errno(),
        Errno::EOPNOTSUPP
    );
    assert_eq!(
        fs.truncate("/logs/1", 0).unwrap_err().errno(),
        Errno::EOPNOTSUPP
    );
    assert!(matches!(fs.statfs("/"), Err(Error::Unsupported { .. })));

    // A request that hangs, and a server that can't take it back.
    control.hold(&[kind::TREAD]);
    assert_eq!(file.read(&mut [0; 10]), Err(Error::TimedOut));
    control.release();
    assert_eq!(file.read(&mut [0; 10]), Ok(10));
    drop(file);
    drop(fs);
    assert!(daemon.borrow().fids.is_empty());
    assert_eq!(daemon.borrow().flushes, 1);
    assert_eq!(control.reserved(), 0);
}

/// Recovery needs nothing of a dialect that this one has not.
#[test]
fn a_lost_connection_to_it_is_found_again() {
    let daemon = Rc::new(RefCell::new(Daemon::default()));
    let connect = {
        let daemon = daemon.clone();
        move || {
            let serving = daemon.clone();
            let options = LaneOptions::default();
            lanes(options, move |request| serving.borrow_mut().handle(request))
        }
    };
    let (transport, control) = connect();
    let control = Rc::new(RefCell::new(control));
    let redial = {
        let (daemon, control) = (daemon.clone(), control.clone());
        move || {
            // It forgets a frontend that has gone.
            daemon.borrow_mut().fids.clear();
            let (transport, fresh) = connect();
            *control.borrow_mut() = fresh;
            let transport: Box<dyn Transport> = Box::new(transport);
            Ok(Some(transport))
        }
    };
    let recovery = Recovery::new(redial, Duration::from_secs(10));
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
    assert_eq!(fs.dialect(), Dialect::Unix);
    fs.create_dir("/d").unwrap();
    fs.write("/d/file", b"content").unwrap();
    let file = fs.open("/d/file").unwrap();
    control.borrow().lose_at(&[kind::TREAD], 0, true);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    control.borrow().lose_at(&[kind::TCREATE], 0, true);
    assert_eq!(fs.create_dir("/d/new"), Err(Error::MaybeApplied));
    assert!(fs.metadata("/d/new").unwrap().is_dir());
    control.borrow().lose("for a test");
    daemon.borrow_mut().files.remove("/d/file");
    assert_eq!(file.read_at(&mut [0; 4], 0), Err(Error::Stale));
    assert_eq!(fs.stats().recoveries, 3);

    // A file is removed there when its fid, opened for that, is clunked: one that is there still was not removed.
    let mut unknown = 0;
    for after in 0..5 {
        fs.write("/d/gone", b"").unwrap();
        control.borrow().lose_at(&[kind::TCLUNK], after, false);
        match fs.remove_file("/d/gone") {
            Ok(()) => assert!(!fs.exists("/d/gone").unwrap(), "{after}"),
            Err(Error::MaybeApplied) => unknown += 1,
            Err(error) => panic!("{after}: {error}"),
        }
    }
    assert!(unknown > 0);
    // A connection that nothing is to happen to.
    control.borrow().lose("for a test");
    assert!(fs.metadata("/d").unwrap().is_dir());
    drop((file, fs));
    assert!(daemon.borrow().fids.is_empty());
}
