//! The gateway at work: one core loop that owns every decision, and the tasks around it that own a line, a link or the store.
//!
//! ```text
//! bus tasks --cycles--> +-----------+ --ops--> store task of each uplink
//! link, store tasks --> | core loop | --commands--> link of each uplink
//! control socket -----> |           | --errands--> bus tasks
//! clients, keeper ----> +-----------+ --turns--> keeper, bytes --> clients
//! ```
//! The loop itself never waits for a device, a disk, a network or a client: it only decides and hands on. In every turn it serves, in
//! this order: the stop, answers of store and links, answers for the broker, cycles of the buses, requests of people, time, clients. Each
//! gets at most `BATCH_MAX` of its kind before the next, and the clients at most `CLIENT_BYTES_MAX` bytes. What a client makes the broker do is bounded by a
//! budget of work per turn (`Limits::turn_work_max`): when it is spent, the broker puts down what is left, and the loop takes up nothing more for it
//! until the others have had their turn. So none starves: a flood of messages delays a cycle by some ten milliseconds, and so does one SUBSCRIBE of
//! thousands of filters. At the end of a turn what was decided leaves: once for each uplink, and in one write for each client. `Turns` measures the longest.
//!
//! Bounds: [`CYCLES_MAX`] cycles, [`HAPPENINGS_MAX`] answers and [`super::control::REQUESTS_MAX`] requests wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drivers::clock;
use gateway_config::Config;
use gateway_core::broker;
use gateway_core::payload::Encoder;
use gateway_core::poll::Settings as Field;
use gateway_core::process::{Processor, Report};
use gateway_core::tag::{BootNs, Cycle, RunId, Stamp, WallClock as _};
use gateway_core::uplink::queue::Fate;
use gateway_core::uplink::row::{Qos, Seq};
use gateway_core::wall::Source;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::certificates::{self, Certificates};
use super::clocks::Clocks;
use super::control::Request;
use super::faults::Faults;
use super::known::Known;
use super::last_writes::LastWrites;
use super::lines::{LineId, Lines};
use super::local::{self, Enqueue, Local, Word};
use super::picture::words;
use super::progress::Progress;
use super::reload::{self, Reload};
use super::telling::Telling;
use super::turns::Turns;
use super::update::Orders;
use super::upstream::{self, Happening, Rendering, Upstream};
use super::walltime::WallTimes;
use super::{measure, survey};
use crate::listen::Incoming;
use crate::status::notify::Notify;
use crate::store::Store;

/// Cycles that wait for the loop: some seconds of a busy gateway; a full channel is a counted drop in the bus task.
pub const CYCLES_MAX: usize = 4096;
/// Answers of stores and links that wait: the tasks behind them wait then, nothing is lost.
pub const HAPPENINGS_MAX: usize = 4096;
/// Turns of one kind before the others get theirs.
const BATCH_MAX: usize = 256;
/// Bytes of clients that are dealt with before the others get their turn, whatever the broker's budget: ten thousand small messages.
const CLIENT_BYTES_MAX: usize = 256 << 10;
/// What a client's opening, closing or smallest message counts for in [`CLIENT_BYTES_MAX`]: the work for it, in bytes of small messages.
const INCOMING_BYTES_MIN: usize = 64;
/// How often rates, wall time and the watchdog are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Time for a clean stop: memory to disk and the goodbye. systemd's default limit is 90 s.
pub(super) const STOP_MAX: Duration = Duration::from_secs(15);

/// What a running gateway is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Everything.
    Work,
    /// No polls any more; what is queued goes on travelling.
    Drain,
    /// End in order.
    Stop,
}

