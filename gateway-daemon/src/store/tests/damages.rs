//! Every kind of damage to a database at rest: each row is kept or counted, none is wrong, none comes back that was deleted.

use std::collections::BTreeSet;
use std::path::PathBuf;

use gateway_core::broker::{Answer, Change, FactKey, FactKind, Turn};
use gateway_core::uplink::row::{Blame, Mark};

use super::damage::scribble;
use super::*;
use crate::store::aside::{self, beside};

const LOCAL: &str = "local/hmi";

/// A database of two queues and facts, and which rows are in it. Rows 1 to 413 were stored, in the middle of the way 1 to 13 and 200 to 212 were acknowledged; each twentieth is
/// longer than a page, and two are set aside.
struct Base {
    folder: tempfile::TempDir,
    live: BTreeSet<u64>,
    local: BTreeSet<u64>,
}

fn base_row(seq: u64) -> Arc<Row> {
    row_of(seq, Priority::Normal, if seq.is_multiple_of(20) { 1500 } else { 80 })
}

fn local_row(seq: u64) -> Arc<Row> {
    Arc::new(Row { topic: format!("line/{seq}").into(), ..(*base_row(seq)).clone() })
}

fn fact(topic: u64) -> FactKey {
    FactKey { kind: FactKind::Retained, key: format!("plant/{topic:03}").into_bytes().into() }
}

async fn turn(store: &Store, changes: Vec<Change>) {
    assert!(matches!(store.turn(Turn { number: 1, changes }).await, Answer::Done { .. }));
}

