//! The program `xen9pd`.

fn main() {}
