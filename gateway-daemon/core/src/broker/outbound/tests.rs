//! One session by itself: directed tests, and a random life of a durable session with a client, a disk, failures and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::broker::change::{Answer, Read, Turn};
use crate::broker::journal::disk::Disk;
use crate::broker::journal::{self, Journal};
use crate::broker::outbound::recovered::Past;
use crate::broker::packet::Message;
use crate::broker::topic::TopicName;
use crate::tag::{BootId, RunId};
use crate::uplink::row::StoreFault;

const MS: u64 = 1_000_000;
const LIMIT: Limit = Limit { rows_max: 1000, bytes_max: 1 << 20, when_full: WhenFull::DropNewest };
const NAME: &str = "local/c";

fn message(number: u64, qos: Qos) -> Message {
    Message {
        topic: TopicName::new("t").unwrap(),
        body: number.to_string().into_bytes().into(),
        qos,
        retain: false,
        properties: None,
        at: BootNs(0),
        expiry_s: None,
    }
}

fn wrap(message: Message) -> Delivery {
    let qos = message.qos;
    Delivery { message: Arc::new(message), qos, retain: false, identifiers: Box::default() }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body).unwrap().parse().unwrap()
}

struct Bench {
    now: u64,
    journal: Journal,
    totals: Totals,
    outbound: Outbound,
    disk: Disk,
    reads: u64,
}

impl Bench {
    fn over(disk: Disk, limit: Limit, past: &Past) -> Self {
        let mut journal = Journal::new(journal::Settings {
            run: RunId { boot: BootId(1), start_ms: 1 },
            commit_interval: Duration::from_secs(1),
            retained_interval: Duration::from_secs(30),
            dirty_bytes_max: u64::MAX,
        });
        let all = Held { rows: 5000, bytes: u64::MAX };
        let mut totals = Totals::new(TotalsLimits { volatile: all, durable: all });
        let mut desk = Desk { now: BootNs(0), journal: &mut journal, totals: &mut totals };
        let outbound = Outbound::durable(&mut desk, &NAME.into(), limit, past);
        Self { now: 0, journal, totals, outbound, disk, reads: 0 }
    }

    fn fresh(limit: Limit) -> Self {
        Self::over(Disk::default(), limit, &Past::default())
    }

    fn desk(&mut self) -> (&mut Outbound, Desk<'_>) {
        let desk = Desk { now: BootNs(self.now), journal: &mut self.journal, totals: &mut self.totals };
        (&mut self.outbound, desk)
    }

    fn push(&mut self, number: u64, qos: Qos) -> Pushed {
        let (outbound, mut desk) = self.desk();
        outbound.push(&mut desk, wrap(message(number, qos)), Some(Ticket(number)))
    }

    /// What is sent: (identifier, number, again), a release has no number.
    fn send(&mut self, window: usize) -> Vec<(u16, Option<u64>, bool)> {
        let mut sent = Vec::new();
        loop {
            let (outbound, mut desk) = self.desk();
            match outbound.next(&mut desk, window) {
                None => return sent,
                Some(Send::Release(id)) => sent.push((id, None, false)),
                Some(Send::Publish { id, delivery, again }) => sent.push((id, Some(number(delivery)), again)),
            }
        }
    }

    /// Makes everything durable that is due now.
    fn commit(&mut self) {
        while let Some(turn) = self.journal.poll(BootNs(self.now)) {
            self.disk.apply(&turn);
            self.journal.answer(BootNs(self.now), &Answer::Done { number: turn.number });
            while let Some(progress) = self.journal.next_progress() {
                let (outbound, desk) = self.desk();
                outbound.progress(&desk, progress.until);
            }
        }
    }

    fn read(&mut self) -> bool {
        self.reads += 1;
        let number = self.reads;
        let (outbound, mut desk) = self.desk();
        let Some(read) = outbound.wants_read(&mut desk, true, number) else { return false };
        let Answer::Rows { number, rows, more } = self.disk.read(&read) else { unreachable!() };
        let (outbound, mut desk) = self.desk();
        outbound.rows(&mut desk, number, &rows, more);
        true
    }

