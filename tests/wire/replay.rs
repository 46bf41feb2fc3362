//! Goes through the fuzz targets' known inputs.

use std::fs;
use std::path::Path;

use super::fuzz::TARGETS;

#[test]
fn known_inputs_break_nothing() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for file in fs::read_dir(seeds.join(name)).expect(name) {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs for {name}");
    }
}
