/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * xen9p for kernels written in C: files of the host over Xen's 9pfs device. Plain C89 with <stddef.h> and <stdint.h>.
 * Made from the Rust crate xen9p-capi by cbindgen; change that instead. docs/embedding.md has the way step by step.
 *
 * In short, without the error checks:
 *
 *     static struct xen9p_platform platform;
 *     static char text[4096];
 *     xen9p_handle fs, file, op;
 *     int64_t count;
 *
 *     platform.size = sizeof platform;
 *     platform.version = XEN9P_VERSION;
 *     platform.alloc = my_alloc;                                       (and so on)
 *     xen9p_init(&platform);
 *     xen9p_mount(NULL, NULL, &fs, NULL);                              the first 9pfs device, as it likes
 *     xen9p_open(fs, "/hello.txt", XEN9P_READ, 0, &file, NULL);
 *     count = xen9p_read(file, text, sizeof text, 0, NULL);            waits; or, without waiting:
 *     xen9p_read(file, text, sizeof text, 0, &op);
 *     while ((count = xen9p_poll(op)) == -XEN9P_EINPROGRESS)
 *         xen9p_wait(fs, XEN9P_FOREVER);                               or anything else that there is to do
 *     xen9p_close(file, NULL);
 *     xen9p_exit();
 *
 * Results    0 or more is success, less is a negative Linux error number; xen9p_last_error() tells the rest for people. A
 *            null pointer is -EFAULT (14), a handle that is closed or of the wrong kind -EBADF (9), any call before
 *            xen9p_init() and after xen9p_exit() -ENXIO (6). A call from within a callback is -EBUSY (16), and so is one of a
 *            second thread where there is no `lock`; these two have no text, and change nothing. With `lock`, a call from
 *            within a callback that holds the lock asks for it a second time.
 *
 * op         NULL as the last argument: the call waits for its end. Otherwise it is started, and 0 means that `*op` is the
 *            handle of an operation: xen9p_poll() tells the result, xen9p_wait() waits, xen9p_close() gives it up. What
 *            pointers point to, paths as well, is the library's until then; structs with a `size` are copied at once. A
 *            handle is written before the operation is over: one that is given up may have opened it already.
 *
 *            There is no `op` where a call waits for nothing (xen9p_seekdir()), or for xenstore and no other domain
 *            (xen9p_serve(), xen9p_tag(), xen9p_check_platform()); nor in xen9p_exit() and xen9p_suspend(), which block for a
 *            bounded time: no other call may be made until they are over. Exit gives operations up; after a suspend they go
 *            on, or fail with their mount.
 *
 * at, path   The handle of a mount and a path from its root, whose symbolic links are followed; or the handle of a node
 *            (xen9p_lookup()) and one name in it, or NULL for the node itself; some calls take an open file and NULL. A
 *            name in a node has 1 to 255 bytes and no "/"; "." and ".." are none: -EINVAL (22). A kernel's vfs knows where
 *            ".." leads. In a path they are resolved by text alone, and ".." of the root is the root.
 *
 * handle     65535 are open at a time at most, of all kinds together: one more is -EMFILE (24). A server may have fewer
 *            places: -EMFILE and -ENFILE (23) come from there, too. The number of a closed one is another's after 65535 uses
 *            of its place, and not before.
 *
 * struct     Where the first field is `size`, it is set to the sizeof, so that a later version can tell. What is not set
 *            otherwise is 0.
 *
 * Threads    With the callbacks `lock`, `unlock` and `wake` any thread calls when it likes, as one call waits others go on.
 *            Without them calls come one at a time. Never from an interrupt handler.
 *
 * Time       A call waits in `wait` and the callbacks for xenstore alone, for a bounded time: each answer of a server for 20 s
 *            unless the options say otherwise, and one of xenstore for 5 s. What is late is noticed within a second.
 *
 * Memory     From the callbacks alone, and back to them, but for a reserve of 64 KiB that is kept until xen9p_exit() for
 *            calls that find none: these return -ENOMEM (12), and what is open stays so. Heap: at most 370 KB seen, with the
 *            largest rings 640 KB; rings are pages of `alloc_pages`. Stack: 12 KiB are enough.
 *
 * Processor  As it is built by `make capi`: no xmm register and nothing below the stack pointer is used, so that interrupt
 *            handlers may run on the stack and save what they use.
 *
 * Linking    One object, target/capi-dist/lib/xen9p.o: nothing is undefined in it, memcpy and its like are its own, and nothing
 *            but xen9p_... is defined for others. It links by ld -r, with --gc-sections or without, and into ELF32. Made by
 *            make capi FEATURES=vchan it can mount what other domains serve, and serve (xen9p_mount(), xen9p_serve()), takes
 *            230 KB more, and is in target/capi-dist-vchan; the header is the same. FEATURES=cache is for mounts with a
 *            `cache`: 57 KB more, in target/capi-dist-cache.
 */

