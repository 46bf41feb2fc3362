//! Processor exceptions: each is reported, then the domain is crashed. Nothing here returns.
//!
//! In a PVH domain they run on a stack of their own, so that an overflow of the main stack can be
//! reported. In a PV domain Xen pushes onto the stack in use; when that is full, Xen crashes the
//! domain itself.

use core::mem::offset_of;
use core::ptr::addr_of_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::BarePlatform;
use super::emergency::{begin_report, crash, emergency_print, print_callers};
use super::machine::{Mode, try_machine};
use crate::hypercall::XenError;
use crate::platform::{PAGE_SIZE, Platform};
use crate::sys;

/// Exceptions of the processor.
const VECTORS: usize = 32;
/// Bytes from one stub to the next, and those of a PV domain's two extra instructions.
const STUB_SIZE: usize = 16;
const PV_ONLY: usize = 3;

const NAMES: [&str; VECTORS] = [
    "division error",
    "debug trap",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid instruction",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved exception",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualisation exception",
    "control protection exception",
    "reserved exception",
    "reserved exception",
    "reserved exception",
    "reserved exception",
    "reserved exception",
    "reserved exception",
    "hypervisor injection exception",
    "VMM communication exception",
    "security exception",
    "reserved exception",
];
const DOUBLE_FAULT: usize = 8;
const PAGE_FAULT: usize = 14;

unsafe extern "C" {
    static xen9p_trap_stubs: u8;
    static xen9p_stack_guard: u8;
}

/// What `trap.s` and the processor leave on the stack.
#[repr(C)]
struct TrapFrame {
    r15: usize,
    r14: usize,
    r13: usize,
    r12: usize,
    r11: usize,
    r10: usize,
    r9: usize,
    r8: usize,
    rbp: usize,
    rdi: usize,
    rsi: usize,
    rdx: usize,
    rcx: usize,
    rbx: usize,
    rax: usize,
    vector: usize,
    error: usize,
    rip: usize,
    cs: usize,
    rflags: usize,
    rsp: usize,
    ss: usize,
}

const ARCH_SIZE: usize = size_of::<sys::arch_vcpu_info>();

/// The address that the last page fault was about, if it can be known.
fn fault_address() -> Option<usize> {
    match try_machine() {
        // Xen leaves the address there.
        Some(machine) if machine.mode == Mode::Pv => {
            let arch = machine.vcpu_info(offset_of!(sys::vcpu_info, arch), ARCH_SIZE);
            let address = arch.word::<u64>(offset_of!(sys::arch_vcpu_info, cr2));
            Some(address.load(Ordering::Relaxed) as usize)
        }
        _ if PVH.load(Ordering::Relaxed) => Some(Cr2::read_raw() as usize),
        _ => None,
    }
}

/// Where every exception ends.
#[unsafe(no_mangle)]
extern "C" fn xen9p_trap(frame: &TrapFrame) -> ! {
    begin_report();
    let f = frame;
    let name = NAMES.get(f.vector).copied().unwrap_or("exception");
    let address = match f.vector {
        PAGE_FAULT | DOUBLE_FAULT => fault_address(),
        _ => None,
    };
    emergency_print(format_args!(
        "[xen9p] exception {}: {name}, error code {:#x}\n  \
         rip {:016x} cs  {:04x} rflags {:08x} rsp {:016x} ss {:04x} cr2 {:016x}\n  \
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n  \
         rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n  \
         r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n  \
         r13 {:016x} r14 {:016x} r15 {:016x}\n",
        f.vector,
        f.error,
        f.rip,
        f.cs as u16,
        f.rflags,
        f.rsp,
        f.ss as u16,
        address.unwrap_or(0),
        f.rax,
        f.rbx,
        f.rcx,
        f.rdx,
        f.rsi,
        f.rdi,
        f.rbp,
        f.r8,
        f.r9,
        f.r10,
        f.r11,
        f.r12,
        f.r13,
        f.r14,
        f.r15,
    ));
    print_callers(f.rbp);

    let guard = (&raw const xen9p_stack_guard).addr();
    let rip = f.rip;
    match address {
        Some(address) if (guard..guard + PAGE_SIZE).contains(&address) => {
            emergency_print(format_args!("[xen9p] panic: stack overflow at {rip:#x}\n"));
        }
        Some(address) if f.vector == PAGE_FAULT => {
            let access = match f.error & 0b1_0010 {
                0b10 => "write to",
                0 => "read from",
                _ => "jump to",
            };
            let why = match f.error & 1 {
                0 => "which is not mapped",
                _ => "which is read-only",
            };
            emergency_print(format_args!(
                "[xen9p] panic: page fault at {rip:#x}: {access} {address:#x}, {why}\n"
            ));
        }
        _ => emergency_print(format_args!("[xen9p] panic: {name} at {rip:#x}\n")),
    }
    crash()
}

