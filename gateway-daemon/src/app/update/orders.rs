//! Updates by command of a cloud: from the topic to the agent, and what came of it back to the cloud.
//!
//! ```text
//! uplink --Command--> core loop --Task--> worker --socket--> agent
//!   ^                    |    ^               |
//!   `--- state topic ----'    `----- News ----'
//! ```
//! The worker carries out one task at a time and otherwise looks, while the outcome of an update is open, how it is: after a reboot it is the health gate
//! that goes on. A refused command never changes what is told about the system: the state stays, and the reason is added.
//!
//! Bounds: one task under way and none waiting, [`NEWS_MAX`] news. The core loop never waits for the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::clock;
use gateway_core::tag::BootNs;
use gateway_core::update::herald::Herald;
use gateway_core::update::order::{Heard, Order};
use gateway_core::update::settings::Settings;
use gateway_core::update::wire::{Reply, Request, State, Status};
use gateway_core::update::{Failure, Reason};
use gateway_core::uplink::row::Qos;
use gateway_core::uplink::settings::Settings as UplinkSettings;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::gateway::Gateway;
use super::super::upstream::{Command, Place};
use crate::update::{Client, ClientError};

/// News of the worker that wait for the core loop; the worker waits then.
const NEWS_MAX: usize = 16;

/// How often an open outcome is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at an agent that does not answer; a system without one is not asked for ever.
const LOOKS_MAX: u32 = 6;

/// An agent that has not taken a command by then has not got it: it looks at the gateway and asks RAUC before.
const TAKEN_MAX: Duration = Duration::from_secs(60);

/// A command on its way to the agent.
#[derive(Debug)]
struct Task {
    order: Order,
    place: Option<Place>,
}

/// What the worker tells.
#[derive(Debug)]
pub(in super::super) enum News {
    /// The agent has the command, or will not have it.
    Taken(Option<Place>),
    /// How the update is.
    Status(Status),
    /// The command was refused.
    Refused(Option<String>, Failure),
    /// The worker has time for another one.
    Free,
}

/// What the metrics show.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Counters {
    /// Commands that came.
    pub commands_total: u64,
    /// Those that were refused.
    pub refused_total: u64,
}

/// The daemon's part in updates.
pub(in super::super) struct Orders {
    settings: Option<Settings>,
    tasks: mpsc::Sender<Task>,
    news: mpsc::Receiver<News>,
    /// Key of the command that the worker has.
    busy: Option<String>,
    status: Status,
    herald: Herald,
    counters: Counters,
}

impl Orders {
    /// Starts the worker, if a cloud may command.
    pub(in super::super) fn start(settings: Option<&Settings>) -> Self {
        let (tasks, todo) = mpsc::channel(1);
        let (say, news) = mpsc::channel(NEWS_MAX);
        if let Some(settings) = settings {
            tokio::spawn(work(settings.socket.clone(), todo, say));
        }
        Self {
            settings: settings.cloned(),
            tasks,
            news,
            busy: None,
            status: Status::default(),
            herald: Herald::default(),
            counters: Counters::default(),
        }
    }

    /// What the worker tells next; never, if there is none.
    pub(in super::super) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// What was told last.
    pub(in super::super) fn state(&self) -> State {
        self.status.state
    }

    /// What came so far.
    pub(in super::super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Gives the place of a command that needs no answer of the agent, and what to say of it.
    fn command(&mut self, command: Command, allow_http: bool) -> Option<(Option<Place>, Option<Status>)> {
        let Command { place, payload, retained } = command;
        self.counters.commands_total += 1;
        let refused = match Heard::of(&payload, retained, allow_http) {
            Heard::Nothing => return Some((place, None)),
            Heard::Refused(id, failure) => (id, failure),
            Heard::Order(order) => match &self.busy {
                // Once more the one that is being carried out: at least once.
                Some(key) if *key == order.key => return Some((place, None)),
                Some(_) => (order.id, Failure::plain(Reason::Busy)),
                None => {
                    let (key, id) = (order.key.clone(), order.id.clone());
                    match self.tasks.try_send(Task { order, place }) {
                        Ok(()) => {
                            log::info!("the cloud commands an update");
                            self.busy = Some(key);
                            return None;
                        }
                        Err(_) => (id, Failure::plain(Reason::Busy)),
                    }
                }
            },
        };
        Some((place, Some(self.refusal(refused))))
    }

    fn refusal(&mut self, (id, failure): (Option<String>, Failure)) -> Status {
        self.counters.refused_total += 1;
        log::warn!(reason = failure.reason.word(); "a command of the cloud to update is refused: {}", failure.text);
        Status { reason: Some(failure.reason), text: Some(failure.text), id, ..self.status.clone() }
    }
}

impl Gateway {
    /// Takes the commands that have come down.
    pub(in super::super) fn take_orders(&mut self, now: BootNs) {
        let Some(settings) = self.orders.settings.clone() else { return };
        for index in 0..self.upstreams.len() {
            while let Some(command) = self.upstreams[index].poll_command() {
                let Some((place, status)) = self.orders.command(command, settings.allow_http) else {
                    continue;
                };
                self.upstreams[index].release(place);
                if let Some(status) = status {
                    let payload = self.orders.herald.answer(now, &status);
                    self.publish_update(now, payload);
                }
            }
        }
    }

