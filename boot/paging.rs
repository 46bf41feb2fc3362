//! Page tables of both kinds of domain, four levels.
//!
//! A PVH domain writes its tables itself. In a PV domain they hold machine frames, are read-only
//! to us, and every change is a request to Xen, which checks it (public/xen.h, `mmu_update`).
//! The tables themselves always lie in memory that is mapped one to one (virtual address =
//! pseudo-physical address), so that an entry leads to the next table's address.

use core::ptr::NonNull;

use super::BarePlatform;
use super::pages::Pages;
use crate::hypercall::XenError;
use crate::platform::{Frame, PAGE_SIZE, Page, Platform};
use crate::sys;

/// Entry bit: there is something.
const PRESENT: u64 = 1;
/// Entry bit: it can be written to.
const WRITE: u64 = 1 << 1;
/// Entry bit: no code runs there.
const NO_EXECUTE: u64 = 1 << 63;
/// Entry bit of the second level: a 2 MiB page.
const LARGE: u64 = 1 << 7;
/// An entry that saves the processor from noting accesses itself.
const READ_WRITE: u64 = PRESENT | WRITE | 1 << 5 | 1 << 6;
/// The frame's address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What a 2 MiB page, or the last table for as much, covers.
pub(super) const LARGE_SIZE: usize = 512 * PAGE_SIZE;
/// Bits of an address inside a page.
const PAGE_SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// The memory for one more table is not there.
#[derive(Debug)]
pub(super) struct OutOfMemory;

/// A PV domain's list of machine frames, by pseudo-physical frame.
#[derive(Clone, Copy)]
pub(super) struct MachineFrames {
    list: *const u64,
    count: usize,
}

impl MachineFrames {
    /// # Safety
    /// `list` is Xen's list of `count` frames and stays mapped.
    pub(super) unsafe fn new(list: *const u64, count: usize) -> Self {
        MachineFrames { list, count }
    }

    /// How many frames the domain has.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The machine frame behind pseudo-physical frame `number`.
    ///
    /// # Panics
    /// The domain has no such frame.
    pub(super) fn get(&self, number: usize) -> u64 {
        assert!(
            number < self.count,
            "frame {number:#x} is not in this domain"
        );
        // SAFETY: inside the list, by the check.
        unsafe { self.list.add(number).read() }
    }

    /// The pseudo-physical frame that has machine frame `machine`.
    ///
    /// # Safety
    /// This is a PV domain, and `machine` is a frame of the host: it comes from a page table or start_info, which Xen has
    /// checked or made.
    pub(super) unsafe fn find(machine: u64) -> usize {
        let table = sys::MACH2PHYS_VIRT_START as *const u64;
        // SAFETY: Xen maps its table of all machine frames there in every 64-bit PV domain, and `machine` is one of them.
        unsafe { table.add(machine as usize).read() as usize }
    }
}

/// What a page is for, and so what its entry allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Run and read.
    Code,
    /// Read.
    Constants,
    /// Read and written.
    Data,
}

/// Whether the processor knows pages in which no code runs (Intel SDM 3A, 4.6; AMD APM 2, 5.6.1).
pub(super) fn has_no_execute() -> bool {
    const NX: u32 = 1 << 20;
    core::arch::x86_64::__cpuid(0x8000_0001).edx & NX != 0
}

/// The page tables in use.
pub(super) struct PageTables {
    root: *mut u64,
    /// In a PV domain only.
    machine: Option<MachineFrames>,
    /// [`NO_EXECUTE`], or nothing on a processor for which that bit is an error.
    no_execute: u64,
}

// SAFETY: the tables belong to the owner of this value, as memory of a `Box` would.
unsafe impl Send for PageTables {}

/// The index of `address` in a table of `level` (4 is the root, 1 the last).
fn index(address: usize, level: u32) -> usize {
    address >> (PAGE_SHIFT + 9 * (level - 1)) & 511
}

impl PageTables {
    /// # Safety
    /// `root` is the table in use; this is a PV domain exactly if there are `machine` frames; the
    /// one-to-one mapping covers all tables; no code runs in pages that say so if the processor [can](has_no_execute) do that.
    pub(super) unsafe fn new(root: *mut u64, machine: Option<MachineFrames>) -> Self {
        let no_execute = if has_no_execute() { NO_EXECUTE } else { 0 };
        PageTables {
            root,
            machine,
            no_execute,
        }
    }

    /// Whether the domain maps 2 MiB by one entry: in PVH.
    pub(super) fn has_large_pages(&self) -> bool {
        self.machine.is_none()
    }

