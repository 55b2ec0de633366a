//! libFuzzer over `keepstone_wal::fuzzing::FOLDER`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_wal::fuzzing::FOLDER,
    input
));
