//! The instruction that enters Xen, and nothing else.
//!
//! The instructions are inline instead of calls into Xen's hypercall page: no page has to be set
//! up, no indirect call needs protection, and Xen's own advice since XSA-466 is to do it this way.
//! Register use is that of `arch-x86/xen-x86_64.h` in Xen's public headers.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

/// Which instruction enters Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `syscall`: a PV domain.
    Syscall,
    /// `vmcall`: a PVH or HVM domain on an Intel processor or one that follows Intel.
    Vmcall,
    /// `vmmcall`: a PVH or HVM domain on an AMD or Hygon processor.
    Vmmcall,
}

impl Gate {
    /// The gate of a PVH or HVM domain, by the processor's vendor. Takes a `cpuid`, which leaves
    /// the domain for a microsecond: ask once and keep the answer.
    pub fn of_hvm() -> Gate {
        let leaf = __cpuid(0);
        let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        match name.as_flattened() {
            b"AuthenticAMD" | b"HygonGenuine" => Gate::Vmmcall,
            _ => Gate::Vmcall,
        }
    }

    /// Makes hypercall `number` with five arguments (unused ones 0) and returns Xen's answer:
    /// negative is an error number of Xen's.
    ///
    /// # Safety
    /// The code runs in a Xen domain of the kind this gate is for. The arguments are valid for the
    /// call as Xen's public headers describe it; memory they point to is valid for the reads and
    /// writes that Xen will do.
    #[inline]
    pub unsafe fn call(self, number: u32, args: [usize; 5]) -> isize {
        // Xen may destroy every argument register, used or not, and `syscall` itself destroys rcx
        // and r11. Without `nomem` the compiler takes all memory as read and written by the call;
        // without `nostack` it keeps nothing below the stack pointer across it.
        macro_rules! enter {
            ($instruction:literal $(, $extra:tt)*) => {{
                let result: isize;
                // SAFETY: the instruction traps to Xen, which the caller vouches for; Xen returns
                // to the next instruction with all registers but those listed as they were.
                unsafe {
                    asm!(
                        $instruction,
                        inlateout("rax") number as usize => result,
                        inlateout("rdi") args[0] => _,
                        inlateout("rsi") args[1] => _,
                        inlateout("rdx") args[2] => _,
                        inlateout("r10") args[3] => _,
                        inlateout("r8") args[4] => _,
                        lateout("r9") _,
                        $(lateout($extra) _,)*
                    );
                }
                result
            }};
        }
        match self {
            Gate::Syscall => enter!("syscall", "rcx", "r11"),
            Gate::Vmcall => enter!("vmcall"),
            Gate::Vmmcall => enter!("vmmcall"),
        }
    }
}