    fn stored(&self) -> usize {
        self.disk.queues.get(NAME).map_or(0, BTreeMap::len)
    }

    fn in_memory(&self) -> usize {
        self.outbound.flights.len() + self.outbound.head.len() + self.outbound.tail.len()
    }
}

#[test]
fn identifiers_are_made_from_the_place_in_the_queue_and_never_0() {
    assert_eq!([1, 2, 65_535, 65_536, 131_071].map(|seq| identifier(Seq(seq))), [1, 2, 65_535, 1, 1]);
}

#[test]
fn a_message_whose_identifier_is_in_use_waits() {
    let mut bench = Bench::fresh(LIMIT);
    bench.outbound = Outbound::volatile(LIMIT);
    bench.outbound.online(Position::PAST);
    bench.push(1, Qos::AtLeastOnce);
    assert_eq!(bench.send(10).len(), 1);
    for round in 2..=65_535 {
        bench.push(round, Qos::AtLeastOnce);
        let (id, _, _) = bench.send(10)[0];
        let (outbound, mut desk) = bench.desk();
        assert!(outbound.acknowledged(&mut desk, id));
    }
    bench.push(65_536, Qos::AtLeastOnce);
    assert!(bench.send(10).is_empty());
    let (outbound, mut desk) = bench.desk();
    assert!(outbound.acknowledged(&mut desk, 1));
    assert_eq!(bench.send(10), [(1, Some(65_536), false)]);
}

#[test]
fn a_message_that_is_acknowledged_in_time_never_reaches_the_disk() {
    let mut bench = Bench::fresh(LIMIT);
    bench.outbound.online(Position::PAST);
    assert_eq!(bench.push(1, Qos::AtLeastOnce), Pushed::Owed);
    assert_eq!(bench.send(10), [(1, Some(1), false)]);
    let (outbound, mut desk) = bench.desk();
    assert!(outbound.acknowledged(&mut desk, 1));
    assert_eq!(bench.journal.next_safe(), Some(Ticket(1)));
    bench.now += 10_000 * MS;
    bench.commit();
    assert!(bench.disk.queues.is_empty());
    assert_eq!(bench.outbound.held(), Held::default());
    assert_eq!(bench.totals.durable(), Held::default());
}

#[test]
fn exactly_once_waits_for_the_disk_at_each_of_its_steps() {
    let mut bench = Bench::fresh(LIMIT);
    bench.outbound.online(Position::PAST);
    bench.push(1, Qos::ExactlyOnce);
    assert!(bench.send(10).is_empty(), "its row is not durable");
    bench.commit();
    assert_eq!(bench.send(10), [(1, Some(1), false)]);
    let (outbound, mut desk) = bench.desk();
    assert_eq!(outbound.received(&mut desk, 1), Receipt::Release);
    assert!(bench.send(10).is_empty(), "the row is not gone yet");
    let turn = bench.journal.poll(BootNs(0)).unwrap();
    assert_eq!(turn.changes.len(), 2, "the row goes and the identifier stays in one turn");
    bench.disk.apply(&turn);
    bench.journal.answer(BootNs(0), &Answer::Done { number: turn.number });
    assert_eq!(bench.send(10), [(1, None, false)]);
    let (outbound, mut desk) = bench.desk();
    assert!(outbound.completed(&mut desk, 1));
    assert!(!outbound.completed(&mut desk, 1));
    bench.now += 1000 * MS;
    bench.commit();
    assert!(bench.disk.facts.is_empty() && bench.stored() == 0);
}

#[test]
fn acknowledgements_of_the_wrong_kind_change_nothing() {
    let mut bench = Bench::fresh(LIMIT);
    bench.outbound.online(Position::PAST);
    bench.push(1, Qos::AtLeastOnce);
    bench.push(2, Qos::ExactlyOnce);
    bench.commit();
    assert_eq!(bench.send(10).len(), 2);
    let (outbound, mut desk) = bench.desk();
    assert_eq!(outbound.received(&mut desk, 1), Receipt::Unknown);
    assert!(!outbound.acknowledged(&mut desk, 2));
    assert!(!outbound.completed(&mut desk, 2));
    assert!(!outbound.acknowledged(&mut desk, 3));
    assert_eq!(outbound.in_flight(), 2);
}

