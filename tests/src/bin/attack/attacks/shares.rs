//! 12: totals that one address takes, and what is left for others.

use std::io;

use anyhow::Result;

use super::super::client::{Client, HOME, Heard};
use super::super::judge::Attack;
use super::super::stage::{ANSWER_MAX, Stage, attacker};
use super::attack;
use tidegate_tests::packets::{self, Hello, Will, session_expiry, will_delay};

/// Bodies of wills, until none of that size is taken: less and less is left.
const WILL_BYTES: [usize; 4] = [65_000, 8000, 500, 10];
/// Most wills of one size; a gateway that takes so many has no total.
const WILLS_MAX: usize = 400;
/// Sessions of one address, and the filters of each.
const SESSIONS: usize = 12;
const FILTERS: usize = 2000;

pub(super) fn list() -> Vec<Attack> {
    let short = |key, name, run| Attack { short: true, seconds: 60, restarts: 0, ..attack(key, name, run) };
    vec![
        short("12b", "delayed wills of one address, then a client with a will", wills),
        short(
            "12c",
            "2,000 filters in each of twelve sessions of one address, then a client with one",
            filters,
        ),
    ]
}

/// Tries beside those who took all, after they are gone, and after kill -9.
fn others(
    stage: &mut Stage,
    taken: Vec<Client>,
    what: &str,
    honest: fn(&Stage) -> io::Result<bool>,
) -> Result<()> {
    let mut ways = Vec::new();
    let mut ask = |stage: &mut Stage, when: &str| {
        let granted = honest(stage).unwrap_or(false);
        ways.push(format!("{when}: {}", if granted { "yes" } else { "no" }));
        stage.check(&format!("somebody elsewhere {what} {when}"), granted);
    };
    ask(stage, "beside them");
    drop(taken);
    ask(stage, "once they are gone");
    stage.kill();
    stage.start()?;
    ask(stage, "after kill -9");
    stage.note(format!("somebody elsewhere {what}: {}", ways.join(", ")));
    Ok(())
}

fn wills(stage: &mut Stage) -> Result<()> {
    let mut taken = Vec::new();
    for bytes in WILL_BYTES {
        for _ in 0..WILLS_MAX {
            let id = format!("testator-{}", taken.len());
            let will = Will {
                topic: "late/will",
                payload: &vec![b'x'; bytes],
                flags: 0,
                properties: will_delay(3600),
            };
            let hello = Hello { will: Some(will), properties: session_expiry(7200), ..Hello::v5(&id) };
            let (client, heard) = Client::hello(attacker(0), stage.port, &hello, ANSWER_MAX)?;
            if !heard.lets_in() || stage.over() {
                break;
            }
            taken.push(client);
        }
    }
    stage.note(format!("{} wills of one address", taken.len()));
    others(stage, taken, "leaves a will", |stage| {
        let will = Will { topic: "alarm/honest", payload: b"gone", flags: 0, properties: Vec::new() };
        let hello = Hello { will: Some(will), ..Hello::v3("mortal") };
        let (_, heard) = Client::hello(HOME, stage.port, &hello, ANSWER_MAX)?;
        Ok(heard.lets_in())
    })
}

fn filters(stage: &mut Stage) -> Result<()> {
    let (mut taken, mut granted) = (Vec::new(), 0);
    for n in 0..SESSIONS {
        let mut client = stage.client_as(attacker(0), Hello::v3(&format!("hoarder-{n}")).durable())?;
        let filters: Vec<String> = (0..FILTERS).map(|m| format!("{:x}", n * FILTERS + m)).collect();
        for part in filters.chunks(500) {
            client.send(&packets::subscribe(false, 1, part, 1))?;
            let Heard::Packet(_, codes) = client.wait_for(9, ANSWER_MAX)? else { break };
            granted += codes.iter().skip(2).filter(|code| **code < 3).count();
        }
        taken.push(client);
    }
    stage.note(format!("{granted} of {} filters of one address granted", SESSIONS * FILTERS));
    others(stage, taken, "gets a filter", |stage| {
        let code = stage.client("small")?.subscribe(false, &["small/+/x".to_owned()], 1)?;
        Ok(code == Some(1))
    })
}
