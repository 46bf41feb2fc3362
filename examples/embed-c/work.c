/* What this kernel does with files: in one thread what a kernel does at its start, while another uses files of the same
 * mount, a third asks xenstore, and a fourth gives the processor to nobody. Or it waits until its backend dies; is saved and
 * restored while all of them work; or works with another domain. */
#include "kernel.h"
#include "vfs.h"

static char text[65536], large[1 << 20];
static xen9p_handle fs;

static void tell_violation(void *context, const char *violation)
{
    (void)context;
    print(violation);
    print("\r\n");
}

void init(const struct xen9p_platform *platform)
{
    expect("init", xen9p_init(platform), 0);
    if (xen9p_check_platform(tell_violation, NULL))
        expect("check_platform", -1, 0);
}

static void say(const char *what, int64_t count)
{
    print(what);
    print(" ");
    print_number(count);
    print("\r\n");
}

/* --- The other threads --- */

static volatile int is_ending, is_frozen;
static volatile unsigned frozen;
static volatile uint64_t rounds, answers, turns;

/* Threads that ask xenstore or use files have nothing under way while the domain is saved: they stay here. */
static void freeze_if_asked(void)
{
    if (!is_frozen)
        return;
    __atomic_fetch_add(&frozen, 1, __ATOMIC_SEQ_CST);
    while (is_frozen)
        thread_yield();
    __atomic_fetch_sub(&frozen, 1, __ATOMIC_SEQ_CST);
}

static void use_files(void)
{
    static char page[4096];
    while (!is_ending) {
        xen9p_handle file;
        for (size_t i = 0; i < sizeof page; i++)
            page[i] = (char)(i * 7 + rounds);
        expect("open", xen9p_open(fs, "/thread", XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE, 0644, &file, NULL), 0);
        expect("write", xen9p_write(file, page, sizeof page, rounds * 3, NULL), sizeof page);
        memset(page, 0, sizeof page);
        expect("read", xen9p_read(file, page, sizeof page, rounds * 3, NULL), sizeof page);
        for (size_t i = 0; i < sizeof page; i++)
            if (page[i] != (char)(i * 7 + rounds))
                expect("what another thread read", -1, 0);
        expect("close", xen9p_close(file, NULL), 0);
        expect("rename", xen9p_rename(fs, "/thread", fs, "/thread-1", NULL), 0);
        expect("unlink", xen9p_unlink(fs, "/thread-1", NULL), 0);
        rounds++;
        freeze_if_asked();
    }
}

static void use_xenstore(void)
{
    while (!is_ending) {
        char domain[16];
        expect("a request of the kernel's own", drivers_read("domid", domain, sizeof domain), 1);
        answers++;
        freeze_if_asked();
        thread_prepare();
        thread_yield();
    }
}

static void spin(void)
{
    while (!is_ending)
        turns++;
}

static void start_others(void)
{
    static void (*const others[])(void) = { use_files, use_xenstore, spin };
    for (unsigned i = 1; i < THREADS; i++)
        thread_start(i, others[i - 1]);
}

/* That the others come along. */
static void see_others(void)
{
    uint64_t round = rounds, answer = answers, turn = turns, preemption = preemptions;
    while (rounds < round + 3 || answers < answer + 3 || turns == turn || preemptions == preemption)
        thread_yield();
}

static void end_others(void)
{
    is_ending = 1;
    for (unsigned i = 1; i < THREADS; i++)
        while (thread_runs(i))
            thread_yield();
}

/* --- Files --- */

/* Copies a file by operations that are started and polled, two at a time, as a kernel with an event loop would. */
static void copy(const char *from, const char *to)
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

static void list_and_read(void)
{
    xen9p_handle file, dir;
    struct xen9p_dirent entry;
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
}

static void write_and_rename(void)
{
    static const char written[] = "Written by a kernel of its own.\n";
    xen9p_handle file;
    struct xen9p_stat stat;
    expect("open", xen9p_open(fs, "/new", XEN9P_WRITE | XEN9P_CREATE, 0644, &file, NULL), 0);
    expect("write", xen9p_write(file, written, sizeof written - 1, 0, NULL), sizeof written - 1);
    expect("stat", xen9p_stat(file, NULL, 0, &stat, NULL), 0);
    expect("the size", (int64_t)stat.size, sizeof written - 1);
    expect("close", xen9p_close(file, NULL), 0);
    expect("rename", xen9p_rename(fs, "/new", fs, "/from-c.txt", NULL), 0);
    expect("stat of the old name", xen9p_stat(fs, "/new", 0, &stat, NULL), -2);
}

void use_mount(xen9p_handle mounted)
{
    fs = mounted;
    list_and_read();
    write_and_rename();
    copy("/large.bin", "/copy.bin");
    expect("close", xen9p_close(fs, NULL), 0);
}

