//! Publishing through a link: whose acknowledgement is whose, what is refused, what a stop and a crash leave behind. The traps of rumqttc that
//! docs/decisions names are tests here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use gateway_core::settings::LinkSettings;
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, PublishFault, Token, Will};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;
use gateway_daemon::link::{self, COMMANDS_MAX, IN_FLIGHT_MAX};
use tidegate_tests::fake_broker::{FakeBroker, Packet};
use tidegate_tests::links::{acked, loss, message, next, open, opened, order, plain, up};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::proxy::{Fault, FaultProxy};
use tidegate_tests::wait::within;
use tidegate_tests::watcher::Watcher;

fn qos0(token: u64, payload: &[u8]) -> LinkCommand {
    let LinkCommand::Publish { token, topic, retain, payload, .. } = message(token, "plant/line", payload)
    else {
        return LinkCommand::Disconnect;
    };
    LinkCommand::Publish { token, topic, qos: Qos::AtMostOnce, retain, payload }
}

fn will() -> Will {
    Will { topic: "plant7/status".into(), payload: b"offline".to_vec(), qos: Qos::AtLeastOnce, retain: true }
}

#[tokio::test]
async fn connect_carries_what_the_settings_say() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.behave().await
    })
    .await?;
    let settings = LinkSettings {
        login: Some(("user".into(), None)),
        keep_alive: Duration::from_secs(45),
        ..plain(fake.port())
    };
    let mut link = link::spawn(Arc::new(settings), Epoch(3), Some(will()));
    up(&mut link).await?;
    assert_eq!(link.epoch, Epoch(3));
    let expected = Packet::Connect {
        client_id: "gateway-1".into(),
        clean_session: false,
        keep_alive_s: 45,
        will: Some(("plant7/status".into(), b"offline".to_vec(), 1, true)),
        user: Some("user".into()),
        password: None,
    };
    assert_eq!(within("CONNECT", fake.seen()).await, Some((1, expected)));
    Ok(())
}

#[tokio::test]
async fn session_present_is_reported_as_the_broker_says() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    for expected in [false, true] {
        let mut link = open(plain(broker.port()));
        assert_eq!(up(&mut link).await?, expected);
        order(&link, LinkCommand::Disconnect)?;
        loss(&mut link).await?;
    }
    let clean = LinkSettings { clean_session: true, ..plain(broker.port()) };
    ensure!(!up(&mut open(clean)).await?);
    Ok(())
}

#[tokio::test]
async fn trap_out_of_order_acks_do_not_stall_the_window_and_keep_their_tokens() -> Result<()> {
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        for _ in 0..20 {
            let mut ids = Vec::new();
            for _ in 0..50 {
                ids.push(peer.read_publish().await?);
            }
            for id in ids.into_iter().rev() {
                peer.puback(id).await?;
            }
        }
        peer.behave().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    for round in 0..20_u64 {
        let tokens: Vec<u64> = (0..50).map(|n| round * 50 + n).collect();
        for token in &tokens {
            order(&link, message(*token, "t", b"x"))?;
        }
        for token in tokens.iter().rev() {
            acked(&mut link, *token).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn trap_packet_id_reuse_never_pairs_the_wrong_ack() -> Result<()> {
    // The first publish is acknowledged last; packet ids wrap around several times in between.
    const COUNT: u64 = 5000;
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        let first = peer.read_publish().await?;
        for _ in 1..COUNT {
            let id = peer.read_publish().await?;
            ensure!(id != first, "packet id {id} used twice at once");
            peer.puback(id).await?;
        }
        peer.puback(first).await?;
        peer.behave().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    order(&link, message(0, "t", b"first"))?;
    let mut waiting = VecDeque::new();
    for token in 1..COUNT {
        order(&link, message(token, "t", &token.to_be_bytes()))?;
        waiting.push_back(token);
        if waiting.len() == 100 {
            acked(&mut link, waiting.pop_front().unwrap_or(0)).await?;
        }
    }
    for token in waiting {
        acked(&mut link, token).await?;
    }
    acked(&mut link, 0).await
}

#[tokio::test]
async fn trap_an_oversize_publish_is_refused_once_and_the_link_lives_on() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.behave().await
    })
    .await?;
    let mut link = opened(LinkSettings { packet_bytes_max: 1000, ..plain(fake.port()) }).await?;
    order(&link, message(1, "t", &[0; 1000]))?;
    order(&link, message(2, "t/+", b"x"))?;
    order(&link, message(3, "t", b"x"))?;
    let refused = next(&mut link).await?;
    let why = PublishFault::Oversize { size: 1008, limit: 1000 };
    assert_eq!(refused, LinkEvent::Refused { token: Token(1), why });
    assert_eq!(next(&mut link).await?, LinkEvent::Refused { token: Token(2), why: PublishFault::Topic });
    acked(&mut link, 3).await?;
    let publishes =
        fake.seen_so_far().iter().filter(|(_, packet)| matches!(packet, Packet::Publish { .. })).count();
    assert_eq!(publishes, 1);
    Ok(())
}

