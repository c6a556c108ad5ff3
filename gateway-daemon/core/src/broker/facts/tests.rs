//! What is written is read again, and anything else is refused without harm.

use proptest::prelude::*;

use super::*;
use crate::broker::change::Found;
use crate::broker::packet::{Delivery, Replay};
use crate::broker::properties::{Properties, Writer, id};
use crate::broker::topic::TopicName;
use crate::tag::{BootNs, RunId};
use crate::uplink::row::{Body, Qos, Row};

const BOOT: BootId = BootId(0x1122_3344_5566_7788);
const OTHER: BootId = BootId(1);

fn any_qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn any_topic() -> impl Strategy<Value = TopicName> {
    "[a-zä/ ]{1,30}".prop_map(|text| TopicName::new(text).expect("a topic name"))
}

/// What a message of the version before had beside its topic and body.
#[derive(Debug, Clone, Default)]
struct Parts {
    utf8: bool,
    content_type: Option<String>,
    response_topic: Option<TopicName>,
    correlation: Option<Vec<u8>>,
    user: Vec<(String, String)>,
}

impl Parts {
    fn properties(&self) -> Option<Properties> {
        let mut writer = Writer::default();
        if self.utf8 {
            writer.text();
        }
        if let Some(text) = &self.content_type {
            writer.short(id::CONTENT_TYPE, text.as_bytes());
        }
        if let Some(topic) = &self.response_topic {
            writer.short(id::RESPONSE_TOPIC, topic.as_str().as_bytes());
        }
        if let Some(bytes) = &self.correlation {
            writer.short(id::CORRELATION, bytes);
        }
        for (name, value) in &self.user {
            writer.user(name.as_bytes(), value.as_bytes());
        }
        writer.finish()
    }

    /// As commit 0fab01f writes them into a fact or a row.
    fn stored(&self) -> Vec<u8> {
        let short = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
        let mut flags = u8::from(self.utf8);
        let mut rest = Vec::new();
        let texts = [
            (2, self.content_type.as_ref().map(|text| text.as_bytes())),
            (4, self.response_topic.as_ref().map(|topic| topic.as_str().as_bytes())),
            (8, self.correlation.as_deref()),
        ];
        for (flag, bytes) in texts {
            if let Some(bytes) = bytes {
                flags |= flag;
                rest.extend(short(bytes));
            }
        }
        if !self.user.is_empty() {
            flags |= 16;
            rest.extend(u16::try_from(self.user.len()).unwrap().to_le_bytes());
            rest.extend(
                self.user.iter().flat_map(|(n, v)| [short(n.as_bytes()), short(v.as_bytes())].concat()),
            );
        }
        [vec![flags], rest].concat()
    }
}

fn any_parts() -> impl Strategy<Value = Parts> {
    let user = proptest::collection::vec(("[a-z]{0,5}", "\\PC{0,9}"), 0..4);
    let correlation = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
    (any::<bool>(), proptest::option::of("\\PC{0,9}"), proptest::option::of(any_topic()), correlation, user)
        .prop_map(|(utf8, content_type, response_topic, correlation, user)| Parts {
            utf8,
            content_type,
            response_topic,
            correlation,
            user,
        })
}

prop_compose! {
    fn any_message()(
        topic in any_topic(),
        body in proptest::collection::vec(any::<u8>(), 0..50),
        qos in any_qos(),
        retain in any::<bool>(),
        parts in any_parts(),
        at in any::<u64>(),
        expiry_s in any::<Option<u32>>(),
    ) -> Message {
        Message { topic, body: body.into(), qos, retain, properties: parts.properties(), at: BootNs(at), expiry_s }
    }
}

fn run(boot: BootId) -> RunId {
    RunId { boot, start_ms: 5 }
}

fn bytes(value: &Value) -> Arc<[u8]> {
    value.encode(BOOT)
}

