//! libFuzzer over `keepstone_btree::fuzzing::OVERFLOW_PAGE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_btree::fuzzing::OVERFLOW_PAGE,
    input
));
