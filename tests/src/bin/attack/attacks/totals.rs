//! 3g and 3h: all totals filled at once, by clients that each do what is allowed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustls::ClientConfig;

use super::super::client::{Client, Crowd, HOME, Heard, PIECE, Wire, dial, dial_narrow};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, Stage, attacker};
use super::super::tls;
use super::super::watch::Sampler;
use super::{NEEDS, attack};
use tidegate_tests::packets::{Hello, PING, Publish, Will, subscribe};

/// Connections that give names to topics, and are given some.
const LINES: usize = 760;
/// Topics of a name, longest first: one that is not taken ends its connection.
const TOPIC_BYTES: [usize; 3] = [16_380, 2000, 1000];
/// A topic gets the name 1; up to ten names are taken.
const NAME: [u8; 3] = [0x23, 0, 1];
const NAMES_MAX: [u8; 3] = [0x22, 0, 10];
/// Absent clients, with a message of 8 kB each.
const ABSENT: usize = 900;
/// Longest wait for an answer; who is made to wait longer goes on all the same.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Packets that are begun and not finished.
const BEGUN: usize = 52;
/// Filters of 4 bytes in SUBSCRIBE packets that end at the same time.
const FILTERS: [usize; 3] = [49_000, 65_000, 65_000];
/// Memory that the attack must have filled, MiB: less shows that it is no attack.
const FILLED_MIN_MIB: u64 = 32;

pub(super) fn list() -> Vec<Attack> {
    let listeners = Needs { listeners: true, ..NEEDS };
    let long = |key, name, run| Attack { seconds: 90, ..attack(key, name, run) };
    vec![
        long("3g", "all totals at once", plain),
        Attack { needs: listeners, ..long("3h", "all totals at once, over TLS", encrypted) },
    ]
}

fn plain(stage: &mut Stage) -> Result<()> {
    fill(stage, None)
}

fn encrypted(stage: &mut Stage) -> Result<()> {
    let config = tls::config(stage)?;
    fill(stage, Some(config))
}

/// One total after the other; what one of them is refused does the next no harm.
fn fill(stage: &mut Stage, tls: Option<Arc<ClientConfig>>) -> Result<()> {
    const PARTS: [(&str, Part); 12] = [
        ("names of topics", names),
        ("queues of absent clients", absent),
        ("QoS 2 without release", unreleased),
        ("what is not acknowledged", unacknowledged),
        ("what is not read", unread),
        ("retained messages", retained),
        ("the cloud's queue", uplink),
        ("subscriptions", subscriptions),
        ("wills", wills),
        ("log-ins", logins),
        ("unfinished packets", unfinished),
        ("large SUBSCRIBEs", large_subscribes),
    ];
    let mut honest = stage.client_as(HOME, Hello::v3("beside"))?;
    stage.cloud.be_silent(true);
    let mut hoard = Hoard { stage, tls, lines: Vec::new(), clients: Vec::new(), crowds: Vec::new() };
    let mut filled = Vec::new();
    for (what, part) in PARTS {
        if hoard.stage.over() {
            break;
        }
        let refused = part(&mut hoard).is_err();
        let mib = hoard.stage.sampler.as_ref().map_or(0, Sampler::last_mib);
        filled.push(format!("{what} {mib}{}", if refused { " (broken off)" } else { "" }));
    }
    hoard.stage.rest(Duration::from_millis(1500));
    drop(hoard);
    let peak = stage.sampler.as_ref().map_or(0, Sampler::peak_mib);
    stage.note(format!("MiB after each: {}", filled.join(", ")));
    stage.check("the totals were filled", peak >= FILLED_MIN_MIB);
    let answered = honest.send(&PING).and_then(|()| honest.wait_for(13, ANSWER_MAX));
    stage.check("an honest client stays connected", matches!(answered, Ok(Heard::Packet(..))));
    Ok(())
}

type Part = fn(&mut Hoard<'_>) -> Result<()>;

/// Everybody who holds something.
struct Hoard<'a> {
    stage: &'a Stage,
    tls: Option<Arc<ClientConfig>>,
    lines: Vec<Client<Box<dyn Wire>>>,
    clients: Vec<Client>,
    crowds: Vec<Crowd>,
}

