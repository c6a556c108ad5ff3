//! Decoding and encoding are each other's inverse, and both agree with values worked out by hand.

use proptest::prelude::*;

use super::decode;
use super::encode::{EncodeError, Raw, encode, write};
use super::request::{Query, Table};
use super::settings::{Kind, Order4, Order8, Point};
use crate::tag::{Reason, Sample, Value};

const ORDERS4: [Order4; 4] = [Order4::Abcd, Order4::Cdab, Order4::Badc, Order4::Dcba];
const ORDERS8: [Order8; 6] = [
    Order8::Abcdefgh,
    Order8::Ghefcdab,
    Order8::Badcfehg,
    Order8::Hgfedcba,
    Order8::Efghabcd,
    Order8::Cdabghef,
];

fn good(value: Value) -> Sample {
    Sample::Good(value)
}

fn check(kind: Kind, registers: &[u16], expected: Sample) {
    assert_eq!(decode::registers(kind, registers), expected, "{kind:?} {registers:04x?}");
}

/// The sixteen-bit words of `text` on the wire, where each letter stands for one byte of the value 0x11223344...
fn wire(text: &str) -> Vec<u16> {
    let byte = |letter: u8| (letter - b'a' + 1) * 0x11;
    text.as_bytes().chunks(2).map(|pair| u16::from_be_bytes([byte(pair[0]), byte(pair[1])])).collect()
}

#[test]
fn every_order_reads_the_same_value_from_its_own_bytes() {
    for (order, text) in ORDERS4.into_iter().zip(["abcd", "cdab", "badc", "dcba"]) {
        check(Kind::U32(order), &wire(text), good(Value::UInt(0x1122_3344)));
    }
    let texts = ["abcdefgh", "ghefcdab", "badcfehg", "hgfedcba", "efghabcd", "cdabghef"];
    for (order, text) in ORDERS8.into_iter().zip(texts) {
        check(Kind::U64(order), &wire(text), good(Value::UInt(0x1122_3344_5566_7788)));
    }
}

#[test]
fn parts_of_a_register_are_read_alone() {
    check(Kind::BitOf(15), &[0x8000], good(Value::Bool(true)));
    check(Kind::BitOf(0), &[0xFFFE], good(Value::Bool(false)));
    check(Kind::U8 { high: true }, &[0xFE01], good(Value::UInt(254)));
    check(Kind::I8 { high: true }, &[0xFE01], good(Value::Int(-2)));
    check(Kind::U8 { high: false }, &[0xFE01], good(Value::UInt(1)));
    check(Kind::I16 { swap: true }, &[0xFEFF], good(Value::Int(-2)));
}

#[test]
fn what_is_no_number_is_never_a_value() {
    let nan = Sample::Bad(Reason::NotANumber);
    check(Kind::F32(Order4::Abcd), &[0x7FC0, 0], nan.clone());
    check(Kind::F32(Order4::Cdab), &[0, 0x7F80], nan.clone());
    check(Kind::F64(Order8::Abcdefgh), &[0xFFF0, 0, 0, 0], nan.clone());
    check(Kind::Bcd16, &[0x12A4], nan.clone());
    check(Kind::Bcd32(Order4::Abcd), &[0x0000, 0x000F], nan);
    check(Kind::Bcd32(Order4::Cdab), &[0x5678, 0x1234], good(Value::UInt(12_345_678)));
}

#[test]
fn an_answer_with_too_few_registers_is_a_bad_answer() {
    check(Kind::U64(Order8::Abcdefgh), &[1, 2, 3], Sample::Bad(Reason::BadAnswer));
    check(Kind::U16 { swap: false }, &[], Sample::Bad(Reason::BadAnswer));
}

#[test]
fn text_ends_at_the_first_nul_and_loses_its_padding() {
    let kind = Kind::Text { registers: 4, swap: false };
    check(kind, &[0x4142, 0x4320, 0x2000, 0x5858], good(Value::Text("ABC".into())));
    check(Kind::Text { registers: 1, swap: true }, &[0x4241], good(Value::Text("AB".into())));
    check(Kind::Text { registers: 1, swap: false }, &[0x4142], good(Value::Text("AB".into())));
    check(Kind::Text { registers: 1, swap: false }, &[0xB043], good(Value::Text("°C".into())));
}

#[test]
fn a_value_that_does_not_fit_is_refused_in_words() {
    let refused = |kind, value| encode(kind, &value).unwrap_err().to_string();
    let u16 = Kind::U16 { swap: false };
    assert_eq!(refused(u16, Value::Int(70_000)), "70000 does not fit: the point holds 0 to 65535");
    assert_eq!(refused(Kind::Bcd16, Value::Int(-1)), "-1 does not fit: the point holds 0 to 9999");
    assert_eq!(
        refused(u16, Value::Float(2.4)),
        "2.4 is not a whole number and the point holds only whole numbers; the nearest is 2"
    );
    assert_eq!(refused(u16, Value::Text("on".into())), "the point holds a number, not text");
    assert_eq!(refused(Kind::F32(Order4::Abcd), Value::Float(f64::NAN)), "not a finite number");
    assert!(
        refused(Kind::F32(Order4::Abcd), Value::Float(1e39))
            .ends_with("340282350000000000000000000000000000000")
    );
    let text = Kind::Text { registers: 1, swap: false };
    assert_eq!(refused(text, Value::Text("ABC".into())), "the text has 3 bytes, the point has room for 2");
    let input = Point { table: Table::Input, address: 0, kind: u16 };
    assert_eq!(
        write(&input, &Value::Int(1)).unwrap_err().to_string(),
        "an input register can only be read; only coils and holding registers can be written"
    );
}

