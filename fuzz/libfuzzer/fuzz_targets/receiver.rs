//! The receiver under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| posthouse_fuzz::run("receiver", bytes));