/// A gateway that is wired up; [`Gateway::run`] makes it work.
pub struct Gateway {
    pub(super) config: Config,
    pub(super) field: Arc<Field>,
    /// Requests to devices that end at the same moment contend for it.
    pub(super) last_writes: Arc<Mutex<LastWrites>>,
    pub(super) run: RunId,
    pub(super) started: BootNs,
    pub(super) processor: Processor,
    pub(super) encoder: Encoder,
    pub(super) local: Local,
    /// Messages made of readings, which local clients see as their numbers.
    pub(super) numbered: u64,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) orders: Orders,
    /// Uplinks that are no part of the configuration any more: they write what they hold to disk and say goodbye.
    pub(super) leaving: Vec<Upstream>,
    pub(super) known: Known,
    pub(super) walls: WallTimes,
    pub(super) clocks: Clocks,
    pub(super) certificates: Certificates,
    pub(super) store: Arc<Store>,
    pub(super) lines: Lines,
    pub(super) reload: Reload,
    /// What is wrong with the machine, as a task finds it.
    pub(super) faults: watch::Receiver<Arc<Faults>>,
    /// What of it was told.
    pub(super) known_faults: Arc<Faults>,
    /// What is wrong with the configuration that runs.
    pub(super) own_faults: Faults,
    /// How buses and devices are, as far as it was told.
    pub(super) telling: Telling,
    pub(super) progress: Progress,
    /// The room for whose sake the watchdog is not fed.
    pub(super) stuck: Option<String>,
    pub(super) notify: Notify,
    pub(super) cycles: mpsc::Receiver<(LineId, Cycle)>,
    pub(super) happenings: mpsc::Receiver<Happening>,
    /// For uplinks that a reload adds.
    pub(super) happened: mpsc::Sender<Happening>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) requests_in: mpsc::Sender<Request>,
    /// When the end is no longer waited for.
    pub(super) stop_by: BootNs,
    /// How long the loop is busy at once.
    pub(super) turns: Turns,
}

impl Gateway {
    /// A way to ask this gateway, for the control socket and the demo.
    #[must_use]
    pub fn requests(&self) -> mpsc::Sender<Request> {
        self.requests_in.clone()
    }

