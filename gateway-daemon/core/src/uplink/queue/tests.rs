//! The queue alone, with a store of a few lines; whole outages are in the simulation (`cargo xtask sim`).

mod aside;
mod rescue;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_oneof, proptest};

use super::*;
use crate::uplink::row::{Body, Mark, Priority, Qos, StoreEvent};
use crate::uplink::settings::WhenFull;

const RUN: RunId = RunId { boot: BootId(9), start_ms: 1 };

fn settings(when_full: WhenFull) -> QueueSettings {
    QueueSettings {
        limits: Limits { rows_max: 10, bytes_max: 1 << 20, age_max: None, when_full },
        commit_interval: Duration::from_secs(1),
        durability: Durability::Interval,
        drain: Drain::LiveFirst,
        window: 4,
        memory: Memory { rows_max: 8, bytes_max: 1 << 16 },
    }
}

fn message(priority: Priority, at: BootNs) -> Message {
    Message {
        topic: "t".into(),
        body: Body::Raw(Arc::from(&b"body"[..])),
        readings: 2,
        priority,
        qos: Qos::AtLeastOnce,
        retain: false,
        at,
        expiry_s: None,
        waiting: Waiting::Patient,
    }
}

/// A queue with a store that always works unless told otherwise.
struct Bench {
    queue: Queue,
    disk: BTreeMap<Seq, Arc<Row>>,
    marks: BTreeMap<Seq, Arc<Mark>>,
    fault: Option<StoreFault>,
    /// Rows that the disk has room for.
    rows_max: usize,
    now: BootNs,
}

impl Bench {
    fn new(settings: QueueSettings) -> Self {
        Self {
            queue: Queue::new(settings, RUN, Stored::default()),
            disk: BTreeMap::new(),
            marks: BTreeMap::new(),
            fault: None,
            rows_max: usize::MAX,
            now: BootNs(0),
        }
    }