#[tokio::test]
async fn trap_packets_above_10_kb_pass_both_ways() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut watcher = Watcher::start(broker.port(), "watcher", true, "big/#").await?;
    let mut link = opened(LinkSettings { packet_bytes_max: 1 << 20, ..plain(broker.port()) }).await?;
    let payload: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    order(&link, message(1, "big/up", &payload))?;
    acked(&mut link, 1).await?;
    assert_eq!(watcher.next().await?.payload, payload);
    Ok(())
}

#[tokio::test]
async fn trap_a_connack_that_takes_longer_than_five_seconds_is_waited_for() -> Result<()> {
    let fake = FakeBroker::start(|mut peer| async move {
        // As a server behind a hardware key: the default of rumqttc would give up after 5 s.
        tokio::time::sleep(Duration::from_millis(5500)).await;
        peer.accept(false).await?;
        peer.behave().await
    })
    .await?;
    opened(plain(fake.port())).await?;
    Ok(())
}

#[tokio::test]
async fn trap_a_lost_link_does_not_reconnect_or_re_send_by_itself() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        if peer.number == 1 {
            peer.read_publish().await?;
            return Ok(());
        }
        peer.behave().await
    })
    .await?;
    let mut first = opened(plain(fake.port())).await?;
    order(&first, message(1, "t", b"lost"))?;
    assert_eq!(loss(&mut first).await?, Loss::Closed { stage: None });
    assert_eq!(fake.connections(), 1);
    // The session is gone (session present = 0): the next epoch sends exactly what it is given, nothing more, nothing less.
    let mut second = opened(plain(fake.port())).await?;
    for token in 10..50 {
        order(&second, message(token, "t", b"again"))?;
    }
    for token in 10..50 {
        acked(&mut second, token).await?;
    }
    let sent: Vec<_> = fake
        .seen_so_far()
        .into_iter()
        .filter_map(|(number, packet)| match packet {
            Packet::Publish { payload, dup, .. } if number == 2 => Some((payload, dup)),
            _ => None,
        })
        .collect();
    assert_eq!(sent, vec![(b"again".to_vec(), false); 40]);
    Ok(())
}

#[tokio::test]
async fn trap_a_late_ack_of_an_older_epoch_is_never_seen_by_a_newer_one() -> Result<()> {
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(true).await?;
        let id = peer.read_publish().await?;
        if peer.number == 1 {
            // Too late: the client is gone when this is sent, or does not listen any more.
            peer.swallow().await?;
            let _ = peer.puback(id).await;
            return Ok(());
        }
        let second = peer.read_publish().await?;
        peer.puback(second).await?;
        peer.swallow().await
    })
    .await?;
    let old = opened(plain(fake.port())).await?;
    order(&old, message(1, "t", b"old"))?;
    drop(old);
    let mut new = open(plain(fake.port()));
    ensure!(up(&mut new).await?);
    order(&new, message(2, "t", b"never acknowledged"))?;
    order(&new, message(3, "t", b"acknowledged"))?;
    acked(&mut new, 3).await?;
    ensure!(new.events.try_recv().is_err());
    Ok(())
}

#[tokio::test]
async fn trap_buffers_are_bounded_while_the_broker_is_away() -> Result<()> {
    let fake = FakeBroker::start(|peer| async move {
        let _open = peer;
        std::future::pending().await
    })
    .await?;
    let link = open(plain(fake.port()));
    for token in 0..COMMANDS_MAX as u64 {
        order(&link, message(token, "t", b"x"))?;
    }
    ensure!(order(&link, message(0, "t", b"x")).is_err());
    Ok(())
}

