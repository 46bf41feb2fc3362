//! A server like xen-9pfsd: 9P2000.u, nine requests, five fids, and listings of its own kind.

use std::collections::{BTreeMap, HashMap};

use xen9p::errno::Errno;
use xen9p::p9::Dialect;
use xen9p::p9::wire::*;

/// Fids that it allows, the root's included.
const MOST_FIDS: usize = 5;

/// A file that a fid stands for.
pub struct Held {
    path: String,
    open: bool,
    remove: bool,
    /// How far a listing has come.
    listed: usize,
}

/// The server. Directories are paths without content.
#[derive(Default)]
pub struct Daemon {
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// Symbolic links, which it follows: what they lead to.
    pub links: BTreeMap<String, String>,
    pub fids: HashMap<Fid, Held>,
    pub flushes: usize,
    /// Requests so far.
    pub requests: usize,
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
    /// The path without links; of a dangling one, what it leads to.
    fn resolve(&self, path: &str) -> String {
        let mut path = path.to_string();
        while let Some((link, target)) = self.links.iter().find(|(link, _)| {
            let rest = path.strip_prefix(link.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }) {
            path = format!("{target}{}", &path[link.len()..]);
        }
        path
    }

    fn file(&self, path: &str) -> Option<&Option<Vec<u8>>> {
        self.files.get(&self.resolve(path))
    }

    fn file_mut(&mut self, path: &str) -> Option<&mut Option<Vec<u8>>> {
        let path = self.resolve(path);
        self.files.get_mut(&path)
    }

    fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || matches!(self.file(path), Some(None))
    }

    fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.file(path).is_some()
    }

    fn stat<'a>(&self, path: &'a str) -> Stat<'a> {
        let content = self.file(path).and_then(Option::as_ref);
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

    /// Entries of a directory from the `listed`th on, in its own layout. One that does not fit is passed over, and lost; so
    /// is one that leads nowhere, which makes all of it an error.
    fn listing(&self, dir: &str, listed: &mut usize, count: u32) -> Result<Vec<u8>, Errno> {
        let dir = self.resolve(dir);
        let parent = |path: &str| path.rsplit_once('/').map_or("", |(dir, _)| dir).to_string();
        let mut below: Vec<&String> = self.files.keys().chain(self.links.keys()).collect();
        below.retain(|path| parent(path) == dir);
        below.sort();
        let (mut data, mut claimed) = (Vec::new(), 0);
        for path in below.into_iter().skip(*listed) {
            if claimed == count as usize {
                break;
            }
            *listed += 1;
            if !self.exists(path) {
                return Err(Errno::ENOENT);
            }
            let mut bytes = vec![0; 1000];
            let len = self.stat(path).encode(Dialect::Unix, &mut bytes).unwrap();
            let fields = &bytes[2..len];
            let outer = fields.len() as u16 + 12;
            if claimed + usize::from(outer) > count as usize {
                break;
            }
            claimed += usize::from(outer);
            data.extend(outer.to_le_bytes());
            data.extend((outer - 2).to_le_bytes());
            data.extend(fields);
        }
        data.resize(claimed, 0xaa);
        Ok(data)
    }

    /// Answers a message.
    pub fn handle(&mut self, request: &[u8]) -> Vec<u8> {
        self.requests += 1;
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
                    && let Some(Some(content)) = self.file_mut(&path)
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
                let Held { path, listed, .. } = self.held(fid)?;
                let (path, mut place) = (path.clone(), *listed);
                if let Some(Some(content)) = self.file(&path) {
                    let rest = content.get(offset as usize..).unwrap_or(&[]);
                    data.extend(rest.iter().take(count as usize));
                } else {
                    // An offset means nothing but where the beginning is.
                    if offset == 0 {
                        place = 0;
                    }
                    let listing = self.listing(&path, &mut place, count);
                    self.held(fid)?.listed = place;
                    *data = listing?;
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
                let content = self.file_mut(&path).and_then(Option::as_mut);
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
                    // The name goes, not what a link leads to.
                    match self.links.remove(&held.path) {
                        Some(_) => {}
                        None => drop(self.files.remove(&self.resolve(&held.path))),
                    }
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
