//! Clients, attackers, network, daemon, disk and cloud, and what happens to them.

mod faults;
mod net;
mod store;

use std::collections::{BTreeMap, VecDeque};

use gateway_core::broker::{Action, Answer, Broker, ConnId, Counters, FactKind, Local};
use gateway_core::tag::BootNs;
use gateway_core::uplink::row::Qos;

use self::net::Line;
use self::store::Op;
use super::attacker::Attacker;
use super::client::{Client, Extra, GROUP, KEPT, PASSWORD};
use super::disk::Disk;
use super::oracle::{Oracle, Verdict};
use super::uplink::{self, Mood};
use super::{Case, Report};
use crate::sim::chance::Chance;

/// One millisecond in the unit of time of the simulation, ns.
pub const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
/// Most events of a run: a loop without progress ends here.
pub const EVENTS_MAX: u64 = 20_000_000;
/// Longest time to become quiet once nothing goes wrong.
pub const QUIET_MAX: u64 = 600 * S;
/// Attackers of a run that has some.
const ATTACKERS: usize = 4;

/// The subscriber of QoS 1 that is silent now and then.
const SILENT_CLIENT: usize = 3;
/// Four times a usual answer and a turn of the store. What comes late after a silence makes the usual answer longer for a while, so this is as close to the
/// commit interval as it is: who ignores slowness takes that and a turn, 1005 ms at least.
const SILENT_PATIENCE: u64 = 960 * MS;

