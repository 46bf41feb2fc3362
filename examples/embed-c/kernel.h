/* What the parts of this kernel share. */
#ifndef KERNEL_H
#define KERNEL_H

#include "xen9p.h"

#define PAGE 4096ul

/* --- Xen's interface, as far as it is needed (public/xen.h and its like) --- */

enum { HYPERCALL_memory_op = 12, HYPERCALL_set_timer_op = 15, HYPERCALL_sched_op = 29, HYPERCALL_event_channel_op = 32, HYPERCALL_hvm_op = 34 };
struct time_info {
    uint32_t version, pad;
    uint64_t tsc, system_time;
    uint32_t multiplier;
    int8_t shift;
};
struct shared_info { /* the 64-bit layout */
    uint8_t upcall_pending, upcall_mask, pad[6];
    uint64_t selector;
    uint8_t fault[16];
    struct time_info time;
    uint8_t other_processors[0x800 - 32 - sizeof(struct time_info)];
    uint64_t pending[64], mask[64];
    uint32_t wall_clock[4];
    uint64_t highest_page, frame_lists, nmi_reason, frame_tables; /* of a PV domain, for those who save it */
};
struct console_ring {
    char in[1024], out[2048];
    uint32_t in_cons, in_prod, out_cons, out_prod;
};

extern volatile struct shared_info *shared;

/* --- The machine, in pvh.c or pv.c --- */

struct machine {
    uint64_t first_page, page_count; /* memory */
    const char *command_line;
    volatile struct console_ring *console;
    uint32_t console_port;
    struct xen9p_ring xenstore;
};
extern const int machine_is_pv;
extern const uint16_t machine_code, machine_data; /* segments, in what an interrupt leaves on the stack */
enum { YIELD_VECTOR = 0x80 }; /* of those that a PV kernel may use Xen has a gate of its own for this one */

void machine_start(const void *info, struct machine *machine);
uint64_t machine_frame(const void *page);
void *machine_grant_frame(uint32_t index);
/* Has interrupts come to the stubs, and shared_info have the 64-bit layout: at the start, and after a restore. */
void machine_interrupts(void);
void machine_interrupts_on(void);
/* With interrupts off: sleeps until one came. */
void machine_idle(void);
/* Suspends the domain, as xen9p_suspend() asks for it, with interrupts off from then on. Shared pages are back afterwards. */
int machine_suspend(struct machine *machine);
/* Addresses for pages of other domains, one after the other, at which nothing is before. */
enum { WINDOWS = 512 };
void *machine_window(unsigned index);
/* Shows a page of this domain's own there, the page that Xen has put there, or nothing. */
void machine_set_window(void *page, int is_own, int is_foreign, uint64_t own);
void event_stub(void), yield_stub(void), exception_stub(void);

long hypercall(uint32_t number, size_t a, size_t b, size_t c);
uint64_t now(void *context); /* goes on over a restore, unlike Xen's clock */
uint64_t on_xens_clock(uint64_t time); /* for a timer or a wait: never 0 */
void print(const char *text);
void print_number(int64_t number);
char *number_text(uint64_t number, char text[24]); /* in `text`, somewhere */
/* The result, if it is `wanted` or more, or where that is negative, just that; otherwise the end. */
int64_t expect(const char *what, int64_t result, int64_t wanted);

/* Suspends the domain; for xen9p_suspend(). */
int kernel_suspend(void *context, struct xen9p_ring *xenstore);

/* What it does with files, as its command line says, in work.c; with xen9p where it hands all over; and to be measured. */
extern uint64_t kernel_started; /* when */
void work(const struct xen9p_platform *platform, const char *line);
void bench(const struct xen9p_platform *platform, const char *line);
void init(const struct xen9p_platform *platform); /* xen9p, and checks the platform */
void use_mount(xen9p_handle mounted);             /* lists, reads, writes, renames and copies */

/* In domains.c: with the object that has vchans. */
void domains(const struct xen9p_platform *platform, const char *line) __attribute__((weak));
void hand_over(const struct xen9p_platform *platform);

/* --- Interrupts and threads, in threads.c --- */

enum { THREADS = 4 };
extern volatile uint64_t interrupts, preemptions;

void events_start(void); /* all masked */
void interrupts_start(void);
void event_unmask(uint32_t port);
void event_mask(uint32_t port);
int event_fired(uint32_t port); /* and was not taken */
int event_take(uint32_t port);
void thread_start(unsigned number, void (*work)(void));
int thread_runs(unsigned number);
size_t thread_stack(void);
/* To sleep until the next interrupt: prepare, look whether there is a reason not to, and yield or be ready. */
void thread_prepare(void);
void thread_ready(void);
void thread_yield(void);
void threads_wake(void);
void lock_take(volatile int *lock);
void lock_give(volatile int *lock);

/* What the compiler calls, in memory.c. */
void *memset(void *to, int byte, size_t count);
void *memcpy(void *to, const void *from, size_t count);
size_t strlen(const char *text);

/* The kernel's own drivers, in drivers.c: xenstore, from its ring on, and grants, from the frames of the table on. */
void drivers_start(void *ring, uint32_t port, void *(*grant_frame)(void *, uint32_t));
/* The domain is another one, whose table has no grants and whose watches are gone. */
void drivers_resume(uint32_t port, uint64_t first_page);
/* Reads a node by the kernel's own connection: how long its text is, or negative. */
int64_t drivers_read(const char *path, char *into, size_t size);
int64_t drivers_write(const char *path, const char *value);
/* Makes them those that xen9p goes through. */
void drivers_offer(struct xen9p_platform *platform);
/* What the kernel does besides, before xen9p is there; and that it was not disturbed: NULL, or what was. */
void drivers_use(uint64_t first_page);
const char *drivers_check(uint64_t first_page);

#endif
