//! The checked-in header is what cbindgen makes of this crate, and has its version. `BLESS=1` writes it.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = crate_dir.join("../include/xen9p.h");
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::generate_with_config(crate_dir, config).unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read(&path).unwrap_or_default();
    assert!(
        found == made,
        "include/xen9p.h is not what capi/ says: BLESS=1 cargo test --no-default-features --test header"
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
