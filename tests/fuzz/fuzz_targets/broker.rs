//! Clients of every version against one broker over a store: `gateway_core::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_core::fuzzing::fuzz_broker(bytes));
