/* A program in C89 that uses every call and field of the header: compiled by tests/header.rs, never run. */
#include "xen9p.h"

static char text[4096];

static void *my_alloc(void *context, size_t size, size_t align)
{
    (void)context;
    return size + align > sizeof text ? NULL : text;
}

static void my_free(void *context, void *memory, size_t size, size_t align)
{
    (void)context;
    (void)memory;
    (void)size;
    (void)align;
}

static void *my_alloc_pages(void *context, size_t count)
{
    (void)context;
    (void)count;
    return NULL;
}

static void my_free_pages(void *context, void *first, size_t count)
{
    (void)context;
    (void)first;
    (void)count;
}

static uint64_t my_frame(void *context, const void *page)
{
    (void)context;
    return (uint64_t)(size_t)page >> 12;
}

static ptrdiff_t my_hypercall(void *context, uint32_t number, const size_t *args)
{
    (void)context;
    return xen9p_hypercall(0, number, args);
}

static uint64_t my_now(void *context)
{
    (void)context;
    return 0;
}

static int my_take_pending(void *context, uint32_t port)
{
    (void)context;
    return port == 0;
}

static void my_wait(void *context, const uint32_t *ports, size_t count, uint64_t deadline)
{
    (void)context;
    (void)ports;
    if (count == 0 && deadline == XEN9P_FOREVER)
        xen9p_watch_fired("backend/state", "1");
}

static void my_panic(void *context, const char *message, size_t length)
{
    (void)context;
    (void)message;
    (void)length;
    for (;;)
        ;
}

static void *my_grant_frame(void *context, uint32_t index)
{
    (void)context;
    (void)index;
    return NULL;
}

static int64_t my_grant(void *context, uint32_t domain, uint64_t frame)
{
    (void)context;
    (void)domain;
    (void)frame;
    return -1;
}

static int my_end_grant(void *context, uint32_t reference)
{
    (void)context;
    (void)reference;
    return 1;
}

static int64_t my_request(void *context, uint32_t kind, uint32_t transaction, const void *payload, size_t length,
                          void *answer)
{
    (void)context;
    (void)kind;
    (void)transaction;
    (void)payload;
    (void)length;
    (void)answer;
    return xen9p_store_error("ENOENT");
}

static int my_watch(void *context, const char *path, const char *token)
{
    (void)context;
    (void)path;
    (void)token;
    return 0;
}

static void my_unwatch(void *context, const char *path, const char *token)
{
    (void)context;
    (void)path;
    (void)token;
}

static void my_port(void *context, uint32_t port)
{
    (void)context;
    (void)port;
}

static void my_lock(void *context)
{
    (void)context;
}

static void *my_window(void *context, size_t count)
{
    (void)context;
    (void)count;
    return NULL;
}

static void my_set_window(void *context, void *page, uint32_t what, uint64_t own)
{
    (void)context;
    if (what == XEN9P_WINDOW_OWN && page != NULL && own != 0)
        text[0] = XEN9P_WINDOW_FOREIGN + XEN9P_WINDOW_EMPTY;
}

static int my_suspend(void *context, struct xen9p_ring *xenstore)
{
    (void)context;
    xenstore->page = NULL;
    xenstore->port = 0;
    return 1;
}

static void my_breach(void *context, const char *breach)
{
    (void)context;
    (void)breach;
}

