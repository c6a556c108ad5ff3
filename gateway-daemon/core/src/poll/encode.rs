//! Values to registers and bits, for the `write` command.
//!
//! The value is raw: scale and offset were taken out by `process`. A value that does not fit is refused, never cut.

use super::order::{to_wire4, to_wire8};
use super::request::{Query, Table};
use super::settings::{Kind, Point};
use crate::tag::Value;

/// Part of itself by which a float may miss a whole number and still count as one: taking a scale out leaves such errors.
const WHOLE_TOLERANCE: f64 = 1e-9;

/// Why a value cannot be written. The caller adds the tag.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// Discrete inputs and input registers.
    #[error("{} can only be read; only coils and holding registers can be written", table_name(*.0))]
    ReadOnly(Table),
    /// A number outside what the point can hold.
    #[error("{value} does not fit: the point holds {min} to {max}")]
    OutOfRange {
        /// The value before scale and offset.
        value: String,
        /// Lowest value of the point's type.
        min: String,
        /// Highest value of the point's type.
        max: String,
    },
    /// A fraction for a point that holds whole numbers.
    #[error("{0} is not a whole number and the point holds only whole numbers; the nearest is {near}", near = .0.round())]
    NotWhole(f64),
    /// NaN or infinity.
    #[error("not a finite number")]
    NotFinite,
    /// Text for a number or the like.
    #[error("the point holds {expected}, not {given}")]
    WrongType {
        /// What the point holds.
        expected: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// Text that is longer than its registers.
    #[error("the text has {bytes} bytes, the point has room for {bytes_max}")]
    TextTooLong {
        /// Its length as UTF-8.
        bytes: usize,
        /// Two per register.
        bytes_max: usize,
    },
    /// Text that would not be read back as written.
    #[error(
        "the text must not hold the character NUL, which ends a text in the device, nor end with a space"
    )]
    TextNotKept,
}

/// What a value is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A coil.
    Bit(bool),
    /// Whole registers.
    Registers(Vec<u16>),
    /// Some bits of one register: register = (register AND `and`) OR (`or` AND NOT `and`), as function 22 does.
    Masked {
        /// The bits to keep.
        and: u16,
        /// The bits to set among the others.
        or: u16,
    },
}

/// The query that writes `value` to `point`: function 5 for a coil, 6 for one register, 16 for several, 22 for a part of
/// a register. A device without function 22 answers with exception 1; the caller may then read and write the whole register.
///
/// # Errors
/// Says why the value does not fit the point.
pub fn write(point: &Point, value: &Value) -> Result<Query, EncodeError> {
    let address = point.address;
    match point.table {
        Table::Coil => Ok(Query::WriteCoil { address, on: boolean(value)? }),
        Table::Discrete | Table::Input => Err(EncodeError::ReadOnly(point.table)),
        Table::Holding => Ok(match encode(point.kind, value)? {
            Raw::Bit(on) => Query::WriteRegister { address, value: u16::from(on) },
            Raw::Masked { and, or } => Query::MaskWrite { address, and, or },
            Raw::Registers(values) => match values[..] {
                [value] => Query::WriteRegister { address, value },
                _ => Query::WriteRegisters { address, values },
            },
        }),
    }
}

/// The inverse of decoding.
///
/// # Errors
/// Says why the value does not fit the kind.
pub fn encode(kind: Kind, value: &Value) -> Result<Raw, EncodeError> {
    let one = |register: u16| Raw::Registers(vec![register]);
    let word = |register: u16, swap: bool| one(if swap { register.swap_bytes() } else { register });
    let four = |bytes, order| Raw::Registers(to_wire4(bytes, order).to_vec());
    let eight = |bytes, order| Raw::Registers(to_wire8(bytes, order).to_vec());
    Ok(match kind {
        Kind::Bit => Raw::Bit(boolean(value)?),
        Kind::BitOf(bit) => {
            let mask = 1_u16.checked_shl(u32::from(bit)).unwrap_or(0);
            Raw::Masked { and: !mask, or: if boolean(value)? { mask } else { 0 } }
        }
        Kind::U8 { high } => byte(whole::<u8>(value, 0, u8::MAX.into())?, high),
        Kind::I8 { high } => byte(whole::<i8>(value, i8::MIN.into(), i8::MAX.into())?.cast_unsigned(), high),
        Kind::U16 { swap } => word(whole(value, 0, u16::MAX.into())?, swap),
        Kind::I16 { swap } => {
            word(whole::<i16>(value, i16::MIN.into(), i16::MAX.into())?.cast_unsigned(), swap)
        }
        Kind::U32(order) => four(whole::<u32>(value, 0, u32::MAX.into())?.to_be_bytes(), order),
        Kind::I32(order) => four(whole::<i32>(value, i32::MIN.into(), i32::MAX.into())?.to_be_bytes(), order),
        Kind::U64(order) => eight(whole::<u64>(value, 0, u64::MAX.into())?.to_be_bytes(), order),
        Kind::I64(order) => {
            eight(whole::<i64>(value, i64::MIN.into(), i64::MAX.into())?.to_be_bytes(), order)
        }
        Kind::F32(order) => four(single(value)?.to_be_bytes(), order),
        Kind::F64(order) => eight(float(value)?.to_be_bytes(), order),
        Kind::Bcd16 => one(u16::try_from(bcd(whole(value, 0, 9_999)?)).unwrap_or(u16::MAX)),
        Kind::Bcd32(order) => four(bcd(whole(value, 0, 99_999_999)?).to_be_bytes(), order),
        Kind::Text { registers, swap } => Raw::Registers(text(value, registers, swap)?),
    })
}