#ifndef XEN9P_H
#define XEN9P_H

#include <stddef.h>
#include <stdint.h>

/* A deadline that never comes, for xen9p_wait() and the callback `wait`. */
#define XEN9P_FOREVER ((uint64_t)-1)

/* Of xen9p_stat(): the attributes of a symbolic link itself. */
#define XEN9P_NOFOLLOW 1

/* `mode` counts. */
#define XEN9P_SET_MODE 1

/* `uid` counts. */
#define XEN9P_SET_UID 2

/* `gid` counts. */
#define XEN9P_SET_GID 4

/* `length` counts. */
#define XEN9P_SET_LENGTH 8

/* `accessed` counts. */
#define XEN9P_SET_ACCESSED 16

/* `modified` counts. */
#define XEN9P_SET_MODIFIED 32

/* The time of the last read is the server's present time. */
#define XEN9P_SET_ACCESSED_NOW 64

/* The time of the last change is the server's present time. */
#define XEN9P_SET_MODIFIED_NOW 128

/* Open for reading. */
#define XEN9P_READ 1

/* Open for writing. */
#define XEN9P_WRITE 2

/* Each write goes to the end of the file. */
#define XEN9P_APPEND 4

/* Make the file if it is not there. */
#define XEN9P_CREATE 8

/* Make the file; -EEXIST if it is there. */
#define XEN9P_EXCLUSIVE 16

/* Empty the file. */
#define XEN9P_TRUNCATE 32

/* A lock that others may hold as well. */
#define XEN9P_LOCK_SHARED 0

/* A lock of one holder. */
#define XEN9P_LOCK_EXCLUSIVE 1

/* Gives a lock back. */
#define XEN9P_LOCK_NONE 2

/* What xen9p_poll() returns, negated, while an operation is not over. */
#define XEN9P_EINPROGRESS 115

/* Nothing: an access faults. */
#define XEN9P_WINDOW_EMPTY 0

/* The page that Xen has mapped at its `window_address`. */
#define XEN9P_WINDOW_FOREIGN 1

/* A page of this domain's own, in the place of one that was lost: mapped read-write. */
#define XEN9P_WINDOW_OWN 2

/* The version of this header: major, minor and patch number in the bits from 16, 8 and 0 on. Header and library fit as
 * long as major and minor number are the same. */
#define XEN9P_VERSION 256

/* Something open: a mount, a node, a file, a directory or an operation. 0 is never one. */
typedef uint32_t xen9p_handle;

/* A point in time: seconds since 1970, and nanoseconds. */
struct xen9p_time {
  /* Seconds since 1970. */
  int64_t seconds;
  /* And nanoseconds. */
  uint32_t nanos;
  /* 0. */
  uint32_t reserved;
};

/* What is known of a file. */
struct xen9p_stat {
  /* Size in bytes. */
  uint64_t size;
  /* The number that identifies it on its server. */
  uint64_t ino;
  /* How much it takes there, in blocks of 512 bytes. */
  uint64_t blocks;
  /* The size of reads and writes that suits it, in bytes. */
  uint64_t block_size;
  /* The device that it is, if it is one, as in Linux's st_rdev. */
  uint64_t rdev;
  /* Number of names. */
  uint64_t links;
  /* Last read. */
  struct xen9p_time accessed;
  /* Last change of the content. */
  struct xen9p_time modified;
  /* Last change of the attributes; 0 if the server does not tell. */
  struct xen9p_time changed;
  /* When it was made; 0 if the server does not tell. */
  struct xen9p_time created;
  /* Kind and permissions, as in Linux's st_mode. */
  uint32_t mode;
  /* Its owner. */
  uint32_t uid;
  /* Its group. */
  uint32_t gid;
  /* Another number after each change of the content, where the server has one; 0: it has none. */
  uint32_t version;
};

