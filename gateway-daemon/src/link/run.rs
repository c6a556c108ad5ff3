//! The life of one epoch: connect, serve, end.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::settings::{LinkSettings, Transport};
use gateway_core::uplink::link::{LinkCommand, LinkEvent, Token, Will};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;
use rumqttc::{
    AckMode, AsyncClient, Broker, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions,
    NetworkOptions, Outgoing, PublishOptions, QoS,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::downlink::Downlink;
use super::tls::{self, Tls};
use super::watched::Trace;
use super::{FLUSH_MAX, GOODBYE_MAX, IN_FLIGHT_MAX, classify, dial, packet};
use crate::panics::contain;

/// Requests that rumqttc writes before it flushes: few system calls, and the first of them leaves soon.
const REQUEST_BATCH_MAX: usize = 64;

/// Acknowledgements of messages of the cloud that wait in the client; further ones wait here.
pub(super) const ACKS_MAX: usize = 512;

/// Filters of one SUBSCRIBE: AWS IoT takes no more.
pub(super) const SUBSCRIBE_MAX: usize = 8;

/// SUBSCRIBEs of one connection: enough for the rules of an uplink, eight at a time.
pub(super) const SUBSCRIBES_MAX: usize = 16;

/// Requests that wait for the client: everything that is ever handed to it at once, and the DISCONNECT.
const REQUESTS_MAX: usize = IN_FLIGHT_MAX as usize + ACKS_MAX + SUBSCRIBES_MAX + 1;

/// rumqttc has a limit of its own for connecting and for every flush, as a total and not as a stall: on a slow line a flush of honest
/// length would end the connection. It is put out of the way; `connect_timeout` and the stall limit are ours.
const CLIENT_TIMEOUT_S: u64 = 24 * 3600;

/// Runs one epoch and reports its end.
pub(super) async fn epoch(
    settings: Arc<LinkSettings>,
    will: Option<Will>,
    commands: mpsc::Receiver<LinkCommand>,
    events: mpsc::Sender<LinkEvent>,
) {
    let trace = Trace::new();
    let deadline = Instant::now() + settings.connect_timeout;
    let (loss, up_for) = match timeout_at(deadline, connect(&settings, will, &trace, deadline)).await {
        Err(_) => {
            let stage = trace.with(|facts| facts.stage);
            (Loss::ConnectTimeout { stage, after: settings.connect_timeout }, None)
        }
        Ok(Err(loss)) => (loss, None),
        Ok(Ok((client, event_loop, session_present))) => {
            trace.with(|facts| facts.up = true);
            let since = Instant::now();
            let session = Session {
                settings,
                client,
                commands,
                events: events.clone(),
                trace,
                qos0: VecDeque::new(),
                qos1: VecDeque::new(),
                by_packet_id: vec![None; usize::from(IN_FLIGHT_MAX) + 1],
                in_flight: 0,
                downlink: Downlink::default(),
                taking: true,
                stop: Stop::No,
            };
            let _ = events.send(LinkEvent::Up { session_present }).await;
            (session.serve(event_loop).await, Some(since.elapsed()))
        }
    };
    // Nobody left to tell is not an error: the link was dropped.
    let _ = events.send(LinkEvent::Down { loss, up_for }).await;
}

async fn connect(
    settings: &Arc<LinkSettings>,
    will: Option<Will>,
    trace: &Trace,
    deadline: Instant,
) -> Result<(AsyncClient, EventLoop, bool), Loss> {
    let tls = load_tls(settings).await?;
    let mut options = options(settings, will)?;
    let (settings_in, trace_in) = (settings.clone(), trace.clone());
    options.set_socket_connector(move |_, _| {
        dial::dial(settings_in.clone(), tls.clone(), trace_in.clone(), deadline)
    });
    let (client, mut event_loop) = AsyncClient::builder(options)
        .capacity(REQUESTS_MAX)
        .try_build()
        .map_err(|e| Loss::Settings { detail: e.to_string().into() })?;
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CLIENT_TIMEOUT_S);
    event_loop.set_network_options(network);
    match event_loop.poll().await {
        Ok(Event::Incoming(Incoming::ConnAck(ack))) => Ok((client, event_loop, ack.session_present)),
        Ok(other) => Err(Loss::Protocol { detail: format!("{other:?} before CONNACK").into() }),
        Err(e) => Err(classify::of_client(e, trace, settings)),
    }
}

async fn load_tls(settings: &Arc<LinkSettings>) -> Result<Option<Tls>, Loss> {
    match (settings.transport, &settings.tls) {
        (Transport::Tcp | Transport::WebSocket, _) => Ok(None),
        (_, None) => Err(Loss::Settings { detail: "TLS is asked for and has no settings".into() }),
        (_, Some(_)) => {
            let settings = settings.clone();
            let load =
                move || settings.tls.as_ref().map(|files| tls::load(files, &settings.host)).transpose();
            tokio::task::spawn_blocking(|| contain("reading certificate files", load)).await.unwrap_or_else(
                |_| Err(Loss::Settings { detail: "reading the certificate files was cut short".into() }),
            )
        }
    }
}

