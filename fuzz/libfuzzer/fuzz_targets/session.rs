//! The session under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthouse_fuzz::run("session", bytes));
