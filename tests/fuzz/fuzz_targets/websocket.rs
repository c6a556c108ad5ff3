//! What a client of the local broker says to a WebSocket: `gateway_daemon::listen`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway_daemon::fuzzing::fuzz_websocket(bytes));
