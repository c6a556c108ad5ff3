//! RTU polls per second over the physical limit of the line, on a pseudo terminal with true byte times.
//!
//! The limit counts bits: request and answer at 11 bits a character and a silence of 3.5 characters (1.75 ms above 19200 baud)
//! before each. The slave inside the line begins its answer exactly after its silence, so what is missing to 1 is the master's.
//! Early frames are requests that began before their silence was over, seen by the line: one is a failure.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drivers::alarm::Alarm;
use drivers::bus::exchange;
use drivers::clock;
use drivers::modbus::rtu::{Ask, Master, Timing};
use drivers::serial;
use drivers::sim::line::{FarEnd, Line, Settings, Slave};
use drivers::sim::slave::{Tables, answer};
use gateway_core::poll::request::{Answer, Query, Request, Table, UnitId};
use gateway_core::poll::settings::{Parity, Serial};
use tidegate_tests::bench::{Goal, Measured};

/// Baud rate and goal.
const SPEEDS: [(u32, f64); 3] = [(9600, 0.95), (19_200, 0.95), (115_200, 0.90)];
const REGISTERS: [u16; 4] = [1, 10, 60, 125];
/// How long each combination is measured; the first argument of the program, in ms, overrides it.
const MEASURE: Duration = Duration::from_secs(4);

/// Registers that hold their own address.
struct Addresses;

impl Tables for Addresses {
    fn register(&mut self, _: Table, address: u16) -> Result<u16, u8> {
        Ok(address)
    }
}

fn main() -> Result<()> {
    let measure = match std::env::args().nth(1) {
        Some(text) => Duration::from_millis(text.parse().context("how long to measure, in ms")?),
        None => MEASURE,
    };
    // The gateway runs its buses on a runtime with worker threads; so does the measurement.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut early = 0;
    for (baud, goal) in SPEEDS {
        for registers in REGISTERS {
            let task = runtime.spawn(polls(baud, registers, measure));
            let (per_second, seen_early) = runtime.block_on(task)??;
            early += seen_early;
            Measured {
                what: &format!("RTU polls, {baud} baud, {registers} registers"),
                value: per_second,
                reference: limit(baud, registers),
                unit: "1/s",
                goal: Goal::AtLeast(goal),
            }
            .print();
        }
    }
    let early = f64::from(u32::try_from(early).unwrap_or(u32::MAX));
    Measured {
        what: "RTU requests sent too early",
        value: early,
        reference: 1.0,
        unit: "frames",
        goal: Goal::AtMost(0.0),
    }
    .print();
    Ok(())
}

/// Polls per second that the wire allows.
fn limit(baud: u32, registers: u16) -> f64 {
    let line = Settings::clean(baud);
    let characters = 8 + 5 + 2 * u32::from(registers);
    let poll = line.character() * characters + line.frame_silence() * 2;
    1.0 / poll.as_secs_f64()
}

async fn polls(baud: u32, registers: u16, measure: Duration) -> Result<(f64, u64)> {
    let folder = tempfile::tempdir()?;
    let slave: Slave = Box::new(|_, pdu| Some(answer(&mut Addresses, pdu)));
    let line = Line::open(folder.path(), Settings::clean(baud), FarEnd::Slave(slave))?;
    let settings = Serial {
        port: line.port().to_owned(),
        baud,
        parity: Parity::Even,
        data_bits: 8,
        stop_bits: 1,
        rs485: None,
    };
    let mut port = serial::open(&settings)?;
    let mut master = Master::new(Timing::serial(&settings), clock::now());
    let mut alarm = Alarm::new()?;
    let expected = Answer::Registers((0..registers).collect());
    let (mut polls, mut started) = (0u32, Instant::now());
    loop {
        let query = Query::Read { table: Table::Holding, address: 0, count: registers };
        let request = Request { unit: UnitId::serial(1).context("unit 1")?, query };
        let ask = Ask {
            request,
            timeout: Duration::from_secs(1),
            delay_before: Duration::ZERO,
            turnaround: Duration::ZERO,
        };
        master.start(clock::now(), ask)?;
        let answer = exchange(&mut port, &mut master, &mut alarm).await?;
        match answer {
            Ok(answer) if answer == expected => {}
            Ok(answer) => bail!("wrong answer at {baud} baud: {answer:?}"),
            // A machine with other work stops the line in the middle of an answer; that costs time like everything else.
            Err(_) if polls > 0 => continue,
            Err(fault) => bail!("no answer at {baud} baud: {fault}"),
        }
        // The first poll waits for the silence after the port was opened.
        match polls {
            0 => started = Instant::now(),
            _ if started.elapsed() >= measure => break,
            _ => {}
        }
        polls += 1;
    }
    // `polls` counts the first one, which ended when the measurement began, and not the last one, which ended it.
    Ok((f64::from(polls) / started.elapsed().as_secs_f64(), line.seen().early_frames))
}
