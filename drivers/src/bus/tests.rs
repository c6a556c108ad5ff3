use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request, Table, UnitId};
use gateway_core::poll::schedule::{Order, Schedule, Step, Ticket};
use gateway_core::poll::settings::{
    Bus as BusSettings, Connection, Device, Group, Kind, Medium, Point, Settings, Tag,
};
use gateway_core::process::settings::{Deadband, Filter};
use gateway_core::tag::{BootNs, Cycle, GroupId, Name, Reading, Sample, Value};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Bus, CommandError, LineState, Orders, Times, spawn};
use crate::sim::line::{FarEnd, Line, Settings as LineSettings};
use crate::sim::model::Model;
use crate::sim::serve::{Units, rtu, tcp};
use crate::sim::slave::answer;

/// The real time a test may take at most; nothing here waits that long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks the same question again and again and shows each outcome as an empty cycle, good ones of group 0, others of group 1.
struct Again {
    request: Request,
    outstanding: usize,
    pipeline: usize,
    ticket: u64,
    up: bool,
    cycles: VecDeque<Cycle>,
}

impl Again {
    fn new(request: Request, pipeline: usize) -> Self {
        Self { request, outstanding: 0, pipeline, ticket: 0, up: true, cycles: VecDeque::new() }
    }
}

impl Orders for Again {
    fn next(&mut self, _: BootNs) -> Step {
        if !self.up || self.outstanding == self.pipeline {
            return Step::Wait(BootNs(u64::MAX));
        }
        self.outstanding += 1;
        self.ticket += 1;
        Step::Ask(Order {
            ticket: Ticket(self.ticket),
            device: 0,
            request: self.request.clone(),
            timeout: Duration::from_millis(500),
            delay_before: Duration::ZERO,
            turnaround: Duration::ZERO,
            attempt: 0,
            probe: false,
        })
    }

    fn answered(&mut self, now: BootNs, _: Ticket, outcome: Result<Answer, LineFault>) {
        self.outstanding -= 1;
        let good = matches!(outcome, Ok(Answer::Registers(_)));
        self.cycles.push_back(Cycle { group: GroupId(u32::from(!good)), due: now, readings: Vec::new() });
    }

    fn bus_down(&mut self, _: BootNs) {
        self.up = false;
        self.outstanding = 0;
    }

    fn bus_up(&mut self, _: BootNs) {
        self.up = true;
    }

    fn take_cycles(&mut self) -> Vec<Cycle> {
        self.cycles.drain(..).collect()
    }
}

/// Orders with a fault in the program.
struct Broken;

impl Orders for Broken {
    fn next(&mut self, _: BootNs) -> Step {
        panic!("a fault on purpose")
    }

    fn answered(&mut self, _: BootNs, _: Ticket, _: Result<Answer, LineFault>) {}

    fn bus_down(&mut self, _: BootNs) {}

    fn bus_up(&mut self, _: BootNs) {}

    fn take_cycles(&mut self) -> Vec<Cycle> {
        Vec::new()
    }
}

#[tokio::test]
async fn a_task_that_ends_by_a_fault_is_seen() {
    let (cycles, _kept) = mpsc::channel(1);
    let bus = spawn(&settings(Medium::Sim), 0, Broken, cycles).unwrap();
    let mut reports = bus.reports();
    // The sender of the reports is gone with the task.
    while reports.changed().await.is_ok() {}
    while !bus.has_ended() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bus.asker().ask(read_one(), Times::default()).await, Err(CommandError::Stopped));
}

fn read_one() -> Request {
    let query = Query::Read { table: Table::Holding, address: 7, count: 1 };
    Request { unit: UnitId::serial(1).unwrap(), query }
}

pub(super) fn settings(medium: Medium) -> Arc<Settings> {
    let name = |text: &str| Name::new(text).unwrap();
    let bus =
        BusSettings { name: name("line"), medium, probe_share: 0.05, fences: true, pause: Duration::ZERO };
    let device = Device {
        name: name("meter"),
        bus: 0,
        unit: UnitId::serial(1).unwrap(),
        timeout: Duration::from_millis(500),
        retries: 0,
        delay_before: Duration::ZERO,
        turnaround: Duration::ZERO,
        dead_after: 3,
        probe_max: Duration::from_secs(1),
        registers_max: 125,
        bits_max: 2000,
        gap_max: 8,
        one_by_one: false,
        base: 0,
    };
    let group =
        Group { device: 0, name: name("1"), every: Duration::from_secs(1), tags_start: 0, tags_len: 1 };
    let point = Point { table: Table::Holding, address: 7, kind: Kind::U16 { swap: false } };
    let tag = Tag {
        name: name("voltage"),
        group: 0,
        point,
        unit: Some("V".into()),
        scale: None,
        range: None,
        filter: Filter { deadband: Deadband::Off, silence_max: None, stale_after: 3 },
        writable: true,
        alarm: false,
    };
    Arc::new(Settings { buses: vec![bus], devices: vec![device], groups: vec![group], tags: vec![tag] })
}

fn read(address: u16) -> Request {
    let query = Query::Read { table: Table::Holding, address, count: 1 };
    Request { unit: UnitId::serial(1).unwrap(), query }
}

