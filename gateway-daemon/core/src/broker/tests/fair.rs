//! One session cannot take what another needs.

use super::wire::{Bench, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, packet, publish, subscribe};
use super::wire5::{connect5, four, publish5};
use crate::broker::settings::WhenFull;
use crate::broker::{CloseReason, Fate, Limits, TopicFilter};
use crate::uplink::row::Qos;

fn absent(bench: &mut Bench, id: &str, filter: &str) {
    let conn = bench.subscriber(id, false, filter, 1);
    bench.lose(conn);
}

/// What a client finds when it comes back.
fn waiting(bench: &mut Bench, id: &str) -> usize {
    let mut count = 0;
    let conn = bench.open();
    bench.say(conn, &connect(id, false, 0, None));
    let mut told = bench.told(conn)[4..].to_vec();
    while !told.is_empty() {
        let acks: Vec<u8> = frames(&told)
            .into_iter()
            .flat_map(|frame| {
                let header = 1 + frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
                let topic = usize::from(u16::from_be_bytes([frame[header], frame[header + 1]]));
                let id = header + 2 + topic;
                ack(PUBACK, u16::from_be_bytes([frame[id], frame[id + 1]]))
            })
            .collect();
        count += frames(&told).len();
        bench.say(conn, &acks);
        told = bench.told(conn);
    }
    count
}

fn acknowledgement5(first: u8, id: u16, code: u8) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()[..], &[code]].concat())
}

#[test]
fn ten_slow_readers_that_fill_the_memory_leave_an_idle_reader_its_share() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        let limits = Limits { queued_bytes_total_max: 1 << 20, when_full, ..Limits::default() };
        let mut bench = Bench::with(limits);
        for slow in 0..10 {
            absent(&mut bench, &format!("slow-{slow}"), "flood");
        }
        absent(&mut bench, "idle", "alarm");
        let speaker = bench.client("speaker", true);
        for id in 1..=3000 {
            bench.say(speaker, &publish(2, "flood", id, &"x".repeat(300)));
        }
        assert!(bench.broker.counters().dropped_full_messages_total > 1000);
        bench.told(speaker);
        for id in 1..=50 {
            bench.say(speaker, &publish(2, "alarm", id, &"x".repeat(300)));
        }
        let gauges = bench.broker.gauges();
        assert!(gauges.held_bytes <= 1 << 20, "{gauges:?}");
        assert_eq!(waiting(&mut bench, "idle"), 50, "{when_full:?}");
    }
}

#[test]
fn durable_sessions_that_fill_the_disk_leave_others_their_share_also_after_a_restart() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        for restart in [false, true] {
            let mut bench = Bench::durable();
            bench.settings.limits.stored_bytes_total_max = 200_000;
            bench.settings.limits.when_full = when_full;
            bench.crash();
            for slow in 0..3 {
                absent(&mut bench, &format!("slow-{slow}"), "flood");
            }
            absent(&mut bench, "idle", "alarm");
            let speaker = bench.client("speaker", true);
            for id in 1..=1000 {
                bench.say(speaker, &publish(2, "flood", id, &"x".repeat(300)));
            }
            if restart {
                bench.crash();
            }
            let speaker = bench.client("speaker", true);
            for id in 1..=16 {
                bench.say(speaker, &publish(2, "alarm", id, &"x".repeat(300)));
                assert_eq!(bench.told(speaker), ack(PUBACK, id));
            }
            assert!(bench.broker.gauges().stored_bytes < 200_000 + 16_384);
            assert_eq!(waiting(&mut bench, "idle"), 16, "{when_full:?}, restart {restart}");
        }
    }
}

