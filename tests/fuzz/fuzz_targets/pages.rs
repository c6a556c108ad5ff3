//! Pages of a damaged database and its log, as salvage reads them: `gateway_daemon::store::pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_daemon::fuzzing::fuzz_pages(bytes));
