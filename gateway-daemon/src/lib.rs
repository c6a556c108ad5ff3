//! The hands and the frame of Tidegate: everything that touches a socket, a file or a clock, and the wiring between the
//! pure rooms of `gateway-core`.

pub mod app;
pub mod cli;
pub mod link;
pub mod listen;