/* Attributes to be changed: chmod, chown, utimes and truncate in one. */
struct xen9p_setattr {
  /* sizeof (struct xen9p_setattr). */
  size_t size;
  /* What counts: XEN9P_SET_MODE and so on. */
  uint32_t valid;
  /* Permissions. */
  uint32_t mode;
  /* Owner. */
  uint32_t uid;
  /* Group. */
  uint32_t gid;
  /* Size of the file in bytes: it is cut, or extended by zeroes. */
  uint64_t length;
  /* Last read. */
  struct xen9p_time accessed;
  /* Last change of the content. */
  struct xen9p_time modified;
};

/* How full a file system is. */
struct xen9p_statfs {
  /* Blocks in all. */
  uint64_t blocks;
  /* Blocks that are free. */
  uint64_t blocks_free;
  /* Blocks that are free for others than root. */
  uint64_t blocks_available;
  /* Files there can be. */
  uint64_t files;
  /* Files that can still be made. */
  uint64_t files_free;
  /* Identifies the file system. */
  uint64_t id;
  /* Bytes in a block. */
  uint32_t block_size;
  /* Longest name, in bytes. */
  uint32_t name_max;
  /* Linux's magic number of the kind of file system; 0 if the server does not tell. */
  uint32_t kind;
  /* 0. */
  uint32_t reserved;
};

/* An entry of a directory. */
struct xen9p_dirent {
  /* The number that identifies the file on its server. */
  uint64_t ino;
  /* Where the listing goes on behind this entry, for xen9p_seekdir(). */
  uint64_t cookie;
  /* What it is, as the bits of st_mode for the kind (0040000 a directory, 0100000 a file); 0: ask for its attributes. */
  uint32_t kind;
  /* Length of the name in bytes. */
  uint32_t length;
  /* The name, with a final NUL. */
  char name[256];
};

/* What a mount may be told. All zero but `size` is a good choice. */
struct xen9p_mount_options {
  /* sizeof (struct xen9p_mount_options). */
  size_t size;
  /* The largest 9P message to ask for, in bytes; 0: what the rings allow. */
  uint32_t msize;
  /* How many seconds each step of connecting, and each answer of the server, may take; 0: 20. */
  uint32_t timeout;
  /* The number of rings; 0: up to 4, as many as pay in the kernel's memory. 1 connects fastest. */
  uint32_t rings;
  /* The size of each ring: 4096 << `order` bytes, `order` from 2 to 9; 0: the largest of which two fit in an eighth of
   * the kernel's memory. */
  uint32_t order;
  /* For how many seconds a lost backend is looked for, so that files stay open and requests go on; 0: a lost connection
   * ends the mount and all that is open on it. While it is looked for, calls on this mount block. */
  uint32_t recovery;
  /* Not 0: the last xen9p_close() disconnects the device. For backends that can be connected again, which QEMU before
   * version 10 can't: it ends, and with it every share of the domain. */
  uint32_t disconnect;
  /* How many bytes at most are read ahead of a program that reads a file from front to back in pieces of no more than half
   * as many; each file that is read so holds as many. 0: 4 MiB, or a 64th of the kernel's memory if that is less.
   * Below 8192: none, and each xen9p_read() gets what the server has at that moment. */
  uint32_t read_ahead;
  /* How many bytes at most of what was read are kept for those who ask again: data, listings, attributes, what links say.
   * What others change is then seen close to open, as over NFS: who opens a file sees what was written and closed by then;
   * attributes are believed for a second. Changes go to the server at once. Memory that `alloc` refuses to the library is
   * taken from there. 0: nothing is kept. -EOPNOTSUPP (95) unless the object is made by make capi FEATURES=cache. */
  uint32_t cache;
};

/* A ring that Xen's domain builder made: its page, mapped for good, and its event channel. */
struct xen9p_ring {
  /* The page; NULL if the domain has no such ring. */
  void *page;
  /* The port. */
  uint32_t port;
};

/* What the kernel provides. The library copies it. Each callback gets `context` as its first argument. Those of the first
 * group are needed; of the others NULL is what a kernel leaves out. No callback may call the library, but where that is
 * said, and only `wait`, `store_request`, `store_watch` and `store_unwatch` may block. The library gives `lock` up around the
 * three for xenstore; `wait` gives it up itself. */
