//! Protocol data units: a [`Query`] to bytes, bytes to an [`Answer`](gateway_core::poll::request::Answer) or the fault that they are.
//!
//! Source: "MODBUS Application Protocol Specification V1.1b3", chapter 6 for each function and 7 for exceptions.
//!
//! Invariants: what [`encode`] accepts obeys the limits of the specification, and [`match_answer`] accepts exactly the answers
//! that fit their query in function, byte count, echoed fields and total length. Nothing here allocates more than one
//! PDU's worth of memory, and no input panics.
//!
//! It never looks at units, checksums or time: those belong to [`super::rtu`] and [`super::mbap`].

mod answer;
#[cfg(test)]
mod tests;

use gateway_core::poll::request::{Query, Table};

pub use answer::{Expect, expect, match_answer, normal_len};

/// Largest PDU: 256 bytes of an RTU frame less unit and CRC (V1.1b3, 4.1).
pub const PDU_BYTES_MAX: usize = 253;
/// Most bits of functions 1 and 2 (6.1).
pub const READ_BITS_MAX: u16 = 2000;
/// Most registers of functions 3 and 4 (6.3).
pub const READ_REGISTERS_MAX: u16 = 125;
/// Most bits of function 15 (6.11).
pub const WRITE_BITS_MAX: usize = 1968;
/// Most registers of function 16 (6.12).
pub const WRITE_REGISTERS_MAX: usize = 123;
/// Most registers written by function 23 (6.17).
pub const READ_WRITE_REGISTERS_MAX: usize = 121;

/// Why a query cannot be put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing is asked for.
    #[error("a request needs at least one register or bit")]
    Empty,
    /// More than one request can carry.
    #[error("{asked} registers or bits asked, one request carries at most {max}")]
    TooMany {
        /// What was asked.
        asked: usize,
        /// The limit of the specification.
        max: usize,
    },
    /// The last address would lie beyond 65535.
    #[error("address {address} plus {count} lies beyond 65535")]
    BeyondEnd {
        /// First address.
        address: u16,
        /// How many.
        count: usize,
    },
    /// Function 43/14 knows the codes 1 to 4 (6.21).
    #[error(
        "device identification knows the codes 1 (basic), 2 (regular), 3 (extended) and 4 (one object), not {0}"
    )]
    IdentifyCode(u8),
    /// A broadcast has no answer, so only functions that write may be broadcast.
    #[error("a broadcast can only write, not read")]
    BroadcastRead,
}

/// The function code of a query.
#[must_use]
pub fn function(query: &Query) -> u8 {
    match query {
        Query::Read { table: Table::Coil, .. } => 1,
        Query::Read { table: Table::Discrete, .. } => 2,
        Query::Read { table: Table::Holding, .. } => 3,
        Query::Read { table: Table::Input, .. } => 4,
        Query::WriteCoil { .. } => 5,
        Query::WriteRegister { .. } => 6,
        Query::WriteCoils { .. } => 15,
        Query::WriteRegisters { .. } => 16,
        Query::MaskWrite { .. } => 22,
        Query::ReadWrite { .. } => 23,
        Query::Identify { .. } => 43,
    }
}

/// Whether a query only changes the device and carries no values back; only such a query may be broadcast.
#[must_use]
pub fn only_writes(query: &Query) -> bool {
    !matches!(query, Query::Read { .. } | Query::ReadWrite { .. } | Query::Identify { .. })
}

/// Checks a query against the limits of the specification.
///
/// # Errors
/// Says which limit it breaks.
pub fn check(query: &Query) -> Result<(), QueryError> {
    match query {
        Query::Read { table: Table::Coil | Table::Discrete, address, count } => {
            span(*address, usize::from(*count), usize::from(READ_BITS_MAX))
        }
        Query::Read { address, count, .. } => {
            span(*address, usize::from(*count), usize::from(READ_REGISTERS_MAX))
        }
        Query::WriteCoil { .. } | Query::WriteRegister { .. } | Query::MaskWrite { .. } => Ok(()),
        Query::WriteCoils { address, on } => span(*address, on.len(), WRITE_BITS_MAX),
        Query::WriteRegisters { address, values } => span(*address, values.len(), WRITE_REGISTERS_MAX),
        Query::ReadWrite { read_address, read_count, write_address, values } => {
            span(*read_address, usize::from(*read_count), usize::from(READ_REGISTERS_MAX))?;
            span(*write_address, values.len(), READ_WRITE_REGISTERS_MAX)
        }
        Query::Identify { code: 1..=4, .. } => Ok(()),
        Query::Identify { code, .. } => Err(QueryError::IdentifyCode(*code)),
    }
}

/// Appends the PDU of a query to `out`.
///
/// # Errors
/// The query breaks a limit; `out` is unchanged.
pub fn encode(query: &Query, out: &mut Vec<u8>) -> Result<(), QueryError> {
    check(query)?;
    out.push(function(query));
    match query {
        Query::Read { address, count, .. } => words(out, &[*address, *count]),
        Query::WriteCoil { address, on } => words(out, &[*address, if *on { 0xFF00 } else { 0 }]),
        Query::WriteRegister { address, value } => words(out, &[*address, *value]),
        Query::WriteCoils { address, on } => {
            words(out, &[*address, count_u16(on.len())]);
            out.push(low_byte(on.len().div_ceil(8)));
            pack_bits(on, out);
        }
        Query::WriteRegisters { address, values } => {
            words(out, &[*address, count_u16(values.len())]);
            out.push(low_byte(values.len() * 2));
            words(out, values);
        }
        Query::MaskWrite { address, and, or } => words(out, &[*address, *and, *or]),
        Query::ReadWrite { read_address, read_count, write_address, values } => {
            words(out, &[*read_address, *read_count, *write_address, count_u16(values.len())]);
            out.push(low_byte(values.len() * 2));
            words(out, values);
        }
        Query::Identify { code, object } => out.extend_from_slice(&[MEI_IDENTIFY, *code, *object]),
    }
    Ok(())
}

/// MEI type of "read device identification" inside function 43 (6.21).
pub(crate) const MEI_IDENTIFY: u8 = 0x0E;
/// Added to the function code of a refused request (7).
pub(crate) const EXCEPTION_BIT: u8 = 0x80;

/// Appends bits, first bit in the least significant place, the last byte padded with zeros (6.1).
pub(crate) fn pack_bits(bits: &[bool], out: &mut Vec<u8>) {
    for byte in bits.chunks(8) {
        out.push(byte.iter().enumerate().fold(0, |packed, (i, on)| packed | (u8::from(*on) << i)));
    }
}

/// The first `count` bits of packed bytes; stops early when the bytes end.
pub(crate) fn unpack_bits(bytes: &[u8], count: usize) -> Vec<bool> {
    bytes.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1)).take(count).collect()
}

/// Appends 16-bit words, high byte first.
pub(crate) fn words(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The 16-bit words in bytes, high byte first; an odd last byte is ignored.
pub(crate) fn to_words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn span(address: u16, count: usize, max: usize) -> Result<(), QueryError> {
    if count == 0 {
        return Err(QueryError::Empty);
    }
    if count > max {
        return Err(QueryError::TooMany { asked: count, max });
    }
    if usize::from(address) + count > 0x1_0000 {
        return Err(QueryError::BeyondEnd { address, count });
    }
    Ok(())
}

/// A count that [`check`] has limited to at most 2000.
fn count_u16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A byte count that [`check`] has limited to at most 250.
fn low_byte(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}
