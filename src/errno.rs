//! Linux error numbers, the common currency of 9P2000.L.