async fn good_cycles(cycles: &mut mpsc::Receiver<Cycle>, wanted: usize) {
    let mut seen = 0;
    while seen < wanted {
        let cycle = tokio::time::timeout(DEADLINE, cycles.recv()).await.expect("in time").expect("bus runs");
        seen += usize::from(cycle.group == GroupId(0));
    }
}

async fn tcp_slave() -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let units = || -> Units { [(1, Box::new(Model::power_meter()) as _)].into() };
    (port, tokio::spawn(async move { tcp(listener, units()).await.unwrap() }))
}

fn tcp_medium(port: u16, pipeline: u8) -> Medium {
    Medium::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
        pipeline,
        connect_timeout: Duration::from_secs(5),
        connect_pause: Duration::ZERO,
        connection: Connection::Keep,
    }
}

async fn up(bus: &Bus) {
    let mut reports = bus.reports();
    let is_up = reports.wait_for(|report| matches!(report.line, LineState::Up { .. }));
    tokio::time::timeout(DEADLINE, is_up).await.expect("in time").unwrap();
}

#[tokio::test]
async fn simulated_bus_is_polled_and_commands_go_between_the_polls() {
    let (cycles, mut taken) = mpsc::channel(10);
    let bus = spawn(&settings(Medium::Sim), 0, Again::new(read(7), 1), cycles).unwrap();
    good_cycles(&mut taken, 3).await;
    let write = Request { query: Query::WriteRegister { address: 7, value: 4711 }, ..read(7) };
    assert_eq!(bus.asker().ask(write, Times::default()).await, Ok(Answer::Done));
    let answer = bus.asker().ask(read(7), Times::default()).await;
    assert_eq!(answer, Ok(Answer::Registers(vec![4711])));
    let missing = bus.asker().ask(read(8), Times::default()).await;
    assert_eq!(missing, Ok(Answer::Exception(2)));
    let asker = bus.asker();
    bus.stop().await;
    assert_eq!(asker.ask(read(7), Times::default()).await, Err(CommandError::Stopped));
}

#[tokio::test]
async fn schedule_of_the_settings_yields_good_readings_from_the_simulated_bus() {
    let settings = settings(Medium::Sim);
    let (cycles, mut taken) = mpsc::channel(10);
    let schedule = Schedule::new(&settings, 0, crate::clock::now());
    let bus = spawn(&settings, 0, schedule, cycles).unwrap();
    let cycle = tokio::time::timeout(DEADLINE, taken.recv()).await.expect("in time").expect("bus runs");
    assert!(
        matches!(cycle.readings[..], [Reading { sample: Sample::Good(Value::UInt(200..=260)), .. }]),
        "{cycle:?}"
    );
    bus.stop().await;
}

#[tokio::test]
async fn tcp_bus_keeps_its_pipeline_full_and_reconnects() {
    let (port, slave) = tcp_slave().await;
    let (cycles, mut taken) = mpsc::channel(10);
    let bus = spawn(&settings(tcp_medium(port, 4)), 0, Again::new(read(0), 4), cycles).unwrap();
    good_cycles(&mut taken, 50).await;
    slave.abort();
    let mut reports = bus.reports();
    let lost = reports.wait_for(|report| report.task.losses == 1);
    tokio::time::timeout(DEADLINE, lost).await.expect("in time").unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let units: Units = [(1, Box::new(Model::power_meter()) as _)].into();
    tokio::spawn(tcp(listener, units));
    while taken.try_recv().is_ok() {}
    good_cycles(&mut taken, 5).await;
    bus.stop().await;
}

#[tokio::test]
async fn unread_cycles_are_dropped_and_counted_and_the_line_goes_on() {
    let (port, _slave) = tcp_slave().await;
    let (cycles, _unread) = mpsc::channel(1);
    let bus = spawn(&settings(tcp_medium(port, 1)), 0, Again::new(read(0), 1), cycles).unwrap();
    let mut reports = bus.reports();
    let dropping = reports.wait_for(|report| report.task.cycles_dropped > 10);
    tokio::time::timeout(DEADLINE, dropping).await.expect("in time").unwrap();
    bus.stop().await;
}

#[tokio::test]
async fn port_that_does_not_open_is_told_and_commands_get_the_reason() {
    let serial = gateway_core::poll::settings::Serial {
        port: "/dev/ttyNONE".into(),
        baud: 9600,
        parity: gateway_core::poll::settings::Parity::None,
        data_bits: 8,
        stop_bits: 1,
        rs485: None,
    };
    let (cycles, _taken) = mpsc::channel(1);
    let bus = spawn(&settings(Medium::Serial(serial)), 0, Again::new(read(0), 1), cycles).unwrap();
    let answer = bus.asker().ask(read(0), Times::default()).await;
    assert!(matches!(&answer, Err(CommandError::Down(why)) if why.contains("/dev/ttyNONE")), "{answer:?}");
    bus.stop().await;
}