#[test]
fn a_message_that_nobody_could_keep_is_no_plain_success() {
    let mut bench = Bench::with(Limits { queued_max: 2, ..Limits::default() });
    absent(&mut bench, "away", "t");
    let (v5, _) = bench.client5("five", true, &[]);
    let old = bench.client("old", true);
    for id in 1..=2 {
        bench.say(v5, &publish5(2, "t", id, &[], "x"));
        assert_eq!(bench.told(v5), ack(PUBACK, id));
    }
    bench.say(v5, &publish5(2, "t", 3, &[], "x"));
    assert_eq!(bench.told(v5), acknowledgement5(PUBACK, 3, 0x97));
    bench.say(old, &publish(2, "t", 4, "x"));
    assert_eq!(bench.told(old), ack(PUBACK, 4), "3.1.1 has no word for it");
    assert_eq!(bench.broker.counters().unkept_messages_total, 2);
    // Somebody else keeps it.
    absent(&mut bench, "roomy", "t");
    bench.say(v5, &publish5(2, "t", 5, &[], "x"));
    assert_eq!(bench.told(v5), ack(PUBACK, 5));
    bench.say(v5, &publish5(2, "nobody", 6, &[], "x"));
    assert_eq!(bench.told(v5), acknowledgement5(PUBACK, 6, 0x10));
    assert_eq!(bench.broker.counters().unkept_messages_total, 2);
}

#[test]
fn pubrec_with_an_error_ends_the_exchange_of_a_message_that_nobody_could_keep() {
    let mut bench = Bench::durable();
    bench.settings.limits.stored_rows_max = 1;
    bench.crash();
    absent(&mut bench, "away", "t");
    let conn = bench.open();
    bench.say(conn, &connect5("five", true, 0, &[four(0x11, 1000)], None));
    bench.told(conn);
    bench.say(conn, &publish5(4, "t", 1, &[], "x"));
    assert_eq!(bench.told(conn), ack(PUBREC, 1));
    bench.say(conn, &publish5(4, "t", 2, &[], "x"));
    assert_eq!(bench.told(conn), acknowledgement5(PUBREC, 2, 0x97));
    let received =
        bench.disk.facts.keys().filter(|key| key.kind == crate::broker::FactKind::Received).count();
    assert_eq!(received, 1, "the identifier of the first");
    let away = bench.open();
    bench.say(away, &connect("away", false, 0, None));
    bench.say(away, &ack(PUBACK, 1));
    bench.say(conn, &publish5(4, "t", 2, &[], "y"));
    assert_eq!(bench.told(conn), ack(PUBREC, 2), "a new message under an identifier that is free");
}

#[test]
fn an_uplink_that_takes_one_of_two_qos_2_messages_gives_back_its_bytes_and_its_identifier_alone() {
    let mut bench = Bench::durable();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    let (client, _) = bench.client5("a", false, &[four(0x11, 1000)]);
    for id in [1, 2] {
        bench.say(client, &publish5(4, "t", id, &[], "body"));
    }
    let both = bench.broker.gauges().received_bytes;
    assert!(both > 0);
    bench.told(client);
    for (released, left) in [(1, both / 2), (2, 0)] {
        bench.say(client, &ack(PUBREL, released));
        assert_eq!(bench.told(client), b"", "PUBCOMP waits for the uplink");
        let ticket = bench.owed.remove(0);
        bench.broker.handle_receipt(bench.now, ticket, Fate::Safe);
        bench.run();
        assert_eq!(bench.told(client), ack(PUBCOMP, released));
        assert_eq!(bench.broker.gauges().received_bytes, left, "{both} of both");
        // The identifier is free: the same once more is another message.
        let before = bench.enqueued.len();
        bench.say(client, &publish5(0x4, "other", released, &[], ""));
        assert_eq!(bench.enqueued.len(), before + 1);
        let ticket = bench.owed.pop().unwrap();
        bench.broker.handle_receipt(bench.now, ticket, Fate::Safe);
        bench.run();
        bench.told(client);
    }
}

#[test]
fn what_an_uplink_drops_and_nobody_else_has_is_no_plain_success_either() {
    let mut bench = Bench::durable();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    let (five, _) = bench.client5("five", true, &[]);
    for (flags, answer) in [(2, PUBACK), (4, PUBREC)] {
        for (id, fate) in [(1, Fate::Safe), (2, Fate::Dropped)] {
            bench.say(five, &publish5(flags, "t", id, &[], "x"));
            let ticket = bench.owed.pop().unwrap();
            bench.broker.handle_receipt(bench.now, ticket, fate);
            bench.run();
            let expected =
                if fate == Fate::Safe { ack(answer, id) } else { acknowledgement5(answer, id, 0x97) };
            assert_eq!(bench.told(five), expected);
        }
    }
    bench.say(five, &publish5(4, "t", 2, &[], "again"));
    assert_eq!(bench.owed.len(), 1, "its identifier is free");
    let counters = bench.broker.counters();
    assert_eq!((counters.unkept_messages_total, counters.refused_by_uplinks_total), (2, 2));
}

