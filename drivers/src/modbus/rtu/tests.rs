use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::tag::BootNs;

use super::{Ask, LATE_GUARD, Master, Step, Timing, append_crc};
use crate::sim::soak::{Settings, run};

const MS: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_millis(100);

/// A master at 1 ms per character, and the moment it is.
struct Bench {
    master: Master,
    now: BootNs,
}

impl Bench {
    fn new() -> Self {
        let timing = Timing {
            character: Duration::from_millis(1),
            silence: Duration::from_micros(3500),
            gap: Duration::from_millis(20),
            fences: true,
        };
        let now = BootNs(1000 * MS);
        Self { master: Master::new(timing, now), now }
    }

    /// Starts a request and returns the frame that goes out.
    fn send(&mut self, unit: u8, query: Query) -> Vec<u8> {
        let unit = UnitId::serial(unit).unwrap_or(UnitId::BROADCAST);
        let request = Request { unit, query };
        let (delay_before, turnaround) = (Duration::ZERO, Duration::from_millis(50));
        self.master.start(self.now, Ask { request, timeout: TIMEOUT, delay_before, turnaround }).unwrap();
        self.sent()
    }

    /// Waits until something goes out.
    fn sent(&mut self) -> Vec<u8> {
        loop {
            match self.master.poll(self.now) {
                Step::Wait(until) => self.now = until,
                Step::Send => break,
                other => panic!("{other:?} instead of a frame"),
            }
        }
        self.master.sent(self.now, self.now);
        self.master.frame().to_vec()
    }

    /// `ms` pass and `bytes` come.
    fn hear(&mut self, ms: u64, bytes: &[u8]) {
        self.now.0 += ms * MS;
        self.master.received(self.now, bytes);
    }

    /// Waits for the end.
    fn outcome(&mut self) -> Result<Answer, LineFault> {
        loop {
            match self.master.poll(self.now) {
                Step::Wait(until) => self.now = until,
                Step::Done(outcome) => return outcome,
                other => panic!("{other:?} instead of an end"),
            }
        }
    }
}

fn read(address: u16) -> Query {
    Query::Read { table: Table::Holding, address, count: 1 }
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    append_crc(&mut frame);
    frame
}

fn value(unit: u8, value: u8) -> Vec<u8> {
    frame(&[unit, 3, 2, 0, value])
}

#[test]
fn answer_is_accepted_and_the_next_request_keeps_its_silence() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(17, read(107)), frame(&[17, 3, 0, 107, 0, 1]));
    bench.hear(20, &value(17, 5));
    assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![5])));
    let heard = bench.now;
    bench.send(17, read(107));
    assert_eq!(bench.now.since(heard), Duration::from_micros(3500));
}

#[test]
fn timeout_begins_at_the_end_of_the_request() {
    let mut bench = Bench::new();
    bench.send(17, read(0));
    let begun = bench.now;
    assert_eq!(bench.outcome(), Err(LineFault::Silence));
    assert_eq!(bench.now.since(begun), Duration::from_millis(8) + TIMEOUT);
}

