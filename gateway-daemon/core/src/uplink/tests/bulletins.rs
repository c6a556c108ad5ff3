//! What is said of buses and devices: the newest of each topic, past the queue.

use super::aside::{Cloud, Sent, bench, line_holds, live, on};
use super::*;
use crate::uplink::bulletins::{BULLETINS_MAX, Bulletin};

fn say(bench: &mut Bench, topic: &str, text: &str) {
    let bulletin = Bulletin { payload: text.as_bytes().into(), retain: true };
    assert!(bench.uplink.put_bulletin(topic.into(), bulletin));
}

/// Bulletins among actions: token, topic, text.
fn said(actions: &[Action]) -> Vec<(Token, String, String)> {
    let bulletin = |action: &Action| match action {
        Action::Announce { token, topic, payload, retain, .. } if topic.starts_with("g/health/") => {
            assert!(retain);
            Some((*token, topic.to_string(), String::from_utf8(payload.clone()).unwrap()))
        }
        _ => None,
    };
    actions.iter().filter_map(bulletin).collect()
}

/// Acknowledges bulletins until there are no more; their texts by topic, in the order of their sending.
fn drain(bench: &mut Bench, first: &[Action]) -> Vec<(String, String)> {
    let (mut all, mut actions) = (Vec::new(), first.to_vec());
    loop {
        let batch = said(&actions);
        assert!(batch.len() <= 1, "one is under way at a time: {batch:?}");
        let Some((token, topic, text)) = batch.into_iter().next() else { return all };
        all.push((topic, text));
        bench.link(LinkEvent::Acked { token });
        actions = bench.actions();
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(topic, text)| ((*topic).to_owned(), (*text).to_owned())).collect()
}

/// Loses the link and brings it up again.
fn reconnect(bench: &mut Bench, session_present: bool) -> Vec<Action> {
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: Some(Duration::from_secs(1)) });
    let State::BackingOff { until } = bench.uplink.state() else { panic!("{:?}", bench.uplink.state()) };
    bench.now = until;
    bench.pass(0);
    bench.actions();
    bench.link(LinkEvent::Up { session_present });
    let mut actions = bench.actions();
    bench.link(LinkEvent::Acked { token: Token(1) });
    actions.extend(bench.actions());
    actions
}

#[test]
fn an_outage_leaves_the_newest_state_of_each_topic_and_nothing_in_the_queue() {
    let mut bench = Bench::new(settings(), Stored::default());
    for round in 0..1000 {
        say(&mut bench, "g/health/device/a", &format!("state {round}"));
        say(&mut bench, "g/health/bus/b", &format!("state {round}"));
        bench.pass(0);
        assert_eq!(ops(&bench.actions()), 0, "nothing is written");
    }
    assert_eq!(bench.uplink.queue().ledger().produced.rows, 0);
    let actions = bench.connect();
    let newest = pairs(&[("g/health/bus/b", "state 999"), ("g/health/device/a", "state 999")]);
    assert_eq!(drain(&mut bench, &actions), newest);
}

#[test]
fn a_server_that_kept_the_session_hears_only_what_has_changed_and_one_that_did_not_hears_all() {
    let mut bench = Bench::new(settings(), Stored::default());
    say(&mut bench, "g/health/device/a", "good");
    say(&mut bench, "g/health/device/b", "good");
    let actions = bench.connect();
    assert_eq!(drain(&mut bench, &actions).len(), 2);
    let actions = reconnect(&mut bench, true);
    assert_eq!(drain(&mut bench, &actions), []);
    say(&mut bench, "g/health/device/b", "dead");
    say(&mut bench, "g/health/device/a", "good");
    let actions = reconnect(&mut bench, true);
    assert_eq!(drain(&mut bench, &actions), pairs(&[("g/health/device/b", "dead")]));
    let actions = reconnect(&mut bench, false);
    let all = pairs(&[("g/health/device/a", "good"), ("g/health/device/b", "dead")]);
    assert_eq!(drain(&mut bench, &actions), all);
}

