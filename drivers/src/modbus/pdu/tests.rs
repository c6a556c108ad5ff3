use gateway_core::poll::request::{Answer, LineFault, Query, Table};
use proptest::prelude::*;

use super::{Expect, QueryError, check, encode, expect, match_answer};

fn bytes(query: &Query) -> Vec<u8> {
    let mut out = Vec::new();
    encode(query, &mut out).expect("within limits");
    out
}

fn read(table: Table, address: u16, count: u16) -> Query {
    Query::Read { table, address, count }
}

#[test]
fn requests_of_the_specification_are_encoded_byte_for_byte() {
    // The examples of V1.1b3, chapter 6.
    let cases: &[(Query, &[u8])] = &[
        (read(Table::Coil, 19, 19), &[1, 0, 0x13, 0, 0x13]),
        (read(Table::Discrete, 196, 22), &[2, 0, 0xC4, 0, 0x16]),
        (read(Table::Holding, 107, 3), &[3, 0, 0x6B, 0, 3]),
        (read(Table::Input, 8, 1), &[4, 0, 8, 0, 1]),
        (Query::WriteCoil { address: 172, on: true }, &[5, 0, 0xAC, 0xFF, 0]),
        (Query::WriteRegister { address: 1, value: 3 }, &[6, 0, 1, 0, 3]),
        (
            Query::WriteCoils {
                address: 19,
                on: [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].iter().map(|b| *b == 1).collect(),
            },
            &[15, 0, 0x13, 0, 0x0A, 2, 0xCD, 1],
        ),
        (Query::WriteRegisters { address: 1, values: vec![10, 0x102] }, &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2]),
        (Query::MaskWrite { address: 4, and: 0xF2, or: 0x25 }, &[22, 0, 4, 0, 0xF2, 0, 0x25]),
        (
            Query::ReadWrite { read_address: 3, read_count: 6, write_address: 14, values: vec![255; 3] },
            &[23, 0, 3, 0, 6, 0, 14, 0, 3, 6, 0, 255, 0, 255, 0, 255],
        ),
        (Query::Identify { code: 1, object: 0 }, &[43, 14, 1, 0]),
    ];
    for (query, expected) in cases {
        assert_eq!(bytes(query), *expected, "{query:?}");
    }
}

#[test]
fn queries_beyond_the_limits_are_refused() {
    for (query, error) in [
        (read(Table::Holding, 0, 0), QueryError::Empty),
        (read(Table::Holding, 0, 126), QueryError::TooMany { asked: 126, max: 125 }),
        (read(Table::Coil, 0, 2001), QueryError::TooMany { asked: 2001, max: 2000 }),
        (read(Table::Input, 65535, 2), QueryError::BeyondEnd { address: 65535, count: 2 }),
        (Query::WriteRegisters { address: 0, values: vec![] }, QueryError::Empty),
        (
            Query::WriteCoils { address: 0, on: vec![true; 1969] },
            QueryError::TooMany { asked: 1969, max: 1968 },
        ),
        (Query::Identify { code: 5, object: 0 }, QueryError::IdentifyCode(5)),
    ] {
        assert_eq!(check(&query), Err(error), "{query:?}");
    }
    assert_eq!(check(&read(Table::Input, 65535, 1)), Ok(()));
}