static int files(xen9p_handle fs)
{
    xen9p_handle root, file, dir, op = 0;
    struct xen9p_stat stat;
    struct xen9p_statfs full;
    struct xen9p_dirent entry;
    struct xen9p_setattr change = { 0 };
    int64_t count;

    change.size = sizeof change;
    change.valid = XEN9P_SET_MODE | XEN9P_SET_UID | XEN9P_SET_GID | XEN9P_SET_LENGTH | XEN9P_SET_ACCESSED |
                   XEN9P_SET_MODIFIED_NOW;
    change.mode = 0644;
    change.accessed.seconds = 1;
    change.accessed.nanos = 1;
    xen9p_lookup(fs, "/", &root, NULL);
    xen9p_open(root, "a", XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE, 0644, &file, NULL);
    xen9p_write(file, text, sizeof text, 0, NULL);
    count = xen9p_read(file, text, sizeof text, 0, &op);
    while ((count = xen9p_poll(op)) == -XEN9P_EINPROGRESS)
        xen9p_wait(fs, XEN9P_FOREVER);
    xen9p_lock(file, XEN9P_LOCK_EXCLUSIVE, 0, 0, NULL);
    xen9p_lock(file, XEN9P_LOCK_NONE, 0, 0, NULL);
    xen9p_sync(file, NULL);
    xen9p_stat(file, NULL, 0, &stat, NULL);
    xen9p_setattr(root, "a", &change, NULL);
    xen9p_close(file, NULL);
    xen9p_mkdir(root, "d", 0755, NULL);
    xen9p_mknod(root, "p", 0010644, 0, 0, NULL);
    xen9p_symlink("a", fs, "/s", NULL);
    xen9p_readlink(fs, "/s", text, sizeof text, NULL);
    xen9p_stat(fs, "/s", XEN9P_NOFOLLOW, &stat, NULL);
    xen9p_link(root, "a", root, "b", NULL);
    xen9p_rename(root, "b", root, "c", NULL);
    xen9p_setxattr(fs, "/a", "user.x", "1", 1, NULL);
    xen9p_getxattr(fs, "/a", NULL, text, sizeof text, NULL);
    xen9p_statfs(fs, "/", &full, NULL);
    xen9p_opendir(root, NULL, &dir, NULL);
    while (xen9p_readdir(dir, &entry, NULL) == 1)
        if (entry.kind == 0040000)
            xen9p_seekdir(dir, entry.cookie);
    xen9p_close(dir, NULL);
    xen9p_unlink(root, "a", NULL);
    xen9p_rmdir(root, "d", NULL);
    xen9p_close(root, NULL);
    return count < 0 || stat.size + full.blocks == 0;
}

#ifdef XEN9P_VCHAN
/* With the object that has it. */
static int serve(void)
{
    xen9p_handle tree, endpoint;

    if (xen9p_mount("#mem", NULL, &tree, NULL) < 0 || xen9p_serve("vchan!7!log", tree, XEN9P_READ, &endpoint) < 0)
        return 4;
    while (xen9p_poll(endpoint) >= 0)
        xen9p_wait(endpoint, XEN9P_FOREVER);
    return xen9p_close(endpoint, NULL) | xen9p_close(tree, NULL);
}
#endif

int kernel(void);

int kernel(void)
{
    static struct xen9p_platform platform;
    static struct xen9p_mount_options options;
    xen9p_handle fs;
    int result;

    platform.size = sizeof platform;
    platform.version = XEN9P_VERSION;
    platform.context = text;
    platform.memory = 64ul << 20;
    platform.alloc = my_alloc;
    platform.free = my_free;
    platform.alloc_pages = my_alloc_pages;
    platform.free_pages = my_free_pages;
    platform.frame = my_frame;
    platform.hypercall = my_hypercall;
    platform.now = my_now;
    platform.take_pending = my_take_pending;
    platform.wait = my_wait;
    platform.panic = my_panic;
    platform.grant_frame = my_grant_frame;
    platform.first_grant = 8;
    platform.grants = 1024;
    platform.grant = my_grant;
    platform.end_grant = my_end_grant;
    platform.xenstore.page = NULL;
    platform.xenstore.port = 1;
    platform.store_request = my_request;
    platform.store_watch = my_watch;
    platform.store_unwatch = my_unwatch;
    platform.port_opened = my_port;
    platform.port_closed = my_port;
    platform.lock = my_lock;
    platform.unlock = my_lock;
    platform.wake = my_lock;
    platform.alloc_window = my_window;
    platform.free_window = my_free_pages;
    platform.window_address = my_frame;
    platform.set_window = my_set_window;

    options.size = sizeof options;
    options.msize = 65536;
    options.timeout = 10;
    options.rings = 1;
    options.order = 9;
    options.recovery = 60;
    options.disconnect = 1;

    if (xen9p_version() >> 8 != XEN9P_VERSION >> 8 || xen9p_init(&platform) < 0)
        return 1;
    if (xen9p_check_platform(my_breach, NULL))
        return 2;
    if (xen9p_tag(0, text, sizeof text) < 0 || xen9p_mount(text, &options, &fs, NULL) < 0) {
        xen9p_last_error(text, sizeof text);
        xen9p_describe(-2, text, sizeof text);
        return 3;
    }
    result = files(fs);
#ifdef XEN9P_VCHAN
    result |= serve();
#endif
    xen9p_suspend(my_suspend, NULL);
    xen9p_close(fs, NULL);
    return result | xen9p_exit();
}