#[test]
fn a_hundred_thousand_messages_of_a_client_that_is_away_cost_no_memory() {
    let mut bench = Bench::fresh(Limit { rows_max: 200_000, bytes_max: u64::MAX, ..LIMIT });
    bench.totals = Totals::new(TotalsLimits {
        volatile: Held::default(),
        durable: Held { rows: u64::MAX, bytes: u64::MAX },
    });
    for number in 1..=100_000 {
        bench.push(number, Qos::AtLeastOnce);
        if number % 500 == 0 {
            bench.commit();
            assert_eq!(bench.in_memory(), 0);
        }
    }
    assert_eq!((bench.outbound.held().rows, bench.stored()), (100_000, 100_000));
    assert_eq!(bench.outbound.shelf.chunks(), 100_000_usize.div_ceil(64));
    bench.outbound.online(Position::PAST);
    let mut next = 1;
    while bench.read() {
        assert!(bench.in_memory() <= READ_ROWS_MAX as usize + 100);
        loop {
            let sent = bench.send(100);
            if sent.is_empty() {
                break;
            }
            for (id, number, again) in sent {
                assert_eq!((number, again), (Some(next), false));
                next += 1;
                let (outbound, mut desk) = bench.desk();
                assert!(outbound.acknowledged(&mut desk, id));
            }
        }
    }
    assert_eq!(next, 100_001);
    bench.now += 1000 * MS;
    bench.commit();
    assert_eq!((bench.stored(), bench.outbound.held()), (0, Held::default()));
}

#[test]
fn a_full_queue_drops_the_newest_or_the_oldest_that_was_never_sent() {
    for (when_full, offline) in [
        (WhenFull::DropNewest, true),
        (WhenFull::DropOldest, true),
        (WhenFull::DropNewest, false),
        (WhenFull::DropOldest, false),
    ] {
        let mut bench = Bench::fresh(Limit { rows_max: 10, when_full, ..LIMIT });
        if !offline {
            bench.outbound.online(Position::PAST);
        }
        for number in 1..=15 {
            let pushed = bench.push(number, Qos::AtLeastOnce);
            let fits = number <= 10 || when_full == WhenFull::DropOldest;
            assert_eq!(pushed == Pushed::Owed, fits, "{when_full:?} {number}");
            if number % 2 == 0 {
                bench.commit();
            }
        }
        assert_eq!(bench.totals.dropped(DropReason::Full), 5);
        bench.outbound.online(Position::PAST);
        bench.read();
        let numbers: Vec<u64> = bench.send(100).into_iter().filter_map(|(_, number, _)| number).collect();
        let kept = if when_full == WhenFull::DropOldest { 6..=15 } else { 1..=10 };
        assert_eq!(numbers, kept.collect::<Vec<u64>>(), "{when_full:?}");
        bench.now += 1000 * MS;
        bench.commit();
        assert_eq!(bench.stored(), 10);
    }
}

#[test]
fn a_queue_takes_as_many_rows_and_bytes_as_its_limits_say_and_not_one_more() {
    for durable in [true, false] {
        let bench = Bench::fresh(LIMIT);
        let size = if durable { bench.outbound.size_of(&wrap(message(1, Qos::AtLeastOnce))) } else { 0 };
        let size = size.max(wrap(message(1, Qos::AtLeastOnce)).cost() * u64::from(!durable));
        for limit in [
            Limit { rows_max: 3, ..LIMIT },
            Limit { bytes_max: 3 * size, ..LIMIT },
            Limit { bytes_max: 4 * size - 1, ..LIMIT },
        ] {
            let mut bench = Bench::fresh(limit);
            if !durable {
                bench.outbound = Outbound::volatile(limit);
            }
            let pushed = (1..=5).map(|number| bench.push(number, Qos::AtLeastOnce));
            let kept = pushed.filter(|pushed| !matches!(pushed, Pushed::Dropped(DropReason::Full))).count();
            assert_eq!((kept, bench.outbound.held().rows), (3, 3), "{limit:?}");
            assert_eq!(bench.totals.dropped(DropReason::Full), 2, "{limit:?}");
            // What is in flight counts with its bytes, and not as a row that waits.
            bench.outbound.online(Position::PAST);
            assert_eq!(bench.send(1).len(), 1);
            let fits = bench.push(6, Qos::AtLeastOnce) != Pushed::Dropped(DropReason::Full);
            assert_eq!(fits, limit.rows_max == 3, "{limit:?}");
        }
    }
}