#[test]
fn an_uplink_of_qos_0_keeps_nothing_and_refuses_nothing() {
    let mut bench = Bench::durable();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtMostOnce)]).unwrap();
    let (five, _) = bench.client5("five", true, &[]);
    bench.say(five, &publish5(2, "t", 1, &[], "x"));
    assert_eq!(bench.told(five), ack(PUBACK, 1));
    assert_eq!(bench.broker.counters().unkept_messages_total, 0);
}

#[test]
fn clients_with_many_unreleased_messages_cut_nobody_else_also_after_a_restart() {
    let mut bench = Bench::durable();
    for restart in [false, true] {
        if restart {
            bench.crash();
        }
        for hoarder in 0..4 {
            let conn = bench.client(&format!("hoarder-{hoarder}"), false);
            for chunk in (1..=u16::MAX).collect::<Vec<_>>().chunks(2000).take(8) {
                let many: Vec<u8> = chunk.iter().flat_map(|id| publish(4, "nobody", *id, "")).collect();
                bench.say(conn, &many);
            }
            let cut = matches!(bench.fate(conn), Some(CloseReason::Quota(_)));
            assert!(cut, "it has more than a client may have");
            bench.told(conn);
        }
        let honest = bench.client(&format!("honest-{restart}"), false);
        for id in 1..=200 {
            bench.say(honest, &publish(4, "nobody", id, "x"));
        }
        assert_eq!(bench.fate(honest), None);
        assert_eq!(bench.told(honest), (1..=200).flat_map(|id| ack(PUBREC, id)).collect::<Vec<u8>>());
        bench.say(honest, &(1..=200).flat_map(|id| ack(PUBREL, id)).collect::<Vec<u8>>());
        assert!(bench.broker.counters().unreleased_refused_total >= 4);
    }
}

#[test]
fn a_client_may_leave_a_quarter_of_what_is_free_unreleased_and_all_together_leave_each_its_share() {
    let mut bench = Bench::new();
    let many = |ids: std::ops::RangeInclusive<u16>| -> Vec<u8> {
        ids.flat_map(|id| publish(4, "nobody", id, "")).collect()
    };
    for hoarder in 0..30 {
        let conn = bench.client(&format!("hoarder-{hoarder}"), false);
        bench.say(conn, &many(1..=7000));
        assert!(matches!(bench.fate(conn), Some(CloseReason::Quota(_))));
    }
    assert_eq!(bench.broker.releases(), 0);
    let honest = bench.client("honest", true);
    bench.say(honest, &many(1..=32));
    assert_eq!(bench.fate(honest), None);
    bench.say(honest, &(1..=32).flat_map(|id| ack(PUBREL, id)).collect::<Vec<u8>>());
    assert_eq!(bench.broker.releases(), 32);
}

#[test]
fn what_a_session_in_memory_holds_counts_at_its_real_cost() {
    let mut bench = Bench::with(Limits { queued_bytes_max: 100_000, ..Limits::default() });
    absent(&mut bench, "away", "t");
    for _ in 0..10_000 {
        bench.local("t", "", Qos::AtLeastOnce, false);
    }
    let gauges = bench.broker.gauges();
    // An empty message costs some 300 bytes, and not the 66 that its row would have.
    assert!(gauges.held_messages < 600, "{gauges:?}");
}

#[test]
fn shares_are_those_of_sessions_that_hold_something() {
    let mut bench = Bench::with(Limits { queued_bytes_total_max: 200_000, ..Limits::default() });
    absent(&mut bench, "slow", "flood");
    for idle in 0..400 {
        let conn = bench.client(&format!("idle-{idle}"), false);
        bench.say(conn, &subscribe(1, &[("nothing", 1)]));
    }
    for _ in 0..1000 {
        bench.local("flood", &"x".repeat(300), Qos::AtLeastOnce, false);
    }
    assert!(bench.broker.gauges().held_bytes > 190_000, "nobody else needs it");
}
