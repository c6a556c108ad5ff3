//! Messages of the cloud: subscriptions, and acknowledgements that leave only when somebody says that the message is safe.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gateway_core::settings::LinkSettings;
use gateway_core::uplink::link::{Delivery, LinkCommand, LinkEvent};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;
use gateway_daemon::link::Link;
use tidegate_tests::fake_broker::{FakeBroker, Packet};
use tidegate_tests::links::{acked, loss, message, next, open, opened, order, plain, up};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::wait::within;
use tidegate_tests::watcher::Watcher;
use tokio::sync::mpsc;

const PUBACK: u8 = 4;

fn subscribe(filters: &[(&str, Qos)]) -> LinkCommand {
    LinkCommand::Subscribe {
        filters: filters.iter().map(|(filter, qos)| (Arc::from(*filter), *qos)).collect(),
    }
}

fn acknowledge(through: u64) -> LinkCommand {
    LinkCommand::Acknowledge { through: Delivery(through) }
}

async fn subscribed(link: &mut Link) -> Result<Vec<String>> {
    match next(link).await? {
        LinkEvent::Subscribed { refused } => Ok(refused.iter().map(ToString::to_string).collect()),
        other => anyhow::bail!("{other:?} instead of the answer to SUBSCRIBE"),
    }
}

/// The next message: its delivery, topic, payload, QoS and retain flag.
async fn heard(link: &mut Link) -> Result<(u64, String, String, Qos, bool)> {
    match next(link).await? {
        LinkEvent::Message { delivery, topic, payload, qos, retain } => {
            let delivery = delivery.map_or(0, |delivery| delivery.0);
            Ok((delivery, topic.to_string(), String::from_utf8(payload)?, qos, retain))
        }
        other => anyhow::bail!("{other:?} instead of a message"),
    }
}

async fn leave(mut link: Link) -> Result<()> {
    order(&link, LinkCommand::Disconnect)?;
    let loss = loss(&mut link).await?;
    ensure!(loss == Loss::Stopped, "{loss}");
    Ok(())
}

#[tokio::test]
async fn a_message_that_was_not_acknowledged_comes_again_on_the_next_connection_and_one_that_was_does_not()
-> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut cloud = Watcher::start(broker.port(), "cloud", true, "none").await?;
    let mut link = opened(plain(broker.port())).await?;
    order(&link, subscribe(&[("cmd/#", Qos::AtLeastOnce)]))?;
    assert_eq!(subscribed(&mut link).await?, [""; 0]);
    for payload in [b"one", b"two"] {
        cloud.publish("cmd/valve", payload).await?;
    }
    let topic = || "cmd/valve".to_owned();
    assert_eq!(heard(&mut link).await?, (1, topic(), "one".into(), Qos::AtLeastOnce, false));
    assert_eq!(heard(&mut link).await?, (2, topic(), "two".into(), Qos::AtLeastOnce, false));
    order(&link, acknowledge(1))?;
    leave(link).await?;
    // Published while nobody is there.
    cloud.publish("cmd/valve", b"six").await?;
    let mut link = open(plain(broker.port()));
    ensure!(up(&mut link).await?, "the session was forgotten");
    assert_eq!(heard(&mut link).await?, (1, topic(), "two".into(), Qos::AtLeastOnce, false));
    assert_eq!(heard(&mut link).await?, (2, topic(), "six".into(), Qos::AtLeastOnce, false));
    order(&link, acknowledge(2))?;
    leave(link).await?;
    let mut link = open(plain(broker.port()));
    ensure!(up(&mut link).await?);
    order(&link, message(1, "t", b"x"))?;
    // A message that was not acknowledged would be repeated before this PUBACK.
    acked(&mut link, 1).await
}

#[tokio::test]
async fn acknowledgements_leave_in_order_when_they_are_due_and_the_link_pings_meanwhile() -> Result<()> {
    let (seen_in, mut seen) = mpsc::channel(1000);
    let fake = FakeBroker::start(move |mut peer| {
        let seen = seen_in.clone();
        async move {
            peer.accept(true).await?;
            for id in [9, 3, 7] {
                peer.publish("cmd/x", b"on", 1, id).await?;
            }
            while let Some(packet) = peer.read().await? {
                if packet == Packet::Ping {
                    peer.raw(&[0xd0, 0]).await?;
                }
                seen.send(packet).await?;
            }
            Ok(())
        }
    })
    .await?;
    let settings = LinkSettings { keep_alive: Duration::from_secs(1), ..plain(fake.port()) };
    let mut link = opened(settings).await?;
    for number in 1..=3 {
        assert_eq!(heard(&mut link).await?.0, number);
    }
    let mut packets = Vec::new();
    while packets.len() < 2 {
        packets.push(seen.recv().await.context("the link is gone")?);
    }
    assert_eq!(packets, [Packet::Ping, Packet::Ping]);
    for (through, ids) in [(2, &[9, 3][..]), (3, &[7])] {
        order(&link, acknowledge(through))?;
        for id in ids {
            let answer = loop {
                match seen.recv().await.context("the link is gone")? {
                    Packet::Ping => {}
                    other => break other,
                }
            };
            assert_eq!(answer, Packet::Ack(PUBACK, *id));
        }
    }
    Ok(())
}