#[test]
fn when_all_sessions_together_are_full_a_session_still_has_its_least_and_no_more() {
    let mut bench = Bench::fresh(LIMIT);
    let all = Held { rows: 1, bytes: u64::MAX };
    bench.totals = Totals::new(TotalsLimits { volatile: all, durable: all });
    let least = totals::least(true).rows;
    for number in 1..=least + 2 {
        let pushed = bench.push(number, Qos::AtLeastOnce);
        assert_eq!(pushed == Pushed::Owed, number <= least, "{number} of {least}: {pushed:?}");
    }
    assert_eq!(bench.totals.dropped(DropReason::TotalFull), 2);
}

#[test]
fn after_a_restart_the_oldest_are_counted_before_they_are_dropped() {
    let mut bench = Bench::fresh(LIMIT);
    (1..=1000).for_each(|number| _ = bench.push(number, Qos::AtLeastOnce));
    bench.commit();
    let past = Past { stored: bench.disk.stored(NAME), released: vec![], sent: Some(Seq(0)) };
    let limit = Limit { when_full: WhenFull::DropOldest, ..LIMIT };
    let mut bench = Bench::over(bench.disk, limit, &past);
    assert_eq!(bench.push(1001, Qos::AtLeastOnce), Pushed::Dropped(DropReason::Full));
    assert!(bench.read());
    assert_eq!(bench.in_memory(), 0);
    assert_eq!(bench.push(1002, Qos::AtLeastOnce), Pushed::Owed);
    let dropped = bench.totals.dropped(DropReason::Full);
    assert!((2..=17).contains(&dropped), "{dropped}");
    assert_eq!(bench.outbound.held().rows, 1001 - (dropped - 1));
}

#[test]
fn all_sessions_together_have_a_limit() {
    let mut bench = Bench::fresh(Limit { rows_max: u64::MAX, bytes_max: u64::MAX, ..LIMIT });
    for number in 1..=5001 {
        let pushed = bench.push(number, Qos::AtLeastOnce);
        assert_eq!(pushed == Pushed::Dropped(DropReason::TotalFull), number > 5000);
    }
}

#[test]
fn what_nobody_wants_any_more_is_dropped_when_its_turn_comes_also_after_a_restart() {
    let mut bench = Bench::fresh(LIMIT);
    for (number, expiry_s) in [(1, Some(5)), (2, None), (3, Some(100)), (4, Some(5))] {
        let message = Message { expiry_s, ..message(number, Qos::AtLeastOnce) };
        let (outbound, mut desk) = bench.desk();
        outbound.push(&mut desk, wrap(message), None);
    }
    bench.commit();
    let past = Past { stored: bench.disk.stored(NAME), released: vec![], sent: Some(Seq(0)) };
    let mut bench = Bench::over(bench.disk, LIMIT, &past);
    bench.now = 5000 * MS;
    bench.outbound.online(Position::PAST);
    assert!(bench.read());
    assert_eq!(bench.send(10), [(2, Some(2), false), (3, Some(3), false)]);
    assert_eq!(bench.totals.dropped(DropReason::Expired), 2);
}

#[test]
fn a_row_that_cannot_be_understood_is_skipped_counted_and_deleted() {
    let mut bench = Bench::fresh(LIMIT);
    (1..=3).for_each(|number| _ = bench.push(number, Qos::AtLeastOnce));
    bench.commit();
    let rows = bench.disk.queues.get_mut(NAME).unwrap();
    let mut row = crate::uplink::row::Row::clone(&rows[&Seq(2)]);
    row.body = crate::uplink::row::Body::Raw([77].into());
    rows.insert(Seq(2), Arc::new(row));
    rows.remove(&Seq(1));
    bench.outbound.online(Position::PAST);
    assert!(bench.read());
    assert_eq!(bench.send(10), [(3, Some(3), false)]);
    assert_eq!(bench.totals.dropped(DropReason::Unreadable), 2);
    assert_eq!(bench.outbound.held().rows, 1);
    bench.now = 1000 * MS;
    bench.commit();
    assert_eq!(bench.stored(), 1);
}

