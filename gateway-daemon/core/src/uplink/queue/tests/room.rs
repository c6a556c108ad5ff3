//! A full queue: whether the disk makes room for a row, or something in memory goes.

use super::*;

fn bench(when_full: WhenFull, rows_max: u64) -> Bench {
    let limits = Limits { rows_max, ..settings(when_full).limits };
    Bench::new(QueueSettings { limits, ..settings(when_full) })
}

fn store(bench: &mut Bench, priorities: &[Priority]) {
    for priority in priorities {
        bench.publish(*priority);
    }
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.queue.ledger().in_memory.rows, 0);
}

fn kept(bench: &Bench) -> u64 {
    bench.queue.ledger().kept().rows
}

#[test]
fn an_alarm_takes_the_place_of_the_oldest_alarm_on_disk_when_there_is_no_reading() {
    let mut bench = bench(WhenFull::DropOldest, 4);
    store(&mut bench, &[Priority::High; 4]);
    bench.publish(Priority::High);
    assert_eq!((kept(&bench), bench.dropped(DropReason::Oldest)), (5, 0), "until the disk has made room");
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.on_disk(), [2, 3, 4, 5]);
    assert_eq!((kept(&bench), bench.dropped(DropReason::Oldest)), (4, 1));
}

#[test]
fn what_is_only_in_memory_gives_way_at_once_when_nothing_is_on_disk() {
    for priority in [Priority::Normal, Priority::High] {
        let mut bench = bench(WhenFull::DropOldest, 4);
        for _ in 0..4 {
            bench.publish(priority);
        }
        assert_eq!((kept(&bench), bench.dropped(DropReason::Oldest)), (4, 0), "{priority:?}");
        bench.publish(priority);
        assert_eq!((kept(&bench), bench.dropped(DropReason::Oldest)), (4, 1), "{priority:?}");
        assert_eq!(bench.queue.oldest_in_memory(), Some(BootNs(0)));
        bench.pass(1000);
        bench.work();
        assert_eq!(bench.on_disk(), [2, 3, 4, 5], "{priority:?}");
    }
}

#[test]
fn the_disk_gives_no_more_readings_for_alarms_than_it_has() {
    let mut bench = bench(WhenFull::DropNewest, 4);
    store(&mut bench, &[Priority::Normal, Priority::High, Priority::High, Priority::High]);
    bench.publish(Priority::High);
    assert_eq!(bench.dropped(DropReason::Newest), 0, "the reading on disk goes for it");
    bench.publish(Priority::High);
    assert_eq!(bench.dropped(DropReason::Newest), 1, "there is no other");
    bench.pass(1000);
    bench.work();
    assert_eq!(bench.on_disk(), [2, 3, 4, 5]);
    assert_eq!((kept(&bench), bench.dropped(DropReason::Newest)), (4, 2));
}
