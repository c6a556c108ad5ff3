//! `health`: on a system that was updated, waits for the verdict; on any other it ends at once.

use std::time::Duration;

use drivers::clock;
use gateway_core::update::gate::{Gate, Limits, Verdict};
use gateway_core::update::order::id_of;
use gateway_core::update::record::{self, Boot, Case, Last};
use gateway_core::update::trial::Before;
use gateway_core::update::wire::{State, Status};

use super::look::Looker;
use crate::cli::{self, exit};
use crate::update::{Folder, FolderError, Rauc, boot_id, is_try, system_version};

/// How often the gateway is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the journal is told what is waited for, when that does not change.
const SAY_EVERY: u32 = 30;

/// `health`: the exit code.
pub(in super::super) fn health(args: &cli::Health) -> u8 {
    if let Err(code) = crate::app::begin_log() {
        return code;
    }
    super::run(async {
        let folder = Folder::new(&args.state);
        let outcome = if args.passed {
            let version = system_version(&args.os_release).unwrap_or_else(|fault| {
                log::warn!("the version of this system is not known: {fault}");
                None
            });
            passed(&folder, version)
        } else {
            judge(args, &folder).await
        };
        outcome.unwrap_or_else(|fault| {
            log::error!("{fault}");
            exit::IO
        })
    })
}

async fn judge(args: &cli::Health, folder: &Folder) -> Result<u8, FolderError> {
    let rauc = Rauc::default().slots().await;
    if let Err(fault) = &rauc {
        log::info!("{fault}");
    }
    let (slots, id, why_back) = (rauc.ok(), boot_id()?, folder.why_back());
    let boot = Boot { id: &id, slots: slots.as_ref(), tried: is_try(), why_back: why_back.as_deref() };
    let found = match &folder.trial() {
        Ok(trial) => record::case(trial.as_ref(), boot),
        Err(fault) => {
            log::error!("what worked before the update is not known: {fault}");
            Case::Unknown
        }
    };
    let before = match found {
        Case::Trusted => {
            folder.set_fault(why_back.as_deref())?;
            return Ok(exit::OK);
        }
        Case::Back(status) => {
            came_back(folder, status)?;
            return Ok(exit::OK);
        }
        Case::Unknown => Before::default(),
        Case::Trial(before) => before,
    };
    // Of an earlier update, or of a try before this one.
    folder.clear_why_back()?;
    match watch(args, before).await {
        Ok(()) => Ok(exit::OK),
        Err(why) => {
            log::error!("the updated system has to go: {why}");
            folder.set_why_back(&why)?;
            Ok(exit::NO)
        }
    }
}

/// Looks until the verdict falls.
///
/// # Errors
/// Why the system has to go.
async fn watch(args: &cli::Health, before: Before) -> Result<(), String> {
    let limits = Limits { steady: args.steady, deadline: args.deadline, ..Limits::default() };
    log::info!(
        "the updated system is on trial: {} buses and {} uplinks have to work as before, for {} s within {} s",
        before.buses.len(),
        before.uplinks.len(),
        limits.steady.as_secs(),
        limits.deadline.as_secs()
    );
    let mut gate = Gate::new(clock::now(), limits, before);
    let mut looker = Looker::new(&args.control);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut said, mut healthy) = (0u32, false);
    loop {
        tick.tick().await;
        let sight = looker.look().await;
        gate.handle(clock::now(), &sight);
        match gate.verdict() {
            Verdict::Good => {
                log::info!("the updated system has passed its test");
                return Ok(());
            }
            Verdict::Bad { why } => return Err(why),
            Verdict::Pending { why } => {
                let changed = std::mem::replace(&mut healthy, gate.is_healthy()) != healthy;
                if changed || said.is_multiple_of(SAY_EVERY) {
                    log::info!("{why}");
                }
                said = said.wrapping_add(1);
            }
        }
    }
}

/// The old system runs: the outcome is written down and the daemon told.
fn came_back(folder: &Folder, status: Status) -> Result<(), FolderError> {
    let text = status.text.clone().unwrap_or_default();
    if status.state == State::RolledBack {
        log::warn!("the last update was undone: {text}");
        folder.set_why_back(&text)?;
        folder.set_fault(Some(&text))?;
    } else {
        log::warn!("the last update was not installed: {text}");
        folder.set_fault(folder.why_back().as_deref())?;
    }
    let key = folder.trial()?.and_then(|trial| trial.key);
    folder.settle(&Last { status, key })
}

/// `--passed`: the slot is marked good.
fn passed(folder: &Folder, version: Option<String>) -> Result<u8, FolderError> {
    let trial = match folder.trial() {
        Ok(Some(trial)) if trial.boot != boot_id()? => trial,
        // What cannot be read has done its service.
        Err(_) => {
            folder.settle(&Last { status: Status::of(State::Good), key: None })?;
            return Ok(exit::OK);
        }
        Ok(_) => return Ok(exit::OK),
    };
    folder.clear_why_back()?;
    folder.set_fault(None)?;
    // The trial is over whatever becomes of the record: one that stayed open would refuse every update.
    if let Err(fault) = folder.set_passed(version.or_else(|| trial.version.clone())) {
        log::error!("{fault}; which version passed its test is not remembered");
    }
    let status = Status { version: trial.version, id: id_of(trial.key.as_ref()), ..Status::of(State::Good) };
    folder.settle(&Last { status, key: trial.key })?;
    Ok(exit::OK)
}