#[test]
fn a_read_that_fails_is_asked_again_a_second_later() {
    let mut bench = Bench::fresh(LIMIT);
    bench.push(1, Qos::AtLeastOnce);
    bench.commit();
    bench.outbound.online(Position::PAST);
    let (outbound, mut desk) = bench.desk();
    let read = outbound.wants_read(&mut desk, true, 7).unwrap();
    assert_eq!((read.after, read.until), (Seq(0), Seq(1)));
    bench.outbound.unread(BootNs(0), 7);
    let (outbound, mut desk) = bench.desk();
    assert_eq!(outbound.wants_read(&mut desk, true, 8), None);
    assert_eq!(bench.outbound.read_timeout(), Some(BootNs(1000 * MS)));
    bench.now = 1000 * MS;
    assert!(bench.read());
    assert_eq!(bench.outbound.read_timeout(), None);
}

#[test]
fn a_database_that_was_replaced_gets_what_is_in_memory_again() {
    let mut bench = Bench::fresh(LIMIT);
    (1..=500).for_each(|number| _ = bench.push(number, Qos::ExactlyOnce));
    bench.commit();
    bench.outbound.online(Position::PAST);
    assert!(bench.read());
    assert_eq!(bench.send(10).len(), 10);
    let (outbound, mut desk) = bench.desk();
    outbound.received(&mut desk, 1);
    bench.commit();
    bench.disk = Disk::default();
    let (outbound, mut desk) = bench.desk();
    outbound.reset(&mut desk, &Default::default());
    bench.commit();
    assert_eq!(bench.totals.dropped(DropReason::Lost), 300, "those that were on disk only");
    assert_eq!((bench.stored(), bench.outbound.held().rows), (199, 199));
    assert_eq!(bench.disk.facts.len(), 1, "the identifier to be released");
    assert_eq!(bench.outbound.held().rows, bench.totals.durable().rows);
}

#[test]
fn durable_messages_in_flight_keep_no_more_bodies_than_all_sessions_may() {
    let mut bench = Bench::fresh(Limit { rows_max: 1000, bytes_max: u64::MAX, ..LIMIT });
    bench.outbound.online(Position::PAST);
    for number in 1..=300 {
        let body = vec![b'x'; 100_000];
        let message = Message { body: body.into(), ..message(number, Qos::AtLeastOnce) };
        let (outbound, mut desk) = bench.desk();
        outbound.push(&mut desk, wrap(message), None);
        assert!(matches!(outbound.next(&mut desk, 1000), Some(Send::Publish { .. })));
    }
    bench.now = 1000 * MS;
    bench.commit();
    let (outbound, mut desk) = bench.desk();
    assert_eq!(outbound.next(&mut desk, 1000), None);
    let bodies = outbound.flights.iter().filter(|flight| flight.delivery.is_some()).count();
    assert!((35..=45).contains(&bodies), "{bodies}");
    // Acknowledgements and a new connection need none of them.
    for id in 1..=50 {
        assert!(outbound.acknowledged(&mut desk, id));
    }
    outbound.offline(&mut desk);
    assert_eq!((outbound.held().rows, desk.totals.loaded()), (250, 0));
    outbound.online(Position::PAST);
    assert!(bench.read());
    let (outbound, mut desk) = bench.desk();
    let Some(Send::Publish { id, delivery, again }) = outbound.next(&mut desk, 10) else { unreachable!() };
    assert_eq!((id, delivery.message.body.len(), again), (51, 100_000, true));
}