proptest! {
    #[test]
    fn properties_lie_on_disk_as_the_version_before_wrote_them_and_come_back_as_they_were(parts in any_parts()) {
        let message = Message { properties: parts.properties(), ..Message::clone(&sample().message) };
        let written = bytes(&Value::Retained(Arc::new(message.clone())));
        // 1 format, 1 flags, 8 boot, 8 at, 2 + 3 topic, properties, 1 body.
        prop_assert_eq!(&written[23..], [parts.stored(), b"1".to_vec()].concat());
        prop_assert_eq!(read_retained(&written, BOOT), Ok(message));
    }

    #[test]
    fn a_message_of_a_queue_is_read_as_it_was_written(
        message in any_message(), identifiers in proptest::collection::vec(1..0x0fff_ffff_u32, 0..4), retain: bool,
    ) {
        let delivery = Delivery {
            qos: message.qos, retain, identifiers: identifiers.into(), message: Arc::new(Message { retain, ..message }),
        };
        let row = row(&delivery, Seq(9), run(BOOT));
        prop_assert_eq!(row.size(), row_size(&delivery));
        prop_assert_eq!((row.seq, row.at), (Seq(9), delivery.message.at));
        prop_assert_eq!(super::delivery(&row, BOOT), Ok(delivery.clone()));
        let later = super::delivery(&row, OTHER).expect("it is not damaged");
        prop_assert_eq!(later.message.at, BootNs(0), "at least as old as that boot");
        prop_assert_eq!(later.message.expiry_s, delivery.message.expiry_s);
    }

    #[test]
    fn retained_and_received_messages_are_read_as_they_were_written(message in any_message()) {
        let message = Arc::new(message);
        let retained = Value::Retained(Arc::clone(&message));
        prop_assert_eq!(bytes(&retained).len(), retained.size());
        prop_assert_eq!(read_retained(&bytes(&retained), BOOT), Ok(Message::clone(&message)));
        let held = received(Some(&message));
        prop_assert_eq!(bytes(&held).len(), held.size());
        prop_assert_eq!(read_received(&bytes(&held), BOOT), Ok(Received::Held(Message::clone(&message))));
    }

    #[test]
    fn a_session_is_read_as_it_was_written(
        expiry_s: u32, user in proptest::option::of("\\PC{0,9}"), sent: u64, ended: Option<u64>,
        will in proptest::option::of((any_message(), any::<u32>())), version in 0..3_usize,
    ) {
        let fact = SessionFact {
            version: [Version::V31, Version::V311, Version::V5][version],
            expiry_s,
            user: user.map(Into::into),
            sent: Seq(sent),
            ended: ended.map(|ended| Ended::At(Duration::from_nanos(ended))),
            will: will.map(|(message, s)| Testament { message, delay: Duration::from_secs(s.into()) }),
            will_left_out: false,
        };
        let read = read_session(&bytes(&session(&fact, BOOT)), BOOT).expect("it is not damaged");
        prop_assert_eq!(format!("{read:?}"), format!("{fact:?}"));
        let later = read_session(&bytes(&session(&fact, BOOT)), OTHER).expect("it is not damaged");
        prop_assert_eq!(later.ended, fact.ended, "running time is the same in every boot");
    }

    #[test]
    fn a_subscription_is_read_as_it_was_written(
        qos in any_qos(), no_local: bool, retain_as_published: bool, replay in 0..3_usize,
        identifier in proptest::option::of(1..0x0fff_ffff_u32),
    ) {
        let replay = [Replay::Always, Replay::IfNew, Replay::Never][replay];
        let options = Options { qos, no_local, retain_as_published, replay, identifier };
        prop_assert_eq!(read_subscription(&bytes(&subscription(options))), Ok(options));
    }

    #[test]
    fn bytes_that_nobody_wrote_do_no_harm(noise in proptest::collection::vec(any::<u8>(), 0..80), first in 0..4_u8) {
        let mut bytes = noise;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = read_retained(&bytes, BOOT);
        let _ = read_received(&bytes, BOOT);
        let _ = read_session(&bytes, BOOT);
        let _ = read_subscription(&bytes);
        let _ = read_released(&bytes);
        let mut row = row(&sample(), Seq(1), run(BOOT));
        row.body = Body::Raw(bytes.into());
        let _ = delivery(&row, BOOT);
    }

    #[test]
    fn a_byte_of_damage_never_panics_and_never_makes_more_than_there_was(
        message in any_message(), place: prop::sample::Index, with: u8,
    ) {
        let mut bytes = bytes(&Value::Retained(Arc::new(message))).to_vec();
        let place = place.index(bytes.len());
        bytes[place] = with;
        if let Ok(read) = read_retained(&bytes, BOOT) {
            let properties = read.properties.as_ref().map_or(0, |properties| properties.as_bytes().len());
            prop_assert!(read.body.len() + read.topic.as_str().len() + properties <= 2 * bytes.len());
        }
    }
}

fn sample() -> Delivery {
    let message = Message {
        topic: TopicName::new("a/b").unwrap(),
        body: b"1".as_slice().into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        properties: None,
        at: BootNs(1),
        expiry_s: None,
    };
    Delivery { message: Arc::new(message), qos: Qos::AtLeastOnce, retain: true, identifiers: Box::default() }
}

