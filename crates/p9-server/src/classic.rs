//! The requests that only 9P2000 and 9P2000.u have: what they ask for, and doing it.

use alloc::vec::Vec;

use p9_tree::{Created, Node, OpenFile, Result, is_name};
use p9_wire::{
    AttrMask, Dialect, DirMode, Errno, Fid, FileKind, OpenFlags, OpenMode, QidKind, SetAttr,
    SetAttrMask, Stat,
};

use crate::export::Policy;
use crate::fid::Use;
use crate::job::{Answer, Removal, Work};
use crate::plan::{Planned, check_target, check_truncation, copied, new_name};
use crate::request::Then;
use crate::server::Server;
use crate::stat::{OwnedStat, changes, unix_mode};

/// No group is asked for: the tree decides.
const ANY_GROUP: u32 = u32::MAX;

/// Bytes of names that are gone through at a time when a directory is read.
const BATCH: usize = 4096;

/// The most batches in one read of a directory, most of whose files would have to vanish while it is read.
const MAX_BATCHES: usize = 1024;

/// What a Tcreate makes.
pub(crate) enum Make<'m, N> {
    File,
    Directory,
    Symlink(&'m [u8]),
    Link(N),
    Special {
        kind: FileKind,
        major: u32,
        minor: u32,
    },
}

/// A Tcreate.
pub(crate) struct Making<'m, N> {
    pub dir: N,
    pub name: &'m [u8],
    pub make: Make<'m, N>,
    pub flags: OpenFlags,
    pub mode: u32,
    /// Permissions that the directory lacks are taken away, as open(5) says.
    pub inherits: bool,
}

/// A Twstat.
pub(crate) struct Changing<'m, N: Node> {
    pub node: N,
    pub attr: SetAttr,
    /// Where the file is, and its new name.
    pub rename: Option<(Removal<N>, &'m [u8])>,
    /// Whether a file that has the new name already is replaced.
    pub replaces: bool,
    /// No change: a request to bring the file to stable storage.
    pub sync: Option<alloc::sync::Arc<N::File>>,
}

/// A read of a directory.
pub(crate) struct Listing<N: Node> {
    pub dir: N,
    pub file: alloc::sync::Arc<N::File>,
    pub entry: u64,
    pub count: u32,
    pub dialect: Dialect,
}

