//! The checked-in bindings are what the generator makes of Debian 12's headers.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why the bindings can't be regenerated here, if they can't.
fn missing() -> Option<String> {
    let version = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", "libxen-dev"])
        .output();
    match version {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            if !version.starts_with("4.17.") {
                return Some(format!(
                    "libxen-dev is {version}; the bindings come from 4.17"
                ));
            }
        }
        _ => return Some("libxen-dev is not installed".into()),
    }
    if std::env::var_os("LIBCLANG_PATH").is_none() && !has_libclang() {
        return Some("libclang is not installed".into());
    }
    None
}

/// Whether some libclang lies where bindgen looks on Debian.
fn has_libclang() -> bool {
    let libraries = |directory: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(directory)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    };
    let is_libclang = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("libclang") && name.contains(".so"))
    };
    let toolchains = libraries(Path::new("/usr/lib"))
        .into_iter()
        .map(|path| path.join("lib"));
    [PathBuf::from("/usr/lib/x86_64-linux-gnu")]
        .into_iter()
        .chain(toolchains)
        .any(|directory| libraries(&directory).iter().any(|path| is_libclang(path)))
}

#[test]
fn checked_in_bindings_are_what_the_generator_makes() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--target-dir"])
        .arg(root.join("target/bindgen"))
        .arg("--manifest-path")
        .arg(root.join("tools/bindgen/Cargo.toml"))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the generator failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let checked_in =
        std::fs::read(root.join("crates/xen-abi/src/bindings.rs")).expect("the file is there");
    assert!(
        output.stdout == checked_in,
        "crates/xen-abi/src/bindings.rs is not what tools/bindgen makes; run \
         `cargo run -p xen9p-bindgen -- crates/xen-abi/src/bindings.rs`"
    );
}