struct xen9p_platform {
  /* sizeof (struct xen9p_platform). */
  size_t size;
  /* XEN9P_VERSION. */
  uint32_t version;
  /* Handed to each callback. */
  void *context;
  /* How much memory the kernel has, in bytes: an eighth of it goes into the rings of a mount. 0: 16 MiB, with which reads
   * are about half as fast as with 64. */
  size_t memory;
  /* Memory of a size above 0, aligned to a power of two; NULL when there is none. */
  void *(*alloc)(void*, size_t size, size_t align);
  /* Takes memory of `alloc` back; size and alignment are those that were asked for. */
  void (*free)(void*, void *memory, size_t size, size_t align);
  /* `count` zeroed pages of 4096 bytes, next to each other, page-aligned, mapped read-write; NULL when there are none,
   * however large `count` is: xen9p_check_platform() asks for 2^40. */
  void *(*alloc_pages)(void*, size_t count);
  /* Takes pages of `alloc_pages` back; the count is that which was asked for. */
  void (*free_pages)(void*, void *first, size_t count);
  /* The frame behind a page of `alloc_pages`: the MFN in a PV domain, else the GFN. */
  uint64_t (*frame)(void*, const void *page);
  /* Makes a hypercall with five arguments and returns Xen's answer; see xen9p_hypercall(). */
  ptrdiff_t (*hypercall)(void*, uint32_t number, const size_t *args);
  /* Nanoseconds of the monotonic clock, from any moment on; it never goes back, by a suspend neither. */
  uint64_t (*now)(void*);
  /* Not 0 if the port fired since this was asked the last time; forgets that it did. An interrupt that comes in the middle of
   * this must not be forgotten with it. Asked of ports that `port_opened` told of,
   * and of that in `xenstore`. */
  int (*take_pending)(void*, uint32_t port);
  /* Blocks until one of the ports fired and was not taken, or the clock shows `deadline`; XEN9P_FOREVER never comes, and
   * where the kernel's clock is a signed one, what is above its largest number does not either. May return early.
   * `count` may be 0: a plain sleep. `deadline` may be past, 0 as well: it looks, and does not sleep. Where there is no `wake`,
   * a thread that calls xen9p_watch_fired() ends the sleep, too.
   *
   * With `lock`, this is called with the lock held, gives it up while it sleeps, and has it again when it returns, as a
   * wait on a condition variable does: what fires, and a call of `wake`, after the lock was given up ends it.
   * xen9p_watch_fired() may be called from in here; with `lock`, which it takes, where the lock is given up. */
  void (*wait)(void*, const uint32_t *ports, size_t count, uint64_t deadline);
  /* Told when the library can't go on because of a bug, of its own or in a callback; does not return. `message` has `length` bytes and no NUL. */
  void (*panic)(void*, const char *message, size_t length);
  /* The grant table, in one of two ways. This is the first: frame `index` of the domain's table, version 1, mapped
   * read-write for good; the same address each time; NULL when the table can't become that large. The references from
   * `first_grant` on, `grants` of them, are then the library's alone, whatever their entries say; it uses those from 8 on
   * that are free when it first sees them. `grants` 0: all behind `first_grant`. */
  void *(*grant_frame)(void*, uint32_t index);
  /* See `grant_frame`. */
  uint32_t first_grant;
  /* See `grant_frame`. */
  uint32_t grants;
  /* The second way, for kernels that have an allocator of references: lets a domain map a frame for reading and writing,
   * and returns the reference, or a negative number when there is none. */
  int64_t (*grant)(void*, uint32_t domain, uint64_t frame);
  /* Ends a grant and takes the reference back: not 0, unless the other domain has the frame mapped; it is asked again
   * later then. */
  int (*end_grant)(void*, uint32_t reference);
  /* Xenstore, in one of two ways. This is the first: the ring, which is the library's alone from the first call on that
   * asks xenstore (xen9p_check_platform(), xen9p_tag(), xen9p_mount(), xen9p_serve()), with no request of the kernel's under
   * way. All watches of the domain are dropped then. The library owns the page; the kernel notes the port's events. */
  struct xen9p_ring xenstore;
  /* The second way, for kernels with a connection of their own: makes a request of type XS_... (io/xs_wire.h) in a
   * transaction, with the payload of the wire, and copies the payload of the answer, at most 4096 bytes, to `answer`.
   * Returns its length; or a negative error number, for XS_ERROR that of xen9p_store_error(). May block, for a bounded
   * time, without the lock. */
  int64_t (*store_request)(void*,
                           uint32_t kind,
                           uint32_t transaction,
                           const void *payload,
                           size_t length,
                           void *answer);
  /* Has xenstore watch a path under a token; 0, or a negative error number. When it fires the kernel calls
   * xen9p_watch_fired(), the first time at once. As `store_request`, it may block. Both strings are the library's; what is
   * needed longer is copied. */
  int (*store_watch)(void*, const char *path, const char *token);
  /* Ends a watch. */
  void (*store_unwatch)(void*, const char *path, const char *token);
  /* Told of a port that the library opened, before anything can fire there: a kernel with a dispatcher binds a handler
   * that notes the event for `take_pending` and ends `wait`, and unmasks the port. Where `wait` polls (SCHEDOP_poll),
   * ports stay masked, and this is NULL. Not told of the port in `xenstore`, which was open before. */
  void (*port_opened)(void*, uint32_t port);
  /* Told of a port that the library closes next: its number may be another's then. Must not close it itself. */
  void (*port_closed)(void*, uint32_t port);
  /* For kernels with threads that call the library at the same time: takes a lock, which is held during each call, but
   * while `wait` sleeps and the three callbacks for xenstore work. A callback that calls the library all the same takes it a second
   * time. All three, or none: then all calls are to come one at a time, from any thread, and one that comes while another is
   * under way is -EBUSY. */
  void (*lock)(void*);
  /* Gives the lock back. */
  void (*unlock)(void*);
  /* Has every `wait` return that sleeps now, and none that begins later. Called with the lock held; does not block. */
  void (*wake)(void*);
  /* To map pages of other domains, which xen9p_mount() of a vchan does and nothing else; all four, or none. This is a
   * window: page-aligned addresses for `count` pages next to each other, at which nothing is; NULL when there are none. */
  void *(*alloc_window)(void*, size_t count);
  /* Takes a window back, all of it XEN9P_WINDOW_EMPTY; the count is that which was asked for. */
  void (*free_window)(void*, void *first, size_t count);
  /* Where Xen is told to map a page that shows there: in a PV domain that address itself, with page tables down
   * to the last level; else the guest physical address of a frame without memory, which is for this page alone. */
  uint64_t (*window_address)(void*, const void *page);
  /* Sets what is at a page of a window: XEN9P_WINDOW_EMPTY and so on; `own` is a frame as `frame` gives it. In a PV domain
   * Xen shows and hides foreign pages itself: there is something to do for XEN9P_WINDOW_OWN alone, and for
   * XEN9P_WINDOW_EMPTY after that. */
  void (*set_window)(void*, void *page, uint32_t what, uint64_t own);
};

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/* The attributes of what a path leads to; with NULL as the path those of the node, or of the open file. `flags`: 0 or
 * XEN9P_NOFOLLOW; names in nodes are never followed. */