impl Base {
    /// All in the database file; `logged`: the last hundred rows and an acknowledgement are in the log, as after kill -9.
    async fn make(logged: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work.db");
        let store = Store::open(&settings(&work)).await;
        let (queue, _) = store.open_queue("cloud").await;
        let upto = if logged { 313 } else { 413 };
        for first in (1..=upto).step_by(10) {
            committed(&store, queue, commit((first..(first + 10).min(upto + 1)).map(base_row).collect()))
                .await;
        }
        let mark = |seq| Arc::new(Mark::of(&base_row(seq), Blame::Cut, &"broker.example".into()));
        let set = vec![mark(100), mark(250)];
        committed(&store, queue, StoreOp::Mark { op: 5, set, clear: Vec::new() }).await;
        committed(&store, queue, acked(200, 212)).await;
        let mut changes: Vec<_> =
            (1..=60).map(|seq| Change::Insert { queue: LOCAL.into(), row: local_row(seq) }).collect();
        changes.extend((0..200).map(|topic| Change::Put { fact: fact(topic), value: vec![7; 60].into() }));
        turn(&store, changes).await;
        if !logged {
            committed(&store, queue, acked(1, 13)).await;
        }
        store.close().await.unwrap();
        let base = folder.path().join("base.db");
        if logged {
            let store = Store::open(&settings(&work)).await;
            let (queue, _) = store.open_queue("cloud").await;
            for first in (314..=413).step_by(10) {
                committed(&store, queue, commit((first..first + 10).map(base_row).collect())).await;
            }
            committed(&store, queue, acked(1, 13)).await;
            std::fs::copy(&work, &base).unwrap();
            std::fs::copy(beside(&work, "-wal"), beside(&base, "-wal")).unwrap();
            store.close().await.unwrap();
        } else {
            aside::rename(&work, &base).unwrap();
        }
        let live = (14..=413).filter(|seq| !(200..=212).contains(seq)).collect();
        Self { folder, live, local: (1..=60).collect() }
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("base.db")).unwrap()
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(beside(&self.folder.path().join("base.db"), "-wal")).unwrap_or_default()
    }

    /// A copy of the database that may be hurt.
    fn copy(&self) -> PathBuf {
        let path = self.folder.path().join("copy.db");
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap().path();
            if entry.file_name().unwrap().to_str().unwrap().starts_with("copy.db") {
                std::fs::remove_file(entry).unwrap();
            }
        }
        std::fs::write(&path, self.file()).unwrap();
        std::fs::write(beside(&path, "-wal"), self.log()).unwrap();
        path
    }

    /// Opens what is left, checks the promise, and says what came of it.
    async fn open(&self, name: &str, path: &Path) -> Outcome {
        let store = Store::open(&settings(path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        let rows = loop {
            match store.apply(queue, fetch_all()).await {
                StoreEvent::Fetched { rows, .. } => break rows,
                _ => drop(store.next_reset().await),
            }
        };
        let mut out = Outcome::default();
        for row in &rows {
            let seq = row.seq.0;
            let expected = base_row(seq);
            assert_eq!(**row, *expected, "{name}: a wrong row is never given out");
            if self.live.contains(&seq) { out.kept += 1 } else { out.back += 1 }
        }
        let found = store.found(sieve()).await;
        let local = found.queues.iter().find(|(queue, _)| &**queue == LOCAL);
        out.kept_local = local.map_or(0, |(_, stored)| stored.normal.rows);
        assert!(out.kept_local <= self.local.len() as u64, "{name}");
        out.facts = found
            .facts
            .iter()
            .filter(|(key, value)| {
                assert!(
                    key.kind == FactKind::Retained && **value == [7; 60],
                    "{name}: a wrong fact is never given out"
                );
                true
            })
            .count() as u64;
        out.marks = store.set_aside("cloud").await.len() as u64;
        let health = store.health();
        assert_eq!(health.fault, None, "{name}");
        out.kept_elsewhere = health.rows - health.local_rows - rows.len() as u64;
        let counters = health.counters;
        (out.lost, out.unknown) = (counters.rows_lost, counters.losses_unknown);
        out.facts_lost = counters.facts_lost;
        store.close().await.unwrap();
        out
    }

    fn rows(&self) -> u64 {
        (self.live.len() + self.local.len()) as u64
    }

    /// Whether each row was kept or counted.
    fn holds(&self, out: &Outcome) -> bool {
        let kept = out.kept + out.kept_local + out.kept_elsewhere;
        out.unknown > 0 || kept + out.lost >= self.rows() && out.facts + out.facts_lost >= 200
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    kept: u64,
    kept_local: u64,
    kept_elsewhere: u64,
    back: u64,
    lost: u64,
    unknown: u64,
    facts: u64,
    facts_lost: u64,
    marks: u64,
}

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    (0..length).map(|_| random(seed).to_le_bytes()[0]).collect()
}

/// A name, what is done to the file and its log, and how many of the 387 rows of the uplink are left at least.
type Case = (&'static str, Box<dyn Fn(&Path)>, u64);

fn cases(base: &Base) -> Vec<Case> {
    let (bytes, log_bytes) = (base.file().len() as u64, base.log().len() as u64);
    let log = |path: &Path| beside(path, "-wal");
    let case = |name, least, damage: Box<dyn Fn(&Path)>| (name, damage, least);
    vec![
        case("cut at 1/4", 60, Box::new(move |path| cut(path, bytes / 4))),
        case("cut at 1/2", 130, Box::new(move |path| cut(path, bytes / 2))),
        case("cut at 3/4", 200, Box::new(move |path| cut(path, bytes * 3 / 4))),
        case("header zeroed", 387, Box::new(|path| scribble(path, 0, &[0; 100]))),
        case("header random", 387, Box::new(|path| scribble(path, 0, &noise(&mut 1, 100)))),
        case("first page zeroed", 387, Box::new(|path| scribble(path, 0, &[0; 512]))),
        case("first 4 KiB random", 300, Box::new(|path| scribble(path, 0, &noise(&mut 2, 4096)))),
        case("page size field wrong", 387, Box::new(|path| scribble(path, 16, &4096_u16.to_be_bytes()))),
        case("page size field zero", 387, Box::new(|path| scribble(path, 16, &[0; 2]))),
        case("application id wrong", 387, Box::new(|path| scribble(path, 68, b"Foto"))),
        case("log cut at 1/2", 280, Box::new(move |path| cut(&log(path), log_bytes / 2 + 7))),
        case(
            "log header random",
            280,
            Box::new(move |path| {
                if log_bytes > 0 {
                    scribble(&log(path), 0, &noise(&mut 3, 32));
                }
            }),
        ),
        case(
            "log damaged in the middle",
            280,
            Box::new(move |path| {
                if log_bytes > 0 {
                    scribble(&log(path), log_bytes / 3, &noise(&mut 4, 40));
                }
            }),
        ),
        case("database without log", 280, Box::new(move |path| std::fs::remove_file(log(path)).unwrap())),
        case("log without database", 0, Box::new(|path| std::fs::remove_file(path).unwrap())),
        case("log and an empty database", 0, Box::new(|path| cut(path, 0))),
        case(
            "empty, without log",
            0,
            Box::new(move |path| {
                std::fs::remove_file(log(path)).unwrap();
                cut(path, 0);
            }),
        ),
        case("last page cut in half", 380, Box::new(move |path| cut(path, bytes - 256))),
        case(
            "1,000 bits flipped",
            100,
            Box::new(move |path| {
                let mut seed = 11;
                let mut file = std::fs::read(path).unwrap();
                for _ in 0..1000 {
                    let at = usize::try_from(random(&mut seed) % bytes).unwrap();
                    file[at] ^= 1 << (random(&mut seed) % 8);
                }
                std::fs::write(path, file).unwrap();
            }),
        ),
    ]
}

#[tokio::test]
async fn kept_or_counted_for_each_kind_of_damage() {
    println!("rows of the uplink, of the client, elsewhere; came back; lost; unknown; facts; set aside");
    let mut failures = Vec::new();
    for logged in [false, true] {
        let base = Base::make(logged).await;
        for (name, damage, least) in cases(&base) {
            let path = base.copy();
            damage(&path);
            let out = base.open(name, &path).await;
            println!(
                "logged {logged:5} | {name:27} | {:3} {:3} {:3} | {:3} | {:3} | {} | {:3} | {}",
                out.kept,
                out.kept_local,
                out.kept_elsewhere,
                out.back,
                out.lost,
                out.unknown,
                out.facts,
                out.marks
            );
            // A log that was emptied by a clean end holds nothing: what is done to it changes nothing.
            if !base.holds(&out) {
                failures.push(format!("{name}, logged {logged}: neither kept nor counted: {out:?}"));
            }
            if out.kept + out.kept_elsewhere < least {
                failures.push(format!(
                    "{name}, logged {logged}: {} rows kept, at least {least} are whole",
                    out.kept
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn kept_or_counted_with_a_page_of_zeros_at_each_place() {
    let base = Base::make(false).await;
    let pages = base.file().len() as u64 / layout::PAGE_BYTES;
    let (mut kept, mut worst, mut back, mut failures) = (0, u64::MAX, 0, Vec::new());
    for page in 0..pages {
        let path = base.copy();
        scribble(&path, page * layout::PAGE_BYTES, &[0; 512]);
        let out = base.open(&format!("page {}", page + 1), &path).await;
        if !base.holds(&out) {
            failures.push(format!("page {}: {out:?}", page + 1));
        }
        if out.kept < 370 {
            println!("page {}: {out:?}", page + 1);
        }
        kept += out.kept;
        worst = worst.min(out.kept);
        back = back.max(out.back);
    }
    println!(
        "pages {pages}, rows kept on the mean {}, at worst {worst}; came back at most {back}",
        kept / pages
    );
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(worst >= 370, "one page holds a few rows only: {worst}");
    assert_eq!(back, 0);
}

#[tokio::test]
async fn kept_or_counted_with_one_bit_flipped() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(150, |rounds| rounds.parse().unwrap());
    for logged in [false, true] {
        let base = Base::make(logged).await;
        let bytes = base.file().len() as u64 + base.log().len() as u64;
        let (mut worst, mut back, mut failures) = (u64::MAX, 0, Vec::new());
        for round in 0..rounds {
            let path = base.copy();
            let mut seed = round;
            let (at, bit) = (random(&mut seed) % bytes, random(&mut seed) % 8);
            let (file, at) = match at.checked_sub(base.file().len() as u64) {
                None => (path.clone(), at),
                Some(at) => (beside(&path, "-wal"), at),
            };
            let was = std::fs::read(&file).unwrap()[usize::try_from(at).unwrap()];
            scribble(&file, at, &[was ^ (1 << bit)]);
            let out = base.open(&format!("seed {round}"), &path).await;
            if !base.holds(&out) {
                failures.push(format!("seed {round}, bit {bit} of byte {at} of {}: {out:?}", file.display()));
            }
            worst = worst.min(out.kept);
            back = back.max(out.back);
        }
        println!("logged {logged}: {rounds} flips, rows kept at worst {worst}, came back at most {back}");
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(worst >= 360, "{worst}");
    }
}

/// What `words` and its copy hold.
fn words_and_copy(path: &Path) -> (i64, i64) {
    let conn = Connection::open(path).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get(0)).unwrap_or(-1);
    (count("SELECT count(*) FROM words WHERE kind <> 3"), count("SELECT count(*) FROM words_copy"))
}

#[tokio::test]
async fn words_are_copied_and_a_copy_that_an_older_version_made_stale_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 63).await;
    assert_eq!(words_and_copy(&path), (6, -1), "not yet: its pages would lie beside those of the words");
    let more = async |from: u64| {
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        committed(&store, queue, commit(rows(from..=from))).await;
        committed(&store, queue, commit(rows(from + 1..=from + 1))).await;
        assert_eq!(fetched(&store, queue).await.len() as u64, from + 1);
        store.close().await.unwrap();
    };
    more(64).await;
    assert_eq!(words_and_copy(&path), (6, 6));
    // An older version gives a number to another topic, and knows no copy.
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM words WHERE id = (SELECT max(id) FROM words); INSERT INTO words VALUES (900, 1, x'00')")
        .unwrap();
    let store = Store::open(&settings(&path)).await;
    let (queue, stored) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(stored.last.0 + 1..=stored.last.0 + 10))).await;
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    let differ =
        "SELECT count(*) FROM words_copy LEFT JOIN words USING (id) WHERE words.body IS NOT words_copy.body";
    let differ: i64 = conn.query_row(differ, [], |row| row.get(0)).unwrap();
    assert_eq!(differ, 0, "nothing is in the copy that the words do not say");
    let (words, copy) = words_and_copy(&path);
    assert_eq!(words, copy);
}

#[tokio::test]
async fn a_log_cut_between_two_commits_keeps_whole_commits_and_any_other_cut_is_told() {
    let base = Base::make(true).await;
    let log = base.log();
    let (mut silent, mut told) = (0, 0);
    for part in 1..=60 {
        let path = base.copy();
        let length = log.len() * part / 61;
        cut(&beside(&path, "-wal"), length as u64);
        let out = base.open(&format!("log of {length} bytes"), &path).await;
        assert!(
            out.kept >= 287 && (out.kept - 287).is_multiple_of(10) && out.kept_local == 60,
            "{length}: {out:?}"
        );
        if out.unknown > 0 { told += 1 } else { silent += 1 }
    }
    println!("{told} cuts of 60 were told, {silent} fell between two commits");
    assert!(told > 50, "{told} told, {silent} silent");
}
