//! The agent's loop: it owns the one installation, and clients ask it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::update::order::id_of;
use gateway_core::update::output::Step;
use gateway_core::update::source::Source;
use gateway_core::update::wire::{LINE_BYTES_MAX, Reply, Request, State, Status};
use gateway_core::update::{Failure, Reason, record};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::files::{Folder, FolderError, boot_id};
use super::job::{self, Event, JOB_MAX, Job};
use super::rauc::Rauc;
use super::{AllowHttp, Look, lines};
use crate::panics::Contained;

/// Most clients at once: the daemon, a technician and a script, with room to spare.
const CLIENTS_MAX: usize = 8;

/// A client that says nothing, or does not read, for this long is closed.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// Requests that wait for the loop.
const ASKS_MAX: usize = CLIENTS_MAX;

/// Replies that wait for a client. Progress is left out when there is little room, so that the outcome always has some.
const REPLIES_MAX: usize = 32;
const REPLIES_KEPT: usize = 4;

/// Time for the client to tell others before the system is started again: the daemon publishes it.
const REBOOT_GRACE: Duration = Duration::from_secs(3);

/// How the agent works.
pub struct Settings {
    /// Its records.
    pub folder: Folder,
    /// The program that installs.
    pub rauc: Rauc,
    /// How to look at the running gateway.
    pub look: Look,
    /// Whether sources may be `http://`.
    pub allow_http: AllowHttp,
    /// The file that names the version of the running system.
    pub os_release: PathBuf,
    /// Ends when nobody has asked for this long; systemd starts it again with the next client.
    pub idle: Option<Duration>,
}

struct Ask {
    request: Request,
    /// Whether the client runs as the same user as the agent: root, where it installs anything.
    by_root: bool,
    replies: mpsc::Sender<Reply>,
}

/// The installation under way.
struct Running {
    job: Job,
    events: mpsc::Receiver<Event>,
    replies: mpsc::Sender<Reply>,
    status: Status,
}

struct Agent {
    settings: Arc<Settings>,
    running: Option<Running>,
}

/// Serves clients, until it is idle or the listener fails.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: UnixListener, settings: Settings) -> io::Result<()> {
    let idle = settings.idle;
    let mut agent = Agent { settings: Arc::new(settings), running: None };
    let (ask, mut asks) = mpsc::channel(ASKS_MAX);
    let mut clients = JoinSet::new();
    agent.settle().await;
    let mut quiet_since = Instant::now();
    loop {
        let busy = agent.running.is_some() || !clients.is_empty();
        if busy {
            quiet_since = Instant::now();
        }
        let end = idle.map(|idle| quiet_since + idle);
        tokio::select! {
            biased;
            event = next_event(&mut agent.running) => agent.event(event).await,
            Some(asked) = asks.recv() => agent.asked(asked).await,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    clients.spawn(Contained::new("a client of the agent", client(stream, ask.clone())));
                }
                Ok((stream, _)) => turn_away(&stream),
                Err(fault) => return Err(fault),
            },
            () = at(end), if !busy => return Ok(()),
        }
    }
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn next_event(running: &mut Option<Running>) -> Event {
    let Some(running) = running else { return std::future::pending().await };
    let lost = || Event::Ended(Err(Failure::with(Reason::Interrupted, "a fault of this program")));
    running.events.recv().await.unwrap_or_else(lost)
}

impl Agent {
    async fn asked(&mut self, Ask { request, by_root, replies }: Ask) {
        self.settle().await;
        match request {
            Request::Status => tell(&replies, Reply::Status(self.status())),
            Request::Install { downgrade: true, .. } if !by_root => {
                tell(&replies, Reply::Failed(Failure::plain(Reason::Downgrade)));
            }
            Request::Install { source, reboot, key, downgrade } => {
                match self.admit(&source, reboot, key, downgrade) {
                    Ok(job) => self.start(job, replies),
                    Err(failure) => tell(&replies, Reply::Failed(failure)),
                }
            }
        }
    }

    fn admit(
        &self,
        source: &str,
        reboot: bool,
        key: Option<String>,
        downgrade: bool,
    ) -> Result<Job, Failure> {
        let source = Source::new(source).and_then(|source| {
            let plain = source.as_str().starts_with("http://");
            source.encrypted_unless(plain && (self.settings.allow_http)())
        });
        let source = source.map_err(|fault| Failure::with(Reason::BadSource, &fault.to_string()))?;
        if let Some(running) = &self.running {
            let same = key.is_some() && running.job.key == key;
            return Err(Failure::plain(if same { Reason::AlreadyDone } else { Reason::Busy }));
        }
        let unread = |fault: FolderError| Failure::with(Reason::Other, &fault.to_string());
        let (trial, last) = (self.settings.folder.trial().map_err(unread)?, self.settings.folder.last());
        // A last outcome that cannot be read is none to go by.
        let last = last.unwrap_or_default();
        // Nor is a history: where it cannot be read, only root's word installs anything.
        let history = self.settings.folder.history().unwrap_or_default();
        if key.as_ref().is_some_and(|key| record::repeated(key, trial.as_ref(), last.as_ref(), &history)) {
            return Err(Failure::plain(Reason::AlreadyDone));
        }
        match self.status().state {
            State::Testing => return Err(Failure::plain(Reason::Testing)),
            // RAUC works on without the one who asked it.
            State::Installing => return Err(Failure::plain(Reason::Busy)),
            _ => {}
        }
        if let Some(obstacle) = self.settings.folder.obstacle() {
            return Err(Failure::plain(obstacle));
        }
        job::check(&source)?;
        Ok(Job { source, reboot, key, downgrade })
    }

