//! Random requests in any order, from a client that knows no rules. See `sessions`.

use std::env;

use xen9p_testing::server::hostile;

/// `P9_SERVER_STEPS=10000000` for more than the usual.
#[test]
fn millions_of_steps_break_nothing() {
    let steps = env::var("P9_SERVER_STEPS").map_or(400_000, |steps| steps.parse().unwrap());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut input = vec![0; 1000];
    let mut done = 0;
    while done < steps {
        for byte in &mut input {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0];
        }
        done += hostile::run(&input);
    }
}
