//! What the requests do that take more than a line.

use xen9p::errno::Errno;
use xen9p::p9::wire::*;

use super::locks::Locks;
use super::tree::{Content, Ino, Result, window};
use super::{Handle, MemServer, Use, encode};

/// What QEMU says of a fid it doesn't know, to most requests; to the others, EINVAL. Never EBADF.
const UNKNOWN_FID: Errno = Errno::ENOENT;

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
            .ok_or(UNKNOWN_FID)
    }

    pub(super) fn opened(&self, fid: Fid) -> Result<(Ino, OpenFlags)> {
        match self.fids.get(&fid).ok_or(Errno::EINVAL)? {
            Handle {
                ino,
                usage: Use::Open(flags),
                ..
            } => Ok((*ino, *flags)),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn bind(&mut self, fid: Fid, ino: Ino, usage: Use) -> Result<()> {
        if fid == Fid::NONE || self.fids.contains_key(&fid) {
            return Err(Errno::EINVAL);
        }
        let name = None;
        self.fids.insert(fid, Handle { ino, name, usage });
        Ok(())
    }

    /// Frees a node without a name unless a fid still holds it.
    pub(super) fn forget(&mut self, ino: Ino) {
        if self.fids.values().all(|handle| handle.ino != ino) {
            self.tree.forget_if_unlinked(ino);
        }
    }

    pub(super) fn walk(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]]) -> Result<Qids> {
        let handle = self.fids.get(&fid).ok_or(UNKNOWN_FID)?;
        let mut ino = handle.ino;
        let mut name = handle.name.clone();
        if newfid == fid && !matches!(handle.usage, Use::Path) {
            return Err(Errno::EINVAL);
        }
        if newfid != fid && self.fids.contains_key(&newfid) {
            return Err(Errno::EINVAL);
        }
        let mut qids = Qids::new();
        for step in names {
            match self.tree.walk(ino, step) {
                Ok(next) => {
                    name = Some((ino, step.to_vec()));
                    ino = next;
                }
                Err(errno) if qids.is_empty() => return Err(errno),
                Err(_) => return Ok(qids),
            }
            assert!(qids.push(self.tree.qid(ino)), "no more qids than names");
        }
        self.fids.insert(
            newfid,
            Handle {
                ino,
                name,
                usage: Use::Path,
            },
        );
        Ok(qids)
    }

    /// Refuses to open what the owner may not open so.
    pub(super) fn check_mode(&self, fid: Fid, flags: OpenFlags) -> Result<()> {
        let writes = flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE);
        let reads = !flags.contains(OpenFlags::WRITE_ONLY);
        let needed = if reads { 0o400 } else { 0 } | if writes { 0o200 } else { 0 };
        let mode = self.tree.node(self.ino(fid)?).mode;
        match self.options.checks_modes && mode & needed != needed {
            true => Err(Errno::EACCES),
            false => Ok(()),
        }
    }

    pub(super) fn open(&mut self, fid: Fid, flags: OpenFlags) -> Result<Qid> {
        let handle = self.fids.get(&fid).ok_or(UNKNOWN_FID)?;
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
        if let Some(handle) = self.fids.get_mut(&fid) {
            handle.usage = Use::Open(flags);
        }
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
        let handle = self.fids.get(&fid).ok_or(UNKNOWN_FID)?;
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
        let place = Some((dir, name.to_vec()));
        let file = Handle {
            ino,
            name: place,
            usage: Use::Path,
        };
        let before = self.fids.insert(fid, file);
        let opened = self.open(fid, flags);
        if let (Err(_), Some(before)) = (&opened, before) {
            self.fids.insert(fid, before);
        }
        opened
    }

    pub(super) fn read(&self, fid: Fid, offset: u64, count: u32) -> Result<&[u8]> {
        let handle = self.fids.get(&fid).ok_or(Errno::EINVAL)?;
        match &handle.usage {
            Use::XattrRead(value) => Ok(window(value, offset, count)),
            Use::Open(flags) if !flags.contains(OpenFlags::WRITE_ONLY) => {
                self.tree.read(handle.ino, offset, count)
            }
            Use::Path => Err(Errno::EINVAL),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn write(&mut self, fid: Fid, offset: u64, data: Payload<'_>) -> Result<u32> {
        let limit = self.options.io_limit as usize;
        let handle = self.fids.get_mut(&fid).ok_or(Errno::EINVAL)?;
        match &mut handle.usage {
            Use::XattrWrite { value, size, .. } => {
                if offset != value.len() as u64 || value.len() + data.len() > *size {
                    return Err(Errno::EINVAL);
                }
                value.extend(data.bytes());
                Ok(data.len() as u32)
            }
            Use::Open(flags) if flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE) => {
                let append = flags.contains(OpenFlags::APPEND) && !self.options.ignores_append;
                self.tree
                    .write(handle.ino, offset, data.bytes().take(limit), append)
            }
            Use::Path => Err(Errno::EINVAL),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn readdir(&self, fid: Fid, offset: u64, count: u32) -> Result<Vec<u8>> {
        let ino = match self.fids.get(&fid).ok_or(Errno::EINVAL)? {
            Handle {
                ino,
                usage: Use::Open(_),
                ..
            } => *ino,
            _ => return Err(Errno::ENOTDIR),
        };
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
                name,
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
        let handle = self.fids.get_mut(&fid).ok_or(UNKNOWN_FID)?;
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
        let handle = self.fids.remove(&fid).ok_or(UNKNOWN_FID)?;
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

    /// The name that the fid was reached by, or another if that is gone.
    pub(super) fn name(&self, fid: Fid) -> Result<(Ino, Vec<u8>)> {
        let handle = self.fids.get(&fid).ok_or(UNKNOWN_FID)?;
        let still = |(dir, name): &&(Ino, Vec<u8>)| self.tree.is_at(*dir, name, handle.ino);
        let known = handle.name.as_ref().filter(still).cloned();
        known
            .or_else(|| self.tree.name_of(handle.ino))
            .ok_or(Errno::ENOENT)
    }

    pub(super) fn remove(&mut self, fid: Fid) -> Result<()> {
        let ino = self.ino(fid).map_err(|_| Errno::EINVAL)?;
        let place = self.name(fid);
        self.clunk(fid)?;
        let (parent, name) = place?;
        let is_dir = self.tree.node(ino).is_dir();
        self.tree.unlink(parent, &name, is_dir)?;
        self.forget(ino);
        Ok(())
    }
}
