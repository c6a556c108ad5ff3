//! Last wills of 5.0: delay, and the DISCONNECT that wants them.

use std::time::Duration;

use super::wire::{Bench, connect, frames};
use super::wire5::{Will, connect5, disconnect5, four, pair};
use crate::broker::{CloseReason, ConnId};

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