    fn publish(&mut self, priority: Priority) -> Seq {
        let seq = self.queue.publish(self.now, message(priority, self.now));
        self.queue.audit().unwrap();
        seq
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    /// Carries out every op that is due.
    fn work(&mut self) -> usize {
        let mut ops = 0;
        while let Some(op) = self.queue.poll_op(self.now) {
            ops += 1;
            assert!(ops < 100, "the queue asks for ever: {op:?}");
            let event = self.answer(&op);
            self.queue.store(self.now, event);
            self.queue.audit().unwrap();
        }
        ops
    }

    fn answer(&mut self, op: &StoreOp) -> StoreEvent {
        let (StoreOp::Commit { op: number, .. }
        | StoreOp::Fetch { op: number, .. }
        | StoreOp::Trim { op: number, .. }
        | StoreOp::Mark { op: number, .. }
        | StoreOp::Replace { op: number, .. }) = op;
        let number = *number;
        if let Some(fault) = self.fault {
            return StoreEvent::Failed { op: number, fault };
        }
        if !self.has_room(op) {
            return StoreEvent::Failed { op: number, fault: StoreFault::Full };
        }
        let mut deleted = Tally::default();
        match op {
            StoreOp::Commit { rows, acked, .. } => {
                self.disk.extend(rows.iter().map(|row| (row.seq, Arc::clone(row))));
                for (first, last) in acked {
                    let gone: Vec<Seq> = self.disk.range(*first..=*last).map(|(seq, _)| *seq).collect();
                    gone.iter().for_each(|seq| deleted.add_row(&self.disk.remove(seq).unwrap()));
                }
                StoreEvent::Committed { op: number, deleted }
            }
            StoreOp::Fetch { after, until, rows_max, .. } => {
                let mut rows: Vec<Arc<Row>> =
                    self.disk.values().filter(|row| row.seq > *after && row.seq <= *until).cloned().collect();
                let more = rows.len() > *rows_max as usize;
                rows.truncate(*rows_max as usize);
                StoreEvent::Fetched { op: number, rows, more }
            }
            StoreOp::Trim { rows, priority_max, keep, .. } => {
                let free = |row: &&Arc<Row>| row.priority <= *priority_max && !keep.contains(&row.seq);
                let mut victims: Vec<(Priority, Seq)> =
                    self.disk.values().filter(free).map(|row| (row.priority, row.seq)).collect();
                victims.sort_unstable();
                for (_, seq) in victims.iter().take(usize::try_from(*rows).unwrap()) {
                    deleted.add_row(&self.disk.remove(seq).unwrap());
                }
                StoreEvent::Trimmed { op: number, dropped: deleted }
            }
            StoreOp::Mark { set, clear, .. } => {
                self.marks.retain(|seq, _| !clear.contains(seq));
                self.marks.extend(set.iter().map(|mark| (mark.seq, Arc::clone(mark))));
                StoreEvent::Committed { op: number, deleted }
            }
            StoreOp::Replace { remove, rows, .. } => {
                let gone: Vec<_> = remove.iter().filter_map(|seq| self.disk.remove(seq)).collect();
                gone.iter().for_each(|row| deleted.add_row(row));
                self.disk.extend(rows.iter().map(|row| (row.seq, Arc::clone(row))));
                StoreEvent::Committed { op: number, deleted }
            }
        }
    }

    /// A commit finds no room by what it deletes, as in the store; a replacement does.
    fn has_room(&self, op: &StoreOp) -> bool {
        let (remove, rows): (&[Seq], _) = match op {
            StoreOp::Commit { rows, .. } => (&[], rows),
            StoreOp::Replace { remove, rows, .. } => (remove, rows),
            _ => return true,
        };
        let stays = self.disk.keys().filter(|seq| !remove.contains(seq)).count();
        let fresh = rows.iter().filter(|row| remove.contains(&row.seq) || !self.disk.contains_key(&row.seq));
        let after = stays + fresh.count();
        after <= self.rows_max || after <= self.disk.len()
    }

    fn take(&mut self, lane: Lane) -> Option<Seq> {
        self.queue.take(self.now, lane).map(|taken| taken.row.seq)
    }

    /// So many rows on disk.
    fn store_rows(&mut self, rows: usize) {
        for _ in 0..rows {
            self.publish(Priority::Normal);
        }
        self.pass(1000);
        self.work();
        assert_eq!(self.queue.ledger().in_memory.rows, 0);
    }

    fn on_disk(&self) -> Vec<u64> {
        self.disk.keys().map(|seq| seq.0).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.queue.ledger().dropped(reason).rows
    }

    fn receipts(&mut self) -> Vec<(u64, Fate)> {
        std::iter::from_fn(|| self.queue.poll_receipt())
            .map(|receipt| (receipt.seq.0, receipt.fate))
            .collect()
    }
}

#[test]
fn the_oldest_rows_go_first_when_the_policy_says_so() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.store_rows(8);
    bench.store_rows(5);
    assert_eq!(bench.on_disk(), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!(bench.dropped(DropReason::Oldest), 3);
}

#[test]
fn a_full_queue_refuses_what_arrives_when_the_policy_says_so() {
    let mut bench = Bench::new(settings(WhenFull::DropNewest));
    bench.store_rows(8);
    bench.store_rows(5);
    assert_eq!(bench.on_disk(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(bench.dropped(DropReason::Newest), 3);
    let last = *bench.receipts().last().unwrap();
    assert_eq!(last, (10, Fate::Safe));
}

#[test]
fn an_alarm_displaces_readings_whatever_the_policy() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut bench = Bench::new(settings(when_full));
        bench.store_rows(8);
        bench.store_rows(2);
        bench.publish(Priority::High);
        bench.pass(1000);
        bench.work();
        assert_eq!(bench.on_disk(), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "{when_full:?}");
    }
}

#[test]
fn readings_never_displace_alarms() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    for _ in 0..2 {
        (0..5).for_each(|_| {
            bench.publish(Priority::High);
        });
        bench.pass(1000);
        bench.work();
    }
    bench.publish(Priority::Normal);
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.on_disk(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(bench.dropped(DropReason::Oldest), 1);
}

#[test]
fn rows_in_flight_are_not_trimmed() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.store_rows(8);
    bench.queue.attach();
    bench.work();
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    bench.store_rows(4);
    assert!(bench.on_disk().contains(&1), "{:?}", bench.on_disk());
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    assert_eq!(bench.queue.ledger().acknowledged.rows, 1);
}

#[test]
fn an_acknowledgement_during_the_commit_deletes_the_row_afterwards() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish(Priority::Normal);
    assert_eq!(bench.take(Lane::Live), Some(Seq(1)));
    bench.pass(1000);
    let commit = bench.queue.poll_op(bench.now).unwrap();
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    let event = bench.answer(&commit);
    bench.queue.store(bench.now, event);
    assert_eq!((bench.on_disk(), bench.queue.ledger().stored.rows), (vec![1], 0));
    bench.pass(1000);
    bench.work();
    assert!(bench.on_disk().is_empty());
}