fn options(settings: &LinkSettings, will: Option<Will>) -> Result<MqttOptions, Loss> {
    let broker = match settings.transport {
        Transport::Tcp | Transport::Tls => Broker::tcp(settings.host.clone(), settings.port),
        // TLS is ours and lies below, so the client sees a plain WebSocket.
        Transport::WebSocket | Transport::WebSocketTls => {
            let host = if settings.host.contains(':') {
                format!("[{}]", settings.host)
            } else {
                settings.host.clone()
            };
            let url = format!("ws://{host}:{}{}", settings.port, settings.path);
            Broker::websocket(url.clone())
                .map_err(|e| Loss::Settings { detail: format!("{url}: {e}").into() })?
        }
    };
    let bad = |e: rumqttc::OptionError| Loss::Settings { detail: e.to_string().into() };
    let mut options = MqttOptions::new(settings.client_id.clone(), broker);
    let packet_max =
        usize::try_from(settings.packet_bytes_max).unwrap_or(usize::MAX).min(packet::REMAINING_MAX);
    let keep_alive_s = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1);
    options.try_set_clean_session(settings.clean_session).map_err(|e| bad(e.into()))?;
    options
        .set_keep_alive(keep_alive_s)
        // Outgoing packets were checked before they reach the client; the will is the only one it has to check.
        .set_max_packet_size(packet_max, packet_max)
        .set_request_channel_capacity(REQUESTS_MAX)
        // A message of the cloud is acknowledged when it is safe, and the machine knows when.
        .set_ack_mode(AckMode::Manual)
        .set_max_request_batch(REQUEST_BATCH_MAX)
        .set_inflight(IN_FLIGHT_MAX);
    match &settings.login {
        None => {}
        Some((user, None)) => {
            options.set_username(user.clone());
        }
        Some((user, Some(password))) => {
            options.set_credentials(user.clone(), password.reveal().as_bytes().to_vec());
        }
    }
    if let Some(will) = will {
        options.set_last_will(LastWill::new(&*will.topic, will.payload, on_wire(will.qos), will.retain));
    }
    Ok(options)
}

/// Publishes travel as at most once or at least once; see [`LinkCommand::Publish`].
pub(super) fn on_wire(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce | Qos::ExactlyOnce => QoS::AtLeastOnce,
    }
}

/// An established connection.
struct Session {
    settings: Arc<LinkSettings>,
    client: AsyncClient,
    commands: mpsc::Receiver<LinkCommand>,
    events: mpsc::Sender<LinkEvent>,
    trace: Trace,
    /// Handed to the client, not written yet, in order.
    qos0: VecDeque<Token>,
    /// Handed to the client, no packet id yet, in order. rumqttc sends publishes of one QoS in the order given.
    qos1: VecDeque<Token>,
    /// Written, waiting for PUBACK. Packet ids run from 1 to [`IN_FLIGHT_MAX`].
    by_packet_id: Vec<Option<Token>>,
    /// All publishes handed to the client and not acknowledged.
    in_flight: u16,
    /// What the cloud sent and asked for.
    downlink: Downlink,
    /// Commands are still taken.
    taking: bool,
    stop: Stop,
}

/// How far a clean stop has come.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// Nobody asked.
    No,
    /// Acknowledgements are awaited until this moment.
    Flush(Instant),
    /// DISCONNECT is on its way; at this moment the connection ends with or without it.
    Goodbye(Instant),
}

impl Session {
    /// Serves until the connection ends. The future of `poll` is never dropped half-way: it may hold a packet half written.
    async fn serve(mut self, mut event_loop: EventLoop) -> Loss {
        let loss = loop {
            let polled = {
                let mut poll = pin!(event_loop.poll());
                loop {
                    if let Err(loss) = self.take_waiting().await {
                        return loss;
                    }
                    let stop_at = match self.stop {
                        Stop::No => None,
                        Stop::Flush(at) | Stop::Goodbye(at) => Some(at),
                    };
                    tokio::select! {
                        result = &mut poll => break result,
                        command = self.commands.recv(), if self.may_take() => match command {
                            Some(command) => if let Err(loss) = self.obey(command).await { return loss; },
                            None => self.taking = false,
                        },
                        () = sleep_until(stop_at.unwrap_or_else(Instant::now)), if stop_at.is_some() => match self.stop {
                            Stop::Goodbye(_) => return Loss::Stopped,
                            _ => self.say_goodbye(),
                        },
                    }
                }
            };
            let result = match polled {
                Ok(event) => self.saw(event).await,
                Err(e) => Err(self.end(e)),
            };
            if let Err(loss) = result {
                break loss;
            }
            if matches!(self.stop, Stop::Flush(_)) && self.is_flushed() {
                self.say_goodbye();
            }
        };
        // The client closes its handle of the socket first, so that the twin is the last one.
        drop(event_loop);
        if loss == Loss::Stopped
            && let Some(twin) = self.trace.with(|facts| facts.twin.take())
        {
            // A peer that does not close in time has had its chance.
            let _ = timeout(GOODBYE_MAX, linger(twin)).await;
        }
        loss
    }

