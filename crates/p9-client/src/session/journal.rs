//! What it takes to get a fid again from a server that has forgotten it: kept only by sessions that
//! [recover](super::Recovery).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::engine::Engine;
use super::fid_table::FidTable;
use crate::Error;
use p9_wire::{
    AttrMask, Fid, LockKind, LockStatus, OpenFlags, OpenMode, Qid, QidKind, Reply, Request, kind,
};

/// What an engine does besides when its session recovers. Called by way of this alone: a program that makes no
/// [`Recovery`](super::Recovery) has no code for it.
pub(super) struct Journal {
    /// What becomes of a request when the connection is lost.
    pub(super) replay: fn(&Request<'_>, &FidTable) -> ReplayPolicy,
    /// What a request changes that is on its way.
    pub(super) update: fn(&Request<'_>, &FidTable) -> Option<FidUpdate>,
    /// The server has done it.
    pub(super) apply: fn(FidUpdate, &Reply<'_>, &mut FidTable) -> Option<Fid>,
    /// The connection is lost.
    pub(super) break_off: fn(&mut Engine, Error),
}

impl Journal {
    pub(super) const KEPT: &Journal = &Journal {
        replay: ReplayPolicy::of,
        update: FidUpdate::of,
        apply: FidUpdate::apply,
        break_off: Engine::break_off,
    };
}

/// How a tree was attached to.
#[derive(Clone, Debug)]
pub(super) struct Attach {
    pub(super) user: Vec<u8>,
    pub(super) uid: u32,
    pub(super) tree: Vec<u8>,
}

/// How a file was opened, without what must not happen twice (creation, truncation, removal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Linux(OpenFlags),
    Classic(OpenMode),
}

impl Open {
    fn linux(flags: OpenFlags) -> Self {
        Open::Linux(flags - (OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE))
    }

    fn classic(mode: OpenMode) -> Self {
        Open::Classic(mode - OpenMode::TRUNCATE)
    }

    /// Whether what is opened like this is there for requests of this type: reads or writes.
    fn allows(self, kind: u8) -> bool {
        // The low two bits are the same in both.
        let access = match self {
            Open::Linux(flags) => flags.bits() & 3,
            Open::Classic(mode) => u32::from(mode.bits()) & 3,
        };
        match kind {
            kind::TREAD | kind::TREADDIR => access != 1,
            kind::TWRITE => matches!(access, 1 | 2),
            _ => false,
        }
    }

    /// Whether the server decides where a write goes.
    fn appends(self) -> bool {
        match self {
            Open::Linux(flags) => flags.contains(OpenFlags::APPEND),
            Open::Classic(mode) => mode.contains(OpenMode::APPEND),
        }
    }
}

/// Tells attaches apart. The number of a root's fid does not: it may be another root's after that one is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Root(pub(super) u64);

/// What a fid stands for.
#[derive(Clone, Debug)]
pub(super) struct FidSnapshot {
    /// Where the way begins.
    pub(super) root: Root,
    /// Set for a root.
    pub(super) attach: Option<Attach>,
    /// The names on the way, each with a slash before it.
    pub(super) path: Vec<u8>,
    /// What it led to.
    pub(super) qid: Qid,
    /// Tells apart files that have the same inode one after the other, where the server knows.
    pub(super) generation: Option<u64>,
    /// How it is open, if it is.
    pub(super) open: Option<Open>,
    /// Cannot be reopened: it is an extended attribute, holds a lock, or is removed on close.
    pub(super) singular: bool,
}

impl FidSnapshot {
    fn unknown(root: Root) -> Self {
        FidSnapshot {
            root,
            attach: None,
            path: Vec::new(),
            qid: Qid::default(),
            generation: None,
            open: None,
            singular: true,
        }
    }

    /// The names on the way.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.path.split(|&byte| byte == b'/').skip(1)
    }

    /// Whether it is a directory.
    pub(super) fn is_dir(&self) -> bool {
        self.qid.kind.contains(QidKind::DIR)
    }

    /// Whether it is open for requests of this type: reads or writes.
    pub(super) fn allows(&self, kind: u8) -> bool {
        self.open.is_some_and(|open| open.allows(kind))
    }

    /// Whether the server decides where a write goes.
    fn appends(&self) -> bool {
        self.qid.kind.contains(QidKind::APPEND) || self.open.is_some_and(Open::appends)
    }

    /// Whether `other` is the same file as far as qids tell: its version may differ.
    pub(super) fn is(&self, other: Qid) -> bool {
        self.qid.path == other.path && self.qid.kind == other.kind
    }
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

/// What becomes of a request that is in flight when the connection is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReplayPolicy {
    /// It may be made again: that changes nothing, or the same once more.
    #[default]
    Retry,
    /// Only the lost server knows whether it was done, and twice would be wrong.
    Ambiguous,
    /// The loss has done it.
    AssumeDone,
}

impl ReplayPolicy {
    fn of(request: &Request<'_>, fids: &FidTable) -> ReplayPolicy {
        let snapshot = |fid| fids.snapshot(fid);
        match *request {
            // The end of an extended attribute's fid is what sets it, and of some files' what removes them.
            Request::Clunk { fid } if snapshot(fid).is_some_and(|snapshot| snapshot.singular) => {
                ReplayPolicy::Ambiguous
            }
            Request::Clunk { .. } => ReplayPolicy::AssumeDone,
            Request::Write { fid, .. } if snapshot(fid).is_some_and(FidSnapshot::appends) => {
                ReplayPolicy::Ambiguous
            }
            Request::Open { mode, .. }
                if mode.intersects(OpenMode::TRUNCATE | OpenMode::REMOVE_ON_CLOSE) =>
            {
                ReplayPolicy::Ambiguous
            }
            Request::Lopen { flags, .. } if flags.contains(OpenFlags::TRUNCATE) => {
                ReplayPolicy::Ambiguous
            }
            Request::Create { .. }
            | Request::Lcreate { .. }
            | Request::Symlink { .. }
            | Request::Mknod { .. }
            | Request::Mkdir { .. }
            | Request::Link { .. }
            | Request::Rename { .. }
            | Request::Renameat { .. }
            | Request::Unlinkat { .. }
            | Request::Remove { .. }
            | Request::Setattr { .. }
            | Request::Wstat { .. }
            | Request::Lock { .. } => ReplayPolicy::Ambiguous,
            _ => ReplayPolicy::Retry,
        }
    }
}

/// What a request changes of what fids stand for, once the server has done it.
#[derive(Debug)]
pub(super) enum FidUpdate {
    /// The fid stands for this, if all of so many names were walked.
    Bound(Fid, Box<FidSnapshot>, usize),
    Opened(Fid, Open),
    /// The directory's fid has become that of a file in it.
    Created(Fid, Vec<u8>, Open),
    /// The first path was renamed to the second, relative to the root.
    Moved(Root, Vec<u8>, Vec<u8>),
    /// The fid can't be had again.
    Singular(Fid),
    Generation(Fid),
}

impl FidUpdate {
    fn of(request: &Request<'_>, fids: &FidTable) -> Option<FidUpdate> {
        let path_in = |dir: Fid, name: &[u8]| {
            let snapshot = fids.snapshot(dir)?;
            Some((snapshot.root, below(&snapshot.path, name)))
        };
        let moved = |from: Option<(Root, Vec<u8>)>, to: Option<(Root, Vec<u8>)>| {
            let ((root, from), (_, to)) = (from?, to?);
            Some(FidUpdate::Moved(root, from, to))
        };
        match *request {
            // Without an afid: sessions that recover don't authenticate.
            Request::Attach {
                fid,
                uname,
                aname,
                n_uname,
                ..
            } => {
                let snapshot = FidSnapshot {
                    attach: Some(Attach {
                        user: uname.to_vec(),
                        uid: n_uname,
                        tree: aname.to_vec(),
                    }),
                    singular: false,
                    ..FidSnapshot::unknown(Root::default())
                };
                Some(FidUpdate::Bound(fid, Box::new(snapshot), 0))
            }
            Request::Walk {
                fid,
                newfid,
                ref names,
            } => {
                let from = fids.snapshot(fid)?;
                let mut snapshot = FidSnapshot {
                    path: from.path.clone(),
                    qid: from.qid,
                    generation: None,
                    singular: false,
                    ..FidSnapshot::unknown(from.root)
                };
                for name in names.iter() {
                    snapshot.path = below(&snapshot.path, name);
                }
                Some(FidUpdate::Bound(newfid, Box::new(snapshot), names.len()))
            }
            Request::Open { fid, mode } | Request::Create { fid, mode, .. }
                if mode.contains(OpenMode::REMOVE_ON_CLOSE) =>
            {
                Some(FidUpdate::Singular(fid))
            }
            Request::Open { fid, mode } => Some(FidUpdate::Opened(fid, Open::classic(mode))),
            Request::Lopen { fid, flags } => Some(FidUpdate::Opened(fid, Open::linux(flags))),
            Request::Create {
                fid, name, mode, ..
            } => Some(FidUpdate::Created(fid, name.to_vec(), Open::classic(mode))),
            Request::Lcreate {
                fid, name, flags, ..
            } => Some(FidUpdate::Created(fid, name.to_vec(), Open::linux(flags))),
            Request::Rename { fid, dfid, name } => {
                let snapshot = fids.snapshot(fid)?;
                moved(
                    Some((snapshot.root, snapshot.path.clone())),
                    path_in(dfid, name),
                )
            }
            Request::Renameat {
                olddirfid,
                oldname,
                newdirfid,
                newname,
            } => moved(path_in(olddirfid, oldname), path_in(newdirfid, newname)),
            Request::Wstat { fid, stat } if !stat.name.is_empty() => {
                let snapshot = fids.snapshot(fid)?;
                let cut = snapshot.path.iter().rposition(|&byte| byte == b'/')?;
                let to = below(snapshot.path.get(..cut)?, stat.name);
                Some(FidUpdate::Moved(snapshot.root, snapshot.path.clone(), to))
            }
            Request::Xattrwalk { newfid: fid, .. }
            | Request::Xattrcreate { fid, .. }
            | Request::Lock {
                fid,
                kind: LockKind::READ | LockKind::WRITE,
                ..
            } => Some(FidUpdate::Singular(fid)),
            Request::Getattr { fid, mask } if mask.contains(AttrMask::GENERATION) => {
                Some(FidUpdate::Generation(fid))
            }
            _ => None,
        }
    }