impl<P: Policy> Server<P> {
    pub(crate) fn classic_open<'m>(
        &mut self,
        fid: Fid,
        mode: OpenMode,
        dialect: Dialect,
    ) -> Planned<'m, P::Node> {
        let mut flags = open_flags(mode, dialect);
        let append_only = self.node(fid)?.identity().kind.contains(QidKind::APPEND);
        if append_only && dialect == Dialect::Plan9 {
            // open(5): such a file is not truncated.
            flags.remove(OpenFlags::TRUNCATE);
        }
        self.open(fid, flags, mode.contains(OpenMode::REMOVE_ON_CLOSE))
    }

    pub(crate) fn classic_create<'m>(
        &mut self,
        fid: Fid,
        name: &'m [u8],
        perm: DirMode,
        mode: OpenMode,
        extension: &'m [u8],
        dialect: Dialect,
    ) -> Planned<'m, P::Node> {
        let kinds = perm - DirMode::PERMISSIONS - SET_BITS - DirMode::TMP;
        let directory = kinds == DirMode::DIR;
        let make = match kinds {
            _ if kinds.is_empty() => Make::File,
            DirMode::DIR => Make::Directory,
            // No tree makes a file append-only or exclusive.
            _ if dialect == Dialect::Plan9 => return Err(Errno::EOPNOTSUPP.into()),
            DirMode::SYMLINK => {
                check_target(extension)?;
                Make::Symlink(extension)
            }
            DirMode::LINK => {
                let original = decimal(extension).ok_or(Errno::EINVAL)?;
                let at = self.changed(Fid(original))?;
                if at.tree != self.at(fid)?.tree {
                    return Err(Errno::EXDEV.into());
                }
                Make::Link(self.places.node(at.place)?.clone())
            }
            DirMode::DEVICE => device(extension).ok_or(Errno::EINVAL)?,
            DirMode::NAMED_PIPE => special(FileKind::FIFO),
            DirMode::SOCKET => special(FileKind::SOCKET),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        let flags = open_flags(mode, dialect);
        let writes = flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE);
        if directory && writes {
            return Err(Errno::EISDIR.into());
        }
        let remove_on_clunk = mode.contains(OpenMode::REMOVE_ON_CLOSE);
        let (dir, mut then) = self.create(fid, name, flags, remove_on_clunk)?;
        if let (true, Then::Create { mode, .. }) = (directory, &mut then) {
            mode.directory = true;
            self.open_directories += 1;
        }
        let making = Making {
            dir,
            name,
            make,
            flags: flags - OpenFlags::TRUNCATE,
            mode: unix_mode(perm, dialect),
            inherits: dialect == Dialect::Plan9,
        };
        Ok((Work::Make(making), then))
    }

    pub(crate) fn stat<'m>(&mut self, fid: Fid, dialect: Dialect) -> Planned<'m, P::Node> {
        let at = self.at(fid)?;
        let name = match self.places.name(at.place)? {
            b"" => b"/",
            name => name,
        };
        let work = Work::Stat {
            node: self.places.node(at.place)?.clone(),
            name: copied(name)?,
            dialect,
        };
        Ok((work, Then::Nothing))
    }

    pub(crate) fn wstat<'m>(
        &mut self,
        fid: Fid,
        stat: Stat<'m>,
        dialect: Dialect,
    ) -> Planned<'m, P::Node> {
        let at = self.at(fid)?;
        let node = self.places.node(at.place)?.clone();
        let kind = node.identity().kind;
        let mut attr = changes(&stat, dialect);
        if attr.valid.contains(SetAttrMask::MODE) {
            let fixed = [
                (DirMode::DIR, QidKind::DIR),
                (DirMode::APPEND, QidKind::APPEND),
                (DirMode::EXCLUSIVE, QidKind::EXCLUSIVE),
            ];
            for (bit, is) in fixed {
                if stat.mode.contains(bit) != kind.contains(is) {
                    return Err(Errno::EPERM.into());
                }
            }
        }
        if attr.valid.contains(SetAttrMask::SIZE) {
            if kind.contains(QidKind::DIR) {
                match stat.length {
                    0 => attr.valid.remove(SetAttrMask::SIZE),
                    _ => return Err(Errno::EISDIR.into()),
                }
            }
            check_truncation(&node)?;
        }
        let name = self.places.name(at.place)?;
        let own = if name.is_empty() { b"/" } else { name };
        let renames = !stat.name.is_empty() && stat.name != own;
        if attr.valid.is_empty() && !renames {
            let sync = match &self.handle(fid)?.usage {
                Use::Open(_, open) => Some(open.file.clone()),
                _ => None,
            };
            let work = Work::Change(Changing {
                node,
                attr,
                rename: None,
                replaces: false,
                sync,
            });
            return Ok((work, Then::Nothing));
        }
        self.changed(fid)?;
        let mut then = Then::Nothing;
        let mut rename = None;
        if renames {
            new_name(stat.name)?;
            rename = Some((self.removal(at.place)?, stat.name));
            let to = self.places.up(at.place)?;
            self.places.hold(at.place);
            self.places.hold(to);
            then = Then::RenameFile { file: at.place, to };
        }
        let work = Work::Change(Changing {
            node,
            attr,
            rename,
            replaces: dialect != Dialect::Plan9,
            sync: None,
        });
        Ok((work, then))
    }

    pub(crate) fn list<'m>(
        &mut self,
        fid: Fid,
        offset: u64,
        count: u32,
        dialect: Dialect,
    ) -> Planned<'m, P::Node> {
        let (at, open) = self.opened(fid)?;
        let entry = match offset {
            0 => 0,
            _ if offset == open.cursor.bytes => open.cursor.entry,
            // read(5): a directory is read from its beginning on.
            _ => return Err(Errno::EINVAL.into()),
        };
        let listing = Listing {
            dir: self.places.node(at.place)?.clone(),
            file: open.file.clone(),
            entry,
            count,
            dialect,
        };
        self.set_busy(fid, true);
        Ok((Work::List(listing), Then::List { fid, offset }))
    }
}

const SET_BITS: DirMode = DirMode::SET_UID
    .union(DirMode::SET_GID)
    .union(DirMode::STICKY);

fn open_flags(mode: OpenMode, dialect: Dialect) -> OpenFlags {
    let mut flags = match mode & OpenMode::EXECUTE {
        OpenMode::WRITE_ONLY => OpenFlags::WRITE_ONLY,
        OpenMode::READ_WRITE => OpenFlags::READ_WRITE,
        _ => OpenFlags::empty(),
    };
    flags.set(OpenFlags::TRUNCATE, mode.contains(OpenMode::TRUNCATE));
    let append = dialect != Dialect::Plan9 && mode.contains(OpenMode::APPEND);
    flags.set(OpenFlags::APPEND, append);
    flags
}

