//! A 9P2000.L server in memory, after QEMU's and Linux's behaviour, built on the codec's server side.

mod engine;
mod locks;
mod node;
mod ops;
mod options;
mod tree;

use std::collections::HashMap;

use xen9p::errno::Errno;
use xen9p::p9::wire::*;

pub use engine::{Engine, ready};
pub use node::{MemFile, MemNode, MemTree};
pub use options::MemOptions;

use locks::{Lock, Locks};
use tree::{Content, Ino, ROOT, Result, Tree};

/// What a fid stands for.
#[derive(Debug)]
enum Use {
    /// A file that is not open.
    Path,
    /// An open file.
    Open(OpenFlags),
    /// The value of an extended attribute, or the list of their names.
    XattrRead(Vec<u8>),
    /// An extended attribute being written; set when the fid is clunked.
    XattrWrite {
        name: Vec<u8>,
        value: Vec<u8>,
        size: usize,
        flags: XattrFlags,
    },
}

#[derive(Debug)]
struct Handle {
    ino: Ino,
    /// Directory and name that it was reached by.
    name: Option<(Ino, Vec<u8>)>,
    usage: Use,
}

/// The server: takes requests, gives replies. Starts with an empty root directory.
pub struct MemServer {
    /// The rest is for what this would not do.
    engine: Option<Engine>,
    tree: Tree,
    fids: HashMap<Fid, Handle>,
    locks: Locks,
    msize: u32,
    options: MemOptions,
}

impl MemServer {
    pub fn new(options: MemOptions) -> Self {
        let msize = options.msize;
        let (tree, fids, locks) = (Tree::new(), HashMap::new(), Locks::default());
        MemServer {
            engine: options.is_sound().then(|| Engine::new(&options)),
            tree,
            fids,
            locks,
            msize,
            options,
        }
    }

    /// Puts a file with this content at a path from the root, with the directories that it takes.
    pub fn put(&mut self, path: &str, content: &[u8]) {
        if let Some(engine) = &self.engine {
            return engine.tree.put(path, content);
        }
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = dirs
            .split('/')
            .filter(|dir| !dir.is_empty())
            .fold(ROOT, |at, dir| {
                let there = self.tree.walk(at, dir.as_bytes());
                there.unwrap_or_else(|_| self.tree.mkdir(at, dir.as_bytes(), 0o755, 0).expect(path))
            });
        let mode = FileKind::REGULAR.bits() | 0o644;
        let file = Content::File(content.to_vec());
        self.tree
            .create(parent, name.as_bytes(), mode, 0, file)
            .expect(path);
    }

    /// Writes these bytes to a file that is there, from `offset` on, as another program on the server does.
    pub fn change(&mut self, path: &str, offset: u64, bytes: &[u8]) {
        match &self.engine {
            Some(engine) => engine.tree.change(path, offset, bytes),
            None => self.tree.change(path, offset, bytes),
        }
    }