#[derive(Debug)]
enum Event {
    /// A client does something.
    Client(usize),
    /// An attacker does something.
    Attacker(usize),
    /// The cloud says something.
    Cloud,
    /// The uplink's queue takes its next step.
    Uplink { run: u64 },
    /// Bytes arrive at the broker.
    ToBroker { conn: u64, bytes: Vec<u8> },
    /// A connection that was held is read again.
    Released { conn: u64 },
    /// A password was compared.
    Verified { run: u64, conn: u64, ok: bool },
    /// Bytes arrive at a client.
    ToClient { conn: u64, bytes: Vec<u8> },
    /// The store carries out what it was asked first.
    Store { epoch: u64 },
    /// The store's answer arrives.
    Answer { epoch: u64 },
    /// The database is replaced.
    Reset { run: u64 },
    /// The broker wants to be called.
    Timer { run: u64 },
    /// Something goes wrong.
    Fault,
    /// The daemon starts.
    Start,
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
    /// Answers on their way to the broker, in order.
    answers: VecDeque<Answer>,
    /// Runs of the daemon and databases so far: what was asked before is not answered after.
    epoch: u64,
    busy: bool,
    turns_fail: bool,
    disk_delay: u64,
    /// The uplink's queue has an event.
    stepping: bool,
    clients: Vec<Client>,
    attackers: Vec<Attacker>,
    lines: BTreeMap<u64, Line>,
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
        oracle.lossy = case.tight.is_some();
        let mut clients = vec![
            Client::new(0, false, true, true, None),
            Client::new(1, true, true, true, Some(2)).with(Extra::Group),
            Client::new(2, false, true, false, Some(2)),
            Client::new(3, true, true, false, Some(1)).with(Extra::Wills),
            Client::new(4, true, true, false, Some(2)).with(Extra::Group),
            Client::new(5, false, false, false, Some(2)),
        ];
        clients[4].slow = !case.calm;
        oracle.patience = case.silent.then_some(SILENT_PATIENCE);
        for client in &clients {
            if let Some(qos) = client.wants {
                oracle.subscriber(client.me, client.durable, qos);
            }
        }
        let attackers = if case.attackers { ATTACKERS } else { 0 };
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
            answers: VecDeque::new(),
            epoch: 0,
            busy: false,
            turns_fail: false,
            disk_delay: 5 * MS,
            stepping: false,
            clients,
            attackers: (0..attackers).map(Attacker::new).collect(),
            lines: BTreeMap::new(),
            next_conn: 0,
            healing: false,
            oracle,
            report: Report::default(),
        };
        world.after(0, Event::Start);
        world.after(2 * MS, Event::Cloud);
        for client in 0..world.clients.len() {
            world.after(MS, Event::Client(client));
        }
        for attacker in 0..attackers {
            world.after(3 * S, Event::Attacker(attacker));
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
                self.heal();
            }
            if self.healing && self.is_quiet() {
                return self.finish();
            }
            if self.now > heals + QUIET_MAX {
                self.count_dropped();
                self.oracle.quiet(self.now)?;
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
            Event::Attacker(attacker) => self.attack(attacker),
            Event::Cloud => self.cloud_speaks(),
            Event::Uplink { run } if run == self.run => self.uplink_steps()?,
            Event::ToBroker { conn, bytes } => self.arrive(conn, bytes),
            Event::Released { conn } => self.go_on(conn),
            Event::ToClient { conn, bytes } => self.hear(conn, &bytes)?,
            Event::Store { epoch } if epoch == self.epoch => self.carry_out(),
            Event::Answer { epoch } if epoch == self.epoch => self.answer(),
            Event::Reset { run } if run == self.run => self.replace(),
            Event::Verified { run, conn, ok } if run == self.run => {
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.handle_verified(now, ConnId(conn), ok);
                }
            }
            Event::Timer { run } if run == self.run => {
                self.timer = None;
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.timeout(now);
                }
            }
            Event::Uplink { .. }
            | Event::Store { .. }
            | Event::Answer { .. }
            | Event::Reset { .. }
            | Event::Verified { .. }
            | Event::Timer { .. } => {}
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
        if me == SILENT_CLIENT && self.case.silent && (dice < 3 || self.healing) {
            client.silent = !client.silent && !self.healing;
        }
        if (self.healing || dice.is_multiple_of(7)) && !client.silent {
            client.wake();
        }
        if self.healing {
            if !client.is_subscribed() {
                client.change_mind(now, oracle);
            }
        } else if client.publishes && dice < 75 {
            let qos =
                if self.case.calm { 1 } else { self.chance.pick(&[1, 1, 2, 2, 2, KEPT, GROUP, GROUP + 1]) };
            client.publish(now, qos, oracle);
        } else if client.wants.is_some()
            && (dice > 97 && !self.case.calm || !client.is_subscribed() && dice > 60)
        {
            client.change_mind(now, oracle);
        } else if !client.durable && dice < 10 {
            client.look_at_retained(oracle);
        } else if !client.durable && dice == 50 && !self.case.calm {
            self.cut(me);
        } else if dice == 76 && !self.case.calm {
            client.leave();
        }
        self.speak(me);
        Ok(())
    }

    fn act(&mut self) -> Verdict {
        while let Some(action) = self.broker.as_mut().and_then(Broker::poll_action) {
            match action {
                Action::Send { conn: ConnId(conn), bytes } => {
                    let at = self.travel(conn, false);
                    self.after(at, Event::ToClient { conn, bytes });
                }
                Action::Close { conn: ConnId(conn), reason } => self.closed(conn, &reason)?,
                Action::Turn(turn) => self.ask(Op::Turn(turn)),
                Action::Read(read) => self.ask(Op::Read(read)),
                Action::Hold { conn: ConnId(conn), held } => self.hold(conn, held),
                Action::Enqueue { session, draft, ticket, .. } => {
                    self.oracle.uplink.give(session, &draft, ticket)?;
                    if !std::mem::replace(&mut self.stepping, true) {
                        self.after(MS, Event::Uplink { run: self.run });
                    }
                }
                Action::Verify { conn: ConnId(conn), password, .. } => {
                    let (ok, delay) = (password == PASSWORD.as_bytes(), self.chance.around(50 * MS));
                    self.after(delay, Event::Verified { run: self.run, conn, ok });
                }
                Action::Safe { ticket } => {
                    if let Some(name) = self.oracle.uplink.safe(ticket) {
                        self.oracle.acknowledged(self.now, name)?;
                    }
                }
            }
        }
        // Notes are for the log; they wait in a short list otherwise.
        while self.broker.as_mut().and_then(Broker::poll_note).is_some() {}
        let due = self.broker.as_ref().and_then(Broker::poll_timeout).map(|at| at.0 + self.boot.0);
        if let Some(due) = due.filter(|due| self.timer.is_none_or(|timer| *due < timer)) {
            self.timer = Some(due);
            self.after(due.saturating_sub(self.now), Event::Timer { run: self.run });
        }
        Ok(())
    }

    /// The cloud sends a message down, now and then.
    fn cloud_speaks(&mut self) {
        let pause = self.chance.around(400 * MS);
        self.after(pause, Event::Cloud);
        if self.healing || self.broker.is_none() {
            return;
        }
        if let Some(number) = self.oracle.uplink.next_down() {
            self.send_down(number);
        }
    }

    fn send_down(&mut self, number: u64) {
        let now = self.boot_now();
        let (from, draft) = (self.oracle.uplink.session, uplink::down(number, now));
        self.oracle.sent(self.now, (uplink::CLOUD, 1, number));
        let local = Local { draft: &draft, qos: Qos::AtLeastOnce, from, want: true };
        if let Some(broker) = &mut self.broker {
            // Its topic is one that can be published to.
            let ticket = broker.publish(now, &local, || None).ok().flatten();
            self.oracle.uplink.sent_down(number, ticket);
        }
    }

    /// The uplink's queue takes a message, or not yet.
    fn uplink_steps(&mut self) -> Verdict {
        self.stepping = false;
        let mood = if self.healing { Mood::Prompt } else { self.oracle.uplink.mood };
        if mood != Mood::Silent {
            let drops = mood == Mood::Drops && self.chance.one_in(3);
            if let Some((ticket, fate)) = self.oracle.uplink.step(drops)? {
                let now = self.boot_now();
                if let Some(broker) = &mut self.broker {
                    broker.handle_receipt(now, ticket, fate);
                }
            }
        }
        if self.oracle.uplink.is_busy() {
            let pause = match mood {
                Mood::Prompt | Mood::Drops => self.chance.around(5 * MS),
                Mood::Late => self.chance.around(400 * MS),
                Mood::Silent => 500 * MS,
            };
            self.stepping = true;
            self.after(pause, Event::Uplink { run: self.run });
        }
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        self.broker.is_some()
            && self.clients.iter().all(Client::is_quiet)
            && self.oracle.uplink.is_quiet()
            && self.oracle.wills.pending(self.now).is_empty()
            && self.disk.rows() == 0
            && self.disk.facts(FactKind::Received) == 0
            && self.disk.facts(FactKind::Released) == 0
            && self.lines.values().all(|line| self.now > line.to_broker.max(line.to_client) + S)
    }

    fn noise(&self) -> String {
        let loud: Vec<String> = self.clients.iter().filter(|c| !c.is_quiet()).map(|c| c.noise()).collect();
        let facts = [FactKind::Received, FactKind::Released].map(|kind| self.disk.facts(kind));
        let uplink = if self.oracle.uplink.is_quiet() { "" } else { ", the uplink is busy" };
        format!("clients {loud:?}, {} rows and {facts:?} facts are left{uplink}", self.disk.rows())
    }

    /// What this run of the broker has dropped and counted may be missing.
    fn count_dropped(&mut self) -> Counters {
        let counters = self.broker.as_ref().map(Broker::counters).unwrap_or_default();
        self.oracle.dropped += counters.dropped_full_messages_total + counters.dropped_lost_messages_total;
        counters
    }

    fn finish(&mut self) -> Result<Report, String> {
        let counters = self.count_dropped();
        self.oracle.quiet(self.now)?;
        for client in &self.clients {
            client.has_retained()?;
        }
        for (what, count, allowed) in [
            ("full", counters.dropped_full_messages_total, self.case.attackers || self.case.tight.is_some()),
            ("unreadable", counters.dropped_unreadable_messages_total, false),
            ("damaged", counters.damaged_facts_total, false),
            ("malformed", counters.malformed_total, self.case.attackers),
        ] {
            if count > 0 && !allowed {
                return Err(format!("{count} counted as {what}"));
            }
        }
        Ok(Report {
            minutes: self.now / (60 * S),
            received: self.oracle.received,
            repeated: self.oracle.repeated,
            acknowledged: self.oracle.acknowledged,
            forwarded: self.oracle.uplink.taken,
            wills: self.oracle.wills.heard,
            shared: self.oracle.shared.received,
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