    /// Heeds what the worker tells.
    pub(in super::super) fn heed_update(&mut self, news: News) {
        let now = clock::now();
        match news {
            News::Free => self.orders.busy = None,
            News::Taken(place) => {
                for upstream in &mut self.upstreams {
                    upstream.release(place);
                }
            }
            News::Refused(id, failure) => {
                let status = self.orders.refusal((id, failure));
                let payload = self.orders.herald.answer(now, &status);
                self.publish_update(now, payload);
            }
            News::Status(status) => {
                let payload = self.orders.herald.tell(now, &status);
                self.orders.status = status;
                if let Some(payload) = payload {
                    self.publish_update(now, payload);
                }
            }
        }
    }

    fn publish_update(&mut self, now: BootNs, payload: Vec<u8>) {
        let Some(settings) = &self.orders.settings else { return };
        let commanding = |(uplink, _): &(UplinkSettings, _)| uplink.name == settings.uplink;
        let Some(index) = self.config.uplinks.iter().position(commanding) else { return };
        let qos = self.config.uplinks[index].0.qos.min(Qos::AtLeastOnce);
        if let Some(upstream) = self.upstreams.get_mut(index) {
            upstream.answer(now, &settings.state_topic, qos, payload);
        }
    }
}

/// Carries out tasks until the gateway ends.
async fn work(socket: PathBuf, mut tasks: mpsc::Receiver<Task>, news: mpsc::Sender<News>) {
    let mut looks = LOOKS_MAX;
    let mut next = Instant::now();
    loop {
        let open = tokio::select! {
            biased;
            task = tasks.recv() => {
                let Some(task) = task else { return };
                carry_out(&socket, task, &news).await;
                let _ = news.send(News::Free).await;
                looks = LOOKS_MAX;
                true
            }
            () = sleep_until(next), if looks > 0 => match status(&socket).await {
                Ok(status) => {
                    let open = status.state.is_open();
                    let _ = news.send(News::Status(status)).await;
                    open
                }
                Err(_) => {
                    looks -= 1;
                    true
                }
            },
        };
        if !open {
            looks = 0;
        }
        next = Instant::now() + LOOK_EVERY;
    }
}

async fn status(socket: &Path) -> Result<Status, ClientError> {
    let mut client = Client::ask(socket, &Request::Status).await?;
    match timeout(TAKEN_MAX, client.reply()).await {
        Ok(Ok(Reply::Status(status))) => Ok(status),
        Ok(Ok(_)) | Err(_) => Err(ClientError::Gone),
        Ok(Err(fault)) => Err(fault),
    }
}

/// One command from the cloud to its end, or to the agent's.
async fn carry_out(socket: &Path, Task { order, place }: Task, news: &mpsc::Sender<News>) {
    let Order { source, id, key } = order;
    let first = if source.as_str().starts_with("http") { State::Downloading } else { State::Installing };
    // A command of the cloud never goes back to an older version.
    let request =
        Request::Install { source: source.to_string(), reboot: true, key: Some(key), downgrade: false };
    let mut status = Status::of(first).with_id(id.clone());
    let mut client = None;
    let mut waits = place;
    // The core loop outlives this task, except at the end of the process.
    let say = |one: News| async { _ = news.send(one).await };
    loop {
        let reply = async {
            let open = match &mut client {
                Some(open) => open,
                empty => empty.insert(Client::ask(socket, &request).await?),
            };
            open.reply().await
        };
        let reply = match waits {
            Some(_) => timeout(TAKEN_MAX, reply).await.unwrap_or(Err(ClientError::Gone)),
            None => reply.await,
        };
        if waits.is_some() {
            say(News::Taken(waits.take())).await;
        }
        match reply {
            Ok(Reply::Taken {}) => say(News::Status(status.clone())).await,
            Ok(Reply::Progress { percent, step }) => {
                status.advance(percent, &step);
                say(News::Status(status.clone())).await;
            }
            Ok(Reply::Done { version, reboot }) => {
                let state = if reboot { State::Rebooting } else { State::Installed };
                return say(News::Status(Status { version, id, ..Status::of(state) })).await;
            }
            Ok(Reply::Failed(failure)) => {
                return say(match failure.reason {
                    // Nothing was begun: how the system is has not changed.
                    Reason::Busy
                    | Reason::Testing
                    | Reason::AlreadyDone
                    | Reason::EepromTooOld
                    | Reason::BootChoice
                    | Reason::BadSource
                    | Reason::BadCommand => News::Refused(id, failure),
                    _ => News::Status(Status::failed(failure).with_id(id)),
                })
                .await;
            }
            Ok(Reply::Status(_)) | Err(ClientError::Strange(_)) => {
                return say(News::Refused(id, Failure::plain(Reason::Other))).await;
            }
            Err(ClientError::Unreachable(fault)) => {
                return say(News::Refused(id, Failure::with(Reason::NoAgent, &fault.to_string()))).await;
            }
            // What came of it is looked at from here on.
            Err(ClientError::Gone) => return,
        }
    }
}
