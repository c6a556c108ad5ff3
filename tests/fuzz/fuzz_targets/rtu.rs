//! What a serial line may say to the Modbus RTU master: `drivers::modbus::rtu`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::fuzzing::fuzz_rtu(bytes));
