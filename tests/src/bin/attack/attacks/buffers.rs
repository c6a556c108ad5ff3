//! 3: bytes that wait, to clients and from them, and honest clients between those that make them wait.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::client::{Client, Crowd, HOME, Heard, PIECE, dial_narrow};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Stage, attacker};
use super::attack;
use tidegate_tests::packets::{Hello, PING, Publish, packet, subscribe};

/// What the kernel may hold for all connections: a quarter of `memory_max`.
const KERNEL_MIB: f64 = 28.0;
const MIB: f64 = (1 << 20) as f64;
/// What an honest client is sent before it pauses, and for how long it does.
const PICTURE_BYTES: usize = 60_000;
const PAUSE: Duration = Duration::from_secs(4);
/// What a slow reader takes, and how often.
const SIP_BYTES: usize = 1400;
const SIP_EVERY: Duration = Duration::from_millis(700);
/// Packets that are begun again and again, and what lacks of each: together just below what may be unfinished.
const BEGUN: usize = 110;
const BEGUN_BYTES: usize = 127_000;
const LACKING_BYTES: usize = 600;
const BEGIN_EVERY: Duration = Duration::from_millis(300);

pub(super) fn list() -> Vec<Attack> {
    vec![
        Attack {
            seconds: 60,
            ..attack("3a", "300 that come back for what they have not acknowledged, and never read", unread)
        },
        attack("3b", "PINGREQ and PUBLISH without reading the answers", unanswered),
        Attack { short: true, ..attack("3c", "PUBLISH packets of 255 KiB that are never finished", partial) },
        attack("3d", "900 that do not read what fits into the kernel", kernel),
        attack("3e", "900 slow readers beside an honest one that pauses", slow_readers),
        attack("3f", "110 large packets begun again and again beside an honest slow one", begun_again),
    ]
}

fn unread(stage: &mut Stage) -> Result<()> {
    let count = 300;
    let mut crowd = Crowd::default();
    for n in 0..count {
        let mut client = stage.client_as(attacker(n), Hello::v3(&format!("deaf-{n}")).durable())?;
        client.subscribe(false, &["flood/#".to_owned()], 1)?;
        crowd.take_in(client.stream, Arc::from([]))?;
    }
    let mut publisher = stage.client_as(attacker(150), Hello::v3("flood"))?;
    let said = Publish::new("flood/x", &[b'x'; 60_000], 1).bytes();
    let mut acknowledged = 0;
    // They take everything and acknowledge nothing: it stays in flight.
    for _ in 0..60 {
        if stage.over() || publisher.send(&said).is_err() {
            break;
        }
        crowd.read_for(Duration::from_millis(20));
        acknowledged += usize::from(matches!(publisher.wait_for(4, ANSWER_MAX), Ok(Heard::Packet(..))));
    }
    crowd.read_for(Duration::from_secs(2));
    drop(crowd);
    let mut deaf = Vec::new();
    for n in 0..count {
        let mut stream = dial_narrow(attacker(n), stage.port)?;
        stream.write_all(&Hello::v3(&format!("deaf-{n}")).durable().bytes())?;
        deaf.push(stream);
    }
    stage.note(format!("{acknowledged} of 60 publishes of 60 kB acknowledged"));
    stage.rest(Duration::from_secs(5));
    Ok(())
}

fn unanswered(stage: &mut Stage) -> Result<()> {
    let mut crowd = Crowd::default();
    let out: Arc<[u8]> = (1..=4000_u16)
        .flat_map(|id| [PING.repeat(20), Publish::new("none/x", b"x", id).bytes()].concat())
        .collect::<Vec<u8>>()
        .repeat(20)
        .into();
    for n in 0..300 {
        let mut stream = dial_narrow(attacker(n), stage.port)?;
        stream.write_all(&Hello::v3(&format!("rude-{n}")).bytes())?;
        crowd.take_in(stream, Arc::clone(&out))?;
    }
    crowd.push(16 << 10, false, stage.until);
    stage.note(format!("{} MB taken, {} of 300 still connected", crowd.sent() / 1_000_000, crowd.open()));
    Ok(())
}

