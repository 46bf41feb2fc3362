// One stub for each exception, 16 bytes apart, all ending in xen9p_trap(&TrapFrame).
//
// Xen pushes rcx and r11 below the frame that a processor would push; a PV domain's stub takes
// them off first, a PVH domain's starts 3 bytes later.

    .section .text.xen9p_traps, "ax", @progbits
    .code64
    .p2align 4
    .globl xen9p_trap_stubs
xen9p_trap_stubs:
    .set vector, 0
    .rept 32
    .p2align 4
    pop rcx
    pop r11
    // The vectors where the processor pushes an error code: 8, 10-14, 17, 21, 29, 30.
    .if (0x60227d00 >> vector) & 1
    .else
    push 0
    .endif
    push vector
    jmp xen9p_trap_common
    .set vector, vector + 1
    .endr

xen9p_trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    and rsp, -16
    call xen9p_trap
    ud2
    .text
