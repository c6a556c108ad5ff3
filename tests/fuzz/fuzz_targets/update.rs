//! Commands to update, requests at the agent's socket, and what RAUC says: `gateway_core::update`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_core::fuzzing::fuzz_update(bytes));
