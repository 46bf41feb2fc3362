//! The memory functions that the compiler calls: on a hosted target it expects them from libc.
//!
//! Assembly, because a compiler may turn a copying loop into a call of the function it is in; SSE
//! instead of `rep movsb`, because software emulation runs that one byte at a time, and because
//! real processors are as fast with it at the sizes that matter here.

use core::arch::naked_asm;

/// Copies `rdx` bytes from `rsi` to `rdi`; returns `rdi`. The areas do not overlap.
///
/// # Safety
/// As C's `memcpy`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 3f",
        // The last 16 bytes are read first and written last: they cover whatever the loops leave
        // over. Everything reads before it writes, so that memmove can come here too.
        "movups xmm4, [rsi + rdx - 16]",
        "lea rcx, [rdi + rdx - 16]",
        "cmp rdx, 64",
        "jb 5f",
        "4:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "jae 4b",
        "5:",
        "cmp rdx, 16",
        "jb 6f",
        "movups xmm0, [rsi]",
        "movups [rdi], xmm0",
        "add rsi, 16",
        "add rdi, 16",
        "sub rdx, 16",
        "jmp 5b",
        "6:",
        "movups [rcx], xmm4",
        "ret",
        // Fewer than 16: two moves that overlap in the middle.
        "3:",
        "cmp edx, 8",
        "jb 7f",
        "mov r8, [rsi]",
        "mov r9, [rsi + rdx - 8]",
        "mov [rdi], r8",
        "mov [rdi + rdx - 8], r9",
        "ret",
        "7:",
        "cmp edx, 4",
        "jb 8f",
        "mov r8d, [rsi]",
        "mov r9d, [rsi + rdx - 4]",
        "mov [rdi], r8d",
        "mov [rdi + rdx - 4], r9d",
        "ret",
        "8:",
        "test edx, edx",
        "jz 9f",
        "movzx r8d, byte ptr [rsi]",
        "movzx r9d, byte ptr [rsi + rdx - 1]",
        "cmp edx, 3",
        "jb 2f",
        "movzx ecx, byte ptr [rsi + 1]",
        "mov [rdi + 1], cl",
        "2:",
        "mov [rdi], r8b",
        "mov [rdi + rdx - 1], r9b",
        "9:",
        "ret",
    )
}

/// Copies `rdx` bytes from `rsi` to `rdi`, which may overlap; returns `rdi`.
///
/// # Safety
/// As C's `memmove`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        // Up to 16 bytes, memcpy reads all before it writes; and copying forward is right unless
        // the target starts inside the source.
        "cmp rdx, 16",
        "jbe {memcpy}",
        "mov rax, rdi",
        "sub rax, rsi",
        "cmp rax, rdx",
        "jae {memcpy}",
        "mov rax, rdi",
        "movups xmm4, [rsi]",
        "3:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups [rdi + rdx - 16], xmm0",
        "sub rdx, 16",
        "cmp rdx, 16",
        "jae 3b",
        "movups [rdi], xmm4",
        "ret",
        memcpy = sym memcpy,
    )
}

/// Sets `rdx` bytes at `rdi` to the low byte of `esi`; returns `rdi`.
///
/// # Safety
/// As C's `memset`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "movzx ecx, sil",
        "mov r8, 0x0101010101010101",
        "imul rcx, r8",
        "cmp rdx, 16",
        "jb 5f",
        "movq xmm0, rcx",
        "punpcklqdq xmm0, xmm0",
        "movups [rdi + rdx - 16], xmm0",
        "sub rdx, 16",
        "cmp rdx, 64",
        "jb 4f",
        "3:",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm0",
        "movups [rdi + 32], xmm0",
        "movups [rdi + 48], xmm0",
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "jae 3b",
        "4:",
        "test rdx, rdx",
        "jz 7f",
        "movups [rdi], xmm0",
        "cmp rdx, 16",
        "jbe 7f",
        "add rdi, 16",
        "sub rdx, 16",
        "jmp 4b",
        "5:",
        "cmp edx, 8",
        "jb 6f",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rcx",
        "ret",
        "6:",
        "test edx, edx",
        "jz 7f",
        "mov [rdi + rdx - 1], cl",
        "dec edx",
        "jmp 6b",
        "7:",
        "ret",
    )
}

