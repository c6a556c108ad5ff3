//! The gateway at work: one core loop that owns every decision, and the tasks around it that own a line, a link or the store.
//!
//! ```text
//! bus tasks --cycles--> +-----------+ --ops--> store task of each uplink
//! link, store tasks --> | core loop | --commands--> link of each uplink
//! control socket -----> +-----------+ --errands--> bus tasks
//! ```
//! The loop itself never waits for a device, a disk or a network: it only decides and hands on. In every round it serves, in
//! this order: the stop, answers of store and links, cycles of the buses, requests of people, time. Each gets at most
//! `BATCH_MAX` turns before the next, so that none starves.
//!
//! Bounds: [`CYCLES_MAX`] cycles, [`HAPPENINGS_MAX`] answers and [`super::control::REQUESTS_MAX`] requests wait.

use std::sync::Arc;
use std::time::Duration;

use drivers::bus;
use drivers::clock;
use gateway_config::Config;
use gateway_core::broker::{self, Broker, Local};
use gateway_core::payload::Encoder;
use gateway_core::poll::Settings as Field;
use gateway_core::poll::request::Answer;
use gateway_core::poll::schedule::Schedule;
use gateway_core::process::{Processor, Report};
use gateway_core::tag::{BootNs, Cycle, RunId};
use gateway_core::uplink::row::Qos;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::changes::{self, Changes};
use super::control::{Ask, Reply, Request};
use super::errand::Errand;
use super::known::Known;
use super::survey::Rates;
use super::upstream::{Happening, Rendering, Upstream};
use super::walltime::WallTimes;
use super::{measure, survey};
use crate::status::notify::Notify;
use crate::store::Store;

