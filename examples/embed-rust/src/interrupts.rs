//! The interrupt table, and events as interrupts.
//!
//! Xen delivers events by one vector. Its handler moves the pending bits of shared_info to [`FIRED`], where the
//! platform's `take_pending` finds them. Interrupts are on only while this kernel sleeps; before that, and when it is asked what
//! fired, it moves the bits itself.
//!
//! So the handler runs on the stack that is in use, on which the compiler keeps no data below the stack pointer (the red zone) while
//! it sleeps. A stack that the processor takes for each interrupt, always from its top, would be no place for it: QEMU's software
//! emulation of a nested hypervisor now and then delivers an interrupt a second time, at the first instruction of its handler.
//! There the second frame would take the place of the first, and the handler would return to itself for ever.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use xen9p::sys;

/// The vector of events.
pub const VECTOR: u8 = 0x30;

/// Event channels that fired and were not taken yet, a bit for each port.
static FIRED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// How many interrupts there were.
pub static COUNT: AtomicU64 = AtomicU64::new(0);

/// Address of shared_info; 0 until it is mapped.
static SHARED_INFO: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static mut gdt: [u64; 5];
    static exception_stack_top: u8;
    fn event_stub();
    fn exception_stub();
}

/// The task state segment: only its first interrupt stack is used.
#[repr(C, packed)]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    more_reserved: u64,
    interrupt_stacks: [u64; 7],
    rest: [u16; 6],
}

static mut TASK_STATE: TaskState = TaskState {
    reserved: 0,
    stacks: [0; 3],
    more_reserved: 0,
    interrupt_stacks: [0; 7],
    rest: [0, 0, 0, 0, 0, size_of::<TaskState>() as u16],
};

static mut TABLE: [[u64; 2]; 256] = [[0; 2]; 256];

/// An entry of the interrupt table: an interrupt gate of ring 0, on interrupt stack `stack` (0: the stack in use).
fn gate(handler: unsafe extern "C" fn(), stack: u64) -> [u64; 2] {
    let address = handler as *const () as u64;
    let low =
        address & 0xffff | 8 << 16 | stack << 32 | 0x8e00 << 32 | (address >> 16 & 0xffff) << 48;
    [low, address >> 32]
}

/// Loads the tables. Interrupts stay off.
///
/// # Safety
/// Once, at the start; `shared_info` is mapped for good.
pub unsafe fn init(shared_info: u64) {
    SHARED_INFO.store(shared_info, Ordering::Relaxed);
    let task_state = (&raw const TASK_STATE).addr() as u64;
    let pointer = Pointer {
        limit: (size_of::<[[u64; 2]; 256]>() - 1) as u16,
        base: (&raw const TABLE).addr() as u64,
    };
    // SAFETY: no other code uses these tables yet; all that they point to stays where it is.
    unsafe {
        (&raw mut TASK_STATE.interrupt_stacks[0])
            .write_unaligned((&raw const exception_stack_top).addr() as u64);
        gdt[3] = (size_of::<TaskState>() as u64 - 1)
            | (task_state & 0xff_ffff) << 16
            | 0x89 << 40
            | (task_state >> 24 & 0xff) << 56;
        gdt[4] = task_state >> 32;
        TABLE = [gate(exception_stub, 1); 256];
        TABLE[usize::from(VECTOR)] = gate(event_stub, 0);
        asm!("ltr {0:x}", in(reg) 24_u16);
        asm!("lidt [{}]", in(reg) &raw const pointer);
    }
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// A word that Xen changes, too.
fn word(at: *const u64) -> &'static AtomicU64 {
    // SAFETY: a word of shared_info, which is mapped for good and accessed atomically by both sides.
    unsafe { &*at.cast() }
}

#[unsafe(no_mangle)]
extern "C" fn event_interrupt() {
    COUNT.fetch_add(1, Ordering::Relaxed);
    collect();
}

/// Moves what is pending to [`FIRED`]. Interrupts are off.
fn collect() {
    let info = SHARED_INFO.load(Ordering::Relaxed) as *const sys::shared_info;
    // SAFETY: places inside shared_info, which is mapped.
    unsafe {
        let upcall: *const AtomicU8 =
            (&raw const (*info).vcpu_info[0].evtchn_upcall_pending).cast();
        // Before the bits are read: what fires meanwhile is pending again.
        (*upcall).store(0, Ordering::SeqCst);
        let mut words =
            word(&raw const (*info).vcpu_info[0].evtchn_pending_sel).swap(0, Ordering::SeqCst);
        while words != 0 {
            let index = words.trailing_zeros() as usize;
            words &= words - 1;
            let bits = word(&raw const (*info).evtchn_pending[index]).swap(0, Ordering::SeqCst);
            FIRED[index].fetch_or(bits, Ordering::SeqCst);
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn exception(frame: &[u64; 6]) -> ! {
    panic!("an exception; the words on its stack are {frame:x?}");
}

/// Forgets what fired: the ports are those of another domain now.
pub fn forget() {
    for word in &FIRED {
        word.store(0, Ordering::SeqCst);
    }
}

/// Whether a port fired since this was asked the last time.
pub fn take(port: u32) -> bool {
    collect();
    let bit = 1 << (port % 64);
    let word = FIRED.get(port as usize / 64);
    word.is_some_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
}

/// Whether a port fired and was not taken.
pub fn fired(port: u32) -> bool {
    collect();
    let word = FIRED.get(port as usize / 64);
    word.is_some_and(|word| word.load(Ordering::SeqCst) & 1 << (port % 64) != 0)
}

/// Sleeps until the next interrupt, unless `ready` says that there is no need to.
pub fn sleep_unless(ready: impl FnOnce() -> bool) {
    if !ready() {
        // SAFETY: what fires after the look interrupts the halt, as `sti` takes effect only after the instruction that follows it.
        // The handler leaves all registers as they are, and may use the stack: without `nostack` the compiler keeps nothing
        // below its pointer.
        unsafe { asm!("sti", "hlt", "cli") };
    }
}