/// A client that keeps its promises: QoS 2 by the identifiers it has not been released from.
#[derive(Default)]
struct Client {
    here: bool,
    unreleased: BTreeSet<u16>,
    /// How often each message was taken.
    taken: BTreeMap<u64, u64>,
    /// Highest number taken first, by QoS 1 and 2.
    order: [u64; 2],
    /// On the way back to the broker, and lost with the connection.
    answers: VecDeque<Word>,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Ack(u16),
    Rec(u16),
    Comp(u16),
}

struct Life {
    bench: Bench,
    client: Client,
    rng: u64,
    under_way: Option<Turn>,
    read: Option<(Read, Answer)>,
    next: u64,
    qos: BTreeMap<u64, Qos>,
    /// The publisher was told that it is safe.
    safe: BTreeSet<u64>,
    sent: Option<Seq>,
    trace: Vec<String>,
}

impl Life {
    fn of(seed: u64) -> Self {
        Self {
            bench: Bench::fresh(LIMIT),
            client: Client::default(),
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678,
            under_way: None,
            read: None,
            next: 0,
            qos: BTreeMap::new(),
            safe: BTreeSet::new(),
            sent: None,
            trace: Vec::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng % below
    }

    fn step(&mut self) {
        match self.draw(100) {
            0..25 => {
                self.next += 1;
                let qos = if self.draw(2) == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
                self.qos.insert(self.next, qos);
                self.bench.push(self.next, qos);
            }
            25..45 => self.pump(),
            45..65 => self.answer(),
            65..72 => self.turn(),
            72..80 => self.end_turn(),
            80..84 => self.ask_read(),
            84..88 => self.end_read(),
            88..92 => self.bench.now += self.draw(1500) * MS,
            92..96 => self.connect_or_not(),
            96..98 if self.draw(5) == 0 => self.crash(),
            _ => {}
        }
        self.settle();
    }

    fn connect_or_not(&mut self) {
        self.client.here = !self.client.here;
        self.trace.push(format!("here {}", self.client.here));
        if self.client.here {
            self.bench.outbound.online(Position::PAST);
        } else {
            self.client.answers.clear();
            let (outbound, mut desk) = self.bench.desk();
            outbound.offline(&mut desk);
            self.sent = Some(self.bench.outbound.sent());
        }
    }

    fn pump(&mut self) {
        for (id, number, _) in self.bench.send(5) {
            assert!(self.client.here);
            self.trace.push(format!("sent {id} {number:?}"));
            // The connection is cut later; what was sent last may be lost with it.
            let Some(number) = number else {
                self.client.unreleased.remove(&id);
                self.client.answers.push_back(Word::Comp(id));
                continue;
            };
            let qos = self.qos[&number];
            if qos == Qos::AtLeastOnce || self.client.unreleased.insert(id) {
                let taken = self.client.taken.entry(number).or_default();
                *taken += 1;
                assert!(qos == Qos::AtLeastOnce || *taken == 1, "{number} came twice");
                let highest = &mut self.client.order[usize::from(qos == Qos::ExactlyOnce)];
                assert!(*taken > 1 || number > *highest, "{number} after {highest}");
                *highest = number.max(*highest);
            }
            self.client.answers.push_back(match qos {
                Qos::ExactlyOnce => Word::Rec(id),
                _ => Word::Ack(id),
            });
        }
    }

    fn answer(&mut self) {
        let Some(word) = self.client.answers.pop_front() else { return };
        let (outbound, mut desk) = self.bench.desk();
        self.trace.push(format!("{word:?}"));
        match word {
            Word::Ack(id) => assert!(outbound.acknowledged(&mut desk, id)),
            Word::Rec(id) => assert_eq!(outbound.received(&mut desk, id), Receipt::Release),
            Word::Comp(id) => assert!(outbound.completed(&mut desk, id)),
        }
    }

    fn turn(&mut self) {
        if let Some(turn) = self.bench.journal.poll(BootNs(self.bench.now)) {
            self.under_way = Some(turn);
        }
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.under_way.take() else { return };
        let fails = self.draw(5) == 0;
        if !fails || self.draw(2) == 0 {
            self.bench.disk.apply(&turn);
        }
        let fault = StoreFault::Io;
        let number = turn.number;
        let answer = if fails { Answer::Failed { number, fault } } else { Answer::Done { number } };
        self.bench.journal.answer(BootNs(self.bench.now), &answer);
        while let Some(progress) = self.bench.journal.next_progress() {
            let (outbound, desk) = self.bench.desk();
            outbound.progress(&desk, progress.until);
        }
    }

    /// The store reads at once and answers later.
    fn ask_read(&mut self) {
        self.bench.reads += 1;
        let number = self.bench.reads;
        let (outbound, mut desk) = self.bench.desk();
        if let Some(read) = outbound.wants_read(&mut desk, true, number) {
            let answer = self.bench.disk.read(&read);
            self.read = Some((read, answer));
        }
    }

    fn end_read(&mut self) {
        let Some((read, Answer::Rows { rows, more, .. })) = self.read.take() else { return };
        if self.draw(6) == 0 {
            return self.bench.outbound.unread(BootNs(self.bench.now), read.number);
        }
        let (outbound, mut desk) = self.bench.desk();
        outbound.rows(&mut desk, read.number, &rows, more);
    }

    fn settle(&mut self) {
        while let Some(ticket) = self.bench.journal.next_safe() {
            assert!(self.safe.insert(ticket.0), "{} is safe twice", ticket.0);
        }
        assert_eq!(self.bench.outbound.held(), self.bench.totals.durable());
    }

    fn crash(&mut self) {
        self.trace.push("crash".into());
        if let Some(turn) = self.under_way.take()
            && self.draw(2) == 0
        {
            self.bench.disk.apply(&turn);
        }
        let disk = std::mem::take(&mut self.bench.disk);
        let stored = disk.stored(NAME);
        let released = disk.facts.iter().map(|(key, value)| {
            (u16::from_le_bytes([key.key[3], key.key[4]]), facts::read_released(value).unwrap())
        });
        let mut released: Vec<_> = released.collect();
        released.sort_by_key(|(_, seq)| *seq);
        // The fact of the session said that it is connected, or how far it was.
        let sent = self.sent.filter(|_| !self.client.here);
        let past = Past { stored, released, sent };
        let now = self.bench.now;
        self.bench = Bench::over(disk, LIMIT, &past);
        self.bench.now = now;
        self.client.here = false;
        self.client.answers.clear();
        self.read = None;
    }

    fn finish(&mut self) {
        if !self.client.here {
            self.connect_or_not();
        }
        for _ in 0..4000 {
            self.bench.now += 300 * MS;
            if let Some(turn) =
                self.under_way.take().or_else(|| self.bench.journal.poll(BootNs(self.bench.now)))
            {
                self.bench.disk.apply(&turn);
                self.bench.journal.answer(BootNs(self.bench.now), &Answer::Done { number: turn.number });
                while let Some(progress) = self.bench.journal.next_progress() {
                    let (outbound, desk) = self.bench.desk();
                    outbound.progress(&desk, progress.until);
                }
            }
            self.ask_read();
            self.end_read();
            self.pump();
            self.answer();
            self.settle();
        }
        for number in &self.safe {
            assert!(self.client.taken.contains_key(number), "{number} was lost");
        }
        assert_eq!(self.bench.outbound.held(), Held::default());
        assert_eq!(self.bench.outbound.in_flight(), 0);
        assert_eq!(self.bench.stored(), 0, "rows are left that nobody is owed");
        assert!(self.bench.disk.facts.is_empty() && self.client.unreleased.is_empty());
        assert!(self.bench.journal.is_clean());
        assert_eq!(self.bench.totals.dropped(DropReason::Unreadable), 0);
    }
}

#[test]
fn whatever_happens_everything_safe_arrives_in_order_and_exactly_once_where_promised() {
    let mut crashes = 0;
    for seed in 1..=150 {
        let mut life = Life::of(seed);
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..1500 {
                life.step();
            }
            life.finish();
        }));
        crashes += life.trace.iter().filter(|word| *word == "crash").count();
        let tail = life.trace.len().saturating_sub(40);
        assert!(lived.is_ok(), "seed {seed}: {:#?}", &life.trace[tail..]);
    }
    assert!(crashes > 100, "{crashes}");
}
