//! How a server in memory behaves: what it agrees to, and in which ways it is bent.

use xen9p::p9::wire::Dialect;

/// How a [`MemServer`](super::MemServer) behaves.
#[derive(Clone, Debug)]
pub struct MemOptions {
    /// The largest msize it agrees to.
    pub msize: u32,
    /// What Rlopen and Rlcreate say.
    pub iounit: u32,
    /// The most that one Tread or Twrite moves; others may ask for more and get this.
    pub io_limit: u32,
    /// Refuses every change with EROFS.
    pub read_only: bool,
    /// Leaves d_type and qid.type in Rreaddir 0, as QEMU's mapped models do.
    pub untyped_entries: bool,
    /// Opens only what the owner's permission bits allow, as servers that do not run as root.
    pub checks_modes: bool,
    /// Writes to files that are open to append where the request says, not at the end.
    pub ignores_append: bool,
    /// Sends replies that are larger than msize, as QEMU does, instead of EMSGSIZE.
    pub oversize_replies: bool,
    /// Answers EOPNOTSUPP to these types, as servers that lack them.
    pub lacks: Vec<u8>,
    /// The dialects that it speaks.
    pub dialects: Vec<Dialect>,
    /// Is QEMU's kind of server even where that of this project would do.
    pub like_qemu: bool,
}

impl MemOptions {
    /// Whether the engine of this project does that.
    pub(super) fn is_sound(&self) -> bool {
        let bent = self.like_qemu
            || self.checks_modes
            || self.ignores_append
            || self.oversize_replies
            || self.iounit != 0;
        !bent
    }
}

impl Default for MemOptions {
    fn default() -> Self {
        MemOptions {
            msize: 1 << 20,
            iounit: 0,
            io_limit: u32::MAX,
            read_only: false,
            untyped_entries: false,
            checks_modes: false,
            ignores_append: false,
            oversize_replies: false,
            lacks: Vec::new(),
            dialects: vec![Dialect::Linux],
            like_qemu: false,
        }
    }
}
