//! The loop: virtual time, the gateway, its disk, its link and its cloud.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::payload::{Entry, Head, Record, SchemaId, settings::Shape};
use gateway_core::tag::{BootId, BootNs, RunId, Sample, Value};
use gateway_core::uplink::link::{Epoch, LinkEvent, Token};
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::{DropReason, Message, Queue, QueueSettings, Waiting};
use gateway_core::uplink::row::{Body, Priority, Qos, Row, StoreEvent, StoreFault, StoreOp};
use gateway_core::uplink::settings::Drain;
use gateway_core::uplink::{Action, Identity, Mutant, Uplink};

use super::chance::Chance;
use super::disk::Disk;
use super::faults::Fault;
use super::line::{CLOUD_MAX, HOSTILE_TOPIC, PACKET_MAX, UNFIT_TOPIC};
use super::net::{Broker, Connection, Network};
use super::oracle::{Oracle, Verdict, store_was_busy};
use super::plan::{HOUR, MIN, MS, Plan, S};

/// Most events of one run; more means that something runs in circles.
pub const EVENTS_MAX: u64 = 200_000_000;
/// Most steps at one moment, for the same reason.
pub const STEPS_PER_MOMENT_MAX: u32 = 100_000;
/// Longest time in which a healed world must become quiet.
pub const QUIET_MAX: u64 = 48 * HOUR;

/// All is well so long after everything has healed.
const CALM_AFTER: u64 = 10 * S;

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    Produce,
    Stored {
        gateway: u64,
        op: StoreOp,
    },
    Connected {
        connection: u64,
    },
    Arrives {
        connection: u64,
        token: Token,
        row: Option<Arc<Row>>,
        qos: Qos,
    },
    Link {
        gateway: u64,
        epoch: Epoch,
        event: LinkEvent,
    },
    Fault,
    Heal(Healing),
    /// The gateway's process starts, unless another start was planned since.
    Start(u64),
}

/// What becomes well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Healing {
    Network(u64),
    Broker(u64),
    Disk(u64),
}

/// A moment; the number keeps events of one moment in their order.
#[derive(Debug)]
struct At(u64, u64, Event);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(super) plan: Plan,
    /// Prints every event, to follow a replay.
    pub trace: Option<u64>,
    pub(super) chance: Chance,
    /// Which messages have publishers that are held up; its own, so that it changes nothing else of a seed.
    publishers: Chance,
    mutant: Option<Mutant>,
    pub(super) now: u64,
    events: BinaryHeap<Reverse<At>>,
    pub(super) count: u64,
    moment_steps: u32,
    pub(super) disk: Disk,
    pub(super) disk_delay: u64,
    pub(super) network: Network,
    pub(super) broker: Broker,
    /// Grows with every change of network, broker or disk, so that a healing finds out whether it is still wanted.
    pub(super) version: u64,
    pub(super) oracle: Oracle,
    pub(super) uplink: Option<Uplink>,
    /// Number of the gateway's current run.
    pub(super) gateway: u64,
    start_plan: u64,
    pub(super) boot: u64,
    /// Boot time minus world time.
    pub(super) boot_offset: i64,
    pub(super) connection: Option<Connection>,
    pub(super) connections: u64,
    op_asked: Option<StoreOp>,
    /// When the last op was asked for.
    asked_at: u64,
    /// An op that the old file of the store has taken before it was replaced.
    failed_op: Option<StoreOp>,
    pub(super) stopping: bool,
    pub(super) stop_at: u64,
    pub(super) disk_well_since: Option<u64>,
    pub(super) calm_since: Option<u64>,
    pub(super) quiet: bool,
    pub(super) crashes: u64,
    pub(super) faults: u64,
    pub(super) dropped: [u64; DropReason::ALL.len()],
}

