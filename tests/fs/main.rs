//! The files API: over a server in memory, over servers that others wrote, and what it costs in requests.

mod as_std;
mod bad_input;
mod basics;
mod cached;
mod dropped;
mod embedded_io;
mod executor;
mod inherited;
mod kept;
mod locks;
mod many;
mod model;
mod nodes;
mod paths;
mod posix;
mod random;
mod requests;
mod servers;
mod streams;
mod table;
mod trees;
mod walk;
mod write_behind;
mod xen9pfsd;
