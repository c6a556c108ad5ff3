//! Modbus as a client ("master"): the PDU both lines share, RTU for serial lines and MBAP for TCP.
//!
//! Everything in here is pure: bytes and times in, bytes and outcomes out. The hands are [`crate::serial`] and [`crate::bus`].

pub mod mbap;
pub mod pdu;
pub mod rtu;
