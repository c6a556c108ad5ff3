//! 9, 15 and 20: the cloud, what reaches it, and what comes from it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::super::client::{Heard, publish_parts};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, Stage, attacker};
use super::{NEEDS, attack};
use tidegate_tests::packets::{Hello, PING, Publish};

/// Readings that must reach the cloud in each second beside an attack on it.
const READINGS_MIN: u64 = 25;

pub(super) fn list() -> Vec<Attack> {
    let fifo = Needs { uplink: "drain = \"fifo\"\n", ..NEEDS };
    // The pauses that the gateway makes unless its file says otherwise.
    let patient = Needs { uplink: "backoff_min = \"1s\"\nbackoff_max = \"2m\"\n", ..NEEDS };
    let both = Needs { uplink: "accept = [\"#\"]\n", ..NEEDS };
    let one = Needs { uplink: "forward = [\"gw/#\", \"x/#\"]\nack_timeout = \"10m\"\n", ..NEEDS };
    let long = |key, name, run| Attack { seconds: 90, ..attack(key, name, run) };
    vec![
        Attack { needs: fifo, ..long("9a", "a topic with U+0001 for a cloud that cuts", control_character) },
        Attack { needs: fifo, ..long("9b", "140 kB for a cloud that takes 128 KiB", too_large) },
        Attack { needs: patient, ..long("9c", "QoS 0 once a second, which the cloud cuts for", poison) },
        Attack {
            needs: both,
            ..long("15", "topics of the gateway itself, from a client and from the cloud", forged)
        },
        Attack {
            needs: one,
            restarts: 0,
            ..long("20", "order of QoS 2 messages to the cloud after kill -9", order)
        },
    ]
}

/// Watches the cloud for a while after a message that it does not take.
fn watch(stage: &mut Stage, seconds: u64) {
    // The first cuts belong to finding out which message it is.
    stage.rest(Duration::from_secs(15));
    let (readings, connections) = (stage.cloud.readings(), stage.cloud.connections());
    stage.rest(Duration::from_secs(seconds));
    let grown = stage.cloud.readings() - readings;
    let cuts = stage.cloud.connections() - connections;
    stage.note(format!("{grown} readings acknowledged and {cuts} connections in {seconds} s"));
    stage.check("readings reach the cloud again", grown >= READINGS_MIN * seconds);
}

fn control_character(stage: &mut Stage) -> Result<()> {
    stage.cloud.be_strict();
    let mut client = stage.client_as(attacker(0), Hello::v3("poison"))?;
    client.send(&Publish::new("x/\u{1}y", b"x", 1).bytes())?;
    watch(stage, 15);
    Ok(())
}

fn too_large(stage: &mut Stage) -> Result<()> {
    stage.cloud.take_at_most(128 << 10);
    let mut client = stage.client_as(attacker(0), Hello::v3("poison"))?;
    client.send(&Publish::new("x/large", &[b'x'; 140_000], 1).bytes())?;
    watch(stage, 15);
    stage.kill();
    stage.start()?;
    watch(stage, 10);
    Ok(())
}

fn poison(stage: &mut Stage) -> Result<()> {
    stage.cloud.take_at_most(128 << 10);
    let readings = stage.cloud.readings();
    let mut client = stage.client_as(attacker(0), Hello::v3("poison"))?;
    let said = Publish { qos: 0, ..Publish::new("x/large", &[b'x'; 140_000], 0) }.bytes();
    let (began, mut before) = (Instant::now(), readings);
    for second in 0..40 {
        if stage.over() || client.send(&said).is_err() {
            break;
        }
        stage.rest(Duration::from_secs(1));
        if second == 19 {
            before = stage.cloud.readings();
        }
    }
    let grown = stage.cloud.readings() - before;
    stage.note(format!(
        "{grown} readings acknowledged in the last 20 of {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    stage.check("readings reach the cloud beside it", grown >= READINGS_MIN * 20);
    Ok(())
}

fn forged(stage: &mut Stage) -> Result<()> {
    let mut listener = stage.client("listener")?;
    listener.subscribe(false, &["gw/#".to_owned()], 1)?;
    let until = Instant::now() + ANSWER_MAX;
    let reading = loop {
        match listener.next(until)? {
            Heard::Packet(first, body) if first >> 4 == 3 => {
                let topic = publish_parts(first, &body).map(|(topic, _)| topic);
                if let Some(topic) = topic.filter(|topic| topic.starts_with("gw/meter/")) {
                    break topic;
                }
            }
            Heard::Packet(..) => {}
            _ => bail!("no reading in time"),
        }
    };
    let mut liar = stage.client_as(attacker(0), Hello::v3("liar"))?;
    for topic in ["gw/status", "gw/ledger", "gw/update", reading.as_str()] {
        liar.send(&Publish { qos: 0, retain: true, ..Publish::new(topic, b"forged", 0) }.bytes())?;
    }
    liar.send(&PING)?;
    liar.wait_for(13, ANSWER_MAX)?;
    stage.cloud.publish(&reading, b"forged by the cloud");
    stage.cloud.publish("gw/status", b"forged by the cloud");
    let (until, mut lies) = (Instant::now() + Duration::from_secs(4), Vec::new());
    while let Heard::Packet(first, body) = listener.next(until)? {
        if first >> 4 == 3
            && let Some((topic, payload)) = publish_parts(first, &body)
            && payload.starts_with(b"forged")
        {
            lies.push(format!("{topic}: {}", String::from_utf8_lossy(&payload)));
        }
    }
    let above = stage.cloud.kept().iter().filter(|(_, payload)| payload.starts_with(b"forged")).count();
    stage.note(format!("{above} forged messages reached the cloud, {} a local client: {lies:?}", lies.len()));
    stage.check("nothing forged reaches the cloud", above == 0);
    stage.check("nothing forged reaches a local client", lies.is_empty());
    Ok(())
}

fn order(stage: &mut Stage) -> Result<()> {
    stage.cloud.be_silent(true);
    let mut publisher = stage.client_as(attacker(0), Hello::v3("orderly").durable())?;
    // Low byte and high byte of the identifier change places in this range.
    for id in 251..=270_u16 {
        publisher
            .send(&Publish { qos: 2, ..Publish::new("x/order", id.to_string().as_bytes(), id) }.bytes())?;
    }
    for _ in 251..=270 {
        let heard = publisher.wait_for(5, ANSWER_MAX)?;
        ensure!(matches!(heard, Heard::Packet(..)), "no PUBREC: {heard:?}");
    }
    stage.kill();
    stage.cloud.be_silent(false);
    stage.start()?;
    stage.rest(Duration::from_secs(5));
    let mut numbers: Vec<u32> = Vec::new();
    for (topic, payload) in stage.cloud.kept() {
        let number = String::from_utf8_lossy(&payload).parse().unwrap_or(0);
        if topic == "x/order" && !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    stage.note(format!("the cloud has {numbers:?}"));
    stage.check(
        "every acknowledged message reaches the cloud, in order",
        numbers == (251..=270).collect::<Vec<u32>>(),
    );
    Ok(())
}
