//! [`FakePlatform`]: a simulated domain as its own drivers see it, hypercalls decoded as Xen would.

use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};
use std::rc::Rc;

use xen9p::hypercall::grant_table::{DEST_IS_REFERENCE, SOURCE_IS_REFERENCE};
use xen9p::hypercall::sched::MAX_POLL_PORTS;
use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::{BuilderRing, DomainState, Frame, PAGE_SIZE, Page, Platform, View};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::xen::event::Port;

use super::event::Channel;
use super::{FakeXen, World};

/// One simulated domain, seen from inside.
#[derive(Clone)]
pub struct FakePlatform {
    world: Rc<World>,
    id: DomId,
    drivers: Rc<DomainState>,
}

impl fmt::Debug for FakePlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FakePlatform").field(&self.id.0).finish()
    }
}

impl FakePlatform {
    pub(super) fn new(world: Rc<World>, id: DomId) -> Self {
        let drivers = world.with_domain(id, |domain| Rc::clone(&domain.drivers));
        FakePlatform { world, id, drivers }
    }

    /// The domain's number.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// The machine that the domain runs on.
    pub fn xen(&self) -> FakeXen {
        FakeXen {
            world: Rc::clone(&self.world),
        }
    }

    /// The domain that a number in a hypercall means.
    fn named(&self, number: u16) -> DomId {
        match DomId(number) {
            DomId::SELF => self.id,
            other => other,
        }
    }

