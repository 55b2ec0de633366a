//! libFuzzer over `keepstone::fuzzing::STORE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone::fuzzing::STORE,
    input
));