#[tokio::test]
async fn trap_a_broker_that_never_acknowledges_gets_no_more_than_the_window() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.swallow().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    for token in 0..u64::from(IN_FLIGHT_MAX) {
        order(&link, message(token, "t", b"x"))?;
    }
    // The link takes them all; what comes after waits in the channel.
    let mut arrived = 0;
    while arrived < IN_FLIGHT_MAX {
        match within("a publish", fake.seen()).await {
            Some((_, Packet::Publish { .. })) => arrived += 1,
            Some(_) => {}
            None => bail!("the fake is gone"),
        }
    }
    order(&link, message(9999, "t", b"one more"))?;
    order(&link, qos0(10_000, b"one more"))?;
    ensure!(
        within("nothing", async {
            tokio::time::timeout(Duration::from_millis(200), link.events.recv()).await
        })
        .await
        .is_err()
    );
    ensure!(fake.seen_so_far().is_empty());
    Ok(())
}

#[tokio::test]
async fn trap_a_half_open_link_is_noticed_by_ping_when_nothing_is_published() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let proxy = FaultProxy::to_port(broker.port()).await?;
    let after = Duration::from_secs(1);
    let mut link = opened(LinkSettings { keep_alive: after, ..plain(proxy.port()) }).await?;
    proxy.set(Fault::BlackHole);
    order(&link, message(1, "t", b"into the hole"))?;
    assert_eq!(loss(&mut link).await?, Loss::KeepAlive { after });
    Ok(())
}

#[tokio::test]
async fn trap_a_half_open_link_with_steady_qos_0_traffic_is_noticed_as_well() -> Result<()> {
    // The fake acknowledges TCP and says nothing: only a ping in the middle of the traffic can tell.
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.swallow().await
    })
    .await?;
    let after = Duration::from_secs(1);
    let mut link = opened(LinkSettings { keep_alive: after, ..plain(fake.port()) }).await?;
    let commands = link.commands.clone();
    let traffic = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        while commands.send(qos0(1, b"x")).await.is_ok() {
            every.tick().await;
        }
    });
    assert_eq!(loss(&mut link).await?, Loss::KeepAlive { after });
    Ok(within("the end of the traffic", traffic).await?)
}

#[tokio::test]
async fn a_line_that_loses_only_acknowledgements_delivers_without_saying_so() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut watcher = Watcher::start(broker.port(), "watcher", true, "plant/#").await?;
    let proxy = FaultProxy::to_port(broker.port()).await?;
    let mut link = opened(plain(proxy.port())).await?;
    proxy.set(Fault::HalfOpenDown);
    order(&link, message(1, "plant/x", b"arrives"))?;
    assert_eq!(watcher.next().await?.payload, b"arrives");
    ensure!(link.events.try_recv().is_err());
    // The other way round nothing arrives and the old acknowledgement is lost for good.
    proxy.set(Fault::HalfOpenUp);
    order(&link, message(2, "plant/x", b"vanishes"))?;
    watcher.publish("plant/end", b"").await?;
    assert_eq!(watcher.next().await?.topic, "plant/end");
    ensure!(link.events.try_recv().is_err());
    Ok(())
}

#[tokio::test]
async fn a_slow_network_delays_acknowledgements_and_loses_none() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let proxy = FaultProxy::to_port(broker.port()).await?;
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let mut link = opened(plain(proxy.port())).await?;
    for token in 0..500 {
        order(&link, message(token, "t", b"x"))?;
    }
    for token in 0..500 {
        acked(&mut link, token).await?;
    }
    Ok(())
}

