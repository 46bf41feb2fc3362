/* What the glue in docs/embedding.md uses of Mini-OS, declared so that it compiles; see tests/header.rs. */
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ul

typedef int64_t s_time_t;
typedef uint32_t evtchn_port_t;
typedef unsigned long xenbus_transaction_t;
typedef struct xenbus_event *xenbus_event_queue;

struct pt_regs;
struct thread;
struct semaphore { int count; };
struct wait_queue_head { void *first; };
struct write_req { const void *data; unsigned len; };
struct xsd_sockmsg { uint32_t type, req_id, tx_id, len; };

enum { XS_ERROR = 16, XS_WATCH_PATH = 0, XS_WATCH_TOKEN = 1 };

#define XBT_NIL ((xenbus_transaction_t)0)
#define DECLARE_WAIT_QUEUE_HEAD(name) struct wait_queue_head name
#define wait_event_deadline(queue, condition, deadline) \
    do { \
        while (!(condition)) \
            sleep_on(&(queue), deadline); \
    } while (0)

extern unsigned long nr_free_pages;

void sleep_on(struct wait_queue_head *queue, s_time_t deadline);
void wake_up(struct wait_queue_head *queue);
void init_MUTEX(struct semaphore *lock);
void down(struct semaphore *lock);
void up(struct semaphore *lock);
void *_xmalloc(size_t size, size_t align);
void xfree(const void *memory);
void free(void *memory);
void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
unsigned long alloc_pages(int order);
void free_pages(void *first, int order);
unsigned long virt_to_mfn(unsigned long address);
s_time_t NOW(void);
void printk(const char *format, ...);
void do_exit(void);
uint32_t gnttab_grant_access(uint32_t domain, unsigned long frame, int readonly);
int gnttab_end_access(uint32_t reference);
struct xsd_sockmsg *xenbus_msg_reply(int type, xenbus_transaction_t transaction, struct write_req *parts, int count);
char *xenbus_watch_path_token(xenbus_transaction_t transaction, const char *path, const char *token,
                              xenbus_event_queue *events);
char *xenbus_unwatch_path_token(xenbus_transaction_t transaction, const char *path, const char *token);
void xenbus_event_queue_init(xenbus_event_queue *events);
char **xenbus_wait_for_watch_return(xenbus_event_queue *events);
evtchn_port_t bind_evtchn(evtchn_port_t port, void (*handler)(evtchn_port_t, struct pt_regs *, void *), void *data);
void mask_evtchn(uint32_t port);
void unmask_evtchn(uint32_t port);
struct thread *create_thread(const char *name, void (*function)(void *), void *data);
int xen9p_start(void);