#[test]
fn a_failed_commit_is_asked_for_again_after_a_growing_pause() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.fault = Some(StoreFault::ReadOnly);
    bench.publish(Priority::Normal);
    bench.pass(1000);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(bench.work(), 1);
        let next = bench.queue.poll_timeout().unwrap();
        pauses.push(next.since(bench.now).as_millis());
        bench.now = next;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    assert_eq!(bench.queue.fault(), Some(StoreFault::ReadOnly));
    bench.fault = None;
    bench.work();
    assert_eq!((bench.on_disk(), bench.queue.fault()), (vec![1], None));
}

#[test]
fn memory_is_bounded_while_the_store_fails_and_the_policy_says_which_rows_stay() {
    for (when_full, stays) in [(WhenFull::DropOldest, 13..=20), (WhenFull::DropNewest, 1..=8)] {
        let mut bench = Bench::new(QueueSettings {
            limits: Limits { rows_max: 1000, ..settings(when_full).limits },
            ..settings(when_full)
        });
        bench.fault = Some(StoreFault::Full);
        for _ in 0..20 {
            bench.publish(Priority::Normal);
            bench.pass(1000);
            bench.work();
        }
        assert_eq!(bench.queue.ledger().in_memory.rows, 8);
        assert_eq!(bench.dropped(DropReason::MemoryFull), 12);
        bench.fault = None;
        bench.pass(60_000);
        bench.work();
        assert_eq!(bench.on_disk(), stays.collect::<Vec<u64>>());
    }
}

#[test]
fn a_full_disk_takes_the_newest_rows_in_exchange_for_the_oldest_before_memory_runs_over() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.store_rows(4);
    bench.fault = Some(StoreFault::Full);
    for _ in 0..5 {
        bench.publish(Priority::Normal);
    }
    bench.pass(1000);
    assert_eq!(bench.work(), 1);
    bench.fault = None;
    bench.pass(60_000);
    let op = bench.queue.poll_op(bench.now).unwrap();
    assert!(matches!(op, StoreOp::Trim { rows: 5, .. }), "{op:?}");
}

#[test]
fn a_backlog_is_read_in_bounded_pieces_and_in_order() {
    let rows = 2000;
    let mut bench = Bench::new(QueueSettings {
        limits: Limits { rows_max: 10_000, ..settings(WhenFull::DropOldest).limits },
        memory: Memory::default(),
        ..settings(WhenFull::DropOldest)
    });
    bench.store_rows(rows);
    bench.queue.attach();
    let mut received = Vec::new();
    loop {
        bench.work();
        assert!(bench.queue.loaded_rows() <= 40, "{}", bench.queue.loaded_rows());
        let Some(seq) = bench.take(Lane::Backlog) else { break };
        received.push(seq);
        bench.queue.acknowledged(bench.now, seq);
    }
    assert_eq!(received, (1..=rows as u64).map(Seq).collect::<Vec<_>>());
    bench.pass(1000);
    bench.work();
    assert!(bench.disk.is_empty());
}

#[test]
fn rows_missing_in_the_store_are_counted_as_lost_by_it() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.store_rows(6);
    bench.disk.remove(&Seq(2));
    bench.disk.remove(&Seq(6));
    bench.queue.attach();
    bench.work();
    assert_eq!(bench.dropped(DropReason::StoreLost), 2);
    assert_eq!(bench.queue.ledger().stored.rows, 4);
}

#[test]
fn a_replaced_store_gets_back_what_is_loaded_and_the_rest_is_counted() {
    for salvaged in [false, true] {
        let mut bench = Bench::new(settings(WhenFull::DropOldest));
        bench.store_rows(8);
        bench.queue.attach();
        bench.work();
        bench.take(Lane::Backlog).unwrap();
        bench.queue.detach(bench.now);
        bench.queue.attach();
        // Fetched only in part: the queue is given two of the eight rows.
        let StoreOp::Fetch { op, .. } = bench.queue.poll_op(bench.now).unwrap() else { panic!() };
        let rows = bench.disk.values().take(2).cloned().collect();
        bench.queue.store(bench.now, StoreEvent::Fetched { op, rows, more: true });
        let mut stored = Stored::default();
        if salvaged {
            bench.disk.retain(|seq, _| [2, 3].contains(&seq.0));
            bench.disk.values().for_each(|row| stored.normal.add_row(row));
            (stored.first, stored.last) = (Seq(2), Seq(3));
        } else {
            bench.disk.clear();
        }
        bench.queue.store(bench.now, StoreEvent::Reset { salvaged: stored, aside: Vec::new() });
        bench.work();
        let expected: &[u64] = if salvaged { &[1, 2, 3] } else { &[1, 2] };
        assert_eq!(bench.on_disk(), expected);
        assert_eq!(bench.queue.ledger().stored.rows, expected.len() as u64);
        assert_eq!(bench.dropped(DropReason::StoreLost), 8 - expected.len() as u64);
    }
}

