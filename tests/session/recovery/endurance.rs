//! A hundred losses leave nothing behind, and losses anywhere change no file.

use std::time::Duration;

use xen9p::fs::{OpenOptions, SeekFrom};
use xen9p_testing::server::lanes::LaneOptions;

use xen9p_testing::bed::recovering::{site, site_with};
use xen9p_testing::random::Random;

#[test]
fn a_hundred_losses_leave_nothing_behind() {
    let site = site();
    site.fs.create_dir("/dir").unwrap();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(&site.fs, "/dir/file").unwrap();
    let session = site.fs.to_async().session().clone();
    let fids = session.fids_in_use();
    for round in 0..100_u8 {
        site.lose_at(&[], usize::from(round % 7), round % 2 == 0);
        file.write_all_at(&[round], round.into()).unwrap();
        let mut back = [0];
        file.read_exact_at(&mut back, round.into()).unwrap();
        assert_eq!(back, [round]);
        assert!(site.fs.metadata("/dir/file").is_ok());
        // The answer to the last clunk comes meanwhile.
        for _ in 0..4 {
            assert!(site.fs.metadata("/").is_ok());
        }
        assert_eq!(session.fids_in_use(), fids, "round {round}");
        // The root and the file.
        assert_eq!(site.server.borrow().fids(), 2, "round {round}");
    }
    assert!(site.fs.stats().recoveries >= 50);
    drop((file, session));
    site.end();
}

/// Anything that may be done again, with losses anywhere: in the end the file is what it is in the model.
#[test]
fn random_losses_change_nothing() {
    for seed in 1..40 {
        let site = site_with(LaneOptions {
            lanes: 1 + seed as u16 % 4,
            capacity: 1 << 16,
            latency: (Duration::ZERO, Duration::from_micros(300)),
            in_order: seed % 2 == 0,
            seed,
            ..LaneOptions::default()
        });
        let mut random = Random::new(seed);
        let mut model: Vec<u8> = Vec::new();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .open(&site.fs, "/file")
            .unwrap();
        for step in 0..60 {
            if random.below(3) == 0 {
                site.lose_at(&[], random.below(12), random.below(2) == 0);
            }
            let offset = random.below(200_000);
            let len = random.below(150_000);
            match random.below(4) {
                0 | 1 => {
                    let bytes: Vec<u8> = (0..len).map(|at| (at ^ step) as u8).collect();
                    file.write_all_at(&bytes, offset as u64).unwrap();
                    if len > 0 {
                        model.resize(model.len().max(offset + len), 0);
                        model[offset..offset + len].copy_from_slice(&bytes);
                    }
                }
                2 => {
                    let mut bytes = vec![0; len];
                    let mut done = 0;
                    while done < len {
                        match file
                            .read_at(&mut bytes[done..], (offset + done) as u64)
                            .unwrap()
                        {
                            0 => break,
                            count => done += count,
                        }
                    }
                    let there = model.get(offset..).unwrap_or(&[]);
                    assert!(
                        bytes[..done] == there[..len.min(there.len())],
                        "seed {seed}"
                    );
                }
                _ => {
                    assert_eq!(file.metadata().unwrap().len(), model.len() as u64);
                    assert_eq!(file.seek(SeekFrom::End(0)), Ok(model.len() as u64));
                }
            }
        }
        file.close().unwrap();
        assert!(site.fs.read("/file").unwrap() == model, "seed {seed}");
        site.end();
    }
}