#[tokio::test]
async fn thousands_of_messages_are_acknowledged_once_each_while_publishing_goes_on() -> Result<()> {
    const COUNT: u16 = 5000;
    let (done_in, mut done) = mpsc::channel(1);
    let fake = FakeBroker::start(move |mut peer| {
        let done = done_in.clone();
        async move {
            peer.accept(true).await?;
            for id in 1..=COUNT {
                peer.publish("cmd/x", &[0; 20], 1, id).await?;
            }
            let mut due = 1;
            while let Some(packet) = peer.read().await? {
                match packet {
                    Packet::Ack(PUBACK, id) => {
                        ensure!(id == due, "{id} instead of {due}");
                        due += 1;
                    }
                    Packet::Publish { id, .. } => peer.puback(id).await?,
                    _ => {}
                }
                if due > COUNT {
                    done.send(()).await?;
                    return Ok(());
                }
            }
            Ok(())
        }
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    let (mut through, mut published, mut acked) = (0, 0_u64, 0_u64);
    while through < u64::from(COUNT) {
        match next(&mut link).await? {
            LinkEvent::Message { delivery: Some(delivery), .. } => {
                through = delivery.0;
                if through.is_multiple_of(100) {
                    order(&link, acknowledge(through))?;
                }
                if through.is_multiple_of(10) {
                    order(&link, message(published, "t", b"x"))?;
                    published += 1;
                }
            }
            LinkEvent::Acked { .. } => acked += 1,
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(acked <= published);
    within("the last acknowledgement", done.recv()).await.context("not everything was acknowledged")
}

#[tokio::test]
async fn filters_that_the_cloud_refuses_are_named_and_the_others_hold() -> Result<()> {
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        while let Some(packet) = peer.read().await? {
            let Packet::Other(0x82, body) = packet else { continue };
            // Ten filters in two packets: every second one is refused.
            let count = body.windows(4).filter(|window| window.starts_with(b"cmd/")).count();
            let codes = (0..count).map(|index| if index % 2 == 1 { 0x80 } else { 1 });
            let mut ack = vec![0x90, u8::try_from(count + 2)?, body[0], body[1]];
            ack.extend(codes);
            peer.raw(&ack).await?;
        }
        Ok(())
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    let names: Vec<String> = (0..10).map(|number| format!("cmd/{number}")).collect();
    let filters: Vec<(&str, Qos)> = names.iter().map(|name| (name.as_str(), Qos::AtLeastOnce)).collect();
    order(&link, subscribe(&filters))?;
    assert_eq!(subscribed(&mut link).await?, ["cmd/1", "cmd/3", "cmd/5", "cmd/7", "cmd/9"]);
    Ok(())
}

#[tokio::test]
async fn the_cloud_caps_the_qos_at_what_was_asked_for_and_marks_what_it_had_retained() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut cloud = Watcher::start(broker.port(), "cloud", true, "none").await?;
    cloud.retain("cmd/kept", b"old").await?;
    let mut link = opened(plain(broker.port())).await?;
    order(&link, subscribe(&[("low/#", Qos::AtMostOnce), ("cmd/#", Qos::ExactlyOnce)]))?;
    assert_eq!(subscribed(&mut link).await?, [""; 0]);
    assert_eq!(heard(&mut link).await?, (1, "cmd/kept".into(), "old".into(), Qos::AtLeastOnce, true));
    cloud.publish("low/x", b"0").await?;
    assert_eq!(heard(&mut link).await?, (0, "low/x".into(), "0".into(), Qos::AtMostOnce, false));
    Ok(())
}

#[tokio::test]
async fn a_bridge_says_so_and_mosquitto_keeps_its_own_messages_from_it_and_retain_flags_as_they_were()
-> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut cloud = Watcher::start(broker.port(), "cloud", true, "none").await?;
    let mut link = opened(LinkSettings { bridge_bit: true, ..plain(broker.port()) }).await?;
    order(&link, subscribe(&[("both/#", Qos::AtLeastOnce)]))?;
    assert_eq!(subscribed(&mut link).await?, [""; 0]);
    order(&link, message(1, "both/mine", b"x"))?;
    acked(&mut link, 1).await?;
    cloud.retain("both/theirs", b"y").await?;
    // Without the bit the first would be the echo, and the flag of a live message would be gone.
    assert_eq!(heard(&mut link).await?, (1, "both/theirs".into(), "y".into(), Qos::AtLeastOnce, true));
    Ok(())
}
