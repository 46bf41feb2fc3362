// From where Xen starts a domain to Rust: from 32-bit mode in a PVH domain (ebx = hvm_start_info) to `start`, from 64-bit
// mode in a PV domain (rsi = start_info) to `start_pv`; and the stubs of the interrupt table.

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
    note 18, .long, entry               // XEN_ELFNOTE_PHYS32_ENTRY
    note 1, .quad, entry_pv             // XEN_ELFNOTE_ENTRY
    note 3, .quad, 0                    // XEN_ELFNOTE_VIRT_BASE
    note 4, .quad, 0                    // XEN_ELFNOTE_PADDR_OFFSET
    text_note 5, xen-3.0                // XEN_ELFNOTE_XEN_VERSION
    text_note 6, embed-rust             // XEN_ELFNOTE_GUEST_OS
    text_note 8, generic                // XEN_ELFNOTE_LOADER
    .p2align 2

    .text
    .code64
    .globl entry_pv
entry_pv:
    cld
    mov rdi, rsi
    lea rsp, [rip + stack_top]
    xor ebp, ebp
    call start_pv
    ud2

    .code32
    .globl entry
entry:
    cld
    lea esp, [stack_top]
    lea eax, [level4]
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620                       // PAE, and SSE for the compiler
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    and eax, 0xfffffff3
    or eax, 0x80000023                  // paging, no emulation of the FPU
    mov cr0, eax
    lgdt [gdt_pointer]
    push 8
    lea eax, [long_mode]
    push eax
    retf

    .code64
long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov edi, ebx
    lea rsp, [rip + stack_top]
    xor ebp, ebp
    call start
    ud2

// An event, while the kernel sleeps (see interrupts.rs). Interrupts are off until iretq.
    .globl event_stub
event_stub:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbp
    mov rbp, rsp
    sub rsp, 512
    and rsp, -16
    fxsave [rsp]
    cld
    call event_interrupt
    fxrstor [rsp]
    mov rsp, rbp
    pop rbp
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    iretq

// Any exception: none is expected.
    .globl exception_stub
exception_stub:
    mov rdi, rsp
    and rsp, -16
    call exception
    ud2

// What the compiler calls.
    .globl memcpy
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
    .globl memmove
memmove:
    mov rax, rdi
    mov rcx, rdx
    mov r8, rdi
    sub r8, rsi
    cmp r8, rdx
    jb 1f
    rep movsb
    ret
1:  lea rdi, [rdi + rdx - 1]            // the target begins inside the source: from the end
    lea rsi, [rsi + rdx - 1]
    std
    rep movsb
    cld
    ret
    .globl memset
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
    .globl memcmp
    .globl bcmp
memcmp:
bcmp:
    xor ecx, ecx
2:  cmp rcx, rdx
    je 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 2b
    ret
3:  xor eax, eax
    ret
    .globl strlen
strlen:
    xor eax, eax
4:  cmp byte ptr [rdi + rax], 0
    je 5f
    inc rax
    jmp 4b
5:  ret

    .data
    .p2align 4
    .globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 8: 64-bit code
    .quad 0x00cf93000000ffff            // 16: data
    .quad 0, 0                          // 24: the task state, filled in by interrupts.rs
gdt_pointer:
    .short . - gdt - 1
    .long gdt

// The first 4 GiB, each address at itself, in pages of 2 MiB.
    .p2align 12
level4:
    .quad level3 + 3
    .fill 511, 8, 0
level3:
    .quad level2 + 3, level2 + 0x1003, level2 + 0x2003, level2 + 0x3003
    .fill 508, 8, 0
level2:
    .set number, 0
    .rept 2048
    .quad number * 0x200000 + 0x83
    .set number, number + 1
    .endr

    .bss
    .p2align 4
    .skip 0x10000
stack_top:
    .skip 0x4000
    .globl exception_stack_top
exception_stack_top:
    .text
