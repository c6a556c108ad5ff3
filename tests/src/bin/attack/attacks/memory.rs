//! 1, 2, 5 and 8: what a client can make the gateway hold in memory.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::super::client::{Client, Crowd, Heard, PIECE};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, PASSWORD, Stage, attacker};
use super::super::tls;
use super::{NEEDS, attack};
use tidegate_tests::packets::{
    Hello, Publish, UPGRADE, Will, empty_properties, frame, long_properties, packet, session_expiry,
    subscribe, will_delay,
};

/// Empty user properties that fill a CONNECT of 79 kB.
const WILL_PROPERTIES: usize = 15_800;
/// Empty user properties that fill a packet of 250 kB.
const PACKET_PROPERTIES: usize = 50_000;
/// How much more memory than before may be kept once everything is gone, MiB.
const KEPT_MIB: u64 = 16;

pub(super) fn list() -> Vec<Attack> {
    let users = Needs { users: true, ..NEEDS };
    let listeners = Needs { listeners: true, ..users };
    let one = |key, name, run| Attack { needs: users, ..attack(key, name, run) };
    let two = |key, name, run| Attack { restarts: 3, ..attack(key, name, run) };
    let many =
        Needs { limits: "subscriptions_max = 200_000\nsubscriptions_per_session_max = 20_000\n", ..NEEDS };
    vec![
        Attack { short: true, ..one("1a", "CONNECT with a huge will and a wrong password", hello_tcp) },
        Attack { needs: listeners, ..one("1b", "the same by TLS", hello_tls) },
        Attack { needs: listeners, ..one("1c", "the same by WebSocket", hello_web) },
        one("1d", "the same in small pieces", hello_dribbled),
        one("1e", "CONNECTs that are never finished", hello_partial),
        Attack { short: true, ..two("2a", "retained messages with 250 kB of properties", retained) },
        two("2b", "delayed wills with 79 kB of properties", wills),
        two("2c", "retained messages with long content types", retained_long),
        attack("2d", "messages with properties for clients that do not acknowledge", queued),
        Attack { seconds: 90, ..one("5", "200 log-ins by password, then rest", logins) },
        Attack { needs: many, seconds: 60, ..attack("8", "200,000 subscriptions, then none", subscriptions) },
        Attack { short: true, ..attack("8b", "subscriptions of 65 kB and of 201 levels", long_filters) },
    ]
}

fn big_hello() -> Vec<u8> {
    let properties = empty_properties(WILL_PROPERTIES);
    let will = Will { topic: "w", payload: b"", flags: 0, properties };
    Hello { will: Some(will), ..Hello::v5("stranger").user("alice", "wrong") }.bytes()
}

/// Opens connections that all want to send `bytes`, as far as anybody listens.
fn crowd(stage: &Stage, count: usize, port: u16, bytes: &Arc<[u8]>) -> Crowd {
    let mut crowd = Crowd::default();
    for n in 0..count {
        // Who is not let in at all does no harm.
        if stage.over() || crowd.join(attacker(n), port, Arc::clone(bytes)).is_err() && stage.over() {
            break;
        }
    }
    crowd
}

fn hello_tcp(stage: &mut Stage) -> Result<()> {
    let count = stage.count(1000, 300);
    let mut strangers = crowd(stage, count, stage.port, &big_hello().into());
    strangers.push(PIECE, true, stage.until.min(Instant::now() + Duration::from_secs(10)));
    stage.rest(Duration::from_secs(3));
    stage.note(format!("{} MB taken from {} strangers", strangers.sent() / 1_000_000, strangers.open()));
    Ok(())
}

fn hello_dribbled(stage: &mut Stage) -> Result<()> {
    let mut strangers = crowd(stage, 1000, stage.port, &big_hello().into());
    // One byte at first, so that every connection holds a packet whose length it has yet to learn.
    strangers.push(1, true, Instant::now() + Duration::from_secs(2));
    strangers.push(997, true, stage.until.min(Instant::now() + Duration::from_secs(20)));
    stage.note(format!("{} MB taken", strangers.sent() / 1_000_000));
    Ok(())
}