#[test]
fn what_a_scale_leaves_behind_still_counts_as_whole() {
    let raw = encode(Kind::U16 { swap: false }, &Value::Float(23.5 / 0.1)).unwrap();
    assert_eq!(raw, Raw::Registers(vec![235]));
}

#[test]
fn a_write_takes_the_function_that_fits() {
    let point = |table, kind| Point { table, address: 7, kind };
    let query = |point: Point, value| write(&point, &value).unwrap();
    assert_eq!(
        query(point(Table::Coil, Kind::Bit), Value::Int(1)),
        Query::WriteCoil { address: 7, on: true }
    );
    assert_eq!(
        query(point(Table::Holding, Kind::I16 { swap: false }), Value::Int(-1)),
        Query::WriteRegister { address: 7, value: 0xFFFF }
    );
    assert_eq!(
        query(point(Table::Holding, Kind::U32(Order4::Cdab)), Value::UInt(1)),
        Query::WriteRegisters { address: 7, values: vec![1, 0] }
    );
    assert_eq!(
        query(point(Table::Holding, Kind::BitOf(4)), Value::Bool(true)),
        Query::MaskWrite { address: 7, and: 0xFFEF, or: 0x0010 }
    );
    assert_eq!(
        query(point(Table::Holding, Kind::I8 { high: true }), Value::Int(-1)),
        Query::MaskWrite { address: 7, and: 0x00FF, or: 0xFF00 }
    );
}

fn case() -> impl Strategy<Value = (Kind, Value)> {
    let order4 = || prop::sample::select(ORDERS4.to_vec());
    let order8 = || prop::sample::select(ORDERS8.to_vec());
    let float = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL;
    let single = prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL;
    prop_oneof![
        any::<bool>().prop_map(|on| (Kind::Bit, Value::Bool(on))),
        (0_u8..16, any::<bool>()).prop_map(|(bit, on)| (Kind::BitOf(bit), Value::Bool(on))),
        any::<(bool, u8)>().prop_map(|(high, v)| (Kind::U8 { high }, Value::UInt(v.into()))),
        any::<(bool, i8)>().prop_map(|(high, v)| (Kind::I8 { high }, Value::Int(v.into()))),
        any::<(bool, u16)>().prop_map(|(swap, v)| (Kind::U16 { swap }, Value::UInt(v.into()))),
        any::<(bool, i16)>().prop_map(|(swap, v)| (Kind::I16 { swap }, Value::Int(v.into()))),
        (order4(), any::<u32>()).prop_map(|(order, v)| (Kind::U32(order), Value::UInt(v.into()))),
        (order4(), any::<i32>()).prop_map(|(order, v)| (Kind::I32(order), Value::Int(v.into()))),
        (order4(), single).prop_map(|(order, v)| (Kind::F32(order), Value::Float(v.into()))),
        (order8(), any::<u64>()).prop_map(|(order, v)| (Kind::U64(order), Value::UInt(v))),
        (order8(), any::<i64>()).prop_map(|(order, v)| (Kind::I64(order), Value::Int(v))),
        (order8(), float).prop_map(|(order, v)| (Kind::F64(order), Value::Float(v))),
        (0_u64..=9_999).prop_map(|v| (Kind::Bcd16, Value::UInt(v))),
        (order4(), 0_u64..=99_999_999).prop_map(|(order, v)| (Kind::Bcd32(order), Value::UInt(v))),
        (any::<bool>(), "[^\\x00 ]{0,6}", 12_u16..=125).prop_map(|(swap, v, registers)| (
            Kind::Text { registers, swap },
            Value::Text(v.as_str().into())
        )),
    ]
}

proptest! {
    #[test]
    fn decoding_takes_back_what_encoding_did((kind, value) in case(), before: u16) {
        let registers = match encode(kind, &value).unwrap() {
            Raw::Bit(on) => vec![u16::from(on)],
            Raw::Registers(registers) => registers,
            Raw::Masked { and, or } => vec![before & and | or & !and],
        };
        prop_assert_eq!(registers.len(), usize::from(kind.registers()));
        prop_assert_eq!(decode::registers(kind, &registers), Sample::Good(value));
    }

    #[test]
    fn any_registers_decode_without_a_panic_and_encode_back(
        (kind, _) in case(),
        mut registers in prop::collection::vec(any::<u16>(), 125),
    ) {
        let Sample::Good(value) = decode::registers(kind, &registers) else { return Ok(()) };
        if matches!(kind, Kind::Text { .. }) {
            return Ok(());
        }
        registers.truncate(usize::from(kind.registers()));
        match encode(kind, &value) {
            Ok(Raw::Registers(back)) => prop_assert_eq!(back, registers),
            Ok(Raw::Bit(on)) => prop_assert_eq!(on, registers[0] != 0),
            Ok(Raw::Masked { and, or }) => prop_assert_eq!(registers[0] & and | or & !and, registers[0]),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn encoding_an_impossible_value_is_an_error_and_not_a_panic((kind, _) in case(), (_, value) in case(), number: f64) {
        for value in [value, Value::Float(number)] {
            if let Err(EncodeError::OutOfRange { min, max, .. }) = encode(kind, &value) {
                prop_assert!(min != max);
            }
        }
    }
}
