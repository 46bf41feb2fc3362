//! Trees that are served to other domains, by vchans.
//!
//! Nothing is served by itself: whatever call of the library waits, polls or is started also does what there is to do here.

use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::ffi::{CStr, c_char};

use xen9p::errno::Errno;
use xen9p::server::{Exports, Limits, Rights};
use xen9p::time::Instant;
use xen9p::transport::vchan::{Export, Listener, Order, Orders};

use crate::error::{Fail, Result, Tried};
use crate::files::{XEN9P_READ, XEN9P_WRITE};
use crate::handles::{Kind, Open, wrong};
use crate::mount::Mount;
use crate::platform::{Kernel, known_memory, now};
use crate::state::{domain, enter_status, give, handles, with_state};
use crate::tree::TreeNode;
use crate::{reserve, vchan, xen9p_handle};

/// What the rings of an endpoint, and one message, may take, as a share of the kernel's memory.
const SHARE: usize = 32;

/// How often at most what is served and the mount that it comes from are looked at in a row.
const ROUNDS: usize = 8;

/// A tree that another domain may mount.
pub(crate) struct Endpoint {
    export: RefCell<Export<Kernel>>,
    /// Where the tree comes from.
    mount: Rc<Mount>,
}

impl Endpoint {
    /// Serves what has come. Whether there is nothing more to do before an event comes.
    fn turn(&self) -> bool {
        // Another thread may be in there, and wakes this one when it comes out. Without memory the other domain waits.
        let Ok(mut export) = self.export.try_borrow_mut() else {
            return true;
        };
        if !reserve::ready() {
            return true;
        }
        for _ in 0..ROUNDS {
            self.mount.ask_for_others(true);
            export.poll();
            self.mount.ask_for_others(false);
            // What is served may be what another one serves.
            if self.mount.look_at_session(true) {
                return export.next_check() > now();
            }
        }
        false
    }

    fn next_check(&self) -> Instant {
        let export = self.export.try_borrow();
        let check = export.map_or(Instant::NEVER, |export| export.next_check());
        check.min(self.mount.next_wakeup())
    }

    /// Whether a client is there, or why none can be.
    pub(crate) fn state(&self) -> Result<i64> {
        match self.export.try_borrow() {
            Ok(export) => match export.error() {
                Some(error) => Err(error.into()),
                None => Ok(export.is_connected().into()),
            },
            // Another thread publishes it.
            Err(_) => Ok(0),
        }
    }

    /// Serves it no more.
    pub(crate) fn end(self: Rc<Self>) -> Result<()> {
        let of_table = with_state(|state| {
            let index = (state.served.iter()).position(|it| Rc::ptr_eq(it, &self));
            index.map(|index| state.served.swap_remove(index))
        })?;
        // Dropped with nothing borrowed: it waits for xenstore.
        drop((of_table, self));
        Ok(())
    }
}

/// The endpoint of this number, with nothing borrowed.
fn endpoint(index: usize) -> Option<Rc<Endpoint>> {
    with_state(|state| state.served.get(index).cloned()).ok()?
}

/// Serves what has come. Whether there is nothing more to do before an event comes.
pub(crate) fn turn() -> bool {
    let mut idle = true;
    for endpoint in (0..).map_while(endpoint) {
        idle &= endpoint.turn();
    }
    idle
}

/// Looks at a mount beside what is served. Whether there is nothing more to do before an event comes: events that one of them
/// took may be the other's.
pub(crate) fn beside(look: impl FnOnce() -> bool) -> bool {
    if endpoint(0).is_none() {
        return look();
    }
    let taken = || with_state(|state| state.domain.as_ref().map(|it| it.events.generation())).ok();
    let before = taken();
    let idle = turn();
    look() && idle && taken() == before
}

/// When there is something to do for other domains even if no event comes before.
pub(crate) fn next_check() -> Instant {
    let all = (0..).map_while(endpoint);
    all.map(|endpoint| endpoint.next_check())
        .min()
        .unwrap_or(Instant::NEVER)
}

/// Rings as large as the kernel's memory suggests.
fn orders(memory: usize) -> Orders {
    let fits = |order: &u8| 2 << *order <= memory / SHARE;
    let order = (12..=Order::DEFAULT.get()).rev().find(fits).unwrap_or(12);
    Orders::new(order, order).unwrap_or_default()
}