impl Hoard<'_> {
    /// A client with or without TLS.
    fn line(&self, n: usize, hello: &Hello<'_>) -> Result<Client<Box<dyn Wire>>> {
        let wire: Box<dyn Wire> = match &self.tls {
            Some(config) => Box::new(tls::dial_tls(attacker(n % 4), self.stage.tls_port, config)?),
            None => Box::new(dial(attacker(n % 4), self.stage.port)?),
        };
        Ok(Client::on(wire).enter(hello)?)
    }

    fn publisher(&self) -> io::Result<Client> {
        self.stage.client_as(attacker(150), Hello::v3("publisher"))
    }
}

/// Publishes with QoS 1; who is made to wait for long goes on.
fn say(publisher: &mut Client, topic: &str, bytes: usize, retain: bool) -> io::Result<()> {
    publisher.send(&Publish { retain, ..Publish::new(topic, &vec![b'x'; bytes], 1) }.bytes())?;
    publisher.wait_for(4, WAIT_MAX).map(|_| ())
}

/// Clients that give a topic a name, and are told one by the gateway: as long as it takes.
fn names(hoard: &mut Hoard<'_>) -> Result<()> {
    let mut publisher = hoard.publisher()?;
    let mut sizes = TOPIC_BYTES.into_iter();
    let mut bytes = sizes.next().unwrap_or(0);
    while hoard.lines.len() < LINES {
        let n = hoard.lines.len();
        let id = format!("line-{n}");
        let mut line = hoard.line(n, &Hello { properties: NAMES_MAX.to_vec(), ..Hello::v5(&id) })?;
        let topic = format!("{n:06}{}", "x".repeat(bytes - 6));
        let said = Publish { v5: true, qos: 0, properties: &NAME, ..Publish::new(&topic, b"", 0) };
        line.send(&said.bytes())?;
        // No SUBACK comes if the name is too long.
        if !matches!(line.subscribe(true, &[format!("to{n}/#")], 0), Ok(Some(_))) {
            bytes = sizes.next().context("no name is taken")?;
            continue;
        }
        let topic = format!("to{n}/{}", "y".repeat(TOPIC_BYTES[0] - 10));
        publisher.send(&Publish { qos: 0, ..Publish::new(&topic, b"", 0) }.bytes())?;
        line.wait_for(3, WAIT_MAX)?;
        hoard.lines.push(line);
    }
    Ok(())
}

fn absent(hoard: &mut Hoard<'_>) -> Result<()> {
    for n in 0..ABSENT {
        let mut client =
            hoard.stage.client_as(attacker(n % 8), Hello::v3(&format!("absent-{n}")).durable())?;
        client.subscribe(false, &[format!("absent/{n}")], 1)?;
    }
    let mut publisher = hoard.publisher()?;
    (0..ABSENT).try_for_each(|n| Ok(say(&mut publisher, &format!("absent/{n}"), 8000, false)?))
}

/// Durable ones, so that those who are closed for it keep what they have.
fn unreleased(hoard: &mut Hoard<'_>) -> Result<()> {
    for n in 0..60 {
        let mut client =
            hoard.stage.client_as(attacker(9), Hello::v3(&format!("unreleased-{n}")).durable())?;
        for first in (1..9900).step_by(100) {
            let all: Vec<u8> = (first..first + 100)
                .flat_map(|id| Publish { qos: 2, ..Publish::new("none/x", b"", id) }.bytes())
                .collect();
            let sent = client.send(&all).is_ok();
            if !sent || (0..100).any(|_| !matches!(client.wait_for(5, WAIT_MAX), Ok(Heard::Packet(..)))) {
                break;
            }
        }
        hoard.clients.push(client);
    }
    Ok(())
}

fn unacknowledged(hoard: &mut Hoard<'_>) -> Result<()> {
    let (mut publisher, mut readers) = (hoard.publisher()?, Crowd::default());
    for n in 0..4 {
        let mut client =
            hoard.stage.client_as(attacker(10 + n), Hello::v3(&format!("unacknowledged-{n}")))?;
        client.subscribe(false, &[format!("queued{n}/#")], 1)?;
        readers.take_in(client.stream, Arc::from([]))?;
    }
    for n in 0..4 * 98 {
        say(&mut publisher, &format!("queued{}/{n}", n % 4), 41_500, false)?;
        readers.read_for(Duration::from_millis(1));
    }
    hoard.crowds.push(readers);
    Ok(())
}

