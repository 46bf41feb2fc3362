/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * xen9p for kernels written in C: files of the host over Xen's 9pfs device.
 * Made from the Rust crate xen9p-capi by cbindgen; change that instead.
 *
 * In short, without the error checks:
 *
 *     static const struct xen9p_platform platform = {
 *         .size = sizeof platform, .version = XEN9P_VERSION, .alloc = my_alloc, .free = my_free, ...
 *     };
 *     static char text[4096];
 *     xen9p_handle fs, file, op;
 *
 *     xen9p_init(&platform);
 *     xen9p_mount(NULL, NULL, &fs);                            // the first 9pfs device, as it likes
 *     xen9p_open(fs, "/hello.txt", XEN9P_READ, 0, &file);
 *     int64_t count = xen9p_read(file, text, sizeof text, 0);  // blocks; or, without blocking:
 *     xen9p_read_start(file, text, sizeof text, 0, &op);
 *     while ((count = xen9p_poll(op)) == -XEN9P_EINPROGRESS)
 *         do_something_else();
 *     xen9p_close(file);
 *     xen9p_close(fs);
 *
 * Results: 0 or more is success, less is a negative Linux error number. A null pointer is -EFAULT (14), a handle that
 * is closed or of the wrong kind -EBADF (9), a call from within a callback -EBUSY (16), any
 * call before xen9p_init() -ENXIO (6); xen9p_last_error() tells the
 * rest for people. All calls come from one thread, none from an interrupt handler. Handles are numbers: 0 is none.
 *
 * Memory comes from the callbacks alone, and goes back to them, but for a reserve of 64 KiB that is kept for calls which
 * find none: these return -ENOMEM (12), and what is open stays so. Calls block in the callback `wait` alone, each for a
 * bounded time (20 s unless the options say otherwise). Link with --gc-sections; the kernel brings memcpy, memmove,
 * memset, memcmp, bcmp and strlen, as any freestanding C compiler asks for.
 */

#ifndef XEN9P_H
#define XEN9P_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Open for reading.
#define XEN9P_READ 1

// Open for writing.
#define XEN9P_WRITE 2

// Each write goes to the end of the file.
#define XEN9P_APPEND 4

// Make the file if it is not there.
#define XEN9P_CREATE 8

// Make the file; -EEXIST if it is there.
#define XEN9P_EXCLUSIVE 16

// Empty the file.
#define XEN9P_TRUNCATE 32

// What xen9p_poll() returns, negated, while an operation is not over.
#define XEN9P_EINPROGRESS 115

// The version of this header: major, minor and patch number in the bits from 16, 8 and 0 on. Header and library fit as
// long as major and minor number are the same.
#define XEN9P_VERSION 256

// Something open: a mount, a file, a directory or an operation. 0 is never one.
typedef uint32_t xen9p_handle;

// What is known of a file.
struct xen9p_stat {
  // Size in bytes.
  uint64_t size;
  // The number that identifies it on its server.
  uint64_t ino;
  // Seconds since 1970 of the last change of its content.
  int64_t modified;
  // And nanoseconds.
  uint32_t modified_nanos;
  // Kind and permissions, as in Linux's st_mode.
  uint32_t mode;
  // Number of names.
  uint32_t links;
  // Its owner.
  uint32_t uid;
  // Its group.
  uint32_t gid;
};

// An entry of a directory.
struct xen9p_dirent {
  // The number that identifies the file on its server.
  uint64_t ino;
  // What it is, as the bits of st_mode for the kind (0040000 a directory, 0100000 a file); 0: ask for its attributes.
  uint32_t kind;
  // Length of the name in bytes.
  uint32_t length;
  // The name, with a final NUL.
  char name[256];
};

// A ring that Xen's domain builder made: its page, mapped for good, and its event channel.
struct xen9p_ring {
  // The page; NULL if the domain has no such ring.
  void *page;
  // The port.
  uint32_t port;
};

