//! Links the kernel by its own script, without start files and libraries.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel.ld");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T{script}");
}
