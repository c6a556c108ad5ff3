//! What MQTT 3.1.1 promises within one connection.

use std::time::Duration;

use super::wire::{
    Bench, GOODBYE, PING, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, publish, subscribe,
    unsubscribe,
};
use crate::broker::{CloseReason, ConnId, Limits};
use crate::uplink::row::Qos;

#[test]
fn a_message_is_delivered_with_the_lower_of_both_qos() {
    for published in 0..=2_u8 {
        for subscribed in 0..=2_u8 {
            let mut bench = Bench::new();
            let listener = bench.subscriber("listener", true, "t", subscribed);
            let speaker = bench.client("speaker", true);
            bench.say(speaker, &publish(published << 1, "t", 7, "x"));
            let answer = match published {
                0 => vec![],
                1 => ack(PUBACK, 7),
                _ => ack(PUBREC, 7),
            };
            assert_eq!(bench.told(speaker), answer);
            let lower = published.min(subscribed);
            let heard = bench.heard(listener);
            assert_eq!(heard.len(), 1);
            assert_eq!(heard[0].0, 0x30 | lower << 1, "published {published}, subscribed {subscribed}");
            assert_eq!((heard[0].1.as_str(), heard[0].3.as_str()), ("t", "x"));
        }
    }
}

#[test]
fn a_qos_2_message_is_routed_once_however_often_it_is_sent() {
    let mut bench = Bench::new();
    let listener = bench.subscriber("listener", true, "t", 0);
    let speaker = bench.client("speaker", true);
    bench.say(speaker, &publish(4, "t", 9, "x"));
    bench.say(speaker, &publish(12, "t", 9, "x"));
    assert_eq!(bench.told(speaker), [ack(PUBREC, 9), ack(PUBREC, 9)].concat());
    bench.say(speaker, &ack(PUBREL, 9));
    bench.say(speaker, &ack(PUBREL, 9));
    assert_eq!(bench.told(speaker), [ack(PUBCOMP, 9), ack(PUBCOMP, 9)].concat());
    assert_eq!(bench.heard(listener).len(), 1);
    bench.say(speaker, &publish(4, "t", 9, "another"));
    assert_eq!(bench.heard(listener).len(), 1, "a released identifier is free again");
}

#[test]
fn a_qos_2_delivery_goes_through_its_four_packets() {
    let mut bench = Bench::new();
    let listener = bench.subscriber("listener", true, "t", 2);
    bench.local("t", "x", Qos::ExactlyOnce, false);
    let id = bench.heard(listener)[0].2;
    bench.say(listener, &ack(PUBREC, id));
    assert_eq!(bench.told(listener), ack(PUBREL, id));
    bench.say(listener, &ack(PUBCOMP, id));
    assert_eq!(bench.told(listener), b"");
    assert_eq!(bench.broker.gauges().held_bytes, 0);
}

#[test]
fn a_retained_message_is_given_to_whoever_subscribes_later_and_again() {
    let mut bench = Bench::new();
    bench.local("state/a", "1", Qos::AtLeastOnce, true);
    bench.local("state/a", "2", Qos::AtLeastOnce, true);
    bench.local("state/b", "3", Qos::AtMostOnce, true);
    let client = bench.client("a", true);
    for _ in 0..2 {
        bench.say(client, &subscribe(5, &[("state/+", 1)]));
        let told = bench.told(client);
        let kinds: Vec<u8> = frames(&told).iter().map(|frame| frame[0]).collect();
        assert_eq!(kinds, [0x90, 0x33, 0x31], "SUBACK, then retained with the lower QoS");
    }
}