    /// Works until the course says stop or its sender is gone, then ends in order. Returns how many messages were lost from memory, which is zero unless the
    /// store failed.
    pub async fn run(mut self, mut course: watch::Receiver<Course>) -> u64 {
        let now = clock::now();
        self.look_at_clock(now);
        self.observe_faults();
        self.tell(now);
        for upstream in &mut self.upstreams {
            upstream.uplink.start(now);
        }
        self.notify.ready();
        self.tell_start();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            self.settle(clock::now());
            self.turns.end(clock::now());
            if stopping && self.is_settled() {
                break;
            }
            let wake = self.wake_at();
            let put_down = self.local.broker.is_spent() || self.local.broker.has_work();
            tokio::select! {
                biased;
                changed = course.changed(), if !stopping => {
                    self.turn().turns.forget();
                    stopping = changed.is_err() || *course.borrow_and_update() == Course::Stop;
                    self.stop_field().await;
                    if stopping {
                        self.stop_network();
                    }
                }
                Some(happening) = self.happenings.recv() => self.turn().happened(happening),
                Some(word) = self.local.words.recv() => self.turn().word(word),
                Some(cycle) = self.cycles.recv() => self.turn().cycle(cycle),
                Some(request) = self.requests.recv() => self.turn().request(request),
                news = self.orders.next() => self.turn().heed_update(news),
                // One that is gone has to be gone before it can come back.
                news = reload::news(&mut self.reload, self.leaving.is_empty()), if !stopping => {
                    self.turn().turns.forget();
                    self.heed(news).await;
                }
                _ = tick.tick() => self.turn().tick(),
                // Other tasks of this thread first: buses, links, the keeper.
                () = tokio::task::yield_now(), if put_down => {
                    self.turn();
                }
                () = tokio::time::sleep_until(wake) => self.turn().timeout(),
                incoming = local::next_incoming(&mut self.local.doors), if self.local.broker.takes_more() => {
                    self.turn().incoming(incoming);
                }
            }
            self.serve_waiting();
        }
        self.finish().await
    }

    /// A turn begins: the broker's budget of work is full, and what it has put down goes on.
    fn turn(&mut self) -> &mut Self {
        let now = clock::now();
        self.turns.begin(now);
        self.local.broker.timeout(now);
        self
    }

    /// What else is waiting, fairly: the select above serves one of a kind. What makes work for the broker waits when its budget is spent.
    fn serve_waiting(&mut self) {
        for _ in 0..BATCH_MAX {
            let Ok(happening) = self.happenings.try_recv() else { break };
            self.happened(happening);
        }
        for _ in 0..BATCH_MAX {
            let Ok(word) = self.local.words.try_recv() else { break };
            self.word(word);
        }
        for _ in 0..BATCH_MAX {
            if self.local.broker.is_spent() {
                break;
            }
            let Ok(cycle) = self.cycles.try_recv() else { break };
            self.cycle(cycle);
        }
        let mut bytes = 0;
        while bytes < CLIENT_BYTES_MAX && self.local.broker.takes_more() {
            let Some(incoming) = self.local.try_next() else { break };
            bytes += self.incoming(incoming);
        }
    }

    fn happened(&mut self, happening: Happening) {
        let now = clock::now();
        let mut all = self.upstreams.iter_mut().chain(&mut self.leaving);
        // What concerns an uplink that has left concerns nobody.
        let found = match &happening {
            Happening::Reset { queue, .. } => all.position(|up| up.queue == *queue),
            Happening::Store { uplink, .. } | Happening::Link { uplink, .. } => {
                all.position(|up| up.id == *uplink)
            }
        };
        let Some(index) = found else { return };
        let leaving = index.checked_sub(self.upstreams.len());
        let upstream = match leaving {
            Some(leaving) => &mut self.leaving[leaving],
            None => &mut self.upstreams[index],
        };
        match happening {
            Happening::Reset { event, .. } => {
                let uplink = upstream.name.as_str();
                log::error!(uplink, reason = "store-lost"; "store: the database was replaced; what could not be saved of this uplink is counted");
                upstream.uplink.store(now, event);
            }
            Happening::Store { event, .. } => upstream.uplink.store(now, event),
            Happening::Link { epoch, event, .. } => {
                survey::log_link(upstream.name.as_str(), &event);
                upstream.link(now, epoch, event);
            }
        }
        // Between two events of one batch the window must move, or a burst of acknowledgements would leave the link idle.
        let rendering = rendering(&self.known, &self.walls, &self.config);
        match leaving {
            Some(leaving) => self.leaving[leaving].pump(now, rendering),
            None => upstream::pump(now, &mut self.upstreams, index, rendering),
        }
        self.take_orders(now);
    }

    fn word(&mut self, word: Word) {
        self.local.word(clock::now(), word);
    }

    /// Gives back how much of a turn it was, in bytes.
    fn incoming(&mut self, incoming: Incoming) -> usize {
        let weight = match &incoming {
            Incoming::Bytes(_, bytes) => bytes.len().max(INCOMING_BYTES_MIN),
            _ => INCOMING_BYTES_MIN,
        };
        self.local.incoming(clock::now(), incoming);
        weight
    }

    pub(super) fn cycle(&mut self, (line, cycle): (LineId, Cycle)) {
        let now = clock::now();
        let Some(cycle) = self.lines.cycle(line, cycle) else {
            log::error!("readings lost: a cycle of a bus that is not there");
            return;
        };
        let report = self.processor.cycle(now, cycle);
        self.publish(now, &report);
    }

    fn publish(&mut self, now: BootNs, report: &Report) {
        for draft in self.encoder.encode(report.group, &report.readings) {
            self.numbered += 1;
            let number = (self.run, Seq(self.numbered));
            let rendering = rendering(&self.known, &self.walls, &self.config);
            // Bridges take the record as it is and render it when they send it; clients get it with the time that is known by now.
            let ready = || rendering.of_draft(&draft, number);
            let local = broker::Local { draft: &draft, qos: Qos::AtLeastOnce, from: None, want: false };
            if let Err(fault) = self.local.broker.publish(now, &local, ready) {
                log::error!("{}: {fault}", draft.topic);
            }
        }
    }

    /// Carries out what the broker decided: once per round, so that one transaction holds what all clients of the round wait for.
    fn act(&mut self, now: BootNs) {
        while let Some(Enqueue { session, qos, draft, ticket }) = self.local.act(now) {
            if let Some(upstream) = self.upstreams.iter_mut().find(|up| up.session == session) {
                upstream.publish(now, qos, draft, ticket);
            }
        }
        for ticket in self.local.safe.drain(..) {
            upstream::safe(&mut self.upstreams, ticket);
            upstream::safe(&mut self.leaving, ticket);
        }
    }

    /// Carries out everything that was decided in this round, until nobody has a say any more.
    pub(super) fn settle(&mut self, now: BootNs) {
        loop {
            self.act(now);
            // What came down may go up elsewhere.
            if upstream::enter(now, &mut self.local.broker, &mut self.upstreams) {
                continue;
            }
            let rendering = rendering(&self.known, &self.walls, &self.config);
            let mut quiet = true;
            for index in 0..self.upstreams.len() {
                upstream::pump(now, &mut self.upstreams, index, rendering);
            }
            for upstream in &mut self.leaving {
                upstream.pump(now, rendering);
            }
            for upstream in self.upstreams.iter_mut().chain(&mut self.leaving) {
                while let Some((ticket, fate)) = upstream.poll_fate() {
                    quiet = false;
                    let fate = match fate {
                        Fate::Safe => broker::Fate::Safe,
                        Fate::Dropped(_) => broker::Fate::Dropped,
                    };
                    self.local.broker.handle_receipt(now, ticket, fate);
                }
            }
            // Each round answers messages that were enqueued before; what a client hears of it enqueues nothing.
            if quiet {
                break;
            }
        }
        self.local.flush();
        // What follows from that is written as well, once: a client that reads fast and has much to get must not keep the loop from others.
        if self.local.tell_sent(now) {
            self.act(now);
            self.local.flush();
        }
    }

    fn is_settled(&self) -> bool {
        let flushed = self.local.broker.is_flushed() || clock::now() >= self.stop_by;
        flushed && self.upstreams.iter().chain(&self.leaving).all(|upstream| upstream.left.is_some())
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.look_at_clock(now);
        self.observe_rates(now);
        self.lines.observe(now, &self.processor);
        self.lines.revive();
        self.observe_drops(now);
        self.observe_backlogs(now);
        self.part_from_leaving();
        self.observe_faults();
        let now_s = self.wall_s(now);
        self.certificates.observe(now_s);
        self.tell(now);
        let sentence = measure::sentence(self);
        self.notify.status(sentence);
        // Counts of repeated records that are due.
        log::logger().flush();
        self.local.look_at_sockets();
        self.local.give_back(now);
        self.feed(now);
    }

    fn look_at_clock(&mut self, now: BootNs) {
        let wall = self.clocks.look(now);
        let Some(began) = wall.and_then(|wall| self.walls.observe(self.run.boot, now, wall)) else { return };
        let by = self.clocks.source().map_or("ntp", Source::word);
        log::info!(reason = by; "wall time is known by {by}: this boot began {}", survey::iso(began));
        let (store, boot) = (Arc::clone(&self.store), self.run.boot);
        // The store may be busy, and this loop waits for no disk. One such task per change of the clock.
        tokio::spawn(async move { store.note_boot(boot, began).await });
        for upstream in &mut self.upstreams {
            self.walls.tell(boot, upstream.uplink.queue_mut());
        }
    }

    /// The wall time at a moment, seconds since 1970, if it is known.
    pub(super) fn wall_s(&self, now: BootNs) -> Option<u64> {
        certificates::seconds(self.walls.wall(Stamp { boot: self.run.boot, at: now })?)
    }

    fn timeout(&mut self) {
        let now = clock::now();
        for report in self.processor.timeout(now) {
            self.publish(now, &report);
        }
        for upstream in self.upstreams.iter_mut().chain(&mut self.leaving) {
            upstream.uplink.timeout(now);
        }
    }

    fn wake_at(&self) -> Instant {
        let uplinks = self.upstreams.iter().chain(&self.leaving);
        let uplinks = uplinks.filter_map(|upstream| upstream.uplink.poll_timeout());
        let earliest =
            uplinks.chain(self.processor.poll_timeout()).chain(self.local.broker.poll_timeout()).min();
        let wait = earliest.map_or(TICK, |at| at.since(clock::now()).min(TICK));
        Instant::now() + wait
    }

    /// Ends the polls; what they have read goes on its way.
    async fn stop_field(&mut self) {
        self.lines.stop_all().await;
        self.serve_waiting();
    }

    /// Clients first: what they were acknowledged is on its way to the disk or an uplink before those end.
    fn stop_network(&mut self) {
        log::info!("stopping");
        self.notify.stopping();
        let now = clock::now();
        self.stop_by = now.plus(STOP_MAX);
        self.local.broker.stop(now);
        self.act(now);
        // Polls have ended: nobody else waits for the goodbyes.
        while self.local.broker.has_work() {
            self.local.broker.timeout(now);
            self.act(now);
        }
        self.local.shut_doors();
        for upstream in &mut self.upstreams {
            upstream.uplink.stop(now, self.stop_by);
        }
    }

    async fn finish(mut self) -> u64 {
        self.local.left().await;
        self.end_drops(clock::now());
        let mut lost = 0;
        for upstream in self.upstreams.iter_mut().chain(&mut self.leaving) {
            upstream.left_link().await;
            lost += upstream.left.map_or(0, |left| left.rows);
        }
        self.upstreams.clear();
        self.leaving.clear();
        if let Err(fault) = self.store.close().await {
            log::warn!(reason = fault.to_string().as_str(); "the store was not closed cleanly: {fault}; nothing stored is lost");
        }
        if lost > 0 {
            let (lost, seconds) = (words::counted(lost, "message"), STOP_MAX.as_secs());
            log::error!(
                "stopped; {lost} lost, only in memory at the end: the database took none of them in the {seconds} s that a stop may take"
            );
        } else {
            log::info!("stopped; nothing is left in memory");
        }
        lost
    }
}

pub(super) fn rendering<'a>(known: &'a Known, walls: &'a WallTimes, config: &Config) -> Rendering<'a> {
    Rendering { schemas: known, clock: walls, units: config.message.units }
}
