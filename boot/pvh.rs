//! From the first Rust instruction of a PVH domain to a machine that is up.

use core::ffi::CStr;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use x86_64::registers::model_specific::{Efer, EferFlags};

use super::machine::{Machine, Mode, ResumableRing, machine};
use super::memory::{Memory, ONE_TO_ONE_END, code_and_constants, memory};
use super::paging::{LARGE_SIZE, PageTables, has_no_execute};
use super::platform::set_gate;
use super::windows::WINDOW_PAGES;
use super::{BarePlatform, call_main, fail, trap};
use crate::hypercall::XenError;
use crate::hypercall::hvm;
use crate::hypercall::memory::{MapEntry, Space, add_to_physmap, current_reservation, memory_map};
use crate::hypercall::raw::Gate;
use crate::platform::{Frame, PAGE_SIZE, Page};
use crate::sys;
use crate::time::Instant;
use crate::xen::shared::SharedMemory;

unsafe extern "C" {
    static xen9p_image_start: u8;
    static xen9p_image_end: u8;
    static mut xen9p_boot_l4: u64;
}

/// What `head.s` has mapped.
const BOOT_MAPPED: u64 = 4 << 30;
/// Space for frames of Xen's own, of which there are fewer than half as many, and for those of other domains.
const WINDOW: u64 = 64 << 20;
const _: () = assert!(WINDOW_PAGES as u64 * PAGE_SIZE as u64 == WINDOW / 2);

/// Called by `head.s` with the loader's start info and the time-stamp counter of the first
/// instruction.
///
/// # Safety
/// As said, once, in a PVH domain.
#[unsafe(no_mangle)]
unsafe extern "C" fn xen9p_pvh_start(info: *const sys::hvm_start_info, tick: u64) -> ! {
    // SAFETY: a PVH domain's gate.
    unsafe { set_gate(Gate::of_hvm()) };
    // SAFETY: the first thing that happens.
    unsafe { trap::init_pvh() };
    // SAFETY: the loader's structure, below 4 GiB, in pages that are never given away.
    let info: &'static sys::hvm_start_info = unsafe { &*info };
    if info.magic != sys::XEN_HVM_START_MAGIC_VALUE {
        fail(format_args!("started by a loader that does not speak PVH"));
    }
    let command_line = match info.cmdline_paddr {
        0 => c"",
        // SAFETY: the loader's string, as above.
        address => unsafe { CStr::from_ptr(address as *const _) },
    };
    // SAFETY: the loader's structure, before any memory is used.
    unsafe { find_memory(info, command_line) };

    let frame = Frame(memory().unused_frame);
    // SAFETY: nothing is behind an unused frame number.
    if let Err(error) = unsafe { share_info(frame) } {
        fail(format_args!("Xen does not share its page with us: {error}"));
    }
    memory().unused_frame += 1;
    // SAFETY: Xen put it there for good.
    let Some(shared_info) = (unsafe { memory().map_device(frame) }) else {
        fail(format_args!("too little memory to map Xen's shared page"));
    };
    let first_domain = u64::from(info.flags) & sys::SIF_INITDOMAIN != 0;
    // SAFETY: the parameters' pairs belong together.
    let (xenstore, console) = unsafe {
        (
            ring(sys::HVM_PARAM_STORE_PFN, sys::HVM_PARAM_STORE_EVTCHN),
            ring(sys::HVM_PARAM_CONSOLE_PFN, sys::HVM_PARAM_CONSOLE_EVTCHN),
        )
    };
    let machine = Machine {
        mode: Mode::Pvh,
        first_domain,
        // SAFETY: Xen put it there, and it was mapped just now, for good.
        shared_info: unsafe { SharedMemory::new(shared_info.cast(), PAGE_SIZE) },
        shared_info_at: frame,
        start_info: None,
        xenstore,
        console,
        command_line: command_line.to_bytes(),
        started: Instant::from_nanos(0),
        clock_offset: AtomicU64::new(0),
        latest: AtomicU64::new(0),
    };
    // SAFETY: all mapped just now, shared_info in the layout just set.
    unsafe { machine.install(tick) };
    call_main()
}

/// Has Xen put shared_info, in its 64-bit layout, at `frame`.
///
/// # Safety
/// Nothing is behind that frame number but perhaps shared_info.
unsafe fn share_info(frame: Frame) -> Result<(), XenError> {
    // Xen lays shared_info out for the mode in which this parameter is set, which is 64-bit here.
    // The vector is never used: interrupts stay off.
    let vector = u64::from(sys::HVM_PARAM_CALLBACK_TYPE_VECTOR) << 56 | 0xf3;
    // SAFETY: no interrupt is ever taken.
    unsafe { hvm::set_param(&BarePlatform, sys::HVM_PARAM_CALLBACK_IRQ, vector)? };
    // SAFETY: the caller's promise.
    unsafe { add_to_physmap(&BarePlatform, Space::SharedInfo, frame) }
}

/// A parameter that the builder set, if it did.
fn parameter(index: u32) -> Option<u64> {
    let value = hvm::get_param(&BarePlatform, index).ok();
    value.filter(|&value| value != 0 && value != u64::MAX)
}

