//! The order of bytes on the wire.

use super::settings::{Order4, Order8};

/// For each byte on the wire, its place in the value; 0 is the most significant byte.
const fn places4(order: Order4) -> [usize; 4] {
    match order {
        Order4::Abcd => [0, 1, 2, 3],
        Order4::Cdab => [2, 3, 0, 1],
        Order4::Badc => [1, 0, 3, 2],
        Order4::Dcba => [3, 2, 1, 0],
    }
}

/// For each byte on the wire, its place in the value; 0 is the most significant byte.
const fn places8(order: Order8) -> [usize; 8] {
    match order {
        Order8::Abcdefgh => [0, 1, 2, 3, 4, 5, 6, 7],
        Order8::Ghefcdab => [6, 7, 4, 5, 2, 3, 0, 1],
        Order8::Badcfehg => [1, 0, 3, 2, 5, 4, 7, 6],
        Order8::Hgfedcba => [7, 6, 5, 4, 3, 2, 1, 0],
        Order8::Efghabcd => [4, 5, 6, 7, 0, 1, 2, 3],
        Order8::Cdabghef => [2, 3, 0, 1, 6, 7, 4, 5],
    }
}

/// The value's bytes, most significant first, from two registers.
pub(super) fn from_wire4(registers: [u16; 2], order: Order4) -> [u8; 4] {
    let mut value = [0; 4];
    let wire = registers.iter().flat_map(|register| register.to_be_bytes());
    for (place, byte) in places4(order).into_iter().zip(wire) {
        value[place] = byte;
    }
    value
}

/// Two registers from the value's bytes, most significant first.
pub(super) fn to_wire4(value: [u8; 4], order: Order4) -> [u16; 2] {
    let wire = places4(order).map(|place| value[place]);
    [u16::from_be_bytes([wire[0], wire[1]]), u16::from_be_bytes([wire[2], wire[3]])]
}

/// The value's bytes, most significant first, from four registers.
pub(super) fn from_wire8(registers: [u16; 4], order: Order8) -> [u8; 8] {
    let mut value = [0; 8];
    let wire = registers.iter().flat_map(|register| register.to_be_bytes());
    for (place, byte) in places8(order).into_iter().zip(wire) {
        value[place] = byte;
    }
    value
}

/// Four registers from the value's bytes, most significant first.
pub(super) fn to_wire8(value: [u8; 8], order: Order8) -> [u16; 4] {
    let wire = places8(order).map(|place| value[place]);
    [0, 2, 4, 6].map(|at| u16::from_be_bytes([wire[at], wire[at + 1]]))
}
