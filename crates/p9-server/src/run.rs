//! Doing what a job says.

use alloc::sync::Arc;
use alloc::vec::Vec;

use p9_tree::{Node, OpenFile, Result, is_name};
use p9_wire::{
    DirEntry, Errno, Names, Payload, Qid, QidKind, Qids, READ_HEADER_LEN, Request, UnlinkFlags,
};

use crate::classic;
use crate::job::{Answer, Done, Job, Removal, Way, Work};
use crate::stat::OwnedStat;

impl<'m, N: Node> Job<'m, N> {
    /// Does the work. `buffer` is where the reply will be: data that is read goes there at once, behind the place of its head.
    /// It should have room for a message of the agreed size; of a read, no more is done than it holds.
    ///
    /// # Blocking
    /// Waits for the tree only: on one that never waits it is ready at the first poll. Dropping the future gives the job up
    /// half-way, which the server has to be told: [`Server::abandon`](crate::Server::abandon).
    pub async fn run(self, buffer: &mut [u8]) -> Done<'m, N> {
        let Job { head, work, .. } = self;
        let names = match &head.request {
            Some(Request::Walk { names, .. }) => *names,
            _ => Names::new(),
        };
        let room = buffer.get_mut(READ_HEADER_LEN..).unwrap_or_default();
        let outcome = run(work, &names, room).await;
        Done {
            head,
            outcome: outcome.map_err(p9_tree::Error::errno),
        }
    }
}

