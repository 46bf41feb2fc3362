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
static const uint64_t *frames;

static void *put(unsigned place, uint64_t frame)
{
    size_t entry = frame * PAGE | PAGE_FLAGS;
    return hypercall(HYPERCALL_update_va_mapping, (size_t)places[place], entry, FLUSH) < 0 ? NULL : places[place];
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

uint64_t machine_frame(const void *page)
{
    return frames[(size_t)page / PAGE];
}

void machine_start(const void *from, struct machine *machine)
{
    const struct start_info *info = from;
    frames = (const void *)info->frames;
    shared = put(0, info->shared_info / PAGE);
    machine->xenstore.page = put(1, info->store_frame);
    machine->xenstore.port = info->store_port;
    machine->console = put(2, info->console_frame);
    machine->console_port = info->console_port;
    machine->first_page = (size_t)memory / PAGE;
    machine->page_count = MEMORY / PAGE;
    machine->command_line = info->command_line;
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

int machine_suspend(struct machine *machine)
{
    /* All of Xen's pages would have to go before. */
    (void)machine;
    return -38; /* ENOSYS */
}
