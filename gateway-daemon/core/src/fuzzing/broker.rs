//! Clients of every version against one broker over a store, bytes cut anywhere.
//!
//! The input is a script. Each step is one byte: the low two bits choose a place, the bits above the deed; some take bytes behind them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{
    Action, Answer, Broker, Change, ConnId, Fate, Found, Limits, Local, Origin, Read, Settings, TopicFilter,
    Turn,
};
use crate::payload::Draft;
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::{Body, Priority, Qos, Row, StoreFault};

/// Clients at once.
const PLACES: usize = 4;

/// Small bounds, so that few bytes reach them.
fn limits() -> Limits {
    Limits {
        connections_max: PLACES - 1,
        sessions_max: 6,
        subscriptions_max: 12,
        inflight_max: 3,
        queued_max: 5,
        queued_bytes_max: 2000,
        queued_bytes_total_max: 4000,
        packet_bytes_max: 3000,
        outbox_bytes_max: 1000,
        retained_max: 3,
        retained_bytes_max: 500,
        stored_rows_max: 6,
        stored_bytes_max: 4000,
        stored_rows_total_max: 10,
        stored_bytes_total_max: 6000,
        receive_max: 3,
        dirty_bytes_max: 5000,
        ..Limits::default()
    }
}

/// What real clients say, so that a script of few bytes comes far: half of the packets of the corpus are one step.
const SAYINGS: [&[u8]; 16] = [
    b"\x10\x0f\0\x06MQIsdp\x03\x00\0\x3c\0\x01a",
    b"\x10\x0d\0\x04MQTT\x04\x00\0\x3c\0\x01a",
    b"\x10\x0d\0\x04MQTT\x04\x02\0\x00\0\x01b",
    b"\x10\x19\0\x04MQTT\x05\x00\0\x0a\x0b\x11\0\0\0\x3c\x22\0\x02\x21\0\x02\0\x01a",
    b"\x10\x24\0\x04MQTT\x05\x2e\0\x0a\x05\x27\0\0\0\x40\0\x01c\x05\x18\0\0\0\x05\0\x03t/w\0\x04will",
    b"\x82\x08\0\x01\0\x03t/#\x02",
    b"\x82\x0b\0\x01\x02\x0b\x07\0\x03t/#\x02",
    b"\x82\x12\0\x02\0\0\x0c$share/g/t/#\x01",
    b"\x30\x05\0\x03t/0",
    b"\x33\x0b\0\x03t/1\0\x01body",
    b"\x32\x14\0\x03t/1\0\x02\x08\x23\0\x01\x02\0\0\0\x09text",
    b"\x35\x0c\0\x03t/2\0\x03\0body",
    b"\x40\x02\0\x01",
    b"\x50\x02\0\x01\x62\x02\0\x03\x70\x02\0\x01",
    b"\xa2\x08\0\x05\0\0\x03t/#",
    b"\xe0\x00",
];

/// A store that does what it is told, and fails when the script says so.
#[derive(Default)]
struct Store {
    queues: BTreeMap<Arc<str>, BTreeMap<u64, Arc<Row>>>,
    asked: VecDeque<Asked>,
    slow: bool,
    failing: bool,
}

enum Asked {
    Turn(Turn),
    Read(Read),
}