#[test]
fn a_live_message_is_not_marked_retained_and_an_empty_one_clears() {
    let mut bench = Bench::new();
    let early = bench.subscriber("early", true, "t", 0);
    let speaker = bench.client("speaker", true);
    bench.say(speaker, &publish(1, "t", 0, "x"));
    bench.say(speaker, &publish(0, "t", 0, ""));
    assert_eq!(bench.heard(early)[0].0, 0x30);
    assert_eq!(
        bench.broker.gauges().retained_messages,
        1,
        "an empty message that is not retained clears nothing"
    );
    bench.say(speaker, &publish(1, "t", 0, ""));
    assert_eq!(bench.heard(early).len(), 1, "clearing is told to who is there");
    assert_eq!(bench.broker.gauges().retained_messages, 0);
    let late = bench.subscriber("late", true, "t", 0);
    assert_eq!(bench.heard(late), []);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_the_highest_qos() {
    let mut bench = Bench::new();
    let client = bench.client("a", true);
    bench.say(client, &subscribe(1, &[("t/#", 0), ("t/+", 1), ("#", 0)]));
    bench.told(client);
    bench.local("t/x", "x", Qos::ExactlyOnce, false);
    assert_eq!(bench.heard(client).iter().map(|heard| heard.0).collect::<Vec<_>>(), [0x32]);
}

#[test]
fn a_subscription_ends_with_unsubscribe() {
    let mut bench = Bench::new();
    let client = bench.subscriber("a", true, "t", 0);
    bench.say(client, &unsubscribe(2, "t"));
    bench.say(client, &unsubscribe(3, "never/had"));
    assert_eq!(bench.told(client), [ack(0xb0, 2), ack(0xb0, 3)].concat());
    bench.local("t", "x", Qos::AtMostOnce, false);
    assert_eq!(bench.told(client), b"");
}

#[test]
fn topics_of_the_server_stay_out_of_root_wildcards() {
    let mut bench = Bench::new();
    let all = bench.subscriber("all", true, "#", 0);
    let own = bench.subscriber("own", true, "$SYS/#", 0);
    bench.local("$SYS/x", "x", Qos::AtMostOnce, false);
    assert_eq!((bench.heard(all).len(), bench.heard(own).len()), (0, 1));
}

#[test]
fn the_will_speaks_at_every_end_but_a_goodbye() {
    let will = Some(("will", "gone", 1, true));
    type End = fn(&mut Bench, ConnId);
    let ends: [(&str, End, bool); 5] = [
        ("lost", |bench, conn| bench.lose(conn), true),
        ("malformed", |bench, conn| bench.say(conn, &[0xff, 0]), true),
        ("silent", |bench, _| bench.wait(Duration::from_secs(16)), true),
        ("taken over", |bench, _| _ = bench.client("a", true), true),
        ("goodbye", |bench, conn| bench.say(conn, GOODBYE), false),
    ];
    for (name, end, speaks) in ends {
        let mut bench = Bench::new();
        let listener = bench.subscriber("listener", true, "will", 2);
        let conn = bench.open();
        bench.say(conn, &connect("a", true, 10, will));
        bench.told(conn);
        end(&mut bench, conn);
        let heard: Vec<_> = bench.heard(listener).into_iter().map(|heard| (heard.0, heard.3)).collect();
        let expected = if speaks { vec![(0x32, "gone".to_owned())] } else { vec![] };
        assert_eq!(heard, expected, "{name}");
        assert_eq!(bench.broker.gauges().retained_messages, usize::from(speaks), "{name}");
    }
}

#[test]
fn a_client_may_be_silent_for_one_and_a_half_times_its_keep_alive() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, &connect("a", true, 10, None));
    bench.wait(Duration::from_millis(14_999));
    assert_eq!(bench.fate(conn), None);
    bench.say(conn, PING);
    bench.wait(Duration::from_millis(14_999));
    assert_eq!(bench.fate(conn), None);
    bench.local("t", "what the broker sends does not count", Qos::AtMostOnce, false);
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.fate(conn), Some(&CloseReason::KeepAlive));
    assert_eq!(bench.broker.poll_timeout(), None);
}

#[test]
fn keep_alive_0_is_for_ever() {
    let mut bench = Bench::new();
    let conn = bench.client("a", true);
    bench.wait(Duration::from_secs(1_000_000));
    assert_eq!(bench.fate(conn), None);
    bench.say(conn, PING);
    assert_eq!(bench.told(conn), [0xd0, 0]);
}

#[test]
fn a_connection_without_connect_is_cut_in_time() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.wait(Duration::from_millis(9_000));
    bench.say(conn, &connect("a", true, 0, None)[..5]);
    bench.wait(Duration::from_millis(1_000));
    assert_eq!(bench.fate(conn), Some(&CloseReason::Handshake));
}

#[test]
fn packets_may_come_cut_anywhere_and_glued_together() {
    let mut bench = Bench::new();
    let conn = bench.open();
    let stream = [
        connect("a", true, 0, None),
        subscribe(1, &[("t", 0)]),
        publish(2, "t", 3, &"long ".repeat(100)),
        PING.to_vec(),
    ]
    .concat();
    for byte in &stream {
        bench.say(conn, &[*byte]);
    }
    let one_by_one = bench.told(conn);
    let conn = bench.open();
    bench.say(conn, &stream);
    assert_eq!(bench.told(conn), one_by_one);
    assert_eq!(frames(&one_by_one).len(), 5);
}

#[test]
fn a_version_from_the_future_is_refused() {
    let mut other = connect("a", true, 0, None);
    other[8] = 6;
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, &other);
    assert_eq!(bench.told(conn), [0x20, 3, 0, 0x84, 0], "in the words of 5.0");
    assert_eq!(bench.fate(conn), Some(&CloseReason::Version));
}

#[test]
fn a_client_without_an_id_gets_one_if_its_session_is_clean() {
    let mut bench = Bench::new();
    let first = bench.client("", true);
    let second = bench.client("", true);
    assert_eq!((bench.fate(first), bench.fate(second)), (None, None));
    let conn = bench.open();
    bench.say(conn, &connect("", false, 0, None));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 2]);
    assert_eq!(bench.fate(conn), Some(&CloseReason::ClientId));
}

#[test]
fn a_client_that_does_not_read_loses_qos_0_messages_only() {
    let mut bench = Bench::with(Limits { outbox_bytes_max: 1000, inflight_max: 5, ..Limits::default() });
    let slow = bench.client("slow", true);
    bench.say(slow, &subscribe(1, &[("a", 0), ("b", 1)]));
    bench.told(slow);
    bench.writes = false;
    let body = "x".repeat(100);
    for _ in 0..20 {
        bench.local("a", &body, Qos::AtMostOnce, false);
    }
    let heard = bench.heard(slow);
    assert!(heard.len() < 12, "{}", heard.len());
    for _ in 0..20 {
        bench.local("b", &body, Qos::AtLeastOnce, false);
    }
    assert_eq!(bench.told(slow), b"", "no room");
    assert_eq!(bench.broker.counters().dropped_slow_messages_total, 20 - heard.len() as u64);
    bench.writes = true;
    bench.broker.handle_sent(bench.now, slow, 10_000);
    bench.run();
    let mut got = 0;
    loop {
        let heard = bench.heard(slow);
        if heard.is_empty() {
            break;
        }
        assert!(heard.len() <= 5, "the window");
        got += heard.len();
        for (_, _, id, _) in heard {
            bench.say(slow, &ack(PUBACK, id));
        }
    }
    assert_eq!(got, 20);
}
