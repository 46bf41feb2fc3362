//! Random use of a file that is written behind agrees with a model; and no write that the server refused goes unnoticed.

use std::time::Duration;

use xen9p::fs::SeekFrom;
use xen9p::p9::wire::{kind, parse_header};
use xen9p_testing::bed::memory::bed_with;
use xen9p_testing::random::Random;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

use super::{Behind, ENOSPC, no_space, options, small_messages};

/// Random use of a file, with a model; with `refusals`, the server refuses some of the writes.
fn random_use(seed: u64, refusals: bool) {
    let lanes = LaneOptions {
        lanes: 1 + (seed % 4) as u16,
        capacity: 24 << 10,
        latency: (Duration::ZERO, Duration::from_millis(seed % 5)),
        in_order: seed.is_multiple_of(2),
        seed,
        ..LaneOptions::default()
    };
    let server = MemOptions {
        io_limit: if seed.is_multiple_of(3) {
            700
        } else {
            u32::MAX
        },
        ..small_messages()
    };
    let bed = bed_with(lanes, server, |_| {});
    if refusals {
        let mut random = Random::new(!seed);
        bed.control.tamper(move |request, reply| {
            let header = parse_header(request.first_chunk().unwrap());
            let refused = header.kind == kind::TWRITE && random.below(8) == 0;
            vec![if refused { no_space(header.tag) } else { reply }]
        });
    }
    let mut random = Random::new(seed);
    let limit = [2, 100, 5000, 20_000, 100_000][random.below(5)];
    let mut options = options();
    let file = options.write_behind(limit).open(&bed.fs, "/f").unwrap();
    let (mut model, mut at) = (Vec::<u8>::new(), 0);
    let mut told = 0;
    for step in 0..600 {
        let what = format!("seed {seed}, step {step}");
        let result = match random.below(12) {
            0..=5 => {
                let len = match random.below(4) {
                    0 => random.below(3),
                    1 | 2 => random.below(400),
                    _ => random.below(30_000),
                };
                let data: Vec<u8> = random.bytes(len);
                let result = file.write_all(&data);
                if result.is_ok() && len > 0 {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&data);
                    at += len;
                }
                result
            }
            6 => {
                at = random.below(model.len() + 100);
                file.seek(SeekFrom::Start(at as u64)).map(drop)
            }
            7 => {
                let mut found = vec![0; random.below(3000)];
                let from = random.below(model.len() + 10);
                file.read_at(&mut found, from as u64).map(|count| {
                    let wanted = model.get(from..).unwrap_or(&[]);
                    assert!(found[..count] == wanted[..count], "{what}");
                })
            }
            8 => file.metadata().map(|metadata| {
                assert_eq!(metadata.len(), model.len() as u64, "{what}");
            }),
            9 => {
                let size = random.below(model.len() + 1000);
                file.set_len(size as u64).map(|()| model.resize(size, 0))
            }
            10 => file.seek(SeekFrom::End(0)).map(|end| {
                assert_eq!(end, model.len() as u64, "{what}");
                at = model.len();
            }),
            _ => file.flush().map(|()| {
                assert!(bed.content("/f") == model, "{what}");
            }),
        };
        if let Err(error) = result {
            assert!(refusals && error == ENOSPC, "{what}: {error}");
            // Told, if that wasn't it. Whatever is there now is what counts.
            let _ = file.flush();
            told += 1;
            model = bed.content("/f");
            at = model.len();
            file.seek(SeekFrom::Start(at as u64)).expect(&what);
        }
    }
    assert_eq!(refusals, told > 0, "seed {seed}");
    if file.close().is_ok() {
        assert!(bed.content("/f") == model, "seed {seed}, at the end");
    }
    bed.control.behave();
    bed.finish();
}

#[test]
fn random_use_agrees_with_a_model() {
    (1..=40).for_each(|seed| random_use(seed, false));
}

#[test]
fn no_refused_write_goes_unnoticed() {
    (1..=40).for_each(|seed| random_use(seed, true));
}