#[test]
fn answers_of_the_specification_are_understood() {
    let cases: &[(Query, &[u8], Answer)] = &[
        (read(Table::Holding, 107, 2), &[3, 4, 2, 0x2B, 0, 0x64], Answer::Registers(vec![555, 100])),
        (
            read(Table::Coil, 0, 10),
            &[1, 2, 0b0000_0101, 0b10],
            Answer::Bits(vec![true, false, true, false, false, false, false, false, false, true]),
        ),
        (Query::WriteCoil { address: 172, on: true }, &[5, 0, 0xAC, 0xFF, 0], Answer::Done),
        (Query::WriteRegisters { address: 1, values: vec![10, 258] }, &[16, 0, 1, 0, 2], Answer::Done),
        (Query::MaskWrite { address: 4, and: 0xF2, or: 0x25 }, &[22, 0, 4, 0, 0xF2, 0, 0x25], Answer::Done),
        (read(Table::Input, 0, 1), &[0x84, 2], Answer::Exception(2)),
        (
            Query::Identify { code: 1, object: 0 },
            &[43, 14, 1, 1, 0xFF, 2, 2, 0, 2, b'A', b'B', 1, 1, b'C'],
            Answer::Identity { objects: vec![(0, b"AB".to_vec()), (1, b"C".to_vec())], more: Some(2) },
        ),
    ];
    for (query, pdu, answer) in cases {
        assert_eq!(match_answer(query, pdu).as_ref(), Ok(answer), "{query:?}");
    }
}

#[test]
fn answers_to_another_request_are_refused() {
    let cases: &[(Query, &[u8], LineFault)] = &[
        (read(Table::Holding, 0, 2), &[4, 4, 0, 0, 0, 0], LineFault::Function(4)),
        (read(Table::Holding, 0, 2), &[3, 2, 0, 0], LineFault::Short),
        (read(Table::Holding, 0, 2), &[3, 4, 0, 0, 0], LineFault::Short),
        (read(Table::Holding, 0, 2), &[3, 4, 0, 0, 0, 0, 0], LineFault::Long),
        (read(Table::Holding, 0, 2), &[3, 6, 0, 0, 0, 0, 0, 0], LineFault::Long),
        (read(Table::Holding, 0, 2), &[0x83], LineFault::Short),
        (read(Table::Holding, 0, 2), &[0x84, 1], LineFault::Function(0x84)),
        (read(Table::Holding, 0, 2), &[], LineFault::Short),
        (Query::WriteRegister { address: 1, value: 3 }, &[6, 0, 1, 0, 4], LineFault::Mismatch),
        (Query::WriteRegisters { address: 1, values: vec![1] }, &[16, 0, 1, 0, 2], LineFault::Mismatch),
        (Query::Identify { code: 1, object: 2 }, &[43, 14, 1, 1, 0xFF, 2, 0], LineFault::Mismatch),
        (Query::Identify { code: 4, object: 2 }, &[43, 14, 4, 1, 0, 0, 1, 3, 0], LineFault::Mismatch),
    ];
    for (query, pdu, fault) in cases {
        assert_eq!(match_answer(query, pdu), Err(*fault), "{query:?} {pdu:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_prefix_of_an_answer_tells_a_length_that_holds(count in 1u16..=125, cut in 0usize..255) {
        let query = read(Table::Input, 7, count);
        let mut pdu = vec![4, u8::try_from(count * 2).unwrap()];
        pdu.extend((0..count * 2).map(|i| (i % 251) as u8));
        let head = &pdu[..cut.min(pdu.len())];
        match expect(&query, head) {
            Expect::Exactly(len) => prop_assert_eq!(len, pdu.len()),
            Expect::AtLeast(len) => prop_assert!(len <= pdu.len()),
            Expect::Never => prop_assert!(false, "a good answer was refused"),
        }
    }

    #[test]
    fn no_answer_panics(pdu in proptest::collection::vec(any::<u8>(), 0..300), pick in 0usize..8) {
        let query = [
            read(Table::Coil, 1, 9), read(Table::Holding, 1, 2), Query::WriteCoil { address: 1, on: false },
            Query::WriteCoils { address: 1, on: vec![true; 9] }, Query::MaskWrite { address: 1, and: 2, or: 3 },
            Query::ReadWrite { read_address: 0, read_count: 1, write_address: 0, values: vec![1] },
            Query::Identify { code: 1, object: 0 }, Query::Identify { code: 4, object: 1 },
        ][pick].clone();
        let mut shaped = vec![super::function(&query)];
        shaped.extend_from_slice(&pdu);
        let _ = match_answer(&query, &pdu);
        let _ = match_answer(&query, &shaped);
    }
}