#[test]
fn old_rows_expire_on_disk_and_in_memory() {
    let base = settings(WhenFull::DropOldest);
    let limits = Limits { age_max: Some(Duration::from_secs(60)), ..base.limits };
    let mut bench = Bench::new(QueueSettings { limits, ..base });
    bench.store_rows(4);
    bench.pass(30_000);
    bench.store_rows(2);
    bench.now = bench.queue.poll_timeout().unwrap();
    assert_eq!(bench.now, BootNs(60_000_000_000));
    bench.work();
    assert_eq!(bench.on_disk(), [5, 6]);
    assert_eq!(bench.dropped(DropReason::Expired), 4);
    bench.fault = Some(StoreFault::Io);
    bench.publish(Priority::Normal);
    bench.pass(61_000);
    bench.work();
    assert_eq!(bench.queue.ledger().in_memory.rows, 0);
}

#[test]
fn rows_of_an_older_boot_expire_by_what_is_known_of_its_clock() {
    let base = settings(WhenFull::DropOldest);
    let limits = Limits { age_max: Some(Duration::from_secs(1000)), ..base.limits };
    let mut queue = Queue::new(QueueSettings { limits, ..base }, RUN, Stored::default());
    queue.publish(BootNs(0), message(Priority::Normal, BootNs(0)));
    let row = Row { run: RunId { boot: BootId(8), start_ms: 0 }, ..row_of(&queue) };
    let row = Row { at: BootNs(100_000_000_000), ..row };
    assert_eq!(queue.expires_at(&row), BootNs(1_000_000_000_000));
    queue.boot_began(BootId(8), Duration::from_secs(700));
    assert_eq!(queue.expires_at(&row), BootNs(400_000_000_000));
    queue.boot_began(BootId(8), Duration::from_secs(5000));
    assert!(queue.is_expired(&row, BootNs(0)));
}

fn row_of(queue: &Queue) -> Row {
    Row::clone(&queue.entries.values().next().unwrap().row)
}

#[test]
fn each_publisher_hears_exactly_once_what_became_of_its_message() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish(Priority::Normal);
    assert_eq!(bench.receipts(), []);
    let seq = bench.take(Lane::Live).unwrap();
    bench.queue.acknowledged(bench.now, seq);
    assert_eq!(bench.receipts(), [(1, Fate::Safe)]);
    bench.publish(Priority::Normal);
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.receipts(), [(2, Fate::Safe)]);
    let seq = bench.take(Lane::Live).unwrap();
    bench.queue.acknowledged(bench.now, seq);
    assert_eq!(bench.receipts(), []);
}

impl Bench {
    fn publish_urgent(&mut self) -> Seq {
        let message = Message { waiting: Waiting::Urgent, ..message(Priority::Normal, self.now) };
        let seq = self.queue.publish(self.now, message);
        self.queue.audit().unwrap();
        seq
    }
}

#[test]
fn a_publisher_held_up_while_the_link_is_down_waits_only_for_the_disk() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.publish(Priority::Normal);
    assert_eq!(bench.queue.poll_timeout(), Some(BootNs(1_000_000_000)));
    bench.publish_urgent();
    bench.publish(Priority::Normal);
    assert!(bench.queue.poll_timeout() <= Some(bench.now));
    bench.work();
    // One commit for everything that was in memory.
    assert_eq!(bench.queue.counters().writes_total, 1);
    assert_eq!(bench.receipts(), [(1, Fate::Safe), (2, Fate::Safe), (3, Fate::Safe)]);
}

#[test]
fn publishers_held_up_while_the_disk_is_busy_share_its_next_commit() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.publish_urgent();
    let Some(StoreOp::Commit { op, rows, .. }) = bench.queue.poll_op(bench.now) else { panic!() };
    assert_eq!(rows.len(), 1);
    for _ in 0..3 {
        bench.publish_urgent();
    }
    assert!(bench.queue.poll_op(bench.now).is_none());
    bench.queue.store(bench.now, StoreEvent::Committed { op, deleted: Tally::default() });
    assert_eq!(bench.receipts(), [(1, Fate::Safe)]);
    bench.work();
    assert_eq!(bench.queue.counters().writes_total, 2);
    assert_eq!(bench.receipts().len(), 3);
}