static void use_vfs(void)
{
    struct vnode *root;
    expect("root", xen9p_vfs_root(fs, &root), 0);
    const char *failed = vfs_test(root);
    if (failed)
        expect(failed, -1, 0);
    vnode_put(root);
    print("vfs works\r\n");
}

static void use_all(const struct xen9p_platform *platform)
{
    struct xen9p_platform other = *platform;
    xen9p_handle again;

    other.version = 0;
    expect("the library's version", xen9p_version(), XEN9P_VERSION);
    expect("a mount before init", xen9p_mount(NULL, NULL, &fs, NULL), -6);
    expect("init without a platform", xen9p_init(NULL), -14);
    expect("init with another header", xen9p_init(&other), -93);
    init(platform);
    expect("init again", xen9p_init(platform), -17);
    expect("mount", xen9p_mount(NULL, NULL, &fs, NULL), 0);
    expect("mount of what is mounted", xen9p_mount(NULL, NULL, &again, NULL), 0);
    expect("close", xen9p_close(again, NULL), 0);
    start_others();
    list_and_read();
    write_and_rename();
    copy("/large.bin", "/copy.bin");
    see_others();
    end_others();
    use_vfs();
    say("rounds of another thread", (int64_t)rounds);
    say("answers of xenstore", (int64_t)answers);
    say("preemptions", (int64_t)preemptions);
    say("interrupts", (int64_t)interrupts);
    expect("close", xen9p_close(fs, NULL), 0);
}

/* --- What may happen to a domain --- */

static void sleep_a_while(void)
{
    for (uint64_t end = now(NULL) + 50000000; now(NULL) < end;) {
        thread_prepare();
        thread_yield();
    }
}

static void lose_backend(void)
{
    xen9p_handle file;
    int64_t result;
    expect("mount", xen9p_mount(NULL, NULL, &fs, NULL), 0);
    expect("open", xen9p_open(fs, "/hello.txt", XEN9P_READ, 0, &file, NULL), 0);
    print("waits for its backend to die\r\n");
    while ((result = xen9p_read(file, text, 100, 0, NULL)) > 0)
        sleep_a_while();
    xen9p_last_error(text, sizeof text);
    expect("a read without a backend", result, -5);
    print("lost: ");
    print(text);
    print("\r\n");
    expect("stat", xen9p_stat(fs, "/", 0, &(struct xen9p_stat){ 0 }, NULL), -5);
    /* What is closed is closed, whatever that returns. */
    xen9p_close(file, NULL);
    xen9p_close(fs, NULL);
    expect("close again", xen9p_close(file, NULL), -9);
    expect("close again", xen9p_close(fs, NULL), -9);
}

static void be_saved(void)
{
    struct xen9p_mount_options options = { .size = sizeof options, .recovery = 60 };
    xen9p_handle file;
    expect("mount", xen9p_mount(NULL, &options, &fs, NULL), 0);
    expect("open", xen9p_open(fs, "/kept.txt", XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE, 0644, &file, NULL), 0);
    expect("write", xen9p_write(file, "before", 6, 0, NULL), 6);
    start_others();
    see_others();
    print("waits to be saved\r\n");
    for (;;) {
        char what[16] = "";
        drivers_read("control/shutdown", what, sizeof what);
        if (what[0] == 's' && what[1] == 'u')
            break;
        sleep_a_while();
    }
    expect("the answer to it", drivers_write("control/shutdown", ""), 0);
    is_frozen = 1;
    while (frozen < 2)
        thread_yield();
    expect("suspend", xen9p_suspend(kernel_suspend, NULL), 0);
    is_frozen = 0;
    print("goes on\r\n");
    expect("write", xen9p_write(file, " after", 6, 6, NULL), 6);
    expect("read", xen9p_read(file, text, 100, 0, NULL), 12);
    see_others();
    end_others();
    print("threads go on\r\n");
    expect("close", xen9p_close(file, NULL), 0);
    expect("close", xen9p_close(fs, NULL), 0);
}

void work(const struct xen9p_platform *platform, const char *line)
{
    switch (*line) {
    case 'e':
    case 'v':
        if (!domains)
            expect("the object without vchans", -1, 0);
        domains(platform, line);
        break;
    case 'l':
        init(platform);
        lose_backend();
        break;
    case 's':
        init(platform);
        be_saved();
        break;
    default:
        use_all(platform);
    }
    expect("exit", xen9p_exit(), 0);
    expect("exit again", xen9p_exit(), -6);
}

void hand_over(const struct xen9p_platform *platform)
{
    init(platform);
    expect("tag", xen9p_tag(0, text, sizeof text), 0);
    expect("exit", xen9p_exit(), 0);
}
