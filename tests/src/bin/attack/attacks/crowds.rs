//! 6, 7, 12 and 13: many connections, sessions and messages of one that others have to live beside.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::client::{Client, Crowd, HOME, Heard, host, knock};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, PASSWORD, Stage, attacker};
use super::super::tls;
use super::{NEEDS, attack};
use tidegate_tests::packets::{self, Hello, Publish, answer};

/// Longest wait of a right log-in beside an attack that is no failure.
const LOGIN_MAX: Duration = Duration::from_secs(3);

pub(super) fn list() -> Vec<Attack> {
    let users = Needs { users: true, ..NEEDS };
    let small = Needs { store: "file_max = \"1MB\"\n", ..NEEDS };
    let few = Needs { files: Some(64), ..NEEDS };
    let listeners = Needs { listeners: true, ..NEEDS };
    let long = |key, name, run| Attack { seconds: 60, ..attack(key, name, run) };
    vec![
        Attack { needs: small, ..long("6a", "half-closed connections while the store is full", half_closed) },
        Attack { needs: few, ..long("6b", "200 connections and 64 file descriptors", descriptors) },
        Attack { short: true, ..long("7a", "5,000 idle connections from one address", idle) },
        Attack {
            needs: users,
            ..long("7b", "guesses from one address beside right log-ins", guesses_of_one)
        },
        Attack {
            needs: users,
            ..long("7c", "guesses from 50 addresses beside right log-ins", guesses_of_many)
        },
        Attack {
            short: true,
            needs: listeners,
            ..long("7d", "1,500 handshakes of TLS from one address, always new ones", handshakes)
        },
        Attack { short: true, ..long("12", "2,000 persistent sessions, then a new client", sessions) },
        long("13a", "two sessions with 131,072 unreleased messages of QoS 2", unreleased),
        long("13b", "ten slow readers hold 32 MiB, an idle one waits", slow_readers),
    ]
}

/// Whether somebody new comes in, and how long it takes.
fn comes_in(stage: &mut Stage, id: &str, wait: Duration) -> bool {
    let mut hello = Hello::v3(id);
    if stage.needs.users {
        hello.user = Some(("bob", PASSWORD));
    }
    let port = stage.port;
    comes_in_by(stage, id, wait, |wait| {
        Client::hello(HOME, port, &hello, wait).is_ok_and(|(_, heard)| heard.lets_in())
    })
}

/// The same with a way in that says whether it led inside.
fn comes_in_by(stage: &mut Stage, id: &str, wait: Duration, way: impl Fn(Duration) -> bool) -> bool {
    // The short form runs on busy machines, and asks only whether.
    let wait = if stage.setup.short { ANSWER_MAX } else { wait };
    let began = Instant::now();
    let mut inside = false;
    while !inside && began.elapsed() < wait && !stage.is_gone() {
        inside = way(wait) && began.elapsed() < wait;
        if !inside {
            stage.rest(Duration::from_millis(100));
        }
    }
    stage.note(format!(
        "{id}: {} {:.2} s",
        if inside { "in after" } else { "not in within" },
        began.elapsed().as_secs_f64()
    ));
    inside
}

fn half_closed(stage: &mut Stage) -> Result<()> {
    // A queue that fills the store: its reader is away.
    let mut away = stage.client_as(attacker(1), Hello::v3("away").durable())?;
    away.subscribe(false, &["wanted/#".to_owned()], 1)?;
    drop(away);
    let out: Arc<[u8]> = (1..=200_u16)
        .flat_map(|id| Publish::new("wanted/x", &[b'x'; 20_000], id).bytes())
        .collect::<Vec<u8>>()
        .into();
    for round in 0..7 {
        let mut crowd = Crowd::default();
        for n in 0..190 {
            let Ok(client) = stage.client_as(attacker(n), Hello::v3(&format!("half-{round}-{n}"))) else {
                break;
            };
            crowd.take_in(client.stream, Arc::clone(&out))?;
        }
        crowd.push(64 << 10, true, Instant::now() + Duration::from_secs(2));
        crowd.half_close();
        drop(crowd);
    }
    stage.rest(Duration::from_secs(2));
    let inside = comes_in(stage, "new", Duration::from_secs(10));
    stage.check("somebody new comes in while the store is full", inside);
    Ok(())
}

