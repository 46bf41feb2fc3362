/* A freestanding C kernel that uses files of the host through xen9p: it mounts the first 9pfs device, reads, writes, lists.
 *
 * PVH, one processor, memory mapped one to one, no interrupts: events are polled. It has a client of xenstore, with a
 * watch and requests under way, and an allocator of grant references, with another frontend's grants in it (drivers.c), and
 * keeps both: xen9p gets the struct `drivers`. "What xen9p asks for" is the glue; the rest is a console and an allocator,
 * as any kernel has them. At the end it hands both over, as a kernel without them would: the struct `bare`.
 */
#include "kernel.h"
#include "vfs.h"

long hypercall(uint32_t number, size_t a, size_t b, size_t c)
{
    size_t args[5] = { a, b, c, 0, 0 };
    return xen9p_hypercall(0, number, args);
}

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

static _Noreturn void power_off(unsigned reason)
{
    for (;;)
        hypercall(HYPERCALL_sched_op, 2, (size_t)&reason, 0);
}

/* --- The console --- */

static volatile struct console_ring *console;
static uint32_t console_port;

static void print(const char *text)
{
    for (; *text; text++) {
        while (console->out_prod - console->out_cons >= sizeof console->out)
            hypercall(HYPERCALL_sched_op, 0, 0, 0);
        console->out[console->out_prod % sizeof console->out] = *text;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        console->out_prod++;
    }
    hypercall(HYPERCALL_event_channel_op, 4, (size_t)&console_port, 0);
}

static void print_number(int64_t number)
{
    char text[24], *at = text + sizeof text;
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    for (*--at = 0; rest || !*at; rest /= 10)
        *--at = (char)('0' + rest % 10);
    print(number < 0 ? "-" : "");
    print(at);
}

/* --- Memory: whole pages by first fit, smaller blocks of 2^n bytes cut from pages --- */

enum { MOST_PAGES = 1 << 16 };
static unsigned char used[MOST_PAGES];
static uint64_t first_page, page_count;
static void *blocks[12];

static void *alloc_pages(void *context, size_t count)
{
    (void)context;
    for (size_t start = 0, length = 0; start + length < page_count;) {
        if (used[start + length]) {
            start += length + 1;
            length = 0;
        } else if (++length == count) {
            memset(&used[start], 1, count);
            return memset((void *)((first_page + start) * PAGE), 0, count * PAGE);
        }
    }
    return NULL;
}

