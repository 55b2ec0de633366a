//! libFuzzer over `keepstone_pager::fuzzing::HEADER`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| keepstone_testkit::fuzzing::run(
    &keepstone_pager::fuzzing::HEADER,
    input
));