/// Subscribers of a flood, of so many addresses, whose kernel takes next to nothing that is not read.
fn deaf(stage: &Stage, count: usize, addresses: usize) -> Result<Vec<TcpStream>> {
    let one = |n: usize| {
        let mut stream = dial_narrow(attacker(n % addresses), stage.port)?;
        stream.write_all(&Hello::v3(&format!("deaf-{n}")).bytes())?;
        stream.write_all(&subscribe(false, 1, &["flood/#".to_owned()], 0))?;
        Ok(stream)
    };
    (0..count).map(one).collect()
}

/// What each is sent fits into the buffers of the kernel, so nothing waits in the gateway.
fn kernel(stage: &mut Stage) -> Result<()> {
    let deaf = deaf(stage, 900, usize::MAX)?;
    stage.rest(Duration::from_secs(1));
    let mut publisher = stage.client_as(attacker(150), Hello::v3("flood"))?;
    for id in 1..=8 {
        publisher.send(&Publish::new("flood/x", &[b'x'; 6000], id).bytes())?;
        publisher.wait_for(4, ANSWER_MAX)?;
    }
    let mut most = 0.0_f64;
    // Three looks, a second apart, are judged together.
    for _ in 0..12 {
        stage.rest(Duration::from_millis(500));
        most = most.max(stage.metric("listen_socket_bytes").unwrap_or(0.0));
    }
    let left = stage.metric("listen_socket_bytes").unwrap_or(f64::MAX);
    let closed = stage.metric("listen_relieved_total").unwrap_or(0.0);
    stage.note(format!(
        "at most {:.0} MiB in the kernel, {:.0} MiB after six seconds, {closed} of 900 closed",
        most / MIB,
        left / MIB
    ));
    stage.check("the kernel holds no more than a quarter of memory_max", left <= KERNEL_MIB * MIB);
    drop(deaf);
    Ok(())
}

