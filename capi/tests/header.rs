//! The checked-in header is what cbindgen makes of this crate, has its version, and is C89. `BLESS=1` writes it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// In C89 there are no comments to the end of the line; and Rust's section on safety says what the preamble says.
fn in_the_manner_of_c(made: &str) -> String {
    let mut out = String::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in made.lines() {
        if line.trim_start().starts_with("//") {
            comment.push(line);
            continue;
        }
        out += &block(&mut comment);
        // What cbindgen adds behind #endif and the like.
        match line.split_once("// ") {
            Some((code, said)) => out += &format!("{} /* {said} */", code.trim_end()),
            None => out += line,
        }
        out.push('\n');
    }
    out
}

/// The lines of one comment, without what is said of safety.
fn block(comment: &mut Vec<&str>) -> String {
    let lines = std::mem::take(comment);
    let Some(first) = lines.first() else {
        return String::new();
    };
    let indent = &first[..first.len() - first.trim_start().len()];
    let texts = lines
        .iter()
        .map(|line| line.trim_start().trim_start_matches('/'));
    let mut texts: Vec<_> = texts.take_while(|text| *text != " # Safety").collect();
    while texts.last().is_some_and(|text| text.is_empty()) {
        texts.pop();
    }
    let joined = texts.join(&format!("\n{indent} *"));
    format!("{indent}/*{joined} */\n")
}

fn header() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/xen9p.h")
}

#[test]
fn the_header_is_up_to_date() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::generate_with_config(crate_dir, config).unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = in_the_manner_of_c(&String::from_utf8(made).unwrap());
    if std::env::var_os("BLESS").is_some() {
        fs::write(header(), &made).unwrap();
    }
    let found = fs::read_to_string(header()).unwrap_or_default();
    assert!(
        found == made,
        "include/xen9p.h is not what capi/ says: BLESS=1 cargo test -p xen9p-capi --test header"
    );
}

#[test]
fn the_version_is_that_of_the_package() {
    let part = |text: &str| text.parse::<u32>().unwrap();
    let package = part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | part(env!("CARGO_PKG_VERSION_PATCH"));
    assert_eq!(xen9p_capi::XEN9P_VERSION, package);
}

/// Compiles a file in a dialect of C.
fn compiles(file: &str, options: &[&str]) {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Command::new("cc")
        .args(options)
        .args([
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-ffreestanding",
            "-fsyntax-only",
        ])
        .arg("-I")
        .arg(header().parent().unwrap())
        .arg(crate_dir.join(file))
        .output()
        .expect("cc, a C compiler, is needed");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{file} {options:?}: {said}");
}

/// tests/plain.c uses all of the header.
#[test]
fn the_header_is_plain_c() {
    compiles(
        "tests/plain.c",
        &["-std=c89", "-Wstrict-prototypes", "-Wmissing-prototypes"],
    );
    compiles("tests/plain.c", &["-std=gnu89", "-fgnu89-inline"]);
    compiles("tests/plain.c", &["-std=c89", "-DXEN9P_VCHAN"]);
    compiles("tests/plain.c", &["-std=c99"]);
    compiles("tests/plain.c", &["-std=c11"]);
}

/// A driver for another kernel's vfs begins with this one, whatever dialect that is written in.
#[test]
fn the_driver_for_a_vfs_is_plain_c() {
    for dialect in ["-std=c89", "-std=c99", "-std=gnu11"] {
        compiles("../examples/embed-c/vfs.c", &[dialect]);
    }
}
