//! A store made of maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::wire::Bench;
use crate::broker::{Answer, Broker, Change, FactKey, Found, Limits, Read, Settings, Sieve, Turn};
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::{Row, Seq, StoreFault, Stored, Tally};

/// The boot of the machine that a bench begins with.
const BOOT: BootId = BootId(7);

/// What is durable, and a turn that is not yet.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) facts: BTreeMap<FactKey, Arc<[u8]>>,
    pub(super) queues: BTreeMap<Arc<str>, BTreeMap<Seq, Arc<Row>>>,
    /// Turns wait for [`Bench::commit`].
    pub(super) slow: bool,
    waiting: Option<Turn>,
    pub(super) turns: usize,
    pub(super) rows_written: usize,
}

impl Disk {
    pub(super) fn take(&mut self, turn: Turn) -> Option<Answer> {
        assert!(self.waiting.is_none(), "one turn at a time");
        assert!(!turn.changes.is_empty(), "a turn has changes");
        if self.slow {
            self.waiting = Some(turn);
            return None;
        }
        Some(self.write(turn))
    }

    fn write(&mut self, turn: Turn) -> Answer {
        self.turns += 1;
        for change in turn.changes {
            match change {
                Change::Insert { queue, row } => {
                    self.rows_written += 1;
                    self.queues.entry(queue).or_default().insert(row.seq, row);
                }
                Change::Delete { queue, seqs } => {
                    self.queues.entry(queue).or_default().retain(|seq, _| *seq < seqs.0 || *seq > seqs.1);
                }
                Change::Drop { queue } => {
                    self.queues.remove(&queue);
                    if let Some(subscriptions) = FactKey::subscriptions_of(&queue) {
                        self.facts.retain(|fact, _| !fact.begins_with(&subscriptions));
                    }
                }
                Change::Put { fact, value } => _ = self.facts.insert(fact, value),
                Change::Remove { fact } => _ = self.facts.remove(&fact),
            }
        }
        Answer::Done { number: turn.number }
    }

    pub(super) fn read(&self, read: &Read) -> Answer {
        let rows = self.queues.get(&read.queue);
        let rows = rows.into_iter().flatten().map(|(_, row)| row);
        let all: Vec<_> = rows.filter(|row| row.seq > read.after && row.seq <= read.until).cloned().collect();
        let count = usize::try_from(read.rows_max).unwrap().min(all.len());
        Answer::Rows { number: read.number, more: count < all.len(), rows: all[..count].to_vec() }
    }

    pub(super) fn rows(&self) -> usize {
        self.queues.values().map(BTreeMap::len).sum()
    }

    pub(super) fn found(&self) -> Found {
        let stored = |rows: &BTreeMap<Seq, Arc<Row>>| {
            let mut normal = Tally::default();
            rows.values().for_each(|row| normal.add_row(row));
            let first = rows.keys().next().copied().unwrap_or_default();
            let last = rows.keys().next_back().copied().unwrap_or_default();
            Stored { normal, high: Tally::default(), first, last }
        };
        Found {
            blind: false,
            facts: self.facts.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect(),
            queues: self.queues.iter().map(|(name, rows)| (Arc::clone(name), stored(rows))).collect(),
            ..Found::default()
        }
    }
}

/// As the store gives it: facts that do not fit are not there.
pub(super) fn sieved(mut found: Found, limits: &Limits) -> Found {
    let mut sieve = Sieve::new(limits);
    let facts = std::mem::take(&mut found.facts).into_iter();
    found.facts =
        facts.filter_map(|(key, value)| sieve.look(&key, &value).map(|value| (key, value))).collect();
    found.left_out = sieve.left_out();
    found
}

impl Bench {
    /// A broker over an empty store; everybody is let in.
    pub(super) fn durable() -> Self {
        Self::stored(Settings {
            limits: Limits::default(),
            listeners: vec![open_door()],
            ..Settings::default()
        })
    }

    pub(super) fn stored(settings: Settings) -> Self {
        let mut bench = Self::new();
        bench.broker = Broker::new(bench.now, settings.clone(), run(1), Found::default());
        bench.settings = settings;
        bench
    }

    /// The turn under way becomes durable.
    pub(super) fn commit(&mut self) {
        if let Some(turn) = self.disk.waiting.take() {
            let answer = self.disk.write(turn);
            self.broker.handle_answer(self.now, answer);
            self.run();
        }
    }

    /// The turn under way fails.
    pub(super) fn fail(&mut self) {
        let turn = self.disk.waiting.take().expect("a turn is under way");
        self.broker.handle_answer(self.now, Answer::Failed { number: turn.number, fault: StoreFault::Full });
        self.run();
    }

    pub(super) fn is_writing(&self) -> bool {
        self.disk.waiting.is_some()
    }

    /// Power is cut, and comes back: whatever is not on disk is gone.
    pub(super) fn crash(&mut self) {
        self.disk.waiting = None;
        self.owed.clear();
        self.enqueued.clear();
        self.runs += 1;
        let found = sieved(self.disk.found(), &self.settings.limits);
        let run = RunId { boot: BootId(BOOT.0 + self.boots), ..run(self.runs) };
        self.broker = Broker::new(self.now, self.settings.clone(), run, found);
        self.run();
    }

    /// The same, and the machine boots: its clock begins anew.
    pub(super) fn reboot(&mut self) {
        self.boots += 1;
        self.now = BootNs(1_000_000_000);
        self.crash();
    }
}

pub(super) fn run(number: u64) -> RunId {
    RunId { boot: BOOT, start_ms: number }
}

/// A listener that lets nobody in particular in.
pub(super) fn open_door() -> crate::settings::ListenerSettings {
    door(true)
}

pub(super) fn door(anonymous: bool) -> crate::settings::ListenerSettings {
    crate::settings::ListenerSettings {
        name: crate::tag::Name::new("door").unwrap(),
        address: "127.0.0.1:1883".parse().unwrap(),
        websocket: None,
        origins: Vec::new(),
        hosts: Vec::new(),
        tls: None,
        anonymous,
    }
}
