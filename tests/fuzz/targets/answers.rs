//! The engine among hostile answers: see `tenure::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tenure::fuzzing::answers(data));
