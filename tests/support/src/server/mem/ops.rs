//! What the requests do that take more than a line.

use xen9p::errno::Errno;
use xen9p::p9::wire::*;

use super::locks::Locks;
use super::tree::{Content, Ino, Result, window};
use super::{Handle, MemServer, Use, encode};

impl MemServer {
    pub(super) fn version(&mut self, tag: Tag, msize: u32, version: &[u8]) -> Result<Vec<u8>> {
        self.fids.clear();
        self.locks = Locks::default();
        if msize < 4096 {
            return Err(Errno::EMSGSIZE);
        }
        self.msize = msize.min(self.options.msize);
        let version = match Dialect::from_version(version) {
            Some(Dialect::Linux) => version,
            _ => b"unknown",
        };
        Ok(encode(
            tag,
            Reply::Version {
                msize: self.msize,
                version,
            },
        ))
    }

    pub(super) fn ino(&self, fid: Fid) -> Result<Ino> {
        self.fids
            .get(&fid)
            .map(|handle| handle.ino)
            .ok_or(Errno::EBADF)
    }

    pub(super) fn opened(&self, fid: Fid) -> Result<(Ino, OpenFlags)> {
        match self.fids.get(&fid).ok_or(Errno::EBADF)? {
            Handle {
                ino,
                usage: Use::Open(flags),
            } => Ok((*ino, *flags)),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn bind(&mut self, fid: Fid, ino: Ino, usage: Use) -> Result<()> {
        if fid == Fid::NONE || self.fids.contains_key(&fid) {
            return Err(Errno::EINVAL);
        }
        self.fids.insert(fid, Handle { ino, usage });
        Ok(())
    }

    /// Frees a node without a name unless a fid still holds it.
    pub(super) fn forget(&mut self, ino: Ino) {
        if self.fids.values().all(|handle| handle.ino != ino) {
            self.tree.forget_if_unlinked(ino);
        }
    }

    pub(super) fn walk(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]]) -> Result<Qids> {
        let handle = self.fids.get(&fid).ok_or(Errno::EBADF)?;
        let mut ino = handle.ino;
        if newfid == fid && !matches!(handle.usage, Use::Path) {
            return Err(Errno::EINVAL);
        }
        if newfid != fid && self.fids.contains_key(&newfid) {
            return Err(Errno::EINVAL);
        }
        let mut qids = Qids::new();
        for name in names {
            match self.tree.walk(ino, name) {
                Ok(next) => ino = next,
                Err(errno) if qids.is_empty() => return Err(errno),
                Err(_) => return Ok(qids),
            }
            assert!(qids.push(self.tree.qid(ino)), "no more qids than names");
        }
        self.fids.insert(
            newfid,
            Handle {
                ino,
                usage: Use::Path,
            },
        );
        Ok(qids)
    }