    /// The server has answered with `reply`, which is no error. Returns the fid that was attached or opened, if one was.
    fn apply(self, reply: &Reply<'_>, fids: &mut FidTable) -> Option<Fid> {
        match (self, reply) {
            (FidUpdate::Bound(fid, mut snapshot, 0), Reply::Attach { qid }) => {
                snapshot.root = fids.next_root();
                snapshot.qid = *qid;
                fids.set_snapshot(fid, Some(snapshot));
                return Some(fid);
            }
            (FidUpdate::Bound(fid, mut snapshot, names), Reply::Walk { qids })
                if qids.len() == names =>
            {
                snapshot.qid = qids.last().copied().unwrap_or(snapshot.qid);
                fids.set_snapshot(fid, Some(snapshot));
            }
            (FidUpdate::Opened(fid, open), Reply::Open { qid, .. } | Reply::Lopen { qid, .. }) => {
                let snapshot = fids.snapshot_mut(fid)?;
                snapshot.open = Some(open);
                snapshot.qid = *qid;
                return Some(fid);
            }
            (
                FidUpdate::Created(fid, name, open),
                Reply::Create { qid, .. } | Reply::Lcreate { qid, .. },
            ) => {
                let snapshot = fids.snapshot_mut(fid)?;
                snapshot.path = below(&snapshot.path, &name);
                snapshot.open = Some(open);
                snapshot.qid = *qid;
                return Some(fid);
            }
            (FidUpdate::Moved(root, from, to), _) => {
                for snapshot in fids
                    .snapshots_mut()
                    .filter(|snapshot| snapshot.root == root)
                {
                    if let Some(rest) = snapshot.path.strip_prefix(&from[..])
                        && matches!(rest.first(), None | Some(b'/'))
                    {
                        snapshot.path = [&to[..], rest].concat();
                    }
                }
            }
            (FidUpdate::Singular(_), Reply::Lock { status }) if *status != LockStatus::SUCCESS => {}
            (FidUpdate::Singular(fid), _) => match fids.snapshot_mut(fid) {
                Some(snapshot) => snapshot.singular = true,
                None => {
                    fids.set_snapshot(fid, Some(Box::new(FidSnapshot::unknown(Root::default()))))
                }
            },
            (FidUpdate::Generation(fid), Reply::Getattr { attr })
                if attr.valid.contains(AttrMask::GENERATION) =>
            {
                fids.snapshot_mut(fid)?.generation = Some(attr.generation);
            }
            _ => {}
        }
        None
    }
}

/// Asks for what tells a file from another one with the same inode number.
pub(super) fn identify(fid: Fid) -> Request<'static> {
    Request::Getattr {
        fid,
        mask: AttrMask::GENERATION,
    }
}
