//! Last wills of 5.0: delay, and the DISCONNECT that wants them.

use std::time::Duration;

use super::people::{hello, two_users};
use super::wire::{Bench, connect, frames};
use super::wire5::{Will, connect5, disconnect5, four, pair};
use crate::broker::{CloseReason, ConnId, Limits, Settings};

const DELAY: u8 = 0x18;
const EXPIRY: u8 = 0x11;

/// A listener, and a client of 5.0 with a will that is told after a delay.
fn bench(delay_s: u32, expiry_s: u32) -> (Bench, ConnId, ConnId) {
    let mut bench = Bench::new();
    let listener = bench.subscriber("listener", true, "will", 1);
    let conn = bench.open();
    let extras = [four(DELAY, delay_s)];
    let will = Will("will", "gone", 1, true, &extras);
    bench.say(conn, &connect5("a", true, 0, &[four(EXPIRY, expiry_s)], Some(will)));
    bench.told(conn);
    (bench, listener, conn)
}

#[test]
fn a_will_speaks_after_its_delay() {
    let (mut bench, listener, conn) = bench(10, 100);
    bench.lose(conn);
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.told(listener), b"");
    bench.wait(Duration::from_secs(1));
    let heard = bench.heard(listener);
    assert_eq!((heard[0].0, heard[0].3.as_str()), (0x32, "gone"));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    assert_eq!(bench.broker.counters().wills_total, 1);
}

#[test]
fn a_will_is_silent_if_its_client_comes_back_in_time() {
    let (mut bench, listener, conn) = bench(10, 100);
    bench.lose(conn);
    bench.wait(Duration::from_secs(9));
    let (_, connack) = bench.client5("a", false, &[four(EXPIRY, 100)]);
    assert_eq!(connack[0], 1);
    bench.wait(Duration::from_secs(1000));
    assert_eq!(bench.told(listener), b"");
}

#[test]
fn a_will_speaks_at_the_end_of_its_session_if_that_comes_first() {
    let (mut bench, listener, conn) = bench(1000, 10);
    bench.lose(conn);
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.heard(listener).len(), 1);
    // Its note is counted with its like for a minute.
    bench.wait(Duration::from_secs(60));
    assert_eq!(bench.broker.poll_timeout(), None);
    let (mut bench, listener, conn) = self::bench(1000, 100);
    bench.lose(conn);
    bench.client5("a", true, &[]);
    assert_eq!(bench.heard(listener).len(), 1, "a clean start ends the session");
    let (mut bench, listener, conn) = self::bench(1000, 0);
    bench.lose(conn);
    assert_eq!(bench.heard(listener).len(), 1, "a session that ends with its connection");
}

#[test]
fn a_disconnect_may_want_the_will() {
    for (code, speaks) in [(0x00, 0), (0x04, 1)] {
        let (mut bench, listener, conn) = bench(0, 0);
        bench.say(conn, &disconnect5(code, &[]));
        assert_eq!(bench.fate(conn), Some(&CloseReason::Goodbye));
        assert_eq!(bench.heard(listener).len(), speaks);
    }
}

#[test]
fn a_take_over_lets_a_will_without_delay_speak_and_one_with_delay_wait() {
    for (delay_s, speaks) in [(0, 1), (10, 0)] {
        let (mut bench, listener, _) = bench(delay_s, 100);
        bench.client5("a", false, &[]);
        assert_eq!(bench.heard(listener).len(), speaks);
    }
}

#[test]
fn a_will_carries_its_properties_and_its_expiry_counts_from_its_telling() {
    let mut bench = Bench::new();
    let listener = bench.subscriber5("listener", "will", 0);
    let conn = bench.open();
    let extras = [four(0x02, 60), pair("k", "v")];
    bench.say(conn, &connect5("a", true, 0, &[], Some(Will("will", "gone", 0, false, &extras))));
    bench.told(conn);
    bench.wait(Duration::from_secs(1000));
    bench.lose(conn);
    let heard = bench.heard5(listener);
    assert_eq!(heard[0].properties, extras.concat());
}

#[test]
fn a_will_is_forgotten_with_the_connection_that_brought_it() {
    let mut bench = Bench::new();
    let listener = bench.subscriber("listener", true, "will", 1);
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, Some(("will", "gone", 1, false))));
    bench.lose(conn);
    assert_eq!(bench.heard(listener).len(), 1);
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    let told = bench.told(conn);
    assert_eq!(frames(&told).len(), 1);
    bench.lose(conn);
    assert_eq!(bench.told(listener), b"", "the second one brought none");
}

