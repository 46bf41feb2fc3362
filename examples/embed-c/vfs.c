/* A driver for a kernel's vfs over xen9p: each vnode has the handle of a node, and while it is open that of a file. C89. */
#include "vfs.h"
#include "xen9p.h"

enum { EINVAL_ = 22, ENOMEM_ = 12, ENOENT_ = 2, ENOTEMPTY_ = 39, EEXIST_ = 17, ELOOP_ = 40 };

static const struct vnode_ops ops;

/* A kernel takes these from its allocator. */
static struct vnode vnodes[64];

static int vnode_new(xen9p_handle node, struct vnode **made)
{
    static const struct vnode empty;
    size_t i;
    for (i = 0; i < sizeof vnodes / sizeof *vnodes; i++)
        if (!vnodes[i].references) {
            vnodes[i] = empty;
            vnodes[i].ops = &ops;
            vnodes[i].references = 1;
            vnodes[i].node = node;
            *made = &vnodes[i];
            return 0;
        }
    xen9p_close(node, NULL);
    return -ENOMEM_;
}

void vnode_put(struct vnode *node)
{
    if (--node->references == 0)
        node->ops->inactive(node);
}

int xen9p_vfs_root(xen9p_handle fs, struct vnode **root)
{
    xen9p_handle node;
    int error = xen9p_lookup(fs, "/", &node, NULL);
    return error ? error : vnode_new(node, root);
}

static int lookup(struct vnode *dir, const char *name, struct vnode **found)
{
    xen9p_handle node;
    int error = xen9p_lookup(dir->node, name, &node, NULL);
    return error ? error : vnode_new(node, found);
}

static int open(struct vnode *node, int for_writing)
{
    return xen9p_open(node->node, NULL, for_writing ? XEN9P_READ | XEN9P_WRITE : XEN9P_READ, 0, &node->file, NULL);
}

static int close(struct vnode *node)
{
    int error = xen9p_close(node->file, NULL);
    node->file = 0;
    return error;
}

static int64_t read(struct vnode *node, void *into, size_t size, uint64_t offset)
{
    return xen9p_read(node->file, into, size, offset, NULL);
}

static int64_t write(struct vnode *node, const void *from, size_t size, uint64_t offset)
{
    return xen9p_write(node->file, from, size, offset, NULL);
}

/* The entry behind `*position`: 1, or 0 at the end. The directory is kept open from one call to the next. */
static int readdir(struct vnode *dir, uint64_t *position, char *name, size_t size)
{
    struct xen9p_dirent entry;
    size_t i;
    int result = 0;
    if (!dir->dir)
        result = xen9p_opendir(dir->node, NULL, &dir->dir, NULL);
    else if (dir->position != *position)
        result = xen9p_seekdir(dir->dir, *position);
    if (result == 0)
        result = xen9p_readdir(dir->dir, &entry, NULL);
    if (result <= 0)
        return result;
    if (entry.length >= size)
        return -EINVAL_;
    for (i = 0; i <= entry.length; i++)
        name[i] = entry.name[i];
    dir->position = *position = entry.cookie;
    return 1;
}

static int getattr(struct vnode *node, struct vattr *attr)
{
    struct xen9p_stat stat;
    int error = xen9p_stat(node->node, NULL, 0, &stat, NULL);
    if (error)
        return error;
    attr->size = stat.size;
    attr->ino = stat.ino;
    attr->mode = stat.mode;
    attr->uid = stat.uid;
    attr->gid = stat.gid;
    attr->modified = stat.modified.seconds;
    return 0;
}

static int setattr(struct vnode *node, const struct vattr *attr)
{
    struct xen9p_setattr change = { 0 };
    change.size = sizeof change;
    change.valid = XEN9P_SET_MODE | XEN9P_SET_LENGTH | XEN9P_SET_MODIFIED;
    change.mode = attr->mode;
    change.length = attr->size;
    change.modified.seconds = attr->modified;
    return xen9p_setattr(node->node, NULL, &change, NULL);
}

static int create(struct vnode *dir, const char *name, uint32_t mode)
{
    xen9p_handle file;
    int error = xen9p_open(dir->node, name, XEN9P_WRITE | XEN9P_CREATE | XEN9P_EXCLUSIVE, mode, &file, NULL);
    return error ? error : xen9p_close(file, NULL);
}