    fn event_op(&self, op: usize, argument: usize) -> Result<usize, XenError> {
        let mut channels = self.world.channels.borrow_mut();
        let me = self.id;
        match op as u32 {
            sys::EVTCHNOP_alloc_unbound => {
                // SAFETY: the caller passes this operation's structure.
                let call = unsafe { argument_mut::<sys::evtchn_alloc_unbound>(argument) };
                if call.dom != sys::DOMID_SELF && call.dom != me.0 {
                    return Err(XenError::EPERM);
                }
                // Xen does not look whether there is such a domain.
                let remote = self.named(call.remote_dom);
                call.port = channels.open(me, Channel::Unbound(remote))?;
            }
            sys::EVTCHNOP_bind_interdomain => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_bind_interdomain>(argument) };
                let remote = DomId(call.remote_dom);
                call.local_port = channels.bind_interdomain(me, remote, call.remote_port)?;
            }
            sys::EVTCHNOP_bind_virq => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_bind_virq>(argument) };
                if call.vcpu != 0 {
                    return Err(XenError::ENOENT);
                }
                call.port = channels.bind_virq(me, call.virq)?;
            }
            sys::EVTCHNOP_bind_ipi => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_bind_ipi>(argument) };
                if call.vcpu != 0 {
                    return Err(XenError::ENOENT);
                }
                call.port = channels.open(me, Channel::Ipi)?;
            }
            sys::EVTCHNOP_close => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_close>(argument) };
                channels.close(me, call.port)?;
            }
            sys::EVTCHNOP_send => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_send>(argument) };
                channels.send(me, call.port)?;
            }
            sys::EVTCHNOP_status => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::evtchn_status>(argument) };
                let domain = self.named(call.dom);
                if domain != me {
                    let known = self.world.domains.borrow().contains_key(&domain);
                    return Err(if known {
                        XenError::EPERM
                    } else {
                        XenError::ESRCH
                    });
                }
                call.vcpu = 0;
                call.status = match channels.get(me, call.port) {
                    None => sys::EVTCHNSTAT_closed,
                    Some(Channel::Ipi) => sys::EVTCHNSTAT_ipi,
                    Some(Channel::Virq(virq)) => {
                        call.u.virq = virq;
                        sys::EVTCHNSTAT_virq
                    }
                    Some(Channel::Unbound(remote)) => {
                        call.u.unbound.dom = remote.0;
                        sys::EVTCHNSTAT_unbound
                    }
                    Some(Channel::Interdomain(remote, port)) => {
                        call.u.interdomain.dom = remote.0;
                        call.u.interdomain.port = port;
                        sys::EVTCHNSTAT_interdomain
                    }
                };
            }
            sys::EVTCHNOP_unmask => {}
            _ => return Err(XenError::ENOSYS),
        }
        Ok(0)
    }

    fn sched_op(&self, op: usize, argument: usize) -> Result<usize, XenError> {
        match op as u32 {
            sys::SCHEDOP_yield => {}
            sys::SCHEDOP_shutdown => {
                // SAFETY: the caller passes this operation's structure.
                let call = unsafe { argument_mut::<sys::sched_shutdown>(argument) };
                let cancelled = self.world.with_domain(self.id, |domain| {
                    if call.reason == sys::SHUTDOWN_suspend && domain.cancels_suspend {
                        domain.cancels_suspend = false;
                        return true;
                    }
                    domain.shutdown.get_or_insert(call.reason);
                    false
                });
                if cancelled {
                    return Ok(1);
                }
            }
            sys::SCHEDOP_poll => {
                // SAFETY: as above.
                let call = unsafe { argument_mut::<sys::sched_poll>(argument) };
                if call.nr_ports as usize > MAX_POLL_PORTS {
                    return Err(XenError::EINVAL);
                }
                let ports: Vec<Port> = (0..call.nr_ports as usize)
                    // SAFETY: the caller passes a list of this length.
                    .map(|index| Port(unsafe { call.ports.p.add(index).read() }))
                    .collect();
                let deadline = match call.timeout {
                    0 => Instant::NEVER,
                    at => Instant::from_nanos(at),
                };
                self.wait(&ports, deadline);
            }
            _ => return Err(XenError::ENOSYS),
        }
        Ok(0)
    }

    fn grant_op(&self, op: usize, argument: usize, count: usize) -> Result<usize, XenError> {
        match op as u32 {
            sys::GNTTABOP_map_grant_ref => {
                // SAFETY: the caller passes this operation's structures.
                for call in unsafe { arguments_mut::<sys::gnttab_map_grant_ref>(argument, count) } {
                    call.status = self.world.map_for(self.id, call);
                }
                return Ok(0);
            }
            sys::GNTTABOP_unmap_grant_ref => {
                // SAFETY: as above.
                for call in unsafe { arguments_mut::<sys::gnttab_unmap_grant_ref>(argument, count) }
                {
                    call.status = self.world.unmap_for(self.id, call);
                }
                return Ok(0);
            }
            sys::GNTTABOP_copy => {
                // SAFETY: as above.
                for call in unsafe { arguments_mut::<sys::gnttab_copy>(argument, count) } {
                    call.status = self.copy(call);
                }
                return Ok(0);
            }
            _ => {}
        }
        if count != 1 {
            return Err(XenError::EINVAL);
        }
        match op as u32 {
            sys::GNTTABOP_query_size => {
                // SAFETY: the caller passes this operation's structure.
                let call = unsafe { argument_mut::<sys::gnttab_query_size>(argument) };
                self.world.with_domain(self.id, |domain| {
                    call.nr_frames = domain.grant_frames.len() as u32;
                    call.max_nr_frames = domain.max_grant_frames;
                });
                call.status = sys::GNTST_okay;
                Ok(0)
            }
            _ => Err(XenError::ENOSYS),
        }
    }

    /// Copies between frames of this domain and pages granted to it; returns a `GNTST_*`.
    fn copy(&self, call: &sys::gnttab_copy) -> i16 {
        if let Some(status) = self.world.refused_copy() {
            return status;
        }
        let (is_source, is_dest) = (
            call.flags & SOURCE_IS_REFERENCE != 0,
            call.flags & DEST_IS_REFERENCE != 0,
        );
        let from = self.copy_end(&call.source, is_source, false);
        let to = self.copy_end(&call.dest, is_dest, true);
        let (from, to) = match (from, to) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(status), _) | (_, Err(status)) => return status,
        };
        let (from_offset, to_offset) = (call.source.offset, call.dest.offset);
        let len = usize::from(call.len);
        if [from_offset, to_offset]
            .iter()
            .any(|&offset| usize::from(offset) + len > PAGE_SIZE)
        {
            return sys::GNTST_bad_copy_arg;
        }
        let from = from.cast::<u8>().as_ptr().wrapping_add(from_offset.into());
        let to = to.cast::<u8>().as_ptr().wrapping_add(to_offset.into());
        // SAFETY: within pages of this machine, which no reference points to.
        unsafe { from.copy_to(to, len) };
        self.world.with_domain(self.id, |domain| {
            domain.copied_by_xen += len as u64;
        });
        sys::GNTST_okay
    }

    fn copy_end(
        &self,
        end: &sys::gnttab_copy_gnttab_copy_ptr,
        is_grant: bool,
        writable: bool,
    ) -> Result<NonNull<Page>, i16> {
        let frame = if is_grant {
            // SAFETY: either field is an integer.
            let reference = unsafe { end.u.ref_ };
            let granter = self.named(end.domid);
            self.world
                .copied_by(self.id, granter, reference, writable)?
        } else if end.domid == sys::DOMID_SELF {
            // SAFETY: as above.
            unsafe { end.u.gmfn }
        } else {
            return Err(sys::GNTST_permission_denied);
        };
        let page = self.world.memory.borrow().page(frame);
        page.ok_or(sys::GNTST_bad_page)
    }

    fn dispatch(&self, number: u32, args: [usize; 5]) -> Result<usize, XenError> {
        let [first, second, third, ..] = args;
        match number {
            sys::__HYPERVISOR_event_channel_op => self.event_op(first, second),
            sys::__HYPERVISOR_sched_op => self.sched_op(first, second),
            sys::__HYPERVISOR_argo_op => self.world.argo_op(self.id, args),
            sys::__HYPERVISOR_grant_table_op => self.grant_op(first, second, third),
            sys::__HYPERVISOR_xen_version if first as u32 == sys::XENVER_version => {
                Ok(4 << 16 | 17)
            }
            sys::__HYPERVISOR_console_io if first as u32 == sys::CONSOLEIO_write => {
                // SAFETY: the caller passes a pointer to this many bytes.
                let text =
                    unsafe { std::slice::from_raw_parts(with_exposed_provenance(third), second) };
                self.world.with_domain(self.id, |domain| {
                    domain.hypervisor_log.extend_from_slice(text);
                });
                Ok(0)
            }
            _ => Err(XenError::ENOSYS),
        }
    }
}