    /// The content of the file at a path from the root, if there is one.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(engine) = &self.engine {
            return engine.tree.get(path);
        }
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let ino = names.try_fold(ROOT, |at, name| self.tree.walk(at, name.as_bytes()).ok())?;
        match &self.tree.node(ino).content {
            Content::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Number of fids in use: 0 after a client that cleans up.
    pub fn fids(&self) -> usize {
        match &self.engine {
            Some(engine) => engine.server.usage().fids,
            None => self.fids.len(),
        }
    }

    /// Answers one request. What can't be decoded is answered EPROTO; what is too short to have a
    /// tag, not at all.
    pub fn handle(&mut self, request: &[u8]) -> Vec<u8> {
        let Some(header) = request.first_chunk().map(parse_header) else {
            return Vec::new();
        };
        let tag = Tag(header.tag);
        if let Some(engine) = &mut self.engine
            && !self.options.lacks.contains(&header.kind)
        {
            return engine.handle(request);
        }
        let answer = match Request::decode(Reader::new(request, Dialect::Linux)) {
            Ok((_, request)) if self.options.lacks.contains(&request.kind()) => {
                Err(Errno::EOPNOTSUPP)
            }
            Ok((_, request)) if request.is_change() && self.options.read_only => Err(Errno::EROFS),
            Ok((tag, request)) => self.serve(tag, &request),
            Err(WireError::Kind { .. }) => Err(Errno::EOPNOTSUPP),
            Err(_) => Err(Errno::EPROTO),
        };
        let fits =
            |reply: &[u8]| self.options.oversize_replies || reply.len() <= self.msize as usize;
        let answer = answer.and_then(|reply| match fits(&reply) {
            true => Ok(reply),
            false => Err(Errno::EMSGSIZE),
        });
        answer.unwrap_or_else(|errno| {
            encode(
                tag,
                Reply::Lerror {
                    ecode: errno.number().into(),
                },
            )
        })
    }

    fn serve(&mut self, tag: Tag, request: &Request<'_>) -> Result<Vec<u8>> {
        let reply = match *request {
            Request::Version { msize, version } => return self.version(tag, msize, version),
            Request::Auth { .. } => return Err(Errno::EOPNOTSUPP),
            Request::Attach { fid, .. } => {
                self.bind(fid, ROOT, Use::Path)?;
                Reply::Attach {
                    qid: self.tree.qid(ROOT),
                }
            }
            // Everything is answered before the next request is looked at.
            Request::Flush { .. } => Reply::Flush,
            Request::Walk { fid, newfid, names } => Reply::Walk {
                qids: self.walk(fid, newfid, &names)?,
            },
            Request::Read { fid, offset, count } => {
                let count = count
                    .min(self.msize - READ_HEADER_LEN as u32)
                    .min(self.options.io_limit);
                let data = Payload::from(self.read(fid, offset, count)?);
                return Ok(encode(tag, Reply::Read { data }));
            }
            Request::Write { fid, offset, data } => Reply::Write {
                count: self.write(fid, offset, data)?,
            },
            Request::Clunk { fid } => {
                self.clunk(fid)?;
                Reply::Clunk
            }
            Request::Remove { fid } => {
                self.remove(fid)?;
                Reply::Remove
            }
            Request::Statfs { fid } => {
                self.ino(fid)?;
                let statfs = Statfs {
                    kind: 0x0102_1994,
                    bsize: 4096,
                    blocks: 1 << 16,
                    bfree: 1 << 15,
                    bavail: 1 << 15,
                    files: 1 << 20,
                    ffree: 1 << 19,
                    fsid: 9,
                    namelen: 255,
                };
                Reply::Statfs { statfs }
            }
            Request::Lopen { fid, flags } => {
                self.check_mode(fid, flags)?;
                let qid = self.open(fid, flags)?;
                Reply::Lopen {
                    qid,
                    iounit: self.options.iounit,
                }
            }
            Request::Lcreate {
                fid,
                name,
                flags,
                mode,
                gid,
            } => {
                let qid = self.create(fid, name, flags, mode, gid)?;
                Reply::Lcreate {
                    qid,
                    iounit: self.options.iounit,
                }
            }
            Request::Symlink {
                dfid,
                name,
                target,
                gid,
            } => {
                if target.is_empty() || target.len() >= 4096 {
                    return Err(if target.is_empty() {
                        Errno::ENOENT
                    } else {
                        Errno::ENAMETOOLONG
                    });
                }
                let mode = FileKind::SYMLINK.bits() | 0o777;
                let link = Content::Symlink(target.to_vec());
                let ino = self.tree.create(self.ino(dfid)?, name, mode, gid, link)?;
                Reply::Symlink {
                    qid: self.tree.qid(ino),
                }
            }
            Request::Mknod {
                dfid,
                name,
                mode,
                major,
                minor,
                gid,
            } => {
                let content = match FileKind::of_mode(mode) {
                    FileKind::DIR | FileKind::SYMLINK => return Err(Errno::EINVAL),
                    FileKind::REGULAR => Content::File(Vec::new()),
                    _ => Content::Special {
                        rdev: u64::from(major) << 8 | u64::from(minor),
                    },
                };
                let ino = self
                    .tree
                    .create(self.ino(dfid)?, name, mode, gid, content)?;
                Reply::Mknod {
                    qid: self.tree.qid(ino),
                }
            }
            Request::Rename { fid, dfid, name } => {
                let from = self.name(fid)?;
                self.rename((from.0, &from.1), (self.ino(dfid)?, name))?;
                Reply::Rename
            }
            Request::Renameat {
                olddirfid,
                oldname,
                newdirfid,
                newname,
            } => {
                self.rename(
                    (self.ino(olddirfid)?, oldname),
                    (self.ino(newdirfid)?, newname),
                )?;
                Reply::Renameat
            }
            Request::Readlink { fid } => match &self.tree.node(self.ino(fid)?).content {
                Content::Symlink(target) => return Ok(encode(tag, Reply::Readlink { target })),
                _ => return Err(Errno::EINVAL),
            },
            Request::Getattr { fid, .. } => Reply::Getattr {
                attr: self.tree.attr(self.ino(fid)?),
            },
            Request::Setattr { fid, attr } => {
                let ino = self.ino(fid).map_err(|_| Errno::EINVAL)?;
                self.tree.set_attr(ino, &attr)?;
                Reply::Setattr
            }
            Request::Xattrwalk { fid, newfid, name } => Reply::Xattrwalk {
                size: self.xattr_walk(fid, newfid, name)?,
            },
            Request::Xattrcreate {
                fid,
                name,
                size,
                flags,
            } => {
                self.xattr_create(fid, name, size, flags)?;
                Reply::Xattrcreate
            }
            Request::Readdir { fid, offset, count } => {
                let data =
                    self.readdir(fid, offset, count.min(self.msize - READ_HEADER_LEN as u32))?;
                return Ok(encode(
                    tag,
                    Reply::Readdir {
                        data: Payload::from(&data[..]),
                    },
                ));
            }
            Request::Fsync { fid, .. } => {
                self.opened(fid)?;
                Reply::Fsync
            }
            Request::Lock {
                fid,
                kind,
                start,
                length,
                proc_id,
                client_id,
                ..
            } => {
                let (ino, _) = self.opened(fid)?;
                let wanted = Lock::new(kind, start, length, proc_id, client_id);
                let status = match self.locks.conflict(ino, &wanted) {
                    Some(_) if kind != LockKind::UNLOCK => LockStatus::BLOCKED,
                    _ => {
                        self.locks.set(ino, fid, wanted);
                        LockStatus::SUCCESS
                    }
                };
                Reply::Lock { status }
            }
            Request::Getlock {
                fid,
                kind,
                start,
                length,
                proc_id,
                client_id,
            } => {
                let (ino, _) = self.opened(fid)?;
                let wanted = Lock::new(kind, start, length, proc_id, client_id);
                let answer = match self.locks.conflict(ino, &wanted) {
                    Some(held) => held,
                    None => &Lock {
                        kind: LockKind::UNLOCK,
                        ..wanted
                    },
                };
                let (kind, start, length) = (answer.kind, answer.start, answer.length());
                let (proc_id, client_id) = (answer.proc_id, &answer.client_id[..]);
                return Ok(encode(
                    tag,
                    Reply::Getlock {
                        kind,
                        start,
                        length,
                        proc_id,
                        client_id,
                    },
                ));
            }
            Request::Link { dfid, fid, name } => {
                self.tree.link(self.ino(dfid)?, name, self.ino(fid)?)?;
                Reply::Link
            }
            Request::Mkdir {
                dfid,
                name,
                mode,
                gid,
            } => {
                let ino = self.tree.mkdir(self.ino(dfid)?, name, mode, gid)?;
                Reply::Mkdir {
                    qid: self.tree.qid(ino),
                }
            }
            Request::Unlinkat {
                dirfid,
                name,
                flags,
            } => {
                if !UnlinkFlags::REMOVE_DIR.contains(flags) {
                    return Err(Errno::EINVAL);
                }
                let ino = self.tree.unlink(
                    self.ino(dirfid)?,
                    name,
                    flags.contains(UnlinkFlags::REMOVE_DIR),
                )?;
                self.forget(ino);
                Reply::Unlinkat
            }
            Request::Open { .. }
            | Request::Create { .. }
            | Request::Stat { .. }
            | Request::Wstat { .. } => {
                return Err(Errno::EOPNOTSUPP);
            }
        };
        Ok(encode(tag, reply))
    }
}

/// What a read-only export refuses, apart from opening for writing.
trait Change {
    fn is_change(&self) -> bool;
}

impl Change for Request<'_> {
    fn is_change(&self) -> bool {
        matches!(
            self,
            Request::Lcreate { .. }
                | Request::Symlink { .. }
                | Request::Mknod { .. }
                | Request::Mkdir { .. }
                | Request::Link { .. }
                | Request::Rename { .. }
                | Request::Renameat { .. }
                | Request::Unlinkat { .. }
                | Request::Remove { .. }
                | Request::Setattr { .. }
                | Request::Xattrcreate { .. }
                | Request::Write { .. }
        )
    }
}

fn encode(tag: Tag, reply: Reply<'_>) -> Vec<u8> {
    let head = match reply.encode_head(tag, Dialect::Linux, &mut []) {
        Err(WireError::Room { needed }) => needed as usize,
        other => panic!("{reply:?}: {other:?}"),
    };
    let mut bytes = vec![0; head + reply.payload().len()];
    reply
        .encode(tag, Dialect::Linux, &mut bytes)
        .expect("measured");
    bytes
}
