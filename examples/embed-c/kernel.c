/* A freestanding C kernel that uses files of the host through xen9p, and images like Mini-OS's: PVH, linked as ELF32 (pvh.c,
 * pvh.S), and PV (pv.c, pv.S).
 *
 * One processor, memory mapped one to one, interrupts on, threads that a timer takes the processor from (threads.c). It has
 * a client of xenstore, with a watch and requests under way, and an allocator of grant references, with another frontend's
 * grants in it (drivers.c), and keeps both: xen9p gets the struct `drivers`. "What xen9p asks for", here and in drivers.c,
 * is the glue; the rest is a console and an allocator, as any kernel has them, and what it does with files (work.c). At the
 * end it hands both over, as a kernel without them would, which polls for events: the struct `bare`.
 */
#include "kernel.h"

static struct machine machine;
uint64_t kernel_started;

long hypercall(uint32_t number, size_t a, size_t b, size_t c)
{
    size_t args[5] = { a, b, c, 0, 0 };
    return xen9p_hypercall(machine_is_pv, number, args);
}

static _Noreturn void power_off(unsigned reason)
{
    for (;;)
        hypercall(HYPERCALL_sched_op, 2, (size_t)&reason, 0);
}

/* --- The console --- */

void print(const char *text)
{
    volatile struct console_ring *console = machine.console;
    for (; *text; text++) {
        while (console->out_prod - console->out_cons >= sizeof console->out)
            hypercall(HYPERCALL_sched_op, 0, 0, 0);
        console->out[console->out_prod % sizeof console->out] = *text;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        console->out_prod++;
    }
    hypercall(HYPERCALL_event_channel_op, 4, (size_t)&machine.console_port, 0);
}

char *number_text(uint64_t number, char text[24])
{
    char *at = text + 23;
    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    return at;
}

void print_number(int64_t number)
{
    char text[24];
    print(number < 0 ? "-" : "");
    print(number_text(number < 0 ? -(uint64_t)number : (uint64_t)number, text));
}

/* --- Memory: whole pages by first fit, smaller blocks of 2^n bytes cut from pages --- */

enum { MOST_PAGES = 1 << 16 };
static unsigned char used[MOST_PAGES];
static void *blocks[12];

static void *alloc_pages(void *context, size_t count)
{
    (void)context;
    for (size_t start = 0, length = 0; start + length < machine.page_count;) {
        if (used[start + length]) {
            start += length + 1;
            length = 0;
        } else if (++length == count) {
            memset(&used[start], 1, count);
            return memset((void *)((machine.first_page + start) * PAGE), 0, count * PAGE);
        }
    }
    return NULL;
}

static void free_pages(void *context, void *first, size_t count)
{
    (void)context;
    memset(&used[(size_t)first / PAGE - machine.first_page], 0, count);
}

static unsigned order_of(size_t size, size_t align)
{
    unsigned order = 4;
    while ((1ul << order) < size || (1ul << order) < align)
        order++;
    return order;
}

static void *alloc(void *context, size_t size, size_t align)
{
    unsigned order = order_of(size, align);
    if (order >= 12)
        return align > PAGE ? NULL : alloc_pages(context, (size + PAGE - 1) / PAGE);
    if (!blocks[order]) {
        char *page = alloc_pages(context, 1);
        for (size_t at = 0; page && at < PAGE; at += 1ul << order) {
            *(void **)(page + at) = blocks[order];
            blocks[order] = page + at;
        }
    }
    void **block = blocks[order];
    if (block)
        blocks[order] = *block;
    return block;
}

static void free(void *context, void *memory, size_t size, size_t align)
{
    unsigned order = order_of(size, align);
    if (order >= 12) {
        free_pages(context, memory, (size + PAGE - 1) / PAGE);
    } else {
        *(void **)memory = blocks[order];
        blocks[order] = memory;
    }
}

/* --- What xen9p asks for --- */

volatile struct shared_info *shared;

static uint64_t frame(void *context, const void *page)
{
    (void)context;
    return machine_frame(page);
}

static ptrdiff_t call(void *context, uint32_t number, const size_t *args)
{
    (void)context;
    return xen9p_hypercall(machine_is_pv, number, args);
}

static void *grant_frame(void *context, uint32_t index)
{
    (void)context;
    return machine_grant_frame(index);
}

static int64_t ahead; /* of Xen's clock, that of another machine after a restore */

