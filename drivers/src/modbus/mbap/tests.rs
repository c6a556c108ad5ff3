use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::tag::BootNs;
use proptest::prelude::*;

use super::{Client, Head, Lost, append_frame, head};

fn request(address: u16) -> Request {
    Request { unit: UnitId::tcp(1), query: Query::Read { table: Table::Holding, address, count: 1 } }
}

fn answer(id: u16, unit: u8, value: u8) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(id, unit, &[3, 2, 0, value], &mut out);
    out
}

fn asked(client: &mut Client, key: u64) -> Vec<u8> {
    let mut out = Vec::new();
    client.send(BootNs(0), key, &request(7), Duration::from_nanos(100), &mut out).unwrap();
    out
}

#[test]
fn request_frame_is_the_one_of_the_guide() {
    let mut client = Client::new();
    assert_eq!(asked(&mut client, 1), [0, 1, 0, 0, 0, 6, 1, 3, 0, 7, 0, 1]);
}

#[test]
fn answers_in_any_order_find_their_requests() {
    let mut client = Client::new();
    for key in 1..=3 {
        asked(&mut client, key);
    }
    for (id, value) in [(3, 30), (1, 10), (2, 20)] {
        client.received(&answer(id, 1, value)).unwrap();
        let expected = Ok(Answer::Registers(vec![u16::from(value)]));
        assert_eq!(client.poll(BootNs(1)), Some((u64::from(id), expected)));
    }
    assert_eq!(client.poll(BootNs(u64::MAX)), None);
}

/// What a gateway says of a device that does not answer it.
fn given_up(id: u16) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(id, 1, &[0x83, 11], &mut out);
    out
}

#[test]
fn a_request_behind_one_that_the_gateway_gives_up_late_has_its_whole_time() {
    let mut client = Client::new();
    asked(&mut client, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    let mut out = Vec::new();
    client.send(BootNs(120), 2, &request(7), Duration::from_nanos(100), &mut out).unwrap();
    // The gateway was busy with the first one until now.
    client.received(&given_up(1)).unwrap();
    assert_eq!(client.poll(BootNs(200)), None);
    assert_eq!(client.poll(BootNs(299)), None);
    client.received(&answer(2, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(299)), Some((2, Ok(Answer::Registers(vec![20])))));
}

#[test]
fn a_silent_request_is_in_flight_for_as_long_as_the_gateway_is_known_to_wait_and_gives_no_late_value() {
    let mut client = Client::new();
    let ask = |client: &mut Client, at: u64, key: u64| {
        client.send(BootNs(at), key, &request(7), Duration::from_nanos(100), &mut Vec::new()).unwrap();
    };
    ask(&mut client, 0, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    client.received(&given_up(1)).unwrap();
    assert_eq!(client.poll(BootNs(250)), None);
    for (key, late, outcome) in
        [(2, given_up(2), Ok(Answer::Exception(11))), (3, answer(3, 1, 10), Err(LineFault::Silence))]
    {
        let from = key * 1000;
        ask(&mut client, from, key);
        assert_eq!(client.poll_timeout(), Some(BootNs(from + 100)));
        assert_eq!(client.poll(BootNs(from + 100)), None, "the gateway still waits");
        assert_eq!(client.poll_timeout(), Some(BootNs(from + 250)));
        client.received(&late).unwrap();
        assert_eq!(client.poll(BootNs(from + 200)), Some((key, outcome)));
    }
    // An answer that is read late because this thread runs late is a value.
    ask(&mut client, 4000, 4);
    client.received(&answer(4, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(4150)), Some((4, Ok(Answer::Registers(vec![10])))));
    ask(&mut client, 5000, 5);
    assert_eq!(client.poll(BootNs(5249)), None);
    assert_eq!(client.poll(BootNs(5250)), Some((5, Err(LineFault::Silence))));
}

#[test]
fn no_gateway_is_waited_for_longer_than_five_seconds() {
    let mut client = Client::new();
    asked(&mut client, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    client.received(&given_up(1)).unwrap();
    assert_eq!(client.poll(BootNs(60_000_000_000)), None);
    client.send(BootNs(61_000_000_000), 2, &request(7), Duration::from_nanos(100), &mut Vec::new()).unwrap();
    assert_eq!(client.poll(BootNs(65_999_999_999)), None);
    assert_eq!(client.poll(BootNs(66_000_000_000)), Some((2, Err(LineFault::Silence))));
}

#[test]
fn late_answer_is_not_the_answer_to_the_next_request() {
    let mut client = Client::new();
    asked(&mut client, 1);
    assert_eq!(client.poll_timeout(), Some(BootNs(100)));
    assert_eq!(client.poll(BootNs(99)), None);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    asked(&mut client, 2);
    client.received(&answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(1)), None);
    client.received(&answer(2, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((2, Ok(Answer::Registers(vec![20])))));
    assert_eq!(client.counters().late_answers, 1);
}

#[test]
fn answer_of_another_unit_or_function_is_a_fault() {
    let mut client = Client::new();
    asked(&mut client, 1);
    asked(&mut client, 2);
    client.received(&answer(1, 9, 10)).unwrap();
    let mut other = Vec::new();
    append_frame(2, 1, &[4, 2, 0, 1], &mut other);
    client.received(&other).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((1, Err(LineFault::ForeignUnit(9)))));
    assert_eq!(client.poll(BootNs(1)), Some((2, Err(LineFault::Function(4)))));
}

#[test]
fn a_request_whose_answer_has_a_wrong_transaction_id_or_is_garbage_says_so_when_its_time_is_over() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(&answer(700, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(99)), None, "the right one may still come");
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Transaction(700)))));
    asked(&mut client, 2);
    client.received(&answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(100)), Some((2, Err(LineFault::Silence))), "a late answer is no wrong one");
    asked(&mut client, 3);
    client.received(&[0xFF; 9]).unwrap();
    assert_eq!(client.poll(BootNs(100)), Some((3, Err(LineFault::Garbage))));
    asked(&mut client, 4);
    client.received(&answer(700, 1, 10)).unwrap();
    client.received(&answer(4, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((4, Ok(Answer::Registers(vec![20])))));
    assert_eq!(client.counters().late_answers, 3);
}

