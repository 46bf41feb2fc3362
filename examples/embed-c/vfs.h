/* A vfs as unikernels have them: nodes with operations, and names only as parts of paths. */
#ifndef VFS_H
#define VFS_H

#include <stddef.h>
#include <stdint.h>

struct vnode;

struct vattr {
    uint64_t size, ino;
    uint32_t mode, uid, gid;
    int64_t modified;
};

struct vnode_ops {
    int (*lookup)(struct vnode *dir, const char *name, struct vnode **found);
    int (*open)(struct vnode *node, int for_writing);
    int (*close)(struct vnode *node);
    int64_t (*read)(struct vnode *node, void *into, size_t size, uint64_t offset);
    int64_t (*write)(struct vnode *node, const void *from, size_t size, uint64_t offset);
    int (*readdir)(struct vnode *dir, uint64_t *position, char *name, size_t size);
    int (*getattr)(struct vnode *node, struct vattr *attr);
    int (*setattr)(struct vnode *node, const struct vattr *attr);
    int (*create)(struct vnode *dir, const char *name, uint32_t mode);
    int (*mkdir)(struct vnode *dir, const char *name, uint32_t mode);
    int (*symlink)(struct vnode *dir, const char *name, const char *target);
    int64_t (*readlink)(struct vnode *node, char *into, size_t size);
    int (*remove)(struct vnode *dir, const char *name, int is_dir);
    int (*rename)(struct vnode *dir, const char *name, struct vnode *to, const char *new_name);
    void (*inactive)(struct vnode *node); /* the last reference is gone */
};

/* The vfs counts references and caches nodes; a driver has the rest. */
struct vnode {
    const struct vnode_ops *ops;
    unsigned references;
    uint32_t node, file, dir; /* handles of xen9p; 0: none */
    uint64_t position;        /* where `dir` goes on */
};

/* The root of a mount of xen9p. */
int xen9p_vfs_root(uint32_t fs, struct vnode **root);
void vnode_put(struct vnode *node);

/* Goes through all operations in the directory `root`; NULL, or what did not do what it should. */
const char *vfs_test(struct vnode *root);

#endif