async fn run<N: Node>(work: Work<'_, N>, names: &[&[u8]], room: &mut [u8]) -> Result<Answer<N>> {
    let unit = Answer::Unit;
    Ok(match work {
        Work::Done(outcome) => outcome?,
        Work::Wait => return Err(Errno::EBUSY.into()),
        Work::Attach { root, below, depth } => Answer::Attached(attach(root, below, depth).await?),
        Work::Walk { from, above, way } => walk(from, above, way, names).await?,
        Work::Getattr { node, file, mask } => {
            let of_file = match &file {
                Some(file) => file.getattr(mask).await.ok(),
                None => None,
            };
            Answer::Attr(match of_file {
                Some(attr) => attr,
                None => node.getattr(mask).await?,
            })
        }
        Work::Setattr { node, file, attr } => {
            let by_file = match &file {
                Some(file) => file.setattr(&attr).await,
                None => Err(Errno::EROFS.into()),
            };
            match by_file {
                // What a tree says that changes files by their nodes.
                Err(error) if error == Errno::EROFS.into() => node.setattr(&attr).await?,
                done => done?,
            }
            unit
        }
        Work::Statfs(node) => Answer::Statfs(node.statfs().await?),
        Work::Readlink(node) => Answer::Bytes(node.readlink().await?),
        Work::Open { node, flags } => {
            let file = node.open(flags).await?;
            Answer::Opened(file, node.qid())
        }
        Work::Create {
            dir,
            name,
            flags,
            mode,
            gid,
        } => Answer::Created(dir.create(name, flags, mode, gid).await?),
        Work::Mkdir {
            dir,
            name,
            mode,
            gid,
        } => Answer::Qid(dir.mkdir(name, mode, gid).await?.qid()),
        Work::Symlink {
            dir,
            name,
            target,
            gid,
        } => Answer::Qid(dir.symlink(name, target, gid).await?.qid()),
        Work::Mknod {
            dir,
            name,
            mode,
            major,
            minor,
            gid,
        } => {
            let made = dir.mknod(name, mode, major, minor, gid).await?;
            Answer::Qid(made.qid())
        }
        Work::Link {
            dir,
            original,
            name,
        } => dir.link(&original, name).await.map(|()| unit)?,
        Work::Rename {
            from,
            name,
            to,
            new_name,
        } => from.rename(name, &to, new_name).await.map(|()| unit)?,
        Work::RenameFile {
            removal,
            to,
            new_name,
        } => {
            check(&removal).await?;
            let renamed = removal.parent.rename(&removal.name, &to, new_name).await;
            renamed.map(|()| unit)?
        }
        Work::Unlink { dir, name, flags } => dir.unlink(name, flags).await.map(|()| unit)?,
        Work::Read {
            file,
            offset,
            count,
        } => {
            let room = clamped(room, count);
            Answer::Data(file.read(room, offset).await?.min(room.len()))
        }
        Work::ReadXattr {
            value,
            offset,
            count,
        } => Answer::Data(copy(&value, offset, clamped(room, count))),
        Work::Readdir {
            file,
            offset,
            count,
            up,
        } => {
            let room = clamped(room, count);
            let mut len = 0;
            let mut is_full = false;
            let mut take = |entry: &DirEntry<'_>| {
                let mut entry = *entry;
                if entry.name == b".." {
                    // Not what is above the root of an attach.
                    let kind = entry.qid.kind;
                    entry.qid = Qid { kind, ..up };
                }
                let encoded = entry.encode(room.get_mut(len..).unwrap_or_default());
                len += encoded.unwrap_or(0);
                is_full = encoded.is_err();
                !is_full
            };
            file.readdir(offset, &mut take).await?;
            if is_full && len == 0 {
                // No entry would read as the end of the directory.
                return Err(Errno::EINVAL.into());
            }
            Answer::Data(len)
        }
        Work::Write {
            file, offset, data, ..
        } => Answer::Written(write(&*file, offset, data.ok_or(Errno::EIO)?).await?),
        Work::Fsync { file, data_only } => file.fsync(data_only).await.map(|()| unit)?,
        Work::Lock { file, lock, flags } => Answer::Status(file.lock(&lock, flags).await?),
        Work::Getlock { file, lock } => Answer::Held(file.getlock(&lock).await?),
        Work::Xattr { node, name, max } => Answer::Xattr(match name {
            b"" => node.list_xattrs(max).await?,
            _ => node.xattr(name, max).await?,
        }),
        Work::Close {
            file,
            removal,
            remove,
        } => {
            let removed = match removal {
                Ok(Some(removal)) => self::remove(&removal).await,
                Ok(None) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
            // Requests that are still at it keep the file open, and close it in silence.
            let closed = match file.and_then(Arc::into_inner) {
                Some(file) => file.close().await,
                None => Ok(()),
            };
            if remove {
                removed?;
            } else {
                closed?;
            }
            unit
        }
        Work::SetXattr {
            node,
            name,
            value,
            flags,
        } => match value.is_empty() {
            true => node.remove_xattr(&name).await.map(|()| unit)?,
            false => node.set_xattr(&name, &value, flags).await.map(|()| unit)?,
        },
        Work::Reset {
            files,
            removals,
            places,
            answer,
        } => {
            for removal in &removals {
                // Its fid has gone, and so has everybody who could be told.
                let _ = remove(removal).await;
            }
            for file in files {
                if let Some(file) = Arc::into_inner(file) {
                    let _ = file.close().await;
                }
            }
            drop(places);
            answer?
        }
        Work::Stat {
            node,
            name,
            dialect,
        } => Answer::Stat(OwnedStat::of(&node, name, dialect).await?),
        Work::Make(making) => classic::make(making).await?,
        Work::Change(changing) => classic::change(changing).await?,
        Work::List(listing) => {
            let room = clamped(room, listing.count);
            classic::list(listing, room).await?
        }
        Work::Store { has_data: true, .. } => Answer::Store,
        Work::Store { .. } => return Err(Errno::EIO.into()),
        Work::AuthRead { count } => Answer::AuthRead(count),
    })
}

/// The first `count` bytes of `room`, or all.
fn clamped(room: &mut [u8], count: u32) -> &mut [u8] {
    let len = room.len().min(count as usize);
    room.get_mut(..len).unwrap_or_default()
}

/// Copies the bytes from `offset` on; returns how many.
pub(crate) fn copy(bytes: &[u8], offset: u64, into: &mut [u8]) -> usize {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    let len = rest.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..len), rest.get(..len)) {
        into.copy_from_slice(from);
    }
    len
}