#[test]
fn what_was_not_acknowledged_is_said_again_and_a_newer_one_takes_its_place() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    say(&mut bench, "g/health/device/a", "dead");
    let first = said(&bench.actions());
    assert_eq!(first.len(), 1);
    let again = reconnect(&mut bench, true);
    assert_eq!(said(&again)[0].2, "dead");
    say(&mut bench, "g/health/device/a", "good");
    assert_eq!(said(&bench.actions()), [], "the former one is under way");
    bench.link(LinkEvent::Acked { token: said(&again)[0].0 });
    let actions = bench.actions();
    assert_eq!(drain(&mut bench, &actions), pairs(&[("g/health/device/a", "good")]));
}

#[test]
fn an_empty_one_clears_its_topic_once_and_is_forgotten() {
    let mut bench = Bench::new(settings(), Stored::default());
    say(&mut bench, "g/health/device/a", "good");
    let actions = bench.connect();
    drain(&mut bench, &actions);
    assert!(bench.uplink.put_bulletin("g/health/device/a".into(), Bulletin::nothing()));
    let actions = bench.actions();
    assert_eq!(drain(&mut bench, &actions), pairs(&[("g/health/device/a", "")]));
    let actions = reconnect(&mut bench, false);
    assert_eq!(drain(&mut bench, &actions), []);
}

#[test]
fn readings_have_the_whole_window_while_one_is_under_way() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    for device in 0..10 {
        say(&mut bench, &format!("g/health/device/{device}"), "good");
    }
    for _ in 0..10 {
        bench.publish();
    }
    let actions = bench.actions();
    assert_eq!((said(&actions).len(), sends(&actions).len()), (1, 4));
}

#[test]
fn topics_beyond_the_bound_are_left_out() {
    let mut bench = Bench::new(settings(), Stored::default());
    let mut put = |topic: usize| {
        let bulletin = Bulletin { payload: Arc::from(&b"x"[..]), retain: true };
        bench.uplink.put_bulletin(format!("g/health/device/{topic}").into(), bulletin)
    };
    assert!((0..BULLETINS_MAX).all(&mut put));
    assert!(!put(BULLETINS_MAX));
    assert!(put(0), "what is known may change");
}

#[test]
fn a_server_that_ends_the_connection_for_them_gets_no_more_of_them_and_all_readings() {
    for drain in [Drain::Fifo, Drain::LiveFirst] {
        let mut bench = bench(drain);
        for device in 0..5 {
            say(&mut bench, &format!("g/health/device/{device}"), "good");
        }
        let poison = |_: usize, sent: &Sent| sent.topic.starts_with("g/health/");
        let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
        let story = live(&mut bench, 300, cloud, |bench, _| {
            bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        });
        assert_eq!(story.silenced, ["g/health/device/0"], "{drain:?}");
        assert!(story.downs < 20, "{drain:?}: {}", story.downs);
        assert!(story.aside.is_empty());
        let numbers: Vec<u64> = story.received.iter().map(|(_, seq)| *seq).collect();
        assert!(drain == Drain::LiveFirst || numbers.is_sorted(), "in order: {drain:?}");
        assert!(numbers.len() >= 295, "{drain:?}: {}", numbers.len());
    }
}

#[test]
fn a_quiet_uplink_finds_out_as_well_and_a_line_that_breaks_silences_nothing() {
    let mut bench = bench(Drain::LiveFirst);
    say(&mut bench, "g/health/device/0", "good");
    let poison = |_: usize, sent: &Sent| sent.topic.starts_with("g/health/");
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 600, cloud, |_, _| {});
    assert_eq!(story.silenced.len(), 1, "{story:?}");

    let mut bench = super::aside::bench(Drain::LiveFirst);
    let mut breaks = |of_connection: u64, _: u64| of_connection == 4;
    let cloud = Cloud { poison: &|_, _| false, breaks: &mut breaks };
    let story = live(&mut bench, 1200, cloud, |bench, second| {
        say(bench, "g/health/device/0", &format!("state {second}"));
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
    });
    assert!(
        story.downs > 50 && story.silenced.is_empty() && story.aside.is_empty(),
        "{} {:?}",
        story.downs,
        story.silenced
    );
}
