//! libFuzzer over `keepstone_xor_dag::fuzzing::CHAIN`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_xor_dag::fuzzing::CHAIN,
    input
));
