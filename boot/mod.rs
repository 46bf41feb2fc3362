//! What a bootable image needs under it.
