/* Drivers that a kernel has already: a client of xenstore, and an allocator of grant references. xen9p goes through them. */
#include "kernel.h"

/* --- Xenstore: the kernel's own connection (public/io/xs_wire.h) --- */

enum { XS_READ = 2, XS_WATCH = 4, XS_UNWATCH = 5, XS_WATCH_EVENT = 15, XS_ERROR = 16 };

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

/* Sleeps until one of the ports or xenstore's has an event. Xen looks at the pending bits itself. */
static void poll(const uint32_t *ports, size_t count, uint64_t deadline)
{
    uint32_t all[128];
    struct { const uint32_t *ports; uint32_t count; uint64_t deadline; } poll = { all, 0, deadline };
    for (size_t i = 0; i < count && i < 127; i++)
        all[poll.count++] = ports[i];
    all[poll.count++] = store_port;
    if (deadline >= INT64_MAX)
        poll.deadline = 0; /* for ever */
    hypercall(HYPERCALL_sched_op, 3, (size_t)&poll, 0);
}

/* Takes in what xenstore says, and tells xen9p of its watches: their tokens begin with an L here. */
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
                xen9p_watch_fired(message.payload, token + 1);
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
            poll(NULL, 0, now(NULL) + 10000000);
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

static struct message *store_answer(uint32_t request)
{
    static struct message answer;
    for (uint64_t end = now(NULL) + 5000000000; now(NULL) < end; poll(NULL, 0, end)) {
        take_pending(NULL, store_port);
        store_take();
        for (int i = 0; i < 8; i++)
            if (arrived[i].request == request) {
                answer = arrived[i];
                arrived[i].request = 0;
                return &answer;
            }
    }
    return NULL;
}

static int64_t store_request(void *context, uint32_t kind, uint32_t transaction, const void *payload, size_t length, void *answer)
{
    struct message *message = store_answer(store_submit(kind, transaction, payload, length));
    (void)context;
    if (!message)
        return -110; /* ETIMEDOUT */
    if (message->kind == XS_ERROR)
        return xen9p_store_error(message->payload);
    memcpy(answer, message->payload, message->length);
    return message->length;
}

static int watch(uint32_t kind, const char *path, const char *token)
{
    static char payload[4096], answer[4096];
    size_t length = strlen(path) + 1;
    memcpy(payload, path, length);
    payload[length++] = 'L';
    memcpy(payload + length, token, strlen(token) + 1);
    int64_t result = store_request(NULL, kind, 0, payload, length + strlen(token) + 1, answer);
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

static void wait(void *context, const uint32_t *ports, size_t count, uint64_t deadline)
{
    (void)context;
    poll(ports, count, deadline);
    if (take_pending(NULL, store_port))
        store_take();
}

void drivers_start(void *ring, uint32_t port, void *(*grant_frame)(void *, uint32_t))
{
    store = ring;
    store_port = port;
    for (uint32_t i = 0; i < GRANT_FRAMES; i++)
        grants[i] = grant_frame(NULL, i);
    for (uint32_t i = 8; i < GRANTS; i++)
        free_grants[free_count++] = i;
}

void drivers_offer(struct xen9p_platform *platform)
{
    platform->wait = wait;
    platform->grant_frame = NULL;
    platform->grant = grant;
    platform->end_grant = end_grant;
    platform->xenstore.page = NULL;
    platform->store_request = store_request;
    platform->store_watch = store_watch;
    platform->store_unwatch = store_unwatch;
}

/* --- What the kernel does besides: a watch, requests whose answers are asked for later, and a frontend's pages --- */

void drivers_use(uint64_t first_page)
{
    store_submit(XS_WATCH, 0, "control\0mine", sizeof "control\0mine");
    for (int i = 0; i < ASKED; i++)
        asked[i] = store_submit(XS_READ, 0, "domid", sizeof "domid");
    for (uint32_t i = 0; i < THEIRS; i++)
        theirs[i] = (uint32_t)grant(NULL, 0, first_page + i);
    left = free_count;
}

const char *drivers_check(uint64_t first_page)
{
    if (left != free_count)
        return "grants are left";
    for (uint32_t i = 0; i < THEIRS; i++)
        if (entry_of(theirs[i])->frame != first_page + i || !end_grant(NULL, theirs[i]))
            return "a grant of another frontend is another one";
    for (int i = 0; i < ASKED; i++)
        if (!store_answer(asked[i]))
            return "the kernel has no answer to a request";
    return own_events ? NULL : "the kernel's watch did not fire";
}