// What the kernel provides. The library copies it. Each callback gets `context` as its first argument; none may be
// NULL. No callback but `wait` may block, and none may call the library.
struct xen9p_platform {
  // sizeof (struct xen9p_platform).
  size_t size;
  // XEN9P_VERSION.
  uint32_t version;
  // Handed to each callback.
  void *context;
  // Memory of a size above 0, aligned to a power of two; NULL when there is none.
  void *(*alloc)(void*, size_t size, size_t align);
  // Takes memory of `alloc` back; size and alignment are those that were asked for.
  void (*free)(void*, void *memory, size_t size, size_t align);
  // `count` zeroed pages of 4096 bytes, next to each other, page-aligned, mapped read-write; NULL when there are none.
  void *(*alloc_pages)(void*, size_t count);
  // Takes pages of `alloc_pages` back; the count is that which was asked for.
  void (*free_pages)(void*, void *first, size_t count);
  // The frame behind a page of `alloc_pages`: the MFN in a PV domain, else the GFN.
  uint64_t (*frame)(void*, const void *page);
  // Makes a hypercall with five arguments and returns Xen's answer; see xen9p_hypercall().
  ptrdiff_t (*hypercall)(void*, uint32_t number, const size_t *args);
  // Frame `index` of the domain's grant table, version 1, mapped read-write for good; the same address each time.
  // NULL when the table can't become that large.
  void *(*grant_frame)(void*, uint32_t index);
  // Nanoseconds of the monotonic clock.
  uint64_t (*now)(void*);
  // Whether the port fired since this was asked the last time; forgets that it did.
  bool (*take_pending)(void*, uint32_t port);
  // Blocks until one of the ports fired and was not taken, or the clock shows `deadline`. May return early.
  void (*wait)(void*, const uint32_t *ports, size_t count, uint64_t deadline);
  // Told when the library can't go on because of a bug; does not return.
  void (*panic)(void*, const char *message, size_t length);
  // Xenstore's ring.
  struct xen9p_ring xenstore;
};

