//! A database that was replaced on a disk without room: what is written again, and what goes first.

use super::*;

/// Twenty rows on disk, of which the first eight or so are loaded because a link is up, one is in flight, and all of which fit.
fn bench(when_full: WhenFull) -> Bench {
    let mut bench = Bench::new(QueueSettings {
        limits: Limits { rows_max: 1000, ..settings(when_full).limits },
        ..settings(when_full)
    });
    for _ in 0..4 {
        bench.store_rows(5);
    }
    bench.queue.attach();
    bench.work();
    assert_eq!(bench.queue.loaded_rows(), 16, "one fetch");
    bench
}

impl Bench {
    /// The database is replaced; of its rows those that `keep` says are salvaged.
    fn replace_store(&mut self, keep: impl Fn(u64) -> bool) {
        self.disk.retain(|seq, _| keep(seq.0));
        let mut salvaged = Stored::default();
        self.disk.values().for_each(|row| salvaged.normal.add_row(row));
        salvaged.first = self.disk.keys().next().copied().unwrap_or_default();
        salvaged.last = self.disk.keys().next_back().copied().unwrap_or_default();
        self.queue.store(self.now, StoreEvent::Reset { salvaged, aside: Vec::new() });
        self.queue.audit().unwrap();
    }

    /// The ops of the next minutes, and whether each was carried out.
    fn watch(&mut self) -> Vec<(&'static str, bool)> {
        let mut seen = Vec::new();
        for _ in 0..20 {
            while let Some(op) = self.queue.poll_op(self.now) {
                let event = self.answer(&op);
                let word = match op {
                    StoreOp::Commit { rows, .. } if rows.is_empty() => "delete",
                    StoreOp::Commit { .. } => "commit",
                    StoreOp::Fetch { .. } => "fetch",
                    StoreOp::Trim { .. } => "trim",
                    StoreOp::Mark { .. } => "mark",
                    StoreOp::Replace { .. } => "replace",
                };
                seen.push((word, !matches!(event, StoreEvent::Failed { .. })));
                self.queue.store(self.now, event);
                self.queue.audit().unwrap();
                assert!(seen.len() < 500, "the queue asks for ever: {seen:?}");
            }
            self.pass(30_000);
        }
        seen
    }

    /// Sends and acknowledges everything that waits in memory or comes from the disk, in its order.
    fn deliver(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        for _ in 0..60 {
            self.watch();
            while let Some(seq) = self.take(Lane::Backlog).or_else(|| self.take(Lane::Live)) {
                assert!(self.queue.acknowledged(self.now, seq));
                self.queue.audit().unwrap();
                sent.push(seq.0);
            }
        }
        sent
    }

    /// Sends and acknowledges what waits in this lane.
    fn deliver_lane(&mut self, lane: Lane) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(seq) = self.take(lane) {
            assert!(self.queue.acknowledged(self.now, seq));
            self.queue.audit().unwrap();
            sent.push(seq.0);
        }
        sent
    }

    /// No row is left, and each was acknowledged or is counted as dropped for one of these reasons.
    fn settled(&self, acknowledged: u64, dropped: u64) {
        let ledger = self.queue.ledger();
        ledger.check().unwrap();
        let found = (ledger.kept().rows, ledger.acknowledged.rows, ledger.dropped_total().rows);
        assert_eq!(found, (0, acknowledged, dropped), "{ledger:?}");
        assert_eq!(ledger.restored.rows, 0);
        assert!(self.disk.is_empty(), "{:?}", self.on_disk());
        assert!(self.queue.is_idle());
    }
}

#[test]
fn a_rescue_that_meets_a_full_disk_does_not_stand_in_the_way_of_deletions() {
    let mut bench = bench(WhenFull::DropOldest);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    // Rows 2 to 5 are not salvaged, and nothing more fits.
    bench.replace_store(|seq| !(2..=5).contains(&seq));
    bench.rows_max = 0;
    assert_eq!(bench.watch().first(), Some(&("replace", false)));
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    assert!(bench.watch().contains(&("delete", true)));
    assert!(!bench.on_disk().contains(&1), "{:?}", bench.on_disk());
    let sent = bench.deliver();
    assert_eq!(sent, (2..=20).collect::<Vec<_>>(), "each once and in order, without any room");
    bench.settled(20, 0);
}

