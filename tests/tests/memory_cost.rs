//! What the broker charges for what it keeps, against what the process grows by.
//!
//! Each shape is measured in a process of its own, because memory that another one has freed would be used again. Nothing but anonymous memory counts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::process::Command;

use gateway_core::broker::{Action, Broker, ConnId, Limits, Origin};
use gateway_core::tag::BootNs;
use tidegate_tests::fake_broker::remaining_length;

/// Names the shape that a process of its own is to measure.
const SHAPE: &str = "TIDEGATE_SHAPE";

/// Messages of a shape: their memory is far more than what else a process does.
const MESSAGES: usize = 8000;

fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [vec![first], remaining_length(body.len()), body.to_vec()].concat()
}

/// So many user properties, with their length before them.
fn properties(pairs: usize, bytes: usize) -> Vec<u8> {
    let pair = [vec![0x26], text(b"name"), text(&vec![b'v'; bytes])].concat();
    [remaining_length(pair.len() * pairs), pair.repeat(pairs)].concat()
}

struct Peer {
    broker: Broker,
    last: u64,
}

impl Peer {
    fn new() -> Self {
        let limits = Limits {
            retained_max: usize::MAX,
            retained_bytes_max: usize::MAX / 2,
            wills_bytes_max: usize::MAX / 2,
            connections_max: usize::MAX,
            connections_per_address_max: usize::MAX,
            logins_per_minute_max: 0,
            sessions_max: usize::MAX,
            ..Limits::default()
        };
        Self { broker: Broker::in_memory(limits), last: 0 }
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        self.broker.handle_bytes(BootNs(1), conn, bytes);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.broker.poll_action() {
            if let Action::Send { conn, bytes } = action {
                self.broker.handle_sent(BootNs(1), conn, bytes.len());
            }
        }
        while self.broker.poll_timeout().is_some_and(|at| at <= BootNs(1)) {
            self.broker.timeout(BootNs(1));
        }
    }

    /// A client of 5.0, with a will if there are properties for it.
    fn connect(&mut self, will: Option<&[u8]>) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        self.broker.handle_open(
            BootNs(1),
            conn,
            Origin { peer: format!("10.0.{}.{}", self.last >> 8, self.last & 255), ..Origin::default() },
        );
        let name = format!("c{}", self.last);
        let mut body = [
            b"\0\x04MQTT\x05",
            &[if will.is_some() { 6 } else { 2 }][..],
            &[0, 0, 0],
            &text(name.as_bytes()),
        ]
        .concat();
        if let Some(will) = will {
            body.extend([will, &text(b"a/topic/of/a/will"), &text(&[b'x'; 2000])].concat());
        }
        self.say(conn, &packet(0x10, &body));
        conn
    }
}

/// What is charged for the messages of a shape, and what the process grew by.
fn measure(shape: &str) -> (u64, u64) {
    let mut peer = Peer::new();
    let conn = peer.connect(None);
    let retain = |peer: &mut Peer, properties: &[u8], body: usize, numbers: std::ops::Range<usize>| {
        for number in numbers {
            let topic = text(format!("plant/machine{number}/value").as_bytes());
            peer.say(conn, &packet(0x31, &[topic, properties.to_vec(), vec![b'x'; body]].concat()));
        }
    };
    let (few, rich) = (properties(0, 0), properties(20, 30));
    let many = properties(100, 0);
    // What is there once, and a client that comes with its will, is not what a message costs.
    retain(&mut peer, &few, 10, 0..500);
    let mut clients = 0;
    if shape == "wills" {
        let without = rss_anon();
        (0..MESSAGES).for_each(|_| _ = peer.connect(None));
        clients = rss_anon() - without;
    }
    let before = (peer.broker.gauges().retained_bytes, peer.broker.gauges().wills_bytes, rss_anon());
    match shape {
        "small" => retain(&mut peer, &few, 10, 500..MESSAGES * 4),
        "large" => retain(&mut peer, &few, 3000, 500..MESSAGES),
        "rich" => retain(&mut peer, &rich, 10, 500..MESSAGES),
        "many" => retain(&mut peer, &many, 10, 500..MESSAGES),
        "wills" => (0..MESSAGES).for_each(|_| _ = peer.connect(Some(&rich))),
        other => panic!("no shape {other}"),
    }
    let gauges = peer.broker.gauges();
    (gauges.retained_bytes - before.0 + gauges.wills_bytes - before.1, rss_anon() - before.2 - clients)
}

#[test]
fn a_shape_in_a_process_of_its_own() {
    if let Ok(shape) = std::env::var(SHAPE) {
        let (charged, grown) = measure(&shape);
        println!("charged={charged} grown={grown}");
    }
}

#[test]
fn what_is_charged_is_at_least_four_fifths_of_what_the_process_grows_by() {
    for shape in ["small", "large", "rich", "many", "wills"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_shape_in_a_process_of_its_own", "--nocapture"])
            .env(SHAPE, shape)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let number = |key: &str| -> u64 {
            let rest = said.split_once(key).unwrap_or_else(|| panic!("{shape}: {said}")).1;
            rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let (charged, grown) = (number("charged="), number("grown="));
        assert!(charged * 5 >= grown * 4, "{shape}: {charged} charged for {grown}");
        assert!(charged <= grown * 2, "{shape}: {charged} charged for {grown}");
    }
}
