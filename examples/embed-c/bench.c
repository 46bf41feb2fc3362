/* The benchmark's work (benches/xen/workload.rs), the same amounts through the C library: `bench CONTROL FILES OUT SCALE`. */
#include "kernel.h"

enum { CALL = 1 << 20, BIG = 64 << 20, IN_PAGES = 2 << 20, SMALL = 1024, RANDOM = 256, PER_SCALE = 1000, MOST_ROWS = 16 };
enum { MADE = 1, WRITTEN = 2 }; /* of contents */

static unsigned char buffer[CALL];
static xen9p_handle fs;

/* --- Paths --- */

static char path[256], other_path[256];

static void put_text(char *into, const char *text)
{
    memcpy(into + strlen(into), text, strlen(text) + 1);
}

/* `directory` and a name, with a number behind it unless that is negative. */
static const char *name(char *into, const char *directory, const char *file, int64_t number)
{
    char digits[24];
    into[0] = 0;
    put_text(into, directory);
    put_text(into, file);
    if (number >= 0)
        put_text(into, number_text((uint64_t)number, digits));
    return into;
}

/* --- Contents --- */

static uint64_t stamp(uint64_t seed, uint64_t offset)
{
    uint64_t mixed = (offset ^ seed << 56) * 0x9e3779b97f4a7c15;
    return mixed ^ mixed >> 29;
}

static void fill(size_t size)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = (unsigned char)(i % PAGE * 7 + i % PAGE / 256);
}

static uint64_t *last_word(size_t at, size_t size)
{
    return (uint64_t *)(buffer + (at + PAGE < size ? at + PAGE : size) - 8);
}

static void put_stamps(uint64_t seed, size_t size, uint64_t offset)
{
    for (size_t at = 0; at < size; at += PAGE)
        *(uint64_t *)(buffer + at) = *last_word(at, size) = stamp(seed, offset + at);
}

static void expect_stamps(size_t size, uint64_t offset)
{
    for (size_t at = 0; at < size; at += PAGE)
        if (*(uint64_t *)(buffer + at) != stamp(MADE, offset + at) || *last_word(at, size) != stamp(MADE, offset + at))
            expect("the content of a page", -1, 0);
}

/* --- Rows: printed when all is done --- */

static struct {
    const char *name;
    int64_t units;
    uint64_t time;
} rows[MOST_ROWS];
static unsigned row_count;
static uint64_t row_start;

static void note(const char *what, int64_t units, uint64_t time)
{
    rows[row_count].name = what;
    rows[row_count].units = units;
    rows[row_count++].time = time;
}

static void begin(void)
{
    row_start = now(NULL);
}

static void end(const char *what, int64_t units)
{
    note(what, units, now(NULL) - row_start);
}

static void print_rows(void)
{
    for (unsigned i = 0; i < row_count; i++) {
        print("row ours ");
        print(rows[i].name);
        print(" ");
        print_number(rows[i].units);
        print(" ");
        print_number((int64_t)rows[i].time);
        print(" 0 0 0\r\n");
    }
}

/* --- Work --- */

static xen9p_handle open(const char *file, uint32_t flags)
{
    xen9p_handle opened;
    expect(file, xen9p_open(fs, file, flags, 0644, &opened, NULL), 0);
    return opened;
}

static void close(xen9p_handle handle)
{
    expect("close", xen9p_close(handle, NULL), 0);
}

/* Closes without a wait: what the server says to it is heard at the next of these. */
static xen9p_handle closing;

static void see_closed(void)
{
    int64_t result = 0;
    while (closing && (result = xen9p_poll(closing)) == -XEN9P_EINPROGRESS)
        xen9p_wait(closing, XEN9P_FOREVER);
    expect("close", result, 0);
    closing = 0;
}

static void begin_close(xen9p_handle handle)
{
    see_closed();
    expect("close", xen9p_close(handle, &closing), 0);
}

static void write_file(const char *file, size_t call, size_t size)
{
    xen9p_handle opened = open(file, XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE);
    for (size_t at = 0; at < size; at += call) {
        put_stamps(WRITTEN, call, at);
        for (size_t done = 0; done < call;)
            done += (size_t)expect("write", xen9p_write(opened, buffer + done, call - done, at + done, NULL), 1);
    }
    expect("sync", xen9p_sync(opened, NULL), 0);
    close(opened);
}

static void read_file(const char *file, size_t call, size_t size)
{
    xen9p_handle opened = open(file, XEN9P_READ);
    for (size_t at = 0; at < size; at += call) {
        for (size_t done = 0; done < call;)
            done += (size_t)expect("read", xen9p_read(opened, buffer + done, call - done, at + done, NULL), 1);
        expect_stamps(call, at);
    }
    expect("read at the end", xen9p_read(opened, buffer, call, size, NULL), 0);
    close(opened);
}