/// Goes down from `root` along names separated by "/".
async fn attach<N: Node>(root: N, below: &[u8], depth: usize) -> Result<N> {
    let mut at = root;
    let names = below.split(|byte| *byte == b'/');
    for (level, name) in names.filter(|name| !name.is_empty()).enumerate() {
        if level >= depth {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if !is_name(name) {
            return Err(Errno::ENOENT.into());
        }
        at = at.walk(name).await?;
    }
    if !at.identity().kind.contains(QidKind::DIR) {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(at)
}

/// Walks as far as the names lead; where there is no place for a request on the way (EAGAIN), not at all: a walk that ends
/// early says that there is no such file. ".." goes back on the way that was come, and then to the directories `above`; the
/// root of the attach is its own parent.
async fn walk<N: Node>(
    from: N,
    above: Vec<N>,
    mut way: Way<N>,
    names: &[&[u8]],
) -> Result<Answer<N>> {
    let busy = p9_tree::Error::from(Errno::EAGAIN);
    let mut qids = Qids::new();
    let mut up = 0;
    way.nodes
        .try_reserve_exact(names.len())
        .map_err(|_| Errno::ENOMEM)?;
    let plain = names.iter().all(|name| is_name(name));
    if plain && !names.is_empty() {
        let walked = match way.only_look {
            true => from.look_along(names, &mut way.nodes).await,
            false => from.walk_along(names, &mut way.nodes).await,
        };
        let way = way.plain(names.len());
        for node in &way.nodes {
            let _ = qids.push(node.qid());
        }
        return match walked {
            Err(error) if way.nodes.is_empty() || error == busy => Err(error),
            // A tree that does not do what it was asked for.
            Ok(()) if way.nodes.is_empty() => Err(Errno::EIO.into()),
            _ => Ok(Answer::Walked {
                is_whole: way.nodes.len() == names.len(),
                way,
                qids,
                up,
            }),
        };
    }
    for (index, name) in names.iter().enumerate() {
        let at = match way.nodes.last() {
            Some(node) => node,
            None => up
                .checked_sub(1)
                .and_then(|up| above.get(up))
                .unwrap_or(&from),
        };
        let step = step(at, name).await;
        match step {
            Ok(Some(node)) => way.push(node, index),
            // ".": where it is.
            Ok(None) if *name == b"." => (),
            Ok(None) => match way.nodes.pop() {
                Some(_) => (),
                None => up = (up + 1).min(above.len()),
            },
            Err(error) if qids.is_empty() || error == busy => return Err(error),
            Err(_) => {
                return Ok(Answer::Walked {
                    qids,
                    up,
                    way,
                    is_whole: false,
                });
            }
        }
        let now = match way.nodes.last() {
            Some(node) => node.qid(),
            None => up
                .checked_sub(1)
                .and_then(|up| above.get(up))
                .unwrap_or(&from)
                .qid(),
        };
        let _ = qids.push(now);
    }
    Ok(Answer::Walked {
        qids,
        up,
        way,
        is_whole: true,
    })
}

/// One step of a walk; `None` for "." and "..".
async fn step<N: Node>(at: &N, name: &[u8]) -> Result<Option<N>> {
    match name {
        b"." | b".." if !at.identity().kind.contains(QidKind::DIR) => Err(Errno::ENOTDIR.into()),
        b"." | b".." => Ok(None),
        _ if name.len() > p9_tree::MAX_NAME => Err(Errno::ENAMETOOLONG.into()),
        _ if !is_name(name) => Err(Errno::ENOENT.into()),
        _ => at.walk(name).await.map(Some),
    }
}

/// Writes both pieces of the data.
async fn write<F: OpenFile>(file: &F, offset: u64, data: Payload<'_>) -> Result<u32> {
    let Payload(first, second) = data;
    let mut written = file.write(first, offset).await?;
    if written == first.len() && !second.is_empty() {
        let offset = offset.checked_add(first.len() as u64);
        match file.write(second, offset.ok_or(Errno::EFBIG)?).await {
            Ok(more) => written += more,
            // What is written is written.
            Err(error) if written == 0 => return Err(error),
            Err(_) => (),
        }
    }
    Ok(u32::try_from(written.min(data.len())).unwrap_or(u32::MAX))
}

/// Whether the name is still that of the file.
pub(crate) async fn check<N: Node>(removal: &Removal<N>) -> Result<()> {
    let there = removal.parent.walk(&removal.name).await?;
    match there.identity().path == removal.file.identity().path {
        true => Ok(()),
        false => Err(Errno::ENOENT.into()),
    }
}

async fn remove<N: Node>(removal: &Removal<N>) -> Result<()> {
    check(removal).await?;
    let flags = match removal.file.identity().kind.contains(QidKind::DIR) {
        true => UnlinkFlags::REMOVE_DIR,
        false => UnlinkFlags::empty(),
    };
    removal.parent.unlink(&removal.name, flags).await
}
