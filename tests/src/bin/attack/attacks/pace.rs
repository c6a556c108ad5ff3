//! 18 and 19: who waits for an acknowledgement, and for how long.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::client::Heard;
use super::super::judge::Attack;
use super::super::stage::{Needs, Stage, attacker};
use super::{NEEDS, attack};
use tidegate_tests::packets::{Hello, Publish};

/// Longest wait for a PUBACK that is no stall: a commit interval and a slow card, many times over.
const PUBACK_MAX: Duration = Duration::from_secs(5);

pub(super) fn list() -> Vec<Attack> {
    let everything = Needs { uplink: "forward = [\"gw/#\", \"x/#\"]\nack_timeout = \"10m\"\n", ..NEEDS };
    let long = |key, name, run| Attack { seconds: 60, ..attack(key, name, run) };
    vec![
        Attack {
            short: true,
            ..long("18", "9,900 retained messages of QoS 0, then one of QoS 1", full_journal)
        },
        long("19a", "a subscriber that never acknowledges", unacknowledged),
        Attack {
            needs: everything,
            ..long("19b", "a connected cloud that does not acknowledge", silent_cloud)
        },
    ]
}

fn full_journal(stage: &mut Stage) -> Result<()> {
    // Away, durable, and wants what the publisher says last.
    let mut away = stage.client_as(attacker(1), Hello::v3("away").durable())?;
    away.subscribe(false, &["wanted/#".to_owned()], 1)?;
    drop(away);
    let mut flood = stage.client_as(attacker(0), Hello::v3("retainer"))?;
    for n in 0..9900 {
        let topic = format!("flood/{n}");
        let said = Publish { qos: 0, retain: true, ..Publish::new(&topic, &[b'x'; 600], 0) };
        flood.send(&said.bytes())?;
    }
    let sent = Instant::now();
    flood.send(&Publish::new("wanted/x", b"x", 1).bytes())?;
    // Somebody else meanwhile.
    stage.rest(Duration::from_secs(1));
    let began = Instant::now();
    let mut publisher = stage.client_as(attacker(2), Hello::v3("publisher"))?;
    publisher.send(&Publish::new("wanted/x", b"x", 1).bytes())?;
    let other = publisher.wait_for(4, Duration::from_secs(40))?;
    let other_waited = began.elapsed();
    let heard = flood.wait_for(4, Duration::from_secs(40))?;
    let waited = sent.elapsed();
    stage.note(format!(
        "PUBACK after {:.2} s behind them, after {:.2} s for somebody else",
        waited.as_secs_f64(),
        other_waited.as_secs_f64()
    ));
    let good = |heard: &Heard, waited| matches!(heard, Heard::Packet(..)) && waited < PUBACK_MAX;
    stage.check("a publisher of QoS 1 is acknowledged within seconds", good(&heard, waited));
    stage.check("so is somebody else", good(&other, other_waited));
    Ok(())
}

/// PUBACKs of one publisher that waits for each, in ten seconds.
fn pace(stage: &mut Stage, topic: &str) -> Result<usize> {
    let mut publisher = stage.client_as(attacker(2), Hello::v3("publisher"))?;
    let (until, mut acknowledged) = (Instant::now() + Duration::from_secs(10), 0);
    while Instant::now() < until && !stage.over() {
        publisher.send(&Publish::new(topic, b"x", 1).bytes())?;
        match publisher.wait_for(4, Duration::from_secs(15))? {
            Heard::Packet(..) => acknowledged += 1,
            _ => break,
        }
    }
    stage.note(format!("{acknowledged} PUBACKs in 10 s"));
    Ok(acknowledged)
}

fn unacknowledged(stage: &mut Stage) -> Result<()> {
    let mut lazy = stage.client_as(attacker(1), Hello::v3("lazy").durable())?;
    lazy.subscribe(false, &["wanted/#".to_owned()], 1)?;
    let acknowledged = pace(stage, "wanted/x")?;
    stage.check("a publisher is not held for a commit interval at each message", acknowledged >= 50);
    Ok(())
}

fn silent_cloud(stage: &mut Stage) -> Result<()> {
    stage.cloud.be_silent(true);
    let acknowledged = pace(stage, "x/y")?;
    stage.cloud.be_silent(false);
    stage.check("a publisher is not held for a commit interval at each message", acknowledged >= 50);
    Ok(())
}
