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

/// The glue for Mini-OS that docs/embedding.md shows: a maintainer copies it.
fn shown_glue() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/embedding.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("**The glue for Mini-OS**").unwrap();
    let (_, rest) = rest.split_once("```c\n").unwrap();
    rest.split_once("```").unwrap().0.into()
}

#[test]
fn the_glue_that_is_shown_compiles() {
    let dir = scratch();
    let file = dir.join("glue.c");
    let declared = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mini-os.h");
    let declared = format!("#include \"{}\"", declared.display());
    let glue = shown_glue();
    let os = glue
        .lines()
        .find(|line| line.starts_with("#include <mini-os/"));
    let glue = glue.replace(os.unwrap(), &declared);
    for kind in ["", "#define CONFIG_PARAVIRT\n"] {
        fs::write(&file, format!("{kind}{glue}")).unwrap();
        for dialect in ["-std=c89", "-std=gnu89", "-std=gnu11"] {
            compiles(file.to_str().unwrap(), &[dialect, "-Wno-unused-parameter"]);
        }
    }
    fs::remove_dir_all(dir).unwrap();
}

/// Each callback is there, but for those of which a kernel has the other way, and those that map pages of others.
#[test]
fn the_glue_that_is_shown_has_each_callback() {
    let glue = shown_glue();
    let header = fs::read_to_string(header()).unwrap();
    let (_, fields) = header.split_once("struct xen9p_platform {").unwrap();
    let (fields, _) = fields.split_once("\n};").unwrap();
    let names = fields.lines().filter_map(|line| {
        let (_, rest) = line.split_once("(*")?;
        Some(rest.split_once(')')?.0)
    });
    let mut count = 0;
    for name in names.filter(|name| *name != "grant_frame" && !name.contains("window")) {
        assert!(
            glue.contains(&format!("platform.{name} = ")),
            "{name} is not in the glue"
        );
        count += 1;
    }
    assert!(count > 15, "{count}");
}

/// A directory of this process's.
fn scratch() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("xen9p-glue-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}
