//! Makes the linker turn the program into an image that Xen boots. The script is xen9p's.

fn main() {
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,--nmagic",
        "-Wl,-Txen9p.ld",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