#[test]
fn a_rescue_that_meets_a_full_disk_does_not_stand_in_the_way_of_a_trim() {
    let mut bench = bench(WhenFull::DropOldest);
    bench.replace_store(|seq| seq > 5);
    bench.rows_max = 15;
    assert_eq!(bench.watch().first(), Some(&("replace", false)));
    for _ in 0..5 {
        bench.publish(Priority::Normal);
    }
    let seen = bench.watch();
    assert!(seen.contains(&("trim", true)), "{seen:?}");
    assert!(bench.dropped(DropReason::Oldest) > 0 && bench.dropped(DropReason::MemoryFull) == 0);
    assert!(bench.disk.contains_key(&Seq(1)), "the room goes to the oldest first: {:?}", bench.on_disk());
    bench.rows_max = usize::MAX;
    let sent = bench.deliver();
    assert!(sent.is_sorted(), "{sent:?}");
    let dropped = bench.dropped(DropReason::Oldest);
    assert_eq!(sent.len() as u64 + dropped, 25, "{sent:?}");
    bench.settled(25 - dropped, dropped);
}

#[test]
fn a_full_disk_that_never_gets_room_holds_memory_to_its_bound_while_a_rescue_waits() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let mut bench = bench(when_full);
        bench.queue.detach(bench.now);
        bench.replace_store(|seq| seq > 5);
        bench.fault = Some(StoreFault::Full);
        for _ in 0..30 {
            bench.publish(Priority::Normal);
            bench.pass(1000);
            bench.work();
            assert!(bench.queue.ledger().in_memory.rows <= 8);
        }
        assert_eq!(bench.dropped(DropReason::MemoryFull), 22, "{when_full:?}");
        bench.fault = None;
        bench.queue.attach();
        let sent = bench.deliver();
        let stays = if when_full == WhenFull::DropOldest { 43..=50 } else { 21..=28 };
        assert_eq!(sent, (6..=20).chain(stays).collect::<Vec<u64>>());
        bench.settled(23, 27);
    }
}

#[test]
fn when_there_is_room_again_a_rescue_that_met_a_full_disk_delivers_everything_once() {
    for (linked, room) in [(true, 12), (false, 12), (true, 0), (false, 0)] {
        let mut bench = bench(WhenFull::DropOldest);
        assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
        assert_eq!(bench.take(Lane::Backlog), Some(Seq(2)));
        bench.publish(Priority::Normal);
        bench.publish(Priority::Normal);
        assert_eq!(bench.take(Lane::Live), Some(Seq(21)));
        assert!(bench.queue.acknowledged(bench.now, Seq(2)));
        bench.replace_store(|seq| !(4..=10).contains(&seq));
        assert_eq!(bench.queue.ledger().stored.rows, 19, "{:?}", bench.queue.ledger());
        bench.rows_max = room;
        bench.watch();
        if !linked {
            bench.queue.detach(bench.now);
            bench.watch();
        }
        bench.rows_max = 1000;
        bench.watch();
        let ledger = *bench.queue.ledger();
        assert_eq!((ledger.in_memory.rows, ledger.stored.rows), (0, 21), "linked: {linked}, {ledger:?}");
        let expected = (1..=22).filter(|seq| *seq != 2).collect::<Vec<u64>>();
        assert_eq!(bench.on_disk(), expected);
        bench.queue.detach(bench.now);
        bench.queue.attach();
        assert_eq!(bench.deliver(), expected, "linked: {linked}");
        bench.settled(22, 0);
    }
}

#[test]
fn a_rescue_goes_in_portions_where_not_all_of_it_has_room() {
    let mut bench = bench(WhenFull::DropOldest);
    bench.replace_store(|seq| seq > 16);
    bench.rows_max = 10;
    let seen = bench.watch();
    assert!(seen.contains(&("replace", true)), "{seen:?}");
    assert_eq!(bench.on_disk(), [1, 2, 3, 4, 5, 6, 17, 18, 19, 20]);
    assert_eq!(bench.deliver(), (1..=20).collect::<Vec<_>>());
    bench.settled(20, 0);
}

#[test]
fn what_a_portion_has_written_goes_before_the_rest_when_the_link_was_lost_in_between() {
    let mut bench = bench(WhenFull::DropOldest);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)));
    bench.replace_store(|seq| seq > 16);
    bench.rows_max = 10;
    bench.watch();
    assert_eq!(bench.on_disk(), [1, 2, 3, 4, 5, 6, 17, 18, 19, 20]);
    bench.queue.detach(bench.now);
    bench.queue.attach();
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)), "and not 7, which still has no room");
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    bench.rows_max = usize::MAX;
    assert_eq!(bench.deliver(), (2..=20).collect::<Vec<_>>());
    bench.settled(20, 0);
}

