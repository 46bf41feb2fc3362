/* Drivers that a kernel has already: a client of xenstore, and an allocator of grant references. xen9p goes through them. */
#include "kernel.h"

/* --- Xenstore: the kernel's own connection (public/io/xs_wire.h) --- */

enum { XS_READ = 2, XS_WATCH = 4, XS_WRITE = 11, XS_UNWATCH = 5, XS_WATCH_EVENT = 15, XS_ERROR = 16 };

static volatile struct {
    char requests[1024], answers[1024];
    uint32_t request_cons, request_prod, answer_cons, answer_prod;
} *store;
static uint32_t store_port, last_request, own_events;

struct message {
    uint32_t kind, request, transaction, length;
    char payload[4097];
};
static struct message arrived[8]; /* answers that were not asked for yet; `request` 0: free */

/* Of the connection. */
static volatile int store_lock;

/* Sleeps until xenstore's port fires, or a while; others have the lock meanwhile. */
static void sleep(void)
{
    lock_give(&store_lock);
    thread_prepare();
    if (event_fired(store_port))
        thread_ready();
    else
        thread_yield();
    lock_take(&store_lock);
}

/* Watches of xen9p's that fired: it is told when no lock is held. */
static struct {
    char path[256], token[16];
} events[16];
static unsigned event_count;

static void note_event(const char *path, const char *token)
{
    if (event_count < 16 && strlen(path) < 256 && strlen(token) < 16) {
        memcpy(events[event_count].path, path, strlen(path) + 1);
        memcpy(events[event_count++].token, token, strlen(token) + 1);
    }
}

static void tell_events(void)
{
    for (;;) {
        char path[256], token[16];
        lock_take(&store_lock);
        unsigned left_over = event_count;
        if (left_over) {
            event_count--;
            memcpy(path, events[event_count].path, sizeof path);
            memcpy(token, events[event_count].token, sizeof token);
        }
        lock_give(&store_lock);
        if (!left_over)
            return;
        xen9p_watch_fired(path, token);
    }
}

/* Takes in what xenstore says. Tokens of xen9p's watches begin with an L here. */
static void store_take(void)
{
    static struct message message;
    static size_t have;
    uint32_t before = store->answer_cons;

    while (store->answer_cons != store->answer_prod) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        ((char *)&message)[have++] = store->answers[store->answer_cons % sizeof store->answers];
        __atomic_thread_fence(__ATOMIC_RELEASE);
        store->answer_cons++;
        if (have < 16 || have < 16 + message.length)
            continue;
        message.payload[message.length] = 0;
        have = 0;
        if (message.kind == XS_WATCH_EVENT) {
            const char *token = message.payload + strlen(message.payload) + 1;
            if (*token == 'L')
                note_event(message.payload, token + 1);
            else
                own_events++;
        } else {
            int i = 0;
            while (arrived[i].request)
                i++;
            arrived[i] = message;
        }
    }
    if (store->answer_cons != before)
        hypercall(HYPERCALL_event_channel_op, 4, (size_t)&store_port, 0);
}

static void store_put(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        while (store->request_prod - store->request_cons == sizeof store->requests) {
            hypercall(HYPERCALL_event_channel_op, 4, (size_t)&store_port, 0);
            sleep();
            store_take();
        }
        store->requests[store->request_prod % sizeof store->requests] = ((const char *)bytes)[i];
        __atomic_thread_fence(__ATOMIC_RELEASE);
        store->request_prod++;
    }
}

static uint32_t store_submit(uint32_t kind, uint32_t transaction, const void *payload, size_t length)
{
    uint32_t header[4] = { kind, ++last_request, transaction, (uint32_t)length };
    store_put(header, sizeof header);
    store_put(payload, length);
    hypercall(HYPERCALL_event_channel_op, 4, (size_t)&store_port, 0);
    return last_request;
}