fn hello_partial(stage: &mut Stage) -> Result<()> {
    let count = 1000;
    let mut hello = vec![b'x'; 255 << 10];
    let whole = packet(0x10, &hello);
    hello = whole[..whole.len() - 1].to_vec();
    hello[4..16].copy_from_slice(b"\0\x04MQTT\x05\x02\0\0\0\0");
    let mut strangers = crowd(stage, count, stage.port, &hello.into());
    strangers.push(PIECE, false, stage.until.min(Instant::now() + Duration::from_secs(8)));
    stage.note(format!("{} MB taken", strangers.sent() / 1_000_000));
    Ok(())
}

fn hello_web(stage: &mut Stage) -> Result<()> {
    let bytes = [UPGRADE.as_bytes(), &frame(&big_hello())].concat();
    let mut strangers = crowd(stage, 1000, stage.web_port, &bytes.into());
    strangers.push(PIECE, true, stage.until.min(Instant::now() + Duration::from_secs(10)));
    stage.rest(Duration::from_secs(3));
    stage.note(format!("{} MB taken", strangers.sent() / 1_000_000));
    Ok(())
}

fn hello_tls(stage: &mut Stage) -> Result<()> {
    let config = tls::config(stage)?;
    let (port, until, bytes) = (stage.tls_port, stage.until, big_hello());
    let gone = || Instant::now() > until;
    let taken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|part| {
                let (config, bytes) = (&config, &bytes);
                scope.spawn(move || {
                    let mut open = Vec::new();
                    for n in 0..100 {
                        let stranger = tls::send(attacker(part * 100 + n), port, config, bytes);
                        open.extend(stranger.ok().filter(|_| !gone()));
                    }
                    thread::park_timeout(Duration::from_secs(3));
                    open.len()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    stage.note(format!("{taken} strangers sent all they had"));
    Ok(())
}

/// Publishes retained messages one after the other; how many were acknowledged.
fn publish_retained(stage: &mut Stage, count: usize, properties: &[u8], payload: &[u8]) -> Result<usize> {
    let mut acknowledged = 0;
    let mut client = stage.client_as(attacker(0), Hello::v5("retainer"))?;
    for n in 0..count {
        if stage.over() {
            break;
        }
        let topic = format!("kept/{n}");
        let said = Publish { v5: true, retain: true, properties, ..Publish::new(&topic, payload, 1) };
        let answered = client.send(&said.bytes()).and_then(|()| client.wait_for(4, ANSWER_MAX));
        match answered {
            Ok(Heard::Packet(..)) => acknowledged += 1,
            // Refused as too much, or the connection was ended for it: both are answers.
            _ => match stage.client_as(attacker(0), Hello::v5("retainer")) {
                Ok(next) => client = next,
                Err(error) => return Err(error).context("an attacker that was cut may come again"),
            },
        }
    }
    Ok(acknowledged)
}

fn retained(stage: &mut Stage) -> Result<()> {
    let count = stage.count(385, 90);
    let taken = publish_retained(stage, count, &empty_properties(PACKET_PROPERTIES), b"x")?;
    stage.note(format!("{taken} of {count} acknowledged"));
    Ok(())
}

fn retained_long(stage: &mut Stage) -> Result<()> {
    let taken = publish_retained(stage, 1500, &long_properties(65_000), b"x")?;
    stage.note(format!("{taken} of 1500 acknowledged"));
    Ok(())
}

fn wills(stage: &mut Stage) -> Result<()> {
    let count = 400;
    let mut taken = 0;
    for n in 0..count {
        if stage.over() {
            break;
        }
        let properties = [will_delay(3600), empty_properties(WILL_PROPERTIES)].concat();
        let id = format!("testator-{n}");
        let will = Will { topic: "late/will", payload: b"", flags: 0, properties };
        let hello = Hello { will: Some(will), properties: session_expiry(7200), ..Hello::v5(&id) };
        let heard = Client::hello(attacker(n), stage.port, &hello, ANSWER_MAX);
        if n == 0 {
            stage.note(format!("the first: {:?}", heard.as_ref().map(|(_, heard)| heard)));
        }
        taken += usize::from(matches!(heard, Ok((_, Heard::Packet(0x20, body))) if body.get(1) == Some(&0)));
    }
    stage.note(format!("{taken} of {count} let in"));
    Ok(())
}

fn queued(stage: &mut Stage) -> Result<()> {
    const LAZY: usize = 10;
    let mut lazy = Vec::new();
    for n in 0..LAZY {
        let mut client = stage.client_as(attacker(n), Hello::v5(&format!("lazy-{n}")))?;
        client.subscribe(true, &[format!("bulk/{n}")], 1)?;
        lazy.push(client);
    }
    let properties = empty_properties(6000);
    let mut publisher = stage.client_as(attacker(50), Hello::v5("bulk"))?;
    let mut acknowledged = 0;
    for n in 0..140 * LAZY {
        let topic = format!("bulk/{}", n % LAZY);
        let said = Publish { v5: true, properties: &properties, ..Publish::new(&topic, b"x", 1) }.bytes();
        if stage.over() || publisher.send(&said).is_err() {
            break;
        }
        acknowledged += usize::from(matches!(publisher.wait_for(4, ANSWER_MAX), Ok(Heard::Packet(..))));
    }
    stage.note(format!("{acknowledged} of {} acknowledged", 140 * LAZY));
    Ok(())
}

fn logins(stage: &mut Stage) -> Result<()> {
    let before = stage.sampler.as_ref().map_or(0, super::super::watch::Sampler::last_mib);
    let mut right = 0;
    for n in 0..200 {
        if stage.over() {
            break;
        }
        let id = format!("worker-{n}");
        right +=
            usize::from(stage.client_as(attacker(n % 20), Hello::v3(&id).user("alice", PASSWORD)).is_ok());
    }
    stage.rest(Duration::from_secs(5));
    let after = stage.sampler.as_ref().map_or(0, super::super::watch::Sampler::last_mib);
    stage.note(format!("{right} of 200 let in; {before} MiB before, {after} MiB after"));
    stage.check("every right password comes in", right == 200);
    stage.check("memory goes back to what it was", after <= before + KEPT_MIB);
    Ok(())
}

fn subscriptions(stage: &mut Stage) -> Result<()> {
    let before = stage.sampler.as_ref().map_or(0, super::super::watch::Sampler::last_mib);
    let (mut clients, mut granted) = (Vec::new(), 0);
    for n in 0..10 {
        let Ok(mut client) = stage.client_as(attacker(n), Hello::v3(&format!("hoarder-{n}"))) else { break };
        for part in 0..20 {
            let filters: Vec<String> =
                (0..1000).map(|m| format!("plant/line{n}/machine{part}/value{m}/+")).collect();
            client.send(&subscribe(false, 1, &filters, 0))?;
            match client.wait_for(9, ANSWER_MAX)? {
                Heard::Packet(_, codes) => granted += codes.iter().skip(2).filter(|code| **code < 3).count(),
                _ => break,
            }
        }
        clients.push(client);
    }
    let held = stage.sampler.as_ref().map_or(0, super::super::watch::Sampler::last_mib);
    drop(clients);
    // Memory is given back every ten seconds at most.
    stage.rest(Duration::from_secs(14));
    let after = stage.sampler.as_ref().map_or(0, super::super::watch::Sampler::last_mib);
    stage.note(format!("{granted} granted; {before} MiB before, {held} MiB with them, {after} MiB after"));
    stage.check("the memory of subscriptions is given back", after <= before + KEPT_MIB);
    Ok(())
}

fn long_filters(stage: &mut Stage) -> Result<()> {
    let (mut clients, mut granted, mut asked) = (Vec::new(), 0, 0);
    for n in 0..10 {
        let Ok(mut client) = stage.client_as(attacker(n), Hello::v3(&format!("hoarder-{n}"))) else { break };
        for part in 0..stage.count(300, 60) {
            let long = |m| format!("{n}/{part}/{m}/{}", "x".repeat(65_000));
            let deep = |m| format!("{n}/{part}/{m}{}", "/a".repeat(198));
            let filters: Vec<String> = (0..3).map(long).chain((3..100).map(deep)).collect();
            asked += filters.len();
            if stage.over() || client.send(&subscribe(false, 1, &filters, 0)).is_err() {
                break;
            }
            match client.wait_for(9, ANSWER_MAX)? {
                Heard::Packet(_, codes) => granted += codes.iter().skip(2).filter(|code| **code < 3).count(),
                _ => break,
            }
        }
        clients.push(client);
    }
    stage.note(format!("{granted} of {asked} granted"));
    let another = stage.client("ordinary").and_then(|mut client| {
        client.send(&subscribe(false, 1, &["plant/line1/machine1/temp".into()], 0))?;
        client.wait_for(9, ANSWER_MAX)
    });
    let heard = matches!(another, Ok(Heard::Packet(..)));
    stage.check("somebody else is answered", heard);
    Ok(())
}
