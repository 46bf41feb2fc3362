/* Interrupts, and threads that a timer takes the processor from. Stacks have room for what the library says it needs, and
 * no register of vectors is saved: nothing here uses one. */
#include "kernel.h"

enum { STACK = 16384, TICK = 1000000, VIRQ_TIMER = 0 };
enum { EVTCHN_bind_virq = 1, EVTCHN_unmask = 9 };

uintptr_t event_interrupt(uintptr_t stack), yield_interrupt(uintptr_t stack);

static unsigned char stacks[THREADS][STACK] __attribute__((aligned(16)));
static struct {
    uintptr_t stack;
    volatile int runs, sleeps;
} threads[THREADS];
static volatile unsigned current;
static uint64_t fired[64];
static uint32_t timer_port;
volatile uint64_t interrupts, preemptions;

int event_fired(uint32_t port)
{
    return port < 4096 && (__atomic_load_n(&fired[port / 64], __ATOMIC_SEQ_CST) >> port % 64 & 1);
}

int event_take(uint32_t port)
{
    uint64_t bit = 1ull << port % 64;
    return port < 4096 && (__atomic_fetch_and(&fired[port / 64], ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

void event_unmask(uint32_t port)
{
    event_take(port);
    hypercall(HYPERCALL_event_channel_op, EVTCHN_unmask, (size_t)&port, 0);
}

void event_mask(uint32_t port)
{
    __atomic_fetch_or(&shared->mask[port / 64], 1ull << port % 64, __ATOMIC_SEQ_CST);
}

/* The next thread that has something to do; the present one comes last. */
static int next(void)
{
    for (unsigned i = 1; i <= THREADS; i++)
        if (threads[(current + i) % THREADS].runs && !threads[(current + i) % THREADS].sleeps)
            return (int)((current + i) % THREADS);
    return -1;
}

static uintptr_t go_to(uintptr_t stack, unsigned thread)
{
    threads[current].stack = stack;
    current = thread;
    return threads[thread].stack;
}

/* An event: called with interrupts off, returns the stack to go on with. */
uintptr_t event_interrupt(uintptr_t stack)
{
    interrupts++;
    shared->upcall_pending = 0;
    uint64_t words = __atomic_exchange_n(&shared->selector, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 64; i++)
        if (words >> i & 1) {
            uint64_t bits = shared->pending[i] & ~shared->mask[i];
            __atomic_fetch_and(&shared->pending[i], ~bits, __ATOMIC_SEQ_CST);
            __atomic_fetch_or(&fired[i], bits, __ATOMIC_SEQ_CST);
        }
    threads_wake();
    if (!event_take(timer_port))
        return stack;
    hypercall(HYPERCALL_set_timer_op, on_xens_clock(now(NULL) + TICK), 0, 0);
    int thread = next();
    preemptions += thread != (int)current;
    return go_to(stack, (unsigned)thread);
}

/* A thread gives the processor up: while none has anything to do it is halted. */
uintptr_t yield_interrupt(uintptr_t stack)
{
    int thread;
    while ((thread = next()) < 0)
        machine_idle();
    return go_to(stack, (unsigned)thread);
}

void thread_prepare(void)
{
    threads[current].sleeps = 1;
}

void thread_ready(void)
{
    threads[current].sleeps = 0;
}

void thread_yield(void)
{
    __asm__ volatile("int %0" ::"i"(YIELD_VECTOR) : "memory");
}

void threads_wake(void)
{
    for (unsigned i = 0; i < THREADS; i++)
        threads[i].sleeps = 0;
}

void lock_take(volatile int *lock)
{
    while (__atomic_exchange_n(lock, 1, __ATOMIC_SEQ_CST))
        thread_yield();
}

void lock_give(volatile int *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_SEQ_CST);
}

static void begin(void (*work)(void))
{
    work();
    threads[current].runs = 0;
    for (;;)
        thread_yield();
}

void thread_start(unsigned number, void (*work)(void))
{
    uintptr_t top = (uintptr_t)stacks[number] + STACK;
    uint64_t *frame = (uint64_t *)top - 24;
    frame[8] = (uint64_t)work;          /* rdi, of the registers from r15 to rax */
    frame[15] = (uint64_t)begin;
    frame[16] = machine_code;
    frame[17] = 0x202;
    frame[18] = top - 24;               /* as after a call */
    frame[19] = machine_data;
    threads[number].stack = (uintptr_t)frame;
    threads[number].runs = 1;
}

int thread_runs(unsigned number)
{
    return threads[number].runs;
}

/* How much of the fullest stack was used: what is not is still zero. */
size_t thread_stack(void)
{
    size_t most = 0;
    for (unsigned i = 1; i < THREADS; i++) {
        size_t unused = 0;
        while (unused < STACK && !stacks[i][unused])
            unused++;
        most = STACK - unused > most ? STACK - unused : most;
    }
    return most;
}

void events_start(void)
{
    for (int i = 0; i < 64; i++) {
        shared->mask[i] = UINT64_MAX;
        fired[i] = 0;
    }
}

/* Events come, and the timer ticks, once interrupts are on: at the start, and after the domain was saved and restored. */
void interrupts_start(void)
{
    struct { uint32_t virq, processor, port; } timer = { VIRQ_TIMER, 0, 0 };

    events_start();
    threads[0].runs = 1;
    hypercall(HYPERCALL_event_channel_op, EVTCHN_bind_virq, (size_t)&timer, 0);
    timer_port = timer.port;
    event_unmask(timer_port);
    hypercall(HYPERCALL_set_timer_op, on_xens_clock(now(NULL) + TICK), 0, 0);
}
