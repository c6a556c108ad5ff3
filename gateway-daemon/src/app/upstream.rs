//! One uplink at work: its machine, its place in the store, its link, and who carries out what the machine decides.
//!
//! Two tasks belong to it: one carries ops to the store in their order, one forwards the events of the present link. Both report to
//! the core loop through one bounded channel of [`Happening`]s; nothing here waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::{SessionId, Ticket};
use gateway_core::payload::{self, Draft};
use gateway_core::settings::LinkSettings;
use gateway_core::tag::{BootNs, RunId};
use gateway_core::uplink::link::{Epoch, LinkCommand, LinkEvent, Will};
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::{Fate, Message, Receipt, Waiting};
use gateway_core::uplink::row::{Qos, QueueId, Row, Seq, StoreEvent, StoreOp, Tally};
use gateway_core::uplink::{Action, Uplink};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::known::Known;
use super::rate::Rate;
use super::walltime::WallTimes;
use crate::link;
use crate::store::Store;

/// Ops on their way to the store. A queue has one under way; the rest is slack.
const OPS_MAX: usize = 4;

/// A link that was told to say goodbye gets this long beyond the link's own limits before it is cut.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// Word from a task of an uplink.
#[derive(Debug)]
pub(super) enum Happening {
    /// The store answered.
    Store {
        /// Index of the uplink.
        uplink: usize,
        /// What it said.
        event: StoreEvent,
    },
    /// The link reported.
    Link {
        /// Index of the uplink.
        uplink: usize,
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
    /// The machine.
    pub uplink: Uplink,
    /// Its connection settings.
    pub link_settings: Arc<LinkSettings>,
    /// Its session in the broker.
    pub session: SessionId,
    /// Acknowledgements per second.
    pub acks: Rate,
    /// When the link's state last changed.
    pub since: BootNs,
    /// What was left only in memory when it stopped.
    pub left: Option<Tally>,
    /// Who waits for which message: at most what is only in memory, which the queue bounds.
    tickets: BTreeMap<Seq, Ticket>,
    /// Taken by the core loop in the same turn.
    fates: VecDeque<(Ticket, Fate)>,
    index: usize,
    ops: mpsc::Sender<StoreOp>,
    happenings: mpsc::Sender<Happening>,
    port: Option<Port>,
    leaving: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Puts an uplink to work; [`Uplink::start`] is the caller's.
    #[must_use]
    pub(super) fn new(
        (index, uplink): (usize, Uplink),
        link_settings: LinkSettings,
        session: SessionId,
        (store, queue): (Arc<Store>, QueueId),
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let (ops, todo) = mpsc::channel(OPS_MAX);
        tokio::spawn(carry_ops(index, store, queue, todo, happenings.clone()));
        Self {
            uplink,
            link_settings: Arc::new(link_settings),
            session,
            acks: Rate::default(),
            since: BootNs(0),
            left: None,
            tickets: BTreeMap::new(),
            fates: VecDeque::new(),
            index,
            ops,
            happenings,
            port: None,
            leaving: None,
        }
    }

    /// Takes a message that the broker routed here. With a ticket its fate comes out of [`Self::poll_fate`], exactly once.
    pub(super) fn publish(&mut self, now: BootNs, qos: Qos, draft: Draft, ticket: Option<Ticket>) {
        let waiting = if ticket.is_some() { Waiting::Urgent } else { Waiting::Nobody };
        let seq = self.uplink.publish(now, Message { waiting, ..Message::of(draft, qos) });
        if let Some(ticket) = ticket {
            self.tickets.insert(seq, ticket);
        }
    }

    /// What became of a message published with a ticket; for [`gateway_core::broker::Broker`]. Ask after every [`Self::pump`], until there is no more.
    pub(super) fn poll_fate(&mut self) -> Option<(Ticket, Fate)> {
        self.fates.pop_front()
    }

    /// Carries out everything that the machine wants at this moment.
    pub(super) fn pump(&mut self, now: BootNs, rendering: Rendering<'_>) {
        let state = std::mem::discriminant(&self.uplink.state());
        while let Some(action) = self.uplink.poll_action() {
            self.act(now, action, rendering);
        }
        if std::mem::discriminant(&self.uplink.state()) != state || self.since == BootNs(0) {
            self.since = now;
        }
    }

    fn act(&mut self, now: BootNs, action: Action, rendering: Rendering<'_>) {
        match action {
            Action::Store(op) => {
                // One op is under way at a time, so there is room unless the task is gone, and then the process is ending.
                if self.ops.try_send(op).is_err() {
                    log::error!("uplink {}: the store's task is gone", self.index);
                }
            }
            Action::Connect { epoch, will } => self.connect(epoch, will),
            Action::Send { epoch, token, row, .. } => {
                match payload::render_row(&row, rendering.schemas, rendering.clock, rendering.units) {
                    Ok(payload) => {
                        let topic = Arc::clone(&row.topic);
                        let payload = payload.to_vec();
                        self.command(
                            epoch,
                            LinkCommand::Publish { token, topic, qos: row.qos, retain: row.retain, payload },
                        );
                    }
                    Err(fault) => {
                        log::error!(
                            "a stored message of {} cannot be read and is dropped: {fault}",
                            row.topic
                        );
                        self.uplink.unreadable(now, epoch, token);
                    }
                }
            }
            Action::Announce { epoch, token, topic, payload, qos, retain } => {
                self.command(epoch, LinkCommand::Publish { token, topic, qos, retain, payload });
            }
            Action::Disconnect { epoch, clean } => self.disconnect(epoch, clean),
            Action::Receipt(Receipt { seq, fate }) => {
                let ticket = self.tickets.remove(&seq);
                self.fates.extend(ticket.map(|ticket| (ticket, fate)));
            }
            Action::Stopped { left } => self.left = Some(left),
        }
    }

    fn connect(&mut self, epoch: Epoch, will: Will) {
        self.cut();
        let mut link = link::spawn(Arc::clone(&self.link_settings), epoch, Some(will));
        let commands = link.commands.clone();
        let (index, happenings) = (self.index, self.happenings.clone());
        let forward = tokio::spawn(async move {
            while let Some(event) = link.events.recv().await {
                if happenings.send(Happening::Link { uplink: index, epoch, event }).await.is_err() {
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
            log::warn!("uplink {}: the link takes no orders; cutting it", self.index);
            self.cut();
        }
    }

    fn disconnect(&mut self, epoch: Epoch, clean: bool) {
        if clean {
            self.command(epoch, LinkCommand::Disconnect);
            if let Some(port) = self.port.take_if(|port| port.epoch == epoch) {
                self.leaving = Some(port.forward);
            }
        } else {
            // The link itself does not report what the machine has decided.
            let given_up = self.port.is_some() && matches!(self.uplink.state(), State::BackingOff { .. });
            if let Some(loss) = self.uplink.last_loss().filter(|_| given_up) {
                log::warn!(reason = loss.word(); "uplink {}: link given up: {loss}", self.index);
            }
            self.cut();
        }
    }

    /// Ends the present link at once; its events are not heard any more.
    fn cut(&mut self) {
        if let Some(port) = self.port.take() {
            port.forward.abort();
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

impl Drop for Upstream {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn carry_ops(
    uplink: usize,
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