static void free_pages(void *context, void *first, size_t count)
{
    (void)context;
    memset(&used[(size_t)first / PAGE - first_page], 0, count);
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
static uint64_t free_frames; /* guest frames that are no memory, from here on */

static uint64_t frame(void *context, const void *page)
{
    (void)context;
    return (uint64_t)page / PAGE;
}

static ptrdiff_t call(void *context, uint32_t number, const size_t *args)
{
    (void)context;
    return xen9p_hypercall(0, number, args);
}

static void *grant_frame(void *context, uint32_t index)
{
    static unsigned char mapped[32];
    (void)context;
    if (index >= 32 || (!mapped[index] && !map(1, index, free_frames + index)))
        return NULL;
    mapped[index] = 1;
    return (void *)((free_frames + index) * PAGE);
}

uint64_t now(void *context)
{
    uint64_t time;
    uint32_t version;
    (void)context;
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

int take_pending(void *context, uint32_t port)
{
    uint64_t bit = 1ull << port % 64;
    (void)context;
    return port < 4096 && (__atomic_fetch_and(&shared->pending[port / 64], ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

static void wait(void *context, const uint32_t *ports, size_t count, uint64_t deadline)
{
    struct { const uint32_t *ports; uint32_t count; uint64_t deadline; } poll = { ports, count > 128 ? 128 : count, deadline };
    (void)context;
    if (deadline >= INT64_MAX)
        poll.deadline = 0;
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

/* --- The kernel --- */

static char text[65536], large[1 << 20];

static int64_t expect(const char *what, int64_t result, int64_t wanted)
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

static void tell_violation(void *context, const char *violation)
{
    (void)context;
    print(violation);
    print("\r\n");
}

/* Copies a file by operations that are started and polled, two at a time, as a kernel with an event loop would. */
static void copy(xen9p_handle fs, const char *from, const char *to)
{
    xen9p_handle source, target, reads[2];
    uint64_t offset = 0;
    expect("open", xen9p_open(fs, from, XEN9P_READ, 0, &source, NULL), 0);
    expect("open", xen9p_open(fs, to, XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE, 0644, &target, NULL), 0);
    for (int64_t last = 1; last;) {
        size_t half = sizeof large / 2;
        for (int i = 0; i < 2; i++)
            expect("read", xen9p_read(source, large + i * half, half, offset + i * half, &reads[i]), 0);
        for (int i = 0; i < 2; i++) {
            while ((last = xen9p_poll(reads[i])) == -XEN9P_EINPROGRESS)
                xen9p_wait(fs, now(NULL) + 1000000000);
            expect("poll", last, 0);
            expect("poll of an operation that is over", xen9p_poll(reads[i]), -9);
            for (int64_t done = 0; done < last;)
                done += expect("write", xen9p_write(target, large + i * half + done, last - done, offset + done, NULL), 1);
            offset += last;
            if (last < (int64_t)half && i == 0) {
                expect("close of an operation", xen9p_close(reads[1], NULL), 0);
                break;
            }
        }
    }
    expect("close", xen9p_close(source, NULL), 0);
    expect("close", xen9p_close(target, NULL), 0);
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
    print(" bytes\r\n");
}

void kernel_main(const struct start_info *info)
{
    extern char kernel_end[];
    const struct map_entry *region = (const void *)info->map;
    uint64_t end = 0, start = (uint64_t)kernel_end;
    struct { uint16_t domain, pad; uint32_t index; uint64_t value; } callback = { 0x7ff0, 0, PARAM_CALLBACK_IRQ, 2ull << 56 | 0xf3 };

    for (unsigned i = 0; i < info->map_entries; i++)
        if (region[i].type == 1 && region[i].start <= start && region[i].start + region[i].size > end)
            end = region[i].start + region[i].size;
    /* The loader puts what it has to say behind the image. */
    start = start > (uint64_t)info ? start : (uint64_t)info;
    first_page = start / PAGE + 4;
    page_count = end / PAGE - first_page;
    page_count = page_count > MOST_PAGES ? MOST_PAGES : page_count;
    shared = map(0, 0, end / PAGE);
    free_frames = end / PAGE + 1;
    hypercall(HYPERCALL_hvm_op, 0, (size_t)&callback, 0); /* from here on shared_info has the 64-bit layout */
    for (int i = 0; i < 64; i++)
        shared->mask[i] = UINT64_MAX;
    console = (void *)(parameter(PARAM_CONSOLE_PFN) * PAGE);
    console_port = (uint32_t)parameter(PARAM_CONSOLE_EVTCHN);

    void *ring = (void *)(parameter(PARAM_STORE_PFN) * PAGE);
    uint32_t store_port = (uint32_t)parameter(PARAM_STORE_EVTCHN);
    drivers_start(ring, store_port, grant_frame);

    const struct xen9p_platform bare = {
        .size = sizeof bare, .version = XEN9P_VERSION, .memory = page_count * PAGE,
        .alloc = alloc, .free = free, .alloc_pages = alloc_pages, .free_pages = free_pages, .frame = frame, .hypercall = call,
        .now = now, .take_pending = take_pending, .wait = wait, .panic = panic,
        .grant_frame = grant_frame, .xenstore = { ring, store_port },
    };
    struct xen9p_platform drivers = bare;
    drivers_offer(&drivers);
    drivers_use(first_page);

    xen9p_handle fs, again, file, dir;
    struct xen9p_dirent entry;
    struct xen9p_stat stat;
    static const char written[] = "Written by a kernel of its own.\n";

    expect("the library's version", xen9p_version(), XEN9P_VERSION);
    expect("a mount before init", xen9p_mount(NULL, NULL, &fs), -6);
    expect("init without a platform", xen9p_init(NULL), -14);
    expect("init with another header", xen9p_init(&(struct xen9p_platform){ .size = sizeof bare }), -93);
    expect("init", xen9p_init(&drivers), 0);
    expect("init again", xen9p_init(&drivers), -17);
    if (xen9p_check_platform(tell_violation, NULL))
        expect("check_platform", -1, 0);
    expect("mount", xen9p_mount(NULL, NULL, &fs), 0);
    expect("mount of what is mounted", xen9p_mount(NULL, NULL, &again), 0);
    expect("close", xen9p_close(again, NULL), 0);
    expect("opendir", xen9p_opendir(fs, "/", &dir, NULL), 0);
    while (expect("readdir", xen9p_readdir(dir, &entry, NULL), 0)) {
        print("entry ");
        print(entry.name);
        print("\r\n");
    }
    expect("close", xen9p_close(dir, NULL), 0);
    expect("open", xen9p_open(fs, "/hello.txt", XEN9P_READ, 0, &file, NULL), 0);
    int64_t count = expect("read", xen9p_read(file, text, sizeof text - 1, 0, NULL), 1);
    text[count] = 0;
    print("read ");
    print(text);
    print("\r");
    expect("close", xen9p_close(file, NULL), 0);
    expect("read of a closed file", xen9p_read(file, text, sizeof text, 0, NULL), -9);
    expect("open of nothing", xen9p_open(fs, NULL, XEN9P_READ, 0, &file, NULL), -14);
    expect("open of what is missing", xen9p_open(fs, "/missing", XEN9P_READ, 0, &file, NULL), -2);

    expect("open", xen9p_open(fs, "/from-c.txt", XEN9P_WRITE | XEN9P_CREATE, 0644, &file, NULL), 0);
    expect("write", xen9p_write(file, written, sizeof written - 1, 0, NULL), sizeof written - 1);
    expect("stat", xen9p_stat(file, NULL, 0, &stat, NULL), 0);
    expect("the size", (int64_t)stat.size, sizeof written - 1);
    expect("close", xen9p_close(file, NULL), 0);
    copy(fs, "/large.bin", "/copy.bin");
    struct vnode *root;
    expect("root", xen9p_vfs_root(fs, &root), 0);
    const char *failed = vfs_test(root);
    if (failed)
        expect(failed, -1, 0);
    vnode_put(root);
    print("vfs works\r\n");
    expect("close", xen9p_close(fs, NULL), 0);
    expect("exit", xen9p_exit(), 0);
    expect("exit again", xen9p_exit(), -6);

    const char *disturbed = drivers_check(first_page);
    if (disturbed)
        expect(disturbed, -1, 0);
    print("kept xenbus and grants\r\n");

    /* A kernel without these hands both over. */
    expect("init anew", xen9p_init(&bare), 0);
    if (xen9p_check_platform(tell_violation, NULL))
        expect("check_platform", -1, 0);
    expect("tag", xen9p_tag(0, text, sizeof text), 0);
    expect("exit", xen9p_exit(), 0);
    print_stack();
    print("[xen9p] exit 0\r\n");
    while (console->out_cons != console->out_prod)
        hypercall(HYPERCALL_sched_op, 0, 0, 0);
    power_off(0);
}
