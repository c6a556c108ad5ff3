//! What is kept is charged, also at a start over what an earlier version took.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{open_door, sieved};
use super::left_out::with_messages_left_out;
use super::wire::{Bench, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, publish, subscribe};
use super::wire5::{Will, connect5, four, pair, publish5};
use crate::broker::facts::{self, Ended, SessionFact, Value};
use crate::broker::packet::{Message, Options, Testament, Version};
use crate::broker::properties::Writer;
use crate::broker::settings::{RECEIVED_BYTES_MAX, RetainedRule, RetainedRules};
use crate::broker::topic::TopicName;
use crate::broker::{Answer, CloseReason, FactKind, Limits, Settings, TopicFilter};
use crate::tag::{BootId, BootNs};
use crate::uplink::row::{Qos, Seq};

const EXPIRY: u8 = 0x11;
const WILL_DELAY: u8 = 0x18;
const MESSAGE_EXPIRY: u8 = 0x02;

/// A kilobyte of properties.
fn kilobyte() -> Vec<Vec<u8>> {
    vec![pair("n", &"v".repeat(1000))]
}

pub(super) fn settings(limits: Limits) -> Settings {
    Settings { limits, listeners: vec![open_door()], ..Settings::default() }
}

/// A message as an earlier version took it, with so many empty user properties.
pub(super) fn message(topic: &str, body: &str, pairs: usize) -> Message {
    let mut writer = Writer::default();
    for _ in 0..pairs {
        writer.user(b"", b"");
    }
    Message {
        topic: TopicName::stored(topic).unwrap(),
        body: body.as_bytes().into(),
        qos: Qos::ExactlyOnce,
        retain: true,
        properties: writer.finish(),
        at: BootNs(1),
        expiry_s: None,
    }
}

/// Bodies that a new subscriber of 3.1.1 gets.
fn retained(bench: &mut Bench, filter: &str) -> Vec<String> {
    let conn = bench.client("retained", true);
    bench.say(conn, &subscribe(1, &[(filter, 0)]));
    let told = bench.told(conn);
    let body = |frame: &[u8]| {
        let topic_len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
        String::from_utf8_lossy(&frame[4 + topic_len..]).into_owned()
    };
    frames(&told)[1..].iter().map(|frame| body(frame)).collect()
}

fn retain(bench: &mut Bench, message: Message) {
    let key = facts::retained_key(message.topic.shared());
    bench.disk.facts.insert(key, Value::Retained(Arc::new(message)).encode(BootId(7)));
}

/// A session that is stored, with a will.
pub(super) fn store_session(bench: &mut Bench, client: &str, will: Option<Message>) {
    store_session_of(bench, client, Some(Ended::At(Duration::ZERO)), will);
}

fn store_session_of(bench: &mut Bench, client: &str, ended: Option<Ended>, will: Option<Message>) {
    let fact = SessionFact {
        version: Version::V5,
        expiry_s: u32::MAX,
        user: None,
        sent: Seq(0),
        ended,
        will: will.map(|message| Testament { message, delay: Duration::from_secs(60) }),
        will_left_out: false,
    };
    let value = facts::session(&fact, BootId(7)).encode(BootId(7));
    bench.disk.facts.insert(facts::session_key(&client.into()), value);
}

#[test]
fn properties_of_retained_messages_count_and_what_has_no_room_is_delivered_and_not_kept() {
    let limits = Limits { retained_bytes_max: 10 << 10, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let reader = bench.subscriber5("reader", "#", 0);
    let (conn, _) = bench.client5("a", true, &[]);
    for number in 0..20 {
        bench.say(conn, &publish5(1, &format!("r/{number}"), 0, &kilobyte(), "1"));
    }
    let gauges = bench.broker.gauges();
    assert!((5..9).contains(&gauges.retained_messages), "{gauges:?}");
    assert!(gauges.retained_bytes > 1000 * gauges.retained_messages as u64, "{gauges:?}");
    assert!(gauges.retained_bytes <= 10 << 10, "{gauges:?}");
    let kept = gauges.retained_messages as u64;
    assert_eq!(bench.broker.counters().unretained_messages_total, 20 - kept);
    assert!(!bench.told(reader).is_empty());
}

#[test]
fn a_will_that_has_no_room_is_refused_at_connect_and_a_will_that_went_makes_room() {
    let limits = Limits { wills_bytes_max: 20 << 10, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut told = Vec::new();
    let mut conns = Vec::new();
    for number in 0..20 {
        let conn = bench.open();
        let extras = kilobyte();
        let will = Will("will", "gone", 0, false, &extras);
        bench.say(conn, &connect5(&format!("c{number}"), true, 0, &[], Some(will)));
        told.push(bench.told(conn)[3]);
        conns.push(conn);
    }
    let taken = told.iter().filter(|code| **code == 0).count();
    // Without a user they have half of it.
    assert!((6..=9).contains(&taken), "{told:?}");
    assert!(told[taken..].iter().all(|code| *code == 0x97), "{told:?}");
    assert_eq!(bench.broker.counters().wills_full_total, 20 - taken as u64);
    assert!(bench.broker.gauges().wills_bytes <= 10 << 10);
    // 3.1.1 has a code for it, too; small ones fit, and none at all always does.
    let conn = bench.open();
    bench.say(conn, &connect("d", true, 0, Some(("will", &"x".repeat(4000), 0, false))));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 3]);
    bench.client("e", true);
    bench.lose(conns[0]);
    let conn = bench.open();
    let extras = kilobyte();
    bench.say(conn, &connect5("f", true, 0, &[], Some(Will("will", "gone", 0, false, &extras))));
    assert_eq!(bench.told(conn)[3], 0);
}

