//! 4: what a packet can make the one thread of the gateway do.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::client::{Client, Crowd, Heard};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Stage, attacker};
use super::attack;
use tidegate_tests::packets::{self, Hello, PING, Publish, Will, session_expiry, subscribe, unsubscribe};

/// Levels of a topic whose filters with a wildcard or not at each level are 16,384.
const LEVELS: u32 = 14;
/// Filters of one SUBSCRIBE, and of one session.
const FILTERS: usize = 1900;

pub(super) fn list() -> Vec<Attack> {
    let long = |key, name, run| Attack { seconds: 60, ..attack(key, name, run) };
    vec![
        long("4a", "2,000 filters in one SUBSCRIBE against 10,000 retained messages", replays),
        long("4b", "2,000 publishes into 16,384 filters with wildcards", wildcards),
        long("4c", "filters and topics of 200 levels", deep),
        long("4d", "SUBSCRIBE and UNSUBSCRIBE of 2,000 filters, again and again", churn),
        long("4e", "900 sessions with 20 filters end at once", ends),
        long("4f", "900 wills speak at once", wills),
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