impl Store {
    fn answer(&mut self, asked: Asked) -> Answer {
        match asked {
            Asked::Turn(turn) if self.failing => {
                Answer::Failed { number: turn.number, fault: StoreFault::Full }
            }
            Asked::Read(read) if self.failing => {
                Answer::Unread { number: read.number, fault: StoreFault::Io }
            }
            Asked::Turn(turn) => {
                for change in turn.changes {
                    self.apply(change);
                }
                Answer::Done { number: turn.number }
            }
            Asked::Read(read) => {
                let queue = self.queues.get(&read.queue);
                let mut rows: Vec<Arc<Row>> = queue
                    .into_iter()
                    .flat_map(|queue| queue.values())
                    .filter(|row| row.seq > read.after && row.seq <= read.until)
                    .cloned()
                    .collect();
                let wanted = usize::try_from(read.rows_max).unwrap_or(usize::MAX);
                let more = rows.len() > wanted;
                rows.truncate(wanted);
                Answer::Rows { number: read.number, rows, more }
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Insert { queue, row } => {
                self.queues.entry(queue).or_default().insert(row.seq.0, row);
            }
            Change::Delete { queue, seqs } => {
                if let Some(rows) = self.queues.get_mut(&queue) {
                    rows.retain(|seq, _| !(seqs.0.0..=seqs.1.0).contains(seq));
                }
            }
            Change::Drop { queue } => {
                self.queues.remove(&queue);
            }
            Change::Put { .. } | Change::Remove { .. } => {}
        }
    }
}

struct Bench {
    broker: Broker,
    store: Store,
    now: BootNs,
    places: [Option<ConnId>; PLACES],
    last: u64,
    unsent: BTreeMap<ConnId, usize>,
}

/// Runs a script.
///
/// # Panics
/// The broker panics, does not come to rest, or holds more than its limits.
pub fn fuzz_broker(script: &[u8]) {
    let settings = Settings { limits: limits(), ..Settings::default() };
    let run = RunId { boot: BootId(1), start_ms: 0 };
    let now = BootNs(1_000_000_000);
    let mut broker = Broker::new(now, settings, run, Found::default());
    let filter = TopicFilter::new("t/2").expect("a filter");
    let bridge = broker.open_bridge([(filter, Qos::AtLeastOnce)]);
    assert!(bridge.is_ok(), "there is room for a bridge");
    let mut bench = Bench {
        broker,
        store: Store::default(),
        now,
        places: [None; PLACES],
        last: 0,
        unsent: BTreeMap::new(),
    };
    let mut rest = script;
    while let Some((&step, behind)) = rest.split_first() {
        rest = bench.step(step, behind);
        bench.settle();
        bench.check();
    }
    bench.broker.stop(bench.now);
    bench.settle();
    bench.check();
}

impl Bench {
    /// One step; gives back what it did not take.
    fn step<'a>(&mut self, step: u8, behind: &'a [u8]) -> &'a [u8] {
        let place = usize::from(step & 3);
        let taken = |len: usize| behind.split_at(len.min(behind.len()));
        match (step >> 2) & 7 {
            0 => {
                let len = behind.first().map_or(0, |len| usize::from(*len));
                let (said, rest) = taken(len + 1);
                self.say(place, said.get(1..).unwrap_or_default());
                return rest;
            }
            1 | 2 => {
                let (which, rest) = taken(1);
                let index = which.first().map_or(0, |which| usize::from(*which));
                self.say(place, SAYINGS[index % SAYINGS.len()]);
                return rest;
            }
            3 => {
                if let Some(conn) = self.places[place].take() {
                    self.broker.handle_closed(self.now, conn);
                }
            }
            4 => {
                let (seconds, rest) = taken(1);
                let seconds = seconds.first().map_or(0, |seconds| u64::from(*seconds));
                self.now = self.now.plus(Duration::from_secs(seconds));
                self.broker.timeout(self.now);
                return rest;
            }
            5 => {
                for (conn, bytes) in std::mem::take(&mut self.unsent) {
                    self.broker.handle_sent(self.now, conn, bytes);
                }
            }
            6 => {
                self.store.slow = step & 1 != 0;
                self.store.failing = step & 2 != 0;
            }
            _ => self.publish(step),
        }
        behind
    }

    /// A client's bytes, over a fresh connection if it has none.
    fn say(&mut self, place: usize, bytes: &[u8]) {
        let conn = *self.places[place].get_or_insert_with(|| {
            self.last += 1;
            let conn = ConnId(self.last);
            self.broker.handle_open(self.now, conn, Origin::default());
            conn
        });
        self.broker.handle_bytes(self.now, conn, bytes);
    }

    fn publish(&mut self, step: u8) {
        let draft = Draft {
            topic: "t/1".into(),
            retain: step & 1 != 0,
            priority: Priority::Normal,
            body: Body::Raw(Arc::new([step; 20])),
            readings: 0,
            at: self.now,
        };
        let local = Local { draft: &draft, qos: Qos::ExactlyOnce, from: None, want: step & 2 != 0 };
        assert!(self.broker.publish(self.now, &local, || None).is_ok(), "t/1 is a topic");
    }

    /// Does what the broker asks for until it asks for nothing.
    fn settle(&mut self) {
        /// More actions than any step of a few small queues can cause.
        const ACTIONS_MAX: usize = 10_000;
        for _ in 0..ACTIONS_MAX {
            if let Some(action) = self.broker.poll_action() {
                self.act(action);
            } else if !self.store.slow
                && let Some(asked) = self.store.asked.pop_front()
            {
                let answer = self.store.answer(asked);
                self.broker.handle_answer(self.now, answer);
            } else {
                return;
            }
        }
        unreachable!("the broker does not come to rest");
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { conn, bytes } => *self.unsent.entry(conn).or_default() += bytes.len(),
            Action::Close { conn, .. } => {
                for place in &mut self.places {
                    place.take_if(|open| *open == conn);
                }
                self.unsent.remove(&conn);
            }
            Action::Enqueue { ticket: Some(ticket), .. } => {
                self.broker.handle_receipt(self.now, ticket, Fate::Safe);
            }
            Action::Turn(turn) => self.store.asked.push_back(Asked::Turn(turn)),
            Action::Read(read) => self.store.asked.push_back(Asked::Read(read)),
            Action::Verify { conn, password, .. } => {
                self.broker.handle_verified(self.now, conn, password.len() % 2 == 1);
            }
            Action::Enqueue { ticket: None, .. } | Action::Hold { .. } | Action::Safe { .. } => {}
        }
    }

    fn check(&self) {
        let (limits, gauges) = (limits(), self.broker.gauges());
        assert!(gauges.connections <= limits.connections_max, "too many connections");
        assert!(gauges.sessions <= limits.sessions_max, "too many sessions");
        assert!(gauges.subscriptions <= limits.subscriptions_max, "too many subscriptions");
        assert!(gauges.retained_messages <= limits.retained_max, "too many retained messages");
        assert!(gauges.retained_bytes <= limits.retained_bytes_max as u64, "too many retained bytes");
        assert!(gauges.held_bytes <= limits.queued_bytes_total_max as u64, "too much is held in memory");
        assert!(gauges.stored_messages <= limits.stored_rows_total_max, "too much is stored");
        assert!(gauges.waiting_acknowledgements <= 1000, "too many wait");
        assert!(self.store.asked.len() <= 1 + PLACES * 8, "the store is asked for too much at once");
    }
}
