//! Modbus TCP without I/O: the MBAP frame and the requests in flight on one connection
//! ("MODBUS Messaging on TCP/IP Implementation Guide V1.0b", 3.1.3).
//!
//! ```text
//! offset  0   1   2   3   4   5   6       7 ...
//!        [id hi lo][0   0 ][len hi lo][unit] PDU          len counts unit and PDU: 2 to 254
//! ```
//!
//! Invariants: each request in flight has its own transaction id and ends exactly once: answered, timed out or abandoned
//! with its connection. An answer whose id is not in flight is late or forged: thrown away and counted. Ids go on counting over
//! connections, so an id comes back only after 65,536 requests.
//!
//! Bounds: at most [`PIPELINE_MAX`] requests in flight; at most one frame of input is kept; after [`RESYNC_BYTES_MAX`]
//! bytes that are no frame the connection is given up. It never reads a clock.

mod client;
#[cfg(test)]
mod tests;

pub use client::{Client, Counters, Lost};

use super::pdu::PDU_BYTES_MAX;

/// Bytes before the PDU.
pub const HEADER_BYTES: usize = 7;
/// Largest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PDU_BYTES_MAX;
/// Most requests in flight; devices that take more than one usually take up to 16 (V1.0b, 4.3.1 names 1 to 16).
pub const PIPELINE_MAX: usize = 16;
/// Bytes without a frame after which a connection is hopeless: more than the longest frame in which we could have begun.
pub const RESYNC_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// A frame as it lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Transaction id.
    pub id: u16,
    /// Unit.
    pub unit: u8,
    /// PDU, 1 to 253 bytes.
    pub pdu: &'a [u8],
}

/// What input begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head<'a> {
    /// More bytes are needed.
    Incomplete,
    /// A frame, and how many bytes it takes.
    Frame(Frame<'a>, usize),
    /// No frame can begin like this.
    Garbage,
}

/// Looks at the beginning of `input`.
#[must_use]
pub fn head(input: &[u8]) -> Head<'_> {
    let garbage = input.iter().skip(2).take(2).any(|byte| *byte != 0);
    let length = match input {
        [_, _, _, _, high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    };
    if garbage || length.is_some_and(|length| !(2..=PDU_BYTES_MAX + 1).contains(&length)) {
        return Head::Garbage;
    }
    let Some(frame) = length.and_then(|length| input.get(..length + HEADER_BYTES - 1)) else {
        return Head::Incomplete;
    };
    let id = u16::from_be_bytes([frame[0], frame[1]]);
    Head::Frame(Frame { id, unit: frame[HEADER_BYTES - 1], pdu: &frame[HEADER_BYTES..] }, frame.len())
}

/// Appends a frame to `out`. A PDU beyond [`PDU_BYTES_MAX`] bytes is cut.
pub fn append_frame(id: u16, unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
    let pdu = &pdu[..pdu.len().min(PDU_BYTES_MAX)];
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(unit);
    out.extend_from_slice(pdu);
}
