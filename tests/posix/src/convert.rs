//! The same things in the words of the kernel and of the client.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, TimeOrNow};
use xen9p::fs::{self, FileTimes, Metadata, OpenOptions};

/// Bits of Linux's open flags and modes, on x86 the same as in 9P2000.L.
pub mod flag {
    pub const EXCL: i32 = 0o200;
    pub const TRUNC: i32 = 0o1000;
    pub const APPEND: i32 = 0o2000;
    /// What the server is told of besides: O_DSYNC, O_NOATIME, O_SYNC.
    pub const PASSED_ON: i32 = 0o10000 | 0o1_000_000 | 0o4_000_000;
    pub const SETGID: u32 = 0o2000;

    const ACCESS: i32 = 3;
    const WRITE_ONLY: i32 = 1;

    pub const fn reads(flags: i32) -> bool {
        flags & ACCESS != WRITE_ONLY
    }

    pub const fn writes(flags: i32) -> bool {
        flags & ACCESS != 0
    }
}

pub fn os_str(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub fn open_options(flags: i32) -> OpenOptions {
    let append = flags & flag::APPEND != 0;
    let mut options = OpenOptions::new();
    options
        .read(flag::reads(flags))
        .write(flag::writes(flags))
        .append(flag::writes(flags) && append)
        .truncate(flag::writes(flags) && !append && flags & flag::TRUNC != 0)
        .custom_flags((flags & flag::PASSED_ON) as u32);
    options
}

pub fn kind(kind: fs::FileType) -> fuser::FileType {
    match kind.letter() {
        'd' => fuser::FileType::Directory,
        'l' => fuser::FileType::Symlink,
        'b' => fuser::FileType::BlockDevice,
        'c' => fuser::FileType::CharDevice,
        'p' => fuser::FileType::NamedPipe,
        's' => fuser::FileType::Socket,
        _ => fuser::FileType::RegularFile,
    }
}

pub fn attributes(node: u64, metadata: &Metadata) -> FileAttr {
    let changed = metadata.changed().unwrap_or(metadata.modified());
    FileAttr {
        ino: INodeNo(node),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: time(metadata.accessed()),
        mtime: time(metadata.modified()),
        ctime: time(changed),
        crtime: UNIX_EPOCH,
        kind: kind(metadata.file_type()),
        perm: metadata.permissions().mode() as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: metadata.rdev() as u32,
        blksize: metadata.blksize() as u32,
        flags: 0,
    }
}

/// Major and minor number from the kernel's 32 bits for both.
pub const fn device(rdev: u32) -> (u32, u32) {
    (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00)
}

fn time(time: fs::SystemTime) -> SystemTime {
    let seconds = Duration::from_secs(time.secs().unsigned_abs());
    let whole = if time.secs() < 0 {
        UNIX_EPOCH - seconds
    } else {
        UNIX_EPOCH + seconds
    };
    whole + Duration::from_nanos(time.subsec_nanos().into())
}

fn back(time: SystemTime) -> fs::SystemTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.into(),
        Err(before) => {
            let before = before.duration();
            let (secs, nanos) = (-(before.as_secs() as i64), before.subsec_nanos());
            match nanos {
                0 => fs::SystemTime::new(secs, 0),
                nanos => fs::SystemTime::new(secs - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

/// The client sets each time to "now" or to a value, and both to "now" at once.
pub fn times(accessed: Option<TimeOrNow>, modified: Option<TimeOrNow>) -> FileTimes {
    use TimeOrNow::{Now, SpecificTime};
    let value = |time| match time {
        SpecificTime(time) => back(time),
        Now => back(SystemTime::now()),
    };
    if let (Some(Now), Some(Now)) = (accessed, modified) {
        return FileTimes::now();
    }
    let mut times = FileTimes::new();
    if let Some(time) = accessed {
        times = times.set_accessed(value(time));
    }
    if let Some(time) = modified {
        times = times.set_modified(value(time));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_go_there_and_back() {
        for (secs, nanos) in [(0, 0), (5, 7), (-1, 0), (-1, 999_999_999), (-7, 1)] {
            let there = fs::SystemTime::new(secs, nanos);
            assert_eq!(back(time(there)), there);
        }
    }

    #[test]
    fn device_numbers_come_apart() {
        assert_eq!(device(0x0801), (8, 1));
        assert_eq!(device(0x1230_4567), (0x45, 0x12367));
    }
}