#[test]
fn garbage_before_a_frame_is_skipped_and_endless_garbage_gives_up() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(&[0xFF; 9]).unwrap();
    client.received(&answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((1, Ok(Answer::Registers(vec![10])))));
    assert_eq!(client.counters().skipped_bytes, 9);
    assert_eq!(client.received(&[0xFF; 2000]), Err(Lost));
}

#[test]
fn lost_connection_ends_everything_in_flight() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(&answer(1, 1, 10)[..5]).unwrap();
    client.abandon();
    assert_eq!(client.poll(BootNs(1)), Some((1, Err(LineFault::Down))));
    asked(&mut client, 2);
    client.received(&answer(2, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((2, Ok(Answer::Registers(vec![20])))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_survive_any_cut_of_the_stream(cuts in proptest::collection::vec(1usize..20, 1..40)) {
        let mut client = Client::new();
        let mut stream = Vec::new();
        for id in 1..=10u16 {
            asked(&mut client, u64::from(id));
            stream.extend(answer(id, 1, u8::try_from(id).unwrap()));
        }
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            client.received(chunk).unwrap();
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        for id in 1..=10u16 {
            prop_assert_eq!(client.poll(BootNs(1)), Some((u64::from(id), Ok(Answer::Registers(vec![id])))));
        }
    }

    #[test]
    fn no_input_panics_or_is_kept_beyond_a_frame(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut client = Client::new();
        asked(&mut client, 1);
        let _ = client.received(&bytes);
        let _ = client.poll(BootNs(1));
        if let Head::Frame(frame, len) = head(&bytes) {
            prop_assert!(frame.pdu.len() + super::HEADER_BYTES == len);
        }
    }
}
