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
        client.received(BootNs(1), &answer(id, 1, value)).unwrap();
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

/// Asks something at a moment with a time-out of 100 ns. The first id is 1.
fn ask(client: &mut Client, at: u64, key: u64) {
    client.send(BootNs(at), key, &request(7), Duration::from_nanos(100), &mut Vec::new()).unwrap();
}

/// A client that has learned with its first request that the gateway waits for so long.
fn behind_a_gateway(waits_ns: u64) -> Client {
    let mut client = Client::new();
    ask(&mut client, 0, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    client.received(BootNs(waits_ns), &given_up(1)).unwrap();
    assert_eq!(client.poll(BootNs(waits_ns)), None);
    client
}

#[test]
fn a_request_behind_one_that_the_gateway_gives_up_late_has_its_whole_time() {
    let mut client = Client::new();
    asked(&mut client, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    let mut out = Vec::new();
    client.send(BootNs(120), 2, &request(7), Duration::from_nanos(100), &mut out).unwrap();
    // The gateway was busy with the first one until now.
    client.received(BootNs(200), &given_up(1)).unwrap();
    assert_eq!(client.poll(BootNs(200)), None);
    assert_eq!(client.poll(BootNs(299)), None);
    client.received(BootNs(1), &answer(2, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(299)), Some((2, Ok(Answer::Registers(vec![20])))));
}

#[test]
fn a_silent_request_is_in_flight_for_as_long_as_the_gateway_is_known_to_wait_and_gives_no_late_value() {
    let mut client = behind_a_gateway(250);
    for (key, late, outcome) in
        [(2, given_up(2), Ok(Answer::Exception(11))), (3, answer(3, 1, 10), Err(LineFault::Silence))]
    {
        let from = key * 1000;
        ask(&mut client, from, key);
        assert_eq!(client.poll_timeout(), Some(BootNs(from + 100)));
        assert_eq!(client.poll(BootNs(from + 100)), None, "the gateway still waits");
        assert_eq!(client.poll_timeout(), Some(BootNs(from + 250)));
        client.received(BootNs(from + 200), &late).unwrap();
        assert_eq!(client.poll(BootNs(from + 200)), Some((key, outcome)));
    }
    // An answer that is read late because this thread runs late is a value.
    ask(&mut client, 4000, 4);
    client.received(BootNs(1), &answer(4, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(4150)), Some((4, Ok(Answer::Registers(vec![10])))));
    ask(&mut client, 5000, 5);
    assert_eq!(client.poll(BootNs(5249)), None);
    assert_eq!(client.poll(BootNs(5250)), Some((5, Err(LineFault::Silence))));
}

#[test]
fn a_request_behind_one_that_a_known_gateway_gives_up_has_its_whole_time_as_well() {
    let value = Ok(Answer::Registers(vec![20]));
    for together in [false, true] {
        let mut client = behind_a_gateway(250);
        ask(&mut client, 1000, 2);
        ask(&mut client, 1010, 3);
        assert_eq!(client.poll(BootNs(1110)), None);
        if together {
            // Both are read at once because this thread runs late.
            client.received(BootNs(1255), &[given_up(2), answer(3, 1, 20)].concat()).unwrap();
            assert_eq!(client.poll(BootNs(1255)), Some((2, Ok(Answer::Exception(11)))));
        } else {
            client.received(BootNs(1245), &given_up(2)).unwrap();
            assert_eq!(client.poll(BootNs(1245)), Some((2, Ok(Answer::Exception(11)))));
            client.received(BootNs(1255), &answer(3, 1, 20)).unwrap();
        }
        assert_eq!(client.poll(BootNs(1255)), Some((3, value.clone())), "read together: {together}");
    }
}

#[test]
fn a_gateway_that_repeats_itself_keeps_no_request_in_flight() {
    let mut client = Client::new();
    ask(&mut client, 0, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    ask(&mut client, 120, 2);
    let end = (150..).step_by(50).take(100).find_map(|at| {
        client.received(BootNs(at), &given_up(1)).unwrap();
        Some((at, client.poll(BootNs(at))?))
    });
    // Its time began at 150, and the gateway is known to wait for 150 ns.
    assert_eq!(end, Some((300, (2, Err(LineFault::Silence)))));
}

#[test]
fn what_the_gateway_gives_up_keeps_nothing_in_flight_that_was_asked_before() {
    let mut client = Client::new();
    ask(&mut client, 0, 1);
    let end = (10..).step_by(10).zip(2..).take(100).find_map(|(at, key)| {
        ask(&mut client, at, key);
        client.received(BootNs(at + 5), &given_up(u16::try_from(key).unwrap())).unwrap();
        let ended = std::iter::from_fn(|| client.poll(BootNs(at + 5)));
        ended.into_iter().find(|(ended, _)| *ended == 1).map(|ended| (at, ended))
    });
    assert_eq!(end, Some((100, (1, Err(LineFault::Silence)))));
}

#[test]
fn the_time_in_the_queue_of_a_gateway_is_not_taken_for_the_time_that_it_waits() {
    let mut client = Client::new();
    (1..=4).for_each(|key| ask(&mut client, 0, key));
    for key in 1..=4 {
        assert_eq!(client.poll(BootNs(100)), Some((key, Err(LineFault::Silence))));
    }
    for id in 1..=4 {
        let at = BootNs(250 * u64::from(id));
        client.received(at, &given_up(id)).unwrap();
        assert_eq!(client.poll(at), None);
    }
    ask(&mut client, 2000, 5);
    assert_eq!(client.poll(BootNs(2249)), None);
    assert_eq!(client.poll(BootNs(2250)), Some((5, Err(LineFault::Silence))));
    // Each of four waits for the ones before it, and then for as long as the gateway does.
    (6..=9).for_each(|key| ask(&mut client, 3000, key));
    for id in 6..=9 {
        let at = 3000 + 250 * (u64::from(id) - 5);
        assert_eq!(client.poll(BootNs(at - 1)), None);
        client.received(BootNs(at), &given_up(id)).unwrap();
        assert_eq!(client.poll(BootNs(at)), Some((u64::from(id), Ok(Answer::Exception(11)))));
    }
}

#[test]
fn a_request_ends_however_many_the_gateway_gives_up_before_it() {
    let mut client = Client::new();
    let second = 1_000_000_000;
    (1..=16).for_each(|key| ask(&mut client, 0, key));
    let mut ended = None;
    for id in 1..=15 {
        let at = BootNs(u64::from(id) * second);
        client.received(at, &given_up(id)).unwrap();
        ended = ended.or(std::iter::from_fn(|| client.poll(at)).find(|(key, _)| *key == 16).map(|_| at));
    }
    // Five seconds behind others, and as long as it is waited for.
    assert_eq!(ended, Some(BootNs(6 * second)));
}

#[test]
fn no_gateway_is_waited_for_longer_than_five_seconds() {
    let mut client = Client::new();
    asked(&mut client, 1);
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Silence))));
    client.received(BootNs(60_000_000_000), &given_up(1)).unwrap();
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
    client.received(BootNs(1), &answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(1)), None);
    client.received(BootNs(1), &answer(2, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((2, Ok(Answer::Registers(vec![20])))));
    assert_eq!(client.counters().late_answers, 1);
}

