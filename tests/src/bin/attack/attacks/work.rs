//! 4: what a packet can make the one thread of the gateway do.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::client::{Client, Crowd, HOME, Heard, dial, publish_id};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, Stage, attacker};
use super::{NEEDS, attack};
use tidegate_tests::packets::{
    self, Hello, PING, Publish, UPGRADE, Will, frame, session_expiry, subscribe, unsubscribe,
};

/// Levels of a topic whose filters with a wildcard or not at each level are 16,384.
const LEVELS: u32 = 14;
/// Filters of one SUBSCRIBE, and of one session.
const FILTERS: usize = 1900;
/// How long a flood lasts, and the longest wait for a PUBACK beside it that is no failure.
const FLOOD: Duration = Duration::from_secs(4);
const BESIDE_MAX: Duration = Duration::from_secs(1);
/// Messages of somebody else that pass meanwhile, at least; one after the other.
const BESIDE_MIN: u32 = 100;
/// One write of a flood: more than the kernel takes at once, so that it never runs out.
const FLOOD_PIECE: usize = 4 << 20;
/// Bytes that a flood has to bring in, at least.
const FLOOD_BYTES: u64 = 1 << 20;
/// Members of shared subscriptions that leave, what each of them holds, and the groups of others that want the same.
const LEAVING: usize = 4;
const HELD: usize = 1000;
const GROUPS: usize = 16_000;

pub(super) fn list() -> Vec<Attack> {
    let long = |key, name, run| Attack { seconds: 60, ..attack(key, name, run) };
    let web = Needs { users: true, listeners: true, ..NEEDS };
    vec![
        long("4a", "2,000 filters in one SUBSCRIBE against 10,000 retained messages", replays),
        long("4b", "2,000 publishes into 16,384 filters with wildcards", wildcards),
        long("4c", "filters and topics of 200 levels", deep),
        long("4d", "SUBSCRIBE and UNSUBSCRIBE of 2,000 filters, again and again", churn),
        long("4e", "900 sessions with 20 filters end at once", ends),
        long("4f", "900 wills speak at once", wills),
        Attack { short: true, ..long("4g", "one client sends QoS 0 without pause", flood_of_one) },
        long("4h", "twenty of them", flood_of_many),
        Attack {
            needs: web,
            ..long("4i", "four strangers send empty frames of WebSocket without pause", flood_of_frames)
        },
        long(
            "4j",
            "members of shared subscriptions leave 1,000 messages each to 16,000 other groups",
            leaving,
        ),
    ]
}

/// Sends a ping and waits until everything before it is done.
fn done(client: &mut Client, wait: Duration) -> std::io::Result<bool> {
    client.send(&PING)?;
    Ok(matches!(client.wait_for(13, wait)?, Heard::Packet(..)))
}