#[test]
fn a_publisher_held_up_while_the_link_flows_waits_for_its_acknowledgement_and_no_longer_than_the_interval() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    for number in 1..=20 {
        bench.publish_urgent();
        let seq = bench.take(Lane::Live).unwrap();
        // The first answers say what is usual.
        bench.pass(if number < 20 { 49 } else { 150 });
        bench.work();
        assert_eq!(bench.receipts(), []);
        bench.queue.acknowledged(bench.now, seq);
        assert_eq!(bench.receipts(), [(number, Fate::Safe)]);
    }
    assert_eq!(bench.queue.counters().writes_total, 0);
}

#[test]
fn a_cloud_that_is_there_and_does_not_acknowledge_slows_no_publisher() {
    let mut bench = Bench::new(QueueSettings { window: 100, ..settings(WhenFull::DropOldest) });
    bench.queue.attach();
    bench.publish_urgent();
    bench.take(Lane::Live).unwrap();
    bench.pass(49);
    bench.work();
    assert_eq!(bench.receipts(), []);
    assert_eq!(bench.queue.poll_timeout(), Some(BootNs(50_000_000)));
    bench.pass(1);
    bench.work();
    assert_eq!(bench.receipts(), [(1, Fate::Safe)]);
    for number in 2..=8 {
        bench.publish_urgent();
        bench.take(Lane::Live).unwrap();
        bench.work();
        assert_eq!(bench.receipts(), [(number, Fate::Safe)], "at once");
    }
}

#[test]
fn what_is_committed_at_once_for_its_publisher_does_not_go_behind_the_backlog() {
    let mut bench = Bench::new(QueueSettings { window: 2, ..settings(WhenFull::DropOldest) });
    for _ in 0..6 {
        bench.publish(Priority::Normal);
    }
    bench.pass(1000);
    bench.work();
    bench.queue.attach();
    bench.work();
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    bench.pass(1000);
    bench.publish(Priority::Normal);
    bench.publish_urgent();
    bench.publish_urgent();
    bench.work();
    assert_eq!(bench.receipts().last(), Some(&(9, Fate::Safe)), "its reader is slow");
    assert_eq!((bench.take(Lane::Live), bench.take(Lane::Live)), (Some(Seq(7)), Some(Seq(8))));
    assert!(bench.queue.acknowledged(bench.now, Seq(7)) && bench.queue.acknowledged(bench.now, Seq(8)));
    assert_eq!(bench.take(Lane::Live), None, "no more of them than may be in flight");
    bench.pass(60_000);
    bench.work();
    assert_eq!(bench.on_disk(), [1, 2, 3, 4, 5, 6, 9]);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(2)));
}

#[test]
fn fresh_rows_that_are_on_disk_stay_in_memory_only_up_to_one_fetch() {
    let mut bench = Bench::new(QueueSettings {
        limits: Limits { rows_max: 1000, bytes_max: 1 << 30, ..settings(WhenFull::DropOldest).limits },
        window: 100,
        memory: Memory { rows_max: 1000, bytes_max: 1 << 30 },
        ..settings(WhenFull::DropOldest)
    });
    bench.queue.attach();
    for _ in 0..20 {
        let body = Body::Raw(vec![0; 100_000].into());
        let large = Message { body, ..message(Priority::Normal, bench.now) };
        bench.queue.publish(bench.now, large);
    }
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.on_disk().len(), 20);
    let live: Vec<Seq> = std::iter::from_fn(|| bench.take(Lane::Live)).collect();
    assert_eq!(live.len(), 6, "500 kB and the one that exceeds it");
    let mut backlog = Vec::new();
    loop {
        bench.work();
        let Some(seq) = bench.take(Lane::Backlog) else { break };
        assert!(bench.queue.acknowledged(bench.now, seq));
        backlog.push(seq.0);
    }
    assert_eq!(backlog, (7..=20).collect::<Vec<_>>());
}

#[test]
fn readings_behind_a_slow_cloud_keep_their_interval() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish(Priority::Normal);
    bench.take(Lane::Live).unwrap();
    bench.pass(400);
    assert_eq!(bench.work(), 0, "nobody waits");
    bench.publish_urgent();
    bench.publish(Priority::Normal);
    bench.work();
    assert_eq!(
        bench.receipts(),
        [(1, Fate::Safe), (2, Fate::Safe)],
        "the row of the publisher and what is before it"
    );
    bench.pass(999);
    assert_eq!(bench.work(), 0);
    bench.pass(1);
    bench.work();
    assert_eq!(bench.receipts(), [(3, Fate::Safe)]);
}