fn unread(hoard: &mut Hoard<'_>) -> Result<()> {
    let mut publisher = hoard.publisher()?;
    for n in 0..55 {
        let id = format!("unread-{n}");
        let mut client =
            Client::on(dial_narrow(attacker(20 + n % 4), hoard.stage.port)?).enter(&Hello::v3(&id))?;
        client.subscribe(false, &[format!("unread/{n}")], 0)?;
        hoard.clients.push(client);
    }
    (0..55 * 6).try_for_each(|n| Ok(say(&mut publisher, &format!("unread/{}", n % 55), 60_000, false)?))
}

fn retained(hoard: &mut Hoard<'_>) -> Result<()> {
    let mut publisher = hoard.publisher()?;
    (0..45).try_for_each(|n| Ok(say(&mut publisher, &format!("kept/{n}"), 190_000, true)?))
}

/// The cloud acknowledges nothing.
fn uplink(hoard: &mut Hoard<'_>) -> Result<()> {
    let mut publisher = hoard.publisher()?;
    (0..120).try_for_each(|n| Ok(say(&mut publisher, &format!("x/{n}"), 60_000, false)?))
}

fn subscriptions(hoard: &mut Hoard<'_>) -> Result<()> {
    for n in 0..10 {
        let mut client = hoard.stage.client_as(attacker(30 + n), Hello::v3(&format!("hoarder-{n}")))?;
        let filters: Vec<String> = (0..2000).map(|m| format!("{n:x}{m:x}/{m:x}")).collect();
        for part in filters.chunks(500) {
            client.subscribe(false, part, 1)?;
        }
        hoard.clients.push(client);
    }
    Ok(())
}

fn wills(hoard: &mut Hoard<'_>) -> Result<()> {
    for n in 0..32 {
        let id = format!("testator-{n}");
        let will = Will { topic: "will/x", payload: &[b'x'; 60_000], flags: 0, properties: Vec::new() };
        let hello = Hello { will: Some(will), ..Hello::v3(&id) };
        let from = attacker(40 + n);
        hoard.clients.extend(Client::connect(from, hoard.stage.port, &hello));
    }
    Ok(())
}

/// CONNECTs that lack their end.
fn logins(hoard: &mut Hoard<'_>) -> Result<()> {
    let will = Will { topic: "w", payload: &[b'x'; 65_000], flags: 0, properties: Vec::new() };
    let (name, password) = ("u".repeat(5000), "p".repeat(5000));
    let hello = Hello { will: Some(will), ..Hello::v3("stranger").user(&name, &password) }.bytes();
    let begun: Arc<[u8]> = hello[..hello.len() - 5].into();
    let mut strangers = Crowd::default();
    for n in 0..90 {
        strangers.join(attacker(80 + n % 9), hoard.stage.port, Arc::clone(&begun))?;
    }
    strangers.push(PIECE, false, Instant::now() + WAIT_MAX);
    hoard.crowds.push(strangers);
    Ok(())
}

fn unfinished(hoard: &mut Hoard<'_>) -> Result<()> {
    let whole = Publish { v5: true, qos: 0, ..Publish::new("none/x", &[b'x'; 255_000], 0) }.bytes();
    for line in hoard.lines.iter_mut().take(BEGUN) {
        line.send(&whole[..whole.len() - 500])?;
    }
    Ok(())
}

/// They end at the same time, so that all of their filters are there at once.
fn large_subscribes(hoard: &mut Hoard<'_>) -> Result<()> {
    let packets = FILTERS.map(|count| subscribe(true, 7, &vec!["a".to_owned(); count], 0));
    let free = hoard.lines.len().saturating_sub(FILTERS.len());
    for _ in 0..3 {
        for part in [0, 1] {
            for (line, packet) in hoard.lines[free..].iter_mut().zip(&packets) {
                let (start, end) = packet.split_at(packet.len() - 3);
                line.send([start, end][part])?;
            }
            hoard.stage.rest(Duration::from_millis(200));
        }
    }
    Ok(())
}