int32_t xen9p_stat(xen9p_handle at,
                   const char *path,
                   uint32_t flags,
                   struct xen9p_stat *into,
                   xen9p_handle *op);

/* Changes attributes of what a path leads to; with NULL as the path those of the node, or of the open file. The
 * length first, then all else at once. */
int32_t xen9p_setattr(xen9p_handle at,
                      const char *path,
                      const struct xen9p_setattr *change,
                      xen9p_handle *op);

/* How full the file system is that a path leads to. */
int32_t xen9p_statfs(xen9p_handle at, const char *path, struct xen9p_statfs *into, xen9p_handle *op);

/* Opens a directory to be listed; NULL as the path opens the node. */
int32_t xen9p_opendir(xen9p_handle at, const char *path, xen9p_handle *dir, xen9p_handle *op);

/* The next entry of a directory, without "." and "..": 1, or 0 when there is none left. One call at a time on a directory:
 * -EBUSY. */
int32_t xen9p_readdir(xen9p_handle handle,
                      struct xen9p_dirent *into,
                      xen9p_handle *op);

/* Has a directory go on behind the entry that has this cookie; 0: from the beginning. */
int32_t xen9p_seekdir(xen9p_handle handle, uint64_t cookie);

/* The text of the last call that failed, of any thread, for people: what was tried, what was found, what to do, as in
 * `open "/app.conf": No such file or directory (ENOENT)`; of each path the first 256 bytes at most. Copied with a final NUL
 * as far as it fits; returns its whole length. */
size_t xen9p_last_error(char *into,
                        size_t size);

/* The text of an error number, negative or not: "No such file or directory". Copied as by xen9p_last_error(). */
size_t xen9p_describe(int32_t error, char *into, size_t size);