    /// The frame that Xen knows the one-to-one mapped page at `address` by.
    pub(super) fn frame(&self, address: usize) -> Frame {
        let number = address >> PAGE_SHIFT;
        Frame(match &self.machine {
            Some(machine) => machine.get(number),
            None => number as u64,
        })
    }

    /// An entry of the last level for `frame`.
    pub(super) fn entry(&self, frame: Frame, used: Use) -> u64 {
        let bits = match used {
            Use::Code => PRESENT,
            Use::Constants => PRESENT | self.no_execute,
            Use::Data => READ_WRITE | self.no_execute,
        };
        frame.0 << PAGE_SHIFT | bits
    }

    /// An entry of the second level for 2 MiB of data that begin at `address`.
    pub(super) fn large_entry(&self, address: usize) -> u64 {
        address as u64 | READ_WRITE | LARGE | self.no_execute
    }

    /// The table that an entry leads to.
    ///
    /// # Safety
    /// `entry` is a present entry of these tables above the last level.
    unsafe fn table(&self, entry: u64) -> *mut u64 {
        let physical = (entry & ADDRESS) as usize;
        let address = match self.machine {
            // SAFETY: only a PV domain has machine frames, and Xen checks each entry that it puts into its tables.
            Some(_) => unsafe {
                MachineFrames::find((physical >> PAGE_SHIFT) as u64) << PAGE_SHIFT
            },
            None => physical,
        };
        address as *mut u64
    }

    /// Whether something is mapped at `address`.
    pub(super) fn is_mapped(&self, address: usize) -> bool {
        let mut table = self.root;
        for level in (1..=4).rev() {
            // SAFETY: a table of 512 entries, by construction.
            let entry = unsafe { table.add(index(address, level)).read_volatile() };
            if entry & PRESENT == 0 {
                return false;
            }
            if level == 2 && entry & LARGE != 0 {
                break;
            }
            if level > 1 {
                // SAFETY: a present entry above the last level.
                table = unsafe { self.table(entry) };
            }
        }
        true
    }

    /// Makes `entry` what the tables say about `address`, on level 1 (a page of 4 KiB) or, in a PVH
    /// domain, on level 2 (2 MiB). Tables on the way are built from `pages`; a large page in the
    /// way is split.
    ///
    /// # Safety
    /// No code relies on what was there, and no other code uses the frame that is there now in a way
    /// that a second mapping would break.
    pub(super) unsafe fn set(
        &mut self,
        pages: &mut Pages,
        address: usize,
        entry: u64,
        last: u32,
    ) -> Result<(), OutOfMemory> {
        let mut table = self.root;
        for level in (last + 1..=4).rev() {
            // SAFETY: a table of 512 entries, by construction.
            let slot = unsafe { table.add(index(address, level)) };
            // SAFETY: as above.
            let old = unsafe { slot.read_volatile() };
            table = if old & PRESENT == 0 {
                // SAFETY: an empty table changes nothing yet.
                unsafe { self.hook(pages, slot, |_| 0)? }
            } else if level == 2 && old & LARGE != 0 {
                let small = old & !LARGE;
                // SAFETY: the new table says what the large page said.
                unsafe { self.hook(pages, slot, |i| small + (i * PAGE_SIZE) as u64)? }
            } else {
                // SAFETY: a present entry above the last level.
                unsafe { self.table(old) }
            };
        }
        // SAFETY: a slot in a table of 512 entries.
        unsafe {
            let slot = table.add(index(address, last));
            let old = slot.read_volatile();
            self.write(slot, entry);
            if old & PRESENT != 0 {
                self.flush(address);
            }
        }
        Ok(())
    }

    /// Maps the 512 frames from `first` one to one, as far as the domain has them, with a table of
    /// their own (PV).
    ///
    /// # Safety
    /// Nothing is mapped there.
    pub(super) unsafe fn set_one_to_one(
        &mut self,
        pages: &mut Pages,
        first: usize,
    ) -> Result<(), OutOfMemory> {
        let machine = self.machine.expect("only a PV domain maps memory this way");
        let address = first << PAGE_SHIFT;
        let mut table = self.root;
        for level in [4, 3] {
            // SAFETY: a slot in a table of 512 entries.
            let slot = unsafe { table.add(index(address, level)) };
            // SAFETY: as above.
            let old = unsafe { slot.read_volatile() };
            table = if old & PRESENT == 0 {
                // SAFETY: an empty table changes nothing yet.
                unsafe { self.hook(pages, slot, |_| 0)? }
            } else {
                // SAFETY: a present entry above the last level.
                unsafe { self.table(old) }
            };
        }
        // SAFETY: a slot in a table of 512 entries; the frames are the domain's own.
        unsafe {
            let slot = table.add(index(address, 2));
            let empty = self.entry(Frame(0), Use::Data);
            self.hook(pages, slot, |i| {
                if first + i < machine.count() {
                    empty | machine.get(first + i) << PAGE_SHIFT
                } else {
                    0
                }
            })?;
        }
        Ok(())
    }

