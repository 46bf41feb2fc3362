//! What a kernel has of its own: a xenbus with requests under way, and an allocator of grant references.