// What a mount may be told. All zero but `size` is a good choice.
struct xen9p_mount_options {
  // sizeof (struct xen9p_mount_options).
  size_t size;
  // The largest 9P message to ask for, in bytes; 0: what the rings allow.
  uint32_t msize;
  // How many seconds each step of connecting, and each answer, may take; 0: 20.
  uint32_t timeout;
  // How much memory the domain has, in bytes, by which the rings are sized; 0: 16 MiB.
  size_t memory;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The text of the last call that failed, for people: what was tried, what was found, what to do. Copied with a final
// NUL as far as it fits; returns its whole length.
//
// # Safety
// `into` is NULL or has room for `size` bytes.
size_t xen9p_last_error(char *into,
                        size_t size);

// The text of an error number, negative or not: "No such file or directory". Copied as by xen9p_last_error().
//
// # Safety
// `into` is NULL or has room for `size` bytes.
size_t xen9p_describe(int32_t error, char *into, size_t size);

// Opens a file by its path from the mount's root; `flags` are XEN9P_READ and so on, `mode` the permissions of a new one.
//
// # Safety
// Pointers are NULL or valid; `path` ends with a NUL.
int32_t xen9p_open(xen9p_handle fs,
                   const char *path,
                   uint32_t flags,
                   uint32_t mode,
                   xen9p_handle *file);

// Reads at an offset; returns how many bytes, 0 at the end of the file.
//
// # Safety
// `into` is NULL or valid for `size` bytes.
int64_t xen9p_read(xen9p_handle handle, void *into, size_t size, uint64_t offset);

// Writes at an offset, or at the end if the file was opened so; returns how many bytes, which may be fewer.
//
// # Safety
// `from` is NULL or valid for `size` bytes.
int64_t xen9p_write(xen9p_handle handle, const void *from, size_t size, uint64_t offset);

// Returns when content and attributes are as safe as the server can make them.
int32_t xen9p_sync(xen9p_handle handle);

// Cuts or extends a file that is open for writing.
int32_t xen9p_truncate(xen9p_handle handle, uint64_t size);

// The attributes of what a path leads to.
//
// # Safety
// Pointers are NULL or valid; `path` ends with a NUL.
int32_t xen9p_stat(xen9p_handle fs, const char *path, struct xen9p_stat *into);

// The attributes of an open file.
//
// # Safety
// `into` is NULL or valid.
int32_t xen9p_fstat(xen9p_handle handle, struct xen9p_stat *into);

// Opens a directory to be listed.
//
// # Safety
// Pointers are NULL or valid; `path` ends with a NUL.
int32_t xen9p_opendir(xen9p_handle fs, const char *path, xen9p_handle *dir);

// The next entry of a directory, without "." and "..": 1, or 0 when there is none left.
//
// # Safety
// `into` is NULL or valid.
int32_t xen9p_readdir(xen9p_handle dir, struct xen9p_dirent *into);

// Makes an empty directory.
//
// # Safety
// `path` is NULL or ends with a NUL.
int32_t xen9p_mkdir(xen9p_handle fs, const char *path, uint32_t mode);

// Removes a file, or a symbolic link itself.
//
// # Safety
// `path` is NULL or ends with a NUL.
int32_t xen9p_unlink(xen9p_handle fs, const char *path);

// Removes an empty directory.
//
// # Safety
// `path` is NULL or ends with a NUL.
int32_t xen9p_rmdir(xen9p_handle fs, const char *path);

// Renames, replacing a file of the new name.
//
// # Safety
// Both are NULL or end with a NUL.
int32_t xen9p_rename(xen9p_handle fs, const char *from, const char *to);

// Closes a mount, a file, a directory, or gives an operation up; the handle is closed whatever this returns. A mount
// stays connected until the last of its files is closed.
int32_t xen9p_close(xen9p_handle handle);

// As xen9p_read(), without blocking: xen9p_poll() tells the result. The buffer is the library's until then.
//
// # Safety
// Pointers are NULL or valid; `into` until the operation is over or closed.
int32_t xen9p_read_start(xen9p_handle handle, void *into, size_t size, uint64_t offset, xen9p_handle *op);

// As xen9p_write(), without blocking.
//
// # Safety
// As xen9p_read_start().
int32_t xen9p_write_start(xen9p_handle handle,
                          const void *from,
                          size_t size,
                          uint64_t offset,
                          xen9p_handle *op);

// Moves everything on that can be, without blocking, and asks about an operation: its result, which closes the handle,
// or -XEN9P_EINPROGRESS. Call it when an event came, or whenever there is time; xen9p_close() gives the operation up.
int64_t xen9p_poll(xen9p_handle op);

// Blocks until something may have happened on a mount's connection, or the clock shows `deadline`: what to do between
// calls of xen9p_poll() when there is nothing else.
int32_t xen9p_wait(xen9p_handle fs,
                   uint64_t deadline);

// Makes a hypercall with five arguments by the processor's instruction: for the callback `hypercall`. `pv` says whether
// the domain is a PV one.
//
// # Safety
// The code runs in such a domain, and the arguments are valid for the call.
ptrdiff_t xen9p_hypercall(bool pv,
                          uint32_t number,
                          const size_t *args);

// Says what the kernel provides: the first call, and made once. Connects to nothing yet.
//
// -EINVAL: a callback is missing, or `size` is that of no version. -EPROTONOSUPPORT (93): the kernel was compiled with
// the header of another version, which does not fit this library. -EEXIST: this was done already.
//
// # Safety
// `platform` is NULL or points to a platform whose callbacks do what is said there, for ever.
int32_t xen9p_init(const struct xen9p_platform *platform);

// Checks that the callbacks keep their promises, as far as that shows from inside the domain; before the first
// xen9p_mount(). `tell` gets each violation as a text with a final NUL, and may be NULL. Returns how many there are.
//
// # Safety
// `tell` may be called with `context` until this returns.
int32_t xen9p_check_platform(void (*tell)(void*, const char *violation),
                             void *context);

// Connects to the 9pfs device with this tag (NULL: the first) and mounts its tree. Blocks, no longer than `timeout` at
// each step. `options` may be NULL.
//
// -ENODEV: there is no such device. -ETIMEDOUT: its backend does not answer.
//
// # Safety
// Pointers are NULL or valid; `tag` ends with a NUL.
int32_t xen9p_mount(const char *tag,
                    const struct xen9p_mount_options *options,
                    xen9p_handle *fs);

// The version of the library that was linked, as XEN9P_VERSION. May be called at any time.
uint32_t xen9p_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* XEN9P_H */
