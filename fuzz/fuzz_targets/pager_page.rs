//! libFuzzer over `keepstone_pager::fuzzing::PAGE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_pager::fuzzing::PAGE,
    input
));
