//! `rtu_load [--requests N] [--baud B] [--burst-ms M] [--load T] [--timeout-ms T]`: requests over an emulated line without errors, while T threads
//! take all processor time that they get. Every request that ends without its value is the reader's fault or the emulated line's: the counters of both say which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drivers::alarm::Alarm;
use drivers::bus::exchange;
use drivers::clock;
use drivers::modbus::rtu::{Ask, Master, Timing};
use drivers::serial;
use drivers::sim::line::{FarEnd, Line, Settings, Slave};
use drivers::sim::slave::{Tables, answer};
use gateway_core::poll::request::{Answer, Query, Request, Table, UnitId};
use gateway_core::poll::settings::{Parity, Serial};

/// Registers that hold their own address.
struct Addresses;

impl Tables for Addresses {
    fn register(&mut self, _: Table, address: u16) -> Result<u16, u8> {
        Ok(address)
    }
}

struct Wanted {
    requests: u64,
    baud: u32,
    burst: Duration,
    load: u64,
    timeout: Duration,
}

fn main() -> std::process::ExitCode {
    let mut wanted = Wanted {
        requests: 20_000,
        baud: 115_200,
        burst: Duration::ZERO,
        load: 0,
        timeout: Duration::from_millis(500),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let number: Option<u64> = args.next().and_then(|text| text.parse().ok());
        match (flag.as_str(), number) {
            ("--requests", Some(number)) => wanted.requests = number,
            ("--baud", Some(number)) => wanted.baud = u32::try_from(number).unwrap_or(9600),
            ("--burst-ms", Some(number)) => wanted.burst = Duration::from_millis(number),
            ("--load", Some(number)) => wanted.load = number,
            ("--timeout-ms", Some(number)) => wanted.timeout = Duration::from_millis(number),
            _ => {
                eprintln!(
                    "usage: rtu_load [--requests N] [--baud B] [--burst-ms M] [--load THREADS] [--timeout-ms T]"
                );
                return std::process::ExitCode::from(64);
            }
        }
    }
    let ended = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..wanted.load)
        .map(|_| {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            })
        })
        .collect();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(async { tokio::spawn(measure(wanted)).await? }));
    ended.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| drop(thread.join()));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn measure(wanted: Wanted) -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("rtu-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let slave: Slave = Box::new(|_, pdu| Some(answer(&mut Addresses, pdu)));
    let line = Line::open(
        &folder,
        Settings { burst: wanted.burst, ..Settings::clean(wanted.baud) },
        FarEnd::Slave(slave),
    )?;
    let settings = Serial {
        port: line.port().to_owned(),
        baud: wanted.baud,
        parity: Parity::Even,
        data_bits: 8,
        stop_bits: 1,
        rs485: None,
    };
    let mut port = serial::open(&settings).map_err(std::io::Error::other)?;
    let mut master = Master::new(Timing::serial(&settings), clock::now());
    let mut alarm = Alarm::new()?;
    let (mut right, mut wrong, mut line_late) = (0u64, 0u64, 0u64);
    let counts = [1u16, 4, 10, 30, 60];
    for number in 0..wanted.requests {
        let count = counts[usize::try_from(number % counts.len() as u64).unwrap_or(0)];
        let query = Query::Read { table: Table::Holding, address: 7, count };
        let Some(unit) = UnitId::serial(1) else { break };
        let ask = Ask {
            request: Request { unit, query },
            timeout: wanted.timeout,
            delay_before: Duration::ZERO,
            turnaround: Duration::ZERO,
        };
        master.start(clock::now(), ask).map_err(std::io::Error::other)?;
        let _ = line.take_late_max();
        match exchange(&mut port, &mut master, &mut alarm).await? {
            Ok(Answer::Registers(values)) if values == (7..7 + count).collect::<Vec<u16>>() => right += 1,
            Ok(_) => wrong += 1,
            Err(fault) => {
                let late = line.take_late_max();
                line_late += u64::from(late > Duration::from_millis(20));
                println!("request {number}: {fault}, the line was late by {} ms at most", late.as_millis());
            }
        }
    }
    let counters = master.counters();
    println!(
        "baud {} burst {} ms load {}: {} requests, {right} right, {wrong} wrong, {} silent, {} short, {} long, {} checksum, {} strays, {} fences, {} late answers",
        wanted.baud,
        wanted.burst.as_millis(),
        wanted.load,
        wanted.requests,
        counters.silent,
        counters.short,
        counters.long,
        counters.checksum,
        counters.strays,
        counters.fences,
        counters.late_answers
    );
    println!(
        "in {line_late} of the faults the line's own thread was late by more than 20 ms; line: {:?}",
        line.seen()
    );
    drop(line);
    std::fs::remove_dir_all(&folder)
}