#[test]
fn a_full_window_alone_is_not_slow() {
    let memory = Memory { rows_max: 1000, bytes_max: 1 << 20 };
    let mut bench = Bench::new(QueueSettings { memory, ..settings(WhenFull::DropOldest) });
    bench.queue.attach();
    let mut sent = VecDeque::new();
    for _ in 0..7 {
        bench.publish_urgent();
    }
    for _ in 0..200 {
        while sent.len() < 4 {
            let Some(seq) = bench.take(Lane::Live) else { break };
            sent.push_back(seq);
        }
        bench.pass(10);
        assert_eq!(bench.work(), 0);
        assert!(bench.queue.acknowledged(bench.now, sent.pop_front().unwrap()));
        bench.publish_urgent();
    }
    assert_eq!(bench.receipts().len(), 200);
}

#[test]
fn a_publisher_held_up_when_the_link_is_lost_waits_no_longer_for_its_acknowledgement() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish_urgent();
    bench.take(Lane::Live).unwrap();
    bench.work();
    assert_eq!(bench.receipts(), []);
    bench.queue.detach(bench.now);
    bench.work();
    assert_eq!(bench.receipts(), [(1, Fate::Safe)]);
}

#[test]
fn behind_a_backlog_in_strict_order_no_acknowledgement_can_come_soon() {
    for (drain, told) in [(Drain::Fifo, 1), (Drain::LiveFirst, 0)] {
        let mut bench = Bench::new(QueueSettings { drain, ..settings(WhenFull::DropOldest) });
        bench.store_rows(3);
        bench.receipts();
        bench.queue.attach();
        bench.work();
        bench.publish_urgent();
        bench.work();
        assert_eq!(bench.receipts().len(), told, "{drain:?}");
    }
}

#[test]
fn a_publisher_held_up_by_a_store_that_fails_is_told_when_it_works_again() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.fault = Some(StoreFault::Full);
    bench.publish_urgent();
    bench.work();
    assert_eq!(bench.receipts(), []);
    bench.fault = None;
    bench.pass(500);
    bench.work();
    assert_eq!(bench.receipts(), [(1, Fate::Safe)]);
}

#[test]
fn fifo_sends_nothing_of_memory_before_the_disk_is_empty() {
    let mut bench = Bench::new(QueueSettings { drain: Drain::Fifo, ..settings(WhenFull::DropOldest) });
    bench.store_rows(3);
    bench.publish(Priority::Normal);
    assert_eq!(bench.queue.next_in_order(), None);
    bench.queue.attach();
    bench.work();
    let mut order = Vec::new();
    while let Some(lane) = bench.queue.next_in_order() {
        order.push((bench.take(lane).unwrap().0, lane));
    }
    assert_eq!(order, [(1, Lane::Backlog), (2, Lane::Backlog), (3, Lane::Backlog), (4, Lane::Live)]);
}

#[test]
fn a_commit_that_failed_and_reached_the_replaced_store_all_the_same_is_counted_once() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish(Priority::Normal);
    bench.publish(Priority::High);
    assert_eq!(bench.take(Lane::Live), Some(Seq(1)));
    bench.pass(1000);
    let commit = bench.queue.poll_op(bench.now).unwrap();
    let StoreEvent::Committed { op, .. } = bench.answer(&commit) else { panic!() };
    bench.queue.store(bench.now, StoreEvent::Failed { op, fault: StoreFault::Corrupt });
    let mut salvaged = Stored { first: Seq(1), last: Seq(2), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside: Vec::new() });
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    bench.pass(60_000);
    bench.work();
    bench.pass(60_000);
    bench.work();
    assert_eq!(bench.on_disk(), [2]);
    let ledger = bench.queue.ledger();
    assert_eq!((ledger.stored.rows, ledger.restored.rows, ledger.dropped_total().rows), (1, 0, 0));
}

