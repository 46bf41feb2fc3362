/* From 32-bit mode, as Xen starts a PVH domain (ebx = hvm_start_info), to kernel_main(). */

    .section .note.Xen, "a", @progbits
    .p2align 2
    .long 4, 4, 18                      /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long entry

    .text
    .code32
    .globl entry
entry:
    cld
    movl $stack_top, %esp
    movl $level4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax                     /* PAE; no SSE, which nothing here uses */
    movl %eax, %cr4
    movl $0xc0000080, %ecx              /* EFER.LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    andl $0xfffffff3, %eax
    orl $0x80000021, %eax               /* paging */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $stack_top, %rsp
    xorl %ebp, %ebp
    movl %ebx, %edi
    call kernel_main
    ud2

/* Interrupts: the registers are on the stack of the thread that was interrupted, and the handler says whose to go on with. */
    .macro stub name, handler
    .globl \name
\name:
    push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    cld
    movq %rsp, %rdi
    call \handler
    movq %rax, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax
    iretq
    .endm
    stub event_stub, event_interrupt
    stub yield_stub, yield_interrupt

    .globl exception_stub
exception_stub:
    movq %rsp, %rdi
    andq $-16, %rsp
    call exception
    ud2

    .data
    .p2align 4
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .short . - gdt - 1
    .long gdt

/* The first 4 GiB, each address at itself, in pages of 2 MiB. */
    .p2align 12
level4:
    .quad level3 + 3
    .fill 511, 8, 0
level3:
    .quad level2 + 3, level2 + 0x1003, level2 + 0x2003, level2 + 0x3003
    .fill 508, 8, 0
    .globl level2
level2:
    .set number, 0
    .rept 2048
    .quad number * 0x200000 + 0x83
    .set number, number + 1
    .endr

    .bss
    .p2align 4
    .globl stack_bottom, stack_top
stack_bottom:
    .skip 0x20000
stack_top:

    .section .note.GNU-stack, "", @progbits