fn descriptors(stage: &mut Stage) -> Result<()> {
    let mut crowd = Crowd::default();
    for n in 0..200 {
        crowd.join(attacker(n), stage.port, Hello::v3(&format!("many-{n}")).bytes().into())?;
    }
    crowd.push(4096, true, Instant::now() + Duration::from_secs(3));
    let readings = stage.cloud.readings();
    stage.rest(Duration::from_secs(5));
    let grown = stage.cloud.readings() - readings;
    stage.note(format!("{grown} readings reached the cloud in 5 s"));
    stage.check("readings go on to the cloud", grown > 100);
    drop(crowd);
    let inside = comes_in(stage, "new", Duration::from_secs(15));
    stage.check("somebody new comes in once they are gone", inside);
    Ok(())
}

fn idle(stage: &mut Stage) -> Result<()> {
    let count = stage.count(5000, 2000);
    let mut crowd = Crowd::default();
    for _ in 0..count {
        if stage.over() || crowd.join(host(9), stage.port, [].into()).is_err() {
            break;
        }
    }
    stage.note(format!("{} connections from one address", crowd.open()));
    let inside = comes_in(stage, "new", LOGIN_MAX);
    stage.check("somebody from another address comes in beside them", inside);
    crowd.read_for(Duration::from_secs(1));
    Ok(())
}

