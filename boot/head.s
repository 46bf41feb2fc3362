// The first instructions of both kinds of domain, and the notes by which Xen's domain builder
// finds them (public/elfnote.h, public/arch-x86/hvm/start_info.h).
//
// Both ways end in a call of a Rust function, in 64-bit mode, on our own stack, with SSE usable,
// with the time-stamp counter of the first instruction as its second argument.

    .macro xen_note type
    .p2align 2
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:
    .endm
    .macro xen_note_end
2:
    .p2align 2
    .endm

    .section .note.Xen, "a", @progbits
    xen_note 1                          // ENTRY, PV
    .quad xen9p_pv_entry
    xen_note_end
    xen_note 3                          // VIRT_BASE
    .quad 0
    xen_note_end
    xen_note 4                          // PADDR_OFFSET
    .quad 0
    xen_note_end
    xen_note 5                          // XEN_VERSION, the guest interface's
    .asciz "xen-3.0"
    xen_note_end
    xen_note 6                          // GUEST_OS
    .asciz "xen9p"
    xen_note_end
    xen_note 8                          // LOADER
    .asciz "generic"
    xen_note_end
    xen_note 10                         // FEATURES
    .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    xen_note_end
    xen_note 14                         // SUSPEND_CANCEL: a suspend may return "cancelled"
    .long 1
    xen_note_end
    xen_note 18                         // PHYS32_ENTRY, PVH
    .long xen9p_pvh_entry
    xen_note_end

    .section .text.xen9p_head, "ax", @progbits
    .code64

// PV: 64-bit mode, paging on, events masked; rsi = start_info, rsp = the builder's small stack,
// which is also the last page that the builder used.
    .globl xen9p_pv_entry
xen9p_pv_entry:
    cld
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rdi, rsi
    mov rsi, rax
    mov rdx, rsp
    lea rsp, [rip + xen9p_stack_top]
    xor ebp, ebp
    call xen9p_pv_start
    ud2

// PVH: 32-bit protected mode, flat segments, no paging, no stack; ebx = hvm_start_info.
    .code32
    .globl xen9p_pvh_entry
xen9p_pvh_entry:
    cld
    rdtsc
    mov edi, eax
    mov esi, edx
    lea esp, [xen9p_stack_top]

    // The first 4 GiB, each address mapped to itself, in 2 MiB pages. The builder has cleared the
    // tables, so that the upper halves of the entries are 0 already.
    mov eax, 0x83                       // present, writable, large
    xor ecx, ecx
3:  mov dword ptr [xen9p_boot_l2 + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 3b
    lea eax, [xen9p_boot_l2 + 3]
    xor ecx, ecx
4:  mov dword ptr [xen9p_boot_l3 + ecx * 8], eax
    add eax, 0x1000
    inc ecx
    cmp ecx, 4
    jne 4b
    lea eax, [xen9p_boot_l3 + 3]
    mov dword ptr [xen9p_boot_l4], eax
    lea eax, [xen9p_boot_l4]
    mov cr3, eax

    mov eax, cr4
    or eax, 0x620                       // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 0x100                       // LME
    wrmsr
    mov eax, cr0
    and eax, 0xfffffff3                 // not EM, not TS
    or eax, 0x80010023                  // PG, WP, NE, MP, PE
    mov cr0, eax

    lgdt [xen9p_boot_gdt_pointer]
    push 8
    lea eax, [xen9p_long_mode]
    push eax
    retf

    .code64
xen9p_long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov eax, edi
    shl rsi, 32
    or rsi, rax
    mov edi, ebx
    lea rsp, [rip + xen9p_stack_top]
    xor ebp, ebp
    call xen9p_pvh_start

// Where linker.ld sends calls that nothing makes.
    .globl xen9p_unreachable
xen9p_unreachable:
    ud2

    .section .rodata.xen9p_head, "a", @progbits
    .p2align 3
xen9p_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 64-bit code
    .quad 0x00cf93000000ffff            // data
xen9p_boot_gdt_pointer:
    .short . - xen9p_boot_gdt - 1
    .long xen9p_boot_gdt

// Page-aligned memory that starts as zero. The guard page is unmapped before it matters.
    .section .xen9p_pages, "aw", @nobits
    .p2align 12
    .globl xen9p_stack_guard
xen9p_stack_guard:
    .skip 0x1000
    .globl xen9p_stack_bottom
xen9p_stack_bottom:
    .skip 0x20000
    .globl xen9p_stack_top
xen9p_stack_top:
    .globl xen9p_boot_l4
xen9p_boot_l4:
    .skip 0x1000
xen9p_boot_l3:
    .skip 0x1000
xen9p_boot_l2:
    .skip 0x4000
    .globl xen9p_boot_tables_end
xen9p_boot_tables_end:
    .text