    fn may_take(&self) -> bool {
        self.taking && self.in_flight < IN_FLIGHT_MAX
    }

    /// Takes what waits without waiting itself, so that a flood from the broker cannot starve the commands.
    async fn take_waiting(&mut self) -> Result<(), Loss> {
        while self.may_take()
            && let Ok(command) = self.commands.try_recv()
        {
            self.obey(command).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, command: LinkCommand) -> Result<(), Loss> {
        match command {
            LinkCommand::Publish { token, topic, qos, retain, payload } => {
                if let Err(why) = packet::check(&topic, qos, payload.len(), self.settings.packet_bytes_max) {
                    return self.tell(LinkEvent::Refused { token, why }).await;
                }
                let options = PublishOptions::new(on_wire(qos)).retain(retain);
                if let Err(e) = self.client.try_publish(&*topic, payload, options) {
                    // Room in the channel was checked, so only an ended event loop is left.
                    return Err(Loss::Protocol {
                        detail: format!("the client takes no publish: {e}").into(),
                    });
                }
                self.in_flight = self.in_flight.saturating_add(1);
                match qos {
                    Qos::AtMostOnce => self.qos0.push_back(token),
                    Qos::AtLeastOnce | Qos::ExactlyOnce => self.qos1.push_back(token),
                }
            }
            LinkCommand::Subscribe { filters } => {
                let refused = self.downlink.subscribe(&self.client, filters);
                if !refused.is_empty() {
                    return self.tell(LinkEvent::Subscribed { refused }).await;
                }
            }
            LinkCommand::Acknowledge { through } => {
                self.downlink.acknowledge(through);
                return self.downlink.flush(&self.client);
            }
            LinkCommand::Disconnect => {
                self.taking = false;
                let wait = if self.is_flushed() { Duration::ZERO } else { FLUSH_MAX };
                self.stop = Stop::Flush(Instant::now() + wait);
            }
        }
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.in_flight == 0 && self.downlink.is_written()
    }

    fn say_goodbye(&mut self) {
        self.stop = Stop::Goodbye(Instant::now() + GOODBYE_MAX);
        // Fails only when the event loop has ended, which `poll` is about to say.
        let _ = self.client.try_disconnect_now();
    }

    async fn saw(&mut self, event: Event) -> Result<(), Loss> {
        match event {
            // Written and flushed: rumqttc hands out its events after the flush.
            Event::Outgoing(Outgoing::Publish(0)) => match self.qos0.pop_front() {
                Some(token) => self.acked(token).await,
                None => Ok(()),
            },
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(slot) = self.by_packet_id.get_mut(usize::from(id)) {
                    *slot = self.qos1.pop_front();
                }
                Ok(())
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                match self.by_packet_id.get_mut(usize::from(ack.pkid)).and_then(Option::take) {
                    Some(token) => self.acked(token).await,
                    None => Err(Loss::Protocol {
                        detail: format!("an acknowledgement of packet {}, which was not sent", ack.pkid)
                            .into(),
                    }),
                }
            }
            Event::Incoming(Incoming::Publish(message)) => {
                let event = self.downlink.message(message)?;
                self.tell(event).await
            }
            Event::Outgoing(Outgoing::Subscribe(id)) => {
                self.downlink.subscribing(id);
                Ok(())
            }
            Event::Incoming(Incoming::SubAck(ack)) => match self.downlink.subscribed(&ack) {
                Some(event) => self.tell(event).await,
                None => Ok(()),
            },
            Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => {
                self.downlink.written();
                self.downlink.flush(&self.client)
            }
            Event::Outgoing(Outgoing::Disconnect) => Err(Loss::Stopped),
            _ => Ok(()),
        }
    }

    async fn acked(&mut self, token: Token) -> Result<(), Loss> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.tell(LinkEvent::Acked { token }).await
    }

    /// Waits when nobody takes events: then nothing is read, and the broker feels it.
    async fn tell(&mut self, event: LinkEvent) -> Result<(), Loss> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => self.events.send(event).await.map_err(|_| Loss::Stopped),
            Err(TrySendError::Closed(_)) => Err(Loss::Stopped),
        }
    }

    fn end(&self, error: ConnectionError) -> Loss {
        classify::of_client(error, &self.trace, &self.settings)
    }
}

/// Says that we are done and waits for the peer to close. Closing at once while an unread PUBACK waits would send a reset that can
/// overtake the DISCONNECT, and the broker would publish the will.
async fn linger(twin: OwnedFd) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::from_std(twin.into())?;
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
