//! One installation, from the record of what works to the outcome.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::update::order::id_of;
use gateway_core::update::output::Step;
use gateway_core::update::record::{Last, Trial};
use gateway_core::update::source::Source;
use gateway_core::update::trial::{Before, Observation};
use gateway_core::update::wire::Status;
use gateway_core::update::{Failure, Reason};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::agent::Settings;
use super::files::FolderError;
use super::{boot_id, rauc};

/// A gateway that does not answer within this does not work, and nothing of it is asked for afterwards.
const LOOK_MAX: Duration = Duration::from_secs(10);

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
    let look: Option<Observation> = timeout(LOOK_MAX, (settings.look)()).await.unwrap_or_default();
    if look.is_none() {
        log::warn!("the gateway does not answer; the updated system is only asked to run");
    }
    let mut trial = Trial {
        boot: boot_id().map_err(unwritten)?,
        slot: booted,
        before: look.as_ref().map(Before::of).unwrap_or_default(),
        installed: false,
        reboot: job.reboot,
        version: None,
        key: job.key.clone(),
    };
    settings.folder.set_trial(&trial).map_err(unwritten)?;
    let _ = events.send(Event::Taken).await;
    log::info!("installing {}", job.source);
    if let Err(failure) = install(job, settings, events).await {
        let status = Status::failed(failure.clone()).with_id(id_of(job.key.as_ref()));
        if let Err(fault) = settings.folder.settle(&Last { status, key: job.key.clone() }) {
            log::error!("the outcome of the update cannot be kept: {fault}");
        }
        return Err(failure);
    }
    let slots = settings.rauc.slots().await;
    trial.version = slots.ok().and_then(|slots| slots.primary_version().map(str::to_owned));
    let version = trial.version.clone();
    finish(settings, trial);
    Ok(version)
}

/// The updated system is whole: what is known of it is written down. If that fails the records of the beginning are there, and they say enough.
pub(super) fn finish(settings: &Settings, trial: Trial) {
    let done = Trial { installed: true, ..trial };
    let kept = settings.folder.set_trial(&done).and_then(|()| settings.folder.clear_why_back());
    if let Err(fault) = kept {
        log::error!("the end of the installation cannot be kept: {fault}");
    }
}

async fn install(job: &Job, settings: &Settings, events: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let (steps, mut taken) = mpsc::channel(STEPS_MAX);
    let forward = async {
        while let Some(step) = taken.recv().await {
            let _ = events.send(Event::Step(step)).await;
        }
    };
    let install = async {
        let outcome = settings.rauc.install(&job.source, &steps).await;
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