#[tokio::test]
async fn stop_is_obeyed_in_the_middle_of_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cycles, _taken) = mpsc::channel(1);
    let bus = spawn(&settings(tcp_medium(port, 1)), 0, Again::new(read(0), 1), cycles).unwrap();
    let _silent = listener.accept().await.unwrap();
    up(&bus).await;
    tokio::time::timeout(DEADLINE, bus.stop()).await.expect("in time");
}

#[tokio::test]
async fn rtu_through_tcp_is_polled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let units: Units = [(1, Box::new(Model::power_meter()) as _)].into();
        rtu(stream, units, Duration::from_micros(500)).await.unwrap();
    });
    let medium = Medium::RtuOverTcp {
        host: "127.0.0.1".to_owned(),
        port,
        connect_timeout: Duration::from_secs(5),
        connect_pause: Duration::ZERO,
        connection: Connection::Keep,
        frame_silence: Duration::from_millis(20),
    };
    let (cycles, mut taken) = mpsc::channel(10);
    let bus = spawn(&settings(medium), 0, Again::new(read(0), 1), cycles).unwrap();
    good_cycles(&mut taken, 5).await;
    bus.stop().await;
}

#[tokio::test]
async fn unplugged_port_is_opened_again_by_its_stable_path() {
    let folder = tempfile::tempdir().unwrap();
    let mut meter = Model::power_meter();
    let slave = move |_: u8, pdu: &[u8]| Some(answer(&mut meter, pdu));
    let line = LineSettings::clean(115_200);
    let line = Line::open(folder.path(), line, FarEnd::Slave(Box::new(slave))).unwrap();
    let serial = gateway_core::poll::settings::Serial {
        port: line.port().to_owned(),
        baud: 115_200,
        parity: gateway_core::poll::settings::Parity::Even,
        data_bits: 8,
        stop_bits: 1,
        rs485: None,
    };
    let (cycles, mut taken) = mpsc::channel(10);
    let bus = spawn(&settings(Medium::Serial(serial)), 0, Again::new(read(0), 1), cycles).unwrap();
    good_cycles(&mut taken, 3).await;
    line.hang_up();
    let mut reports = bus.reports();
    let lost =
        reports.wait_for(|report| matches!(report.line, LineState::Down { .. }) && report.task.losses == 1);
    tokio::time::timeout(DEADLINE, lost).await.expect("in time").unwrap();
    while taken.try_recv().is_ok() {}
    line.plug_in();
    good_cycles(&mut taken, 3).await;
    bus.stop().await;
}

/// How a device with real sockets ends a connection after its second answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// The answer and the end in one segment.
    OneSegment,
    /// A reset behind the answer.
    ResetAfterAnswer,
    /// It sends no more and still listens.
    HalfClose,
    /// A reset instead of the third answer.
    ResetOnRequest,
    /// An end instead of the third answer.
    EndOnRequest,
}

async fn ending_device(listener: TcpListener, ending: Ending) {
    let mut half_closed = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 12];
        for number in 1..=3 {
            if stream.read_exact(&mut request).await.is_err() {
                break;
            }
            if number == 3 {
                // Unread bytes and no time to linger make a reset of the end.
                let reset = (ending == Ending::ResetOnRequest).then_some(Duration::ZERO);
                sockopt::set_socket_linger(&stream, reset).unwrap();
                break;
            }
            let last = number == 2;
            sockopt::set_tcp_cork(&stream, last && ending == Ending::OneSegment).unwrap();
            let answer = [request[0], request[1], 0, 0, 0, 5, request[6], 3, 2, 0, 1];
            stream.write_all(&answer).await.unwrap();
            match ending {
                Ending::OneSegment if last => {
                    stream.shutdown().await.unwrap();
                    break;
                }
                Ending::ResetAfterAnswer if last => {
                    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    break;
                }
                Ending::HalfClose if last => {
                    stream.shutdown().await.unwrap();
                    half_closed.push(stream);
                    break;
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn no_way_of_closing_a_real_connection_costs_a_reading_or_the_bus() {
    let endings = [
        Ending::OneSegment,
        Ending::ResetAfterAnswer,
        Ending::HalfClose,
        Ending::ResetOnRequest,
        Ending::EndOnRequest,
    ];
    for ending in endings {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let device = tokio::spawn(ending_device(listener, ending));
        let (cycles, mut taken) = mpsc::channel(10);
        let bus = spawn(&settings(tcp_medium(port, 1)), 0, Again::new(read(0), 1), cycles).unwrap();
        for number in 0..40 {
            let cycle =
                tokio::time::timeout(DEADLINE, taken.recv()).await.expect("in time").expect("bus runs");
            assert_eq!(cycle.group, GroupId(0), "{ending:?}: request {number} failed");
        }
        let mut reports = bus.reports();
        let closed = reports.wait_for(|report| report.task.closes >= 20);
        let report = tokio::time::timeout(DEADLINE, async {
            tokio::select! {
                report = closed => report.unwrap().clone(),
                () = async { while taken.recv().await.is_some() {} } => panic!("the bus has ended"),
            }
        });
        let report = report.await.expect("in time");
        assert_eq!((report.task.losses, report.task.open_failures), (0, 0), "{ending:?}");
        bus.stop().await;
        device.abort();
    }
}