/* Waits for an answer and copies it as far as there is room; with the lock. Returns its whole length. */
static int64_t store_answer(uint32_t request, void *answer, size_t room)
{
    for (uint64_t end = now(NULL) + 5000000000; now(NULL) < end; sleep()) {
        event_take(store_port);
        store_take();
        for (int i = 0; i < 8; i++)
            if (arrived[i].request == request) {
                arrived[i].request = 0;
                if (arrived[i].kind == XS_ERROR)
                    return xen9p_store_error(arrived[i].payload);
                memcpy(answer, arrived[i].payload, arrived[i].length < room ? arrived[i].length : room);
                return arrived[i].length;
            }
    }
    return -110; /* ETIMEDOUT */
}

static int64_t ask(uint32_t kind, uint32_t transaction, const void *payload, size_t length, void *answer, size_t room)
{
    lock_take(&store_lock);
    int64_t result = store_answer(store_submit(kind, transaction, payload, length), answer, room);
    lock_give(&store_lock);
    tell_events();
    return result;
}

static int64_t store_request(void *context, uint32_t kind, uint32_t transaction, const void *payload, size_t length, void *answer)
{
    (void)context;
    return ask(kind, transaction, payload, length, answer, 4096);
}

int64_t drivers_read(const char *path, char *into, size_t size)
{
    int64_t length = ask(XS_READ, 0, path, strlen(path) + 1, into, size - 1);
    if (length >= 0)
        into[length < (int64_t)size ? (size_t)length : size - 1] = 0;
    return length;
}

int64_t drivers_write(const char *path, const char *value)
{
    char payload[256];
    size_t length = strlen(path) + 1;
    memcpy(payload, path, length);
    memcpy(payload + length, value, strlen(value));
    return ask(XS_WRITE, 0, payload, length + strlen(value), NULL, 0);
}

static int watch(uint32_t kind, const char *path, const char *token)
{
    char payload[1024];
    size_t length = strlen(path) + 1;
    memcpy(payload, path, length);
    payload[length++] = 'L';
    memcpy(payload + length, token, strlen(token) + 1);
    int64_t result = ask(kind, 0, payload, length + strlen(token) + 1, NULL, 0);
    return result < 0 ? (int)result : 0;
}

static int store_watch(void *context, const char *path, const char *token)
{
    (void)context;
    return watch(XS_WATCH, path, token);
}

static void store_unwatch(void *context, const char *path, const char *token)
{
    (void)context;
    watch(XS_UNWATCH, path, token);
}

/* --- Grants: the kernel's own allocator of references, from the top down --- */

enum { THEIRS = 64, ASKED = 4 };
static uint32_t theirs[THEIRS], asked[ASKED], left;

enum { GRANT_FRAMES = 4, GRANTS = GRANT_FRAMES * 512, GRANT_ACCESS = 1, GRANT_IN_USE = 8 | 16 };
static struct grant { uint16_t flags, domain; uint32_t frame; } *grants[GRANT_FRAMES];
static uint32_t free_grants[GRANTS], free_count;

static struct grant *entry_of(uint32_t reference)
{
    return &grants[reference / 512][reference % 512];
}

static int64_t grant(void *context, uint32_t domain, uint64_t frame)
{
    (void)context;
    if (free_count == 0)
        return -1;
    uint32_t reference = free_grants[--free_count];
    struct grant *entry = entry_of(reference);
    entry->domain = (uint16_t)domain;
    entry->frame = (uint32_t)frame;
    __atomic_store_n(&entry->flags, GRANT_ACCESS, __ATOMIC_RELEASE);
    return reference;
}

