//! The inputs that fuzzing found, the seeds, and inputs like them break no contract (S15 in docs/hostile-cases.md).

use std::fs;
use std::path::Path;

use xen9p_testing::random::Random;

use super::fuzz::TARGETS;

/// How many inputs like the seeds each target is given.
const MUTANTS: usize = 100;

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = fs::read_dir(seeds.join(name)).expect(name);
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no inputs for {name}");
    let read = |path| {
        println!("{path:?}");
        fs::read(path).unwrap()
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn known_inputs_break_nothing() {
    for (name, target) in TARGETS {
        seeds(name).iter().for_each(|input| target(input));
    }
}

/// The seeds with other bytes here and there, with parts taken away and put in from one another: the same in each run.
#[test]
fn inputs_like_the_known_ones_break_nothing() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut random = Random::new(19);
        for _ in 0..MUTANTS {
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(input.len() + 1);
                match random.below(4) {
                    0 => input.truncate(at),
                    1 => {
                        let other = &seeds[random.below(seeds.len())];
                        let from = random.below(other.len());
                        input.splice(at.., other[from..].iter().copied());
                    }
                    _ => {
                        if let Some(byte) = input.get_mut(at) {
                            *byte = random.number() as u8;
                        }
                    }
                }
            }
            println!("{name} {input:02x?}");
            target(&input);
        }
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
    assert!(files >= 7, "{files} targets");
}

fn bytes(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16);
    digits.map(|pair| byte(pair).expect(line)).collect()
}
