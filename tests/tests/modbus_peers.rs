//! The Modbus drivers against programs of others: pymodbus and libmodbus's unit-test server, over TCP and over an emulated
//! serial line.
#![allow(clippy::unwrap_used, reason = "what a test needs fails the test")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use drivers::bus::{self, Bus, CommandError, LineState, Times, WireCounters};
use drivers::clock;
use drivers::sim::line::{FarEnd, Line, Settings as LineSettings};
use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::poll::schedule::Schedule;
use gateway_core::poll::settings::{Bus as BusSettings, Connection, Medium, Parity, Serial, Settings};
use gateway_core::tag::Name;
use tempfile::TempDir;
use tidegate_tests::peers::{self, Server};
use tidegate_tests::wait::within;
use tokio::sync::mpsc;

/// Long enough for a busy machine, for answers that are expected.
const PATIENT: Times = Times {
    timeout: Duration::from_secs(20),
    delay_before: Duration::ZERO,
    turnaround: Duration::from_millis(20),
};
/// The unit of both peers.
const UNIT: u8 = 17;

/// A bus without polls, its peer and the line between them.
struct Rig {
    bus: Bus,
    server: Server,
    _line: Option<(Line, TempDir)>,
}

impl Rig {
    fn new(medium: Medium, server: Server, line: Option<(Line, TempDir)>) -> Result<Self> {
        let name = Name::new("peer")?;
        let bus = BusSettings { name, medium, probe_share: 0.05, fences: true, pause: Duration::ZERO };
        let settings = Arc::new(Settings { buses: vec![bus], ..Settings::default() });
        let (cycles, _) = mpsc::channel(1);
        let schedule = Schedule::new(&settings, 0, clock::now());
        Ok(Self { bus: bus::spawn(&settings, 0, schedule, cycles)?, server, _line: line })
    }

    fn tcp(server: Server) -> Result<Self> {
        let (host, port) = ("127.0.0.1".to_owned(), server.port.parse()?);
        Self::new(
            Medium::Tcp {
                host,
                port,
                pipeline: 1,
                connect_timeout: Duration::from_secs(20),
                connect_pause: Duration::ZERO,
                connection: Connection::Keep,
            },
            server,
            None,
        )
    }

    fn rtu(server: Server, line: Line, folder: TempDir) -> Result<Self> {
        let port = line.port().to_owned();
        let serial =
            Serial { port, baud: 115_200, parity: Parity::None, data_bits: 8, stop_bits: 1, rs485: None };
        Self::new(Medium::Serial(serial), server, Some((line, folder)))
    }

    async fn ask(&self, query: Query, times: Times) -> Result<Answer, CommandError> {
        let mut reports = self.bus.reports();
        within("the bus to be up", reports.wait_for(|r| matches!(r.line, LineState::Up { .. })))
            .await
            .unwrap();
        self.bus.asker().ask(Request { unit: UnitId::serial(UNIT).unwrap(), query }, times).await
    }

    async fn read(&self, table: Table, address: u16, count: u16) -> Result<Answer, CommandError> {
        self.ask(Query::Read { table, address, count }, PATIENT).await
    }

    async fn stop(self) -> Result<()> {
        self.bus.stop().await;
        self.server.stop().await
    }
}

fn line() -> Result<(Line, TempDir)> {
    let folder = tempfile::tempdir()?;
    let settings = LineSettings { bits: 10, ..LineSettings::clean(115_200) };
    Ok((Line::open(folder.path(), settings, FarEnd::Port)?, folder))
}

async fn pymodbus_over_rtu() -> Result<Rig> {
    let (line, folder) = line()?;
    Rig::rtu(peers::pymodbus(line.far_port()).await?, line, folder)
}

async fn libmodbus_over_rtu() -> Result<Rig> {
    let (line, folder) = line()?;
    Rig::rtu(peers::libmodbus(line.far_port()).await?, line, folder)
}