/// One of the builder's rings, if there is one.
///
/// # Safety
/// `frame` is the parameter that has the ring's frame.
unsafe fn ring(frame: u32, port: u32) -> Option<ResumableRing> {
    let (frame, port) = (parameter(frame)?, parameter(port)?);
    // SAFETY: the builder made the frame for this purpose.
    let page = unsafe { memory().map_device(Frame(frame)) }?;
    Some(ResumableRing::new(page, port as u32))
}

/// Puts back what a new domain does not have; its memory, and where the builder's rings are in it, are as
/// they were.
pub(super) fn resumed() -> Result<(), XenError> {
    let machine = machine();
    // SAFETY: shared_info was there before the resume.
    unsafe { share_info(machine.shared_info_at) }?;
    for (ring, port) in [
        (&machine.xenstore, sys::HVM_PARAM_STORE_EVTCHN),
        (&machine.console, sys::HVM_PARAM_CONSOLE_EVTCHN),
    ] {
        if let (Some(ring), Some(port)) = (ring, parameter(port)) {
            ring.set_port(port as u32);
        }
    }
    Ok(())
}

/// Takes over the memory and the page tables.
///
/// # Safety
/// `info` is the loader's, and nothing has used memory that is free.
unsafe fn find_memory(info: &sys::hvm_start_info, command_line: &CStr) {
    let mut entries = [MapEntry::default(); 128];
    // SAFETY: the caller's promise.
    let map = unsafe { read_map(info, &mut entries) };
    let ram = |entry: &&MapEntry| entry.kind == sys::XEN_HVM_MEMMAP_TYPE_RAM;
    keep_to_reservation(map);
    let map = &*map;
    let total = map
        .iter()
        .filter(ram)
        .map(|entry| entry.length as usize)
        .sum();

    if has_no_execute() {
        // SAFETY: the processor knows the bit, which none of the entries that head.s wrote has set.
        unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    }
    // SAFETY: the tables that head.s has put in use, all below 4 GiB, which they map one to one.
    let tables = unsafe { PageTables::new(&raw mut xen9p_boot_l4, None) };
    let mut memory = Memory::new(tables, total);
    memory.unused_frame = unused_frames(map);
    // The upper half is for pages of other domains.
    memory.window_frame = memory.unused_frame + (WINDOW / 2) / PAGE_SIZE as u64;

    // Where the builder put things that we still read, and what is no memory to us.
    let taken = [
        0..PAGE_SIZE,
        (&raw const xen9p_image_start).addr()..(&raw const xen9p_image_end).addr(),
        around(info),
        around(command_line),
    ];
    // First what is mapped: the tables for the rest come from there.
    for entry in map.iter().filter(ram) {
        let (start, end) = bounds(entry);
        let range = start as usize..end.min(BOOT_MAPPED) as usize;
        // SAFETY: head.s has mapped it, it is RAM that the loader says is ours, and what is in use in there is `taken`.
        unsafe { add_except(&mut memory, range, &taken) };
    }
    for entry in map.iter().filter(ram) {
        let (start, end) = bounds(entry);
        let (start, end) = (start.max(BOOT_MAPPED), end.min(ONE_TO_ONE_END as u64));
        // SAFETY: RAM that the loader says is ours, above what head.s has mapped and what the loader has used.
        unsafe { add_high(&mut memory, start as usize, end as usize) };
    }
    // SAFETY: all that is in use is in RAM, and the map shows all RAM.
    unsafe { restrict_boot_mapping(&mut memory, map) };
    memory.install();
}

/// Cuts RAM off at the end that the domain may not use: with `maxmem=` above `memory=` the map shows
/// the former, and Xen crashes a domain that touches more than the latter.
fn keep_to_reservation(map: &mut [MapEntry]) {
    let Ok(pages) = current_reservation(&BarePlatform) else {
        return;
    };
    let is_ram = |entry: &&MapEntry| entry.kind == sys::XEN_HVM_MEMMAP_TYPE_RAM;
    let mapped: u64 = map.iter().filter(is_ram).map(|entry| entry.length).sum();
    let given = (pages * PAGE_SIZE) as u64;
    if mapped <= given {
        return;
    }
    // What the builder made outside of RAM, some 20 pages, was given to us, too.
    let mut left = given.saturating_sub(64 * PAGE_SIZE as u64);
    for entry in map {
        if entry.kind == sys::XEN_HVM_MEMMAP_TYPE_RAM {
            entry.length = entry.length.min(left);
            left -= entry.length;
        }
    }
}

