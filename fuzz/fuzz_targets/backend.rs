#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xen9p_fuzz::backend::run(input));