#[test]
fn damaged_answers_end_with_their_fault_and_noise_does_not_end_anything() {
    let answer = value(17, 5);
    let mut wrong_bit = answer.clone();
    wrong_bit[4] ^= 1;
    let mut long = answer.clone();
    long.extend([9; 9]);
    let cases: &[(&[u8], Result<Answer, LineFault>)] = &[
        (&wrong_bit, Err(LineFault::Checksum)),
        (&answer[..5], Err(LineFault::Short)),
        (&long, Err(LineFault::Long)),
        (&frame(&[17, 3, 4, 0, 1, 0, 2]), Err(LineFault::Long)),
        (&frame(&[17, 0x83, 6]), Ok(Answer::Exception(6))),
        (&[&[0, 0xFF], answer.as_slice()].concat(), Ok(Answer::Registers(vec![5]))),
        (&[answer.as_slice(), &[0]].concat(), Ok(Answer::Registers(vec![5]))),
    ];
    for (bytes, outcome) in cases {
        let mut bench = Bench::new();
        bench.send(17, read(0));
        bench.hear(40, bytes);
        assert_eq!(bench.outcome(), *outcome, "{bytes:02x?}");
    }
    for (bytes, fault) in [
        (vec![0xFF; 30], LineFault::Garbage),
        (value(18, 5), LineFault::ForeignUnit(18)),
        (frame(&[17, 4, 2, 0, 5]), LineFault::Function(4)),
    ] {
        let mut bench = Bench::new();
        bench.send(17, read(0));
        bench.hear(40, &bytes);
        assert_eq!(bench.outcome(), Err(fault), "nothing better came than {bytes:02x?}");
    }
    for noise in [vec![1, 2, 3], value(18, 5), vec![0xFF; 30]] {
        let mut bench = Bench::new();
        bench.send(17, read(0));
        bench.hear(50, &noise);
        bench.master.poll(bench.now);
        bench.hear(25, &[]);
        bench.master.poll(bench.now);
        bench.hear(1, &answer);
        assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![5])), "after {noise:02x?}");
    }
}

#[test]
fn frame_that_was_there_before_the_request_had_ended_is_no_answer_after_a_forgiven_debt() {
    let mut bench = Bench::new();
    bench.send(17, read(0));
    assert_eq!(bench.outcome(), Err(LineFault::Silence));
    assert_eq!(bench.send(17, read(0))[1], 8);
    assert_eq!(bench.outcome(), Err(LineFault::Silence));
    assert_eq!(bench.send(17, read(0))[1], 3, "forgiven");
    bench.hear(7, &value(17, 5));
    assert_eq!(bench.outcome(), Err(LineFault::Garbage), "thrown away, then nothing came");
    assert_eq!(bench.master.counters().early_frames, 1);
}

#[test]
fn port_without_a_true_rate_answers_sooner_than_its_baud_rate_allows() {
    let mut bench = Bench::new();
    bench.send(17, read(0));
    bench.hear(1, &value(17, 5));
    assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![5])));
    let write = bench.send(17, Query::WriteRegister { address: 1, value: 2 });
    bench.hear(1, &write);
    assert_eq!(bench.outcome(), Ok(Answer::Done));
}

#[test]
fn unit_that_owes_an_answer_is_asked_only_behind_a_fence() {
    let mut bench = Bench::new();
    bench.send(17, read(0));
    assert_eq!(bench.outcome(), Err(LineFault::Silence));
    let fence = bench.send(17, read(1));
    assert_eq!(fence[..4], [17, 8, 0, 0]);
    // The late answer has the right shape for the request that waits, and is not taken for it.
    bench.hear(30, &value(17, 5));
    bench.master.poll(bench.now);
    bench.hear(30, &[]);
    bench.master.poll(bench.now);
    bench.hear(1, &frame(&[17, 0x88, 1]));
    assert_eq!(bench.sent(), frame(&[17, 3, 0, 1, 0, 1]));
    bench.hear(20, &value(17, 6));
    assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![6])));
    assert_eq!(bench.master.counters().late_answers, 1);
}

#[test]
fn debt_of_one_unit_does_not_keep_its_neighbours_waiting() {
    let mut bench = Bench::new();
    bench.send(17, read(0));
    assert_eq!(bench.outcome(), Err(LineFault::Silence));
    let ended = bench.now;
    assert_eq!(bench.send(18, read(0))[1], 3);
    assert!(bench.now.since(ended) <= Duration::from_millis(4));
    // The late answer of the first unit comes in between, and pays its debt.
    bench.hear(20, &value(17, 5));
    bench.master.poll(bench.now);
    bench.hear(30, &[]);
    bench.master.poll(bench.now);
    bench.hear(1, &value(18, 7));
    assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![7])));
    assert_eq!(bench.send(17, read(0))[1], 3, "without a fence");
}