fn byte(value: u8, high: bool) -> Raw {
    match high {
        true => Raw::Masked { and: 0x00FF, or: u16::from(value) << 8 },
        false => Raw::Masked { and: 0xFF00, or: u16::from(value) },
    }
}

/// A switch also takes the numbers 0 and 1.
fn boolean(value: &Value) -> Result<bool, EncodeError> {
    match value {
        Value::Bool(on) => Ok(*on),
        other => Ok(whole::<u8>(other, 0, 1)? == 1),
    }
}

/// A whole number from `min` to `max`, which are the limits of `T` or narrower.
fn whole<T: TryFrom<i128>>(value: &Value, min: i128, max: i128) -> Result<T, EncodeError> {
    let out_of_range = |value: &dyn ToString| EncodeError::OutOfRange {
        value: value.to_string(),
        min: min.to_string(),
        max: max.to_string(),
    };
    let number = match value {
        Value::Int(number) => i128::from(*number),
        Value::UInt(number) => i128::from(*number),
        Value::Bool(on) => i128::from(*on),
        Value::Float(number) => round(*number)?,
        Value::Text(_) => return Err(EncodeError::WrongType { expected: "a number", given: "text" }),
    };
    let within = (min..=max).contains(&number).then_some(number);
    within.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match value {
        Value::Float(number) => out_of_range(number),
        _ => out_of_range(&number),
    })
}

fn round(number: f64) -> Result<i128, EncodeError> {
    if !number.is_finite() {
        return Err(EncodeError::NotFinite);
    }
    let rounded = number.round();
    if (number - rounded).abs() > WHOLE_TOLERANCE * number.abs().max(1.0) {
        return Err(EncodeError::NotWhole(number));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from float saturates, and the caller checks the range"
    )]
    Ok(rounded as i128)
}

fn float(value: &Value) -> Result<f64, EncodeError> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float point holds the nearest float of a large integer"
    )]
    match value {
        Value::Float(number) if number.is_finite() => Ok(*number),
        Value::Float(_) => Err(EncodeError::NotFinite),
        Value::Int(number) => Ok(*number as f64),
        Value::UInt(number) => Ok(*number as f64),
        Value::Bool(on) => Ok(f64::from(u8::from(*on))),
        Value::Text(_) => Err(EncodeError::WrongType { expected: "a number", given: "text" }),
    }
}

fn single(value: &Value) -> Result<f32, EncodeError> {
    let number = float(value)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to single is what the point asks for; overflow is checked"
    )]
    let single = number as f32;
    if single.is_finite() {
        return Ok(single);
    }
    let (min, max) = (f32::MIN.to_string(), f32::MAX.to_string());
    Err(EncodeError::OutOfRange { value: number.to_string(), min, max })
}

fn bcd(mut number: u32) -> u32 {
    let mut raw = 0;
    for shift in (0..32).step_by(4) {
        raw |= (number % 10) << shift;
        number /= 10;
    }
    raw
}

fn text(value: &Value, registers: u16, swap: bool) -> Result<Vec<u16>, EncodeError> {
    let text = match value {
        Value::Text(text) => text,
        Value::Bool(_) => return Err(EncodeError::WrongType { expected: "text", given: "true or false" }),
        _ => return Err(EncodeError::WrongType { expected: "text", given: "a number" }),
    };
    let bytes_max = usize::from(registers) * 2;
    if text.len() > bytes_max {
        return Err(EncodeError::TextTooLong { bytes: text.len(), bytes_max });
    }
    if text.contains('\0') || text.ends_with(' ') {
        return Err(EncodeError::TextNotKept);
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes_max, 0);
    let pair = |pair: &[u8]| if swap { [pair[1], pair[0]] } else { [pair[0], pair[1]] };
    Ok(bytes.chunks_exact(2).map(|bytes| u16::from_be_bytes(pair(bytes))).collect())
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Coil => "a coil",
        Table::Discrete => "a discrete input",
        Table::Holding => "a holding register",
        Table::Input => "an input register",
    }
}