/// Row 1 is acknowledged while the commit that has it is under way; the commit reaches the old file, all of which is salvaged, and counts as
/// failed, before or after the replacement is told.
fn acknowledged_meanwhile(failed_first: bool) -> Bench {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    bench.publish(Priority::Normal);
    bench.publish(Priority::Normal);
    assert_eq!(bench.take(Lane::Live), Some(Seq(1)));
    bench.pass(1000);
    let commit = bench.queue.poll_op(bench.now).unwrap();
    let StoreEvent::Committed { op, .. } = bench.answer(&commit) else { panic!() };
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    let mut salvaged = Stored { first: Seq(1), last: Seq(2), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    let failed = StoreEvent::Failed { op, fault: StoreFault::Corrupt };
    let replaced = StoreEvent::Reset { salvaged, aside: Vec::new() };
    for event in if failed_first { [failed, replaced] } else { [replaced, failed] } {
        bench.queue.store(bench.now, event);
    }
    bench
}

#[test]
fn a_row_acknowledged_during_a_commit_that_reaches_a_replaced_store_is_not_sent_again() {
    for failed_first in [true, false] {
        let mut bench = acknowledged_meanwhile(failed_first);
        assert_eq!(bench.take(Lane::Live), Some(Seq(2)));
        assert!(bench.queue.acknowledged(bench.now, Seq(2)));
        bench.pass(60_000);
        bench.work();
        bench.pass(60_000);
        bench.work();
        assert_eq!(bench.take(Lane::Backlog), None, "failed first: {failed_first}");
        assert!(bench.on_disk().is_empty(), "failed first: {failed_first}");
        let ledger = bench.queue.ledger();
        assert_eq!((ledger.stored.rows, ledger.restored.rows, ledger.dropped_total().rows), (0, 0, 0));
        assert_eq!((ledger.acknowledged.rows, ledger.produced.rows), (2, 2));
    }
}

#[test]
fn rows_that_come_back_in_an_older_state_of_the_store_hide_none_that_it_has_lost() {
    let mut bench = Bench::new(QueueSettings {
        limits: Limits { rows_max: 1000, ..settings(WhenFull::DropOldest).limits },
        ..settings(WhenFull::DropOldest)
    });
    let more = |bench: &mut Bench| {
        for _ in 0..5 {
            bench.publish(Priority::Normal);
        }
        bench.pass(1000);
        bench.work();
    };
    for _ in 0..6 {
        more(&mut bench);
    }
    let older = bench.disk.clone();
    bench.queue.attach();
    for seq in 1..=20 {
        bench.work();
        assert_eq!(bench.take(Lane::Backlog), Some(Seq(seq)));
        assert!(bench.queue.acknowledged(bench.now, Seq(seq)));
    }
    bench.queue.detach(bench.now);
    for _ in 0..4 {
        more(&mut bench);
    }
    assert_eq!(bench.on_disk(), (21..=50).collect::<Vec<_>>());
    let mut salvaged = Stored { first: Seq(1), last: Seq(30), ..Stored::default() };
    older.values().for_each(|row| salvaged.normal.add_row(row));
    assert_eq!(salvaged.normal.rows, bench.queue.ledger().stored.rows, "as many as are counted");
    bench.disk = older;
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside: Vec::new() });
    assert_eq!(
        bench.queue.ledger().dropped(DropReason::StoreLost),
        Tally { rows: 20, readings: 40, bytes: 20 * tally(&bench.disk[&Seq(1)]).bytes }
    );
    bench.queue.attach();
    let mut sent = Vec::new();
    loop {
        bench.pass(1000);
        bench.work();
        let Some(Seq(seq)) = bench.take(Lane::Backlog) else { break };
        assert!(bench.queue.acknowledged(bench.now, Seq(seq)));
        sent.push(seq);
    }
    assert_eq!(sent.last(), Some(&30));
    let ledger = bench.queue.ledger();
    assert_eq!((ledger.stored.rows, ledger.dropped_total().rows), (0, 20), "{ledger:?}");
    ledger.check().unwrap();
}

#[test]
fn a_commit_that_is_under_way_while_the_store_is_replaced_and_works_is_counted_once() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    for _ in 0..3 {
        bench.publish(Priority::Normal);
    }
    assert_eq!(bench.take(Lane::Live), Some(Seq(1)));
    bench.pass(1000);
    bench.work();
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    bench.publish(Priority::Normal);
    bench.pass(60_000);
    let commit = bench.queue.poll_op(bench.now).unwrap();
    let StoreOp::Commit { rows, acked, .. } = &commit else { panic!("{commit:?}") };
    assert_eq!((rows.len(), acked.len()), (1, 1));
    let mut salvaged = Stored { first: Seq(1), last: Seq(3), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside: Vec::new() });
    let done = bench.answer(&commit);
    bench.queue.store(bench.now, done);
    bench.queue.audit().unwrap();
    bench.work();
    bench.pass(60_000);
    bench.work();
    assert_eq!(bench.on_disk(), [2, 3, 4]);
    let ledger = bench.queue.ledger();
    assert_eq!((ledger.stored.rows, ledger.restored.rows, ledger.dropped_total().rows), (3, 0, 0));
}

