//! Copying the files of a directory, many at the same time.

use alloc::boxed::Box;
use alloc::rc::Rc;

use p9_wire::{Errno, OpenFlags, QidKind};

use super::each::Place;
use super::file::stat_open;
use super::{DirEntry, Each, Fs, ReadDir};
use crate::drive::{Waits, waiting};
use crate::files::failed;
use crate::in_order::Task;
use crate::span::zeroed;
use crate::{FileType, Node, OpenFile, Result};

/// The largest file that is copied together with others, in bytes: what each of them may take of memory.
const SMALL: u64 = 64 << 10;

/// Room for a file that says that it is empty, as those that are made up when they are read do.
const UNKNOWN: usize = 4 << 10;

/// The entries, and how many bytes of each were copied; see [`ReadDir::copying_to`].
pub type CopyingFiles<N> = Each<N, Result<Option<u64>>>;

impl<N: Node + 'static> ReadDir<N> {
    /// Copies small regular files, 64 KiB at most, to new ones of the same names in the directory `path` of `to`: many at the
    /// same time, in nine requests each. Hands out each entry with how many bytes were copied, `None` where it was left
    /// alone: a directory, a link, a larger file, one of several names. New files get the permission bits of the old ones,
    /// less the umask.
    ///
    /// A name that is taken is EEXIST, and that file stays as it was. After another error the new file may be there in part.
    ///
    /// # Errors
    /// ENOENT and ENOTDIR where there is no such directory.
    pub async fn copying_to<M: Node + 'static>(
        self,
        to: &Fs<M>,
        path: impl AsRef<[u8]>,
    ) -> Result<CopyingFiles<N>> {
        let found = to.find(path.as_ref(), true).await?;
        if !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if found.node.has_few_fids() {
            let leave = |_, entry| Box::pin(async { (entry, Ok(None)) }) as Task<'static, _>;
            let mut each = Each::new(self, Box::new(leave));
            each.needs_directory = |_| false;
            return Ok(each);
        }
        Ok(self.copying_into(found.node.concurrent(), Rc::default()))
    }

    /// The same into a directory that several operations are under way in at the same time.
    pub(super) fn copying_into<M: Node + 'static>(
        self,
        target: M,
        waits: Rc<Waits>,
    ) -> CopyingFiles<N> {
        let other = target.driver().share();
        let told = waits.clone();
        let work = move |directory, entry: DirEntry<N>| {
            let (target, waits) = (target.clone(), waits.clone());
            let task = async move {
                let copied = copy(directory, &entry, target, &waits).await;
                (entry, copied.map_err(failed))
            };
            Box::pin(task) as Task<'static, _>
        };
        let mut each = Each::new(self, Box::new(work));
        each.needs_many = true;
        each.waits = told;
        each.other = Some(other);
        each
    }
}

async fn copy<N: Node, M: Node>(
    directory: Option<Place<N>>,
    entry: &DirEntry<N>,
    target: M,
    waits: &Waits,
) -> Result<Option<u64>> {
    let is_file = entry.kind.is_some_and(FileType::is_file) && !entry.may_be_link;
    let (true, Some(directory)) = (is_file, directory) else {
        return Ok(None);
    };
    let open = directory.open(&entry.name);
    let file = match waiting(&waits.0, open).await? {
        Some((file, qid)) if !qid.kind.contains(QidKind::DIR) => file,
        Some(_) | None => return Ok(None),
    };
    let found = waiting(&waits.0, stat_open(&file)).await?;
    if !found.is_file() || found.len() > SMALL || found.nlink() > 1 {
        return Ok(None);
    }
    let room = if found.len() == 0 {
        UNKNOWN
    } else {
        found.len() as usize
    };
    let mut content = zeroed(room)?;
    let mut count = 0;
    while let Some(rest) = content.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match waiting(&waits.0, file.read(rest, count as u64)).await? {
            0 => break,
            more => count += more,
        }
    }
    if found.len() == 0 && count == room {
        return Ok(None);
    }
    // That closes it.
    drop(file);
    content.truncate(count);
    let new = target.new_files();
    let mode = found.permissions().mode() & 0o777 & !new.umask;
    let flags = OpenFlags::WRITE_ONLY | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let create = target.into_create(&entry.name, flags, mode, new.gid);
    let made = waiting(&waits.1, create).await?;
    waiting(&waits.1, made.write_and_close(&content)).await?;
    Ok(Some(count as u64))
}
