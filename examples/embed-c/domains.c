/* Other domains, with the object that has vchans: what one of them serves is mounted (`vchan!DOMID!NAME`), or a tree in memory is
 * served to one (`export vchan!DOMID!NAME`). The callbacks of windows are all that it takes besides. */
#include "kernel.h"

static unsigned char taken[WINDOWS];

static void *alloc_window(void *context, size_t count)
{
    (void)context;
    for (size_t start = 0, length = 0; start + length < WINDOWS;) {
        if (taken[start + length]) {
            start += length + 1;
            length = 0;
        } else if (++length == count) {
            memset(&taken[start], 1, count);
            return machine_window((unsigned)start);
        }
    }
    return NULL;
}

static void free_window(void *context, void *first, size_t count)
{
    (void)context;
    memset(&taken[((size_t)first - (size_t)machine_window(0)) / PAGE], 0, count);
}

static uint64_t window_address(void *context, const void *page)
{
    (void)context;
    return (uint64_t)page;
}

static void set_window(void *context, void *page, uint32_t what, uint64_t own)
{
    (void)context;
    machine_set_window(page, what == XEN9P_WINDOW_OWN, what == XEN9P_WINDOW_FOREIGN, own);
}

static void serve(const char *address)
{
    static const char wanted[] = "Written by another domain.\n";
    xen9p_handle tree, endpoint, file;
    char found[64];

    expect("mount of #mem", xen9p_mount("#mem", NULL, &tree, NULL), 0);
    expect("serve", xen9p_serve(address, tree, XEN9P_READ | XEN9P_WRITE, &endpoint), 0);
    print("serving\r\n");
    for (int64_t seen = 0, is_connected; (is_connected = expect("poll", xen9p_poll(endpoint), 0)) || !seen; seen |= is_connected)
        xen9p_wait(endpoint, XEN9P_FOREVER);
    expect("close", xen9p_close(endpoint, NULL), 0);
    expect("open", xen9p_open(tree, "/written", XEN9P_READ, 0, &file, NULL), 0);
    expect("read", xen9p_read(file, found, sizeof found, 0, NULL), sizeof wanted - 1);
    for (size_t i = 0; i < sizeof wanted - 1; i++)
        if (found[i] != wanted[i])
            expect("what the other domain wrote", -1, 0);
    expect("close", xen9p_close(file, NULL), 0);
    expect("close", xen9p_close(tree, NULL), 0);
}

void domains(const struct xen9p_platform *platform, const char *line)
{
    struct xen9p_platform with_windows = *platform;
    xen9p_handle fs;

    with_windows.alloc_window = alloc_window;
    with_windows.free_window = free_window;
    with_windows.window_address = window_address;
    with_windows.set_window = set_window;
    init(&with_windows);
    if (*line == 'e') {
        serve(line + sizeof "export");
    } else {
        expect("mount", xen9p_mount(line, NULL, &fs, NULL), 0);
        use_mount(fs);
    }
}