/// The memory map, from the loader or else from Xen.
///
/// # Safety
/// `info` is the loader's.
unsafe fn read_map<'a>(
    info: &sys::hvm_start_info,
    buffer: &'a mut [MapEntry],
) -> &'a mut [MapEntry] {
    let count = if info.version >= 1 {
        info.memmap_entries as usize
    } else {
        0
    };
    if count > 0 {
        let table = info.memmap_paddr as *const sys::hvm_memmap_table_entry;
        let count = count.min(buffer.len());
        for (i, entry) in buffer[..count].iter_mut().enumerate() {
            // SAFETY: the loader's table, below 4 GiB, not yet given away.
            let loaded = unsafe { table.add(i).read() };
            *entry = MapEntry {
                start: loaded.addr,
                length: loaded.size,
                kind: loaded.type_,
            };
        }
        return &mut buffer[..count];
    }
    match memory_map(&BarePlatform, buffer) {
        Ok(count) => &mut buffer[..count],
        Err(error) => fail(format_args!(
            "neither the loader nor Xen has a memory map: {error}"
        )),
    }
}

/// First and last+1 address of the whole pages of an entry.
fn bounds(entry: &MapEntry) -> (u64, u64) {
    const PAGE: u64 = PAGE_SIZE as u64;
    let end = entry.start.saturating_add(entry.length);
    (entry.start.div_ceil(PAGE) * PAGE, end / PAGE * PAGE)
}

/// Frame numbers that the memory map says nothing about, for frames of Xen's own: above RAM and
/// above 4 GiB, below which platform devices may be.
fn unused_frames(map: &[MapEntry]) -> u64 {
    let ram_end = map
        .iter()
        .filter(|entry| entry.kind == sys::XEN_HVM_MEMMAP_TYPE_RAM)
        .map(|entry| bounds(entry).1)
        .max();
    let mut start = ram_end
        .unwrap_or(0)
        .max(BOOT_MAPPED)
        .next_multiple_of(LARGE_SIZE as u64);
    // Each entry can push the window up once.
    for _ in map {
        for entry in map {
            let end = entry.start.saturating_add(entry.length);
            if entry.start < start + WINDOW && end > start {
                start = end.next_multiple_of(LARGE_SIZE as u64);
            }
        }
    }
    start / PAGE_SIZE as u64
}

/// The pages that `thing` is in.
fn around<T: ?Sized>(thing: &T) -> Range<usize> {
    let start = (&raw const *thing).cast::<u8>().addr();
    let end = start + size_of_val(thing);
    start / PAGE_SIZE * PAGE_SIZE..end.next_multiple_of(PAGE_SIZE)
}

/// Adds the memory in `range` that is not `taken`.
///
/// # Safety
/// `range` is RAM, mapped one to one, of which nothing is in use but what is `taken`.
unsafe fn add_except(memory: &mut Memory, range: Range<usize>, taken: &[Range<usize>]) {
    let mut start = range.start;
    while start < range.end {
        if let Some(inside) = taken.iter().find(|hole| hole.contains(&start)) {
            start = inside.end;
            continue;
        }
        let holes = taken.iter().map(|hole| hole.start);
        let next = holes.filter(|&hole| hole > start).min();
        let end = next.map_or(range.end, |next| next.min(range.end));
        if let Some(first) = NonNull::new(start as *mut Page) {
            // SAFETY: in `range`, and no range that is taken begins before `end` and ends behind `start`.
            unsafe { memory.pages.add(first, (end - start) / PAGE_SIZE) };
        }
        start = end;
    }
}

/// Maps and adds memory above 4 GiB.
///
/// # Safety
/// From `start` to `end` there is RAM, which is not mapped yet, and of which nothing is in use.
unsafe fn add_high(memory: &mut Memory, start: usize, end: usize) {
    let mut here = start;
    while here < end {
        let large = here / LARGE_SIZE * LARGE_SIZE;
        let next = end.min(large + LARGE_SIZE);
        // SAFETY: nothing is mapped there, and RAM is there.
        let mapped = unsafe {
            let entry = memory.tables.large_entry(large);
            memory.tables.set(&mut memory.pages, large, entry, 2)
        };
        if mapped.is_err() {
            return;
        }
        if let Some(first) = NonNull::new(here as *mut Page) {
            // SAFETY: RAM, mapped just now.
            unsafe { memory.pages.add(first, (next - here) / PAGE_SIZE) };
        }
        here = next;
    }
}

/// Unmaps what head.s has mapped though nothing is there, so that a stray pointer is noticed, and lets no code run where
/// there is none.
///
/// # Safety
/// Nothing that is in use lies outside of the RAM that `map` shows.
unsafe fn restrict_boot_mapping(memory: &mut Memory, map: &[MapEntry]) {
    let fixed = code_and_constants();
    for start in (0..BOOT_MAPPED).step_by(LARGE_SIZE) {
        let end = start + LARGE_SIZE as u64;
        let address = start as usize;
        if address < fixed.end && end as usize > fixed.start {
            // Page by page, when the memory is installed.
            continue;
        }
        let used = map.iter().any(|entry| {
            let (first, last) = bounds(entry);
            entry.kind == sys::XEN_HVM_MEMMAP_TYPE_RAM && first < end && last > start
        });
        let entry = match used {
            true => memory.tables.large_entry(address),
            false => 0,
        };
        // SAFETY: the same memory as before, without code, or none that is in use. A second-level entry needs no new table.
        let _ = unsafe { memory.tables.set(&mut memory.pages, address, entry, 2) };
    }
}
