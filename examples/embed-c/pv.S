/* As Xen starts a PV domain: in 64-bit mode, with the image mapped (rsi = start_info), to kernel_main(). */

    .macro note type, directive, value
    .p2align 2
    .long 4, 11f - 10f, \type
    .asciz "Xen"
10: \directive \value
11:
    .endm
    .macro text_note type, text
    .p2align 2
    .long 4, 11f - 10f, \type
    .asciz "Xen"
10: .asciz "\text"
11:
    .endm

    .section .note.Xen, "a", @progbits
    note 1, .quad, entry                /* XEN_ELFNOTE_ENTRY */
    note 3, .quad, 0                    /* XEN_ELFNOTE_VIRT_BASE */
    note 4, .quad, 0                    /* XEN_ELFNOTE_PADDR_OFFSET */
    text_note 5, xen-3.0                /* XEN_ELFNOTE_XEN_VERSION */
    text_note 6, embed-c                /* XEN_ELFNOTE_GUEST_OS */
    text_note 8, generic                /* XEN_ELFNOTE_LOADER */
    .p2align 2

    .text
    .globl entry
entry:
    cld
    movq %rsi, %rdi
    movq $stack_top, %rsp
    xorl %ebp, %ebp
    call kernel_main
    ud2

/* Upcalls and traps: Xen leaves rcx and r11 on the stack of the thread, too. The handler says whose registers to go on with;
 * the hypercall iret does, and lets upcalls through again if the thread was not held back. */
    .macro stub name, handler
    .globl \name
\name:
    pop %rcx; pop %r11
    push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    cld
    movq %rsp, %rdi
    call \handler
    movq %rax, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax
    pushq $0
    push %rcx; push %r11; push %rax
    movl $23, %eax                      /* HYPERVISOR_iret */
    syscall
    ud2
    .endm
    stub event_stub, event_interrupt
    stub yield_stub, yield_interrupt

    .globl exception_stub
exception_stub:
    movq %rsp, %rdi
    andq $-16, %rsp
    call exception
    ud2

    .bss
    .p2align 4
    .globl stack_bottom, stack_top
stack_bottom:
    .skip 0x20000
stack_top:

    .section .note.GNU-stack, "", @progbits