/* Opens a file; `flags` are XEN9P_READ and so on, `mode` the permissions of a new one. NULL as the path opens the node. */
int32_t xen9p_open(xen9p_handle at,
                   const char *path,
                   uint32_t flags,
                   uint32_t mode,
                   xen9p_handle *file,
                   xen9p_handle *op);

/* Reads at an offset; returns how many bytes, 0 at the end of the file.
 *
 * Calls that read on where the one before ended are read ahead for, as `read_ahead` of the mount's options says. Bytes that
 * were read ahead are given to no call behind a change of a file by this mount, or behind xen9p_lock(): it sees all that was
 * written through any handle, or by who had the lock before. What other domains and the server's own programs change in
 * them without a lock may be missed, however long ago it was: as if this call had been made together with the one that began
 * to read ahead. */
int64_t xen9p_read(xen9p_handle handle,
                   void *into,
                   size_t size,
                   uint64_t offset,
                   xen9p_handle *op);

/* Writes at an offset, or at the end if the file was opened so; returns how many bytes, which may be fewer. */
int64_t xen9p_write(xen9p_handle handle, const void *from, size_t size, uint64_t offset, xen9p_handle *op);

/* Returns when content and attributes are as safe as the server can make them. */
int32_t xen9p_sync(xen9p_handle handle, xen9p_handle *op);

/* Locks bytes of a file against others, or gives them back: `kind` is XEN9P_LOCK_SHARED and so on, `length` 0 means to
 * the end, however far the file grows. Never waits for another holder: -EAGAIN (11). Closing the file gives its locks back.
 *
 * Others are other domains, and programs where the server runs. The kernel is one holder, like a process of Linux, whatever its
 * threads and handles: it keeps them apart itself. The server decides what a lock is worth: xen9pd's hold against all
 * others; QEMU grants each, and keeps no one out; diod locks whole files, between handles of one kernel too. -EOPNOTSUPP
 * (95): the server has no locks. */
int32_t xen9p_lock(xen9p_handle handle,
                   uint32_t kind,
                   uint64_t start,
                   uint64_t length,
                   xen9p_handle *op);

/* Closes a handle, which is closed whatever this returns: a mount, node, file or directory; of an operation, gives it up; of
 * an endpoint, serves its tree no more. A file that an operation uses is closed with the operation.
 *
 * Of a file that is open for writing, or was locked, this waits for the server, and returns what that says: on a disk that it
 * writes to later, that may be an error of a write. Of all else the server is told, and its answer is not waited for. */
int32_t xen9p_close(xen9p_handle handle,
                    xen9p_handle *op);

/* Mounts the 9pfs device with this tag (NULL: the first). One that is mounted already is mounted once more: the options of
 * the first mount hold, and each handle is closed for itself. A device that was mounted stays connected until
 * xen9p_exit(), ready for the next mount, unless the options say otherwise. `options` may be NULL.
 *
 * With the object that has vchans (make capi FEATURES=vchan) the tag may also be "vchan!DOMID!NAME", and "!TREE" behind that
 * for a server of several trees: what the domain of this number serves to this one under this name, from whatever program.
 * It is waited for up to `timeout`, and disconnected by the last xen9p_close(). It needs `alloc_window` and its like. Or
 * "#mem": a new, empty tree in memory, of up to an eighth of it, gone with all that is open on it; to be served to others.
 *
 * Waits for the backend, no longer than `timeout` at each of some five steps, and for xenstore, no longer than 5 s for each
 * answer. Where it is started, xen9p_poll() waits for xenstore alone. One that is given up takes back what it has
 * offered to the backend, and waits some seconds at most for that; QEMU before version 10 may end when the device is
 * mounted again then, as after `disconnect`.
 *
 * -ENODEV: there is no such device. -ETIMEDOUT: its backend does not answer. -EBUSY: it is being mounted already. -ENXIO: the
 * backend refuses, or the device was removed meanwhile. -EPROTO (71), -EPROTONOSUPPORT (93): what the backend offers makes no
 * sense, or is another protocol. -ENOMEM: there are too few pages or grants for the smallest rings. -EIO: xenstore does not
 * answer, or the domain was restored meanwhile. Of vchans: -EINVAL: a malformed address, or one of this domain's own.
 * -ETIMEDOUT: it is not published for this domain in time. -EOPNOTSUPP (95): an object without vchans, or a kernel without
 * windows. */