static void read_anywhere(const char *file)
{
    xen9p_handle opened = open(file, XEN9P_READ);
    begin();
    for (uint64_t n = 977; n < 977 + RANDOM; n++) {
        uint64_t place = n * 0x5851f42d % (BIG / PAGE) * PAGE;
        expect("read", xen9p_read(opened, buffer, PAGE, place, NULL), PAGE);
        expect_stamps(PAGE, place);
    }
    end("rand-read-1", RANDOM);
    close(opened);
}

static void small_files(const char *files, const char *out, int64_t count)
{
    fill(SMALL);
    expect("mkdir", xen9p_mkdir(fs, name(path, out, "/new", -1), 0755, NULL), 0);
    begin();
    for (int64_t i = 0; i < count; i++) {
        xen9p_handle file = open(name(path, out, "/new/f", i), XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE);
        put_stamps(WRITTEN, SMALL, (uint64_t)i);
        expect("write", xen9p_write(file, buffer, SMALL, 0, NULL), SMALL);
        begin_close(file);
    }
    see_closed();
    end("create", count);
    begin();
    for (int64_t i = 0; i < count; i++) {
        xen9p_handle file = open(name(path, files, "/small/f", i), XEN9P_READ);
        expect("read", xen9p_read(file, buffer, SMALL, 0, NULL), SMALL);
        expect_stamps(SMALL, (uint64_t)i);
        close(file);
    }
    end("open-read", count);
    begin();
    for (int64_t i = 0; i < count; i++)
        expect("rename", xen9p_rename(fs, name(path, out, "/new/f", i), fs, name(other_path, out, "/new/r", i), NULL), 0);
    end("rename", count);
    begin();
    for (int64_t i = 0; i < count; i++)
        expect("unlink", xen9p_unlink(fs, name(path, out, "/doomed/f", i), NULL), 0);
    end("unlink", count);
}

static int64_t entries(const char *directory, int (*each)(const char *))
{
    struct xen9p_dirent entry;
    xen9p_handle dir;
    int64_t count = 0;
    expect("opendir", xen9p_opendir(fs, directory, &dir, NULL), 0);
    while (expect("readdir", xen9p_readdir(dir, &entry, NULL), 0) && !(each && each(entry.name)))
        count++;
    close(dir);
    return count;
}

/* --- With dom0, which answers a mark by a file: how long the domain runs by then is a part of its name --- */

static uint64_t since_start;

static int is_answer(const char *file)
{
    if (file[0] != '0' || file[1] != '-')
        return 0;
    for (file += 2, since_start = 0; *file >= '0' && *file <= '9'; file++)
        since_start = since_start * 10 + (uint64_t)(*file - '0');
    return 1;
}

static void first_byte(const char *control, const char *files)
{
    xen9p_handle file = open(name(path, files, "/small/f", 0), XEN9P_READ);
    expect("read", xen9p_read(file, buffer, 1, 0, NULL), 1);
    close(file);
    close(open(name(path, control, "/mark-", 0), XEN9P_WRITE | XEN9P_CREATE));
    while (!since_start)
        entries(control, is_answer);
    note("first-byte", 1, since_start);
}

static const char *word(const char *line, char *into, size_t size)
{
    while (*line == ' ')
        line++;
    while (*line && *line != ' ' && size-- > 1)
        *into++ = *line++;
    *into = 0;
    return line;
}

void bench(const struct xen9p_platform *platform, const char *line)
{
    /* As many as the image has in the domain that this is measured in. */
    struct xen9p_mount_options options = { .size = sizeof options, .rings = 4, .order = 9 };
    char control[64], files[64], out[64], scale[16];
    int64_t part = 0;

    line = word(line, scale, sizeof scale);
    word(word(word(word(line, control, sizeof control), files, sizeof files), out, sizeof out), scale, sizeof scale);
    for (const char *digit = scale; *digit >= '0' && *digit <= '9'; digit++)
        part = part * 10 + (*digit - '0');
    expect("SCALE", part, 1);
    int64_t count = PER_SCALE / part < 10 ? 10 : PER_SCALE / part;

    expect("init", xen9p_init(platform), 0);
    expect("mount", xen9p_mount(NULL, &options, &fs, NULL), 0);
    note("mounted", 1, now(NULL) - kernel_started);
    first_byte(control, files);
    fill(CALL);
    begin();
    write_file(name(path, out, "/written", -1), CALL, BIG);
    end("seq-write", BIG >> 20);
    begin();
    read_file(name(path, files, "/big", -1), CALL, BIG);
    end("seq-read", BIG >> 20);
    fill(PAGE);
    begin();
    write_file(name(path, out, "/written-4k", -1), PAGE, IN_PAGES);
    end("seq-write-4k", IN_PAGES >> 20);
    begin();
    read_file(name(path, files, "/pages", -1), PAGE, IN_PAGES);
    end("seq-read-4k", IN_PAGES >> 20);
    read_anywhere(name(path, files, "/big", -1));
    small_files(files, out, count);
    begin();
    int64_t listed = entries(name(path, files, "/many", -1), NULL);
    end("names", listed);
    close(open(name(path, control, "/mark-end", -1), XEN9P_WRITE | XEN9P_CREATE));
    print_rows();
    close(fs);
    expect("exit", xen9p_exit(), 0);
}
