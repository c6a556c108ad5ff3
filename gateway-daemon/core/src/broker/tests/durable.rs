//! What a client was told is never forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::wire::{
    Bench, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, publish, subscribe, unsubscribe,
};
use super::wire5::{Will, connect5, four};
use crate::broker::{ConnId, FactKind, TopicFilter, facts};
use crate::uplink::row::Qos;

/// Connects again; gives the connection, session present, and what was said after CONNACK.
fn again(bench: &mut Bench, id: &str) -> (ConnId, bool, Vec<u8>) {
    let conn = bench.open();
    bench.say(conn, &connect(id, false, 0, None));
    let told = bench.told(conn);
    assert_eq!((told[0], told[3]), (0x20, 0));
    (conn, told[2] == 1, told[4..].to_vec())
}

/// A subscriber with a durable session that has gone away.
fn absent(bench: &mut Bench, id: &str, filter: &str, qos: u8) {
    let conn = bench.subscriber(id, false, filter, qos);
    bench.lose(conn);
}

fn last_bytes(told: &[u8]) -> Vec<u8> {
    frames(told).iter().map(|frame| frame[frame.len() - 1]).collect()
}

#[test]
fn puback_comes_when_every_durable_queue_has_the_message_on_disk() {
    let mut bench = Bench::durable();
    absent(&mut bench, "one", "t", 1);
    absent(&mut bench, "two", "#", 1);
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    bench.say(speaker, &publish(2, "t", 1, "x"));
    assert!(bench.is_writing(), "somebody waits, so it is written at once");
    assert_eq!(bench.told(speaker), b"");
    bench.commit();
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
    assert_eq!(bench.disk.rows(), 2);
}

#[test]
fn many_publishers_share_one_turn() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 1);
    let speakers = ["a", "b", "c"].map(|id| bench.client(id, true));
    bench.disk.slow = true;
    bench.say(speakers[0], &publish(2, "t", 1, "first"));
    for id in 2..=9 {
        for speaker in speakers {
            bench.say(speaker, &publish(2, "t", id, "x"));
        }
    }
    let turns = bench.disk.turns;
    bench.commit();
    assert_eq!(bench.told(speakers[0]), ack(PUBACK, 1), "the first turn held one");
    bench.commit();
    assert_eq!(bench.disk.turns, turns + 2);
    for speaker in speakers {
        let expected: Vec<u8> = (2..=9).flat_map(|id| ack(PUBACK, id)).collect();
        assert_eq!(bench.told(speaker), expected, "in order");
    }
}

#[test]
fn a_publish_that_no_durable_queue_wants_is_acknowledged_at_once() {
    let mut bench = Bench::durable();
    let listener = bench.subscriber("listener", true, "t", 1);
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    bench.say(speaker, &publish(2, "t", 1, "x"));
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
    assert_eq!(bench.heard(listener).len(), 1);
    assert!(!bench.is_writing());
}

#[test]
fn acknowledgements_of_a_connection_keep_the_order_of_its_publishes() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "slow", 1);
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    bench.say(speaker, &publish(2, "slow", 1, "x"));
    bench.say(speaker, &publish(2, "fast", 2, "x"));
    assert_eq!(bench.told(speaker), b"", "the second waits for the first");
    bench.commit();
    assert_eq!(bench.told(speaker), [ack(PUBACK, 1), ack(PUBACK, 2)].concat());
}

#[test]
fn nothing_is_written_when_the_reader_is_there_and_acknowledges() {
    let mut bench = Bench::durable();
    let listener = bench.subscriber("listener", false, "t", 1);
    let speaker = bench.client("speaker", true);
    bench.wait(Duration::from_secs(5));
    bench.disk.rows_written = 0;
    for id in 1..=50 {
        bench.say(speaker, &publish(2, "t", id, "x"));
        assert_eq!(bench.told(speaker), b"", "not yet safe");
        let heard = bench.heard(listener);
        bench.say(listener, &ack(PUBACK, heard[0].2));
        assert_eq!(bench.told(speaker), ack(PUBACK, id), "the reader has it");
    }
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.disk.rows_written, 0);
}

#[test]
fn a_reader_that_is_there_and_silent_delays_the_publisher_by_no_more_than_50_ms() {
    let mut bench = Bench::durable();
    let listener = bench.subscriber("listener", false, "t", 1);
    let speaker = bench.client("speaker", true);
    bench.say(speaker, &publish(2, "t", 1, "x"));
    assert_eq!(bench.heard(listener).len(), 1, "sent at once");
    bench.wait(Duration::from_millis(49));
    assert_eq!(bench.told(speaker), b"");
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
}

