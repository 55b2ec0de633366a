//! libFuzzer over `keepstone_types::fuzzing::TEXTS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_types::fuzzing::TEXTS,
    input
));
