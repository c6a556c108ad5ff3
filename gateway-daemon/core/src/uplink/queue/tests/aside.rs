//! Rows that the cloud will not take.

use super::*;
use crate::uplink::row::Blame;

const WHY: Blame = Blame::Cut;

fn server() -> Arc<str> {
    "cloud.example:8883".into()
}

impl Bench {
    /// So many rows are on disk, and the uplink has come.
    fn attached(rows: usize) -> Self {
        let mut bench = Self::new(settings(WhenFull::DropOldest));
        for _ in 0..rows {
            bench.publish(Priority::Normal);
        }
        bench.pass(1000);
        bench.work();
        bench.queue.attach();
        bench.work();
        bench
    }

    fn set_aside(&mut self, seq: u64) -> Option<Arc<Mark>> {
        let mark = self.queue.set_aside(self.now, Seq(seq), WHY, &server());
        self.queue.audit().unwrap();
        mark
    }

    fn aside(&self) -> Vec<u64> {
        self.queue.aside().map(|mark| mark.seq.0).collect()
    }

    /// Another run finds what is on disk.
    fn restart(self, settings: QueueSettings) -> Self {
        let mut stored = Stored::default();
        self.disk.values().for_each(|row| stored.normal.add_row(row));
        stored.first = self.disk.keys().next().copied().unwrap_or_default();
        stored.last = self.disk.keys().next_back().copied().unwrap_or_default();
        let mut queue = Queue::new(settings, RUN, stored);
        let marks: Vec<_> =
            self.marks.values().filter(|mark| self.disk.contains_key(&mark.seq)).cloned().collect();
        queue.restore_aside(&marks);
        queue.audit().unwrap();
        Self { queue, now: BootNs(0), ..self }
    }

    /// Everything that waits, sent and acknowledged in its lane.
    fn drain(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        for _ in 0..100 {
            self.work();
            while let Some(seq) = self.take(Lane::Backlog).or_else(|| self.take(Lane::Live)) {
                sent.push(seq.0);
                self.queue.acknowledged(self.now, seq);
                self.queue.audit().unwrap();
            }
            self.pass(1000);
        }
        sent
    }
}

#[test]
fn a_row_set_aside_in_memory_goes_to_disk_at_once_stays_stored_and_is_never_handed_out() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.queue.attach();
    for _ in 0..3 {
        bench.publish(Priority::Normal);
    }
    assert_eq!(bench.take(Lane::Live), Some(Seq(1)));
    let mark = bench.set_aside(1).unwrap();
    assert_eq!((mark.seq, &*mark.topic, &*mark.server, mark.tally.readings), (Seq(1), "t", &*server(), 2));
    assert!(bench.work() >= 2, "a commit and a mark");
    assert!(bench.marks.contains_key(&Seq(1)));
    assert_eq!(bench.drain(), [2, 3]);
    let ledger = *bench.queue.ledger();
    assert_eq!((ledger.stored.rows, ledger.acknowledged.rows, ledger.dropped_total().rows), (1, 2, 0));
    assert_eq!((bench.aside(), bench.queue.aside_total().rows), (vec![1], 1));
    assert_eq!(bench.receipts(), [(1, Fate::Safe), (2, Fate::Safe), (3, Fate::Safe)]);
}