#[tokio::test]
async fn dropping_a_link_cuts_at_once_even_in_a_black_hole_and_the_broker_publishes_the_will() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut watcher = Watcher::start(broker.port(), "watcher", true, "plant7/#").await?;
    let mut link = link::spawn(Arc::new(plain(broker.port())), Epoch(1), Some(will()));
    up(&mut link).await?;
    drop(link);
    let arrived = watcher.next().await?;
    assert_eq!((arrived.topic.as_str(), arrived.payload.as_slice()), ("plant7/status", &b"offline"[..]));
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_waits_for_what_is_in_flight_and_leaves_no_will() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut watcher = Watcher::start(broker.port(), "watcher", true, "plant7/#").await?;
    let mut link = link::spawn(Arc::new(plain(broker.port())), Epoch(1), Some(will()));
    up(&mut link).await?;
    for token in 0..100 {
        order(&link, message(token, "plant7/x", &token.to_be_bytes()))?;
    }
    order(&link, LinkCommand::Disconnect)?;
    for token in 0..100 {
        acked(&mut link, token).await?;
    }
    let event = next(&mut link).await?;
    ensure!(matches!(event, LinkEvent::Down { loss: Loss::Stopped, up_for: Some(_) }), "{event:?}");
    for token in 0..100_u64 {
        assert_eq!(watcher.next().await?.payload, token.to_be_bytes());
    }
    // The will would come before this.
    watcher.publish("plant7/end", b"").await?;
    assert_eq!(watcher.next().await?.topic, "plant7/end");
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_does_not_wait_for_ever_for_acknowledgements() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.swallow().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    order(&link, message(1, "t", b"x"))?;
    order(&link, LinkCommand::Disconnect)?;
    assert_eq!(loss(&mut link).await?, Loss::Stopped);
    let last = fake.seen_so_far().pop();
    assert_eq!(last, Some((1, Packet::Disconnect)));
    Ok(())
}

#[tokio::test]
async fn qos_0_is_acknowledged_when_it_is_written_and_arrives() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut watcher = Watcher::start(broker.port(), "watcher", true, "plant/#").await?;
    let mut link = opened(plain(broker.port())).await?;
    for token in 0..300 {
        order(&link, qos0(token, &token.to_be_bytes()))?;
    }
    for token in 0..300 {
        acked(&mut link, token).await?;
    }
    for token in 0..300_u64 {
        assert_eq!(watcher.next().await?.payload, token.to_be_bytes());
    }
    Ok(())
}

#[tokio::test]
async fn qos_0_and_1_keep_their_own_tokens_when_mixed() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let mut link = opened(plain(broker.port())).await?;
    for token in 0..400_u64 {
        order(&link, if token % 3 == 0 { qos0(token, b"x") } else { message(token, "t", b"x") })?;
    }
    let mut seen = Vec::new();
    for _ in 0..400 {
        match next(&mut link).await? {
            LinkEvent::Acked { token } => seen.push(token.0),
            other => bail!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn publishing_goes_on_through_a_flood_of_messages_from_the_broker() -> Result<()> {
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        loop {
            for _ in 0..200 {
                peer.publish("cmd/flood", &[0; 50], 0, 0).await?;
            }
            if let Ok(read) = tokio::time::timeout(Duration::ZERO, peer.read_publish()).await {
                peer.puback(read?).await?;
            }
        }
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    for token in 0..20 {
        order(&link, message(token, "t", b"x"))?;
    }
    let mut next_token = 0;
    while next_token < 20 {
        match next(&mut link).await? {
            LinkEvent::Acked { token } => {
                assert_eq!(token, Token(next_token));
                next_token += 1;
            }
            LinkEvent::Message { .. } => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_taking_events_slows_the_broker_and_loses_nothing() -> Result<()> {
    const COUNT: u32 = 5000;
    let fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        for number in 0..COUNT {
            peer.publish("cmd/x", &number.to_be_bytes(), 0, 0).await?;
        }
        peer.behave().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    for number in 0..COUNT {
        match next(&mut link).await? {
            LinkEvent::Message { payload, .. } => assert_eq!(payload, number.to_be_bytes()),
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_line_with_progress_is_not_given_up() -> Result<()> {
    let broker = Mosquitto::start(&Options::default()).await?;
    let proxy = FaultProxy::to_port(broker.port()).await?;
    let mut link = opened(plain(proxy.port())).await?;
    proxy.set(Fault::Throttle(200_000));
    for token in 0..4 {
        order(&link, message(token, "t", &[0; 100_000]))?;
    }
    for token in 0..4 {
        acked(&mut link, token).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_link_never_subscribes() -> Result<()> {
    let mut fake = FakeBroker::start(|mut peer| async move {
        peer.accept(false).await?;
        peer.behave().await
    })
    .await?;
    let mut link = opened(plain(fake.port())).await?;
    order(&link, message(1, "t", b"x"))?;
    acked(&mut link, 1).await?;
    order(&link, LinkCommand::Disconnect)?;
    loss(&mut link).await?;
    ensure!(!fake.seen_so_far().iter().any(|(_, packet)| matches!(packet, Packet::Other(..))));
    Ok(())
}