#[test]
fn the_plain_row_costs_one_byte_more_than_its_payload() {
    let row = row(&sample(), Seq(1), run(BOOT));
    assert_eq!(row.body.bytes().len(), 2);
}

#[test]
fn a_body_that_is_a_record_is_no_message_of_a_client() {
    let row = Row { body: Body::Record([1, 2].into()), ..row(&sample(), Seq(1), run(BOOT)) };
    assert_eq!(delivery(&row, BOOT), Err(Damaged));
}

/// Two clients whose names and filters could be confused if the key were just both.
fn two_clients() -> Found {
    let fact = SessionFact {
        version: Version::V311,
        expiry_s: u32::MAX,
        user: None,
        sent: Seq(3),
        ended: None,
        will: None,
        will_left_out: false,
    };
    let options = Options {
        qos: Qos::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        replay: Replay::Always,
        identifier: None,
    };
    let put = |key: FactKey, value: Value| (key, bytes(&value));
    let message = sample().message;
    Found {
        facts: vec![
            put(subscription_key("a", "b/c"), subscription(options)),
            put(session_key(&"a".into()), session(&fact, BOOT)),
            put(session_key(&"ab".into()), session(&fact, BOOT)),
            put(received_key("ab", 7), received(Some(&message))),
            put(released_key("a", 10), released(Seq(10))),
            put(released_key("a", 300), released(Seq(5))),
            put(retained_key(message.topic.shared()), Value::Retained(message)),
        ],
        queues: vec![(queue_name("a"), crate::uplink::row::Stored { last: Seq(9), ..Default::default() })],
        ..Found::default()
    }
}

#[test]
fn everything_comes_back_to_the_session_it_belongs_to() {
    let all = recover(two_clients(), BOOT);
    let (a, ab) = (&all.sessions["a"], &all.sessions["ab"]);
    assert_eq!(a.subscriptions.len(), 1);
    assert_eq!(&*a.subscriptions[0].0, "b/c");
    assert_eq!(a.released, [(300, Seq(5)), (10, Seq(10))], "by seq");
    assert_eq!((a.stored.last, a.fact.sent), (Seq(9), Seq(3)));
    assert!(ab.subscriptions.is_empty() && ab.released.is_empty());
    assert_eq!(ab.received.len(), 1);
    assert!(matches!(&ab.received[0].1, Received::Held(message) if message.topic.as_str() == "a/b"));
    assert_eq!(all.retained.len(), 1);
    assert!(all.stray_facts.is_empty() && all.stray_queues.is_empty());
    assert_eq!(all.damaged, 0);
}

#[test]
fn what_is_damaged_or_belongs_to_nobody_is_named_and_the_rest_is_there() {
    let mut found = two_clients();
    found.facts[2].1 = [9, 9].into();
    found.facts.push((released_key("nobody", 3), bytes(&released(Seq(1)))));
    found.facts.push((FactKey { kind: FactKind::Received, key: [255, 255, 1].into() }, [1].into()));
    found.facts.push((FactKey { kind: FactKind::Session, key: [0xff].into() }, [1].into()));
    found.facts.push((retained_key(&"other".into()), bytes(&Value::Retained(sample().message))));
    found.queues.push((queue_name("gone"), Default::default()));
    let all = recover(found, BOOT);
    assert_eq!(all.sessions.len(), 1);
    assert_eq!(all.damaged, 4);
    assert_eq!(
        all.stray_facts.len(),
        4 + 2,
        "the received identifier of the damaged session and that of nobody"
    );
    assert_eq!(all.stray_queues, [queue_name("gone")]);
    assert_eq!(all.retained.len(), 1);
}

/// The fact of a session that was left, as version 0.1 (commit 0fab01f) wrote it: 3.1.1, for ever, user `ada`, sent up to 3, in boot 0x1122334455667788 at 77 ns.
const BEFORE: &[u8] = b"\x01\x04\x03\xff\xff\xff\xff\x03\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11\x4d\0\0\0\0\0\0\0\x03\0ada";

#[test]
fn a_session_of_the_version_before_is_read_and_its_time_is_not_known() {
    let fact = read_session(BEFORE, BOOT).expect("it is not damaged");
    assert_eq!((fact.version, fact.expiry_s, fact.sent), (Version::V311, u32::MAX, Seq(3)));
    assert_eq!((fact.user.as_deref(), fact.ended), (Some("ada"), Some(Ended::Earlier)));
}

