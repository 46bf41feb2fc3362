//! Makes sure that a server has forgotten the session's files before it gives the connection up, by asking for the root.

use super::slot::{Place, RequestInfo, Slot, State};
use super::{Engine, Lanes};
use crate::session::fid_table::FidTable;
use crate::session::journal::ReplayPolicy;
use crate::transport::TransportError;
use crate::{Dialect, Error};
use p9_wire::{Errno, Fid, Names, Request, kind};
use xen9p_time::Instant;

/// Why a server that does not know this session is left.
pub(super) const FORGOTTEN: TransportError =
    TransportError::Lost(&"the server does not know our files any more (it was restarted?)");

/// A walk from the root to the root, which only a server that has forgotten the root refuses in the same way as the
/// request that raised the suspicion.
#[derive(Debug)]
pub(super) struct Probe {
    /// The error that raised the suspicion.
    errno: Errno,
    /// Where the walk leads.
    fid: Fid,
    /// The request, once it is sent.
    pub(super) slot: Option<u16>,
}

impl Engine {
    /// The error in slot `index` may mean that the server has forgotten all files. One answer is no proof: the request
    /// waits for the answer to a probe. Without a root to probe, the answer is believed.
    pub(super) fn suspect<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        index: u16,
    ) -> Result<(), Error> {
        let dialect = self.dialect;
        let slot = self.slot(index)?;
        let errno = slot.error(dialect);
        let wanted = slot.state.is_waiting();
        slot.state = State::Suspect { wanted };
        if self.probe.is_none() {
            let fid = self.fids.root().and_then(|_| self.fids.alloc());
            let (Some(errno), Some(fid)) = (errno, fid) else {
                return Err(self.forgotten());
            };
            self.probe = Some(Probe {
                errno,
                fid,
                slot: None,
            });
        }
        self.send_probe(lanes);
        Ok(())
    }

    /// Sends the probe that is due, if there is room.
    pub(super) fn send_probe<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        let Some(&Probe {
            fid, slot: None, ..
        }) = self.probe.as_ref()
        else {
            return;
        };
        let Some(root) = self.fids.root() else {
            // Closed meanwhile: nothing speaks for the server.
            let error = self.forgotten();
            self.fail(error);
            return;
        };
        let request = Request::Walk {
            fid: root,
            newfid: fid,
            names: Names::default(),
        };
        if let Ok(Some(index)) = self.submit(Some(lanes), &request, Some(Instant::NEVER), None) {
            self.detach(index, None);
            if let Some(probe) = &mut self.probe {
                probe.slot = Some(index);
            }
        }
    }

    /// The server has answered the probe: the suspicion is proved or refuted.
    pub(super) fn probe_answered(
        &mut self,
        index: u16,
        place: Place,
        is_error: bool,
    ) -> Result<(), Error> {
        // What is concluded here is refused or no open.
        let dialect = self.dialect;
        let answer = match place {
            Place::Inline if is_error => self.slot(index)?.error(dialect),
            _ => None,
        };
        let suspected = self.probe.as_ref().map(|probe| probe.errno);
        if answer.is_some() && answer == suspected {
            return Err(self.forgotten());
        }
        self.end_probe();
        self.conclude(index, place, is_error)?;
        for index in 0..self.window {
            if matches!(self.slot(index)?.state, State::Suspect { .. }) {
                self.conclude(index, Place::Inline, true)?;
            }
        }
        Ok(())
    }

    /// The suspicion is proved. What raised it was refused, so it was not done and may be made again.
    fn forgotten(&mut self) -> Error {
        for slot in &mut self.slots {
            if let State::Suspect { wanted } = slot.state {
                slot.state = match wanted {
                    true => State::Waiting,
                    false => State::Detached,
                };
                if slot.info.replay == ReplayPolicy::Ambiguous {
                    slot.info.replay = ReplayPolicy::Retry;
                }
            }
        }
        FORGOTTEN.into()
    }

    /// Nothing is suspected any more.
    pub(super) fn end_probe(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.fids.dropped(probe.fid);
        }
    }
}

/// Whether the error in a reply that has come says that the server does not know a fid that it should know.
///
/// There is no error number for that. Of the servers that are known, Rust's and Plan 9's say EBADF, xen-9pfsd and QEMU
/// ENOENT or EINVAL, diod EIO: but for EBADF, and ENOENT to a Tclunk, that can as well be about the file.
pub(super) fn is_forgotten(slot: &Slot, table: &FidTable, dialect: Dialect) -> bool {
    let RequestInfo {
        kind,
        fids,
        confirmed,
        ..
    } = slot.info;
    let snapshot = fids[0].and_then(|fid| table.snapshot(fid));
    let suspect = match slot.error(dialect) {
        Some(Errno::EBADF) => match kind {
            // It may not be open for that.
            kind::TREAD | kind::TREADDIR | kind::TWRITE => {
                snapshot.is_some_and(|snapshot| snapshot.allows(kind))
            }
            kind::TFSYNC | kind::TLOCK | kind::TGETLOCK | kind::TSETATTR | kind::TWSTAT => false,
            // It may be the new fid that xen-9pfsd has something against.
            kind::TWALK | kind::TATTACH => dialect == Dialect::Linux,
            _ => true,
        },
        Some(Errno::ENOENT) => kind == kind::TCLUNK,
        _ => false,
    };
    suspect && confirmed && slot.info.is_confirmed(table)
}
