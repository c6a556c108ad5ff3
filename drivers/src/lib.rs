//! Field drivers: the hands that reach devices. One `bus` task owns one line.
//!
//! Invariants: the pure parts ([`modbus`]) take time as an argument and do no I/O; `unsafe` exists in one small module of
//! kernel calls and nowhere else; nothing that arrives from a line can panic.

pub mod alarm;
pub mod bus;
pub mod clock;
#[doc(hidden)]
pub mod fuzzing;
pub mod memory;
pub mod modbus;
pub mod passed;
pub mod rtc;
pub mod serial;
pub mod signals;
pub mod sim;
mod sys;
#[cfg(test)]
mod virtual_time;
