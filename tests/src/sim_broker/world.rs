//! Clients, network, daemon and disk, and what happens to them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gateway_core::broker::{
    Action, Answer, Broker, ConnId, FactKind, Limits, Mutant, Origin, Read, Settings, Turn,
};
use gateway_core::tag::{BootId, BootNs, RunId};
use gateway_core::uplink::row::StoreFault;

use super::client::Client;
use super::disk::Disk;
use super::oracle::{Oracle, Verdict};
use super::{Case, Report};
use crate::sim::chance::Chance;

/// One millisecond in the unit of time of the simulation, ns.
pub const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
/// Most events of a run: a loop without progress ends here.
pub const EVENTS_MAX: u64 = 20_000_000;
/// Longest time to become quiet once nothing goes wrong.
pub const QUIET_MAX: u64 = 600 * S;

#[derive(Debug)]
enum Event {
    /// A client does something.
    Client(usize),
    /// Bytes arrive at the broker.
    ToBroker { conn: u64, bytes: Vec<u8> },
    /// Bytes arrive at a client.
    ToClient { conn: u64, bytes: Vec<u8> },
    /// The store carries out what it was asked first.
    Store { run: u64 },
    /// The store's answer arrives.
    Answer { run: u64, answer: Box<Answer> },
    /// The broker wants to be called.
    Timer { run: u64 },
    /// Something goes wrong.
    Fault,
    /// The daemon starts.
    Start,
}

#[derive(Debug)]
enum Op {
    Turn(Turn),
    Read(Read),
}

/// Everything.
pub struct World {
    case: Case,
    now: u64,
    chance: Chance,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    broker: Option<Broker>,
    /// Number of the daemon's run.
    run: u64,
    /// When the machine booted, and which boot it is.
    boot: (u64, u64),
    timer: Option<u64>,
    disk: Disk,
    ops: VecDeque<Op>,
    busy: bool,
    turns_fail: bool,
    disk_delay: u64,
    clients: Vec<Client>,
    /// Of each connection: its client, and when its last bytes arrive on either side.
    conns: BTreeMap<u64, (usize, u64, u64)>,
    next_conn: u64,
    healing: bool,
    oracle: Oracle,
    report: Report,
}

impl World {
    /// A world of a case, with nobody connected.
    #[must_use]
    pub fn new(case: Case) -> Self {
        let mut oracle = Oracle::default();
        let mut clients = vec![
            Client::new(0, false, true, true, None),
            Client::new(1, true, true, true, Some(2)),
            Client::new(2, false, true, false, Some(2)),
            Client::new(3, true, true, false, Some(1)),
            Client::new(4, true, true, false, Some(2)),
            Client::new(5, false, false, false, Some(2)),
        ];
        clients[4].slow = !case.calm;
        for client in &clients {
            if let Some(qos) = client.wants {
                oracle.subscriber(client.me, client.durable, qos);
            }
        }
        let mut world = Self {
            case,
            now: 10 * S,
            chance: Chance::new(case.seed),
            events: BTreeMap::new(),
            count: 0,
            broker: None,
            run: 0,
            boot: (0, 1),
            timer: None,
            disk: Disk::default(),
            ops: VecDeque::new(),
            busy: false,
            turns_fail: false,
            disk_delay: 5 * MS,
            clients,
            conns: BTreeMap::new(),
            next_conn: 0,
            healing: false,
            oracle,
            report: Report::default(),
        };
        world.after(0, Event::Start);
        for client in 0..world.clients.len() {
            world.after(MS, Event::Client(client));
        }
        if !case.calm {
            world.after(5 * S, Event::Fault);
        }
        world
    }