#[test]
fn a_publisher_behind_what_a_reader_missed_is_told_by_the_disk_at_once() {
    let mut bench = Bench::durable();
    let listener = bench.subscriber("listener", false, "t", 1);
    let speaker = bench.client("speaker", true);
    for id in 1..=500 {
        bench.say(speaker, &publish(2, "t", id, "x"));
    }
    bench.wait(Duration::from_millis(50));
    assert_eq!(bench.told(speaker), (1..=500).flat_map(|id| ack(PUBACK, id)).collect::<Vec<u8>>());
    // It answers again, and as fast as ever.
    let heard = bench.heard(listener);
    assert!(heard.len() < 150, "{} at once", heard.len());
    for (_, _, id, _) in heard {
        bench.say(listener, &ack(PUBACK, id));
    }
    bench.say(speaker, &publish(2, "t", 501, "x"));
    bench.wait(Duration::ZERO);
    assert_eq!(bench.told(speaker), ack(PUBACK, 501), "not when all before it is answered");
    loop {
        let heard = bench.heard(listener);
        if heard.is_empty() {
            break;
        }
        for (_, _, id, _) in heard {
            bench.say(listener, &ack(PUBACK, id));
        }
    }
    bench.wait(Duration::from_secs(5));
    bench.disk.rows_written = 0;
    bench.say(speaker, &publish(2, "t", 502, "x"));
    assert_eq!(bench.told(speaker), b"");
    let heard = bench.heard(listener);
    bench.say(listener, &ack(PUBACK, heard[0].2));
    assert_eq!(bench.told(speaker), ack(PUBACK, 502), "its reader has it, and nothing is written again");
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.disk.rows_written, 0);
}

#[test]
fn acknowledged_messages_survive_a_crash_in_order() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 1);
    let speaker = bench.client("speaker", true);
    for id in 1..=1000_u16 {
        bench.say(speaker, &publish(2, "t", id, &format!("{id:04}")));
        assert_eq!(bench.told(speaker), ack(PUBACK, id));
    }
    bench.crash();
    let (conn, present, mut told) = again(&mut bench, "away");
    assert!(present);
    let mut bodies = Vec::new();
    while !told.is_empty() {
        for frame in frames(&told) {
            bodies.push(String::from_utf8(frame[frame.len() - 4..].to_vec()).unwrap());
            let id = u16::from_be_bytes([frame[5], frame[6]]);
            bench.broker.handle_bytes(bench.now, conn, &ack(PUBACK, id));
        }
        bench.run();
        told = bench.told(conn);
    }
    assert_eq!(bodies, (1..=1000).map(|id| format!("{id:04}")).collect::<Vec<_>>());
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.disk.rows(), 0);
    assert_eq!(bench.broker.gauges().held_messages, 0);
}

#[test]
fn subscriptions_survive_a_crash_once_suback_was_said() {
    let mut bench = Bench::durable();
    let conn = bench.client("a", false);
    bench.disk.slow = true;
    bench.say(conn, &subscribe(1, &[("t/#", 1), ("u", 2)]));
    assert_eq!(bench.told(conn), b"", "not durable yet");
    bench.commit();
    bench.commit();
    assert_eq!(bench.told(conn), [0x90, 4, 0, 1, 1, 2]);
    bench.say(conn, &unsubscribe(2, "u"));
    bench.commit();
    bench.commit();
    assert_eq!(bench.told(conn), ack(0xb0, 2));
    bench.disk.slow = false;
    bench.crash();
    assert_eq!(bench.broker.gauges().subscriptions, 1);
    bench.local("t/x", "1", Qos::AtLeastOnce, false);
    bench.local("u", "2", Qos::AtLeastOnce, false);
    let (_, present, told) = again(&mut bench, "a");
    assert!(present);
    assert_eq!(last_bytes(&told), b"1");
}

#[test]
fn sessions_that_end_with_their_connection_leave_nothing_on_disk() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", true, "t", 2);
    bench.local("t", "x", Qos::ExactlyOnce, false);
    bench.lose(conn);
    bench.wait(Duration::from_secs(60));
    assert_eq!((bench.disk.facts.len(), bench.disk.rows(), bench.disk.turns), (0, 0, 0));
}