/// Keeps so many connections open that say nothing, and has another one for each that is closed; how many it began.
fn silent_ones(port: u16, count: usize, stop: &AtomicBool) -> usize {
    let is_open = |mut stream: &TcpStream| match stream.read(&mut [0; 64]) {
        Ok(read) => read > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
    };
    let (mut open, mut begun) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        open.retain(is_open);
        for _ in 0..(count - open.len()).min(50) {
            begun += 1;
            open.extend(knock(host(9), port));
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    begun
}

fn handshakes(stage: &mut Stage) -> Result<()> {
    let (config, count) = (tls::config(stage)?, stage.count(1500, 600));
    let (port, stop) = (stage.tls_port, AtomicBool::new(false));
    let (inside, begun) = thread::scope(|scope| {
        let others = scope.spawn(|| silent_ones(port, count, &stop));
        stage.rest(Duration::from_secs(2));
        let inside = (0..3).all(|n| {
            let id = format!("new-{n}");
            comes_in_by(stage, &id, LOGIN_MAX, |wait| {
                let tls = tls::dial_tls(HOME, port, &config);
                let heard = tls.and_then(|tls| Ok(Client::on(tls).greet(&Hello::v3(&id), wait)?));
                heard.is_ok_and(|heard| heard.lets_in())
            })
        });
        stop.store(true, Ordering::Relaxed);
        (inside, others.join().unwrap_or(0))
    });
    stage.note(format!("{begun} connections of one address"));
    stage.check("somebody from another address comes in beside them", inside);
    stage.check("they took all there was", begun > count);
    Ok(())
}

/// Guesses all the time from these hosts while the right log-ins of others are measured.
fn guesses(stage: &mut Stage, hosts: usize, each: usize) -> Result<()> {
    let guess: Arc<[u8]> = Hello::v3("guess").user("bob", "wrong").bytes().into();
    let mut crowds = Vec::new();
    let (mut right, mut slowest) = (0, Duration::ZERO);
    for turn in 0..10 {
        let mut crowd = Crowd::default();
        for n in 0..hosts * each {
            // Who is refused at once does no harm.
            let _ = crowd.join(attacker(n % hosts), stage.port, Arc::clone(&guess));
        }
        crowd.push(4096, true, Instant::now() + Duration::from_millis(200));
        crowds.push(crowd);
        let began = Instant::now();
        let id = format!("right-{turn}");
        let heard = Client::hello(HOME, stage.port, &Hello::v3(&id).user("alice", PASSWORD), ANSWER_MAX);
        right += usize::from(matches!(heard, Ok((_, Heard::Packet(0x20, body))) if body.get(1) == Some(&0)));
        slowest = slowest.max(began.elapsed());
        if stage.over() {
            break;
        }
    }
    stage.note(format!("{right} of 10 right log-ins, the slowest after {:.2} s", slowest.as_secs_f64()));
    stage.check("every right log-in from elsewhere succeeds", right == 10);
    Ok(())
}

fn guesses_of_one(stage: &mut Stage) -> Result<()> {
    guesses(stage, 1, 60)
}

fn guesses_of_many(stage: &mut Stage) -> Result<()> {
    guesses(stage, 50, 2)
}

fn sessions(stage: &mut Stage) -> Result<()> {
    let (began, mut made) = (Instant::now(), 0);
    for n in 0..2100 {
        let id = format!("squatter-{n}");
        let Ok(mut client) = stage.client_as(host(9), Hello::v3(&id).durable()) else { continue };
        // With a subscription each, so that it is no empty session that may be forgotten.
        client.send(&packets::subscribe(false, 1, &[format!("squat/{n}")], 1))?;
        made += usize::from(matches!(client.wait_for(9, ANSWER_MAX), Ok(Heard::Packet(..))));
        if stage.over() {
            break;
        }
    }
    stage.note(format!("{made} sessions in {:.1} s", began.elapsed().as_secs_f64()));
    let inside = comes_in(stage, "new", LOGIN_MAX);
    stage.check("a new client from another address comes in", inside);
    Ok(())
}

fn unreleased(stage: &mut Stage) -> Result<()> {
    for part in 0..3 {
        let mut crowd = Crowd::default();
        let out: Arc<[u8]> = (1..=u16::MAX)
            .flat_map(|id| Publish { qos: 2, ..Publish::new("none/x", b"", id) }.bytes())
            .collect::<Vec<u8>>()
            .into();
        let client = stage.client_as(attacker(part), Hello::v3(&format!("keeper-{part}")).durable())?;
        crowd.take_in(client.stream, out)?;
        crowd.push(64 << 10, true, Instant::now() + Duration::from_secs(8));
        crowd.read_for(Duration::from_secs(1));
    }
    let mut honest = stage.client("honest")?;
    let mut done = 0;
    for id in 1..=20 {
        honest.send(&Publish { qos: 2, ..Publish::new("honest/x", b"x", id) }.bytes())?;
        let received = honest.wait_for(5, ANSWER_MAX)?;
        honest.send(&answer(0x62, id))?;
        let completed = honest.wait_for(7, ANSWER_MAX)?;
        done += u32::from(matches!((received, completed), (Heard::Packet(..), Heard::Packet(..))));
        if done == 0 {
            break;
        }
    }
    stage.note(format!("{done} of 20 messages of QoS 2 of somebody else"));
    stage.check("somebody else still publishes with QoS 2", done == 20);
    Ok(())
}

fn slow_readers(stage: &mut Stage) -> Result<()> {
    let mut slow = Vec::new();
    for n in 0..10 {
        let mut client = stage.client_as(attacker(n), Hello::v3(&format!("slow-{n}")))?;
        client.subscribe(false, &[format!("bulk/{n}")], 1)?;
        slow.push(client);
    }
    let mut idle = stage.client("idle")?;
    idle.subscribe(false, &["few/#".to_owned()], 1)?;
    let mut publisher = stage.client_as(attacker(50), Hello::v3("bulk"))?;
    // Ever smaller ones, so that nothing is left of what all may hold together.
    for (bytes, count) in [(50_000, 90), (5_000, 20), (500, 20), (50, 20), (1, 20)] {
        for topic in (0..10).map(|n| format!("bulk/{n}")) {
            for _ in 0..count {
                publisher.send(&Publish::new(&topic, &vec![b'x'; bytes], 1).bytes())?;
                publisher.wait_for(4, ANSWER_MAX)?;
                if stage.over() {
                    return Ok(());
                }
            }
        }
    }
    let (mut acknowledged, mut heard) = (0, 0);
    for id in 1..=20 {
        publisher.send(&Publish::new("few/x", b"x", id).bytes())?;
        acknowledged += u32::from(matches!(publisher.wait_for(4, ANSWER_MAX)?, Heard::Packet(..)));
        heard += u32::from(matches!(idle.wait_for(3, Duration::from_secs(1))?, Heard::Packet(..)));
    }
    stage.note(format!("{acknowledged} of 20 acknowledged, {heard} reached the idle reader"));
    stage.check("an idle reader gets what was acknowledged", heard == 20 && acknowledged == 20);
    drop(slow);
    Ok(())
}
