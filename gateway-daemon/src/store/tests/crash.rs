//! kill -9 at random moments, and logs cut short as by a power cut.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::store::aside::beside;

/// Names the database for the child process.
const CHILD: &str = "TIDEGATE_STORE_CHILD";

/// Commits and prints what was answered, until killed. Runs as a test that does nothing unless it is the child.
#[tokio::test]
async fn child_commits_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = Store::open(&settings(Path::new(&path))).await;
    let (queue, stored) = store.open_queue("cloud").await;
    println!("\nopen {} {}", stored.first.0, stored.last.0);
    let mut next = stored.last.0 + 1;
    loop {
        let upto = next + next % 7;
        committed(&store, queue, commit(rows(next..=upto))).await;
        println!("\nstored {upto}");
        next = upto + 1;
        if next.is_multiple_of(5) && next > 100 {
            committed(&store, queue, acked(1, next - 100)).await;
            println!("\ndeleted {}", next - 100);
        }
    }
}

#[tokio::test]
async fn what_was_answered_as_committed_is_there_after_kill_9() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let (mut stored_to, mut deleted_to) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .env_remove("TIDEGATE_ROUNDS")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answers = 0;
        let mut killed = false;
        for line in lines {
            // The pipe may end in the middle of a line: only whole numbers that grew count.
            let Ok(line) = line else { break };
            match line.split_once(' ') {
                Some(("stored", seq)) => stored_to = seq.parse::<u64>().unwrap_or(0).max(stored_to),
                Some(("deleted", seq)) => deleted_to = seq.parse::<u64>().unwrap_or(0).max(deleted_to),
                _ => continue,
            }
            answers += 1;
            if !killed && answers > 17 + round * 29 % 83 {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let store = Store::open(&settings(&path)).await;
        assert_eq!(store.health().fault, None);
        assert_eq!(store.health().counters.moved_aside, 0);
        let (queue, stored) = store.open_queue("cloud").await;
        let found = fetched(&store, queue).await;
        assert!(stored.last.0 >= stored_to, "round {round}: {stored:?}, answered up to {stored_to}");
        assert!(
            stored.first.0 <= deleted_to + 1 + 8 || deleted_to == 0,
            "round {round}: {stored:?}, deleted up to {deleted_to}"
        );
        assert_eq!(found, rows(stored.first.0..=stored.last.0), "whole ops, no holes, no rot");
        deleted_to = stored.first.0 - 1;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_cut_short_holds_whole_batches_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    for batch in 0..12 {
        committed(&store, queue, commit(rows(batch * 10 + 1..=batch * 10 + 10))).await;
    }
    assert_eq!(store.health().counters.checkpoints, 0);
    let (database, log) = (std::fs::read(&path).unwrap(), std::fs::read(beside(&path, "-wal")).unwrap());
    let mut found = std::collections::BTreeSet::new();
    for cut in 0..=24 {
        let copy = folder.path().join(format!("copy{cut}.db"));
        std::fs::write(&copy, &database).unwrap();
        let mut log = log[..log.len() * cut / 24].to_vec();
        if cut % 2 == 1 {
            // The last block was written in part.
            let end = log.len();
            log[end.saturating_sub(700)..].fill(0x5A);
        }
        std::fs::write(beside(&copy, "-wal"), log).unwrap();
        let store = Store::open(&settings(&copy)).await;
        let (queue, _) = store.open_queue("cloud").await;
        let rows_found = fetched(&store, queue).await;
        assert_eq!(rows_found.len() % 10, 0);
        assert_eq!(rows_found, rows(1..=rows_found.len() as u64));
        found.insert(rows_found.len());
        store.close().await.unwrap();
    }
    assert!(found.len() > 8 && found.contains(&120), "{found:?}");
}
