//! libFuzzer over `keepstone_cli::fuzzing::IMPORT_LINES`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_cli::fuzzing::IMPORT_LINES,
    input
));