int32_t xen9p_mount(const char *tag,
                    const struct xen9p_mount_options *options,
                    xen9p_handle *fs,
                    xen9p_handle *op);

/* The tag of the 9pfs device number `index` of those that the domain has, from 0 on. Copied with a final NUL as far as it
 * fits; returns its length. -ENODEV behind the last. A device without a tag has an empty one. */
int64_t xen9p_tag(uint32_t index,
                  char *into,
                  size_t size);

/* Finds a node: a file or directory itself, whether open or not, for as long as the handle is not closed, whatever becomes
 * of its name. Symbolic links are not followed. In a mount `path` leads from the root, which is "/"; in a node it is
 * one name. */
int32_t xen9p_lookup(xen9p_handle at,
                     const char *path,
                     xen9p_handle *found,
                     xen9p_handle *op);

/* Makes an empty directory. */
int32_t xen9p_mkdir(xen9p_handle at, const char *path, uint32_t mode, xen9p_handle *op);

/* Makes a device, a pipe, a socket name or an empty file, as the kind in `mode` says. */
int32_t xen9p_mknod(xen9p_handle at,
                    const char *path,
                    uint32_t mode,
                    uint32_t major,
                    uint32_t minor,
                    xen9p_handle *op);

/* Removes a file, or a symbolic link itself. */
int32_t xen9p_unlink(xen9p_handle at, const char *path, xen9p_handle *op);

/* Removes an empty directory. */
int32_t xen9p_rmdir(xen9p_handle at, const char *path, xen9p_handle *op);

/* Renames, replacing a file of the new name. Both ends by paths, or both by names in nodes; -EXDEV (18) unless of one mount. */
int32_t xen9p_rename(xen9p_handle at,
                     const char *path,
                     xen9p_handle to,
                     const char *new_path,
                     xen9p_handle *op);

/* Gives a file one more name. The file by a path, a name in a node, or a node; the new name as xen9p_rename(). */
int32_t xen9p_link(xen9p_handle at,
                   const char *path,
                   xen9p_handle to,
                   const char *new_path,
                   xen9p_handle *op);

/* Makes a symbolic link that says `target`. */
int32_t xen9p_symlink(const char *target, xen9p_handle at, const char *path, xen9p_handle *op);

/* What a symbolic link says. Copied with a final NUL as far as it fits; returns its whole length. */
int64_t xen9p_readlink(xen9p_handle at, const char *path, char *into, size_t size, xen9p_handle *op);

/* Asks about an operation, without blocking but for xenstore, if something is mounted or served: its result, which closes the
 * handle, or -XEN9P_EINPROGRESS: it is not over, or there is no memory to find out. Moves everything else on its mount
 * on, too. Of the handle of an endpoint: 1 while another domain is connected, otherwise 0. */
int64_t xen9p_poll(xen9p_handle op);

/* Blocks until the clock of `now` shows `deadline`, or until the operation is over; of the handle of a mount: until an
 * operation on it may have got further since this was called last; of an endpoint: until something happened. Returns early
 * now and then. A loop that polls all its operations, and calls this when none is over, misses nothing.
 *
 * 0, whichever of these it was: xen9p_poll() tells, and it alone tells and ends the operation. -EBADF: the handle is that of
 * a node, file or directory, or closed. -EBUSY: another thread polls or waits for this operation. -ENOMEM: it did not wait. */
int32_t xen9p_wait(xen9p_handle handle,
                   uint64_t deadline);

/* Makes a hypercall with five arguments by the processor's instruction: for the callback `hypercall`. `pv` is not 0 in a
 * PV domain. May be called at any time. */
ptrdiff_t xen9p_hypercall(int pv,
                          uint32_t number,
                          const size_t *args);

/* Serves a tree to another domain, as a vchan with the address "vchan!DOMID!NAME": the domain of this number may connect, one
 * connection after the other. It mounts "vchan!OURS!NAME", with the number of this domain. `tree` is a mount (of a device,
 * of what another domain serves, or of "#mem") or a node in one, below which all is served; it need not stay open. `flags`:
 * XEN9P_READ, and XEN9P_WRITE if the other domain may change something. Of the object with vchans alone: make capi
 * FEATURES=vchan. It grants pages of the kernel's, and maps none of others.
 *
 * Whatever call polls, waits or is started serves meanwhile: a kernel that has nothing else to do loops over xen9p_wait() of the endpoint. xen9p_poll() tells whether the other domain is connected, or what
 * keeps this one from publishing the vchan, which is tried again each second. A domain that does not exist yet is waited for.
 * xen9p_close() ends it. After a suspend the vchan is published anew, if the number of this domain is the same: else close
 * it and serve again.
 *
 * -EINVAL: a malformed address, one of this domain's own, or unknown flags. -EBADF: no mount or node. -EADDRINUSE (98): it is
 * served already. Other errors are those of what publishes it: -ENOMEM, -EACCES, -EIO. */
