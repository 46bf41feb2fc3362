//! Who the kernel takes this thread for while it does something for a peer.

use std::cell::Cell;

use rustix::io::Result;
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid,
};

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Privilege {
    uid: u32,
    gid: u32,
    /// Whether it may become any user.
    root: bool,
}

impl Privilege {
    pub(super) fn of_this_thread() -> Result<Privilege> {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        let uid = geteuid();
        Ok(Privilege {
            uid: uid.as_raw(),
            gid: getegid().as_raw(),
            root: uid.is_root() && capabilities(None)?.permitted.contains(needed),
        })
    }

    pub(super) fn uid(self) -> u32 {
        self.uid
    }

    pub(super) fn gid(self) -> u32 {
        self.gid
    }

    /// Whether it may become any user.
    pub(super) fn is_root(self) -> bool {
        self.root
    }

    pub(super) fn may_become(self, uid: u32, gid: u32) -> bool {
        self.root || (self.uid, self.gid) == (uid, gid)
    }
}

/// The user that this thread becomes for one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether the thread keeps its capabilities: it makes files that belong to the user, but is not held up by
    /// permissions.
    pub(super) capable: bool,
}

/// While it lives, the thread is someone else.
#[derive(Debug)]
pub(super) struct Assumed(Option<Privilege>);

thread_local! {
    /// Whether CAP_FSETID is known not to be in this thread's effective set.
    static FSETID_LOWERED: Cell<bool> = const { Cell::new(false) };
}

impl Identity {
    /// Becomes the user, until the value that is returned is dropped. No system call when the thread is that already.
    pub(super) fn assume(self, own: Privilege) -> Result<Assumed> {
        if !own.root || (self.uid, self.gid) == (own.uid, own.gid) {
            return Ok(Assumed(None));
        }
        set_thread_res_gid(None, Gid::from_raw(self.gid), None)?;
        // From here on the drop takes back what has been done.
        let assumed = Assumed(Some(own));
        if self.uid != own.uid {
            set_thread_res_uid(None, Uid::from_raw(self.uid), None)?;
            if self.capable {
                let mut sets = capabilities(None)?;
                sets.effective = sets.permitted.difference(CapabilitySet::FSETID);
                set_capabilities(None, sets)?;
            }
        } else if self.capable && FSETID_LOWERED.get() {
            set_fsetid(true)?;
            FSETID_LOWERED.set(false);
        }
        Ok(assumed)
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        let Some(own) = self.0 else { return };
        // The kernel makes all permitted capabilities effective when the effective user becomes root again.
        FSETID_LOWERED.set(false);
        let restored = set_thread_res_uid(None, Uid::from_raw(own.uid), None)
            .and_then(|()| set_thread_res_gid(None, Gid::from_raw(own.gid), None));
        if restored.is_err() {
            // The real and the saved user are root: the kernel does not refuse this. If it did, the thread would go on
            // serving others with one user's rights.
            std::process::abort();
        }
    }
}

/// Sees to it that the kernel takes the set-user-ID and set-group-ID bits off what this thread writes to, as it does for
/// those who lack CAP_FSETID: a peer's write must not leave a program of other content with them. Holds for the thread
/// until [`with_fsetid`].
pub(super) fn lower_fsetid() -> Result<()> {
    if !FSETID_LOWERED.get() {
        set_fsetid(false)?;
        FSETID_LOWERED.set(true);
    }
    Ok(())
}

/// Does something with CAP_FSETID, if this process has it: without, chmod takes the set-group-ID bit off a file whose
/// group is not the process's own.
pub(super) fn with_fsetid<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !FSETID_LOWERED.get() {
        return work();
    }
    set_fsetid(true)?;
    FSETID_LOWERED.set(false);
    work()
}

fn set_fsetid(on: bool) -> Result<()> {
    let mut sets = capabilities(None)?;
    let before = sets.effective;
    let on = on && sets.permitted.contains(CapabilitySet::FSETID);
    sets.effective.set(CapabilitySet::FSETID, on);
    if sets.effective != before {
        set_capabilities(None, sets)?;
    }
    Ok(())
}