    /// Virtual time, ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Runs until the time is over and everything is quiet.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(&mut self) -> Result<Report, String> {
        let heals = self.now + self.case.minutes * 60 * S;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.report.events += 1;
            if self.report.events > EVENTS_MAX {
                return Err("there is no end of events".into());
            }
            self.happen(event)?;
            self.act()?;
            if self.now > heals && !self.healing {
                self.healing = true;
                self.turns_fail = false;
                self.disk_delay = 5 * MS;
            }
            if self.healing && self.is_quiet() {
                return self.finish();
            }
            if self.now > heals + QUIET_MAX {
                self.oracle.quiet()?;
                return Err(format!("it does not become quiet: {}", self.noise()));
            }
        }
        Err("nothing happens any more".into())
    }

    fn happen(&mut self, event: Event) -> Verdict {
        if self.case.trace {
            eprintln!("{} ms: {event:?}", self.now / MS);
        }
        match event {
            Event::Client(client) => self.live(client)?,
            Event::ToBroker { conn, bytes } => {
                let now = self.boot_now();
                if let Some(broker) = self.broker.as_mut().filter(|_| self.conns.contains_key(&conn)) {
                    broker.handle_bytes(now, ConnId(conn), &bytes);
                }
            }
            Event::ToClient { conn, bytes } => {
                let Some(&(client, ..)) = self.conns.get(&conn) else { return Ok(()) };
                self.clients[client].hear(self.now, &bytes, &mut self.oracle)?;
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.handle_sent(now, ConnId(conn), bytes.len());
                }
                self.speak(client);
            }
            Event::Store { run } if run == self.run => self.carry_out(),
            Event::Answer { run, answer } if run == self.run => {
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.handle_answer(now, *answer);
                }
            }
            Event::Timer { run } if run == self.run => {
                self.timer = None;
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.timeout(now);
                }
            }
            Event::Store { .. } | Event::Answer { .. } | Event::Timer { .. } => {}
            Event::Fault => self.go_wrong(),
            Event::Start => self.start(),
        }
        Ok(())
    }

    /// A client's next step.
    fn live(&mut self, me: usize) -> Verdict {
        let pause = self.chance.around(if self.healing { 300 * MS } else { 120 * MS });
        self.after(pause, Event::Client(me));
        let dice = self.chance.of(0..=99);
        if self.clients[me].conn.is_none() {
            if self.broker.is_some() && (dice < 30 || self.healing) {
                self.connect(me);
            }
            return Ok(());
        }
        let (now, oracle) = (self.now, &mut self.oracle);
        let client = &mut self.clients[me];
        if self.healing || dice.is_multiple_of(7) {
            client.wake();
        }
        if self.healing {
            if !client.is_subscribed() {
                client.change_mind(now, oracle);
            }
        } else if client.publishes && dice < 75 {
            let qos = if self.case.calm { 1 } else { self.chance.pick(&[1, 1, 2, 2, 2, 3]) };
            client.publish(now, qos, oracle);
        } else if client.wants.is_some()
            && (dice > 97 && !self.case.calm || !client.is_subscribed() && dice > 60)
        {
            client.change_mind(now, oracle);
        } else if !client.durable && dice < 10 {
            client.look_at_retained(oracle);
        } else if !client.durable && dice == 50 && !self.case.calm {
            self.cut(me);
        }
        self.speak(me);
        Ok(())
    }

    fn connect(&mut self, me: usize) {
        self.next_conn += 1;
        let conn = self.next_conn;
        self.conns.insert(conn, (me, self.now, self.now));
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_open(now, ConnId(conn), Origin::default());
        }
        self.clients[me].open(conn);
        self.speak(me);
    }

    /// What a client wrote goes on its way, in pieces.
    fn speak(&mut self, me: usize) {
        let Some(conn) = self.clients[me].conn else { return };
        let mut bytes = std::mem::take(&mut self.clients[me].out);
        while !bytes.is_empty() {
            let len = if self.chance.one_in(4) { self.chance.of(1..=20) } else { 4096 };
            let rest = bytes.split_off(bytes.len().min(usize::try_from(len).unwrap_or(1)));
            let piece = std::mem::replace(&mut bytes, rest);
            let at = self.travel(conn, true);
            self.after(at, Event::ToBroker { conn, bytes: piece });
        }
    }

    /// How long bytes take from here, never overtaking those before.
    fn travel(&mut self, conn: u64, up: bool) -> u64 {
        let delay = self.chance.around(8 * MS);
        let Some((_, to_broker, to_client)) = self.conns.get_mut(&conn) else { return delay };
        let last = if up { to_broker } else { to_client };
        *last = (*last).max(self.now + delay);
        *last - self.now
    }

    /// A connection is cut: what is on its way in either direction is lost.
    fn cut(&mut self, me: usize) {
        let Some(conn) = self.clients[me].conn else { return };
        self.report.cuts += 1;
        self.conns.remove(&conn);
        self.clients[me].lost(&mut self.oracle);
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_closed(now, ConnId(conn));
        }
    }

    fn act(&mut self) -> Verdict {
        while let Some(action) = self.broker.as_mut().and_then(Broker::poll_action) {
            match action {
                Action::Send { conn: ConnId(conn), bytes } => {
                    let at = self.travel(conn, false);
                    self.after(at, Event::ToClient { conn, bytes });
                }
                Action::Close { conn: ConnId(conn), reason } => {
                    if self.conns.contains_key(&conn) {
                        return Err(format!("the broker closes connection {conn}: {reason}"));
                    }
                }
                Action::Turn(turn) => self.ask(Op::Turn(turn)),
                Action::Read(read) => self.ask(Op::Read(read)),
                Action::Hold { .. } => {}
                other => return Err(format!("an action that nobody asked for: {other:?}")),
            }
        }
        let due = self.broker.as_ref().and_then(Broker::poll_timeout).map(|at| at.0 + self.boot.0);
        if let Some(due) = due.filter(|due| self.timer.is_none_or(|timer| *due < timer)) {
            self.timer = Some(due);
            self.after(due.saturating_sub(self.now), Event::Timer { run: self.run });
        }
        Ok(())
    }

    fn ask(&mut self, op: Op) {
        self.ops.push_back(op);
        if !std::mem::replace(&mut self.busy, true) {
            let delay = self.chance.around(self.disk_delay);
            self.after(delay, Event::Store { run: self.run });
        }
    }

    /// The store does what comes first; its answer takes a moment.
    fn carry_out(&mut self) {
        let Some(op) = self.ops.pop_front() else { return };
        let fails = self.turns_fail && !self.chance.one_in(4);
        let answer = match op {
            Op::Turn(turn) => {
                self.report.turns.0 += 1;
                self.report.turns.1 += u64::from(fails);
                if !fails || self.chance.one_in(3) {
                    self.write(&turn);
                }
                let number = turn.number;
                if fails { Answer::Failed { number, fault: StoreFault::Io } } else { Answer::Done { number } }
            }
            Op::Read(read) if fails => Answer::Unread { number: read.number, fault: StoreFault::Io },
            Op::Read(read) => self.disk.read(&read),
        };
        // Answers keep their order: the next op begins when this answer is on its way.
        let delay = self.chance.around(2 * MS);
        self.after(delay, Event::Answer { run: self.run, answer: Box::new(answer) });
        self.busy = !self.ops.is_empty();
        if self.busy {
            let delay = delay + self.chance.around(self.disk_delay);
            self.after(delay, Event::Store { run: self.run });
        }
    }

    fn write(&mut self, turn: &Turn) {
        let inserts =
            turn.changes.iter().filter(|c| matches!(c, gateway_core::broker::Change::Insert { .. }));
        self.report.rows_written += inserts.count() as u64;
        self.disk.apply(turn);
    }

    fn go_wrong(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.chance.around(4 * S);
        self.after(pause, Event::Fault);
        match self.chance.of(0..=19) {
            0..=9 => {
                let me = usize::try_from(self.chance.of(0..=5)).unwrap_or(0);
                self.cut(me);
            }
            10..=13 => self.crash(),
            14 => self.disk_delay = self.chance.of(1..=400) * MS,
            15 | 16 => self.disk_delay = 5 * MS,
            17 => self.turns_fail = true,
            _ => self.turns_fail = false,
        }
    }

    /// The daemon is killed. The turn under way reached the disk or did not.
    fn crash(&mut self) {
        if self.broker.take().is_none() {
            return;
        }
        self.report.crashes += 1;
        self.run += 1;
        if let Some(Op::Turn(turn)) = self.ops.pop_front()
            && self.chance.one_in(2)
        {
            self.write(&turn);
        }
        self.ops.clear();
        (self.busy, self.timer) = (false, None);
        for client in &mut self.clients {
            if let Some(conn) = client.conn {
                self.conns.remove(&conn);
                client.lost(&mut self.oracle);
            }
        }
        if self.chance.one_in(3) {
            self.boot = (self.now, self.boot.1 + 1);
        }
        let delay = self.chance.around(2 * S);
        self.after(delay, Event::Start);
    }

    fn start(&mut self) {
        let run = RunId { boot: BootId(self.boot.1), start_ms: self.run };
        let limits = Limits {
            commit_interval: Duration::from_secs(1),
            inflight_max: 8,
            stored_rows_max: u64::MAX,
            // With every other seed nearly everything is put down once.
            turn_work_max: if self.case.seed % 2 == 1 { 150 } else { Limits::default().turn_work_max },
            ..Limits::default()
        };
        let settings = Settings { limits, ..Settings::default() };
        let mutant: Option<Mutant> = self.case.mutant;
        self.broker = Some(Broker::with_mutant(self.boot_now(), settings, run, self.disk.found(), mutant));
    }

    fn is_quiet(&self) -> bool {
        self.broker.is_some()
            && self.clients.iter().all(Client::is_quiet)
            && self.disk.rows() == 0
            && self.disk.facts(FactKind::Received) == 0
            && self.disk.facts(FactKind::Released) == 0
            && self.conns.values().all(|(_, up, down)| self.now > up.max(down) + S)
    }

    fn noise(&self) -> String {
        let loud: Vec<usize> = self.clients.iter().filter(|c| !c.is_quiet()).map(|c| c.me).collect();
        let facts = [FactKind::Received, FactKind::Released].map(|kind| self.disk.facts(kind));
        format!("clients {loud:?}, {} rows and {facts:?} facts are left", self.disk.rows())
    }

    fn finish(&mut self) -> Result<Report, String> {
        self.oracle.quiet()?;
        for client in &self.clients {
            client.has_retained()?;
        }
        let dropped = self.broker.as_ref().map(Broker::counters).unwrap_or_default();
        for (what, count) in [
            ("full", dropped.dropped_full_messages_total),
            ("unreadable", dropped.dropped_unreadable_messages_total),
            ("damaged", dropped.damaged_facts_total),
            ("malformed", dropped.malformed_total),
        ] {
            if count > 0 {
                return Err(format!("{count} counted as {what}"));
            }
        }
        Ok(Report {
            minutes: self.now / (60 * S),
            received: self.oracle.received,
            repeated: self.oracle.repeated,
            acknowledged: self.oracle.acknowledged,
            ..self.report
        })
    }

    fn boot_now(&self) -> BootNs {
        BootNs(self.now - self.boot.0)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }
}