int32_t xen9p_serve(const char *address,
                    xen9p_handle tree,
                    uint32_t flags,
                    xen9p_handle *endpoint);

/* Says what the kernel provides: the first call, and made once until xen9p_exit(). Connects to nothing yet. No other call
 * may be made at the same time.
 *
 * -EINVAL: a callback is missing, or `size` is that of no version. -EPROTONOSUPPORT (93): the kernel was compiled with
 * the header of another version, which does not fit this library. -EEXIST: this was done already. */
int32_t xen9p_init(const struct xen9p_platform *platform);

/* Closes everything, disconnects all devices, and gives all memory, ports, grants and watches back. Blocks, no longer than
 * some seconds for each device, and two for other domains that have pages of this one mapped. xen9p_init() may follow. Pages
 * that they do not let go of even then are never given back.
 *
 * -EBUSY: a thread is in a call; nothing is closed. */
int32_t xen9p_exit(void);

/* Checks that the callbacks keep their promises, as far as that shows from inside the domain; before the first
 * xen9p_mount(). `tell` gets each breach as a text with a final NUL, and may be NULL. Returns how many there are. */
int32_t xen9p_check_platform(void (*tell)(void*, const char *breach),
                             void *context);

/* Suspends the domain by calling `suspend`, with the lock held, and goes on when it returns. `suspend` makes the hypercall
 * (SCHEDOP_shutdown with SHUTDOWN_suspend), puts the kernel back to work, and returns 0 in a domain that was resumed
 * elsewhere, 1 if it was cancelled, or a negative number if it was not made. Where the library owns xenstore's ring,
 * `xenstore` is where it was, to be set to where it is now.
 *
 * After 0 ports, grants and frames of the table are asked for anew, and none of before is used again; watches too. Mounts
 * are lost, unless they were made with `recovery`: what is open fails with -EIO, and can be closed and mounted again. So does
 * a mount that is under way.
 *
 * Returns what `suspend` did. -EBUSY: a thread is in a call, or xenstore has not answered something; not suspended. Operations
 * that are started do not matter. Waits for xenstore before and after, no longer than some seconds. */
int32_t xen9p_suspend(int (*suspend)(void*, struct xen9p_ring *xenstore),
                      void *context);

/* Tells that a watch of `store_watch` fired, with the path that xenstore says has changed. From any thread, and from
 * within the callbacks `wait` and `store_request`; not from an interrupt handler. A watch that is gone by now is no error.
 *
 * 0, or a negative error number. -EINVAL: the token is none of the library's; where all watches come from one queue, that is
 * no fault. -ENXIO: before xen9p_init() or after xen9p_exit(). -EBUSY, without `lock`: another thread is in a call and in no
 * callback that blocks; the watch is not noted, and is told again later. */
int xen9p_watch_fired(const char *path,
                      const char *token);

/* The negative error number for what xenstore calls an error in the answer XS_ERROR, such as "ENOENT": for
 * `store_request`. May be called at any time. */
int xen9p_store_error(const char *name);

/* The version of the library that was linked, as XEN9P_VERSION. May be called at any time. */
uint32_t xen9p_version(void);

/* The value of an extended attribute; with NULL as `name` the names of all, each with a final NUL. Returns how many bytes;
 * nothing is copied where `size` is 0. -ERANGE (34): there are more than `size`. */
int64_t xen9p_getxattr(xen9p_handle at,
                       const char *path,
                       const char *name,
                       void *into,
                       size_t size,
                       xen9p_handle *op);

/* Sets an extended attribute; NULL as the value removes it. An empty value can't be set: -EINVAL. */
int32_t xen9p_setxattr(xen9p_handle at,
                       const char *path,
                       const char *name,
                       const void *value,
                       size_t size,
                       xen9p_handle *op);

#ifdef __cplusplus
} /* extern "C" */
#endif /* __cplusplus */

#endif  /* XEN9P_H */
