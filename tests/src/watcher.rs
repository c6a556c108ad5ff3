//! An independent subscriber: what really arrived at a broker.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, bail};
use rumqttc::{AsyncClient, Broker, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};

use crate::wait::within;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Retained before the watcher came.
    pub retained: bool,
}

/// A client with rumqttc as it is, subscribed to a filter with QoS 1.
pub struct Watcher {
    client: AsyncClient,
    event_loop: EventLoop,
    arrived: VecDeque<Arrived>,
}

impl Watcher {
    /// Connects to a local port and waits until it is subscribed.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn start(port: u16, client_id: &str, clean: bool, filter: &str) -> Result<Self> {
        let mut options = MqttOptions::new(client_id, Broker::tcp("127.0.0.1", port));
        options.set_keep_alive(30).set_clean_session(clean).set_max_packet_size(16 << 20, 16 << 20);
        let (client, event_loop) = AsyncClient::builder(options).capacity(100).build();
        client.subscribe(filter, QoS::AtLeastOnce).await?;
        let mut watcher = Self { client, event_loop, arrived: VecDeque::new() };
        within("SUBACK", async {
            while !matches!(watcher.poll().await?, Event::Incoming(Incoming::SubAck(_))) {}
            anyhow::Ok(watcher)
        })
        .await
    }

    /// The next message.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<Arrived> {
        within("a message at the broker", async {
            loop {
                if let Some(message) = self.arrived.pop_front() {
                    return Ok(message);
                }
                self.poll().await?;
            }
        })
        .await
    }

    /// One step of the client; keeps messages that arrive meanwhile.
    async fn poll(&mut self) -> Result<Event> {
        let event = self.event_loop.poll().await?;
        if let Event::Incoming(Incoming::Publish(message)) = &event {
            self.arrived.push_back(Arrived {
                topic: String::from_utf8(message.topic.to_vec())?,
                payload: message.payload.to_vec(),
                retained: message.retain,
            });
        }
        Ok(event)
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.say(topic, payload, PublishOptions::at_least_once()).await
    }

    /// Publishes a retained message with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn retain(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.say(topic, payload, PublishOptions::at_least_once().retain(true)).await
    }

    async fn say(&mut self, topic: &str, payload: &[u8], options: PublishOptions) -> Result<()> {
        self.client.publish(topic, payload.to_vec(), options).await?;
        within("PUBACK", async {
            while !matches!(self.poll().await?, Event::Incoming(Incoming::PubAck(_))) {}
            Ok(())
        })
        .await
    }

    /// Says DISCONNECT.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn stop(mut self) -> Result<()> {
        self.client.disconnect_with_timeout(Duration::from_secs(5)).await?;
        within("DISCONNECT", async {
            loop {
                match self.event_loop.poll().await {
                    Ok(_) => {}
                    Err(rumqttc::ConnectionError::RequestsDone) => return Ok(()),
                    Err(e) => bail!(e),
                }
            }
        })
        .await
    }
}
