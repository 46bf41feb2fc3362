/* The machine of a PV domain: Xen has mapped the image, each page at its own number, and the memory is a part of it. Pages of
 * Xen's are put in the place of others of its pages. Interrupts are upcalls, which a byte of shared_info holds back. */
#include "kernel.h"

enum { HYPERCALL_set_trap_table = 0, HYPERCALL_set_callbacks = 4, HYPERCALL_update_va_mapping = 14, HYPERCALL_grant_table_op = 20 };
enum { MEMORY = 24 << 20, GRANT_FRAMES = 32, PAGE_FLAGS = 0x63, FLUSH = 2 };

struct start_info { /* public/xen.h */
    char magic[32];
    uint64_t pages, shared_info;
    uint32_t flags;
    uint64_t store_frame;
    uint32_t store_port;
    uint64_t console_frame;
    uint32_t console_port;
    uint64_t tables, table_frames, frames, module, module_size;
    char command_line[1024];
};

const int machine_is_pv = 1;
/* As Xen shows them of a kernel, which runs in ring 3. */
const uint16_t machine_code = 0xe030, machine_data = 0xe02b;

static char memory[MEMORY] __attribute__((aligned(4096)));
static char places[3 + GRANT_FRAMES][PAGE] __attribute__((aligned(4096)));
static unsigned char mapped[GRANT_FRAMES];
static struct start_info *info;
static const volatile uint64_t *frames; /* of the domain's pages, by number; others after a restore */

/* Maps a frame at a page of the image; 0: nothing. */
static long set(void *page, uint64_t frame)
{
    return hypercall(HYPERCALL_update_va_mapping, (size_t)page, frame ? frame * PAGE | PAGE_FLAGS : 0, FLUSH);
}

static void *put(unsigned place, uint64_t frame)
{
    return set(places[place], frame) < 0 ? NULL : places[place];
}

void *machine_grant_frame(uint32_t index)
{
    uint64_t list[GRANT_FRAMES];
    struct { uint16_t domain, pad; uint32_t count; int16_t status; uint64_t *list; } call = { 0x7ff0, 0, index + 1, -1, list };

    if (index >= GRANT_FRAMES)
        return NULL;
    if (!mapped[index]) {
        if (hypercall(HYPERCALL_grant_table_op, 2, (size_t)&call, 1) < 0 || call.status || !put(3 + index, list[index]))
            return NULL;
        mapped[index] = 1;
    }
    return places[3 + index];
}

static char windows[WINDOWS][PAGE] __attribute__((aligned(4096)));

void *machine_window(unsigned index)
{
    static int are_empty;
    for (unsigned i = 0; i < WINDOWS && !are_empty; i++)
        set(windows[i], 0);
    are_empty = 1;
    return windows[index];
}

/* Xen shows and hides pages of others itself. */
void machine_set_window(void *page, int is_own, int is_foreign, uint64_t own)
{
    if (!is_foreign)
        set(page, is_own ? own : 0);
}

uint64_t machine_frame(const void *page)
{
    return frames[(size_t)page / PAGE];
}

/* The toolstack finds the domain's frames, to save them, by a list of the pages that list the pages of Xen's list of frames. */
static void list_frames(void)
{
    static uint64_t lists[2][512] __attribute__((aligned(4096))); /* up to 1 GiB */

    for (uint64_t i = 0; i < (info->pages + 511) / 512; i++)
        lists[1][i] = machine_frame((const void *)(info->frames + i * PAGE));
    lists[0][0] = machine_frame(lists[1]);
    shared->highest_page = info->pages;
    shared->frame_lists = machine_frame(lists);
    shared->frame_tables = 0;
}

/* What is elsewhere after a restore. */
static void find_all(struct machine *machine)
{
    shared = put(0, info->shared_info / PAGE);
    list_frames();
    machine->xenstore.port = info->store_port;
    machine->console_port = info->console_port;
}

void machine_start(const void *from, struct machine *machine)
{
    info = (struct start_info *)from;
    frames = (const void *)info->frames;
    machine->xenstore.page = put(1, info->store_frame);
    machine->console = put(2, info->console_frame);
    machine->first_page = (size_t)memory / PAGE;
    machine->page_count = MEMORY / PAGE;
    machine->command_line = info->command_line;
    find_all(machine);
}

void machine_interrupts(void)
{
    enum { KERNEL_CODE = 0xe033, FROM_KERNEL = 3, HELD_BACK = 4 };
    static struct { uint8_t vector, flags; uint16_t code; void (*handler)(void); } traps[34];
    unsigned count = 0;

    for (uint8_t vector = 0; vector < 32; vector++, count++) {
        traps[count].vector = vector;
        traps[count].flags = HELD_BACK;
        traps[count].code = KERNEL_CODE;
        traps[count].handler = exception_stub;
    }
    traps[count].vector = YIELD_VECTOR;
    traps[count].flags = FROM_KERNEL | HELD_BACK;
    traps[count].code = KERNEL_CODE;
    traps[count].handler = yield_stub;
    hypercall(HYPERCALL_set_trap_table, (size_t)traps, 0, 0);
    hypercall(HYPERCALL_set_callbacks, (size_t)event_stub, (size_t)exception_stub, 0);
}

void machine_interrupts_on(void)
{
    __atomic_store_n(&shared->upcall_mask, 0, __ATOMIC_SEQ_CST);
    /* What came meanwhile is delivered at the end of a hypercall: xen_version. */
    if (shared->upcall_pending)
        hypercall(17, 0, 0, 0);
}

void machine_idle(void)
{
    /* SCHEDOP_block lets upcalls through and sleeps, in one. */
    hypercall(HYPERCALL_sched_op, 1, 0, 0);
    __atomic_store_n(&shared->upcall_mask, 1, __ATOMIC_SEQ_CST);
}

/* Saved page tables have frames of the domain's own alone: Xen's leave them before. In start_info the toolstack wants numbers
 * of pages, which Xen's table has, and leaves frames. */
int machine_suspend(struct machine *machine)
{
    const uint64_t *numbers = (const uint64_t *)0xffff800000000000, store = info->store_frame, console = info->console_frame;
    unsigned reason = 2;

    __atomic_store_n(&shared->upcall_mask, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < GRANT_FRAMES; i++)
        if (mapped[i])
            put(3 + i, 0);
    put(0, 0);
    info->store_frame = numbers[store];
    info->console_frame = numbers[console];
    int how = (int)hypercall(HYPERCALL_sched_op, 2, (size_t)&reason, machine_frame(info));
    if (how != 0) {
        info->store_frame = store;
        info->console_frame = console;
    }
    find_all(machine);
    for (unsigned i = 0; i < GRANT_FRAMES; i++)
        if (mapped[i]) {
            mapped[i] = 0;
            machine_grant_frame(i);
        }
    return how;
}
