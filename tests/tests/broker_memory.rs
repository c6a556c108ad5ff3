//! What the local broker's memory is spent on, measured from outside: a process of its own, because memory is counted for the whole of it.

use anyhow::{Context as _, Result};
use gateway_core::broker::{Action, Broker, ConnId, Limits, Origin};
use gateway_core::tag::BootNs;

/// Anonymous memory of this process, bytes.
fn anonymous_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: usize = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib << 10)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let low = len.to_le_bytes()[0] & 0x7f;
        len >>= 7;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

fn connect(id: &str) -> Vec<u8> {
    packet(0x10, &[&b"\0\x04MQTT\x04\x02\0\0"[..], &text(id)].concat())
}

fn subscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let body: Vec<u8> = filters.flat_map(|filter| [text(&filter), vec![1]].concat()).collect();
    packet(0x82, &[&[0, 1][..], &body].concat())
}

/// What stands in a SUBACK behind its length and its identifier.
fn codes(suback: &[u8]) -> &[u8] {
    let length = suback[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    &suback[1 + length + 2..]
}

struct Hands {
    broker: Broker,
    granted: usize,
}

impl Hands {
    fn say(&mut self, conn: u64, bytes: &[u8]) {
        self.broker.handle_bytes(BootNs(1), ConnId(conn), bytes);
        self.act();
    }

    fn act(&mut self) {
        loop {
            while let Some(action) = self.broker.poll_action() {
                if let Action::Send { conn, bytes } = action {
                    let codes = if bytes[0] == 0x90 { codes(&bytes) } else { &[] };
                    self.granted += codes.iter().filter(|code| **code == 1).count();
                    self.broker.handle_sent(BootNs(1), conn, bytes.len());
                }
            }
            if !self.broker.has_work() {
                break;
            }
            self.broker.timeout(BootNs(1));
        }
    }
}

/// Most bytes of memory that a subscription may cost, the allocator's own included: what `gateway_core::fit` counts for it.
const BYTES_MAX: usize = 220;

#[test]
fn a_subscription_costs_at_most_220_bytes_and_what_is_gone_makes_room_for_others() -> Result<()> {
    const CLIENTS: u64 = 100;
    const FILTERS: usize = 1000;
    const ALONE: u64 = 5000;
    const NOBODY: usize = usize::MAX;
    let limits = Limits {
        subscriptions_max: 1_000_000,
        connections_max: NOBODY,
        connections_per_address_max: NOBODY,
        connections_per_user_max: NOBODY,
        sessions_max: NOBODY,
        sessions_per_address_max: NOBODY,
        sessions_per_user_max: NOBODY,
        logins_per_minute_max: 0,
        ..Limits::default()
    };
    let mut hands = Hands { broker: Broker::in_memory(limits), granted: 0 };
    let come = |hands: &mut Hands, conn: u64, name: &str| {
        hands.broker.handle_open(BootNs(1), ConnId(conn), Origin::default());
        hands.say(conn, &connect(&format!("{name}-{conn:04}")));
    };
    let start = anonymous_bytes()?;
    (1..=CLIENTS).for_each(|conn| come(&mut hands, conn, "client"));
    let before = anonymous_bytes()?;
    for conn in 1..=CLIENTS {
        let name = |number| format!("plant7/hall2/machine{conn:03}/value{number:04}");
        hands.say(conn, &subscribe((0..FILTERS).map(name)));
    }
    let count = usize::try_from(CLIENTS).unwrap_or_default() * FILTERS;
    assert_eq!((hands.granted, hands.broker.gauges().subscriptions), (count, count));
    let full = anonymous_bytes()?.saturating_sub(before);
    // Many clients with one each, and another level behind the one that is theirs.
    let lonely = CLIENTS + 1..=CLIENTS + ALONE;
    lonely.clone().for_each(|conn| come(&mut hands, conn, "alone"));
    let between = anonymous_bytes()?;
    for conn in lonely.clone() {
        let name = format!("plant/line{}/machine{}/temp", conn / 500, conn % 500);
        hands.say(conn, &subscribe(std::iter::once(name)));
    }
    let alone = usize::try_from(ALONE).unwrap_or_default();
    assert_eq!(hands.broker.gauges().subscriptions, count + alone);
    let (each, each_alone) = (full / count, anonymous_bytes()?.saturating_sub(between) / alone);
    eprintln!("{each} bytes per subscription, {each_alone} where each client has one");
    assert!(each <= BYTES_MAX && each_alone <= BYTES_MAX, "{each} and {each_alone} bytes per subscription");
    for conn in 1..=CLIENTS + ALONE {
        hands.broker.handle_closed(BootNs(1), ConnId(conn));
        hands.act();
    }
    assert_eq!(hands.broker.gauges().subscriptions, 0);
    // As the daemon does when much was freed.
    drivers::memory::give_back();
    let left = anonymous_bytes()?.saturating_sub(start);
    assert!(left < full / 5, "{left} bytes are not given back; {full} were needed for {count} subscriptions");
    // Others with other names: the allocator has all that it needs.
    for conn in 10_001..=10_000 + CLIENTS {
        come(&mut hands, conn, "another");
        let name = |number| format!("plant9/hall{number:04}/m{conn:05}/temperature");
        hands.say(conn, &subscribe((0..FILTERS / 2).map(name)));
    }
    let again = anonymous_bytes()?.saturating_sub(before);
    eprintln!("{full} bytes, {again} bytes again");
    assert!(again <= full + full / 4, "{again} bytes, {full} before: what was there is not used again");
    Ok(())
}
