//! First boot and every other: what a person lays on the FAT partition becomes the configuration of the gateway, or a text there says why not.
//!
//! ```text
//! drop zone (FAT)  --drop, candidate--> a set of files --versions: staged--> judged as the daemon would --versions: one rename--> in use
//!                  <--report: gateway-errors.txt, or gateway-applied.txt and the files are gone--
//! in use           --files of /run--> systemd-networkd, wpa_supplicant, systemd-timesyncd, the name of the machine
//! in use           --board: usercfg.txt on the boot partition--> the firmware, after one restart
//! ```
//!
//! Runs as root at every boot, before the network and the daemon. Invariants: a power cut at any moment leaves the old configuration or the one
//! that was dropped, whole; what is refused changes nothing; a key is readable for root alone from its first byte on; whatever lies on the FAT
//! partition, the gateway comes up with what it has. Bounds: `drop::ENTRIES_MAX`, `drop::FILE_BYTES_MAX`, `drop::TOTAL_BYTES_MAX`.
//! Never: opens a connection, asks the network, or leaves a partition writable that was not.

mod board;
mod boot;
mod candidate;
mod disk;
mod drop;
mod identity;
mod network;
mod partition;
mod report;
mod settle;
mod tell;
mod versions;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use gateway_core::board::settings::Settings as BoardSettings;
use gateway_core::network::settings::Settings as NetworkSettings;

pub use board::is_read as board_is_read;
pub use boot::{BootPartition, SystemBoot};
pub use disk::Step;
pub use partition::{Mounts, SystemMounts};
pub use tell::{Now, tell};

use candidate::Candidate;
use disk::Disk;
use partition::Writable;
use report::Report;
use settle::InUse;
use versions::{STAGED, Set, Versions};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The FAT partition, as it is mounted.
    pub drop: PathBuf,
    /// The folder of the configuration.
    pub config: PathBuf,
    /// What is gone after a restart: /run.
    pub run: PathBuf,
    /// Where /proc, /sys, /dev and /etc are found.
    pub root: PathBuf,
}

/// What of the system provisioning works with.
pub struct World<'a> {
    /// Reads configurations.
    pub judge: &'a dyn Judge,
    /// Makes partitions writable.
    pub mounts: &'a dyn Mounts,
    /// The boot partition of the running system.
    pub boot: &'a dyn BootPartition,
    /// Asked before every change of a file; an error stands for a power cut.
    pub before: &'a dyn Fn(Step<'_>) -> io::Result<()>,
    /// The time as a text, when the clock can be believed.
    pub time: Option<String>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("time", &self.time).finish_non_exhaustive()
    }
}

/// A file that a configuration names, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The path.
    pub path: String,
    /// A private key, or a password.
    pub secret: bool,
    /// The line that names it, from 1.
    pub line: u32,
    /// The column of the path there, from 1.
    pub column: u32,
}

/// What provisioning must know of a configuration that can be used.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Name of the gateway.
    pub id: String,
    /// What tells this configuration from others.
    pub hash: String,
    /// What is fitted to the board, if the file says something of it.
    pub board: Option<BoardSettings>,
    /// The network of the gateway.
    pub network: NetworkSettings,
    /// What works and deserves a look, as `file:line:col: text`.
    pub warnings: Vec<String>,
}

/// Reads configurations: the one who does knows TOML, and this room does not.
///
/// ```
/// # use gateway_daemon::provision::{Judge, Judged, Named};
/// struct Nothing;
/// impl Judge for Nothing {
///     fn named(&self, _: &[u8]) -> Vec<Named> {
///         Vec::new()
///     }
///     fn judge(&self, _: &std::path::Path) -> Result<Judged, Vec<String>> {
///         Err(vec!["gateway.toml:1:1: nothing is good enough".to_owned()])
///     }
/// }
/// assert!(Nothing.judge(std::path::Path::new("/etc/tidegate")).is_err());
/// ```
pub trait Judge {
    /// The files that a configuration names, even when it is wrong otherwise.
    fn named(&self, config: &[u8]) -> Vec<Named>;

    /// Reads the configuration in a folder as the daemon would.
    ///
    /// # Errors
    /// Every problem as `file:line:col: text`, at least one, without the folder's path.
    fn judge(&self, folder: &Path) -> Result<Judged, Vec<String>>;

    /// As [`Judge::judge`], of a configuration that has not run yet: one that would run only with limits lowered, or with a certificate that cannot be
    /// used, is refused: it would cut off a gateway that nobody can drive to.
    ///
    /// # Errors
    /// As [`Judge::judge`].
    fn judge_new(&self, folder: &Path) -> Result<Judged, Vec<String>> {
        self.judge(folder)
    }
}