#[test]
fn answer_of_another_unit_or_function_is_a_fault() {
    let mut client = Client::new();
    asked(&mut client, 1);
    asked(&mut client, 2);
    client.received(BootNs(1), &answer(1, 9, 10)).unwrap();
    let mut other = Vec::new();
    append_frame(2, 1, &[4, 2, 0, 1], &mut other);
    client.received(BootNs(1), &other).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((1, Err(LineFault::ForeignUnit(9)))));
    assert_eq!(client.poll(BootNs(1)), Some((2, Err(LineFault::Function(4)))));
}

#[test]
fn a_request_whose_answer_has_a_wrong_transaction_id_or_is_garbage_says_so_when_its_time_is_over() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(BootNs(1), &answer(700, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(99)), None, "the right one may still come");
    assert_eq!(client.poll(BootNs(100)), Some((1, Err(LineFault::Transaction(700)))));
    asked(&mut client, 2);
    client.received(BootNs(1), &answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(100)), Some((2, Err(LineFault::Silence))), "a late answer is no wrong one");
    asked(&mut client, 3);
    client.received(BootNs(1), &[0xFF; 9]).unwrap();
    assert_eq!(client.poll(BootNs(100)), Some((3, Err(LineFault::Garbage))));
    asked(&mut client, 4);
    client.received(BootNs(1), &answer(700, 1, 10)).unwrap();
    client.received(BootNs(1), &answer(4, 1, 20)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((4, Ok(Answer::Registers(vec![20])))));
    assert_eq!(client.counters().late_answers, 3);
}

#[test]
fn garbage_before_a_frame_is_skipped_and_endless_garbage_gives_up() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(BootNs(1), &[0xFF; 9]).unwrap();
    client.received(BootNs(1), &answer(1, 1, 10)).unwrap();
    assert_eq!(client.poll(BootNs(1)), Some((1, Ok(Answer::Registers(vec![10])))));
    assert_eq!(client.counters().skipped_bytes, 9);
    assert_eq!(client.received(BootNs(1), &[0xFF; 2000]), Err(Lost));
}

#[test]
fn lost_connection_ends_everything_in_flight() {
    let mut client = Client::new();
    asked(&mut client, 1);
    client.received(BootNs(1), &answer(1, 1, 10)[..5]).unwrap();
    client.abandon();
    assert_eq!(client.poll(BootNs(1)), Some((1, Err(LineFault::Down))));
    asked(&mut client, 2);
    client.received(BootNs(1), &answer(2, 1, 20)).unwrap();
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
            client.received(BootNs(1), chunk).unwrap();
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
        let _ = client.received(BootNs(1), &bytes);
        let _ = client.poll(BootNs(1));
        if let Head::Frame(frame, len) = head(&bytes) {
            prop_assert!(frame.pdu.len() + super::HEADER_BYTES == len);
        }
    }
}
