//! What a connection may say to the Modbus TCP client and to the simulated server: `drivers::modbus::mbap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::fuzzing::fuzz_mbap(bytes));