/// Compares `rdx` bytes at `rdi` and `rsi`: negative, 0 or positive as the first that differs.
///
/// # Safety
/// As C's `memcmp`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "cmp rdx, 8",
        "jb 4f",
        "3:",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 6f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 3b",
        "4:",
        "test rdx, rdx",
        "jz 5f",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 7f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jmp 4b",
        "5:",
        "xor eax, eax",
        "ret",
        // Most significant first is memory order once the bytes are swapped.
        "6:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "7:",
        "ret",
    )
}

/// Compares like [`memcmp`], for equality only.
///
/// # Safety
/// As C's `memcmp`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// The number of bytes before the first 0 at `rdi` (`CStr` needs it).
///
/// # Safety
/// As C's `strlen`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    naked_asm!(
        "mov rax, rdi",
        "2:",
        "cmp byte ptr [rax], 0",
        "je 3f",
        "inc rax",
        "jmp 2b",
        "3:",
        "sub rax, rdi",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Every size around the loops' edges, at every alignment that matters.
    fn shapes() -> impl Iterator<Item = (usize, usize)> {
        (0..200)
            .chain([255, 256, 257, 4095, 4096, 4100])
            .flat_map(|size| [0, 1, 7, 8, 15].map(|shift| (size, shift)))
    }

    fn pattern(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn copies_exactly_what_it_should() {
        for (size, shift) in shapes() {
            let from = pattern(size + 32);
            let mut to = std::vec![0xee; size + 64];
            // SAFETY: both areas are inside their vectors, which do not overlap.
            let returned =
                unsafe { memcpy(to[16 + shift..].as_mut_ptr(), from[shift..].as_ptr(), size) };
            assert_eq!(returned, to[16 + shift..].as_mut_ptr());
            assert_eq!(to[16 + shift..][..size], from[shift..][..size], "{size}");
            assert!(to[..16 + shift].iter().all(|&b| b == 0xee));
            assert!(to[16 + shift + size..].iter().all(|&b| b == 0xee));
        }
    }

    #[test]
    fn moves_through_every_overlap() {
        for size in (0..100).chain([1000]) {
            for distance in -40_isize..40 {
                let mut area = pattern(size + 100);
                let mut expected = area.clone();
                let target = 50_usize.strict_add_signed(distance);
                let copy = area[50..50 + size].to_vec();
                expected[target..target + size].copy_from_slice(&copy);
                let start = area.as_mut_ptr();
                // SAFETY: both areas are inside the vector.
                unsafe { memmove(start.add(target), start.add(50), size) };
                assert_eq!(area, expected, "{size} by {distance}");
            }
        }
    }

    #[test]
    fn fills_exactly_what_it_should() {
        for (size, shift) in shapes() {
            let mut to = std::vec![0xee; size + 64];
            // SAFETY: the area is inside the vector.
            unsafe { memset(to[16 + shift..].as_mut_ptr(), 0x15a, size) };
            assert!(to[..16 + shift].iter().all(|&b| b == 0xee));
            assert!(
                to[16 + shift..][..size].iter().all(|&b| b == 0x5a),
                "{size}"
            );
            assert!(to[16 + shift + size..].iter().all(|&b| b == 0xee));
        }
    }

    #[test]
    fn compares_like_slices() {
        for size in 0..70 {
            let left = pattern(size);
            for changed in 0..size {
                for by in [1, 0x80] {
                    let mut right = left.clone();
                    right[changed] = right[changed].wrapping_add(by);
                    // SAFETY: both areas are vectors of that size.
                    let (ordered, equal) = unsafe {
                        (
                            memcmp(left.as_ptr(), right.as_ptr(), size),
                            bcmp(left.as_ptr(), right.as_ptr(), size),
                        )
                    };
                    assert_eq!(ordered.cmp(&0), left.cmp(&right));
                    assert_ne!(equal, 0);
                }
            }
            // SAFETY: as above.
            assert_eq!(unsafe { memcmp(left.as_ptr(), left.as_ptr(), size) }, 0);
        }
    }

    #[test]
    fn measures_up_to_the_zero() {
        // SAFETY: both end in a 0.
        unsafe {
            assert_eq!(strlen(c"".as_ptr().cast()), 0);
            assert_eq!(strlen(c"four\xff".as_ptr().cast()), 5);
        }
    }
}
