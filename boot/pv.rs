//! From the first Rust instruction of a PV domain to a machine that is up.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use super::machine::{Machine, Mode, ResumableRing};
use super::memory::{Memory, ONE_TO_ONE_END, memory};
use super::paging::{LARGE_SIZE, MachineFrames, PageTables, Use};
use super::platform::set_gate;
use super::suspend::{list_frames, stop_ticking};
use super::{call_main, fail, trap};
use crate::hypercall::raw::Gate;
use crate::platform::{Frame, PAGE_SIZE, Page};
use crate::sys;
use crate::time::Instant;
use crate::xen::shared::SharedMemory;

unsafe extern "C" {
    static xen9p_image_start: u8;
}

/// Called by `head.s` with Xen's start_info, the time-stamp counter of the first instruction, and
/// the end of the builder's stack.
///
/// # Safety
/// As said, once, in a PV domain.
#[unsafe(no_mangle)]
unsafe extern "C" fn xen9p_pv_start(info: *const sys::start_info, tick: u64, stack: usize) -> ! {
    // SAFETY: a PV domain's gate.
    unsafe { set_gate(Gate::Syscall) };
    trap::init_pv();
    let start_info = NonNull::new(info.cast_mut());
    // SAFETY: the builder's structure, in a page that we never give away, and write to only when the domain
    // is suspended.
    let info = unsafe { &*info };
    // SAFETY: the builder's structure, before any memory is used.
    unsafe { find_memory(info, stack.next_multiple_of(PAGE_SIZE)) };

    let shared_info = Frame(info.shared_info / PAGE_SIZE as u64);
    // SAFETY: the frame is ours to map, by start_info.
    let Some(shared_info) = (unsafe { memory().map_device(shared_info) }) else {
        fail(format_args!("too little memory to map Xen's shared page"));
    };
    let first_domain = u64::from(info.flags) & sys::SIF_INITDOMAIN != 0;
    let console = if first_domain {
        None
    } else {
        // SAFETY: every domain but the first has this variant.
        let console = unsafe { info.console.domU };
        // SAFETY: start_info tells the ring's frame.
        unsafe { ring(console.mfn, console.evtchn) }
    };
    // SAFETY: start_info tells the ring's frame.
    let xenstore = unsafe { ring(info.store_mfn, info.store_evtchn) };
    let text = info.cmd_line.as_slice();
    // SAFETY: the same bytes, unsigned.
    let text = unsafe { core::slice::from_raw_parts(text.as_ptr().cast::<u8>(), text.len()) };
    let machine = Machine {
        mode: Mode::Pv,
        first_domain,
        // SAFETY: mapped just now, for good but for the moment of a suspend, when nothing uses it.
        shared_info: unsafe { SharedMemory::new(shared_info.cast(), PAGE_SIZE) },
        shared_info_at: Frame(0),
        start_info,
        xenstore,
        console,
        command_line: text.split(|&byte| byte == 0).next().unwrap_or_default(),
        started: Instant::from_nanos(0),
        clock_offset: AtomicU64::new(0),
        latest: AtomicU64::new(0),
    };
    // SAFETY: all mapped just now; a PV domain's layout is that of its 64-bit kernel.
    unsafe { machine.install(tick) };
    stop_ticking();
    list_frames();
    call_main()
}

/// One of the builder's rings, if there is one.
///
/// # Safety
/// `frame` is that of the ring, or 0.
unsafe fn ring(frame: u64, port: u32) -> Option<ResumableRing> {
    if frame == 0 || port == 0 {
        return None;
    }
    // SAFETY: the builder made the frame for this purpose.
    let page = unsafe { memory().map_device(Frame(frame)) }?;
    Some(ResumableRing::new(page, port))
}

/// Takes over the memory and the page tables. What the builder made (image, frame list, start_info,
/// rings, page tables, a stack that ends at `builder_end`, in this order) lies between the image's
/// start and `builder_end`; all else is free.
///
/// # Safety
/// `info` and `builder_end` are what the builder has told, and nothing has used memory that is free.
unsafe fn find_memory(info: &sys::start_info, builder_end: usize) {
    let count = (info.nr_pages as usize).min(ONE_TO_ONE_END / PAGE_SIZE);
    let total = info.nr_pages as usize * PAGE_SIZE;
    // SAFETY: Xen's list, mapped for good, of that many frames.
    let machine = unsafe { MachineFrames::new(info.mfn_list as *const u64, count) };
    // SAFETY: the tables in use, and the builder has mapped all that it made one to one.
    let tables = unsafe { PageTables::new(info.pt_base as *mut u64, Some(machine)) };
    let mut memory = Memory::new(tables, total);

    let end = count * PAGE_SIZE;
    // The builder maps somewhat more than it uses, in whole tables.
    let mut mapped = builder_end;
    while mapped < end && memory.tables.is_mapped(mapped) {
        mapped += PAGE_SIZE;
    }
    let image = (&raw const xen9p_image_start).addr();
    // SAFETY: the builder has mapped both one to one, and uses neither, nor do we.
    unsafe {
        add(&mut memory, builder_end, mapped);
        add(&mut memory, PAGE_SIZE, image);
    }

    // The rest of a table that is there in part.
    while mapped < end && !mapped.is_multiple_of(LARGE_SIZE) {
        let entry = (memory.tables).entry(memory.tables.frame(mapped), Use::Data);
        // SAFETY: nothing is mapped there.
        if unsafe { memory.tables.set(&mut memory.pages, mapped, entry, 1) }.is_err() {
            break;
        }
        // SAFETY: mapped just now, and behind all that the builder made.
        unsafe { add(&mut memory, mapped, mapped + PAGE_SIZE) };
        mapped += PAGE_SIZE;
    }
    memory.unmapped = mapped / PAGE_SIZE..count;
    memory.install();
}

/// Adds the memory from `start` to `end`.
///
/// # Safety
/// The pages between are mapped one to one, read-write, and unused.
unsafe fn add(memory: &mut Memory, start: usize, end: usize) {
    if let Some(first) = NonNull::new(start as *mut Page) {
        let count = end.saturating_sub(start) / PAGE_SIZE;
        // SAFETY: the caller's promise.
        unsafe { memory.pages.add(first, count) };
    }
}