/// Has Xen call the stubs (PV).
pub(super) fn init_pv() {
    let end = sys::trap_info {
        vector: 0,
        flags: 0,
        cs: 0,
        address: 0,
    };
    let mut table = [end; VECTORS + 1];
    let stubs = (&raw const xen9p_trap_stubs).addr();
    for (vector, entry) in table[..VECTORS].iter_mut().enumerate() {
        *entry = sys::trap_info {
            vector: vector as u8,
            flags: 0,
            cs: sys::FLAT_KERNEL_CS as u16,
            address: (stubs + vector * STUB_SIZE) as u64,
        };
    }
    // SAFETY: Xen reads the table up to the entry with address 0. The stubs take an exception's
    // stack as Xen leaves it.
    let result = unsafe {
        BarePlatform.hypercall(
            sys::__HYPERVISOR_set_trap_table,
            [table.as_ptr().expose_provenance(), 0, 0, 0, 0],
        )
    };
    if let Err(error) = XenError::check(result) {
        emergency_print(format_args!(
            "[xen9p] no exception will be reported: {error}\n"
        ));
    }
}

/// Whether the processor's own registers tell about exceptions.
static PVH: AtomicBool = AtomicBool::new(false);

/// An entry of the processor's table of exceptions.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

#[repr(align(16))]
struct ExceptionStack(#[expect(dead_code, reason = "only its address matters")] [u8; 8192]);

static mut STACK: ExceptionStack = ExceptionStack([0; 8192]);
static mut GDT: GlobalDescriptorTable = GlobalDescriptorTable::new();
static mut TSS: TaskStateSegment = TaskStateSegment::new();
static mut IDT: [Gate; VECTORS] = [Gate {
    offset_low: 0,
    selector: 0,
    stack: 0,
    kind: 0,
    offset_middle: 0,
    offset_high: 0,
    reserved: 0,
}; VECTORS];

/// Has the processor call the stubs, on a stack of their own (PVH).
///
/// # Safety
/// Called once, before anything else uses segments.
pub(super) unsafe fn init_pvh() {
    PVH.store(true, Ordering::Relaxed);
    // SAFETY: called once, so these are the only references to the three tables; from then on
    // only the processor uses them.
    let (gdt, tss, idt) = unsafe {
        (
            &mut *addr_of_mut!(GDT),
            &mut *addr_of_mut!(TSS),
            &mut *addr_of_mut!(IDT),
        )
    };
    let stack = addr_of_mut!(STACK).addr() + size_of::<ExceptionStack>();
    tss.interrupt_stack_table[0] = VirtAddr::new(stack as u64);
    let code = gdt.append(Descriptor::kernel_code_segment());
    // SAFETY: the structure is a static and stays.
    let task = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });

    let stubs = (&raw const xen9p_trap_stubs).addr() + PV_ONLY;
    for (vector, gate) in idt.iter_mut().enumerate() {
        let address = stubs + vector * STUB_SIZE;
        *gate = Gate {
            offset_low: address as u16,
            selector: code.0,
            // The first stack of the table; the stubs never return, so that one is enough.
            stack: 1,
            // Present, for the kernel, with interrupts off.
            kind: 0x8e,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        };
    }
    debug_assert!(code.rpl() == PrivilegeLevel::Ring0);
    // SAFETY: all three tables are statics and well-formed; the code segment is the same kind as
    // the one in use; the data segments in use need no entry any more, the processor has them.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(code);
        load_tss(task);
        lidt(&DescriptorTablePointer {
            limit: (size_of::<[Gate; VECTORS]>() - 1) as u16,
            base: VirtAddr::new(addr_of_mut!(IDT).addr() as u64),
        });
    }
}