#[test]
fn a_session_that_ends_is_forgotten_on_disk_too() {
    let mut bench = Bench::durable();
    absent(&mut bench, "a", "t", 2);
    bench.local("t", "x", Qos::ExactlyOnce, false);
    bench.wait(Duration::from_secs(5));
    assert!(bench.disk.rows() == 1 && bench.disk.facts.len() == 2);
    let conn = bench.open();
    bench.say(conn, &connect("a", true, 0, None));
    bench.lose(conn);
    bench.wait(Duration::from_secs(5));
    assert_eq!((bench.disk.facts.len(), bench.disk.rows()), (0, 0));
}

#[test]
fn retained_messages_survive_a_crash() {
    let mut bench = Bench::durable();
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    bench.say(speaker, &publish(3, "kept", 1, "1"));
    assert_eq!(bench.told(speaker), b"", "a retained message is safe when it is on disk");
    bench.commit();
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
    bench.disk.slow = false;
    bench.say(speaker, &publish(3, "cleared", 2, "1"));
    bench.say(speaker, &publish(3, "cleared", 3, ""));
    bench.say(speaker, &publish(1, "lazy", 0, "1"));
    bench.wait(Duration::from_secs(40));
    bench.crash();
    assert_eq!(bench.broker.gauges().retained_messages, 2);
    let conn = bench.client("late", true);
    bench.say(conn, &subscribe(1, &[("#", 1)]));
    let told = bench.told(conn);
    assert_eq!(frames(&told).len(), 3, "SUBACK and two");
}

#[test]
fn a_retained_message_that_nobody_waits_for_is_written_seldom() {
    let mut bench = Bench::durable();
    let speaker = bench.client("speaker", true);
    for _ in 0..100 {
        bench.say(speaker, &publish(1, "t", 0, "changes every second"));
        bench.wait(Duration::from_secs(1));
    }
    assert!(bench.disk.turns <= 4, "{}", bench.disk.turns);
}

#[test]
fn qos_2_from_a_client_is_exactly_once_across_a_crash() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 2);
    let (speaker, _, _) = again(&mut bench, "speaker");
    bench.disk.slow = true;
    bench.say(speaker, &publish(4, "t", 9, "x"));
    assert_eq!(bench.told(speaker), b"", "PUBREC waits for the row and the identifier");
    bench.say(speaker, &publish(12, "t", 9, "x"));
    bench.commit();
    bench.commit();
    assert_eq!(bench.told(speaker), ack(PUBREC, 9), "once");
    bench.crash();
    bench.disk.slow = false;
    let (speaker, present, _) = again(&mut bench, "speaker");
    assert!(present);
    bench.say(speaker, &publish(12, "t", 9, "x"));
    assert_eq!(bench.told(speaker), ack(PUBREC, 9));
    bench.disk.slow = true;
    bench.say(speaker, &ack(PUBREL, 9));
    assert_eq!(bench.told(speaker), b"", "PUBCOMP waits until the identifier is forgotten on disk");
    bench.commit();
    bench.commit();
    assert_eq!(bench.told(speaker), ack(PUBCOMP, 9));
    bench.disk.slow = false;
    bench.crash();
    let (speaker, _, _) = again(&mut bench, "speaker");
    bench.say(speaker, &publish(4, "t", 9, "y"));
    let (_, _, told) = again(&mut bench, "away");
    assert_eq!(last_bytes(&told), b"xy", "each once");
}

#[test]
fn qos_2_to_a_client_is_exactly_once_across_a_crash() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", false, "t", 2);
    bench.disk.slow = true;
    bench.local("t", "x", Qos::ExactlyOnce, false);
    assert_eq!(bench.told(conn), b"", "sent when its row is durable");
    bench.commit();
    let id = bench.heard(conn)[0].2;
    bench.say(conn, &ack(PUBREC, id));
    assert_eq!(bench.told(conn), b"", "PUBREL waits until the row is gone and the identifier is kept");
    bench.commit();
    bench.commit();
    assert_eq!(bench.told(conn), ack(PUBREL, id));
    bench.disk.slow = false;
    bench.crash();
    let (conn, _, told) = again(&mut bench, "a");
    assert_eq!(told, ack(PUBREL, id), "the message itself never comes again");
    bench.say(conn, &ack(PUBCOMP, id));
    bench.wait(Duration::from_secs(5));
    bench.crash();
    let (_, _, told) = again(&mut bench, "a");
    assert_eq!(told, b"");
}

