//! Rules of bridges and the circles they can make.

use std::sync::Arc;

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

use super::down::{Arrival, Came, Down};
use super::loops::{Risk, Side, overlap, risks};
use super::*;
use crate::broker::Own;
use crate::tag::BootNs;
use crate::uplink::link::Delivery;
use crate::uplink::row::Body;

fn rule(filter: &str, strip: &str, add: &str) -> Rule {
    Rule { strip: strip.into(), add: add.into(), ..Rule::plain(filter, Qos::AtLeastOnce) }
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn mapped(rule: &Rule, topic: &str) -> Option<String> {
    let rule = BridgeRule::new(rule).unwrap();
    assert!(rule.filter().matches(&name(topic)), "{topic}");
    rule.map(&name(topic)).map(|topic| topic.as_str().to_owned())
}

#[test]
fn topics_lose_and_gain_whole_levels_at_their_beginning() {
    for (filter, strip, add, topic, expected) in [
        ("#", "", "", "a/b", Some("a/b")),
        ("#", "", "site/7/", "a/b", Some("site/7/a/b")),
        ("#", "", "site/7", "a/b", Some("site/7/a/b")),
        ("line2/#", "line2/", "", "line2/a", Some("a")),
        ("line2/#", "line2", "site/", "line2/a/b", Some("site/a/b")),
        ("line2/#", "line2", "site/7/", "line2", Some("site/7")),
        ("line2/#", "line2", "site", "line2/", Some("site/")),
        ("line2/+/x", "line2", "", "line2//x", Some("/x")),
        ("a/b", "a", "", "a/b", Some("b")),
        ("a/b", "a/b", "c", "a/b", Some("c")),
        ("/#", "/", "", "/a", Some("a")),
        ("a", "", "$aws/things", "a", Some("$aws/things/a")),
        ("$share-like/#", "", "", "$share-like/a", Some("$share-like/a")),
        // Nothing is left, or what is left belongs to the server.
        ("line2/#", "line2", "", "line2", None),
        ("line2/#", "line2", "", "line2/", None),
        ("line2/#", "line2", "", "line2/$SYS/x", None),
    ] {
        let rule = rule(filter, strip, add);
        assert_eq!(mapped(&rule, topic).as_deref(), expected, "{rule:?} {topic}");
    }
}

#[test]
fn a_topic_that_gets_too_long_or_too_deep_does_not_pass() {
    let long = "a".repeat(65_530);
    assert_eq!(mapped(&rule("#", "", "site/7"), &long), None);
    let deep = "a/".repeat(199) + "a";
    assert_eq!(mapped(&rule("#", "", "b"), &deep).map(|topic| topic.len()), Some(deep.len() + 2));
    assert_eq!(mapped(&rule("#", "", "b/c"), &deep), None);
}

#[test]
fn rules_whose_topics_could_not_be_mapped_are_refused() {
    let refused =
        |filter: &str, strip: &str, add: &str| BridgeRule::new(&rule(filter, strip, add)).unwrap_err();
    assert_eq!(refused("a/#/b", "", ""), RuleFault::Filter(TopicError::HashNotLast));
    assert_eq!(refused("#", "", "a/+"), RuleFault::Add(TopicError::Wildcard('+')));
    assert_eq!(refused("a/#", "a/#", ""), RuleFault::Strip(TopicError::Wildcard('#')));
    assert_eq!(refused("#", "", "$SYS/x"), RuleFault::System);
    assert_eq!(refused("a", "a", ""), RuleFault::Nothing(TopicFilter::new("a").unwrap()));
    for (filter, strip) in [("#", "a"), ("+/b", "a"), ("ab/#", "a"), ("a", "a/b"), ("b/#", "a")] {
        assert!(matches!(refused(filter, strip, "x"), RuleFault::Elsewhere { .. }), "{filter} {strip}");
    }
    let many: Vec<Rule> = (0..=RULES_MAX).map(|number| rule(&format!("t{number}"), "", "")).collect();
    assert_eq!(BridgeRules::new(&many), Err((RULES_MAX, RuleFault::TooMany)));
    let second = [rule("a", "", ""), rule("", "", "")];
    assert_eq!(BridgeRules::new(&second), Err((1, RuleFault::Filter(TopicError::Empty))));
}

fn draft(topic: &str, retain: bool) -> Draft {
    let body = Body::Raw(Arc::from(&b"x"[..]));
    Draft { topic: topic.into(), body, readings: 0, priority: Priority::Normal, retain, at: BootNs(0) }
}

#[test]
fn the_first_rule_that_takes_a_topic_decides_about_everything() {
    let alarm = Rule {
        priority: Some(Priority::High),
        retain: Retain::Drop,
        qos_max: Qos::AtMostOnce,
        ..rule("plant/+/alarm", "plant", "alarms")
    };
    let rules = BridgeRules::new(&[alarm, rule("plant/#", "", "")]).unwrap();
    let pass = |topic: &str, qos| rules.pass(&name(topic), &draft(topic, true), qos).unwrap();
    let (qos, draft) = pass("plant/1/alarm", Qos::ExactlyOnce).unwrap();
    assert_eq!(
        (qos, &*draft.topic, draft.retain, draft.priority),
        (Qos::AtMostOnce, "alarms/1/alarm", false, Priority::High)
    );
    let (qos, draft) = pass("plant/1", Qos::ExactlyOnce).unwrap();
    assert_eq!(
        (qos, &*draft.topic, draft.retain, draft.priority),
        (Qos::AtLeastOnce, "plant/1", true, Priority::Normal)
    );
    let (qos, _) = pass("plant/1", Qos::AtMostOnce).unwrap();
    assert_eq!(qos, Qos::AtMostOnce);
    assert_eq!(pass("other", Qos::AtLeastOnce), None);
}

#[test]
fn each_filter_is_subscribed_once_with_the_highest_qos_of_its_rules() {
    let low = Rule { qos_max: Qos::AtMostOnce, ..rule("a/#", "", "x") };
    let rules = BridgeRules::new(&[low, rule("b", "", ""), rule("a/#", "", "y")]).unwrap();
    let filters: Vec<_> =
        rules.filters().into_iter().map(|(filter, qos)| (filter.as_str().to_owned(), qos)).collect();
    assert_eq!(filters, [("a/#".to_owned(), Qos::AtLeastOnce), ("b".to_owned(), Qos::AtLeastOnce)]);
}

#[test]
fn filters_overlap_when_some_topic_is_taken_by_both() {
    for (one, other, expected) in [
        ("a/b", "a/b", true),
        ("a/b", "a/c", false),
        ("a/+", "+/b", true),
        ("a/#", "a", true),
        ("a/+", "a", false),
        ("#", "x/y", true),
        ("a/+/c/#", "a/b/+", true),
        ("a/+/c", "a/b/d", false),
        ("+/x", "$SYS/x", false),
        ("#", "$SYS/#", false),
        ("$SYS/#", "$SYS/+/x", true),
    ] {
        let (one, other) = (TopicFilter::new(one).unwrap(), TopicFilter::new(other).unwrap());
        assert_eq!(overlap(&one, &other), expected, "{one} {other}");
        assert_eq!(overlap(&other, &one), expected, "{other} {one}");
    }
}

fn levels(wild: bool) -> impl Strategy<Value = String> {
    let words: &[&str] = if wild { &["a", "b", "", "+", "$x"] } else { &["a", "b", "", "$x"] };
    let body = prop::collection::vec(prop::sample::select(words.to_vec()), 1..4);
    let end = prop::sample::select(if wild { vec!["", "/#"] } else { vec![""] });
    (body, end).prop_map(|(body, end)| body.join("/") + end)
}

proptest! {
    #[test]
    fn two_filters_that_take_one_topic_overlap_and_its_image_takes_the_mapped_topic(
        one in levels(true), other in levels(true), topic in levels(false), strip in levels(false), add in levels(false)
    ) {
        let (Ok(one), Ok(other), Ok(topic)) = (TopicFilter::new(one), TopicFilter::new(other), TopicName::new(topic)) else { return Ok(()) };
        if one.matches(&topic) && other.matches(&topic) {
            prop_assert!(overlap(&one, &other));
        }
        let Ok(checked) = BridgeRule::new(&rule(one.as_str(), &strip, &add)) else { return Ok(()) };
        if one.matches(&topic) && let Some(mapped) = checked.map(&topic) {
            let image = checked.image().unwrap();
            // A filter that begins with a wildcard takes no topic of the server, its image may.
            prop_assert!(image.matches(&mapped) || is_reserved(mapped.as_str()), "{} {}", image, mapped);
            let beginning = beginning(&add.as_str().into()).unwrap();
            prop_assert!(mapped.as_str().starts_with(bare(&beginning)));
            prop_assert_eq!(checked.map(&topic), Some(mapped));
        }
    }
}

/// Rules up, rules down and servers of an uplink.
type Plan<'a> = (&'a [Rule], &'a [Rule], &'a [(&'a str, u16)]);

fn sides(uplinks: &[Plan<'_>]) -> Vec<Risk> {
    let rules: Vec<_> = uplinks
        .iter()
        .map(|(up, down, servers)| (BridgeRules::new(up).unwrap(), BridgeRules::new(down).unwrap(), *servers))
        .collect();
    let sides: Vec<Side<'_>> = rules.iter().map(|(up, down, servers)| Side { up, down, servers }).collect();
    risks(&sides)
}

const ONE: &[(&str, u16)] = &[("one", 1883)];
const TWO: &[(&str, u16)] = &[("two", 1883)];

#[test]
fn an_uplink_that_hears_what_it_sends_has_an_echo() {
    let echo =
        sides(&[(&[rule("x", "", ""), rule("lamp/#", "", "site")], &[rule("site/+/set", "", "")], ONE)]);
    assert_eq!(echo, [Risk::Echo { uplink: 0, up: 1, down: 0 }]);
    assert_eq!(sides(&[(&[rule("field/#", "", "")], &[rule("cmd/#", "", "")], ONE)]), []);
}

#[test]
fn two_uplinks_to_one_server_can_send_a_message_around_without_end() {
    let all = [rule("#", "", "")];
    let circle = Risk::Circle { from: 0, up: 0, to: 1, down: 0 };
    assert_eq!(sides(&[(&all, &[], ONE), (&[], &all, ONE)]), [circle]);
    // Different servers, or topics that do not meet.
    assert_eq!(sides(&[(&all, &[], ONE), (&[], &all, TWO)]), []);
    let down = [rule("other/#", "", "")];
    assert_eq!(sides(&[(&[rule("mine/#", "", "")], &[], ONE), (&[], &down, ONE)]), []);
    // It is heard and does not go up again.
    let into = [rule("#", "", "heard")];
    assert_eq!(sides(&[(&[rule("mine/#", "", "")], &[], ONE), (&[], &into, ONE)]), []);
}

#[test]
fn a_chain_from_one_server_to_another_is_no_circle_and_back_again_is_one() {
    let all = [rule("#", "", "")];
    let chain = [(&[][..], &all[..], ONE), (&all[..], &[][..], TWO)];
    assert_eq!(sides(&chain), []);
    let third =
        [(&[][..], &all[..], ONE), (&all[..], &[][..], TWO), (&[][..], &[rule("x", "", "")][..], TWO)];
    assert_eq!(sides(&third), [Risk::Circle { from: 1, up: 0, to: 2, down: 0 }]);
}

/// A way down with these filters, of a gateway that itself sends on `gw/status` and `gw/meter/1`, and what enters of what comes on a topic.
fn enters(rules: &[Rule], topic: &str) -> (Option<String>, u64) {
    let mut down = Down::new(BridgeRules::new(rules).unwrap());
    down.replace_own(Arc::new(Own::new(["gw/status", "gw/meter/1"].map(Arc::from))));
    let (delivery, qos) = (Some(Delivery(1)), Qos::AtLeastOnce);
    let arrival = Arrival { delivery, topic: topic.into(), payload: b"x".to_vec(), qos, retain: false };
    assert_eq!(down.came(BootNs(0), arrival), Came::Taken);
    let entry = down.poll_entry();
    if entry.is_none() {
        assert_eq!(down.poll_acknowledge(), Some(Delivery(1)), "the cloud does not send it again");
    }
    let forged = down.counters().forged_messages_total;
    assert_eq!(down.take_forged().is_some(), forged == 1);
    (entry.map(|entry| entry.draft.topic.to_string()), forged)
}

#[test]
fn the_cloud_cannot_speak_for_the_gateway() {
    let all = [rule("#", "", "")];
    for topic in ["gw/status", "gw/meter/1"] {
        assert_eq!(enters(&all, topic), (None, 1), "{topic}");
    }
    assert_eq!(enters(&all, "gw/cmd"), (Some("gw/cmd".into()), 0));
    // Nor under another name.
    assert_eq!(enters(&[rule("site/#", "site", "gw")], "site/meter/1"), (None, 1));
    assert_eq!(enters(&[rule("gw/#", "", "cloud")], "gw/status"), (Some("cloud/gw/status".into()), 0));
}

#[test]
fn a_rule_that_names_the_topic_lets_the_cloud_speak_for_the_gateway() {
    assert_eq!(enters(&[rule("gw/status", "", "")], "gw/status"), (Some("gw/status".into()), 0));
    assert_eq!(enters(&[rule("x", "", "gw/meter/1"), rule("#", "", "")], "gw/meter/1"), (None, 1));
}

#[test]
fn figures_of_the_cloud_are_not_those_of_this_broker() {
    assert_eq!(enters(&[rule("$SYS/#", "", "")], "$SYS/broker/uptime"), (None, 1));
    let elsewhere = enters(&[rule("$SYS/#", "", "cloud")], "$SYS/broker/uptime");
    assert_eq!(elsewhere, (Some("cloud/$SYS/broker/uptime".into()), 0));
}

#[test]
fn a_flood_of_forged_messages_is_told_once() {
    let mut down = Down::new(BridgeRules::new(&[rule("#", "", "")]).unwrap());
    down.replace_own(Arc::new(Own::new([Arc::from("gw/status")])));
    let told = (0..100).filter(|_| {
        let (topic, payload) = ("gw/status".into(), b"x".to_vec());
        down.came(BootNs(0), Arrival { delivery: None, topic, payload, qos: Qos::AtMostOnce, retain: true });
        down.take_forged().is_some()
    });
    assert_eq!(told.count(), 1);
    assert_eq!((down.counters().forged_messages_total, down.pending()), (100, 0));
}
