//! One installation, from the record of what works to the outcome.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::update::order::id_of;
use gateway_core::update::output::Step;
use gateway_core::update::record::{Last, Trial};
use gateway_core::update::slots::Slots;
use gateway_core::update::source::Source;
use gateway_core::update::trial::{Before, Sight};
use gateway_core::update::wire::Status;
use gateway_core::update::{Failure, Reason, version};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::agent::Settings;
use super::files::FolderError;
use super::staging::Staged;
use super::{boot_id, rauc, system_version};

/// A gateway that does not answer within this does not work, and nothing of it is asked for afterwards.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Pause before one that has no place for another client is looked at again.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Steps that wait for the agent's loop.
pub(super) const STEPS_MAX: usize = 16;

/// What is to be installed.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// From where.
    pub source: Source,
    /// Whether the system is started again afterwards.
    pub reboot: bool,
    /// Names the command.
    pub key: Option<String>,
    /// Whether it may be older than what ran here.
    pub downgrade: bool,
}

/// What a job reports.
#[derive(Debug)]
pub(super) enum Event {
    /// The record is on disk.
    Taken,
    /// So far.
    Step(Step),
    /// The outcome, the last event: the version that is installed.
    Ended(Result<Option<String>, Failure>),
}

/// Carries a job out.
pub(super) async fn run(job: Job, settings: Arc<Settings>, events: mpsc::Sender<Event>) {
    let outcome = carry_out(&job, &settings, &events).await;
    if let Err(failure) = &outcome {
        log::warn!(reason = failure.reason.word(); "nothing was installed: {}", failure.text);
    }
    // The agent's loop outlives its jobs, except at the end of the process.
    let _ = events.send(Event::Ended(outcome)).await;
}

async fn carry_out(
    job: &Job,
    settings: &Settings,
    events: &mpsc::Sender<Event>,
) -> Result<Option<String>, Failure> {
    let slots = settings.rauc.slots().await;
    let slots = slots.map_err(|fault| Failure::with(Reason::NoAgent, &fault.to_string()))?;
    let booted = slots
        .booted()
        .map(|(name, _)| name.to_owned())
        .ok_or_else(|| Failure::with(Reason::Other, "the running system is in no slot that RAUC knows"))?;
    let before = before(settings).await;
    let trial = Trial {
        boot: boot_id().map_err(unwritten)?,
        slot: booted,
        before,
        installed: false,
        reboot: job.reboot,
        version: None,
        key: job.key.clone(),
        downgrade: job.downgrade,
    };
    settings.folder.set_trial(&trial).map_err(unwritten)?;
    let _ = events.send(Event::Taken).await;
    log::info!("installing {}", job.source);
    let installed = async {
        let source = staged(job, settings).await?;
        refuse_older(&source, job, settings).await?;
        install(&source, settings, events).await?;
        let slots = settings.rauc.slots().await;
        finish(settings, trial, slots.ok().as_ref()).await
    };
    let outcome = installed.await;
    if let Err(failure) = &outcome {
        fail(settings, failure.clone(), job.key.clone());
    }
    outcome
}

/// Where RAUC finds what is to be installed.
#[derive(Debug)]
enum From {
    File(Staged),
    Url(Source),
}

impl From {
    fn text(&self) -> &OsStr {
        match self {
            Self::File(staged) => staged.path().as_os_str(),
            Self::Url(url) => OsStr::new(url.as_str()),
        }
    }
}

async fn staged(job: &Job, settings: &Settings) -> Result<From, Failure> {
    let Source::File(path) = &job.source else { return Ok(From::Url(job.source.clone())) };
    let (path, folder) = (PathBuf::from(path), settings.folder.path().to_owned());
    let staged = tokio::task::spawn_blocking(move || Staged::of(&path, &folder)).await;
    let lost = |_| Err(Failure::with(Reason::Other, "a fault of this program"));
    staged.unwrap_or_else(lost).map(From::File)
}

