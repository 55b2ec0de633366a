//! libFuzzer over `keepstone_wal::fuzzing::HEAL`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_wal::fuzzing::HEAL,
    input
));