#[test]
fn the_version_before_reads_what_is_written_here() {
    let fact = SessionFact {
        version: Version::V311,
        expiry_s: u32::MAX,
        user: Some("ada".into()),
        sent: Seq(3),
        ended: Some(Ended::At(Duration::from_nanos(77))),
        will: None,
        will_left_out: false,
    };
    let bytes = bytes(&session(&fact, BOOT));
    // The same fields at the same places; it takes the first eight bytes of `ended` for another boot, and reads no more of it than that it is there.
    assert_eq!((&bytes[..15], &bytes[23..]), (&BEFORE[..15], &BEFORE[23..]));
    assert_ne!(bytes[15..23], BOOT.0.to_le_bytes());
}

#[test]
fn running_time_is_a_subscription_that_belongs_to_no_session() {
    let mut found = two_clients();
    let running = Duration::from_secs(5000);
    found.facts.push((clock_key(), bytes(&clock(running))));
    let all = recover(found.clone(), BOOT);
    assert_eq!((all.ran, all.damaged, all.stray_facts.len()), (running, 0, 0));
    // What the version before asks of it: its kind, and to whom it belongs. It removes it and counts nothing.
    assert_eq!((clock_key().kind, &clock_key().key[..2]), (FactKind::Subscription, &[0, 0][..]));
    found.facts.last_mut().unwrap().1 = [1, 2].into();
    assert_eq!(recover(found, BOOT).damaged, 1);
}

/// What commit 0fab01f wrote of six messages: with every property, with one of each kind alone, and with none; as retained message and as row.
const GOLDEN: [(&str, &str); 6] = [
    (
        "010e887766554433221106050403020100003c0000000400612fc3bc1f0a00746578742f706c61696e0900616e737765722fc3a4030000ff07030001007a010031010061000001007a0300c3bc0a626f6479",
        "020200010000002c0100001f0a00746578742f706c61696e0900616e737765722fc3a4030000ff07030001007a010031010061000001007a0300c3bc0a626f6479",
    ),
    ("0106887766554433221106050403020100000400612fc3bc01626f6479", "020200010000002c01000001626f6479"),
    (
        "0106887766554433221106050403020100000400612fc3bc020000626f6479",
        "020200010000002c010000020000626f6479",
    ),
    (
        "0106887766554433221106050403020100000400612fc3bc080000626f6479",
        "020200010000002c010000080000626f6479",
    ),
    (
        "0106887766554433221106050403020100000400612fc3bc10010000000000626f6479",
        "020200010000002c01000010010000000000626f6479",
    ),
    ("0106887766554433221106050403020100000400612fc3bc00626f6479", "020200010000002c01000000626f6479"),
];

#[test]
fn what_the_version_before_wrote_is_read_and_is_still_written_so() {
    let user =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let rich = Parts {
        utf8: true,
        content_type: Some("text/plain".into()),
        response_topic: Some(TopicName::new("answer/ä").unwrap()),
        correlation: Some(vec![0, 255, 7]),
        user: user(&[("z", "1"), ("a", ""), ("z", "ü\n")]),
    };
    let all = [
        rich,
        Parts { utf8: true, ..Parts::default() },
        Parts { content_type: Some(String::new()), ..Parts::default() },
        Parts { correlation: Some(Vec::new()), ..Parts::default() },
        Parts { user: user(&[("", "")]), ..Parts::default() },
        Parts::default(),
    ];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    for (index, (parts, (retained, of_row))) in all.iter().zip(GOLDEN).enumerate() {
        let message = Arc::new(Message {
            topic: TopicName::new("a/ü").unwrap(),
            body: b"body".as_slice().into(),
            qos: Qos::ExactlyOnce,
            retain: true,
            properties: parts.properties(),
            at: BootNs(0x0102_0304_0506),
            expiry_s: (index == 0).then_some(60),
        });
        let value = Value::Retained(Arc::clone(&message));
        assert_eq!(hex(&bytes(&value)), retained);
        assert_eq!(value.size(), retained.len() / 2);
        assert_eq!(read_retained(&unhex(retained), BOOT).as_ref(), Ok(&*message));
        let held = received(Some(&message));
        assert_eq!(hex(&bytes(&held)), format!("02{retained}"));
        let read = read_received(&unhex(&format!("02{retained}")), BOOT);
        assert_eq!(read, Ok(Received::Held(Message::clone(&message))));
        let identifiers = Box::new([1, 300]);
        let delivery = Delivery { message, qos: Qos::AtLeastOnce, retain: false, identifiers };
        let row = row(&delivery, Seq(9), run(BOOT));
        assert_eq!(hex(row.body.bytes()), of_row);
        assert_eq!(row.size(), row_size(&delivery));
    }
}
