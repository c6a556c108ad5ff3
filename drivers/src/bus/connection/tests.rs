//! Whole bus tasks with their schedule in virtual time, and devices in memory that close connections as real ones do.

mod silence;
mod writes;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Duration;

use gateway_core::poll::Settings;
use gateway_core::poll::request::{Answer, Query, Request, UnitId};
use gateway_core::poll::schedule::Schedule;
use gateway_core::poll::settings::{Connection, Device as DeviceSettings, Medium};
use gateway_core::tag::{BootNs, Cycle, Name, Reason, Sample};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};

use super::super::desk::Desk;
use super::super::tests::settings;
use super::super::wire::{Dial, Wire, timing};
use super::super::{Asker, COMMANDS_MAX, CommandError, LineState, Report, Times, rtu, tcp};
use super::{Habits, run};
use crate::clock;
use crate::modbus::mbap::{Head, append_frame, head};
use crate::modbus::rtu::append_crc;
use crate::sim::serve::take_frame;
use crate::virtual_time::VirtualTime;

/// Unit that makes its gateway close the connection.
const UNIT_THAT_ENDS_IT: u8 = 2;

/// What a device does with its connections.
#[derive(Debug, Clone, Copy, Default)]
struct Manners {
    /// Closes after so many answers.
    answers_max: Option<u32>,
    /// Closes after so long without a request.
    idle_max: Option<Duration>,
    /// Accepts and closes.
    at_once: bool,
    /// Closes instead of answering every so many requests.
    swallows_every: Option<u32>,
    /// Refuses a connection for so long after the end of the last.
    refuses_for: Duration,
    /// Loses what comes sooner after the handshake.
    deaf_for: Duration,
    /// Says nothing while this is so.
    silent_when: Option<fn(BootNs) -> bool>,
    /// Says nothing more on a connection after so many answers.
    mute_after: Option<u32>,
    /// Says this instead of each answer.
    says: Option<&'static [u8]>,
    /// Takes so much longer for each answer.
    late_by: Duration,
    /// Speaks RTU.
    rtu: bool,
}

/// What happened in a device.
#[derive(Debug, Default)]
struct Facts {
    connections: u32,
    open: u32,
    refused: u32,
    requests: u32,
    answers: u32,
    writes: Vec<u16>,
    last_end: Option<BootNs>,
    /// How many connections were open at the same time.
    open_max: u32,
}

/// The way to a device in memory.
struct Door {
    manners: Manners,
    facts: Arc<Mutex<Facts>>,
}

fn locked(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap()
}

impl Dial for Door {
    async fn dial(&mut self) -> Result<Box<dyn Wire>, String> {
        let mut facts = locked(&self.facts);
        if facts.last_end.is_some_and(|end| clock::now() < end.plus(self.manners.refuses_for)) {
            facts.refused += 1;
            return Err("cannot connect: connection refused".to_owned());
        }
        facts.connections += 1;
        facts.open += 1;
        facts.open_max = facts.open_max.max(facts.open);
        let (near, far) = tokio::io::duplex(4096);
        let (manners, facts) = (self.manners, Arc::clone(&self.facts));
        tokio::spawn(async move {
            serve(far, manners, &facts).await;
            let mut facts = locked(&facts);
            facts.open -= 1;
            facts.last_end = Some(clock::now());
        });
        Ok(Box::new(near))
    }
}

/// One connection of a device.
async fn serve(mut stream: DuplexStream, manners: Manners, facts: &Mutex<Facts>) {
    let (opened, mut input, mut answers) = (clock::now(), Vec::new(), 0);
    if manners.at_once {
        return;
    }
    let mut buffer = [0; 300];
    loop {
        let idle = manners.idle_max.unwrap_or(Duration::from_secs(1_000_000));
        let Ok(Ok(bytes @ 1..)) = tokio::time::timeout(idle, stream.read(&mut buffer)).await else { return };
        if clock::now() < opened.plus(manners.deaf_for) {
            continue;
        }
        input.extend_from_slice(&buffer[..bytes]);
        while let Some((id, unit, pdu)) = request_of(&mut input, manners.rtu) {
            let requests = {
                let mut facts = locked(facts);
                facts.requests += 1;
                if pdu[0] == 6 {
                    facts.writes.push(u16::from_be_bytes([pdu[3], pdu[4]]));
                }
                facts.requests
            };
            let swallowed = manners.swallows_every.is_some_and(|every| requests.is_multiple_of(every));
            if swallowed || unit == UNIT_THAT_ENDS_IT {
                return;
            }
            let mute = manners.mute_after.is_some_and(|max| answers >= max);
            if mute || manners.silent_when.is_some_and(|silent| silent(clock::now())) {
                continue;
            }
            tokio::time::sleep(Duration::from_millis(5) + manners.late_by).await;
            let says = manners.says.map(<[u8]>::to_vec);
            let answer = says.unwrap_or_else(|| answer_to(id, unit, &pdu, manners.rtu));
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            answers += 1;
            locked(facts).answers += 1;
            if manners.answers_max.is_some_and(|max| answers >= max) {
                return;
            }
        }
    }
}