    fn start(&mut self, job: Job, replies: mpsc::Sender<Reply>) {
        let (say, events) = mpsc::channel(job::STEPS_MAX);
        let work = job::run(job.clone(), Arc::clone(&self.settings), say);
        tokio::spawn(Contained::new("the installation", work));
        let state = match job.source {
            Source::Url(_) => State::Downloading,
            Source::File(_) => State::Installing,
        };
        let status = Status::of(state).with_id(id_of(job.key.as_ref()));
        self.running = Some(Running { job, events, replies, status });
    }

    async fn event(&mut self, event: Event) {
        let Some(running) = &mut self.running else { return };
        match event {
            Event::Taken => tell(&running.replies, Reply::Taken {}),
            Event::Step(Step { percent, name }) => {
                running.status.advance(percent, &name);
                if running.replies.capacity() > REPLIES_KEPT {
                    tell(&running.replies, Reply::Progress { percent, step: name });
                }
            }
            Event::Ended(Ok(version)) => {
                log::info!("installed; it starts with the next boot");
                let reboot = running.job.reboot;
                tell(&running.replies, Reply::Done { version, reboot });
                self.running = None;
                if reboot {
                    restart().await;
                }
            }
            Event::Ended(Err(failure)) => {
                tell(&running.replies, Reply::Failed(failure));
                self.running = None;
            }
        }
    }

    fn status(&self) -> Status {
        if let Some(running) = &self.running {
            return running.status.clone();
        }
        let told = || {
            let (trial, last) = (self.settings.folder.trial()?, self.settings.folder.last()?);
            Ok::<_, FolderError>(record::status(trial.as_ref(), last.as_ref(), &boot_id()?))
        };
        told().unwrap_or_else(|fault| Status::failed(Failure::with(Reason::Other, &fault.to_string())))
    }

    /// An installation that an earlier run of this program has begun in this boot: RAUC may have ended it meanwhile.
    async fn settle(&mut self) {
        let folder = &self.settings.folder;
        let Ok(Some(trial)) = folder.trial() else { return };
        let open = !trial.installed && boot_id().is_ok_and(|boot| boot == trial.boot);
        if self.running.is_some() || !open {
            return;
        }
        let slots = self.settings.rauc.slots().await.ok();
        match record::unwatched(&trial, slots.as_ref()) {
            None => {}
            Some(true) => {
                let (reboot, key) = (trial.reboot, trial.key.clone());
                match job::finish(&self.settings, trial, slots.as_ref()).await {
                    Ok(_) if reboot => restart().await,
                    Ok(_) => {}
                    Err(failure) => job::fail(&self.settings, failure, key),
                }
            }
            Some(false) => job::fail(&self.settings, Failure::plain(Reason::Interrupted), trial.key),
        }
    }
}

/// Starts the system again, into the updated one.
async fn restart() {
    tokio::time::sleep(REBOOT_GRACE).await;
    let asked = Command::new("systemctl").arg("reboot").status().await;
    match asked {
        Ok(status) if status.success() => {}
        Ok(status) => log::error!("systemctl reboot: {status}; the update starts with the next boot"),
        Err(fault) => log::error!("systemctl reboot: {fault}; the update starts with the next boot"),
    }
}

/// There is room, see [`REPLIES_MAX`]; a client that has left needs no answer.
fn tell(replies: &mpsc::Sender<Reply>, reply: Reply) {
    let _ = replies.try_send(reply);
}

/// One request, and its replies.
async fn client(stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let own = rustix::process::geteuid().as_raw();
    let by_root = stream.peer_cred().is_ok_and(|peer| peer.uid() == own);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    // One byte more than is allowed, so that too much is seen.
    let Ok(Some(line)) = timeout(CLIENT_PATIENCE, lines::next(&mut read, LINE_BYTES_MAX + 1)).await else {
        return;
    };
    let (replies, mut answers) = mpsc::channel(REPLIES_MAX);
    match Request::parse(&line) {
        Ok(request) => {
            if asks.send(Ask { request, by_root, replies }).await.is_err() {
                return;
            }
        }
        Err(failure) => {
            tell(&replies, Reply::Failed(failure));
            drop(replies);
        }
    }
    while let Ok(Some(reply)) = timeout(JOB_MAX, answers.recv()).await {
        let Ok(mut line) = serde_json::to_vec(&reply) else { return };
        line.push(b'\n');
        if !matches!(timeout(CLIENT_PATIENCE, write.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// One too many: told so without waiting for it.
fn turn_away(stream: &UnixStream) {
    log::warn!("more than {CLIENTS_MAX} clients at once, one refused");
    let words = format!("{CLIENTS_MAX} clients are connected already");
    if let Ok(mut line) = serde_json::to_vec(&Reply::Failed(Failure::with(Reason::Busy, &words))) {
        line.push(b'\n');
        // The buffer of a fresh socket has room; a client that is gone needs no answer.
        let _ = stream.try_write(&line);
    }
}
