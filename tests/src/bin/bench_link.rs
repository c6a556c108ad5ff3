//! Drain rate of the link beside rumqttc alone, with the same window, against the same peer, in turns.
//!
//! `cargo run --release -p tidegate-tests --bin bench_link -- [messages] [payload bytes] [window] [mosquitto|sink]`
//!
//! `sink` is a broker that only acknowledges; it shows the client's own limit. The goal is at least 0.8 of rumqttc alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, Token};
use gateway_core::uplink::row::Qos;
use gateway_daemon::link;
use tidegate_tests::bare::{self, Load};
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::links::plain;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Turns of each contestant; the median counts.
const TURNS: usize = 5;

/// Share of rumqttc's own rate that the link must reach.
const GOAL: f64 = 0.8;

const TOPIC: &str = "plant7-line2/meter1/fast";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let load = Load {
        messages: number(100_000)?,
        payload: usize::try_from(number(250)?)?,
        window: u16::try_from(number(100)?)?,
    };
    let peer = arguments.next().unwrap_or_else(|| "mosquitto".to_owned());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(load, &peer))
}

async fn run(load: Load, peer: &str) -> Result<()> {
    let (mut broker, mut sink_port) = (None, 0);
    match peer {
        "mosquitto" => broker = Some(Mosquitto::start(&Options { quiet: true, ..Options::default() }).await?),
        "sink" => sink_port = sink().await?,
        other => bail!("{other:?} is neither mosquitto nor sink"),
    }
    let port = broker.as_ref().map_or(sink_port, Mosquitto::port);
    println!("{} messages of {} bytes, window {}, against {peer}", load.messages, load.payload, load.window);
    let (mut bare, mut batched, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.push(bare::rumqttc(port, TOPIC, load, 0).await?);
        batched.push(bare::rumqttc(port, TOPIC, load, 64).await?);
        ours.push(through_link(port, load).await?);
    }
    let rate = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        #[allow(clippy::cast_precision_loss)]
        let rate = load.messages as f64 / times[times.len() / 2].as_secs_f64();
        rate
    };
    let (bare, batched, ours) = (rate(&mut bare), rate(&mut batched), rate(&mut ours));
    println!("rumqttc as it comes          {bare:>9.0} messages/s");
    println!("rumqttc, batches of 64       {batched:>9.0} messages/s");
    println!("link                         {ours:>9.0} messages/s");
    let what = format!("link beside rumqttc alone, window {}, {peer}", load.window);
    let goal = Goal::AtLeast(GOAL);
    Measured { what: &what, value: ours, reference: bare.max(batched), unit: "messages/s", goal }.print();
    Ok(())
}

/// The link with a window kept as the uplink machine keeps it: the next message when an acknowledgement comes.
async fn through_link(port: u16, load: Load) -> Result<Duration> {
    let mut settings = plain(port);
    settings.client_id = "bench".into();
    settings.clean_session = true;
    let mut link = link::spawn(Arc::new(settings), Epoch(1), None);
    let Some(LinkEvent::Up { .. }) = link.events.recv().await else { bail!("the link does not come up") };
    let topic: Arc<str> = TOPIC.into();
    let begin = Instant::now();
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < load.messages {
        while sent < load.messages && sent - acknowledged < u64::from(load.window) {
            let payload = vec![b'x'; load.payload];
            link.commands.try_send(LinkCommand::Publish {
                token: Token(sent),
                topic: topic.clone(),
                qos: Qos::AtLeastOnce,
                retain: false,
                payload,
            })?;
            sent += 1;
        }
        let mut event = Some(link.events.recv().await.context("the link ended")?);
        while let Some(LinkEvent::Acked { .. }) = event {
            acknowledged += 1;
            event = link.events.try_recv().ok();
        }
        if let Some(other) = event {
            bail!("{other:?}");
        }
    }
    Ok(begin.elapsed())
}

/// Accepts everybody and acknowledges every PUBLISH with QoS 1; runs on a thread of its own.
async fn sink() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let (mut buffer, mut answers) = (Vec::with_capacity(1 << 16), Vec::new());
                while let Ok(1..) = stream.read_buf(&mut buffer).await {
                    let mut used = 0;
                    while let Some(length) = answer(&buffer[used..], &mut answers) {
                        used += length;
                    }
                    buffer.drain(..used);
                    if stream.write_all(&answers).await.is_err() {
                        return;
                    }
                    answers.clear();
                }
            });
        }
    });
    Ok(port)
}

/// Answers the packet at the head of `bytes` and gives its length; `None` when it is not complete.
fn answer(bytes: &[u8], answers: &mut Vec<u8>) -> Option<usize> {
    let first = *bytes.first()?;
    let (mut remaining, mut header) = (0, 1);
    loop {
        let byte = *bytes.get(header)?;
        remaining |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(header..header + remaining)?;
    match first >> 4 {
        1 => answers.extend_from_slice(&[0x20, 2, 0, 0]),
        3 if first & 0x06 > 0 => {
            let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
            answers.extend_from_slice(&[0x40, 2, *body.get(2 + topic)?, *body.get(3 + topic)?]);
        }
        12 => answers.extend_from_slice(&[0xd0, 0]),
        _ => {}
    }
    Some(header + remaining)
}