fn partial(stage: &mut Stage) -> Result<()> {
    let count = stage.count(900, 600);
    let whole = packet(0x30, &[b'x'; 255 << 10]);
    let part: Arc<[u8]> = whole[..whole.len() - 1024].into();
    let mut crowd = Crowd::default();
    for n in 0..count {
        match stage.client_as(attacker(n), Hello::v3(&format!("half-{n}"))) {
            Ok(client) => crowd.take_in(client.stream, Arc::clone(&part))?,
            Err(_) if stage.over() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    crowd.push(PIECE, false, stage.until.min(Instant::now() + Duration::from_secs(10)));
    stage.note(format!("{} MB taken, {} of {count} still connected", crowd.sent() / 1_000_000, crowd.open()));
    stage.rest(Duration::from_secs(2));
    Ok(())
}

/// Reads a little from each, and forgets those that are closed.
fn sip(readers: &mut Vec<TcpStream>) {
    let mut buffer = [0; SIP_BYTES];
    readers.retain_mut(|reader| match reader.read(&mut buffer) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    });
}

/// They move a little all the time, so that they do not look like those that stand still.
fn slow_readers(stage: &mut Stage) -> Result<()> {
    let mut slow = deaf(stage, 900, 4)?;
    slow.iter().try_for_each(|reader| reader.set_nonblocking(true))?;
    stage.rest(Duration::from_secs(1));
    let mut honest = Client::on(dial_narrow(HOME, stage.port)?);
    honest.send(&Hello::v3("screen").bytes())?;
    honest.subscribe(false, &["screen/#".to_owned()], 0)?;
    let mut publisher = stage.client_as(attacker(150), Hello::v3("flood"))?;
    let mut say = |topic, bytes| {
        publisher.send(&Publish::new(topic, &vec![b'x'; bytes], 1).bytes())?;
        publisher.wait_for(4, ANSWER_MAX)
    };
    for _ in 0..8 {
        say("flood/x", 16_000)?;
    }
    say("screen/x", PICTURE_BYTES)?;
    let paused = Instant::now();
    while paused.elapsed() < PAUSE && !stage.over() {
        sip(&mut slow);
        say("flood/x", SIP_BYTES)?;
        stage.rest(SIP_EVERY);
    }
    let seen = honest.wait_for(3, ANSWER_MAX);
    let whole = matches!(&seen, Ok(Heard::Packet(_, body)) if body.len() > PICTURE_BYTES);
    let answered = honest.send(&PING).and_then(|()| honest.wait_for(13, ANSWER_MAX));
    let lives = matches!(answered, Ok(Heard::Packet(..)));
    for _ in 0..8 {
        sip(&mut slow);
        say("flood/x", SIP_BYTES)?;
        stage.rest(SIP_EVERY);
    }
    let left = stage.metric("listen_socket_bytes");
    stage.note(format!(
        "{} of 900 slow readers are left, {} in the kernel; the honest one {}",
        slow.len(),
        left.map_or("?".into(), |bytes| format!("{:.0} MiB", bytes / MIB)),
        if whole && lives { "has it all" } else { "is lost" }
    ));
    stage.check("who pauses for four seconds gets all and stays", whole && lives);
    let bounded = left.is_some_and(|bytes| bytes <= KERNEL_MIB * MIB);
    stage.check("the kernel holds no more than a quarter of memory_max", bounded);
    Ok(())
}

/// Clients that each hold a packet without its end, and begin another one as they end it; how often one was closed.
fn begin_again(port: u16, stop: &AtomicBool) -> usize {
    let whole = Publish { qos: 0, ..Publish::new("none/x", &[b'x'; BEGUN_BYTES], 0) }.bytes();
    let (start, end) = whole.split_at(whole.len() - LACKING_BYTES);
    let again = [end, start].concat();
    let come = |n: usize| {
        let mut client = Client::connect(attacker(n % 4), port, &Hello::v3(&format!("begun-{n}")))?;
        client.send(start).map(|()| client)
    };
    let mut members: Vec<_> = (0..BEGUN).map(|n| come(n).ok()).collect();
    let mut closed = 0;
    while !stop.load(Ordering::Relaxed) {
        for (n, member) in members.iter_mut().enumerate() {
            if member.as_mut().is_none_or(|client| client.send(&again).is_err()) {
                closed += 1;
                *member = come(n).ok();
            }
        }
        thread::park_timeout(BEGIN_EVERY);
    }
    closed
}

fn begun_again(stage: &mut Stage) -> Result<()> {
    let (port, stop) = (stage.port, AtomicBool::new(false));
    let (heard, closed) = thread::scope(|scope| {
        let others = scope.spawn(|| begin_again(port, &stop));
        stage.rest(Duration::from_secs(1));
        let heard = slow_sender(stage);
        stop.store(true, Ordering::Relaxed);
        (heard, others.join().unwrap_or(0))
    });
    stage.note(format!("the honest one is answered {heard:?}; others were closed {closed} times"));
    let crowded = stage.metric("broker_crowded_out_connections_total");
    let relieved = stage.metric("listen_relieved_total");
    stage.note(format!("closed by the bound: {crowded:?}, by the kernel's: {relieved:?}"));
    stage.check("who takes seconds for 200 kB is acknowledged", matches!(heard, Ok(Heard::Packet(..))));
    stage.check("the others came to the limit", closed > 0);
    Ok(())
}

/// A packet of 200 kB over a slow line.
fn slow_sender(stage: &Stage) -> std::io::Result<Heard> {
    let picture = Publish::new("picture", &[b'x'; 200_000], 1).bytes();
    let mut honest = stage.client("slow-line")?;
    let pieces = stage.count(60, 20);
    for (n, piece) in picture.chunks(picture.len() / pieces).enumerate() {
        let lost = |error| std::io::Error::other(format!("lost after {n} of {pieces} pieces: {error}"));
        honest.send(piece).map_err(lost)?;
        stage.rest(Duration::from_millis(100));
    }
    honest.wait_for(4, ANSWER_MAX)
}