fn decimal(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A device, from "b MAJOR MINOR" or "c MAJOR MINOR".
fn device<'m, N>(text: &[u8]) -> Option<Make<'m, N>> {
    let text = core::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let kind = match words.next()? {
        "b" => FileKind::BLOCK_DEVICE,
        "c" => FileKind::CHAR_DEVICE,
        _ => return None,
    };
    let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words
        .next()
        .is_none()
        .then_some(Make::Special { kind, major, minor })
}

fn special<'m, N>(kind: FileKind) -> Make<'m, N> {
    Make::Special {
        kind,
        major: 0,
        minor: 0,
    }
}

/// Makes a file; opens it if it is one that can be opened.
pub(crate) async fn make<N: Node>(making: Making<'_, N>) -> Result<Answer<N>> {
    let Making {
        dir,
        name,
        make,
        flags,
        mut mode,
        inherits,
    } = making;
    if inherits {
        let above = dir.getattr(AttrMask::MODE).await?.mode;
        mode &= match make {
            Make::Directory => !0o777 | above & 0o777,
            _ => !0o666 | above & 0o666,
        };
    }
    Ok(match make {
        Make::File => {
            let flags = flags | OpenFlags::EXCLUSIVE;
            Answer::Created(dir.create(name, flags, mode, ANY_GROUP).await?)
        }
        Make::Directory => {
            let node = dir.mkdir(name, mode, ANY_GROUP).await?;
            let file = node.open(OpenFlags::DIRECTORY).await?;
            Answer::Created(Created { node, file })
        }
        Make::Symlink(target) => Answer::Made(dir.symlink(name, target, ANY_GROUP).await?),
        Make::Link(original) => {
            dir.link(&original, name).await?;
            Answer::Made(original)
        }
        Make::Special { kind, major, minor } => {
            let mode = kind.bits() | mode;
            Answer::Made(dir.mknod(name, mode, major, minor, ANY_GROUP).await?)
        }
    })
}

/// Changes a file: all that is asked for or, where the tree can do that, nothing.
pub(crate) async fn change<N: Node>(changing: Changing<'_, N>) -> Result<Answer<N>> {
    let Changing {
        node,
        attr,
        rename,
        replaces,
        sync,
    } = changing;
    if let Some((removal, new_name)) = &rename {
        crate::run::check(removal).await?;
        if !replaces && removal.parent.walk(new_name).await.is_ok() {
            return Err(Errno::EEXIST.into());
        }
    }
    if !attr.valid.is_empty() {
        node.setattr(&attr).await?;
    }
    if let Some((removal, new_name)) = rename {
        let parent = &removal.parent;
        parent.rename(&removal.name, parent, new_name).await?;
    }
    if let Some(file) = sync {
        file.fsync(false).await?;
    }
    Ok(Answer::Unit)
}

/// Reads a directory: one stat after the other.
pub(crate) async fn list<N: Node>(listing: Listing<N>, room: &mut [u8]) -> Result<Answer<N>> {
    let Listing {
        dir,
        file,
        mut entry,
        dialect,
        ..
    } = listing;
    let mut batch = Vec::new();
    batch.try_reserve_exact(BATCH).map_err(|_| Errno::ENOMEM)?;
    let mut len = 0;
    for _ in 0..MAX_BATCHES {
        batch.clear();
        file.readdir(entry, &mut |found| {
            // "." and ".." have no place here.
            let name = if is_name(found.name) { found.name } else { b"" };
            if batch.len() + 9 + name.len() > BATCH {
                return false;
            }
            batch.extend_from_slice(&found.offset.to_le_bytes());
            batch.push(name.len() as u8);
            batch.extend_from_slice(name);
            true
        })
        .await?;
        if batch.is_empty() {
            return Ok(Answer::Listed { len, entry });
        }
        let mut rest = &batch[..];
        while let Some((offset, name)) = next_of(&mut rest) {
            if !name.is_empty() {
                let place = room.get_mut(len..).unwrap_or_default();
                match encoded(&dir, name, dialect, place).await {
                    Ok(Some(more)) => len += more,
                    // It is gone again.
                    Ok(None) => (),
                    Err(error) if len == 0 => return Err(error),
                    Err(_) => return Ok(Answer::Listed { len, entry }),
                }
            }
            entry = offset;
        }
    }
    match len {
        0 => Err(Errno::EIO.into()),
        _ => Ok(Answer::Listed { len, entry }),
    }
}

fn next_of<'b>(rest: &mut &'b [u8]) -> Option<(u64, &'b [u8])> {
    let (offset, after) = rest.split_first_chunk()?;
    let (len, after) = after.split_first()?;
    let (name, after) = after.split_at_checked(usize::from(*len))?;
    *rest = after;
    Some((u64::from_le_bytes(*offset), name))
}

/// Encodes the stat of a file in `dir`; `None` if there is none any more. EINVAL if there is no room.
async fn encoded<N: Node>(
    dir: &N,
    name: &[u8],
    dialect: Dialect,
    into: &mut [u8],
) -> Result<Option<usize>> {
    let stat = match dir.walk(name).await {
        Ok(node) => OwnedStat::of(&node, copied(name)?, dialect).await,
        Err(error) => Err(error),
    };
    match stat {
        Ok(stat) => match stat.stat().encode(dialect, into) {
            Ok(len) => Ok(Some(len)),
            Err(_) => Err(Errno::EINVAL.into()),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
