//! rumqttc alone, as a program without a queue would use it: the peer of everything that sends.

use std::time::{Duration, Instant};

use anyhow::Result;
use rumqttc::{AsyncClient, Broker, Event, Incoming, MqttOptions, PublishOptions};

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Messages, QoS 1.
    pub messages: u64,
    /// Bytes of each.
    pub payload: usize,
    /// Most unacknowledged ones.
    pub window: u16,
}

/// Sends everything with rumqttc's own window: fill the request channel, count acknowledgements. `batch` is how many requests it takes at once, 0 as
/// it comes.
///
/// # Errors
/// The connection fails.
pub async fn rumqttc(port: u16, topic: &str, load: Load, batch: usize) -> Result<Duration> {
    let mut options = MqttOptions::new("bench", Broker::tcp("127.0.0.1", port));
    options
        .set_clean_session(true)
        .set_inflight(load.window)
        .set_max_packet_size(1 << 20, 1 << 20)
        .set_max_request_batch(batch);
    let (client, mut event_loop) = AsyncClient::builder(options).capacity(usize::from(load.window)).build();
    event_loop.network_options.set_tcp_nodelay(true);
    while !matches!(event_loop.poll().await?, Event::Incoming(Incoming::ConnAck(_))) {}
    let begin = Instant::now();
    let sender = client.clone();
    let topic = topic.to_owned();
    let feeding = tokio::spawn(async move {
        for _ in 0..load.messages {
            sender.publish(&*topic, vec![b'x'; load.payload], PublishOptions::at_least_once()).await?;
        }
        anyhow::Ok(())
    });
    let mut acknowledged = 0;
    while acknowledged < load.messages {
        if let Event::Incoming(Incoming::PubAck(_)) = event_loop.poll().await? {
            acknowledged += 1;
        }
    }
    let time = begin.elapsed();
    feeding.await??;
    Ok(time)
}