/// What works before the update.
async fn before(settings: &Settings) -> Before {
    let mut is_busy = false;
    let look = async {
        loop {
            match (settings.look)().await {
                Sight::Busy => is_busy = true,
                Sight::State(seen) => return Some(seen),
                Sight::Silent => return None,
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    if let Some(seen) = timeout(LOOK_MAX, look).await.unwrap_or_default() {
        return Before::of(&seen);
    }
    let why = if is_busy {
        "every place for a command at the gateway's control socket is taken, so nobody can see what works"
    } else {
        "the gateway does not answer"
    };
    log::warn!("{why}; the updated system is only asked to run");
    Before::default()
}

/// Looks at the version before anything is written. A bundle that does not say one is looked at once more when it is installed, and one that cannot be read
/// at all fails when it is.
async fn refuse_older(source: &From, job: &Job, settings: &Settings) -> Result<(), Failure> {
    if job.downgrade {
        return Ok(());
    }
    let ran = ran(settings)?;
    match settings.rauc.version(source.text()).await {
        Some(version) => follows(&ran, Some(&version)),
        None if ran.is_empty() => follows(&ran, None),
        None => Ok(()),
    }
}

/// The versions that ran well here: that of the last system that passed its test, if any has, and that of the one that runs, if it has one.
///
/// # Errors
/// They are not known, so that an older one could not be told.
fn ran(settings: &Settings) -> Result<Vec<String>, Failure> {
    let unknown = |fault: FolderError| {
        let words =
            format!("which versions ran here is not known, and so not whether this one is older: {fault}");
        Failure::with(Reason::Downgrade, &words)
    };
    let passed = settings.folder.history().map_err(unknown)?.version;
    let running = system_version(&settings.os_release).map_err(unknown)?;
    Ok(passed.into_iter().chain(running).collect())
}

fn follows(ran: &[String], version: Option<&str>) -> Result<(), Failure> {
    version::follows(version, ran).map_err(|why| Failure::with(Reason::Downgrade, &why))
}

/// The updated system is whole: what is known of it is written down, and its version is given. If that fails the records of the beginning are there, and they
/// say enough. Who gave RAUC the bundle may have shown it another one before, so the version that was written counts.
///
/// # Errors
/// It is older than what ran here, and the slot that runs stays the one that starts.
pub(super) async fn finish(
    settings: &Settings,
    trial: Trial,
    slots: Option<&Slots>,
) -> Result<Option<String>, Failure> {
    let version = slots.and_then(Slots::primary_version).map(str::to_owned);
    if !trial.downgrade
        && let Err(failure) = ran(settings).and_then(|ran| follows(&ran, version.as_deref()))
    {
        settings.rauc.take_back().await.map_err(|fault| {
            log::error!("an older system is installed and starts with the next boot: {fault}");
            Failure::with(Reason::Downgrade, &format!("it could not be taken back: {fault}"))
        })?;
        return Err(failure);
    }
    let done = Trial { installed: true, version: version.clone(), ..trial };
    let kept = settings.folder.set_trial(&done).and_then(|()| settings.folder.clear_why_back());
    if let Err(fault) = kept {
        log::error!("the end of the installation cannot be kept: {fault}");
    }
    Ok(version)
}

/// Nothing was installed: the outcome is written down.
pub(super) fn fail(settings: &Settings, failure: Failure, key: Option<String>) {
    let status = Status::failed(failure).with_id(id_of(key.as_ref()));
    if let Err(fault) = settings.folder.settle(&Last { status, key }) {
        log::error!("the outcome of the update cannot be kept: {fault}");
    }
}

async fn install(source: &From, settings: &Settings, events: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let (steps, mut taken) = mpsc::channel(STEPS_MAX);
    let forward = async {
        while let Some(step) = taken.recv().await {
            let _ = events.send(Event::Step(step)).await;
        }
    };
    let install = async {
        let outcome = settings.rauc.install(source.text(), &steps).await;
        drop(steps);
        outcome
    };
    tokio::join!(install, forward).0
}

/// The card is full or broken: without a record nothing is installed.
fn unwritten(fault: FolderError) -> Failure {
    let reason = match fault.source.kind() {
        io::ErrorKind::StorageFull => Reason::NoSpace,
        _ => Reason::Other,
    };
    Failure::with(reason, &format!("cannot write {fault}"))
}

/// A file that can be installed, before RAUC is asked.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(source: &Source) -> Result<(), Failure> {
    let Source::File(path) = source else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(Failure::with(Reason::BadSource, &format!("{path} is no file"))),
        Err(fault) => Err(Failure::with(Reason::BadSource, &format!("{path}: {fault}"))),
    }
}

/// Longest time that a job may take, for those who wait for it.
pub(super) const JOB_MAX: Duration = rauc::INSTALL_MAX.saturating_add(Duration::from_secs(300));
