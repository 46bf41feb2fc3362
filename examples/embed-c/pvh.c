/* The machine of a PVH domain: memory mapped one to one, Xen's pages where there is no memory, interrupts by the processor. */
#include "kernel.h"

enum { PARAM_CALLBACK_IRQ = 0, PARAM_STORE_PFN = 1, PARAM_STORE_EVTCHN = 2, PARAM_CONSOLE_PFN = 17, PARAM_CONSOLE_EVTCHN = 18 };
enum { GRANT_FRAMES = 32 };

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp, map;
    uint32_t map_entries, reserved;
};
struct map_entry {
    uint64_t start, size;
    uint32_t type, reserved;
};

const int machine_is_pv = 0;
const uint16_t machine_code = 8, machine_data = 16;
static uint64_t free_frames; /* guest frames that are no memory, from here on */
static unsigned char mapped[GRANT_FRAMES];
static volatile uint64_t window_entries[WINDOWS] __attribute__((aligned(4096)));

static uint64_t parameter(uint32_t index)
{
    struct { uint16_t domain, pad; uint32_t index; uint64_t value; } call = { 0x7ff0, 0, index, 0 };
    return hypercall(HYPERCALL_hvm_op, 1, (size_t)&call, 0) < 0 ? 0 : call.value;
}

/* Puts a page of Xen's (0: shared_info, 1: a frame of the grant table) where there is no memory. */
static void *map(unsigned space, unsigned index, uint64_t frame)
{
    struct { uint16_t domain, size; uint32_t space; uint64_t index, frame; } call = { 0x7ff0, 0, space, index, frame };
    return hypercall(HYPERCALL_memory_op, 7, (size_t)&call, 0) < 0 ? NULL : (void *)(frame * PAGE);
}

void *machine_grant_frame(uint32_t index)
{
    if (index >= GRANT_FRAMES || (!mapped[index] && !map(1, index, free_frames + 1 + index)))
        return NULL;
    mapped[index] = 1;
    return (void *)((free_frames + 1 + index) * PAGE);
}

uint64_t machine_frame(const void *page)
{
    return (uint64_t)page / PAGE;
}

/* A large page of addresses behind all that, in small ones: each is also a guest frame without memory, for Xen. */
void *machine_window(unsigned index)
{
    extern uint64_t level2[];
    uint64_t start = (free_frames + 1 + GRANT_FRAMES + 511) / 512;

    level2[start] = (uint64_t)window_entries | 3;
    return (void *)(start * 512 * PAGE + index * PAGE);
}

void machine_set_window(void *page, int is_own, int is_foreign, uint64_t own)
{
    uint64_t there = is_own ? own * PAGE : (uint64_t)page;
    window_entries[(size_t)page / PAGE % 512] = is_own || is_foreign ? there | 3 : 0;
    __asm__ volatile("invlpg (%0)" ::"r"(page) : "memory");
}

static void find_rings(struct machine *machine)
{
    machine->console = (void *)(parameter(PARAM_CONSOLE_PFN) * PAGE);
    machine->console_port = (uint32_t)parameter(PARAM_CONSOLE_EVTCHN);
    machine->xenstore.page = (void *)(parameter(PARAM_STORE_PFN) * PAGE);
    machine->xenstore.port = (uint32_t)parameter(PARAM_STORE_EVTCHN);
}

void machine_start(const void *from, struct machine *machine)
{
    extern char kernel_end[];
    const struct start_info *info = from;
    const struct map_entry *region = (const void *)info->map;
    uint64_t end = 0, start = (uint64_t)kernel_end;

    for (unsigned i = 0; i < info->map_entries; i++)
        if (region[i].type == 1 && region[i].start <= start && region[i].start + region[i].size > end)
            end = region[i].start + region[i].size;
    /* The loader puts what it has to say behind the image. */
    start = start > (uint64_t)info ? start : (uint64_t)info;
    machine->first_page = start / PAGE + 4;
    machine->page_count = end / PAGE - machine->first_page;
    machine->command_line = info->command_line ? (const char *)info->command_line : "";
    free_frames = end / PAGE;
    shared = map(0, 0, free_frames);
    find_rings(machine);
}

static struct { uint16_t low, segment, flags, middle; uint32_t high, reserved; } gates[256];

static void gate(unsigned vector, void (*handler)(void))
{
    uintptr_t address = (uintptr_t)handler;
    gates[vector].low = (uint16_t)address;
    gates[vector].segment = machine_code;
    gates[vector].flags = 0x8e00;
    gates[vector].middle = (uint16_t)(address >> 16);
    gates[vector].high = (uint32_t)(address >> 32);
}

void machine_interrupts(void)
{
    enum { EVENT_VECTOR = 0xf3 };
    struct __attribute__((packed)) { uint16_t limit; uintptr_t base; } table = { sizeof gates - 1, (uintptr_t)gates };
    struct { uint16_t domain, pad; uint32_t index; uint64_t value; } callback = { 0x7ff0, 0, PARAM_CALLBACK_IRQ, 2ull << 56 | EVENT_VECTOR };

    for (unsigned vector = 0; vector < 256; vector++)
        gate(vector, exception_stub);
    gate(EVENT_VECTOR, event_stub);
    gate(YIELD_VECTOR, yield_stub);
    __asm__ volatile("lidt %0" ::"m"(table));
    /* From here on shared_info has the 64-bit layout. */
    hypercall(HYPERCALL_hvm_op, 0, (size_t)&callback, 0);
}

void machine_interrupts_on(void)
{
    __asm__ volatile("sti" ::: "memory");
}

void machine_idle(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

int machine_suspend(struct machine *machine)
{
    unsigned reason = 2;
    __asm__ volatile("cli");
    int how = (int)hypercall(HYPERCALL_sched_op, 2, (size_t)&reason, 0);
    if (how == 0) {
        map(0, 0, free_frames);
        for (uint32_t i = 0; i < GRANT_FRAMES; i++)
            if (mapped[i])
                map(1, i, free_frames + 1 + i);
        find_rings(machine);
    }
    return how;
}
