//! Attributes: what statx says of a file, and changes of them, each by descriptor.

use p9_tree::Result;
use p9_wire::{Attr, AttrMask, Errno, FileKind, SetAttr, SetAttrMask, Time};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};

use super::node::MODE_BITS;
use super::{HostNode, Owners, Tree, errno, ids, rights, sys};

impl HostNode {
    /// Changes attributes, one after the other.
    pub(super) fn change(&self, attr: &SetAttr) -> Result<()> {
        self.tree().writable()?;
        self.permit(true, 0)?;
        let _user = self.assume()?;
        let has = |mask| attr.valid.intersects(mask);
        if has(SetAttrMask::SIZE) {
            self.set_len(attr.size)?;
        }
        // The kernel takes the set-user-ID bits off at a change of owner: permissions come after.
        if has(SetAttrMask::UID | SetAttrMask::GID) {
            self.chown(
                has(SetAttrMask::UID).then_some(attr.uid),
                has(SetAttrMask::GID).then_some(attr.gid),
            )?;
        }
        if has(SetAttrMask::MODE) {
            self.chmod(attr.mode)?;
        }
        if has(SetAttrMask::ATIME | SetAttrMask::MTIME) {
            self.set_times(&Timestamps {
                last_access: timespec(
                    has(SetAttrMask::ATIME),
                    has(SetAttrMask::ATIME_SET),
                    attr.atime,
                )?,
                last_modification: timespec(
                    has(SetAttrMask::MTIME),
                    has(SetAttrMask::MTIME_SET),
                    attr.mtime,
                )?,
            })?;
        }
        // All others set the time of change by themselves.
        if attr.valid == SetAttrMask::CTIME {
            self.chown(None, None)?;
        }
        Ok(())
    }

    fn chmod(&self, mode: u32) -> Result<()> {
        if self.kind() == FileKind::SYMLINK {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let name = sys::Decimal::of(self.fd()?);
        let mode = Mode::from_raw_mode(mode & MODE_BITS);
        let proc = &*self.tree().proc.0;
        let chmod = || rustix::fs::chmodat(proc, name.as_c_str(), mode, AtFlags::empty());
        rights::with_fsetid(chmod).map_err(errno)
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (mut uid, mut gid) = (uid, gid);
        if let Owners::Map(map) = self.tree().options.owners {
            let here = |ids: ids::Ids, id: Option<u32>| {
                id.map(|id| ids.here(id).ok_or(Errno::EINVAL)).transpose()
            };
            (uid, gid) = (here(map.users, uid)?, here(map.groups, gid)?);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(self.fd()?, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)
    }

    fn set_times(&self, times: &Timestamps) -> Result<()> {
        let name = sys::Decimal::of(self.fd()?);
        rustix::fs::utimensat(
            &*self.tree().proc.0,
            name.as_c_str(),
            times,
            AtFlags::empty(),
        )
        .map_err(errno)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        match self.kind() {
            FileKind::REGULAR => {}
            FileKind::DIR => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        self.lower_fsetid()?;
        let fd = self.reopen(OFlags::WRONLY)?;
        let set = || rustix::fs::ftruncate(&fd, len).map_err(errno);
        match self.usage() {
            Some(usage) => usage.change(self.id(), self.fd()?, |_| len, set),
            None => set(),
        }
    }
}

fn timespec(wanted: bool, given: bool, time: Time) -> Result<Timespec> {
    let tv_nsec = match (wanted, given) {
        (false, _) => UTIME_OMIT,
        (true, false) => UTIME_NOW,
        (true, true) if time.nanos < 1_000_000_000 => time.nanos as _,
        (true, true) => return Err(Errno::EINVAL.into()),
    };
    Ok(Timespec {
        tv_sec: time.secs as i64,
        tv_nsec,
    })
}

/// The attributes of a file.
pub(super) fn of(tree: &Tree, stat: &Statx) -> Result<Attr> {
    let time = |time: rustix::fs::StatxTimestamp| Time {
        secs: time.tv_sec as u64,
        nanos: u64::from(time.tv_nsec),
    };
    let mut valid = AttrMask::BASIC;
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    valid.set(AttrMask::BTIME, has_birth);
    let (mut uid, mut gid) = (stat.stx_uid, stat.stx_gid);
    if let Owners::Map(map) = tree.options.owners {
        uid = map.users.there(uid).unwrap_or(ids::UNMAPPED);
        gid = map.groups.there(gid).unwrap_or(ids::UNMAPPED);
    }
    Ok(Attr {
        valid,
        qid: tree.qids.qid(stat)?,
        mode: u32::from(stat.stx_mode),
        uid,
        gid,
        nlink: u64::from(stat.stx_nlink),
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blksize: u64::from(stat.stx_blksize),
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: if has_birth {
            time(stat.stx_btime)
        } else {
            Time::default()
        },
        ..Attr::default()
    })
}
