//! One uplink at work: its machine, its place in the store, its link, and who carries out what the machine decides.
//!
//! Two tasks belong to it: one carries ops to the store in their order, one forwards the events of the present link. Both report to
//! the core loop through one bounded channel of [`Happening`]s; nothing here waits.

mod bulletins;
mod change;
mod commands;
mod hearers;
mod hearing;
mod own;
mod subscribing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::bridge::BridgeRules;
use gateway_core::broker::bridge::down::{Arrival, Came, Down, Entry};
use gateway_core::broker::bridge::echo;
use gateway_core::broker::{Broker, Local, SessionId, Ticket, TopicName};
use gateway_core::health::Told;
use gateway_core::payload::{self, Draft};
use gateway_core::settings::LinkSettings;
use gateway_core::tag::{BootNs, Name, RunId};
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, Will};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::{DropReason, Fate, Message, Receipt, Waiting};
use gateway_core::uplink::row::{Qos, QueueId, Row, Seq, StoreEvent, StoreOp, Tally};
use gateway_core::uplink::{Action, Uplink};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::aside;
use super::backlog::Backlog;
use super::drops::Drops;
use super::faults::Faults;
use super::known::Known;
use super::rate::Rate;
use super::walltime::WallTimes;
use crate::link;
use crate::store::Store;

pub(super) use bulletins::Cleared;
pub(super) use commands::{Command, Place};
pub(super) use hearers::introduce;
pub(super) use own::reserve_own;

use bulletins::Shown;
use commands::Commands;
use hearing::Hearing;
use own::OwnTopics;

/// Ops on their way to the store. A queue has one under way; the rest is slack.
const OPS_MAX: usize = 4;

/// A link that was told to say goodbye gets this long beyond the link's own limits before it is cut.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// Number of an uplink at work; given out once in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UplinkId(pub u64);

/// Word from a task of an uplink.
#[derive(Debug)]
pub(super) enum Happening {
    /// The store has replaced what was in a queue.
    Reset {
        /// The queue.
        queue: QueueId,
        /// What is in it.
        event: StoreEvent,
    },
    /// The store answered.
    Store {
        /// The uplink.
        uplink: UplinkId,
        /// What it said.
        event: StoreEvent,
    },
    /// The link reported.
    Link {
        /// The uplink.
        uplink: UplinkId,
        /// The connection.
        epoch: Epoch,
        /// What happened.
        event: LinkEvent,
    },
}

/// What rendering a row needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rendering<'a> {
    /// Schemas of this and former configurations.
    pub schemas: &'a Known,
    /// What is known about wall time.
    pub clock: &'a WallTimes,
    /// Whether units are part of messages.
    pub units: bool,
}

impl Rendering<'_> {
    /// A message of readings that is in no queue, as the wire has it; `None` if its record cannot be read, which only a fault of this program can do.
    pub(super) fn of_draft(&self, draft: &Draft, (run, seq): (RunId, Seq)) -> Option<Arc<[u8]>> {
        let Draft { topic, body, readings, priority, retain, at } = draft.clone();
        let qos = Qos::AtMostOnce;
        let row = Row { seq, priority, topic, qos, retain, body, readings, run, at, expiry_s: None };
        let rendered = payload::render_row(&row, self.schemas, self.clock, self.units);
        rendered.inspect_err(|fault| log::error!("a message of {} cannot be read: {fault}", row.topic)).ok()
    }
}

#[derive(Debug)]
struct Port {
    epoch: Epoch,
    commands: mpsc::Sender<LinkCommand>,
    forward: JoinHandle<()>,
}