static int end_grant(void *context, uint32_t reference)
{
    uint16_t *flags = &entry_of(reference)->flags, seen = *flags;
    (void)context;
    do
        if (seen & GRANT_IN_USE)
            return 0;
    while (!__atomic_compare_exchange_n(flags, &seen, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    free_grants[free_count++] = reference;
    return 1;
}

/* --- What xen9p goes through --- */

static volatile int library;
static volatile unsigned woken;

static void lock(void *context)
{
    (void)context;
    lock_take(&library);
}

static void unlock(void *context)
{
    (void)context;
    lock_give(&library);
}

static void wake(void *context)
{
    (void)context;
    woken++;
    threads_wake();
}

static int is_over(const uint32_t *ports, size_t count, uint64_t deadline, unsigned seen)
{
    for (size_t i = 0; i < count; i++)
        if (event_fired(ports[i]))
            return 1;
    return woken != seen || now(NULL) >= deadline;
}

static void wait(void *context, const uint32_t *ports, size_t count, uint64_t deadline)
{
    unsigned seen = woken;
    unlock(context);
    for (int is_done = 0; !is_done;) {
        thread_prepare();
        is_done = is_over(ports, count, deadline, seen) || event_fired(store_port);
        if (is_done)
            thread_ready();
        else
            thread_yield();
    }
    if (event_take(store_port)) {
        lock_take(&store_lock);
        store_take();
        lock_give(&store_lock);
        tell_events();
    }
    lock(context);
}

static int take(void *context, uint32_t port)
{
    (void)context;
    return event_take(port);
}

static void port_opened(void *context, uint32_t port)
{
    (void)context;
    event_unmask(port);
}

static void port_closed(void *context, uint32_t port)
{
    (void)context;
    event_mask(port);
}

static void all_free(void)
{
    free_count = 0;
    for (uint32_t i = 8; i < GRANTS; i++)
        free_grants[free_count++] = i;
}

void drivers_start(void *ring, uint32_t port, void *(*grant_frame)(void *, uint32_t))
{
    store = ring;
    store_port = port;
    for (uint32_t i = 0; i < GRANT_FRAMES; i++)
        grants[i] = grant_frame(NULL, i);
    all_free();
    event_unmask(port);
}

void drivers_offer(struct xen9p_platform *platform)
{
    platform->take_pending = take;
    platform->wait = wait;
    platform->port_opened = port_opened;
    platform->port_closed = port_closed;
    platform->lock = lock;
    platform->unlock = unlock;
    platform->wake = wake;
    platform->grant_frame = NULL;
    platform->grant = grant;
    platform->end_grant = end_grant;
    platform->xenstore.page = NULL;
    platform->store_request = store_request;
    platform->store_watch = store_watch;
    platform->store_unwatch = store_unwatch;
}

/* --- What the kernel does besides: a watch, requests whose answers are asked for later, and a frontend's pages --- */

static void use_again(uint64_t first_page)
{
    store_submit(XS_WATCH, 0, "control\0mine", sizeof "control\0mine");
    for (uint32_t i = 0; i < THEIRS; i++)
        theirs[i] = (uint32_t)grant(NULL, 0, first_page + i);
    left = free_count;
}

void drivers_use(uint64_t first_page)
{
    lock_take(&store_lock);
    use_again(first_page);
    for (int i = 0; i < ASKED; i++)
        asked[i] = store_submit(XS_READ, 0, "domid", sizeof "domid");
    lock_give(&store_lock);
}

void drivers_resume(uint32_t port, uint64_t first_page)
{
    store_port = port;
    own_events = 0;
    all_free();
    event_unmask(port);
    lock_take(&store_lock);
    use_again(first_page);
    lock_give(&store_lock);
}

const char *drivers_check(uint64_t first_page)
{
    if (left != free_count)
        return "grants are left";
    for (uint32_t i = 0; i < THEIRS; i++)
        if (entry_of(theirs[i])->frame != first_page + i || !end_grant(NULL, theirs[i]))
            return "a grant of another frontend is another one";
    for (int i = 0; i < ASKED; i++) {
        lock_take(&store_lock);
        int64_t length = store_answer(asked[i], NULL, 0);
        lock_give(&store_lock);
        if (length < 1)
            return "the kernel has no answer to a request";
    }
    event_mask(store_port);
    return own_events ? NULL : "the kernel's watch did not fire";
}