/// Anything that can be said to a queue, sense or nonsense.
#[derive(Debug, Clone)]
enum Input {
    Publish { high: bool, len: usize },
    Pass(u32),
    Attach,
    Detach,
    Take(bool),
    Ack(u64),
    Refuse(u64),
    Op,
    Answer(u8),
    Flush,
    Nonsense(StoreEvent),
}

fn tally_strategy() -> impl Strategy<Value = Tally> {
    (0_u64..20, 0_u64..40, 0_u64..2000).prop_map(|(rows, readings, bytes)| Tally { rows, readings, bytes })
}

fn input() -> impl Strategy<Value = Input> {
    let nonsense = prop_oneof![
        (0_u64..40, tally_strategy()).prop_map(|(op, deleted)| StoreEvent::Committed { op, deleted }),
        (0_u64..40, tally_strategy()).prop_map(|(op, dropped)| StoreEvent::Trimmed { op, dropped }),
        (0_u64..40, any::<bool>()).prop_map(|(op, more)| StoreEvent::Fetched { op, rows: Vec::new(), more }),
        (tally_strategy(), tally_strategy(), 0_u64..50).prop_map(|(normal, high, first)| {
            let salvaged = Stored { normal, high, first: Seq(first), last: Seq(first + 5) };
            StoreEvent::Reset { salvaged, aside: Vec::new() }
        }),
    ];
    prop_oneof![
        4 => (any::<bool>(), 0_usize..50).prop_map(|(high, len)| Input::Publish { high, len }),
        2 => (0_u32..3000).prop_map(Input::Pass),
        1 => Just(Input::Attach),
        1 => Just(Input::Detach),
        3 => any::<bool>().prop_map(Input::Take),
        2 => (1_u64..60).prop_map(Input::Ack),
        1 => (1_u64..60).prop_map(Input::Refuse),
        4 => Just(Input::Op),
        4 => (0_u8..4).prop_map(Input::Answer),
        1 => Just(Input::Flush),
        1 => nonsense.prop_map(Input::Nonsense),
    ]
}

fn say(bench: &mut Bench, asked: &mut Option<StoreOp>, input: Input) {
    let now = bench.now;
    match input {
        Input::Publish { high, len } => {
            let priority = if high { Priority::High } else { Priority::Normal };
            let body = Body::Raw(vec![0; len].into());
            bench.queue.publish(now, Message { body, ..message(priority, now) });
        }
        Input::Pass(ms) => bench.pass(u64::from(ms)),
        Input::Attach => bench.queue.attach(),
        Input::Detach => bench.queue.detach(now),
        Input::Take(live) => {
            bench.queue.take(now, if live { Lane::Live } else { Lane::Backlog });
        }
        Input::Ack(seq) => {
            bench.queue.acknowledged(now, Seq(seq));
        }
        Input::Refuse(seq) => {
            bench.queue.refused(now, Seq(seq), DropReason::Oversize);
        }
        Input::Op => *asked = bench.queue.poll_op(now).or(asked.take()),
        Input::Answer(kind) => {
            bench.fault = (kind == 0).then_some(StoreFault::Full);
            if let Some(op) = asked.take() {
                let event = bench.answer(&op);
                bench.queue.store(now, event);
            }
        }
        Input::Flush => bench.queue.flush(),
        Input::Nonsense(event) => bench.queue.store(now, event),
    }
}

proptest! {
    #[test]
    fn nothing_a_store_or_a_link_says_breaks_the_equation(
        inputs in prop::collection::vec(input(), 1..200),
        drop_newest in any::<bool>(),
        strict in any::<bool>(),
    ) {
        let when_full = if drop_newest { WhenFull::DropNewest } else { WhenFull::DropOldest };
        let durability = if strict { Durability::Strict } else { Durability::Interval };
        let mut bench = Bench::new(QueueSettings { durability, ..settings(when_full) });
        let mut asked = None;
        for input in inputs {
            say(&mut bench, &mut asked, input);
            prop_assert!(bench.queue.check().is_ok(), "{:?}", bench.queue.check());
            prop_assert!(bench.queue.ledger().in_memory.rows <= 8);
        }
    }
}