#[test]
fn what_is_set_aside_survives_a_restart_and_the_backlog_around_it_arrives() {
    let mut bench = Bench::attached(6);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    bench.set_aside(1);
    bench.set_aside(4);
    bench.work();
    let mut bench = bench.restart(settings(WhenFull::DropOldest));
    assert_eq!(bench.aside(), [1, 4]);
    bench.queue.attach();
    assert_eq!(bench.drain(), [2, 3, 5, 6]);
    assert_eq!(bench.queue.ledger().stored.rows, 2);
    assert_eq!(bench.disk.keys().map(|seq| seq.0).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(bench.queue.poll_timeout(), None, "nothing is left to do");
}

#[test]
fn a_row_put_back_is_sent_at_its_place_and_its_mark_is_forgotten() {
    let mut bench = Bench::attached(4);
    bench.set_aside(2);
    bench.work();
    assert!(bench.queue.put_back(Seq(2)));
    assert!(!bench.queue.put_back(Seq(2)) && !bench.queue.put_back(Seq(77)));
    bench.work();
    assert!(bench.marks.is_empty());
    assert_eq!(bench.drain(), [1, 2, 3, 4]);
    assert_eq!(bench.queue.ledger().acknowledged.rows, 4);
    let counters = bench.queue.counters();
    assert_eq!((counters.set_aside_rows_total, counters.put_back_rows_total), (1, 1));
}

#[test]
fn only_deleting_a_row_that_is_set_aside_counts_it_as_dropped() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.publish(Priority::Normal);
    bench.set_aside(1);
    bench.work();
    bench.publish(Priority::Normal);
    bench.set_aside(2);
    assert!(bench.queue.delete_aside(bench.now, Seq(1)), "on disk");
    assert!(!bench.queue.delete_aside(bench.now, Seq(9)));
    bench.pass(1000);
    bench.work();
    assert!(bench.disk.is_empty() || bench.disk.keys().eq(&[Seq(2)]), "{:?}", bench.disk);
    assert!(bench.queue.delete_aside(bench.now, Seq(2)));
    bench.pass(2000);
    bench.work();
    assert!(bench.disk.is_empty());
    let ledger = bench.queue.ledger();
    assert_eq!((ledger.dropped(DropReason::RefusedByCloud).rows, ledger.kept().rows), (2, 0));
}

#[test]
fn a_row_deleted_by_hand_before_it_is_on_disk_is_never_sent_either() {
    let mut bench = Bench::new(settings(WhenFull::DropOldest));
    bench.publish(Priority::Normal);
    bench.set_aside(1);
    assert!(bench.queue.delete_aside(bench.now, Seq(1)));
    bench.queue.attach();
    assert_eq!(bench.drain(), Vec::<u64>::new());
    assert_eq!(bench.queue.ledger().dropped(DropReason::RefusedByCloud).rows, 1);
}

#[test]
fn neither_the_limits_of_the_queue_nor_its_age_limit_concern_what_is_set_aside() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut wanted = settings(when_full);
        wanted.limits.age_max = Some(Duration::from_secs(60));
        let mut bench = Bench::new(wanted);
        for _ in 0..3 {
            bench.publish(Priority::Normal);
            let seq = bench.queue.next_seq().0 - 1;
            bench.set_aside(seq);
        }
        bench.work();
        // Ten more fit although three are there already, and then the policy holds for those ten.
        for _ in 0..10 {
            bench.publish(Priority::Normal);
            bench.pass(1000);
            bench.work();
        }
        assert_eq!(bench.queue.ledger().dropped_total().rows, 0, "{when_full:?}");
        for _ in 0..5 {
            bench.publish(Priority::Normal);
            bench.pass(1000);
            bench.work();
        }
        assert!(bench.queue.ledger().dropped_total().rows >= 5, "{when_full:?}");
        bench.pass(600_000);
        bench.work();
        bench.pass(1000);
        bench.work();
        assert_eq!(bench.aside(), [1, 2, 3]);
        assert_eq!(bench.queue.ledger().stored.rows, 3, "all others are too old");
        let ledger = bench.queue.ledger();
        assert_eq!(ledger.dropped(DropReason::RefusedByCloud).rows, 0);
    }
}