#[test]
fn a_link_that_is_lost_during_the_last_portion_of_a_rescue_puts_nothing_out_of_order() {
    let mut bench = bench(WhenFull::DropOldest);
    bench.replace_store(|seq| seq > 16);
    bench.rows_max = 19;
    bench.watch();
    assert_eq!(bench.on_disk().len(), 19, "{:?}", bench.on_disk());
    let Some(op @ StoreOp::Replace { .. }) = bench.queue.poll_op(bench.now) else { panic!() };
    bench.queue.detach(bench.now);
    bench.queue.attach();
    let event = bench.answer(&op);
    assert!(matches!(event, StoreEvent::Failed { fault: StoreFault::Full, .. }));
    bench.queue.store(bench.now, event);
    assert_eq!(bench.take(Lane::Backlog), Some(Seq(1)), "and not 16, which still has no room");
    assert!(bench.queue.acknowledged(bench.now, Seq(1)));
    assert_eq!(bench.deliver(), (2..=20).collect::<Vec<_>>());
    bench.settled(20, 0);
}

#[test]
fn a_fresh_row_that_a_rescue_holds_goes_before_no_part_of_the_backlog_that_is_unread() {
    for lost_before_the_fault in [true, false] {
        let mut bench = bench(WhenFull::DropOldest);
        // With 17 to 20 unread, a fresh row stays loaded beyond them.
        bench.publish(Priority::Normal);
        bench.pass(10_000);
        bench.watch();
        assert_eq!(bench.take(Lane::Live), Some(Seq(21)));
        bench.replace_store(|seq| seq > 16);
        bench.rows_max = 0;
        if lost_before_the_fault {
            bench.queue.detach(bench.now);
            bench.queue.attach();
        }
        assert_eq!(bench.watch().first(), Some(&("replace", false)));
        if !lost_before_the_fault {
            bench.queue.detach(bench.now);
            bench.queue.attach();
        }
        let of_backlog = bench.deliver_lane(Lane::Backlog);
        assert_eq!(
            of_backlog,
            (1..=16).collect::<Vec<_>>(),
            "17 to 20 cannot be read yet: {lost_before_the_fault}"
        );
        assert_eq!(bench.deliver_lane(Lane::Live), [21], "needs no room");
        assert_eq!(bench.deliver(), [17, 18, 19, 20]);
        bench.settled(21, 0);
    }
}

#[test]
fn a_commit_that_reached_a_replaced_store_is_not_sent_again_when_its_rescue_met_a_full_disk() {
    for failed_first in [true, false] {
        let mut bench = acknowledged_meanwhile(failed_first);
        bench.fault = Some(StoreFault::Full);
        bench.watch();
        assert_eq!(bench.take(Lane::Live), Some(Seq(2)));
        bench.publish(Priority::Normal);
        bench.watch();
        bench.fault = None;
        bench.watch();
        assert_eq!(bench.on_disk(), [2, 3]);
        assert!(bench.queue.acknowledged(bench.now, Seq(2)));
        assert_eq!(bench.deliver(), [3], "failed first: {failed_first}");
        bench.settled(3, 0);
    }
}

#[test]
fn a_rescue_that_fails_after_the_store_was_replaced_once_more_takes_no_place_of_the_next_one() {
    let mut bench = bench(WhenFull::DropOldest);
    bench.replace_store(|seq| seq > 5);
    let Some(StoreOp::Replace { op, .. }) = bench.queue.poll_op(bench.now) else { panic!() };
    bench.queue.detach(bench.now);
    bench.replace_store(|seq| seq > 10);
    bench.queue.store(bench.now, StoreEvent::Failed { op, fault: StoreFault::Corrupt });
    bench.watch();
    assert_eq!(bench.on_disk(), (1..=20).collect::<Vec<_>>());
    bench.queue.attach();
    assert_eq!(bench.deliver(), (1..=20).collect::<Vec<_>>());
    bench.settled(20, 0);
}

#[test]
fn a_row_deleted_by_hand_while_a_rescue_waits_is_counted_once() {
    let mut bench = bench(WhenFull::DropOldest);
    for seq in [2, 3] {
        bench.queue.set_aside(bench.now, Seq(seq), crate::uplink::row::Blame::Cut, &"cloud:8883".into());
    }
    bench.work();
    let aside: Vec<_> = bench.marks.values().cloned().collect();
    bench.disk.retain(|seq, _| seq.0 > 1);
    let mut salvaged = Stored { first: Seq(2), last: Seq(20), ..Stored::default() };
    bench.disk.values().for_each(|row| salvaged.normal.add_row(row));
    bench.queue.store(bench.now, StoreEvent::Reset { salvaged, aside });
    bench.rows_max = 0;
    bench.watch();
    assert!(bench.queue.delete_aside(bench.now, Seq(2)));
    bench.watch();
    assert!(bench.queue.delete_aside(bench.now, Seq(3)));
    bench.watch();
    assert!(bench.on_disk().iter().all(|seq| ![2, 3].contains(seq)));
    assert_eq!(bench.dropped(DropReason::RefusedByCloud), 2);
    let sent = bench.deliver();
    assert_eq!(sent, (1..=20).filter(|seq| ![2, 3].contains(seq)).collect::<Vec<_>>());
    bench.settled(18, 2);
}