/// The structure at the address that a hypercall was given.
///
/// # Safety
/// It is a structure of type `T`, which no other code uses during the call.
unsafe fn argument_mut<'a, T>(address: usize) -> &'a mut T {
    // SAFETY: the caller vouches for it; the maker of the hypercall exposed the address.
    unsafe { &mut *with_exposed_provenance_mut(address) }
}

/// The structures at the address that a hypercall was given.
///
/// # Safety
/// They are `count` structures of type `T`, which no other code uses during the call.
unsafe fn arguments_mut<'a, T>(address: usize, count: usize) -> &'a mut [T] {
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts_mut(with_exposed_provenance_mut(address), count) }
}

// SAFETY: pages are the host's own, aligned, zeroed and in one owner's hands (memory.rs); frames
// are fixed per page; the grant table and the builder's rings are such pages and live as long as
// the machine, which each handle keeps alive.
unsafe impl Platform for FakePlatform {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        let mut memory = self.world.memory.borrow_mut();
        let limit = self.world.with_domain(self.id, |domain| domain.max_pages);
        if memory.pages(self.id) + count.get() > limit {
            return None;
        }
        Some(memory.alloc(self.id, count))
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        let frames = self.world.memory.borrow().frames_of(self.id, first, count);
        for (reference, frame) in self.world.active_grants(self.id) {
            assert!(
                !frames.contains(&frame),
                "grant {reference} is still active on pages that are freed"
            );
        }
        assert!(
            !self.world.argo.borrow().uses(&frames),
            "Xen may still write to pages that are freed: they are of an Argo ring"
        );
        self.world.memory.borrow_mut().free(first, count);
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        self.world.memory.borrow().frame(page)
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        self.world.with_domain(self.id, |domain| {
            let call = (number, args[0] as u32);
            *domain.hypercalls.entry(call).or_default() += 1;
            domain.asked.hypercalls += 1;
        });
        if let Some(error) = self.world.planned_failure(number, args[0]) {
            return -(error.0 as isize);
        }
        match self.dispatch(number, args) {
            Ok(value) => value as isize,
            Err(error) => -(error.0 as isize),
        }
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        let (have, max) = self.world.with_domain(self.id, |domain| {
            (domain.grant_frames.len() as u32, domain.max_grant_frames)
        });
        if index >= max {
            return Err(XenError::ENOSPC);
        }
        for _ in have..=index {
            // The table is Xen's memory, not the domain's.
            let page = self
                .world
                .memory
                .borrow_mut()
                .alloc(DomId(sys::DOMID_XEN), NonZeroUsize::MIN);
            self.world
                .with_domain(self.id, |domain| domain.grant_frames.push(page));
        }
        Ok(self
            .world
            .with_domain(self.id, |domain| domain.grant_frames[index as usize]))
    }

    fn alloc_window(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        self.world.alloc_window(self.id, count)
    }

    unsafe fn free_window(&self, first: NonNull<Page>, count: NonZeroUsize) {
        self.world.free_window(self.id, first, count);
    }

    fn window_address(&self, page: NonNull<Page>) -> u64 {
        self.world.window_address(self.id, page)
    }

    unsafe fn set_window(&self, page: NonNull<Page>, view: View) {
        self.world.set_window(self.id, page, view);
    }

    fn domain_state(&self) -> &DomainState {
        &self.drivers
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        self.world.with_domain(self.id, |domain| domain.store_ring)
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        self.world
            .with_domain(self.id, |domain| domain.console_ring)
    }

    fn now(&self) -> Instant {
        self.world
            .with_domain(self.id, |domain| domain.asked.clock_reads += 1);
        self.world.tick()
    }

    fn wall_clock(&self) -> u64 {
        super::EPOCH + self.world.clock.get()
    }

    fn take_pending(&self, port: Port) -> bool {
        let mut channels = self.world.channels.borrow_mut();
        channels.take_pending(self.id, port.0)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        assert!(
            ports.len() <= MAX_POLL_PORTS,
            "Xen polls no more than {MAX_POLL_PORTS} ports at a time"
        );
        self.world
            .with_domain(self.id, |domain| domain.asked.waits += 1);
        let fired = || {
            let channels = self.world.channels.borrow();
            ports
                .iter()
                .any(|port| channels.is_pending(self.id, port.0))
        };
        self.world.run_until(deadline, fired);
    }
}
