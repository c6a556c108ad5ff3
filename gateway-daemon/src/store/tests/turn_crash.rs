//! kill -9 among turns: what was answered is there, and no turn is there by half.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use gateway_core::broker::{Change, FactKind};

use super::turns::{delete, done, fact, facts, insert, put, seqs};
use super::*;

/// Names the database for the child process.
const CHILD: &str = "TIDEGATE_STORE_TURNS_CHILD";
/// Turns after which a turn's traces are removed.
const LIFE: u64 = 40;
const CLIENTS: [&str; 3] = ["one", "two/2", "three"];

/// Turn `number`: rows of its own number in each queue, facts that bear it, and the traces of an old turn go.
fn turn(number: u64) -> Vec<Change> {
    let mut changes: Vec<_> = CLIENTS.iter().map(|client| insert(client, number)).collect();
    changes.push(put(FactKind::Session, "last", &number.to_le_bytes()));
    changes.push(put(FactKind::Received, &format!("{number:08}"), &[7; 40]));
    if let Some(old) = number.checked_sub(LIFE) {
        changes.extend(CLIENTS.iter().map(|client| delete(client, 1, old)));
        changes.push(Change::Remove { fact: fact(FactKind::Received, &format!("{old:08}")) });
    }
    changes
}

/// Commits turns and prints what was answered, until killed; an uplink commits at the same time. Runs as a test that does nothing unless it
/// is the child.
#[tokio::test]
async fn child_takes_turns_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = Store::open(&settings(Path::new(&path))).await;
    let (cloud, stored) = store.open_queue("cloud").await;
    let mut row_of_uplink = stored.last.0;
    let mut number = seqs(&store, CLIENTS[0]).await.last().copied().unwrap_or(0);
    loop {
        number += 1;
        row_of_uplink += 1;
        let uplink = store.apply(cloud, commit(rows(row_of_uplink..=row_of_uplink)));
        let ((), event) = tokio::join!(done(&store, turn(number)), uplink);
        assert!(matches!(event, StoreEvent::Committed { .. }), "{event:?}");
        println!("\ndone {number} {row_of_uplink}");
    }
}

#[tokio::test]
async fn a_turn_that_was_answered_is_there_after_kill_9_and_none_is_there_by_half() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let (mut answered, mut answered_uplink) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::turn_crash::child_takes_turns_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .env_remove("TIDEGATE_ROUNDS")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = 0;
        let mut killed = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The pipe may end in the middle of a line: only whole numbers that grew count.
            let Ok(line) = line else { break };
            let mut words = line.split(' ');
            if words.next() != Some("done") {
                continue;
            }
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            answered = answered.max(number());
            answered_uplink = answered_uplink.max(number());
            answers += 1;
            if !killed && answers > 23 + round * 31 % 97 {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let store = Store::open(&settings(&path)).await;
        assert_eq!((store.health().fault, store.health().counters.moved_aside), (None, 0));
        let found = facts(&store).await;
        let last = found.iter().find(|(fact, _)| fact.kind == FactKind::Session).expect("a turn was done");
        let last = u64::from_le_bytes(last.1[..].try_into().unwrap());
        assert!(last >= answered, "round {round}: turn {last} is the last, {answered} was answered");
        assert!(last <= answered + 2, "round {round}: turn {last} was never asked");
        let alive: Vec<u64> = (last.saturating_sub(LIFE) + 1..=last).collect();
        for client in CLIENTS {
            assert_eq!(seqs(&store, client).await, alive, "round {round}: the rows of turn {last}, no more");
        }
        let received: Vec<_> = found
            .iter()
            .filter(|(fact, _)| fact.kind == FactKind::Received)
            .map(|(fact, _)| fact.clone())
            .collect();
        let expected: Vec<_> =
            alive.iter().map(|number| fact(FactKind::Received, &format!("{number:08}"))).collect();
        assert_eq!(received, expected, "round {round}");
        let (queue, _) = store.open_queue("cloud").await;
        let uplink = fetched(&store, queue).await.len() as u64;
        assert!(uplink >= answered_uplink, "round {round}");
        assert_eq!(store.health().counters.facts_lost + store.health().counters.rows_lost, 0);
        store.close().await.unwrap();
    }
}