    /// Puts a new table with the entries that `fill` says into `slot`.
    ///
    /// # Safety
    /// `slot` is an entry of a table above the last level, and the new table is right there.
    unsafe fn hook(
        &mut self,
        pages: &mut Pages,
        slot: *mut u64,
        fill: impl Fn(usize) -> u64,
    ) -> Result<*mut u64, OutOfMemory> {
        let table: NonNull<Page> = pages.take(1).ok_or(OutOfMemory)?;
        let entries = table.cast::<u64>();
        for i in 0..512 {
            // SAFETY: the page is ours and holds 512 entries.
            unsafe { entries.add(i).write(fill(i)) };
        }
        let address = table.addr().get();
        let frame = self.frame(address);
        if self.machine.is_some() {
            // Xen takes a page as a table only if it is mapped writable nowhere.
            let read_only = self.entry(frame, Use::Constants);
            // SAFETY: from here on the page is a table, written through Xen alone.
            unsafe { update_va_mapping(address, read_only) };
        }
        // SAFETY: the caller vouches for the slot.
        unsafe { self.write(slot, frame.0 << PAGE_SHIFT | READ_WRITE) };
        Ok(entries.as_ptr())
    }

    /// Writes one entry.
    ///
    /// # Safety
    /// `slot` is an entry of one of these tables, and `entry` is right there.
    unsafe fn write(&mut self, slot: *mut u64, entry: u64) {
        let Some(machine) = &self.machine else {
            // SAFETY: the slot is in a table, and a PVH domain's tables are ordinary memory.
            unsafe { slot.write_volatile(entry) };
            return;
        };
        let address = slot.addr();
        let mut update = sys::mmu_update {
            ptr: machine.get(address >> PAGE_SHIFT) << PAGE_SHIFT
                | (address % PAGE_SIZE) as u64
                | sys::MMU_NORMAL_PT_UPDATE,
            val: entry,
        };
        // SAFETY: one update, no count of successes asked for, our own domain.
        let result = unsafe {
            BarePlatform.hypercall(
                sys::__HYPERVISOR_mmu_update,
                [
                    (&raw mut update).expose_provenance(),
                    1,
                    0,
                    sys::DOMID_SELF.into(),
                    0,
                ],
            )
        };
        if let Err(error) = XenError::check(result) {
            panic!("Xen refused page table entry {entry:#x}: {error}");
        }
    }

    /// Makes the processor forget what it knows about `address`.
    fn flush(&self, address: usize) {
        if self.machine.is_none() {
            x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address as u64));
            return;
        }
        let mut operation = sys::mmuext_op {
            cmd: sys::MMUEXT_INVLPG_LOCAL,
            arg1: sys::mmuext_op__bindgen_ty_1 {
                linear_addr: address as u64,
            },
            arg2: sys::mmuext_op__bindgen_ty_2 { nr_ents: 0 },
        };
        // SAFETY: one operation, which changes no memory.
        let result = unsafe {
            BarePlatform.hypercall(
                sys::__HYPERVISOR_mmuext_op,
                [
                    (&raw mut operation).expose_provenance(),
                    1,
                    0,
                    sys::DOMID_SELF.into(),
                    0,
                ],
            )
        };
        debug_assert!(result == 0, "Xen never refuses a flush");
    }
}

/// Makes `entry` what the tables say about `address`, where they exist already (PV).
///
/// # Safety
/// As for [`PageTables::set`].
unsafe fn update_va_mapping(address: usize, entry: u64) {
    let flags = sys::UVMF_INVLPG | sys::UVMF_LOCAL;
    // SAFETY: the caller vouches for the mapping.
    let result = unsafe {
        BarePlatform.hypercall(
            sys::__HYPERVISOR_update_va_mapping,
            [address, entry as usize, flags as usize, 0, 0],
        )
    };
    if let Err(error) = XenError::check(result) {
        panic!("Xen refused to map {address:#x} as {entry:#x}: {error}");
    }
}