    pub(super) fn open(&mut self, fid: Fid, flags: OpenFlags) -> Result<Qid> {
        let handle = self.fids.get(&fid).ok_or(Errno::EBADF)?;
        let ino = handle.ino;
        if !matches!(handle.usage, Use::Path) {
            return Err(Errno::EINVAL);
        }
        let writes =
            flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE | OpenFlags::TRUNCATE);
        if writes && self.options.read_only {
            return Err(Errno::EROFS);
        }
        match &self.tree.node(ino).content {
            Content::Dir { .. } if writes => return Err(Errno::EISDIR),
            Content::Dir { .. } => (),
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            Content::File(_) if flags.contains(OpenFlags::TRUNCATE) => self.tree.set_len(ino, 0)?,
            Content::File(_) => (),
            Content::Symlink(_) => return Err(Errno::ELOOP),
            Content::Special { .. } => return Err(Errno::ENXIO),
        }
        self.fids.insert(
            fid,
            Handle {
                ino,
                usage: Use::Open(flags),
            },
        );
        Ok(self.tree.qid(ino))
    }

    pub(super) fn create(
        &mut self,
        fid: Fid,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Qid> {
        let handle = self.fids.get(&fid).ok_or(Errno::EBADF)?;
        if !matches!(handle.usage, Use::Path) {
            return Err(Errno::EINVAL);
        }
        let dir = handle.ino;
        let mode = FileKind::REGULAR.bits() | mode & 0o7777;
        let ino = match self
            .tree
            .create(dir, name, mode, gid, Content::File(Vec::new()))
        {
            Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCLUSIVE) => {
                self.tree.walk(dir, name)?
            }
            made => made?,
        };
        self.fids.insert(
            fid,
            Handle {
                ino,
                usage: Use::Path,
            },
        );
        let opened = self.open(fid, flags);
        if opened.is_err() {
            self.fids.insert(
                fid,
                Handle {
                    ino: dir,
                    usage: Use::Path,
                },
            );
        }
        opened
    }

    pub(super) fn read(&self, fid: Fid, offset: u64, count: u32) -> Result<&[u8]> {
        let handle = self.fids.get(&fid).ok_or(Errno::EBADF)?;
        match &handle.usage {
            Use::XattrRead(value) => Ok(window(value, offset, count)),
            Use::Open(flags) if !flags.contains(OpenFlags::WRITE_ONLY) => {
                self.tree.read(handle.ino, offset, count)
            }
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn write(&mut self, fid: Fid, offset: u64, data: Payload<'_>) -> Result<u32> {
        let limit = self.options.io_limit as usize;
        let handle = self.fids.get_mut(&fid).ok_or(Errno::EBADF)?;
        match &mut handle.usage {
            Use::XattrWrite { value, size, .. } => {
                if offset != value.len() as u64 || value.len() + data.len() > *size {
                    return Err(Errno::EINVAL);
                }
                value.extend(data.bytes());
                Ok(data.len() as u32)
            }
            Use::Open(flags) if flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE) => {
                let append = flags.contains(OpenFlags::APPEND);
                self.tree
                    .write(handle.ino, offset, data.bytes().take(limit), append)
            }
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn readdir(&self, fid: Fid, offset: u64, count: u32) -> Result<Vec<u8>> {
        let (ino, _) = self.opened(fid)?;
        let mut data = vec![0; count as usize];
        let mut len = 0;
        for (name, entry) in self.tree.list(ino, offset)? {
            let (mut qid, mut kind) = (
                self.tree.qid(entry.ino),
                DirEntryKind::of(FileKind::of_mode(self.tree.node(entry.ino).mode)),
            );
            if self.options.untyped_entries {
                (qid.kind, kind) = (QidKind::empty(), DirEntryKind::UNKNOWN);
            }
            let entry = DirEntry {
                qid,
                offset: entry.cookie,
                kind,
                name: &name,
            };
            match entry.encode(&mut data[len..]) {
                Ok(more) => len += more,
                Err(_) => break,
            }
        }
        data.truncate(len);
        Ok(data)
    }

    pub(super) fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        if let Some(replaced) = self.tree.rename(from, to)? {
            self.forget(replaced);
        }
        Ok(())
    }

    pub(super) fn xattr_walk(&mut self, fid: Fid, newfid: Fid, name: &[u8]) -> Result<u64> {
        let ino = self.ino(fid)?;
        let xattrs = &self.tree.node(ino).xattrs;
        let value = match name {
            b"" => xattrs
                .keys()
                .flat_map(|name| [name, &b"\0"[..]].concat())
                .collect(),
            _ => xattrs.get(name).ok_or(Errno::ENODATA)?.clone(),
        };
        let size = value.len() as u64;
        self.bind(newfid, ino, Use::XattrRead(value))?;
        Ok(size)
    }

    pub(super) fn xattr_create(
        &mut self,
        fid: Fid,
        name: &[u8],
        size: u64,
        flags: XattrFlags,
    ) -> Result<()> {
        let handle = self.fids.get_mut(&fid).ok_or(Errno::EBADF)?;
        if !matches!(handle.usage, Use::Path) {
            return Err(Errno::EINVAL);
        }
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= 65536)
            .ok_or(Errno::E2BIG)?;
        handle.usage = Use::XattrWrite {
            name: name.to_vec(),
            value: Vec::new(),
            size,
            flags,
        };
        Ok(())
    }

    pub(super) fn clunk(&mut self, fid: Fid) -> Result<()> {
        let handle = self.fids.remove(&fid).ok_or(Errno::EBADF)?;
        self.locks.drop_fid(fid);
        if let Use::XattrWrite {
            name,
            value,
            size,
            flags,
        } = handle.usage
        {
            let xattrs = &mut self.tree.node_mut(handle.ino).xattrs;
            let exists = xattrs.contains_key(&name);
            if value.len() != size {
                return Err(Errno::EINVAL);
            }
            if flags.contains(XattrFlags::CREATE) && exists {
                return Err(Errno::EEXIST);
            }
            if (size == 0 || flags.contains(XattrFlags::REPLACE)) && !exists {
                return Err(Errno::ENODATA);
            }
            match size {
                0 => xattrs.remove(&name),
                _ => xattrs.insert(name, value),
            };
        }
        self.forget(handle.ino);
        Ok(())
    }

    pub(super) fn remove(&mut self, fid: Fid) -> Result<()> {
        let ino = self.ino(fid)?;
        self.clunk(fid)?;
        let (parent, name) = self.tree.name_of(ino).ok_or(Errno::EBUSY)?;
        let is_dir = self.tree.node(ino).is_dir();
        self.tree.unlink(parent, &name, is_dir)?;
        self.forget(ino);
        Ok(())
    }
}