/// A durable client with a delayed will of so many bytes, from an address; the code of CONNACK. It goes again.
fn leaves(bench: &mut Bench, from: &str, id: &str, user: Option<&str>, bytes: usize) -> u8 {
    let will = "x".repeat(bytes);
    let conn = bench.enter(from, &hello(id, user, false, u32::MAX, Some(("will", &will, u32::MAX))));
    let code = bench.told(conn)[3];
    bench.lose(conn);
    code
}

/// One client after the other leaves a will, large ones first, until the smallest is refused. How many bytes all have then.
fn takes_all(bench: &mut Bench, from: &str, user: Option<&str>) -> u64 {
    for bytes in [65_000, 8000, 500, 10, 0] {
        let mut number = 0;
        while leaves(bench, from, &format!("{from}/{bytes}/{number}"), user, bytes) == 0 {
            number += 1;
        }
    }
    bench.broker.gauges().wills_bytes
}

#[test]
fn wills_of_one_address_leave_room_for_those_of_others_also_after_a_crash() {
    let mut bench = Bench::stored(two_users(true, &[]));
    let half = Limits::default().wills_bytes_max as u64 / 2;
    let taken = takes_all(&mut bench, "192.0.2.66:1", None);
    assert!((half - 1000..=half + (8 << 10)).contains(&taken), "{taken}");
    assert_eq!(leaves(&mut bench, "192.0.2.1:1", "honest", None, 4000), 0);
    assert_eq!(
        leaves(&mut bench, "192.0.2.66:1", "user", Some("ada"), 4),
        0,
        "a user is no part of the address"
    );
    bench.wait(Duration::from_secs(10));
    bench.crash();
    let before = bench.broker.gauges().wills_bytes;
    assert!(before > half);
    assert_eq!(leaves(&mut bench, "192.0.2.1:1", "honest", None, 4000), 0, "what it had");
    assert_eq!(leaves(&mut bench, "192.0.2.2:1", "another", None, 4), 0, "others with little");
    let taken = takes_all(&mut bench, "192.0.2.66:1", None);
    assert!(taken <= half + (24 << 10), "it has left its half before: {before} {taken}");
    assert_eq!(leaves(&mut bench, "192.0.2.3:1", "third", None, 4), 0);
}

#[test]
fn whoever_has_no_will_yet_finds_room_although_some_have_taken_all_but_a_reserve() {
    let mut bench = Bench::stored(two_users(true, &[]));
    let max = Limits::default().wills_bytes_max as u64;
    takes_all(&mut bench, "192.0.2.66:1", None);
    takes_all(&mut bench, "192.0.2.67:1", None);
    let taken = takes_all(&mut bench, "192.0.2.68:1", Some("bob"));
    assert!((max / 8 * 7..=max / 8 * 7 + (24 << 10)).contains(&taken), "{taken}");
    assert_eq!(leaves(&mut bench, "192.0.2.1:1", "honest", None, 4), 0);
    assert_eq!(leaves(&mut bench, "192.0.2.66:1", "user", Some("ada"), 4), 0);
    assert_eq!(
        leaves(&mut bench, "192.0.2.1:1", "large", None, 20_000),
        0x97,
        "the reserve is for little ones"
    );
    assert_eq!(leaves(&mut bench, "192.0.2.1:1", "honest", None, 4), 0, "it comes again");
}

#[test]
fn wills_never_take_more_than_there_is_for_all_and_none_that_was_granted_goes() {
    let limits = Limits { wills_bytes_max: 64 << 10, ..Limits::default() };
    let mut bench = Bench::stored(Settings { limits, ..two_users(true, &[]) });
    let mut refused = 0;
    for number in 0..500 {
        let from = format!("192.0.2.{}:1", number % 250);
        refused += usize::from(leaves(&mut bench, &from, &format!("c{number}"), None, 4) != 0);
        assert!(bench.broker.gauges().wills_bytes <= 64 << 10);
    }
    assert!(refused > 0);
    assert_eq!(bench.broker.counters().wills_total, 0);
    assert_eq!(bench.broker.counters().wills_full_total, refused as u64);
}