#[test]
fn an_unacknowledged_message_comes_again_after_a_crash_with_its_identifier_and_dup() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", false, "t", 2);
    bench.local("t", "1", Qos::AtLeastOnce, false);
    bench.local("t", "2", Qos::ExactlyOnce, false);
    let heard = bench.heard(conn);
    bench.wait(Duration::from_secs(5));
    bench.crash();
    let (_, _, told) = again(&mut bench, "a");
    let told: Vec<(u8, u16)> =
        frames(&told).iter().map(|f| (f[0], u16::from_be_bytes([f[5], f[6]]))).collect();
    assert_eq!(told, [(0x3a, heard[0].2), (0x3c, heard[1].2)]);
}

#[test]
fn a_failed_turn_keeps_everybody_waiting_and_is_asked_again() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 1);
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    bench.say(speaker, &publish(2, "t", 1, "x"));
    bench.fail();
    assert_eq!(bench.told(speaker), b"");
    assert!(bench.broker.fault().is_some());
    bench.say(speaker, &publish(2, "t", 2, "y"));
    bench.wait(Duration::from_secs(2));
    bench.commit();
    assert_eq!(bench.told(speaker), [ack(PUBACK, 1), ack(PUBACK, 2)].concat());
    assert_eq!((bench.disk.rows(), bench.broker.fault()), (2, None));
    assert_eq!(bench.broker.counters().failed_turns_total, 1);
}

#[test]
fn publishers_are_held_while_the_disk_is_behind_and_go_on_afterwards() {
    let mut bench = Bench::durable();
    bench.settings.limits.dirty_bytes_max = 10_000;
    bench.crash();
    absent(&mut bench, "away", "t", 1);
    let speaker = bench.client("speaker", true);
    bench.disk.slow = true;
    for id in 1..=100 {
        bench.say(speaker, &publish(2, "t", id, &"x".repeat(500)));
    }
    assert_eq!(bench.holds(speaker), [true]);
    assert!(bench.broker.gauges().dirty_bytes < 13_000, "{}", bench.broker.gauges().dirty_bytes);
    while bench.is_writing() {
        bench.commit();
    }
    let expected: Vec<u8> = (1..=100).flat_map(|id| ack(PUBACK, id)).collect();
    assert_eq!(bench.told(speaker), expected);
    assert_eq!(bench.holds(speaker).last(), Some(&false));
    assert_eq!(bench.disk.rows(), 100);
}

#[test]
fn puback_of_a_message_for_an_uplink_waits_for_its_receipt() {
    let mut bench = Bench::durable();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    let speaker = bench.client("speaker", true);
    bench.say(speaker, &publish(2, "t", 1, "x"));
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.told(speaker), b"");
    let ticket = bench.owed.pop().unwrap();
    bench.broker.handle_receipt(bench.now, ticket, crate::broker::Fate::Safe);
    bench.run();
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
}

#[test]
fn a_received_qos_2_message_enters_uplinks_again_after_a_crash_until_they_have_it() {
    let all = || [(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)];
    let mut bench = Bench::durable();
    bench.broker.open_bridge(all()).unwrap();
    bench.receipts = false;
    let (speaker, _, _) = again(&mut bench, "speaker");
    bench.say(speaker, &publish(4, "t", 9, "x"));
    assert_eq!(bench.told(speaker), ack(PUBREC, 9), "the identifier holds the message");
    bench.say(speaker, &ack(PUBREL, 9));
    assert_eq!(bench.told(speaker), b"", "PUBCOMP waits for the uplink");
    bench.crash();
    bench.broker.open_bridge(all()).unwrap();
    bench.run();
    assert_eq!(bench.enqueued.len(), 1, "again");
    let (speaker, _, _) = again(&mut bench, "speaker");
    bench.say(speaker, &ack(PUBREL, 9));
    assert_eq!(bench.told(speaker), b"");
    let ticket = bench.owed.pop().unwrap();
    bench.broker.handle_receipt(bench.now, ticket, crate::broker::Fate::Safe);
    bench.run();
    assert_eq!(bench.told(speaker), ack(PUBCOMP, 9));
    bench.crash();
    bench.broker.open_bridge(all()).unwrap();
    bench.run();
    assert!(bench.enqueued.is_empty());
}

#[test]
fn the_clock_of_a_session_starts_again_with_the_broker_and_its_will_still_speaks() {
    let mut bench = Bench::durable();
    let conn = bench.open();
    let will = Will("will", "gone", 1, true, &[]);
    bench.say(conn, &connect5("a", true, 0, &[four(0x11, 100)], Some(will)));
    bench.wait(Duration::from_secs(5));
    bench.crash();
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.broker.gauges().retained_messages, 1, "the will of a client that the crash cut off");
    bench.wait(Duration::from_secs(98));
    assert_eq!(bench.broker.gauges().sessions, 1);
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.broker.gauges().sessions, 0);
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.disk.facts.len(), 1, "the retained will");
}

