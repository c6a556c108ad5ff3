//! Records and schemas as they come out of a database file: `gateway_core::payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_daemon::fuzzing::fuzz_row(bytes));
