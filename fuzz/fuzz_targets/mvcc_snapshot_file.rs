//! libFuzzer over `keepstone_mvcc_temporal::fuzzing::SNAPSHOT_FILE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_mvcc_temporal::fuzzing::SNAPSHOT_FILE,
    input
));
