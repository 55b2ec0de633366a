//! libFuzzer over `keepstone_cli::fuzzing::CARGO_METADATA`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_cli::fuzzing::CARGO_METADATA,
    input
));
