//! 10, 11, 14, 16, 21 and 22: who may do what, and what a client is told.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use super::super::client::{Client, HOME, Heard, host};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Needs, PASSWORD, Stage, attacker};
use super::{NEEDS, attack};
use tidegate_tests::packets::{Hello, Publish, WILL_RETAIN, Will, maximum_packet};

pub(super) fn list() -> Vec<Attack> {
    let users = Needs { users: true, ..NEEDS };
    let rules = Needs { alice: "deny = [\"publish secret/#\", \"subscribe secret/#\"]\n", ..users };
    let mixed = Needs { anonymous: true, ..users };
    let once = |key, name, run| Attack { short: true, restarts: 0, ..attack(key, name, run) };
    vec![
        Attack { needs: rules, ..once("10", "a will that its user may not publish", forbidden_will) },
        Attack { needs: mixed, ..once("11", "another user's client id", foreign_session) },
        once("14", "limits that do not fit the file", limits),
        Attack { needs: users, ..once("16", "a wrong password leaves a line in the log", log) },
        once("21", "CONNECT with Maximum Packet Size 2, 10 and 15", small_packets),
        once("22a", "a user name at an open listener, and a bridge", credentials),
        Attack { needs: rules, ..once("22b", "# by somebody with a deny", everything_but) },
    ]
}

/// What a new connection is told: the code of its CONNACK, or `None` for a close or silence.
fn code(stage: &Stage, hello: &Hello<'_>) -> Option<u8> {
    match Client::hello(HOME, stage.port, hello, ANSWER_MAX) {
        Ok((_, Heard::Packet(0x20, body))) => body.get(1).copied(),
        _ => None,
    }
}

fn forbidden_will(stage: &mut Stage) -> Result<()> {
    let mut bob = stage.client("watcher")?;
    bob.subscribe(false, &["secret/#".to_owned()], 1)?;
    let will = Will { topic: "secret/will", payload: b"boo", flags: WILL_RETAIN, properties: Vec::new() };
    let hello = Hello { will: Some(will), ..Hello::v3("mortal").durable().user("alice", PASSWORD) };
    let (mut client, heard) = Client::hello(HOME, stage.port, &hello, ANSWER_MAX)?;
    stage.note(format!("CONNECT with it is answered by {heard:?}"));
    if heard == Heard::Packet(0x20, vec![0, 0]) {
        // SUBACK comes when the session, and its will with it, is on disk.
        client.subscribe(false, &["own/#".to_owned()], 1)?;
    }
    stage.kill();
    drop(client);
    stage.start()?;
    let mut bob = stage.client("watcher")?;
    bob.subscribe(false, &["secret/#".to_owned()], 1)?;
    let heard = bob.wait_for(3, Duration::from_secs(4))?;
    stage.check("it is not published after kill -9, nor retained", !matches!(heard, Heard::Packet(..)));
    Ok(())
}

fn foreign_session(stage: &mut Stage) -> Result<()> {
    let mut alice = Client::connect(HOME, stage.port, &Hello::v3("board").durable().user("alice", PASSWORD))?;
    alice.subscribe(false, &["board/#".to_owned()], 1)?;
    let bob = code(stage, &Hello::v3("board").user("bob", PASSWORD));
    let nobody = code(stage, &Hello::v3("board"));
    stage.note(format!("bob is answered {bob:?}, nobody {nobody:?}"));
    stage.check("another user is refused", bob == Some(5));
    stage.check("an anonymous client is refused", nobody == Some(5));
    let mut publisher = stage.client("publisher")?;
    publisher.send(&Publish::new("board/x", b"x", 1).bytes())?;
    let heard = alice.wait_for(3, Duration::from_secs(4));
    stage.check("the session goes on", matches!(heard, Ok(Heard::Packet(..))));
    Ok(())
}

fn limits(stage: &mut Stage) -> Result<()> {
    let file = tempfile::NamedTempFile::with_suffix(".toml")?;
    std::fs::write(
        file.path(),
        "[gateway]\nid = \"gw\"\n[store]\nfile_max = \"512MB\"\n[broker]\n[broker.limits]\nstored_bytes_total_max = \"512MiB\"\n\
         [uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\nqueue = { bytes_max = \"256MB\" }\n",
    )?;
    let mut check = Command::new(&stage.setup.daemon);
    let output = check.arg("check").arg(file.path()).stdin(Stdio::null()).output()?;
    stage.note(format!("check ends with {}", output.status));
    stage.check("check refuses queues that do not fit the file", output.status.code() == Some(78));
    Ok(())
}

fn log(stage: &mut Stage) -> Result<()> {
    let hello = Hello::v3("intruder").user("alice", "zyzzyva-17");
    let (_, heard) = Client::hello(host(7), stage.port, &hello, ANSWER_MAX)?;
    stage.check(
        "it is refused",
        matches!(heard, Heard::Packet(0x20, body) if body.get(1).is_some_and(|c| *c > 0)),
    );
    stage.rest(Duration::from_secs(1));
    let log = stage.log();
    let named = log.lines().filter(|line| line.contains("127.0.0.7")).collect::<Vec<_>>();
    stage.note(format!("the log: {named:?}"));
    let both = named.iter().any(|line| line.contains("alice"));
    stage.check("the log names address and user", both);
    stage.check("the log does not name the password", !log.contains("zyzzyva-17"));
    Ok(())
}

fn small_packets(stage: &mut Stage) -> Result<()> {
    for bytes in [2, 10, 15, 20] {
        let hello = Hello { properties: maximum_packet(bytes), ..Hello::v5("small") };
        let (_, heard) = Client::hello(attacker(0), stage.port, &hello, Duration::from_secs(5))?;
        let fits = match &heard {
            Heard::Packet(0x20, body) => body.len() + 2 <= bytes as usize,
            Heard::Closed => true,
            _ => false,
        };
        stage.note(format!("{bytes}: {heard:?}"));
        stage.check(&format!("a client that takes {bytes} bytes is answered within them or closed"), fits);
    }
    Ok(())
}

fn credentials(stage: &mut Stage) -> Result<()> {
    let named = code(stage, &Hello::v3("named").user("somebody", "something"));
    stage.check("an open listener ignores user and password", named == Some(0));
    let bridge = code(stage, &Hello { level: 0x84, ..Hello::v3("bridge") });
    stage.check("a bridge of mosquitto comes in at its first try", bridge == Some(0));
    stage.note(format!("with a user {named:?}, a bridge {bridge:?}"));
    Ok(())
}

fn everything_but(stage: &mut Stage) -> Result<()> {
    let mut alice = Client::connect(HOME, stage.port, &Hello::v3("all").user("alice", PASSWORD))?;
    let granted = alice.subscribe(false, &["#".to_owned()], 1)?;
    let mut bob = stage.client("publisher")?;
    bob.send(&Publish::new("secret/x", b"secret", 1).bytes())?;
    bob.wait_for(4, ANSWER_MAX)?;
    bob.send(&Publish::new("open/x", b"open", 2).bytes())?;
    let (mut open, mut secret) = (false, false);
    for _ in 0..200 {
        let Heard::Packet(_, body) = alice.wait_for(3, Duration::from_secs(3))? else { break };
        secret |= body.ends_with(b"secret");
        open |= body.ends_with(b"open");
        if open {
            break;
        }
    }
    stage.note(format!("SUBACK {granted:?}"));
    stage.check("it is granted", granted.is_some_and(|code| code < 0x80));
    stage.check("what is allowed comes and what is denied does not", open && !secret);
    Ok(())
}