#[test]
fn unit_that_ignores_fences_is_asked_again_after_the_guard() {
    let mut bench = Bench::new();
    for round in 1..=3 {
        bench.send(17, read(0));
        assert_eq!(bench.outcome(), Err(LineFault::Silence));
        let mut last = bench.now.0 - u64::try_from(TIMEOUT.as_nanos()).unwrap();
        if round < 3 {
            assert_eq!(bench.send(17, read(0))[1], 8, "round {round}");
            assert_eq!(bench.outcome(), Err(LineFault::Silence));
            last = bench.now.0 - u64::try_from(TIMEOUT.as_nanos()).unwrap();
        }
        assert_eq!(bench.send(17, read(0))[1], 3, "round {round}");
        assert_eq!(bench.now.since(BootNs(last)), LATE_GUARD, "round {round}");
        bench.hear(20, &value(17, 5));
        assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![5])));
    }
}

#[test]
fn echo_is_taken_off_and_is_never_the_answer_to_a_write() {
    let write = Query::WriteRegister { address: 1, value: 2 };
    let mut bench = Bench::new();
    for late_ms in [8, 30] {
        // The line's echo is not known yet: read early or late, one copy is not enough at once and two are.
        let mut bench = Bench::new();
        let request = bench.send(17, write.clone());
        bench.hear(late_ms, &request);
        assert!(matches!(bench.master.poll(bench.now), Step::Wait(_)));
        bench.hear(30, &request);
        assert_eq!(bench.outcome(), Ok(Answer::Done));
    }
    let request = bench.send(17, read(0));
    bench.hear(30, &[request, value(17, 5)].concat());
    assert_eq!(bench.outcome(), Ok(Answer::Registers(vec![5])));
    let request = bench.send(17, write);
    bench.hear(30, &request);
    assert_eq!(bench.outcome(), Err(LineFault::Silence), "only the echo came");
}

#[test]
fn broadcast_ends_after_its_turnaround_and_must_not_read() {
    let mut bench = Bench::new();
    bench.send(0, Query::WriteRegister { address: 1, value: 2 });
    let begun = bench.now;
    assert_eq!(bench.outcome(), Ok(Answer::Done));
    assert_eq!(bench.now.since(begun), Duration::from_millis(8 + 50));
    let request = Request { unit: UnitId::BROADCAST, query: read(0) };
    let ask = Ask { request, timeout: TIMEOUT, delay_before: TIMEOUT, turnaround: TIMEOUT };
    assert!(bench.master.start(bench.now, ask).is_err());
}

#[test]
fn line_that_is_never_silent_is_given_up() {
    let mut bench = Bench::new();
    let request = Request { unit: UnitId::serial(17).unwrap(), query: read(0) };
    let ask = Ask { request, timeout: TIMEOUT, delay_before: Duration::ZERO, turnaround: TIMEOUT };
    bench.master.start(bench.now, ask).unwrap();
    for _ in 0..1000 {
        bench.hear(3, &[0x55; 3]);
        match bench.master.poll(bench.now) {
            Step::Wait(_) => {}
            Step::Done(outcome) => {
                assert_eq!((outcome, bench.master.counters().babble), (Err(LineFault::Long), 1));
                return;
            }
            other => panic!("{other:?} into a talking line"),
        }
    }
    panic!("waited for ever");
}

#[test]
fn hostile_lines_never_yield_a_value_of_another_request() {
    for seed in 1..=6 {
        let report = run(&Settings::hostile(2_000, seed));
        assert_eq!(report.wrong, 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn soak_finds_wrong_values_when_the_master_only_trusts_time() {
    let report = run(&Settings { fences: false, deaf_units: 0, ..Settings::hostile(20_000, 1) });
    assert!(report.wrong > 0, "{report:?}");
}
