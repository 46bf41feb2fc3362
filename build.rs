//! Makes the linker turn each binary into a freestanding image: no start files, no libraries,
//! `linker.ld` for the layout. The library itself needs none of this.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker.ld");
    if env::var_os("CARGO_FEATURE_RT").is_none() {
        return;
    }

    // A program in another package finds the script by name: the search path reaches dependants,
    // the arguments below do not.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("linker.ld", out.join("xen9p.ld")).expect("linker.ld can be copied to OUT_DIR");
    println!("cargo:rustc-link-search={}", out.display());

    let bare_target = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let arguments: &[&str] = if bare_target {
        // The linker is called directly.
        &["--no-pie", "--build-id=none", "--nmagic", "-Txen9p.ld"]
    } else {
        // The linker is called through a C compiler, which would add start files and libc.
        &[
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-no-pie",
            "-Wl,--build-id=none",
            "-Wl,--nmagic",
            "-Wl,-Txen9p.ld",
        ]
    };
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