/// Why nothing at all can be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// Another process does it.
    #[error("another `gateway-daemon provision` is at work: wait for its end")]
    Busy,
    /// There is no folder for the configuration.
    #[error("the folder of the configuration, {}, cannot be opened: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the gateway has a configuration to start with.
    pub usable: bool,
    /// Whether the machine has to restart once, so that its firmware takes what was written for it.
    pub restart: bool,
    /// What was done and what went wrong, in sentences, for the journal.
    pub told: Vec<String>,
}

/// Brings the drop zone, the configuration and the files of /run together.
#[must_use]
pub fn provision(places: &Places, world: &World<'_>) -> Outcome {
    let disk = Disk { before: world.before, group: report::group(&places.root) };
    let versions = Versions { folder: &places.config, disk: &disk };
    let mut report = Report::new(places, world, &disk);
    let alone = match settle::alone(&places.config) {
        Ok(alone) => alone,
        Err(error) => {
            let usable = world.judge.judge(&places.config).is_ok();
            report.fault(error.to_string());
            // The other one tells what there is to tell.
            if !matches!(error, ProvisionError::Busy) {
                report.publish(None);
            }
            return Outcome { usable, restart: false, told: report.told };
        }
    };
    let work = Work { places, world, versions: &versions };
    let mut in_use = work.settle(&mut report);
    if let Some(fresh) = work.take(in_use.as_ref(), &mut report) {
        in_use = Some(fresh);
    }
    if in_use.as_ref().is_none_or(|c| c.version == Some(versions::OWN)) {
        in_use = work.own(in_use, &mut report);
    }
    drop(alone);
    if let Some(in_use) = &in_use {
        network::render(&in_use.judged.network, places, &disk, &mut report);
    }
    let restart =
        in_use.as_ref().is_some_and(|c| board::settle(c.judged.board.as_ref(), places, &disk, &mut report));
    report.publish(in_use.as_ref());
    Outcome { usable: in_use.is_some(), restart, told: report.told }
}

/// The parts of the work, with what all of them need.
struct Work<'a> {
    places: &'a Places,
    world: &'a World<'a>,
    versions: &'a Versions<'a>,
}

impl Work<'_> {
    /// Takes what lies in the drop zone, if something does and it is right.
    fn take(&self, in_use: Option<&InUse>, report: &mut Report<'_>) -> Option<InUse> {
        let names = match drop::look(&self.places.drop) {
            Ok(names) => names,
            Err(sentence) => {
                report.fault(sentence);
                return None;
            }
        };
        report.clear_rests(&names);
        report.explain(&names);
        let refused = match candidate::candidate(self.places, &names, self.world.judge) {
            Ok(None) => {
                report.nothing_dropped(&names);
                return None;
            }
            Ok(Some(candidate)) => match self.install(&candidate, in_use) {
                Ok(fresh) => {
                    if fresh.is_some() {
                        report.forget_faults();
                    }
                    let judged = fresh.as_ref().or(in_use).map(|c| c.judged.clone());
                    report.applied(&candidate, judged.as_ref(), fresh.is_some());
                    return fresh;
                }
                Err(problems) => problems,
            },
            Err(problems) => problems,
        };
        report.refused(&refused, &names, in_use);
        None
    }

    /// Puts a candidate into use; `None` when it is in use already.
    fn install(&self, candidate: &Candidate, in_use: Option<&InUse>) -> Result<Option<InUse>, Vec<String>> {
        let judge = self.world.judge;
        if in_use.is_some() && self.installed_set().as_ref() == Some(&candidate.set) {
            return Ok(None);
        }
        let not_ours = |error: io::Error| {
            vec![format!(
                "gateway.toml:1:1: the gateway cannot write to its configuration partition ({error}), so this is no fault of the file: \
                 write the card anew, or use another one"
            )]
        };
        let writable = Writable::open(&self.places.config, self.world.mounts).map_err(not_ours)?;
        let staged = self.versions.stage(STAGED, &candidate.set).map_err(not_ours)?;
        let judged = match judge.judge_new(&staged) {
            Ok(judged) => judged,
            Err(problems) => {
                self.versions.unstage().map_err(not_ours)?;
                return Err(problems);
            }
        };
        let version = self.exchange(in_use).map_err(not_ours)?;
        writable.close().map_err(not_ours)?;
        Ok(Some(InUse { judged, version: Some(version) }))
    }

    /// The configuration that is in use with its files.
    fn installed_set(&self) -> Option<Set> {
        versions::read_set(&self.places.config, self.world.judge)
    }

    /// What is staged gets the next number and comes into use; what was in use stays behind it.
    fn exchange(&self, in_use: Option<&InUse>) -> io::Result<u32> {
        let mut before = in_use.and_then(|c| c.version).filter(|version| *version != versions::OWN);
        if self.versions.is_by_hand() {
            before = Some(self.adopt()?);
        }
        let version = self.versions.next();
        self.versions.number(STAGED, version)?;
        self.versions.activate(version)?;
        self.versions.disk.remove(&self.places.config.join(settle::WRONG))?;
        self.versions.forget_all_but(before)?;
        Ok(version)
    }
}
