//! The whole way of RTU over an emulated line: pseudo terminal, serial port, master. Every value tells which request it answers.
//!
//! `TIDEGATE_SOAK_S` makes the soak as long; the seed is printed and `TIDEGATE_SEED` sets it.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "the rig of a test fails the test")]

use std::path::PathBuf;
use std::time::Duration;

use drivers::alarm::Alarm;
use drivers::bus::exchange;
use drivers::clock;
use drivers::modbus::rtu::{Ask, Counters, Master, Timing, append_crc};
use drivers::serial::{self, Port};
use drivers::sim::line::{FarEnd, Line, Settings, Slave};
use drivers::sim::mix;
use drivers::sim::slave::{Tables, answer};
use drivers::sim::soak;
use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::poll::settings::{Parity, Serial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A device whose registers say which request it is answering, counted since the line was made.
#[derive(Default)]
struct Marked(u64);

impl Tables for Marked {
    fn register(&mut self, _: Table, address: u16) -> Result<u16, u8> {
        Ok(mark(self.0, address))
    }
    fn set_register(&mut self, _: u16, _: u16) -> Result<(), u8> {
        Ok(())
    }
}

fn mark(request: u64, address: u16) -> u16 {
    (mix(request << 16 | u64::from(address)) & 0xFFFF) as u16
}

/// Units 1 to 3 count requests together; fences are not requests.
fn marked() -> FarEnd {
    let mut device = Marked::default();
    let slave: Slave = Box::new(move |unit, pdu| {
        device.0 += u64::from(pdu[0] != 8);
        (1..=3).contains(&unit).then(|| answer(&mut device, pdu))
    });
    FarEnd::Slave(slave)
}

struct Rig {
    line: Line,
    serial: Serial,
    port: Port,
    master: Master,
    alarm: Alarm,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new(settings: Settings, far: FarEnd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let baud = settings.baud;
        let line = Line::open(folder.path(), settings, far).unwrap();
        let serial = serial(line.port().to_owned(), baud);
        let port = serial::open(&serial).unwrap();
        let master = Master::new(Timing::serial(&serial), clock::now());
        Self { line, serial, port, master, alarm: Alarm::new().unwrap(), _folder: folder }
    }

    async fn ask(&mut self, unit: u8, query: Query, timeout: Duration) -> Result<Answer, LineFault> {
        let unit = if unit == 0 { UnitId::BROADCAST } else { UnitId::serial(unit).unwrap() };
        let request = Request { unit, query };
        let (delay_before, turnaround) = (Duration::ZERO, Duration::from_millis(5));
        self.master.start(clock::now(), Ask { request, timeout, delay_before, turnaround }).unwrap();
        exchange(&mut self.port, &mut self.master, &mut self.alarm).await.unwrap()
    }

    /// Reads until `until` says so; returns right values, wrong values and faults.
    async fn soak(&mut self, seed: u64, until: impl Fn(u64) -> bool) -> (u64, u64, u64) {
        let (mut right, mut wrong, mut faults) = (0, 0, 0);
        while !until(right + wrong + faults) {
            let roll = mix(seed ^ (right + wrong + faults));
            let unit = 1 + (roll % 3) as u8;
            let address = (roll >> 8 & 7) as u16;
            let query = Query::Read { table: Table::Holding, address, count: 4 };
            match self.ask(unit, query, Duration::from_millis(30)).await {
                Ok(Answer::Registers(values)) => {
                    let number = self.master.counters().requests;
                    let expected: Vec<u16> = (address..address + 4).map(|a| mark(number, a)).collect();
                    if values == expected {
                        right += 1;
                    } else {
                        wrong += 1;
                        let of = (0..number + 50).find(|n| values[0] == mark(*n, address));
                        println!("wrong: answer to request {of:?} taken for that to {number}");
                    }
                }
                Ok(_) => wrong += 1,
                Err(_) => faults += 1,
            }
        }
        (right, wrong, faults)
    }

    fn counters(&self) -> Counters {
        *self.master.counters()
    }
}

fn serial(port: PathBuf, baud: u32) -> Serial {
    Serial { port, baud, parity: Parity::Even, data_bits: 8, stop_bits: 1, rs485: None }
}

fn hostile(seed: u64, echo: bool) -> Settings {
    let late_max = Duration::from_millis(120);
    Settings {
        seed,
        echo,
        late: 12,
        late_max,
        lost: 30,
        short: 30,
        damaged: 30,
        noise: 15,
        foreign: 15,
        ..Settings::clean(115_200)
    }
}

fn seed() -> u64 {
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("TIDEGATE_SEED={seed}");
    seed
}

#[tokio::test]
async fn clean_line_answers_every_request_and_silence_is_kept() {
    let mut rig = Rig::new(Settings::clean(115_200), marked());
    let (right, wrong, faults) = rig.soak(1, |polls| polls >= 100).await;
    assert_eq!((wrong, rig.line.seen().early_frames), (0, 0), "{:?}", rig.line.seen());
    // A machine that stops this process for longer than a timeout makes faults, never wrong values.
    assert!(right >= 90, "{right} right, {faults} faults, {:?}", rig.counters());
}

#[tokio::test]
async fn requests_that_reach_the_line_together_are_all_answered() {
    let mut rig = Rig::new(Settings::clean(115_200), marked());
    let mut requests = Vec::new();
    for unit in [1, 9, 2] {
        let mut request = vec![unit, 3, 0, 5, 0, 1];
        append_crc(&mut request);
        requests.extend(request);
    }
    rig.port.write_all(&requests).await.unwrap();
    let mut answers = [0; 14];
    rig.port.read_exact(&mut answers).await.unwrap();
    let [first, third] = [mark(1, 5), mark(3, 5)].map(u16::to_be_bytes);
    assert_eq!(
        (&answers[..5], &answers[7..12]),
        (&[1, 3, 2, first[0], first[1]][..], &[2, 3, 2, third[0], third[1]][..])
    );
}

#[tokio::test]
async fn echo_is_recognised_on_reads_and_writes() {
    let mut rig = Rig::new(Settings { echo: true, ..Settings::clean(115_200) }, marked());
    let timeout = Duration::from_secs(2);
    for value in 0..5 {
        let write = Query::WriteRegister { address: 1, value };
        assert_eq!(rig.ask(1, write, timeout).await, Ok(Answer::Done));
        let read = Query::Read { table: Table::Holding, address: 1, count: 2 };
        assert!(matches!(rig.ask(2, read, timeout).await, Ok(Answer::Registers(_))));
    }
    assert_eq!(rig.counters().echoes, 10);
    let silent = Query::WriteRegister { address: 1, value: 1 };
    let fault = rig.ask(9, silent, Duration::from_millis(50)).await;
    assert_eq!(fault, Err(LineFault::Silence), "an echo is no answer");
}

#[tokio::test]
async fn broadcast_waits_only_for_its_turnaround() {
    let mut rig = Rig::new(Settings::clean(115_200), marked());
    let write = Query::WriteRegister { address: 1, value: 1 };
    assert_eq!(rig.ask(0, write, Duration::from_secs(3600)).await, Ok(Answer::Done));
    assert_eq!(rig.counters().broadcasts, 1);
}

#[tokio::test]
async fn hang_up_is_an_error_and_the_port_opens_again_by_its_stable_path() {
    let mut rig = Rig::new(Settings::clean(115_200), marked());
    rig.line.hang_up();
    let query = Query::Read { table: Table::Holding, address: 1, count: 2 };
    let request = Request { unit: UnitId::serial(1).unwrap(), query: query.clone() };
    let day = Duration::from_secs(86_400);
    let ask = Ask { request, timeout: day, delay_before: Duration::ZERO, turnaround: day };
    rig.master.start(clock::now(), ask).unwrap();
    exchange(&mut rig.port, &mut rig.master, &mut rig.alarm).await.unwrap_err();
    rig.line.plug_in();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    rig.port = loop {
        match serial::open(&rig.serial) {
            Ok(port) => break port,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    rig.master.reopened(clock::now());
    let answer = rig.ask(2, query, Duration::from_secs(5)).await;
    assert!(matches!(answer, Ok(Answer::Registers(_))), "{answer:?}");
}

#[tokio::test]
async fn soak_of_a_hostile_line_gives_no_wrong_value() {
    let seed = seed();
    let seconds: Option<u64> = std::env::var("TIDEGATE_SOAK_S").ok().and_then(|text| text.parse().ok());
    for echo in [false, true] {
        let mut rig = Rig::new(hostile(seed, echo), marked());
        let started = std::time::Instant::now();
        let over = |polls: u64| match seconds {
            Some(seconds) => started.elapsed().as_secs() >= seconds / 2,
            None => polls >= 40,
        };
        let (right, wrong, faults) = rig.soak(seed, over).await;
        println!("echo {echo}: {right} right, {wrong} wrong, {faults} faults; {:?}", rig.counters());
        assert_eq!(wrong, 0, "seed {seed}");
        assert!(right > 0 && rig.line.seen().faults > 0, "seed {seed}");
    }
}

#[test]
fn soak_in_virtual_time_gives_no_wrong_value_and_no_early_request() {
    let polls = if std::env::var_os("TIDEGATE_SOAK_S").is_some() { 1_000_000 } else { 10_000 };
    let lines = 20;
    for seed in (seed()..).take(lines) {
        let report = soak::run(&soak::Settings::hostile(polls / lines as u64, seed));
        assert_eq!((report.wrong, report.early_requests), (0, 0), "seed {seed}: {report:?}");
        assert!(report.late > 0 && report.right > report.faults, "seed {seed}: {report:?}");
    }
}