fn replays(stage: &mut Stage) -> Result<()> {
    let mut publisher = stage.client_as(attacker(0), Hello::v3("retainer"))?;
    for n in 0..9900 {
        let topic = format!("kept/{}/{}/{n}", n % 10, n % 100);
        publisher.send(&Publish { qos: 0, retain: true, ..Publish::new(&topic, b"x", 0) }.bytes())?;
    }
    done(&mut publisher, Duration::from_secs(40))?;
    // None of them fits, so nothing has to be sent: only looking costs.
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("+/+/+/never{n}")).collect();
    let mut client = stage.client_as(attacker(1), Hello::v3("curious"))?;
    let began = Instant::now();
    let mut rounds = 0;
    while !stage.over() && rounds < 10 {
        client.send(&subscribe(false, 1, &filters, 0))?;
        if !matches!(client.wait_for(9, Duration::from_secs(40))?, Heard::Packet(..)) {
            break;
        }
        rounds += 1;
    }
    stage.note(format!("{rounds} of 10 answered in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// All filters of `LEVELS` levels that fit `a/a/a/...`.
fn all_filters() -> Vec<String> {
    let filter = |mask: u32| {
        let levels = (0..LEVELS).map(|level| if mask >> level & 1 == 1 { "+" } else { "a" });
        levels.collect::<Vec<_>>().join("/")
    };
    (0..1 << LEVELS).map(filter).collect()
}

fn wildcards(stage: &mut Stage) -> Result<()> {
    let mut subscribers = Vec::new();
    for (n, part) in all_filters().chunks(FILTERS).enumerate() {
        let mut client = stage.client_as(attacker(n), Hello::v3(&format!("wild-{n}")))?;
        client.subscribe(false, part, 0)?;
        subscribers.push(client);
    }
    let topic = vec!["a"; LEVELS as usize].join("/");
    let said = Publish { qos: 0, ..Publish::new(&topic, b"x", 0) }.bytes();
    let count = 2000;
    let mut publisher = stage.client_as(attacker(50), Hello::v3("wild"))?;
    let began = Instant::now();
    publisher.send(&said.repeat(count))?;
    let finished = done(&mut publisher, Duration::from_secs(40))?;
    stage.note(format!(
        "{count} publishes {} after {:.1} s",
        if finished { "done" } else { "not done" },
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn deep(stage: &mut Stage) -> Result<()> {
    let mut subscribers = Vec::new();
    for n in 0..9 {
        let filters: Vec<String> = (0..200)
            .map(|m| {
                let levels = (0..200).map(|level| if (level + m + n) % 7 == 0 { "a" } else { "+" });
                levels.collect::<Vec<_>>().join("/")
            })
            .collect();
        let mut client = stage.client_as(attacker(n), Hello::v3(&format!("deep-{n}")))?;
        client.subscribe(false, &filters, 0)?;
        subscribers.push(client);
    }
    let topic = vec!["a"; 200].join("/");
    let said = Publish { qos: 0, ..Publish::new(&topic, b"x", 0) }.bytes();
    let mut publisher = stage.client_as(attacker(50), Hello::v3("deep"))?;
    publisher.send(&said.repeat(2000))?;
    let finished = done(&mut publisher, Duration::from_secs(40))?;
    stage.note(format!("2000 publishes {}", if finished { "done" } else { "not done" }));
    Ok(())
}

fn churn(stage: &mut Stage) -> Result<()> {
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("churn/{}/+/{n}/#", n % 40)).collect();
    let mut client = stage.client_as(attacker(0), Hello::v3("churn").durable())?;
    let (until, mut rounds) = (Instant::now() + Duration::from_secs(15), 0);
    while Instant::now() < until && !stage.over() {
        client.send(&subscribe(false, 1, &filters, 1))?;
        client.send(&unsubscribe(false, 2, &filters))?;
        if !matches!(client.wait_for(11, ANSWER_MAX)?, Heard::Packet(..)) {
            break;
        }
        rounds += 1;
    }
    stage.note(format!("{rounds} rounds"));
    Ok(())
}

fn ends(stage: &mut Stage) -> Result<()> {
    for round in 0..3 {
        let mut crowd = Crowd::default();
        for n in 0..900 {
            let hello = Hello { properties: session_expiry(0), ..Hello::v5("") };
            let id = format!("short-{round}-{n}");
            let Ok(mut client) = stage.client_as(attacker(n), Hello { id: &id, ..hello }) else { break };
            let filters: Vec<String> = (0..20).map(|m| format!("short/{n}/{m}/+")).collect();
            client.send(&packets::subscribe(true, 1, &filters, 0))?;
            crowd.take_in(client.stream, [].into())?;
        }
        stage.rest(Duration::from_millis(500));
        stage.note(format!("{} ended at once", crowd.open()));
        crowd.half_close();
        drop(crowd);
        stage.rest(Duration::from_secs(2));
    }
    Ok(())
}

fn wills(stage: &mut Stage) -> Result<()> {
    let mut listener = stage.client_as(attacker(0), Hello::v3("heir"))?;
    listener.subscribe(false, &["will/#".to_owned()], 0)?;
    let mut crowd = Crowd::default();
    for n in 0..900 {
        let (id, topic) = (format!("mortal-{n}"), format!("will/{n}"));
        let will = Will { topic: &topic, payload: &[b'w'; 4000], flags: 0x20, properties: Vec::new() };
        let Ok(client) = stage.client_as(attacker(n), Hello { will: Some(will), ..Hello::v3(&id) }) else {
            break;
        };
        crowd.take_in(client.stream, [].into())?;
    }
    let living = crowd.open();
    drop(crowd);
    let (until, mut heard) = (Instant::now() + Duration::from_secs(10), 0);
    while heard < living && matches!(listener.next(until)?, Heard::Packet(0x30..=0x3f, _)) {
        heard += 1;
    }
    stage.note(format!("{heard} of {living} wills heard"));
    Ok(())
}

/// Sends the same again and again, as fast as it is taken; how much was.
fn pour(mut stream: TcpStream, bytes: &[u8], stop: &AtomicBool) -> u64 {
    let mut sent = 0_u64;
    let mut rest = bytes;
    while !stop.load(Ordering::Relaxed) {
        match stream.write(rest) {
            Ok(taken) => {
                sent += taken as u64;
                rest = if taken < rest.len() { &rest[taken..] } else { bytes };
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    sent
}

/// Somebody publishes with QoS 1, one message after the other, while all of these send `bytes` without pause.
fn flood(stage: &mut Stage, streams: Vec<TcpStream>, bytes: &[u8]) -> Result<()> {
    let mut honest = stage.client_as(HOME, Hello::v3("beside"))?;
    let (stop, mut passed, mut slowest) = (AtomicBool::new(false), 0, Duration::ZERO);
    let began = Instant::now();
    let (sent, heard) = thread::scope(|scope| {
        let pouring: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(|| pour(stream, bytes, &stop))).collect();
        let mut next = || {
            let asked = Instant::now();
            honest.send(&Publish::new("beside/x", b"x", 1).bytes())?;
            let heard = honest.wait_for(4, ANSWER_MAX);
            slowest = slowest.max(asked.elapsed());
            heard
        };
        let mut heard = next();
        while matches!(heard, Ok(Heard::Packet(..))) && began.elapsed() < FLOOD {
            passed += 1;
            thread::park_timeout(Duration::from_millis(20));
            heard = next();
        }
        stop.store(true, Ordering::Relaxed);
        (pouring.into_iter().map(|thread| thread.join().unwrap_or(0)).sum::<u64>(), heard)
    });
    stage.note(format!(
        "{} MB taken in {:.1} s; {passed} messages of somebody else passed, the slowest after {:.2} s",
        sent / 1_000_000,
        began.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    ));
    stage.check("somebody else is served all the time", matches!(heard, Ok(Heard::Packet(..))));
    // The short form asks only whether.
    let soon = stage.setup.short || slowest < BESIDE_MAX && passed >= BESIDE_MIN;
    stage.check("somebody else is served soon", soon);
    stage.check("the flood is taken", sent > FLOOD_BYTES);
    Ok(())
}

fn flood_of_publishes(stage: &mut Stage, count: usize) -> Result<()> {
    let one = Publish { qos: 0, ..Publish::new("q", b"", 0) }.bytes();
    let open = |n| stage.client_as(attacker(n), Hello::v3(&format!("flood-{n}"))).map(|client| client.stream);
    let streams = (0..count).map(open).collect::<std::io::Result<_>>()?;
    flood(stage, streams, &one.repeat(FLOOD_PIECE / one.len()))
}

fn flood_of_one(stage: &mut Stage) -> Result<()> {
    flood_of_publishes(stage, 1)
}

fn flood_of_many(stage: &mut Stage) -> Result<()> {
    flood_of_publishes(stage, 20)
}

/// They need no name: no CONNECT ever comes.
fn flood_of_frames(stage: &mut Stage) -> Result<()> {
    let port = stage.web_port;
    let open = |n| {
        let mut stream = dial(attacker(n), port)?;
        stream.write_all(UPGRADE.as_bytes()).map(|()| stream)
    };
    let streams = (0..4).map(open).collect::<std::io::Result<_>>()?;
    let one = frame(b"");
    flood(stage, streams, &one.repeat(FLOOD_PIECE / one.len()))
}

/// What a member held goes to another one of its group, and is compared with nobody else's.
fn leaving(stage: &mut Stage) -> Result<()> {
    let group = |n: usize| vec![format!("$share/own{n}/wanted/#")];
    let mut members = Vec::new();
    for n in 0..LEAVING {
        let mut member = stage.client_as(attacker(n), Hello::v3(&format!("member-{n}")))?;
        member.subscribe(false, &group(n), 1)?;
        members.push(member);
    }
    let mut publisher = stage.client_as(attacker(50), Hello::v3("publisher"))?;
    for _ in 0..HELD {
        publisher.send(&Publish::new("wanted/x", b"x", 1).bytes())?;
        publisher.wait_for(4, ANSWER_MAX)?;
    }
    let mut heir = stage.client_as(attacker(51), Hello::v3("heir"))?;
    for n in 0..LEAVING {
        heir.subscribe(false, &group(n), 1)?;
    }
    let mut others = Vec::new();
    for n in 0..GROUPS / 2000 {
        let mut other = stage.client_as(attacker(60 + n), Hello::v3(&format!("other-{n}")))?;
        let filters: Vec<String> = (0..2000).map(|m| format!("$share/{n}x{m}/wanted/#")).collect();
        for part in filters.chunks(500) {
            other.subscribe(false, part, 1)?;
        }
        others.push(other);
    }
    let mut inherited = 0;
    for member in members {
        drop(member);
        for _ in 0..HELD {
            let Heard::Packet(_, body) = heir.wait_for(3, ANSWER_MAX)? else { break };
            heir.send(&packets::answer(0x40, publish_id(&body)))?;
            inherited += 1;
        }
    }
    stage.note(format!("{inherited} of {} messages passed on", LEAVING * HELD));
    stage.check("another member gets what the leaving ones held", inherited == LEAVING * HELD);
    Ok(())
}
