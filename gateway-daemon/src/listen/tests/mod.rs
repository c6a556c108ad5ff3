//! The listener against clients of others: mosquitto's tools and rumqttc.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use gateway_core::broker::{Broker, Limits, TopicFilter};
use gateway_core::payload::Draft;
use gateway_core::tag::BootNs;
use gateway_core::uplink::row::{Body, Priority, Qos};
use rumqttc::{AckMode, AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, PublishOptions, QoS};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{interval, timeout};

mod frames;
mod held;
mod hostile;
mod pki;
mod revoked;
mod sockets;
mod tls;
mod turns;
mod websocket;

use super::{Doors, Incoming, Server, serve};

/// Longest wait for anything; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn clock() -> BootNs {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    BootNs(u64::try_from(since.as_nanos()).unwrap() + 1)
}

async fn server_with(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(listener, Broker::in_memory(limits), clock, Box::new(|_, _, _| {})).unwrap()
}

async fn server() -> Server {
    server_with(Limits::default()).await
}

/// `mosquitto_sub` printing `topic payload retain qos` per message.
struct Sub {
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Sub {
    /// Starts it and waits until its subscription is there.
    async fn start(server: &Server, args: &[&str]) -> Self {
        let before = server.look().await.1.subscriptions;
        let filters = args.iter().filter(|arg| **arg == "-t").count();
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &server.addr().port().to_string(), "-F", "%t %p %r %q"])
            .args(args)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto_sub is installed");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        until(server, |gauges| gauges.subscriptions >= before + filters).await;
        Self { lines, child }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

async fn until(server: &Server, reached: impl Fn(gateway_core::broker::Gauges) -> bool) {
    timeout(PATIENCE, async {
        let mut again = interval(Duration::from_millis(5));
        while !reached(server.look().await.1) {
            again.tick().await;
        }
    })
    .await
    .expect("in time");
}

/// `mosquitto_pub`, done when it has its acknowledgement.
async fn publish(server: &Server, args: &[&str]) {
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &server.addr().port().to_string()])
        .args(args)
        .status();
    assert!(timeout(PATIENCE, status).await.expect("in time").unwrap().success(), "{args:?}");
}

fn options(server: &Server, id: &str, clean: bool) -> MqttOptions {
    let mut options = MqttOptions::new(id, ("127.0.0.1", server.addr().port()));
    options.set_clean_session(clean);
    options
}

/// Turns a rumqttc client until a packet that the test waits for.
async fn turn<T>(events: &mut EventLoop, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
    timeout(PATIENCE, async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap()
                && let Some(found) = wanted(packet)
            {
                return found;
            }
        }
    })
    .await
    .expect("in time")
}

async fn connected(events: &mut EventLoop) -> bool {
    turn(events, |packet| if let Packet::ConnAck(ack) = packet { Some(ack.session_present) } else { None })
        .await
}

fn body(packet: Packet) -> Option<String> {
    match packet {
        Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
        _ => None,
    }
}

#[tokio::test]
async fn mosquitto_clients_exchange_messages_of_every_qos_through_wildcards() {
    let server = server().await;
    let mut sub = Sub::start(&server, &["-t", "plant/+/x", "-t", "all/#", "-q", "2"]).await;
    for (qos, topic) in [("0", "plant/a/x"), ("1", "plant/ä ö/x"), ("2", "all"), ("1", "all/b/c")] {
        publish(&server, &["-t", "plant/a/not", "-m", "unwanted", "-q", qos]).await;
        publish(&server, &["-t", topic, "-m", "message", "-q", qos]).await;
        assert_eq!(sub.line().await, format!("{topic} message 0 {qos}"));
    }
}

#[tokio::test]
async fn a_retained_message_waits_for_mosquitto_sub() {
    let server = server().await;
    publish(&server, &["-t", "state/a", "-m", "old", "-r"]).await;
    publish(&server, &["-t", "state/a", "-m", "last", "-r", "-q", "1"]).await;
    let mut sub = Sub::start(&server, &["-t", "state/#", "-q", "1"]).await;
    assert_eq!(sub.line().await, "state/a last 1 1");
    publish(&server, &["-t", "state/a", "-n", "-r"]).await;
    assert_eq!(sub.line().await, "state/a  0 0");
    assert_eq!(server.look().await.1.retained_messages, 0);
}

#[tokio::test]
async fn the_will_of_a_killed_client_is_published() {
    let server = server().await;
    let mut sub = Sub::start(&server, &["-t", "will", "-q", "1"]).await;
    let will = ["-t", "other", "--will-topic", "will", "--will-payload", "gone", "--will-qos", "1"];
    Sub::start(&server, &will).await.stop().await;
    assert_eq!(sub.line().await, "will gone 0 1");
}

#[tokio::test]
async fn a_persistent_session_of_mosquitto_sub_gets_what_it_missed_in_order() {
    let server = server().await;
    let args = ["-t", "t", "-q", "1", "-c", "-i", "away"];
    Sub::start(&server, &args).await.stop().await;
    until(&server, |gauges| gauges.connections == 0).await;
    for body in ["1", "2", "3"] {
        publish(&server, &["-t", "t", "-m", body, "-q", "1"]).await;
    }
    // Its subscription is there already; nothing else is to be waited for.
    let mut sub = Sub::start(&server, &["-q", "1", "-c", "-i", "away", "-t", "t2"]).await;
    for body in ["1", "2", "3"] {
        assert_eq!(sub.line().await, format!("t {body} 0 1"));
    }
}