impl World {
    /// A world in which the gateway is about to be switched on.
    #[must_use]
    pub fn new(plan: Plan, seed: u64, mutant: Option<Mutant>) -> Self {
        let oracle = Oracle::new(&plan);
        let disk = Disk::new(plan.disk_bytes);
        let mut world = Self {
            plan,
            trace: None,
            chance: Chance::new(seed.wrapping_mul(0x9e37_79b9)),
            publishers: Chance::new(seed.rotate_left(32)),
            mutant,
            now: HOUR,
            events: BinaryHeap::new(),
            count: 0,
            moment_steps: 0,
            disk,
            disk_delay: 3 * MS,
            network: Network::Good,
            broker: Broker::Good,
            version: 0,
            oracle,
            uplink: None,
            gateway: 0,
            start_plan: 0,
            boot: 1,
            boot_offset: 0,
            connection: None,
            connections: 0,
            op_asked: None,
            asked_at: 0,
            failed_op: None,
            stopping: false,
            stop_at: 0,
            disk_well_since: Some(0),
            calm_since: None,
            quiet: false,
            crashes: 0,
            faults: 0,
            dropped: [0; DropReason::ALL.len()],
        };
        world.boot_offset = 10_000_000_000 - i64::try_from(world.now).unwrap_or(i64::MAX);
        world.start_after(0);
        world.after(S, Event::Produce);
        world.plan_fault();
        world
    }

