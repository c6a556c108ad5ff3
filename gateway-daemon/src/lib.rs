//! The hands and the frame of Tidegate: everything that touches a socket, a file or a clock, and the wiring between the
//! pure rooms of `gateway-core`.

// println! and eprintln! panic when the reader has gone (`| head`): commands print through `app::say`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod app;
pub mod cli;
pub mod link;
pub mod listen;
pub mod login;
pub mod panics;
pub mod provision;
mod replace;
pub mod status;
pub mod store;
pub mod update;

/// Entry points of the fuzz targets; not part of the product.
#[doc(hidden)]
pub mod fuzzing {
    /// Rows of the queue database: any bytes are refused or are a row that encodes to the same bytes.
    pub fn fuzz_row(input: &[u8]) {
        crate::store::row_codec::fuzz(input);
    }

    /// Pages of a damaged database and its log.
    pub fn fuzz_pages(input: &[u8]) {
        crate::store::salvage::fuzz(input);
    }

    /// The WebSocket in front of MQTT: the request, then frames, cut anywhere.
    pub fn fuzz_websocket(input: &[u8]) {
        crate::listen::fuzz(input);
    }
}