static int make_dir(struct vnode *dir, const char *name, uint32_t mode)
{
    return xen9p_mkdir(dir->node, name, mode, NULL);
}

static int make_link(struct vnode *dir, const char *name, const char *target)
{
    return xen9p_symlink(target, dir->node, name, NULL);
}

static int64_t readlink(struct vnode *node, char *into, size_t size)
{
    return xen9p_readlink(node->node, NULL, into, size, NULL);
}

static int remove(struct vnode *dir, const char *name, int is_dir)
{
    return is_dir ? xen9p_rmdir(dir->node, name, NULL) : xen9p_unlink(dir->node, name, NULL);
}

static int rename(struct vnode *dir, const char *name, struct vnode *to, const char *new_name)
{
    return xen9p_rename(dir->node, name, to->node, new_name, NULL);
}

static void inactive(struct vnode *node)
{
    if (node->file)
        close(node);
    if (node->dir)
        xen9p_close(node->dir, NULL);
    xen9p_close(node->node, NULL);
}

static const struct vnode_ops ops = {
    lookup, open, close, read, write, readdir, getattr, setattr, create, make_dir, make_link, readlink, remove, rename, inactive,
};

/* --- What it is tried with --- */

#define CHECK(what) \
    do \
        if (!(what)) \
            return #what; \
    while (0)

const char *vfs_test(struct vnode *root)
{
    static const char data[] = "through the vfs";
    struct vnode *dir, *file, *link, *gone;
    struct vattr attr;
    char text[64];
    uint64_t position = 0;
    size_t i;
    int entries = 0;

    CHECK(root->ops->mkdir(root, "vfs", 0755) == 0);
    CHECK(root->ops->mkdir(root, "vfs", 0755) == -EEXIST_);
    CHECK(root->ops->lookup(root, "none", &gone) == -ENOENT_);
    CHECK(root->ops->lookup(root, "..", &gone) == -EINVAL_);
    CHECK(root->ops->lookup(root, "vfs", &dir) == 0);
    CHECK(dir->ops->create(dir, "a", 0640) == 0);
    CHECK(dir->ops->lookup(dir, "a", &file) == 0);
    CHECK(file->ops->open(file, 1) == 0);
    CHECK(file->ops->write(file, data, sizeof data, 10) == sizeof data);
    CHECK(file->ops->read(file, text, sizeof text, 10) == sizeof data);
    for (i = 0; i < sizeof data; i++)
        CHECK(text[i] == data[i]);
    CHECK(file->ops->close(file) == 0);
    CHECK(file->ops->getattr(file, &attr) == 0);
    CHECK(attr.size == 10 + sizeof data && (attr.mode & 0777) == 0640);
    attr.size = 4;
    attr.mode = 0600;
    attr.modified = 1000000000;
    CHECK(file->ops->setattr(file, &attr) == 0);
    CHECK(file->ops->getattr(file, &attr) == 0);
    CHECK(attr.size == 4 && (attr.mode & 0777) == 0600 && attr.modified == 1000000000);
    CHECK(dir->ops->symlink(dir, "l", "a") == 0);
    CHECK(dir->ops->lookup(dir, "l", &link) == 0);
    CHECK(link->ops->readlink(link, text, sizeof text) == 1 && text[0] == 'a');
    CHECK(link->ops->open(link, 0) == -ELOOP_);
    while (dir->ops->readdir(dir, &position, text, sizeof text) == 1)
        entries++;
    CHECK(entries == 2);
    /* A vnode is its file, whatever its name is. */
    CHECK(dir->ops->rename(dir, "a", root, "b") == 0);
    CHECK(file->ops->getattr(file, &attr) == 0 && attr.size == 4);
    CHECK(root->ops->remove(root, "vfs", 1) == -ENOTEMPTY_);
    CHECK(dir->ops->remove(dir, "l", 0) == 0);
    CHECK(root->ops->remove(root, "b", 0) == 0);
    CHECK(root->ops->remove(root, "vfs", 1) == 0);
    vnode_put(link);
    vnode_put(file);
    vnode_put(dir);
    for (i = 0; i < sizeof vnodes / sizeof *vnodes; i++)
        CHECK(!vnodes[i].references || &vnodes[i] == root);
    return NULL;
}