#[test]
fn memory_does_not_hold_what_the_disk_holds() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 1);
    let speaker = bench.client("speaker", true);
    for turn in 0..100 {
        let many: Vec<u8> = (1..=100).flat_map(|id| publish(2, "t", id, &format!("{turn}"))).collect();
        bench.say(speaker, &many);
        bench.told(speaker);
    }
    let gauges = bench.broker.gauges();
    assert_eq!((gauges.stored_messages, gauges.dirty_bytes), (10_000, 0));
    assert_eq!(bench.disk.rows(), 10_000);
}

#[test]
fn a_replaced_database_gets_everything_that_is_known_again() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", false, "t", 1);
    bench.local("kept", "1", Qos::AtLeastOnce, true);
    bench.local("t", "in flight", Qos::AtLeastOnce, false);
    bench.wait(Duration::from_secs(40));
    let facts = bench.disk.facts.len();
    assert_eq!((facts, bench.disk.rows()), (3, 1));
    bench.disk = super::disk::Disk::default();
    bench.broker.handle_answer(bench.now, crate::broker::Answer::Reset { found: bench.disk.found() });
    bench.run();
    bench.wait(Duration::from_secs(40));
    assert_eq!((bench.disk.facts.len(), bench.disk.rows()), (facts, 1));
    bench.lose(conn);
    bench.crash();
    let (_, present, told) = again(&mut bench, "a");
    assert!(present && told.ends_with(b"in flight"));
}

#[test]
fn a_broker_that_stops_writes_what_is_left() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", false, "t", 1);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    bench.local("lazy", "1", Qos::AtMostOnce, true);
    bench.told(conn);
    bench.disk.slow = true;
    bench.broker.stop(bench.now);
    bench.run();
    assert!(!bench.broker.is_flushed());
    while bench.is_writing() {
        bench.commit();
    }
    assert!(bench.broker.is_flushed());
    bench.disk.slow = false;
    bench.crash();
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    let (_, present, told) = again(&mut bench, "a");
    assert!(present && told.ends_with(b"x"));
}

#[test]
fn whoever_publishes_in_this_process_may_wait_until_it_is_safe() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t", 1);
    bench.disk.slow = true;
    let draft = super::wire::draft("t", crate::uplink::row::Body::Raw((*b"x").into()), false);
    let local = crate::broker::Local { draft: &draft, qos: Qos::AtLeastOnce, from: None, want: true };
    let ticket = bench.broker.publish(bench.now, &local, || None).unwrap().expect("a ticket");
    bench.run();
    let safe = crate::broker::Action::Safe { ticket };
    assert!(!bench.others.contains(&safe));
    bench.commit();
    assert!(bench.others.contains(&safe));
}

#[test]
fn a_store_that_cannot_be_read_yet_refuses_durable_sessions_only_until_it_can() {
    let mut bench = Bench::durable();
    absent(&mut bench, "a", "t", 1);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    let found = bench.disk.found();
    let blind = crate::broker::Found { blind: true, ..Default::default() };
    let run = crate::tag::RunId { boot: crate::tag::BootId(7), start_ms: 9 };
    bench.broker = crate::broker::Broker::new(bench.now, bench.settings.clone(), run, blind);
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 3], "server unavailable");
    bench.client("fleeting", true);
    bench.broker.handle_answer(bench.now, crate::broker::Answer::Reset { found });
    bench.run();
    let (_, present, told) = again(&mut bench, "a");
    assert!(present && told.ends_with(b"x"));
}

#[test]
fn subscriptions_that_did_not_fit_at_a_start_go_with_their_session() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("c", false, "known", 1);
    bench.lose(conn);
    let other = bench.subscriber("cc", false, "known", 1);
    bench.lose(other);
    let facts = |client: &str, filter: &str| facts::subscription_key(client, filter);
    let value: Arc<[u8]> = Arc::clone(&bench.disk.facts[&facts("c", "known")]);
    // On disk, and unknown to the broker.
    bench.disk.facts.insert(facts("c", "left/out"), value);
    let conn = bench.open();
    bench.say(conn, &connect("c", true, 0, None));
    bench.commit();
    let kept: Vec<_> = bench.disk.facts.keys().filter(|fact| fact.kind == FactKind::Subscription).collect();
    assert_eq!(kept, [&facts("cc", "known")]);
}