/// Cycles that wait for the loop: some seconds of a busy gateway; a full channel is a counted drop in the bus task.
pub const CYCLES_MAX: usize = 4096;
/// Answers of stores and links that wait: the tasks behind them wait then, nothing is lost.
pub const HAPPENINGS_MAX: usize = 4096;
/// Turns of one kind before the others get theirs.
const BATCH_MAX: usize = 256;
/// How often rates, wall time and the watchdog are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Time for a clean stop: memory to disk and the goodbye. systemd's default limit is 90 s.
const STOP_MAX: Duration = Duration::from_secs(15);

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
    pub(super) run: RunId,
    pub(super) started: BootNs,
    pub(super) processor: Processor,
    pub(super) encoder: Encoder,
    pub(super) broker: Broker,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) known: Known,
    pub(super) walls: WallTimes,
    pub(super) store: Arc<Store>,
    pub(super) reports: Vec<watch::Receiver<bus::Report>>,
    pub(super) rates: Rates,
    pub(super) changes: Changes,
    /// Times each bus task was started again after a fault of this program.
    pub(super) restarts: Vec<u64>,
    pub(super) buses: Vec<bus::Bus>,
    pub(super) cycles_in: mpsc::Sender<Cycle>,
    pub(super) notify: Notify,
    pub(super) cycles: mpsc::Receiver<Cycle>,
    pub(super) happenings: mpsc::Receiver<Happening>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) requests_in: mpsc::Sender<Request>,
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
        for upstream in &mut self.upstreams {
            upstream.uplink.start(now);
        }
        self.notify.ready();
        log::info!("running: {} buses, {} tags", self.field.buses.len(), self.field.tags.len());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            self.pump(clock::now());
            if stopping && self.upstreams.iter().all(|upstream| upstream.left.is_some()) {
                break;
            }
            let wake = self.wake_at();
            tokio::select! {
                biased;
                changed = course.changed(), if !stopping => {
                    stopping = changed.is_err() || *course.borrow_and_update() == Course::Stop;
                    self.stop_field().await;
                    if stopping {
                        self.stop_uplinks();
                    }
                }
                Some(happening) = self.happenings.recv() => self.happened(happening),
                Some(cycle) = self.cycles.recv() => self.cycle(cycle),
                Some(request) = self.requests.recv() => self.request(request),
                _ = tick.tick() => self.tick(),
                () = tokio::time::sleep_until(wake) => self.timeout(),
            }
            self.serve_waiting();
        }
        self.finish().await
    }

    /// What else is waiting, fairly: the select above serves one of a kind.
    fn serve_waiting(&mut self) {
        for _ in 0..BATCH_MAX {
            let Ok(happening) = self.happenings.try_recv() else { break };
            self.happened(happening);
        }
        for _ in 0..BATCH_MAX {
            let Ok(cycle) = self.cycles.try_recv() else { break };
            self.cycle(cycle);
        }
    }

    fn happened(&mut self, happening: Happening) {
        let now = clock::now();
        match happening {
            Happening::Store { uplink, event } => self.upstreams[uplink].uplink.store(now, event),
            Happening::Link { uplink, epoch, event } => {
                survey::log_link(self.config.uplinks[uplink].0.name.as_str(), &event);
                self.upstreams[uplink].uplink.link(now, epoch, event);
            }
        }
        // Between two events of one batch the window must move, or a burst of acknowledgements would leave the link idle.
        self.pump(now);
    }

    fn cycle(&mut self, cycle: Cycle) {
        let now = clock::now();
        let report = self.processor.cycle(now, cycle);
        self.publish(now, &report);
    }

    fn publish(&mut self, now: BootNs, report: &Report) {
        for draft in self.encoder.encode(report.group, &report.readings) {
            // Topics were checked with the configuration; bridges take the record as it is, so nothing is rendered here.
            let local = Local { draft: &draft, qos: Qos::AtLeastOnce, from: None, want: false };
            if let Err(fault) = self.broker.publish(now, &local, || None) {
                log::error!("{}: {fault}", draft.topic);
            }
        }
        while let Some(action) = self.broker.poll_action() {
            let broker::Action::Enqueue { session, qos, draft, ticket } = action else { continue };
            if let Some(upstream) = self.upstreams.iter_mut().find(|upstream| upstream.session == session) {
                upstream.publish(now, qos, draft, ticket);
            }
        }
    }

    fn pump(&mut self, now: BootNs) {
        let rendering =
            Rendering { schemas: &self.known, clock: &self.walls, units: self.config.message.units };
        for upstream in &mut self.upstreams {
            upstream.pump(now, rendering);
        }
    }

    fn request(&mut self, request: Request) {
        let Request { ask, reply } = request;
        let answer = match &ask {
            Ask::Status => Reply::Status(Box::new(self.picture(clock::now()))),
            Ask::Metrics => Reply::Text(measure::text(self)),
            _ => match Errand::new(&self.field, &ask) {
                Ok(errand) => return self.send(errand, reply),
                Err(sentence) => Reply::Refused(sentence),
            },
        };
        // A client that left does not wait for its answer.
        let _ = reply.send(answer);
    }

    fn send(&self, errand: Errand, reply: tokio::sync::oneshot::Sender<Reply>) {
        let Some(asker) = self.buses.get(errand.bus).map(bus::Bus::asker) else {
            let _ = reply.send(Reply::Refused("the gateway is stopping".into()));
            return;
        };
        let times = errand.device.map_or_else(bus::Times::default, |device| {
            let device = &self.field.devices[device];
            bus::Times {
                timeout: device.timeout,
                delay_before: device.delay_before,
                turnaround: device.turnaround,
            }
        });
        let field = Arc::clone(&self.field);
        // Bounded by the clients of the control socket: each waits for its answer.
        tokio::spawn(async move {
            let answer = carry_out(&asker, &errand, times).await;
            let _ = reply.send(errand.reply(&field, answer));
        });
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.look_at_clock(now);
        self.observe_rates(now);
        self.revive_buses(now);
        let sentence = measure::sentence(self);
        self.notify.status(sentence);
        self.log_changes();
        // Counts of repeated records that are due.
        log::logger().flush();
        self.notify.progress();
    }

    fn log_changes(&mut self) {
        for report in &self.reports {
            for device in &report.borrow().schedule.devices {
                if let Some(change) = self.changes.observe(device) {
                    changes::log(&self.field, device.device, change);
                }
            }
        }
    }

    /// A bus task that ended by itself has met a fault of this program: its line is polled again, and the fault stays visible.
    fn revive_buses(&mut self, now: BootNs) {
        for (index, bus) in self.buses.iter_mut().enumerate().filter(|(_, bus)| bus.has_ended()) {
            let name = &self.field.buses[index].name;
            let schedule = Schedule::new(&self.field, index, now);
            match bus::spawn(&self.field, index, schedule, self.cycles_in.clone()) {
                Ok(fresh) => {
                    log::error!(bus = name.as_str(); "bus {name}: its task ended by a fault of the program and was started again");
                    self.restarts[index] += 1;
                    self.reports[index] = fresh.reports();
                    *bus = fresh;
                }
                Err(fault) => {
                    log::error!(bus = name.as_str(); "bus {name}: cannot be started again: {fault}")
                }
            }
        }
    }

    fn look_at_clock(&mut self, now: BootNs) {
        let Some(began) = clock::wall_trusted().and_then(|wall| self.walls.observe(self.run.boot, now, wall))
        else {
            return;
        };
        log::info!("wall time is known: this boot began {}", survey::iso(began));
        let (store, boot) = (Arc::clone(&self.store), self.run.boot);
        // The store may be busy, and this loop waits for no disk. One such task per change of the clock.
        tokio::spawn(async move { store.note_boot(boot, began).await });
        for upstream in &mut self.upstreams {
            for boot in self.walls.boots() {
                if let Some(before) = self.walls.began_before(boot, self.run.boot) {
                    upstream.uplink.queue_mut().boot_began(boot, before);
                }
            }
        }
    }

    fn timeout(&mut self) {
        let now = clock::now();
        for report in self.processor.timeout(now) {
            self.publish(now, &report);
        }
        for upstream in &mut self.upstreams {
            upstream.uplink.timeout(now);
        }
    }

    fn wake_at(&self) -> Instant {
        let uplinks = self.upstreams.iter().filter_map(|upstream| upstream.uplink.poll_timeout());
        let earliest = uplinks.chain(self.processor.poll_timeout()).min();
        let wait = earliest.map_or(TICK, |at| at.since(clock::now()).min(TICK));
        Instant::now() + wait
    }

    /// Ends the polls; what they have read goes on its way.
    async fn stop_field(&mut self) {
        for bus in std::mem::take(&mut self.buses) {
            bus.stop().await;
        }
        self.serve_waiting();
    }

    fn stop_uplinks(&mut self) {
        log::info!("stopping");
        self.notify.stopping();
        let now = clock::now();
        for upstream in &mut self.upstreams {
            upstream.uplink.stop(now, now.plus(STOP_MAX));
        }
    }

    async fn finish(mut self) -> u64 {
        let mut lost = 0;
        for upstream in &mut self.upstreams {
            upstream.left_link().await;
            lost += upstream.left.map_or(0, |left| left.rows);
        }
        self.upstreams.clear();
        if let Err(fault) = self.store.close().await {
            log::warn!("the store was not closed cleanly: {fault}; nothing stored is lost");
        }
        if lost > 0 {
            log::error!("stopped; {lost} messages were only in memory and are lost");
        } else {
            log::info!("stopped; nothing is left in memory");
        }
        lost
    }
}

/// Asks the device, in the two steps of a whole register if it cannot write a part of one.
async fn carry_out(
    asker: &bus::Asker,
    errand: &Errand,
    times: bus::Times,
) -> Result<Answer, bus::CommandError> {
    let first = asker.ask(errand.request.clone(), times).await?;
    let Some(read) = errand.read_whole(&first) else { return Ok(first) };
    let second = asker.ask(read, times).await?;
    match errand.write_whole(&second) {
        Some(write) => asker.ask(write, times).await,
        None => Ok(second),
    }
}
