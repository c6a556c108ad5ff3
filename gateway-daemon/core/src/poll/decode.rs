//! Registers and bits to values.
//!
//! A raw value stays what it is on the wire: integers stay integers, and scale and offset belong to `process`. What is
//! no number (NaN, infinity, a BCD digit above nine) is [`Reason::NotANumber`] and never a value.

use std::sync::Arc;

use super::order::{from_wire4, from_wire8};
use super::settings::Kind;
use crate::tag::{Reason, Sample, Value};

/// The value of a coil or a discrete input.
#[must_use]
pub fn bit(on: bool) -> Sample {
    Sample::Good(Value::Bool(on))
}

/// The value of a point from its [`Kind::registers`] registers.
///
/// Fewer registers are [`Reason::BadAnswer`]; more are ignored.
#[must_use]
pub fn registers(kind: Kind, registers: &[u16]) -> Sample {
    let Some(own) = registers.get(..usize::from(kind.registers())) else {
        return Sample::Bad(Reason::BadAnswer);
    };
    match own {
        [one] if !matches!(kind, Kind::Text { .. }) => one_register(kind, *one),
        _ => many_registers(kind, own),
    }
}

fn one_register(kind: Kind, raw: u16) -> Sample {
    let [high_byte, low_byte] = raw.to_be_bytes();
    let byte = |high: bool| if high { high_byte } else { low_byte };
    let word = |swap: bool| if swap { raw.swap_bytes() } else { raw };
    Sample::Good(match kind {
        Kind::Bit => Value::Bool(raw != 0),
        Kind::BitOf(bit) => Value::Bool(raw.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1),
        Kind::U8 { high } => Value::UInt(u64::from(byte(high))),
        Kind::I8 { high } => Value::Int(i64::from(i8::from_be_bytes([byte(high)]))),
        Kind::U16 { swap } => Value::UInt(u64::from(word(swap))),
        Kind::I16 { swap } => Value::Int(i64::from(word(swap).cast_signed())),
        Kind::Bcd16 => return bcd(u32::from(raw)),
        _ => return Sample::Bad(Reason::BadAnswer),
    })
}

fn many_registers(kind: Kind, own: &[u16]) -> Sample {
    let four = |order| from_wire4(own.try_into().unwrap_or_default(), order);
    let eight = |order| from_wire8(own.try_into().unwrap_or_default(), order);
    Sample::Good(match kind {
        Kind::U32(order) => Value::UInt(u64::from(u32::from_be_bytes(four(order)))),
        Kind::I32(order) => Value::Int(i64::from(i32::from_be_bytes(four(order)))),
        Kind::F32(order) => return float(f64::from(f32::from_be_bytes(four(order)))),
        Kind::U64(order) => Value::UInt(u64::from_be_bytes(eight(order))),
        Kind::I64(order) => Value::Int(i64::from_be_bytes(eight(order))),
        Kind::F64(order) => return float(f64::from_be_bytes(eight(order))),
        Kind::Bcd32(order) => return bcd(u32::from_be_bytes(four(order))),
        Kind::Text { swap, .. } => Value::Text(text(own, swap)),
        _ => return Sample::Bad(Reason::BadAnswer),
    })
}

fn float(number: f64) -> Sample {
    if number.is_finite() { Sample::Good(Value::Float(number)) } else { Sample::Bad(Reason::NotANumber) }
}

/// Four bits per decimal digit, the highest digit first.
fn bcd(raw: u32) -> Sample {
    let mut number = 0;
    for shift in (0..32).step_by(4).rev() {
        let digit = raw >> shift & 0xF;
        if digit > 9 {
            return Sample::Bad(Reason::NotANumber);
        }
        number = number * 10 + u64::from(digit);
    }
    Sample::Good(Value::UInt(number))
}

/// UTF-8 if it is, else ISO 8859-1, which is what older devices with a degree sign send.
fn text(registers: &[u16], swap: bool) -> Arc<str> {
    let pair = |register: &u16| if swap { register.to_le_bytes() } else { register.to_be_bytes() };
    let mut bytes: Vec<u8> = registers.iter().flat_map(pair).collect();
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    while bytes.last() == Some(&b' ') {
        bytes.pop();
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}
