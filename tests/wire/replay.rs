//! The inputs that fuzzing found and the seeds break no contract (S15 in docs/hostile-cases.md).

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

/// Inputs that a fuzzer has come to, as few as reach all that it has reached: a line of hexadecimal digits each.
#[test]
fn what_a_fuzzer_found_breaks_nothing() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found");
    let mut files = 0;
    for (name, target) in TARGETS {
        let Ok(lines) = fs::read_to_string(found.join(name).with_extension("hex")) else {
            continue;
        };
        files += 1;
        assert!(lines.lines().count() > 20, "{name}");
        for line in lines.lines() {
            println!("{name} {line}");
            target(&bytes(line));
        }
    }
    assert!(files >= 4, "{files} targets");
}

fn bytes(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16);
    digits.map(|pair| byte(pair).expect(line)).collect()
}