/// What a client may have.
fn limits(memory: usize) -> Limits {
    let mut limits = Limits::default();
    limits.msize = limits.msize.min((memory / SHARE) as u32);
    limits.fids = 1024;
    limits.open_files = 512;
    limits.open_directories = 128;
    limits.places = 4096;
    limits
}

/// Serves a tree to another domain, as a vchan with the address "vchan!DOMID!NAME": the domain of this number may connect, one
/// connection after the other. It mounts "vchan!OURS!NAME", with the number of this domain. `tree` is a mount (of a device,
/// of what another domain serves, or of "#mem") or a node in one, below which all is served; it need not stay open. `flags`:
/// XEN9P_READ, and XEN9P_WRITE if the other domain may change something. Of the object with vchans alone: make capi
/// FEATURES=vchan. It grants pages of the kernel's, and maps none of others.
///
/// Whatever call polls, waits or is started serves meanwhile: a kernel that has nothing else to do loops over xen9p_wait() of the endpoint. xen9p_poll() tells whether the other domain is connected, or what
/// keeps this one from publishing the vchan, which is tried again each second. A domain that does not exist yet is waited for.
/// xen9p_close() ends it. After a suspend the vchan is published anew, if the number of this domain is the same: else close
/// it and serve again.
///
/// -EINVAL: a malformed address, one of this domain's own, or unknown flags. -EBADF: no mount or node. -EADDRINUSE (98): it is
/// served already. Other errors are those of what publishes it: -ENOMEM, -EACCES, -EIO.
///
/// # Safety
/// Pointers are NULL or valid; `address` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_serve(
    address: *const c_char,
    tree: xen9p_handle,
    flags: u32,
    endpoint: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("serve", address) };
    enter_status(tried, || {
        if address.is_null() {
            return Err(Fail::null("the address"));
        }
        if endpoint.is_null() {
            return Err(Fail::null("endpoint"));
        }
        // SAFETY: the caller's promise.
        let address = unsafe { CStr::from_ptr(address) }.to_str();
        let address = address.map_err(|_| Fail::new(Errno::EINVAL, "the address is not UTF-8"))?;
        let rights = match flags {
            XEN9P_READ => Rights::ReadOnly,
            _ if flags == XEN9P_READ | XEN9P_WRITE => Rights::ReadWrite,
            _ => {
                return Err(Fail::new(
                    Errno::EINVAL,
                    "the flags are XEN9P_READ, or that and XEN9P_WRITE",
                ));
            }
        };
        let Open { mount, kind } = handles(|handles| handles.get(tree))?;
        let root = match kind {
            Kind::Mount(fs) => fs.root().clone(),
            Kind::Node(node) => node,
            _ => return Err(wrong("a mount or a node")),
        };
        let served = serve(address, root, rights, mount.clone())?;
        let kind = Kind::Endpoint(served.clone());
        // SAFETY: as above.
        unsafe { give(endpoint, "endpoint", Open { mount, kind }) }.or_else(|error| {
            served.end()?;
            Err(error)
        })
    })
}

fn serve(address: &str, root: TreeNode, rights: Rights, mount: Rc<Mount>) -> Result<Rc<Endpoint>> {
    let (client, name) = vchan::parse(address)?;
    let memory = known_memory();
    let listener = Listener::new(&domain()?, client, name, orders(memory))?;
    let path = String::from(listener.path());
    let policy = move || Exports::new(root.clone(), rights);
    let mut export = Export::new(listener, policy, limits(memory));
    let is_taken = with_state(|state| {
        (state.served.iter()).any(|it| it.export.try_borrow().is_ok_and(|it| it.path() == path))
    })?;
    if is_taken {
        return Err(Fail::new(
            Errno::EADDRINUSE,
            format_args!("{address} is served already"),
        ));
    }
    export.poll();
    if let Some(error) = export.error() {
        return Err(error.into());
    }
    let endpoint = Rc::new(Endpoint {
        export: RefCell::new(export),
        mount,
    });
    with_state(|state| state.served.push(endpoint.clone()))?;
    Ok(endpoint)
}