/// One uplink at work.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Its number.
    pub id: UplinkId,
    /// Its name.
    pub name: Name,
    /// Its queue in the store.
    pub queue: QueueId,
    /// The machine.
    pub uplink: Uplink,
    /// Settings of the present or next connection, to the server in use.
    pub link_settings: Arc<LinkSettings>,
    /// Messages that went nowhere because their topics cannot be mapped to topics of the cloud.
    pub unmapped: u64,
    /// Messages that went nowhere because a rule would have put them on a topic of the gateway itself.
    pub forged: u64,
    own: OwnTopics,
    /// The way down.
    pub down: Down,
    /// Filters that the cloud refused on the present connection.
    pub refused: Vec<Arc<str>>,
    /// Its session in the broker.
    pub session: SessionId,
    /// Acknowledgements per second.
    pub acks: Rate,
    /// What its queue drops, as far as the log says.
    pub drops: Drops,
    /// What of the faults its status message has told.
    pub births: Told<Arc<Faults>>,
    /// What waits on disk, as far as the log says.
    pub backlog: Backlog,
    /// What was left only in memory when it stopped.
    pub left: Option<Tally>,
    /// Who waits for which message: at most what is only in memory, which the queue bounds.
    up: BridgeRules,
    all_servers: LinkSettings,
    hearing: Hearing,
    /// Which uplinks will hear what this one sends: see [`pump`].
    hearers: Vec<usize>,
    sent: Vec<(Arc<str>, u64)>,
    tickets: BTreeMap<Seq, Ticket>,
    /// Taken by the core loop in the same turn.
    fates: VecDeque<(Ticket, Fate)>,
    commands: Commands,
    shown: Shown,
    ops: mpsc::Sender<StoreOp>,
    happenings: mpsc::Sender<Happening>,
    port: Option<Port>,
    leaving: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Puts an uplink to work; [`Uplink::start`] is the caller's.
    #[must_use]
    pub(super) fn new(
        (id, name, uplink): (UplinkId, Name, Uplink),
        link_settings: LinkSettings,
        (session, up, down): (SessionId, BridgeRules, BridgeRules),
        (store, queue): (Arc<Store>, QueueId),
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let (ops, todo) = mpsc::channel(OPS_MAX);
        tokio::spawn(carry_ops(id, store, queue, todo, happenings.clone()));
        let mut uplink = uplink.with_servers(link_settings.servers());
        uplink.name_servers(change::names_of(&link_settings));
        Self {
            id,
            name,
            queue,
            uplink,
            link_settings: Arc::new(link_settings.to_server(0)),
            up,
            unmapped: 0,
            forged: 0,
            own: OwnTopics::default(),
            down: Down::new(down),
            refused: Vec::new(),
            hearing: Hearing::new(link_settings.servers()),
            all_servers: link_settings,
            hearers: Vec::new(),
            sent: Vec::new(),
            session,
            acks: Rate::default(),
            drops: Drops::default(),
            births: Told::default(),
            shown: Shown::default(),
            backlog: Backlog::default(),
            left: None,
            tickets: BTreeMap::new(),
            fates: VecDeque::new(),
            commands: Commands::default(),
            ops,
            happenings,
            port: None,
            leaving: None,
        }
    }

    /// Takes a message that the broker routed here. With a ticket its fate comes out of [`Self::poll_fate`], exactly once.
    pub(super) fn publish(&mut self, now: BootNs, qos: Qos, draft: Draft, ticket: Option<Ticket>) {
        let from = Arc::clone(&draft.topic);
        let waiting = if ticket.is_some() { Waiting::Urgent } else { Waiting::Nobody };
        let topic = TopicName::new(Arc::clone(&draft.topic)).ok();
        let passed = topic.and_then(|topic| self.up.pass(&topic, &draft, qos).ok().flatten());
        let Some((qos, draft)) = passed.filter(|(_, draft)| !self.commands.are_on(&draft.topic)) else {
            self.unmapped += 1;
            self.fates.extend(ticket.map(|ticket| (ticket, Fate::Dropped(DropReason::Topic))));
            return;
        };
        if self.is_forged(&from, &draft.topic) {
            self.fates.extend(ticket.map(|ticket| (ticket, Fate::Dropped(DropReason::Topic))));
            return;
        }
        let seq = self.uplink.publish(now, Message { waiting, ..Message::of(draft, qos) });
        if let Some(ticket) = ticket {
            self.tickets.insert(seq, ticket);
        }
    }

    /// Whether one of its tasks has ended although the machine waits for it: a fault of this program.
    pub(super) fn has_ended(&self) -> bool {
        let connected = matches!(self.uplink.state(), State::Up { .. } | State::Connecting { .. });
        let silent = self.port.as_ref().is_some_and(|port| port.forward.is_finished());
        self.ops.is_closed() || (connected && silent)
    }

    /// Host and port of each server.
    fn servers(&self) -> Vec<(String, u16)> {
        let all = (0..self.all_servers.servers()).map(|index| self.all_servers.to_server(index));
        all.map(|server| (server.host, server.port)).collect()
    }

    /// What became of a message published with a ticket; for [`gateway_core::broker::Broker`]. Ask after every [`Self::pump`], until there is no more.
    pub(super) fn poll_fate(&mut self) -> Option<(Ticket, Fate)> {
        self.fates.pop_front()
    }

    /// An event of the link. Afterwards [`enter`] what came down and [`pump`].
    pub(super) fn link(&mut self, now: BootNs, epoch: Epoch, event: LinkEvent) {
        if self.port.as_ref().is_some_and(|port| port.epoch == epoch) {
            match &event {
                LinkEvent::Up { session_present } => self.subscribe(now, epoch, *session_present),
                LinkEvent::Subscribed { refused } => self.subscribed(epoch, refused),
                LinkEvent::Down { loss, up_for } => {
                    self.down.lost();
                    if up_for.is_some() {
                        self.end_hearing(now, loss);
                    }
                }
                LinkEvent::Message { .. } | LinkEvent::Acked { .. } | LinkEvent::Refused { .. } => {}
            }
            if let LinkEvent::Message { delivery, topic, payload, qos, retain } = event {
                let arrival = Arrival { delivery, topic, payload, qos, retain };
                let came = match self.command_of(epoch, arrival) {
                    Ok(came) => came,
                    Err(arrival) => self.down.came(now, arrival),
                };
                self.tell_forged();
                if came == Came::Overrun {
                    self.uplink.abandon(now, epoch, Loss::Overrun);
                }
                return;
            }
        }
        self.uplink.link(now, epoch, event);
    }

    fn note_sent(&mut self, epoch: Epoch, topic: &Arc<str>, payload: &[u8]) {
        let leaves = self.port.as_ref().is_some_and(|port| port.epoch == epoch);
        if leaves && !self.hearers.is_empty() {
            self.sent.push((Arc::clone(topic), echo::print(topic, payload)));
        }
    }

    /// Tells the link what is safe by now.
    fn acknowledge(&mut self) {
        let Some(port) = &self.port else { return };
        let Some(through) = self.down.poll_acknowledge() else { return };
        if port.commands.try_send(LinkCommand::Acknowledge { through }).is_err() {
            self.down.untold();
        }
    }

    /// Carries out everything that the machine wants at this moment.
    pub(super) fn pump(&mut self, now: BootNs, rendering: Rendering<'_>) {
        while let Some(action) = self.uplink.poll_action() {
            self.act(now, action, rendering);
        }
        self.acknowledge();
    }

    fn act(&mut self, now: BootNs, action: Action, rendering: Rendering<'_>) {
        match action {
            Action::Store(op) => {
                // One op is under way at a time, so there is room unless the task is gone, and then the process is ending.
                if self.ops.try_send(op).is_err() {
                    let name = self.name.as_str();
                    log::error!(uplink = name; "uplink {name}: the store's task is gone");
                }
            }
            Action::Connect { epoch, server, will } => self.connect(epoch, server, will),
            Action::Send { epoch, token, row, .. } => {
                match payload::render_row(&row, rendering.schemas, rendering.clock, rendering.units) {
                    Ok(payload) => {
                        let topic = Arc::clone(&row.topic);
                        let payload = payload.to_vec();
                        self.note_sent(epoch, &topic, &payload);
                        self.command(
                            epoch,
                            LinkCommand::Publish { token, topic, qos: row.qos, retain: row.retain, payload },
                        );
                    }
                    Err(fault) => {
                        let (uplink, topic) = (self.name.as_str(), &*row.topic);
                        log::error!(uplink, reason = "unreadable"; "a stored message of {topic} cannot be read and is dropped: {fault}");
                        self.uplink.unreadable(now, epoch, token);
                    }
                }
            }
            Action::Announce { epoch, token, topic, payload, qos, retain } => {
                self.note_sent(epoch, &topic, &payload);
                self.command(epoch, LinkCommand::Publish { token, topic, qos, retain, payload });
            }
            Action::Disconnect { epoch, clean } => self.disconnect(epoch, clean),
            Action::Receipt(Receipt { seq, fate }) => {
                let ticket = self.tickets.remove(&seq);
                self.fates.extend(ticket.map(|ticket| (ticket, fate)));
            }
            Action::SetAside { mark } => aside::log_set_aside(self.name.as_str(), &mark),
            Action::Silenced { topic, server } => aside::log_silenced(self.name.as_str(), &topic, &server),
            Action::Stopped { left } => self.left = Some(left),
        }
    }

    fn connect(&mut self, epoch: Epoch, server: usize, will: Will) {
        self.cut();
        let mut settings = self.all_servers.to_server(server);
        settings.clean_session |= self.hearing.connecting(server);
        self.link_settings = Arc::new(settings);
        let mut link = link::spawn(Arc::clone(&self.link_settings), epoch, Some(will));
        let commands = link.commands.clone();
        let (uplink, happenings) = (self.id, self.happenings.clone());
        let forward = tokio::spawn(async move {
            while let Some(event) = link.events.recv().await {
                if happenings.send(Happening::Link { uplink, epoch, event }).await.is_err() {
                    return;
                }
            }
        });
        self.port = Some(Port { epoch, commands, forward });
    }

    /// A full channel cannot be: it holds more than the largest window. A closed one means that `Down` is on its way, after which the
    /// machine sends again.
    fn command(&mut self, epoch: Epoch, command: LinkCommand) {
        let Some(port) = self.port.as_ref().filter(|port| port.epoch == epoch) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = port.commands.try_send(command) {
            let name = self.name.as_str();
            log::warn!(uplink = name; "uplink {name}: the link takes no orders; cutting it");
            self.cut();
        }
    }

    fn disconnect(&mut self, epoch: Epoch, clean: bool) {
        if clean {
            self.command(epoch, LinkCommand::Disconnect);
            if let Some(port) = self.port.take_if(|port| port.epoch == epoch) {
                self.down.lost();
                self.leaving = Some(port.forward);
            }
        } else {
            // The link itself does not report what the machine has decided.
            let given_up = self.port.is_some() && matches!(self.uplink.state(), State::BackingOff { .. });
            if let Some(loss) = self.uplink.last_loss().filter(|_| given_up) {
                let name = self.name.as_str();
                log::warn!(uplink = name, reason = loss.word(); "uplink {name}: link given up: {loss}");
            }
            self.cut();
        }
    }

    /// Ends the present link at once; its events are not heard any more.
    fn cut(&mut self) {
        if let Some(port) = self.port.take() {
            port.forward.abort();
            self.down.lost();
        }
    }

    /// Waits until a link that says goodbye is done, within the link's own limits.
    pub(super) async fn left_link(&mut self) {
        if let Some(forward) = self.leaving.take() {
            let abort = forward.abort_handle();
            let limit = link::FLUSH_MAX + link::GOODBYE_MAX + GOODBYE_GRACE;
            if tokio::time::timeout(limit, forward).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// Gives what came down to the broker, which says with [`gateway_core::broker::Action::Safe`] when it is safe ([`safe`]). Whether there was anything.
pub(super) fn enter(now: BootNs, broker: &mut Broker, upstreams: &mut [Upstream]) -> bool {
    let mut any = false;
    for upstream in upstreams {
        while !broker.is_spent()
            && let Some(Entry { delivery, qos, draft }) = upstream.down.poll_entry()
        {
            let local = Local { draft: &draft, qos, from: Some(upstream.session), want: delivery.is_some() };
            // The topic was checked on its way here, and the body is ready.
            let ticket = broker.publish(now, &local, || None).unwrap_or_default();
            if let Some(delivery) = delivery {
                upstream.down.entered(delivery, ticket);
            }
            any = true;
        }
    }
    any
}

/// The broker says that a message is safe.
pub(super) fn safe(upstreams: &mut [Upstream], ticket: Ticket) {
    for upstream in upstreams {
        upstream.down.safe(ticket);
    }
}

/// Carries out everything that the machine of an uplink wants at this moment, and tells the uplinks that will hear what it sends.
pub(super) fn pump(now: BootNs, upstreams: &mut [Upstream], index: usize, rendering: Rendering<'_>) {
    let sender = &mut upstreams[index];
    sender.pump(now, rendering);
    if sender.sent.is_empty() {
        return;
    }
    let (sent, hearers) = (std::mem::take(&mut sender.sent), sender.hearers.clone());
    for (topic, print) in sent {
        let Ok(topic) = TopicName::new(topic) else { continue };
        for hearer in &hearers {
            upstreams[*hearer].down.expect_echo(now, &topic, print);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn carry_ops(
    uplink: UplinkId,
    store: Arc<Store>,
    queue: QueueId,
    mut todo: mpsc::Receiver<StoreOp>,
    happenings: mpsc::Sender<Happening>,
) {
    while let Some(op) = todo.recv().await {
        let event = store.apply(queue, op).await;
        if happenings.send(Happening::Store { uplink, event }).await.is_err() {
            return;
        }
    }
}