#[test]
fn a_client_that_comes_again_with_its_will_needs_no_second_room() {
    let limits = Limits { wills_bytes_max: 4 << 10, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let extras = kilobyte();
    for _ in 0..5 {
        let conn = bench.open();
        bench.say(conn, &connect5("c", true, 0, &[], Some(Will("will", "gone", 0, false, &extras))));
        assert_eq!(bench.told(conn)[3], 0);
    }
}

#[test]
fn delayed_wills_count_until_they_speak() {
    let limits = Limits { wills_bytes_max: 8 << 10, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut refused = 0;
    for number in 0..20 {
        let conn = bench.open();
        let extras = [kilobyte(), vec![four(WILL_DELAY, 100)]].concat();
        let will = Will("will", "gone", 0, false, &extras);
        bench.say(conn, &connect5(&format!("c{number}"), true, 0, &[four(EXPIRY, 1000)], Some(will)));
        refused += usize::from(bench.told(conn)[3] == 0x97);
        bench.lose(conn);
    }
    assert!(refused > 10, "{refused}");
    assert!(bench.broker.gauges().wills_bytes > 1000);
    bench.wait(Duration::from_secs(100));
    assert_eq!(bench.broker.gauges().wills_bytes, 0);
}

#[test]
fn qos_2_messages_that_uplinks_do_not_take_hold_their_publishers_and_their_bytes_are_bounded() {
    let mut bench = Bench::stored(settings(Limits::default()));
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    let conn = bench.client("a", false);
    let body = "x".repeat(200_000);
    for id in 1..=60 {
        if bench.holds(conn).is_empty() {
            bench.say(conn, &publish(4, "t", id, &body));
        }
    }
    let held = bench.broker.gauges().received_bytes;
    assert!((RECEIVED_BYTES_MAX..RECEIVED_BYTES_MAX + 300_000).contains(&held), "{held}");
    assert_eq!(bench.holds(conn), [true]);
    // As the uplink takes them, the publisher goes on.
    bench.receipts = true;
    for ticket in std::mem::take(&mut bench.owed) {
        bench.broker.handle_receipt(bench.now, ticket, crate::broker::Fate::Safe);
    }
    bench.run();
    assert_eq!(bench.holds(conn).last(), Some(&false));
    assert_eq!(bench.broker.gauges().received_bytes, 0);
}

#[test]
fn a_session_that_ends_gives_back_what_its_qos_2_messages_held() {
    let mut bench = Bench::stored(settings(Limits::default()));
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    let conn = bench.client("a", false);
    bench.say(conn, &publish(4, "t", 1, "body"));
    assert!(bench.broker.gauges().received_bytes > 0);
    bench.client("a", true);
    assert_eq!(bench.broker.gauges().received_bytes, 0);
}

#[test]
fn a_start_takes_no_more_retained_messages_than_there_is_memory_for_and_deletes_none() {
    let limits = Limits { retained_bytes_max: 1 << 20, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for number in 0..385 {
        retain(&mut bench, message(&format!("r/{number:03}"), "1", 3000));
    }
    retain(&mut bench, message("small", "1", 0));
    bench.crash();
    let (gauges, counters) = (bench.broker.gauges(), bench.broker.counters());
    assert!(gauges.retained_bytes <= 1 << 20 && gauges.retained_messages > 50, "{gauges:?}");
    assert_eq!(counters.left_out_facts_total + gauges.retained_messages as u64, 386);
    assert_eq!(counters.damaged_facts_total, 0);
    assert_eq!(bench.disk.facts.len(), 386, "all of them are still on disk");
    assert_eq!(retained(&mut bench, "small"), ["1"], "what fits is taken, also behind what does not");
    // With more room they are back; one that was cleared or replaced meanwhile is not.
    let conn = bench.client("a", true);
    bench.say(conn, &publish(3, "r/384", 1, ""));
    bench.say(conn, &publish(3, "r/383", 2, "new"));
    bench.settings.limits.retained_bytes_max = 16 << 20;
    bench.crash();
    assert_eq!(bench.broker.gauges().retained_messages, 385);
    assert_eq!(bench.broker.counters().left_out_facts_total, 0);
    assert_eq!(retained(&mut bench, "r/383"), ["new"]);
}

#[test]
fn what_was_published_before_the_store_could_be_read_takes_no_room_from_the_disk() {
    let limits = Limits { retained_max: 2, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for topic in ["a", "b", "c"] {
        retain(&mut bench, message(topic, "old", 0));
    }
    let found = sieved(bench.disk.found(), &Limits::default());
    let blind = crate::broker::Found { blind: true, ..Default::default() };
    bench.broker = crate::broker::Broker::new(bench.now, bench.settings.clone(), super::disk::run(2), blind);
    bench.disk.slow = true;
    bench.local("b", "new", Qos::AtMostOnce, true);
    bench.broker.handle_answer(bench.now, Answer::Reset { found });
    bench.disk.slow = false;
    bench.run();
    assert_eq!(bench.broker.gauges().retained_messages, 2);
    assert_eq!(bench.broker.counters().left_out_facts_total, 1);
    assert_eq!(bench.disk.facts.len(), 3, "none was deleted");
}

#[test]
fn a_start_takes_no_more_wills_than_there_is_memory_for_and_their_sessions_are_there() {
    let limits = Limits { wills_bytes_max: 100 << 10, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for number in 0..50 {
        store_session(&mut bench, &format!("c{number}"), Some(message("will", "gone", 2000)));
    }
    bench.crash();
    let gauges = bench.broker.gauges();
    assert_eq!(gauges.sessions, 50);
    assert!((50 << 10..=100 << 10).contains(&gauges.wills_bytes), "{gauges:?}");
    let left_out = bench.broker.counters().left_out_facts_total;
    bench.wait(Duration::from_secs(61));
    assert_eq!(bench.broker.counters().wills_total, 50 - left_out);
    assert!(left_out > 35, "{left_out}");
}

/// What a start writes about a session whose client was there when the run before ended would take the place of the will.
#[test]
fn wills_that_did_not_fit_are_on_disk_for_every_start_until_their_clients_come() {
    let limits = Limits { wills_bytes_max: 100 << 10, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for number in 0..50 {
        let ended = (number % 2 == 0).then_some(Ended::At(Duration::ZERO));
        store_session_of(&mut bench, &format!("c{number}"), ended, Some(message("will", "gone", 2000)));
    }
    for _ in 0..3 {
        bench.crash();
        assert!(bench.broker.counters().left_out_facts_total > 30);
        // Turns are written; no will speaks yet.
        bench.wait(Duration::from_secs(10));
    }
    bench.settings.limits.wills_bytes_max = 64 << 20;
    bench.crash();
    // More than one turn's work.
    bench.wait(Duration::from_secs(61));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.broker.counters().wills_total, 50, "with higher limits and a restart they are back");
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, 0);
}

#[test]
fn a_will_that_did_not_fit_and_is_lost_is_counted() {
    let mut bench = Bench::stored(settings(Limits { wills_bytes_max: 1, ..Limits::default() }));
    for client in ["a", "b", "c"] {
        store_session(&mut bench, client, Some(message("will", "gone", 2000)));
    }
    bench.crash();
    let lost = |bench: &Bench| bench.broker.counters().dropped_left_out_messages_total;
    assert_eq!((bench.broker.counters().left_out_facts_total, lost(&bench)), (3, 0));
    bench.client("a", false);
    assert_eq!(lost(&bench), 1, "its client came again, and its session goes on");
    bench.client("b", true);
    assert_eq!(lost(&bench), 2, "its session ended");
    bench.crash();
    assert_eq!(bench.broker.counters().left_out_facts_total, 1);
}

#[test]
fn a_start_takes_no_more_qos_2_messages_than_there_is_memory_for_and_counts_those_it_loses() {
    let (mut bench, left_out) = with_messages_left_out();
    assert!(bench.broker.gauges().received_bytes <= RECEIVED_BYTES_MAX);
    assert!((50..70).contains(&left_out), "{left_out}");
    assert_eq!(bench.enqueued.len() as u64, 100 - left_out);
    let large =
        bench.disk.facts.iter().filter(|(key, value)| key.kind == FactKind::Received && value.len() > 9);
    assert_eq!(large.count(), 100, "they are on disk");
    // Their identifiers are known: none of them is taken twice. One that is released without having been there is lost, and said so.
    for ticket in std::mem::take(&mut bench.owed) {
        bench.broker.handle_receipt(bench.now, ticket, crate::broker::Fate::Safe);
    }
    bench.run();
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    bench.told(conn);
    for id in 1..=100 {
        bench.say(conn, &publish(4, "t", id, "again"));
        assert_eq!(bench.told(conn), ack(PUBREC, id));
        bench.say(conn, &ack(PUBREL, id));
        assert_eq!(bench.told(conn), ack(PUBCOMP, id));
    }
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, left_out);
    assert_eq!(bench.broker.counters().repeated_messages_total, 100);
}

#[test]
fn what_an_earlier_version_stored_under_a_topic_that_none_may_be_is_dropped_and_is_no_damage() {
    let bad = "x/\u{1}y";
    let mut bench = Bench::stored(settings(Limits::default()));
    retain(&mut bench, message(bad, "1", 0));
    store_session(&mut bench, "a", Some(message(bad, "gone", 0)));
    let held = facts::received(Some(&Arc::new(message(bad, "1", 0)))).encode(BootId(7));
    bench.disk.facts.insert(facts::received_key("a", 5), held);
    for filter in ["x/\u{1}/#", "good/#"] {
        let value = facts::subscription(Options::plain(Qos::AtLeastOnce)).encode(BootId(7));
        bench.disk.facts.insert(facts::subscription_key("a", filter), value);
    }
    let delivery = |topic: &str| crate::broker::packet::Delivery {
        message: Arc::new(message(topic, "1", 0)),
        qos: Qos::AtLeastOnce,
        retain: false,
        identifiers: Box::default(),
    };
    let rows = bench.disk.queues.entry(facts::queue_name("a")).or_default();
    for (seq, topic) in [(1, "good/1"), (2, bad), (3, "good/3")] {
        rows.insert(Seq(seq), Arc::new(facts::row(&delivery(topic), Seq(seq), super::disk::run(1))));
    }
    bench.crash();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    let heard: Vec<String> = {
        let told = bench.told(conn);
        assert_eq!(told[..4], [0x20, 2, 1, 0]);
        frames(&told[4..]).iter().map(|frame| String::from_utf8_lossy(&frame[4..10]).into()).collect()
    };
    assert_eq!(heard, ["good/1", "good/3"]);
    bench.wait(Duration::from_secs(100));
    let counters = bench.broker.counters();
    assert_eq!((counters.dropped_topic_messages_total, counters.damaged_facts_total), (4, 0));
    assert_eq!((counters.wills_total, bench.enqueued.len()), (0, 0), "nothing of it goes to the cloud");
    let gauges = bench.broker.gauges();
    assert_eq!((gauges.subscriptions, gauges.retained_messages), (2, 0), "the bridge's, and the good one");
    assert!(!bench.disk.facts.keys().any(|key| key.kind == FactKind::Retained));
    bench.say(conn, &ack(PUBREL, 5));
    assert_eq!(bench.told(conn), ack(PUBCOMP, 5));
}

#[test]
fn a_topic_that_none_may_be_ends_its_connection_and_is_counted() {
    let mut bench = Bench::new();
    let (five, _) = bench.client5("five", true, &[]);
    let three = bench.client("three", true);
    bench.say(five, &publish5(2, "x/\u{1}y", 1, &[], "1"));
    bench.say(three, &publish(2, "x/\u{fffe}y", 1, "1"));
    assert_eq!(bench.told(five), [0xe0, 1, 0x90]);
    assert_eq!(bench.told(three), b"");
    assert!(matches!(bench.fate(three), Some(CloseReason::Topic(..))));
    let three = bench.client("three", true);
    bench.say(three, &subscribe(1, &[("$share/\u{7f}/x", 0)]));
    assert!(matches!(bench.fate(three), Some(CloseReason::Topic(..))));
    assert_eq!(bench.broker.counters().topics_refused_total, 3);
}

fn expiring(rules: &[(&str, Option<u32>)], otherwise: Option<u32>) -> Bench {
    let rule = |(filter, expiry_s): &(&str, Option<u32>)| RetainedRule {
        filter: TopicFilter::new(*filter).unwrap(),
        expiry_s: *expiry_s,
    };
    let limits = Limits { retained_expiry_s: otherwise, ..Limits::default() };
    let retained = RetainedRules::new(rules.iter().map(rule).collect());
    Bench::stored(Settings { retained, ..settings(limits) })
}

#[test]
fn a_retained_message_of_a_3_1_1_publisher_expires_by_the_rule_of_its_topic_also_on_disk() {
    let mut bench = expiring(&[("sensor/#", Some(100)), ("sensor/name", None)], Some(1000));
    let conn = bench.client("a", true);
    for (id, topic, body) in [(1, "sensor/t", "t"), (2, "sensor/name", "name"), (3, "other", "other")] {
        bench.say(conn, &publish(3, topic, id, body));
    }
    bench.wait(Duration::from_secs(99));
    assert_eq!(bench.broker.gauges().retained_messages, 3);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.broker.gauges().retained_messages, 2);
    bench.wait(Duration::from_secs(900));
    assert_eq!(bench.broker.counters().expired_retained_total, 2);
    bench.wait(Duration::from_secs(31));
    assert_eq!(bench.disk.facts.len(), 1, "what expired is gone from the disk as well");
    assert_eq!(retained(&mut bench, "#"), ["name"]);
}

#[test]
fn the_age_of_a_retained_message_goes_on_over_a_restart() {
    let mut bench = expiring(&[], Some(100));
    let conn = bench.client("a", true);
    bench.say(conn, &publish(3, "t", 1, "1"));
    bench.wait(Duration::from_secs(60));
    bench.crash();
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    bench.wait(Duration::from_secs(41));
    assert_eq!(bench.broker.gauges().retained_messages, 0);
    assert_eq!(bench.broker.counters().expired_retained_total, 1);
    // It expires while the gateway is off, too: nobody gets it after the start.
    let conn = bench.client("a", true);
    bench.say(conn, &publish(3, "t", 1, "1"));
    bench.now = bench.now.plus(Duration::from_secs(500));
    bench.crash();
    assert_eq!(bench.broker.gauges().retained_messages, 1, "nobody has looked yet");
    assert_eq!(retained(&mut bench, "#"), [""; 0]);
}

#[test]
fn an_expiry_of_the_publisher_that_is_shorter_comes_first_and_a_later_message_counts_anew() {
    let mut bench = expiring(&[], Some(100));
    let (conn, _) = bench.client5("a", true, &[]);
    bench.say(conn, &publish5(3, "own", 1, &[four(MESSAGE_EXPIRY, 10)], "1"));
    bench.say(conn, &publish5(3, "long", 2, &[four(MESSAGE_EXPIRY, 1000)], "1"));
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    bench.wait(Duration::from_secs(80));
    bench.say(conn, &publish5(3, "long", 3, &[], "2"));
    bench.wait(Duration::from_secs(99));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.broker.gauges().retained_messages, 0);
}

#[test]
fn without_a_rule_retained_messages_stay() {
    let mut bench = expiring(&[], None);
    let conn = bench.client("a", true);
    bench.say(conn, &publish(3, "t", 1, "1"));
    bench.wait(Duration::from_secs(100 * 365 * 86_400));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
}

#[test]
fn the_log_names_who_came_with_a_topic_that_none_may_be_and_the_topic_cut_and_escaped() {
    let mut bench = Bench::new();
    let conn = bench.client("press", true);
    let long = format!("x/\u{1b}[2J{}", "y".repeat(1000));
    bench.say(conn, &publish(2, &long, 1, "1"));
    let other = bench.client("board", true);
    bench.say(other, &subscribe(1, &[("a/\u{7f}", 0)]));
    let third = bench.client("lamp", true);
    bench.say(third, &subscribe(1, &[(&format!("a/{}#", "b".repeat(1000)), 0)]));
    let notes: Vec<_> = std::iter::from_fn(|| bench.broker.poll_note()).collect();
    let notes: Vec<_> = notes.iter().filter(|note| note.event.kind() == "bad-topic").collect();
    let lines: Vec<_> = notes.iter().map(|note| note.to_string()).collect();
    let clients: Vec<_> = notes.iter().filter_map(|note| note.who.client.as_ref()).collect();
    assert_eq!(clients.iter().map(|client| client.as_str()).collect::<Vec<_>>(), ["press", "board", "lamp"]);
    assert!(
        lines[0].contains("x/\\u{1b}[2Jyyy") && lines[0].contains("yyy...: a topic may not hold"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains("is closed: bad topic a/\\u{7f}: a topic may not hold"), "{}", lines[1]);
    assert!(lines[2].contains("a wildcard must be a whole level"), "{}", lines[2]);
    assert!(lines.iter().all(|line| line.len() < 600), "{lines:?}");
}
