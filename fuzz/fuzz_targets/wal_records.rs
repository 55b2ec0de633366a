//! libFuzzer over `keepstone_wal::fuzzing::RECORDS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_wal::fuzzing::RECORDS,
    input
));