    /// Runs for so many hours, then heals everything and waits until all is quiet.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(&mut self, hours: u64) -> Verdict {
        let end = self.now.saturating_add(hours.saturating_mul(HOUR));
        while self.now < end {
            self.step(end)?;
        }
        self.quiet = true;
        self.heal_all();
        let last = self.now + QUIET_MAX;
        while !self.is_quiet() {
            if self.now >= last {
                let queue = self.uplink.as_ref().map(|uplink| *uplink.queue().ledger());
                return Err(format!("the backlog never arrived: {queue:?}"));
            }
            self.step(last)?;
        }
        self.note_drops();
        if let Some(uplink) = &self.uplink {
            self.oracle.count_store_losses(uplink)?;
        }
        self.oracle.finish(&self.plan, &self.disk)
    }

    fn is_quiet(&self) -> bool {
        self.uplink.as_ref().is_some_and(|uplink| {
            let queue = uplink.queue();
            queue.ledger().kept().rows == queue.aside_total().rows
                && queue.is_idle()
                && queue.deletes_waiting() == 0
                && queue.marks_are_written()
        })
    }

    /// The gateway's clock.
    pub(super) fn boot_now(&self) -> BootNs {
        BootNs(u64::try_from(i64::try_from(self.now).unwrap_or(i64::MAX) + self.boot_offset).unwrap_or(0))
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse(At(self.now.saturating_add(delay), self.count, event)));
    }

    pub(super) fn start_after(&mut self, delay: u64) {
        self.start_plan += 1;
        self.after(delay, Event::Start(self.start_plan));
    }

    /// One event or one timeout.
    fn step(&mut self, end: u64) -> Verdict {
        let event_at = self.events.peek().map_or(u64::MAX, |Reverse(At(at, ..))| *at);
        let timer = self.uplink.as_ref().and_then(Uplink::poll_timeout).map_or(u64::MAX, |at| self.world(at));
        let next = event_at.min(timer).min(end).max(self.now);
        if next > self.now {
            self.moment_steps = 0;
        }
        self.now = next;
        self.moment_steps += 1;
        if self.moment_steps > STEPS_PER_MOMENT_MAX || self.count > EVENTS_MAX {
            return Err(format!("too much happens: {} events, {} at once", self.count, self.moment_steps));
        }
        if event_at <= self.now {
            let Some(Reverse(At(_, _, event))) = self.events.pop() else { return Ok(()) };
            self.happen(event)?;
        } else if timer <= self.now {
            let now = self.boot_now();
            if let Some(uplink) = &mut self.uplink {
                uplink.timeout(now);
            }
        }
        self.act()?;
        self.judge()
    }

    fn world(&self, at: BootNs) -> u64 {
        let at = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_sub(self.boot_offset);
        u64::try_from(at).unwrap_or(0)
    }

    fn judge(&mut self) -> Verdict {
        let boot_now = self.boot_now().0;
        let Some(uplink) = &self.uplink else { return Ok(()) };
        // While a message is tried, or after connections that ended, a few are sent at a time, and a burst takes its time.
        let up = matches!(uplink.state(), State::Up { .. });
        if self.calm_since.is_none() || !up || uplink.is_careful() || uplink.is_narrow() {
            self.oracle.live.forget();
        }
        self.oracle.check(self.now, boot_now, uplink, &self.plan, &self.disk)?;
        if self.count.is_multiple_of(256) {
            self.oracle.sweep();
            uplink.queue().audit()?;
        }
        Ok(())
    }

    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some_and(|from| self.now / MS >= from)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        if self.is_traced() {
            eprintln!("{} ms, boot {} ms: {event:?}", self.now / MS, self.boot_now().ms());
        }
        match event {
            Event::Produce => self.produce()?,
            Event::Stored { gateway, op } if gateway == self.gateway && self.uplink.is_some() => {
                self.op_asked = None;
                self.disk_well_since = self.disk_well_since.map(|since| self.well_since(since));
                if self.failed_op.take().is_some() {
                    let fault = StoreFault::Corrupt;
                    let now = self.boot_now();
                    if let Some(uplink) = &mut self.uplink {
                        uplink.store(now, StoreEvent::Failed { op: super::disk::number(&op), fault });
                    }
                } else {
                    self.carry_out(&op, true)?;
                }
            }
            Event::Stored { .. } => {}
            Event::Connected { connection } => self.connected(connection),
            Event::Arrives { connection, token, row, qos } => self.arrives(connection, token, row, qos),
            Event::Link { gateway, epoch, event } if gateway == self.gateway => self.link(epoch, event)?,
            Event::Link { .. } => {}
            Event::Fault => {
                self.plan_fault();
                if !self.quiet {
                    self.faults += 1;
                    let fault = Fault::draw(&mut self.chance);
                    self.strike(fault)?;
                }
            }
            Event::Heal(healing) => self.heal(healing),
            Event::Start(plan) if plan == self.start_plan && self.uplink.is_none() => self.start(),
            Event::Start(_) => {}
        }
        Ok(())
    }

    fn plan_fault(&mut self) {
        if self.plan.fault_every < u64::MAX {
            let delay = self.chance.around(self.plan.fault_every);
            self.after(delay, Event::Fault);
        }
    }

    /// The gateway's process starts and finds what is on disk.
    fn start(&mut self) {
        self.gateway += 1;
        self.connection = None;
        self.op_asked = None;
        self.failed_op = None;
        self.stopping = false;
        let now = self.boot_now();
        let run = RunId { boot: BootId(self.boot), start_ms: now.ms() };
        let stored = self.disk.stored();
        let memory = self.plan.memory;
        let settings = QueueSettings { memory, ..QueueSettings::from(&self.plan.settings) };
        let queue = Queue::new(settings, run, stored);
        let identity = Identity {
            version: "0".into(),
            run,
            config: "0".into(),
            faults: Default::default(),
            trust_clock: Default::default(),
        };
        let seed = self.chance.draw();
        let mut uplink = Uplink::with_queue(self.plan.settings.clone(), identity, queue, seed);
        uplink.restore_aside(&self.disk.marks());
        if let Some(mutant) = self.mutant {
            uplink.mutate(mutant);
        }
        self.oracle.begin(run, uplink.queue().next_seq(), &self.disk);
        uplink.start(now);
        self.oracle.backoff.lost(self.now, false, false);
        self.uplink = Some(uplink);
    }

    fn produce(&mut self) -> Verdict {
        let burst = self.chance.one_in(self.plan.burst_one_in);
        let rows = if burst { self.chance.of(1..=u64::from(self.plan.settings.window) * 3) } else { 1 };
        for _ in 0..rows {
            self.publish()?;
        }
        if !self.quiet {
            let delay = self.chance.around(self.plan.produce_every);
            self.after(delay, Event::Produce);
        }
        Ok(())
    }

    fn publish(&mut self) -> Verdict {
        let boot_now = self.boot_now();
        let oversize = self.chance.one_in(self.plan.oversize_one_in);
        let high = self.chance.one_in(self.plan.alarm_one_in);
        let (mut body, mut readings) = self.body(boot_now, oversize);
        let mut topic = "gateway/device/1";
        if self.plan.hostile_one_in < u64::MAX && self.chance.one_in(self.plan.hostile_one_in) && !oversize {
            readings = 1;
            (topic, body) = match self.chance.of(0..=4) {
                0 => (UNFIT_TOPIC, Body::Raw(vec![0; 5].into())),
                1 | 2 => (HOSTILE_TOPIC, Body::Raw(vec![0; 5].into())),
                _ => (topic, Body::Raw(vec![0; CLOUD_MAX + 100].into())),
            };
        }
        let hostile =
            topic != "gateway/device/1" || matches!(&body, Body::Raw(bytes) if bytes.len() > CLOUD_MAX);
        let expiry_s = self.chance.one_in(500).then_some(30);
        let urgent = self.plan.publishers && self.publishers.one_in(8);
        let waiting = if urgent { Waiting::Urgent } else { Waiting::Patient };
        let calm = self.calm();
        let Some(uplink) = &mut self.uplink else { return Ok(()) };
        if self.stopping {
            return Ok(());
        }
        let message = Message {
            topic: topic.into(),
            body,
            readings,
            priority: if high { Priority::High } else { Priority::Normal },
            qos: self.plan.settings.qos,
            retain: false,
            at: boot_now,
            expiry_s,
            waiting,
        };
        let seq = uplink.publish(boot_now, message);
        self.oracle.produced(self.now, seq, urgent, hostile)?;
        let up =
            matches!(uplink.state(), State::Up { since } if boot_now.since(since) > Duration::from_secs(5));
        let few = uplink.queue().ledger().in_memory.rows <= u64::from(self.plan.settings.window / 2).max(1);
        if calm && up && few {
            self.oracle.live.produced(seq, self.now);
        }
        Ok(())
    }

    /// Whether a live row has no excuse for waiting: all is well, and the line is fast enough for twice what is produced.
    fn calm(&self) -> bool {
        let settings = &self.plan.settings;
        let fast = self.plan.delay * 2 + self.plan.service * u64::from(settings.window) < 500 * MS;
        // Where connections are cut on purpose no link is healthy for long.
        let whole = self.plan.hostile_one_in == u64::MAX && self.plan.cut_one_in == u64::MAX;
        fast && whole
            && settings.drain == Drain::LiveFirst
            && settings.durability == gateway_core::settings::Durability::Interval
            && settings.commit_interval >= Duration::from_secs(1)
            && self.calm_since.is_some_and(|since| self.now > since + CALM_AFTER)
    }

    fn body(&mut self, now: BootNs, oversize: bool) -> (Body, u32) {
        if self.plan.records && !oversize {
            let value = i64::try_from(self.chance.of(0..=1000)).unwrap_or(0);
            let entry = |index| Entry { index, offset_us: 0, sample: Sample::Good(Value::Int(value)) };
            let head = Head { schema: SchemaId(7), shape: Shape::Group, thinned: false, base: now };
            let record = Record { head, entries: vec![entry(0), entry(1)] };
            return (Body::Record(record.encode().into()), 2);
        }
        let len = if oversize { PACKET_MAX + 1 } else { 8 + usize::try_from(self.now % 40).unwrap_or(0) };
        (Body::Raw(vec![0; len].into()), 1)
    }

    /// Carries out what the machine wants until it wants nothing more.
    pub(super) fn act(&mut self) -> Verdict {
        loop {
            let Some(uplink) = &mut self.uplink else { return Ok(()) };
            let Some(action) = uplink.poll_action() else { return Ok(()) };
            match action {
                Action::Store(op) => self.ask_store(op)?,
                Action::Connect { epoch, .. } => self.dial(epoch)?,
                Action::Send { .. } | Action::Announce { .. } => self.transmit(&action)?,
                Action::Disconnect { .. } => {
                    self.note_loss();
                    self.connection = None;
                    self.oracle.link_gone();
                }
                Action::Receipt(receipt) => self.oracle.receipt(receipt, &self.disk)?,
                Action::SetAside { mark } => self.oracle.set_aside(&mark, uplink)?,
                Action::Silenced { topic, .. } => {
                    return Err(format!("messages on {topic} are left out although the cloud takes them"));
                }
                Action::Stopped { .. } => self.stopped()?,
            }
        }
    }

    /// Since when the disk is well, when it was healed then and answers at this moment: an op that it was asked before took the time of a slow disk.
    fn well_since(&self, healed: u64) -> u64 {
        if self.asked_at < healed { self.now } else { healed }
    }

    fn ask_store(&mut self, op: StoreOp) -> Verdict {
        let boot_now = self.boot_now().0;
        let Some(uplink) = &self.uplink else { return Ok(()) };
        self.oracle.asked(boot_now, &op, uplink, &self.plan, self.stopping)?;
        let delay = self.chance.around(self.disk_delay);
        (self.op_asked, self.asked_at) = (Some(op.clone()), self.now);
        self.after(delay, Event::Stored { gateway: self.gateway, op });
        Ok(())
    }

    /// The disk does what was asked; `answer` is false when nobody is left to hear of it.
    fn carry_out(&mut self, op: &StoreOp, answer: bool) -> Verdict {
        let (event, effect) = self.disk.apply(op);
        let boot_now = self.boot_now();
        self.oracle.carried_out(boot_now.0, op, &effect, &self.plan)?;
        if answer && let Some(uplink) = &mut self.uplink {
            uplink.store(boot_now, event);
        }
        Ok(())
    }

    /// The store's file turns out to be damaged and is replaced. A commit under way may have reached the old file, and is said to have failed.
    pub(super) fn replace_store(&mut self) -> Verdict {
        let reached = self.chance.one_in(2);
        if let Some(op) = self.op_asked.take_if(|op| reached && matches!(op, StoreOp::Commit { .. })) {
            self.carry_out(&op, false)?;
            self.failed_op = Some(op);
        }
        let (salvaged, lost) = self.disk.reset(&mut self.chance);
        self.oracle.store_lost(&lost);
        let now = self.boot_now();
        if let Some(uplink) = &mut self.uplink {
            uplink.store(now, StoreEvent::Reset { salvaged, aside: self.disk.marks() });
        }
        Ok(())
    }

    /// The process is killed; an op under way may still have reached the disk.
    pub(super) fn kill(&mut self) -> Verdict {
        self.note_drops();
        let Some(uplink) = self.uplink.take() else { return Ok(()) };
        self.crashes += 1;
        uplink.queue().audit()?;
        let busy = store_was_busy(&uplink, self.boot_now().0);
        if let Some(op) = self.op_asked.take()
            && self.chance.one_in(2)
        {
            self.carry_out(&op, false)?;
        }
        self.connection = None;
        self.oracle.crashed(self.now, &self.disk, &self.plan, busy)
    }

    /// Adds up the drops of the run that ends.
    fn note_drops(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        for (sum, reason) in self.dropped.iter_mut().zip(DropReason::ALL) {
            *sum += uplink.queue().ledger().dropped(reason).rows;
        }
    }

    fn stopped(&mut self) -> Verdict {
        let Some(uplink) = &self.uplink else { return Ok(()) };
        let left = uplink.queue().ledger().in_memory.rows;
        // Time for one more try and what follows from it, once what a slow disk was asked before it healed is answered.
        let answered = |since: u64| self.op_asked.is_none() || self.asked_at >= since;
        let healed = self.disk_well_since.is_some_and(|since| answered(since) && self.now >= since + 2 * S);
        if left > 0 && healed && self.plan.disk_bytes == u64::MAX {
            return Err(format!("a clean stop left {left} rows in memory"));
        }
        self.kill()?;
        let delay = self.chance.around(MIN);
        self.start_after(delay);
        Ok(())
    }
}