#[tokio::test]
async fn rumqttc_resumes_its_session_and_gets_unacknowledged_messages_again() {
    let server = server().await;
    let mut own = options(&server, "a", false);
    own.set_ack_mode(AckMode::Manual);
    let (client, mut events) = AsyncClient::builder(own.clone()).capacity(10).build();
    assert!(!connected(&mut events).await);
    client.subscribe("t", QoS::AtLeastOnce).await.unwrap();
    turn(&mut events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    server.publish(draft("t", "x"), Qos::AtLeastOnce).await;
    let first =
        turn(&mut events, |packet| if let Packet::Publish(p) = packet { Some(p) } else { None }).await;
    assert!(!first.dup);
    drop((client, events));
    let (_client, mut events) = AsyncClient::builder(own).capacity(10).build();
    assert!(connected(&mut events).await, "session present");
    let again =
        turn(&mut events, |packet| if let Packet::Publish(p) = packet { Some(p) } else { None }).await;
    assert!(again.dup);
    assert_eq!((again.pkid, &again.payload), (first.pkid, &first.payload));
}

#[tokio::test]
async fn a_newer_client_with_the_same_id_takes_over_and_the_will_of_the_older_speaks() {
    let server = server().await;
    let mut sub = Sub::start(&server, &["-t", "will"]).await;
    let mut older = options(&server, "same", true);
    older.set_last_will(LastWill::new("will", "older", QoS::AtMostOnce, false));
    let (_older, mut older_events) = AsyncClient::builder(older).capacity(10).build();
    connected(&mut older_events).await;
    let (_newer, mut newer_events) =
        AsyncClient::builder(options(&server, "same", true)).capacity(10).build();
    connected(&mut newer_events).await;
    assert_eq!(sub.line().await, "will older 0 0");
    let ended = timeout(PATIENCE, async { while older_events.poll().await.is_ok() {} }).await;
    ended.expect("the older connection is closed");
    assert_eq!(server.look().await.0.takeovers_total, 1);
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody() {
    let limits = Limits { outbox_bytes_max: 10_000, ..Limits::default() };
    let server = server_with(limits).await;
    let mut lazy = TcpStream::connect(server.addr()).await.unwrap();
    lazy.write_all(b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04lazy\x82\x06\0\x01\0\x01#\0").await.unwrap();
    until(&server, |gauges| gauges.subscriptions == 1).await;
    let mut sub = Sub::start(&server, &["-t", "t", "-q", "1"]).await;
    let large = "x".repeat(100_000);
    while server.look().await.0.dropped_slow_messages_total == 0 {
        server.publish(draft("flood", &large), Qos::AtMostOnce).await;
    }
    server.publish(draft("t", "still here"), Qos::AtLeastOnce).await;
    assert_eq!(sub.line().await, "t still here 0 1");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut() {
    let server = server_with(Limits { handshake_max: Duration::from_millis(50), ..Limits::default() }).await;
    let mut silent = TcpStream::connect(server.addr()).await.unwrap();
    let read = timeout(PATIENCE, silent.read(&mut [0; 1])).await.expect("cut in time");
    assert_eq!(read.unwrap(), 0);
    assert_eq!(server.look().await.0.silent_total, 1);
}

#[tokio::test]
async fn a_refused_client_hears_why_before_it_is_closed() {
    let server = server().await;
    let mut old = TcpStream::connect(server.addr()).await.unwrap();
    // No client id, and no clean session.
    old.write_all(b"\x10\x0c\0\x04MQTT\x04\0\0\x3c\0\0").await.unwrap();
    let mut said = Vec::new();
    timeout(PATIENCE, old.read_to_end(&mut said)).await.expect("closed in time").unwrap();
    assert_eq!(said, [0x20, 2, 0, 2]);
}

#[tokio::test]
async fn a_stopped_server_gives_its_sessions_to_the_next_one() {
    let server = server().await;
    let (client, mut events) = AsyncClient::builder(options(&server, "a", false)).capacity(10).build();
    connected(&mut events).await;
    client.subscribe("t", QoS::AtLeastOnce).await.unwrap();
    turn(&mut events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    let addr = server.addr();
    let broker = server.stop().await.unwrap();
    while events.poll().await.is_ok() {}
    let listener = TcpListener::bind(addr).await.unwrap();
    let server = serve(listener, broker, clock, Box::new(|_, _, _| {})).unwrap();
    server.publish(draft("t", "while away"), Qos::AtLeastOnce).await;
    let (_client, mut events) = AsyncClient::builder(options(&server, "a", false)).capacity(10).build();
    assert!(connected(&mut events).await);
    assert_eq!(turn(&mut events, body).await, "while away");
}

#[tokio::test]
async fn a_bridge_gets_every_message_of_a_client_once() {
    const MESSAGES: usize = 1000;
    let mut broker = Broker::in_memory(Limits::default());
    let bridge = broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&got);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let enqueue = Box::new(move |session, _, draft: Draft| {
        assert_eq!(session, bridge);
        sink.lock().unwrap().push(String::from_utf8(draft.body.bytes().to_vec()).unwrap());
    });
    let server = serve(listener, broker, clock, enqueue).unwrap();
    let (client, mut events) = AsyncClient::builder(options(&server, "a", true)).capacity(MESSAGES).build();
    for number in 0..MESSAGES {
        client.publish("t", number.to_string(), PublishOptions::at_least_once()).await.unwrap();
    }
    let mut acks = BTreeSet::new();
    turn(&mut events, |packet| {
        if let Packet::PubAck(ack) = packet {
            acks.insert((ack.pkid, acks.len()));
        }
        (acks.len() == MESSAGES).then_some(())
    })
    .await;
    let wanted: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(*got.lock().unwrap(), wanted);
}

fn draft(topic: &str, body: &str) -> Draft {
    Draft {
        topic: topic.into(),
        body: Body::Raw(body.as_bytes().into()),
        readings: 0,
        priority: Priority::Normal,
        retain: false,
        at: BootNs(1),
    }
}