/// Every function of the driver against the tables of `pymodbus_server.py`.
async fn talk_to_pymodbus(rig: &Rig) {
    let holding = (0..125).map(|a| a * 3).collect();
    assert_eq!(rig.read(Table::Holding, 0, 125).await, Ok(Answer::Registers(holding)));
    assert_eq!(rig.read(Table::Input, 7, 2).await, Ok(Answer::Registers(vec![1007, 1008])));
    assert_eq!(rig.read(Table::Coil, 1, 3).await, Ok(Answer::Bits(vec![false, true, false])));
    let discrete = (0..200).map(|a| a % 3 == 0).collect();
    assert_eq!(rig.read(Table::Discrete, 0, 200).await, Ok(Answer::Bits(discrete)));
    assert_eq!(rig.read(Table::Holding, 199, 2).await, Ok(Answer::Exception(2)));
    let writes = [
        Query::WriteCoil { address: 1, on: true },
        Query::WriteRegister { address: 1, value: 4711 },
        Query::WriteCoils { address: 2, on: vec![false, true, false, true, true, true, false, false, true] },
        Query::WriteRegisters { address: 2, values: vec![1, 2, 0xFFFF] },
        Query::MaskWrite { address: 1, and: 0xF2, or: 0x25 },
    ];
    for write in writes {
        assert_eq!(rig.ask(write.clone(), PATIENT).await, Ok(Answer::Done), "{write:?}");
    }
    let coils = vec![true, false, true, false, true, true, true, false, false, true];
    assert_eq!(rig.read(Table::Coil, 1, 10).await, Ok(Answer::Bits(coils)));
    let masked = (4711 & 0xF2) | (0x25 & !0xF2);
    assert_eq!(rig.read(Table::Holding, 1, 4).await, Ok(Answer::Registers(vec![masked, 1, 2, 0xFFFF])));
    let both = Query::ReadWrite { read_address: 10, read_count: 2, write_address: 10, values: vec![7, 8] };
    assert_eq!(rig.ask(both, PATIENT).await, Ok(Answer::Registers(vec![7, 8])));
    let identity = rig.ask(Query::Identify { code: 1, object: 0 }, PATIENT).await;
    let Ok(Answer::Identity { objects, more: None }) = identity else {
        unreachable!("no identity: {identity:?}");
    };
    assert_eq!(objects[0], (0, b"pymodbus".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymodbus_over_tcp_answers_every_function() -> Result<()> {
    let rig = Rig::tcp(peers::pymodbus(None).await?)?;
    talk_to_pymodbus(&rig).await;
    rig.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymodbus_over_rtu_answers_every_function() -> Result<()> {
    let rig = pymodbus_over_rtu().await?;
    talk_to_pymodbus(&rig).await;
    rig.stop().await
}

/// What libmodbus's client tests against its server, over either line.
async fn talk_to_libmodbus(rig: &Rig) {
    assert_eq!(rig.read(Table::Input, 0x108, 1).await, Ok(Answer::Registers(vec![10])));
    let inputs: Vec<bool> = (0..0x16).map(|bit| [0xAC, 0xDB, 0x35][bit / 8] >> (bit % 8) & 1 == 1).collect();
    assert_eq!(rig.read(Table::Discrete, 0x1C4, 0x16).await, Ok(Answer::Bits(inputs)));
    let on: Vec<bool> = (0..0x25).map(|bit| bit % 5 == 0).collect();
    assert_eq!(
        rig.ask(Query::WriteCoils { address: 0x130, on: on.clone() }, PATIENT).await,
        Ok(Answer::Done)
    );
    assert_eq!(rig.read(Table::Coil, 0x130, 0x25).await, Ok(Answer::Bits(on)));
    let values = vec![0x22B, 1, 0x64];
    let write = Query::WriteRegisters { address: 0x160, values: values.clone() };
    assert_eq!(rig.ask(write, PATIENT).await, Ok(Answer::Done));
    assert_eq!(rig.read(Table::Holding, 0x160, 3).await, Ok(Answer::Registers(values)));
    let mask = Query::MaskWrite { address: 0x160, and: 0xF2, or: 0x25 };
    assert_eq!(rig.ask(mask, PATIENT).await, Ok(Answer::Done));
    let both = Query::ReadWrite { read_address: 0x160, read_count: 2, write_address: 0x161, values: vec![5] };
    let masked = (0x22B & 0xF2) | (0x25 & !0xF2);
    assert_eq!(rig.ask(both, PATIENT).await, Ok(Answer::Registers(vec![masked, 5])));
    assert_eq!(rig.read(Table::Holding, 0x160 + 0x20, 1).await, Ok(Answer::Exception(2)));
    assert_eq!(rig.read(Table::Holding, 0x170, 1).await, Ok(Answer::Exception(6)), "busy on purpose");
    let short = rig.read(Table::Holding, 0x160, 2).await;
    assert_eq!(short, Err(CommandError::Line(LineFault::Short)), "one value where two were asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libmodbus_over_tcp_is_believed_only_where_it_is_right() -> Result<()> {
    let rig = Rig::tcp(peers::libmodbus(None).await?)?;
    talk_to_libmodbus(&rig).await;
    // One byte every 5 ms.
    let other = rig.read(Table::Holding, 0x173, 1).await;
    assert!(matches!(other, Err(CommandError::Line(LineFault::ForeignUnit(_)))), "{other:?}");
    let impatient = Times { timeout: Duration::from_millis(100), ..PATIENT };
    let query = |address| Query::Read { table: Table::Holding, address, count: 1 };
    let silence = Err(CommandError::Line(LineFault::Silence));
    let other = rig.ask(query(0x171), impatient).await;
    let is_known = matches!(other, Err(CommandError::Line(LineFault::Transaction(_))));
    assert!(is_known, "an invalid transaction id: {other:?}");
    assert_eq!(rig.ask(query(0x172), impatient).await, silence, "half a second late");
    // The late answer of 0x172 arrives before this one and is not taken for it.
    let write = Query::WriteRegister { address: 0x161, value: 99 };
    assert_eq!(rig.ask(write, PATIENT).await, Ok(Answer::Done));
    assert_eq!(rig.read(Table::Holding, 0x161, 1).await, Ok(Answer::Registers(vec![99])));
    let mut reports = rig.bus.reports();
    let two_late = reports.wait_for(|r| matches!(r.wire, WireCounters::Tcp(wire) if wire.late_answers == 2));
    within("two late answers to be counted", two_late).await?;
    rig.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libmodbus_over_rtu_is_believed_only_where_it_is_right() -> Result<()> {
    let rig = libmodbus_over_rtu().await?;
    talk_to_libmodbus(&rig).await;
    let write = Query::WriteRegister { address: 0x161, value: 99 };
    assert_eq!(rig.ask(write, PATIENT).await, Ok(Answer::Done));
    let impatient = Times { timeout: Duration::from_millis(200), ..PATIENT };
    let query = |address| Query::Read { table: Table::Holding, address, count: 1 };
    let other = rig.ask(query(0x171), impatient).await;
    assert_eq!(other, Err(CommandError::Line(LineFault::ForeignUnit(18))), "an answer of unit 18");
    // Its answer comes half a second late, it knows no fences, and it chokes on them for a while: what comes must be right.
    let late = rig.ask(query(0x172), impatient).await;
    assert!(matches!(late, Err(CommandError::Line(_))), "{late:?}");
    let mut right = 0;
    for _ in 0..20 {
        match rig.ask(query(0x161), impatient).await {
            Ok(answer) => {
                assert_eq!(answer, Answer::Registers(vec![99]), "0x172 holds 0");
                right += 1;
                break;
            }
            Err(CommandError::Line(_)) => {}
            Err(error) => unreachable!("{error}"),
        }
    }
    assert!(right > 0, "the device never came back");
    rig.stop().await
}
