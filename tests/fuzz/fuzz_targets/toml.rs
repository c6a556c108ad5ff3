//! Configuration files: `gateway_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_config::fuzzing::fuzz_toml(bytes));