#[test]
fn of_too_many_rows_set_aside_the_oldest_go_and_are_counted() {
    let mut wanted = settings(WhenFull::DropOldest);
    (wanted.limits.rows_max, wanted.limits.bytes_max) = (10_000, 64 << 20);
    wanted.memory = Memory::default();
    let mut bench = Bench::new(wanted);
    let many = ASIDE_ROWS_MAX as u64 + 7;
    for seq in 1..=many {
        bench.queue.publish(bench.now, message(Priority::Normal, bench.now));
        bench.queue.set_aside(bench.now, Seq(seq), WHY, &server());
    }
    bench.queue.audit().unwrap();
    assert_eq!(bench.queue.aside_total().rows, ASIDE_ROWS_MAX as u64);
    assert_eq!(bench.queue.ledger().dropped(DropReason::RefusedByCloud).rows, 7);
    assert_eq!(bench.queue.aside().next().unwrap().seq, Seq(8));
    // By bytes: one of nearly all that may be set aside pushes the others out.
    let large =
        Message { body: Body::Raw(vec![0; 4_000_000].into()), ..message(Priority::Normal, bench.now) };
    for _ in 0..6 {
        let seq = bench.queue.publish(bench.now, large.clone());
        bench.queue.set_aside(bench.now, seq, WHY, &server());
        bench.work();
        assert!(bench.queue.aside_total().bytes <= ASIDE_BYTES_MAX);
    }
    bench.queue.audit().unwrap();
    assert_eq!(
        bench.queue.ledger().dropped(DropReason::RefusedByCloud).rows,
        many + 6 - bench.queue.aside_total().rows
    );
}

#[test]
fn a_mark_that_the_store_could_not_write_is_written_when_it_can() {
    let mut bench = Bench::attached(1);
    bench.set_aside(1);
    bench.fault = Some(StoreFault::Full);
    bench.work();
    bench.fault = None;
    bench.pass(60_000);
    bench.work();
    assert!(bench.marks.contains_key(&Seq(1)));
    assert_eq!(bench.drain(), Vec::<u64>::new());
}

#[test]
fn a_replaced_store_says_what_is_set_aside_in_it() {
    let mut bench = Bench::attached(4);
    for seq in [1, 2, 3] {
        bench.set_aside(seq);
    }
    bench.work();
    // Row 1 is lost, the mark of row 3 is lost, and row 2 was put back a moment ago.
    bench.queue.put_back(Seq(2));
    bench.disk.remove(&Seq(1));
    let mut salvaged = Stored { first: Seq(2), last: Seq(4), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    let aside = vec![Arc::clone(&bench.marks[&Seq(2)])];
    bench.marks.remove(&Seq(3));
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside });
    bench.queue.audit().unwrap();
    assert_eq!(bench.aside(), [2], "the store says so, and it may be put back again");
    bench.queue.put_back(Seq(2));
    assert_eq!(bench.drain(), [2, 4]);
    assert_eq!(bench.aside(), [3], "its row was read, and it is known why it is not to be sent");
    assert!(bench.marks.contains_key(&Seq(3)), "the new database knows it as well");
    assert_eq!(bench.queue.ledger().dropped(DropReason::StoreLost).rows, 1);
}

#[test]
fn what_is_set_aside_stays_so_in_a_new_database_that_has_lost_every_mark() {
    let mut bench = Bench::attached(6);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    bench.queue.acknowledged(bench.now, Seq(1));
    for seq in [2, 3, 5] {
        bench.set_aside(seq);
    }
    assert_eq!(bench.drain(), [4, 6]);
    // Row 3 is not salvaged; the others are, and no mark.
    bench.disk.remove(&Seq(3));
    bench.marks.clear();
    let mut salvaged = Stored { first: Seq(2), last: Seq(5), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside: Vec::new() });
    bench.publish(Priority::Normal);
    assert!(bench.queue.put_back(Seq(5)), "a person wants it before it is found");
    assert_eq!(bench.drain(), [5, 7], "and row 2 is not sent again");
    assert_eq!(bench.aside(), [2]);
    assert!(bench.marks.keys().eq(&[Seq(2)]));
    let ledger = bench.queue.ledger();
    assert_eq!((ledger.stored.rows, ledger.dropped(DropReason::StoreLost).rows), (1, 1));
}