static uint64_t xens_clock(void)
{
    uint64_t time;
    uint32_t version;
    do {
        version = shared->time.version;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint64_t ticks = __builtin_ia32_rdtsc() - shared->time.tsc;
        int shift = shared->time.shift;
        ticks = shift < 0 ? ticks >> -shift : ticks << shift;
        time = shared->time.system_time + (uint64_t)((unsigned __int128)ticks * shared->time.multiplier >> 32);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (version & 1 || version != shared->time.version);
    return time;
}

uint64_t now(void *context)
{
    (void)context;
    return xens_clock() + (uint64_t)ahead;
}

uint64_t on_xens_clock(uint64_t time)
{
    int64_t there = (int64_t)time - ahead;
    return there > 0 ? (uint64_t)there : 1;
}

static int take_pending(void *context, uint32_t port)
{
    uint64_t bit = 1ull << port % 64;
    (void)context;
    return port < 4096 && (__atomic_fetch_and(&shared->pending[port / 64], ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

static void wait(void *context, const uint32_t *ports, size_t count, uint64_t deadline)
{
    struct { const uint32_t *ports; uint32_t count; uint64_t deadline; } poll = { ports, count > 128 ? 128 : count, 0 };
    (void)context;
    poll.deadline = deadline >= INT64_MAX ? 0 : on_xens_clock(deadline);
    hypercall(HYPERCALL_sched_op, 3, (size_t)&poll, 0);
}

static void panic(void *context, const char *message, size_t length)
{
    (void)context;
    print("[xen9p] panic: ");
    for (size_t i = 0; i < length; i++)
        print((char[]){ message[i], 0 });
    print("\r\n");
    power_off(3);
}

/* --- Start, and suspend --- */

int64_t expect(const char *what, int64_t result, int64_t wanted)
{
    char why[160];
    if (wanted < 0 ? result == wanted : result >= wanted)
        return result;
    xen9p_last_error(why, sizeof why);
    print("embed-c: ");
    print(what);
    print(" returned ");
    print_number(result);
    print(": ");
    print(why);
    print("\r\n[xen9p] exit 1\r\n");
    power_off(0);
}

/* For pvh.S and pv.S. */
void exception(const uint64_t *frame);
void kernel_main(const void *info);

void exception(const uint64_t *frame)
{
    print("an exception; the words on its stack are");
    for (int i = 0; i < 4; i++) {
        print(" ");
        print_number((int64_t)frame[i]);
    }
    print("\r\n");
    power_off(3);
}

int kernel_suspend(void *context, struct xen9p_ring *xenstore)
{
    uint64_t before = now(NULL);
    (void)context;
    int how = machine_suspend(&machine);
    if (how == 0) {
        *xenstore = machine.xenstore;
        machine_interrupts();
        ahead = (int64_t)(before - xens_clock());
        interrupts_start();
        drivers_resume(xenstore->port, machine.first_page);
    }
    machine_interrupts_on();
    return how;
}

/* How much of the stack was used: what is not is still zero. */
static void print_stack(void)
{
    extern char stack_bottom[], stack_top[];
    char *at = stack_bottom;
    while (!*at)
        at++;
    print("stack ");
    print_number(stack_top - at);
    print(" bytes, of a thread that uses files ");
    print_number((int64_t)thread_stack());
    print("\r\n");
}

/* With interrupts, threads and drivers; and at the end without. */
static void run(const struct xen9p_platform *bare)
{
    struct xen9p_platform drivers = *bare;

    interrupts_start();
    drivers_start(machine.xenstore.page, machine.xenstore.port, grant_frame);
    machine_interrupts_on();
    drivers_offer(&drivers);
    drivers_use(machine.first_page);
    work(&drivers, machine.command_line);
    const char *disturbed = drivers_check(machine.first_page);
    if (disturbed)
        expect(disturbed, -1, 0);
    print("kept xenbus and grants\r\n");
    hand_over(bare);
}

void kernel_main(const void *info)
{
    machine_start(info, &machine);
    machine_interrupts();
    kernel_started = now(NULL);
    if (machine.page_count > MOST_PAGES)
        machine.page_count = MOST_PAGES;

    const struct xen9p_platform bare = {
        .size = sizeof bare, .version = XEN9P_VERSION, .memory = machine.page_count * PAGE,
        .alloc = alloc, .free = free, .alloc_pages = alloc_pages, .free_pages = free_pages, .frame = frame, .hypercall = call,
        .now = now, .take_pending = take_pending, .wait = wait, .panic = panic,
        .grant_frame = grant_frame, .xenstore = machine.xenstore,
    };
    if (*machine.command_line == 'b') {
        /* What is measured is the library, and not this kernel's threads: events are polled for, as the image does. */
        events_start();
        bench(&bare, machine.command_line);
    } else {
        run(&bare);
    }
    print_stack();
    print("[xen9p] exit 0\r\n");
    while (machine.console->out_cons != machine.console->out_prod)
        hypercall(HYPERCALL_sched_op, 0, 0, 0);
    power_off(0);
}