fn request_of(input: &mut Vec<u8>, rtu: bool) -> Option<(u16, u8, Vec<u8>)> {
    if rtu {
        let frame = take_frame(input)?;
        return Some((0, frame[0], frame[1..].to_vec()));
    }
    let Head::Frame(frame, len) = head(input) else { return None };
    let request = (frame.id, frame.unit, frame.pdu.to_vec());
    input.drain(..len);
    Some(request)
}

fn answer_to(id: u16, unit: u8, pdu: &[u8], rtu: bool) -> Vec<u8> {
    let answer = if pdu[0] == 3 {
        let registers = usize::from(pdu[4]);
        [vec![3, 2 * pdu[4]], vec![0x11; 2 * registers]].concat()
    } else {
        pdu.to_vec()
    };
    let mut out = Vec::new();
    if rtu {
        out.push(unit);
        out.extend(answer);
        append_crc(&mut out);
    } else {
        append_frame(id, unit, &answer, &mut out);
    }
    out
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged on the thread of each test.
struct Notebook;

impl log::Log for Notebook {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// A bus at work on a device.
struct Rig {
    facts: Arc<Mutex<Facts>>,
    asker: Asker,
    reports: watch::Receiver<Report>,
    cycles: mpsc::Receiver<Cycle>,
    stop: watch::Sender<bool>,
    _time: VirtualTime,
}

/// A device of one tag that is polled every so often, on a bus with other ways.
fn field(medium: Medium, every: Duration) -> Settings {
    let mut field = (*settings(medium)).clone();
    field.groups[0].every = every;
    field
}

fn tcp_medium(pipeline: u8, connection: Connection, connect_pause: Duration) -> Medium {
    let (host, connect_timeout) = ("meter".to_owned(), Duration::from_secs(5));
    Medium::Tcp { host, port: 502, pipeline, connect_timeout, connect_pause, connection }
}

fn keep(pipeline: u8) -> Medium {
    tcp_medium(pipeline, Connection::Keep, Duration::ZERO)
}

/// Another device with a tag of its own.
fn add_device(field: &mut Settings, unit: u8, every: Duration) {
    let name = Name::new(&format!("unit-{unit}-{}", field.devices.len())).unwrap();
    let device = DeviceSettings { name, unit: UnitId::tcp(unit), ..field.devices[0].clone() };
    field.devices.push(device);
    let mut group = field.groups[0].clone();
    (group.device, group.every) = (field.devices.len() - 1, every);
    (group.tags_start, group.tags_len) = (field.tags.len(), 1);
    let mut tag = field.tags[0].clone();
    tag.group = field.groups.len();
    field.groups.push(group);
    field.tags.push(tag);
}

impl Rig {
    fn start(field: &Settings, manners: Manners) -> Self {
        static LOG: Once = Once::new();
        LOG.call_once(|| {
            log::set_logger(&Notebook).unwrap();
            log::set_max_level(log::LevelFilter::Info);
        });
        LINES.with_borrow_mut(Vec::clear);
        let time = VirtualTime::begin();
        let facts = Arc::new(Mutex::new(Facts::default()));
        let door = Door { manners, facts: Arc::clone(&facts) };
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        let (stop, stopped) = watch::channel(false);
        let (outlet, cycles) = mpsc::channel(100_000);
        let bus = &field.buses[0];
        let schedule = Schedule::new(field, 0, clock::now());
        let (desk, reports) = Desk::new(bus, schedule, Box::new(outlet), waiting, stopped).unwrap();
        let habits = Habits::of(&bus.medium);
        match &bus.medium {
            Medium::Tcp { host, port, pipeline, .. } => {
                tokio::spawn(run(desk, door, habits, tcp::Line::new(host, *port, *pipeline, habits)));
            }
            medium => {
                let talk = rtu::Line::new(timing(medium, true), habits);
                tokio::spawn(run(desk, door, habits, talk));
            }
        }
        Self { facts, asker: Asker { commands }, reports, cycles, stop, _time: time }
    }

    /// Lets time pass; returns the readings of each unit's tag until then: group and sample.
    async fn pass(&mut self, time: Duration) -> Vec<(u32, Sample)> {
        tokio::time::sleep(time).await;
        let mut readings = Vec::new();
        while let Ok(cycle) = self.cycles.try_recv() {
            readings.extend(cycle.readings.into_iter().map(|reading| (cycle.group.0, reading.sample)));
        }
        readings
    }

    fn report(&self) -> Report {
        self.reports.borrow().clone()
    }

    async fn ask(&self, query: Query) -> Result<Answer, CommandError> {
        self.asker.ask(Request { unit: UnitId::tcp(1), query }, Times::default()).await
    }
}

fn lines() -> Vec<String> {
    LINES.with_borrow(Clone::clone)
}

fn bad(readings: &[(u32, Sample)]) -> Vec<&(u32, Sample)> {
    readings.iter().filter(|(_, sample)| !matches!(sample, Sample::Good(_))).collect()
}

/// All readings are good, there are at least so many, the bus was never down, and the log has one line.
fn all_is_well(rig: &Rig, readings: &[(u32, Sample)], least: usize) {
    assert!(bad(readings).is_empty(), "{:?}; {:?}", bad(readings), locked(&rig.facts));
    assert!(readings.len() >= least, "{} of {least} readings; {:?}", readings.len(), locked(&rig.facts));
    assert_eq!(lines(), ["bus line: up"]);
    let report = rig.report();
    assert_eq!((report.task.losses, report.task.open_failures), (0, 0));
    assert!(matches!(report.line, LineState::Up { .. }), "{:?}", report.line);
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_device_that_closes_after_3_s_idle_gives_every_value_of_an_hour_and_one_log_line() {
    let manners = Manners { idle_max: Some(3 * SECOND), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), 10 * SECOND), manners);
    let readings = rig.pass(HOUR).await;
    all_is_well(&rig, &readings, 360);
    let facts = locked(&rig.facts);
    assert!(facts.connections >= 360 && facts.connections <= 362, "{facts:?}");
    assert_eq!(facts.answers, facts.requests);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_closes_after_each_answer_gives_every_value_and_one_log_line() {
    for (pipeline, answers_max) in [(1, 1), (4, 1), (1, 3), (4, 3), (16, 5)] {
        let mut field = field(keep(pipeline), SECOND);
        for _ in 0..5 {
            add_device(&mut field, 1, SECOND);
        }
        let manners = Manners { answers_max: Some(answers_max), ..Manners::default() };
        let mut rig = Rig::start(&field, manners);
        let readings = rig.pass(60 * SECOND).await;
        all_is_well(&rig, &readings, 6 * 59);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_the_next_connection_for_a_second_gives_every_value() {
    let manners = Manners { answers_max: Some(1), refuses_for: SECOND, ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND / 2), manners);
    let readings = rig.pass(60 * SECOND).await;
    assert!(locked(&rig.facts).refused > 0);
    all_is_well(&rig, &readings, 40);
    assert_eq!(locked(&rig.facts).open_max, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_there_at_once_is_told_to_be_opening_until_an_answer_comes() {
    // Refused for half a second when the second poll is due.
    let manners = Manners { answers_max: Some(1), refuses_for: SECOND * 11 / 2, ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND * 5), manners);
    let opening = rig.reports.wait_for(|report| report.reopening).await.unwrap().clone();
    assert!(matches!(opening.line, LineState::Up { .. }), "{:?}", opening.line);
    let again = rig.reports.wait_for(|report| !report.reopening).await.unwrap().clone();
    assert!(again.schedule.counters.answers > opening.schedule.counters.answers);
    assert_eq!(again.task.losses, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_lost_with_its_connection_is_asked_again_at_once() {
    for pipeline in [1, 4] {
        let mut field = field(keep(pipeline), SECOND);
        add_device(&mut field, 1, SECOND);
        let manners = Manners { swallows_every: Some(3), ..Manners::default() };
        let mut rig = Rig::start(&field, manners);
        let readings = rig.pass(600 * SECOND).await;
        all_is_well(&rig, &readings, 2 * 599);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_answers_backs_off_and_the_log_says_so_once() {
    let manners = Manners { at_once: true, ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND), manners);
    let readings = rig.pass(HOUR).await;
    assert!(readings.len() > 3000 && bad(&readings).len() == readings.len());
    assert_eq!(
        lines(),
        ["bus line: up", "bus line: down: connection to meter:502 lost: closed by the device"]
    );
    let connections = locked(&rig.facts).connections;
    assert!((300..800).contains(&connections), "{connections}: at most two for each pause of 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_stops_answering_backs_off_and_comes_back_with_one_line_each() {
    let manners = Manners { swallows_every: Some(1), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND), manners);
    rig.pass(HOUR).await;
    let facts = locked(&rig.facts);
    assert!(facts.connections < 800, "{facts:?}");
    assert_eq!(lines().len(), 2, "{:?}", lines());
}

#[tokio::test(start_paused = true)]
async fn a_unit_for_which_its_gateway_closes_the_connection_does_not_take_the_others_with_it() {
    let mut field = field(keep(4), SECOND);
    add_device(&mut field, UNIT_THAT_ENDS_IT, SECOND);
    add_device(&mut field, 3, 5 * SECOND);
    for device in &mut field.devices {
        device.retries = 1;
        device.probe_max = 10 * SECOND;
    }
    let mut rig = Rig::start(&field, Manners::default());
    let readings = rig.pass(600 * SECOND).await;
    let of = |group| readings.iter().filter(|reading| reading.0 == group).cloned().collect::<Vec<_>>();
    assert!(bad(&of(0)).is_empty() && bad(&of(2)).is_empty(), "{:?}", bad(&readings));
    assert!(of(0).len() >= 599 && of(2).len() >= 119, "{} and {}", of(0).len(), of(2).len());
    let reasons: BTreeSet<String> = of(1).iter().map(|(_, sample)| format!("{sample:?}")).collect();
    let expected = [Reason::DeviceDown, Reason::Timeout].map(|reason| format!("{:?}", Sample::Bad(reason)));
    assert_eq!(reasons, BTreeSet::from(expected));
    assert_eq!(lines(), ["bus line: up"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_per_cycle_is_closed_after_each_and_opened_for_the_next() {
    for pipeline in [1, 4] {
        let medium = tcp_medium(pipeline, Connection::PerCycle, Duration::ZERO);
        let mut rig = Rig::start(&field(medium, 10 * SECOND), Manners::default());
        rig.pass(2 * SECOND).await;
        for cycle in 1..=30 {
            let seen = {
                let facts = locked(&rig.facts);
                (facts.open, facts.connections, facts.answers)
            };
            assert_eq!(seen, (0, cycle, cycle));
            let readings = rig.pass(10 * SECOND).await;
            all_is_well(&rig, &readings, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_connecting_is_kept_on_every_connection() {
    let deaf_for = Duration::from_millis(400);
    let manners = Manners { deaf_for, answers_max: Some(2), ..Manners::default() };
    for connection in [Connection::Keep, Connection::PerCycle] {
        let medium = tcp_medium(1, connection, deaf_for);
        let mut rig = Rig::start(&field(medium, 5 * SECOND), manners);
        let readings = rig.pass(100 * SECOND).await;
        all_is_well(&rig, &readings, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn rtu_through_a_serial_server_that_closes_is_polled_without_a_word() {
    let medium = |connection| Medium::RtuOverTcp {
        host: "server".to_owned(),
        port: 4001,
        connect_timeout: 5 * SECOND,
        connect_pause: Duration::ZERO,
        connection,
        frame_silence: Duration::from_millis(20),
    };
    let base = Manners { rtu: true, ..Manners::default() };
    let closing = [
        Manners { answers_max: Some(1), ..base },
        Manners { idle_max: Some(Duration::from_millis(300)), ..base },
        Manners { swallows_every: Some(7), ..base },
    ];
    for manners in closing {
        for connection in [Connection::Keep, Connection::PerCycle] {
            let mut rig = Rig::start(&field(medium(connection), SECOND), manners);
            let readings = rig.pass(60 * SECOND).await;
            all_is_well(&rig, &readings, 59);
        }
    }
    let write = Query::WriteRegister { address: 7, value: 1 };
    let mut rig =
        Rig::start(&field(medium(Connection::Keep), HOUR), Manners { swallows_every: Some(2), ..base });
    rig.pass(2 * SECOND).await;
    assert_eq!(rig.ask(write).await, Err(CommandError::Unanswered));
    assert_eq!(locked(&rig.facts).writes, [1]);
}
