//! `[board]` as `usercfg.txt` on the boot partition of the running system, and the one restart by which its firmware takes it.
//!
//! The file that is found is the one with which the firmware has started: only a start changes it. So there is nothing to do while it is what it is to be; else it is
//! written, read back from the card, noted as tried, and the machine restarts. A file that is another one after a restart that was noted is written again and told, but nothing
//! restarts for it: a card that forgets must not keep a gateway from running.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_core::board::settings::Settings;
use gateway_core::board::{FILE, INCLUDE, is_ours, rendered};
use gateway_core::os::{self, Doing};

use super::Places;
use super::boot::{self, Place};
use super::disk::{self, Disk, Mode};
use super::partition::Writable;
use super::report::Report;

/// The boot loader backend of the image for Raspberry Pi: where it is, the firmware reads the file.
const BACKEND: &str = "usr/lib/tidegate/rauc-tryboot";

/// The number of the boot partition and the text that was tried on it, in the folder of the configuration.
const NOTE: &str = "board.tried";

/// Where the boot partition is mounted, below /run.
const FOLDER: &str = "tidegate-boot";

/// The fault that is published.
const FAULT: &str = "board-settings";

/// What a person has written into the file by hand is kept beside it under this name.
const KEPT: &str = "usercfg.old";

/// Largest file that is looked at; ours have 2 kB, and the list of names that overlays had has 10.
const BYTES_MAX: u64 = 1024 * 1024;

/// Whether the firmware of the machine with this root reads what is written here.
#[must_use]
pub fn is_read(root: &Path) -> bool {
    root.join(BACKEND).exists()
}

/// Brings the file to what is wanted. Whether the machine has to restart for it.
pub(super) fn settle(
    wanted: Option<&Settings>,
    places: &Places,
    disk: &Disk<'_>,
    report: &mut Report<'_>,
) -> bool {
    let noted = disk::read(&places.config.join(NOTE), BYTES_MAX).ok();
    // What was there before anybody wrote a [board] is not ours.
    if wanted.is_none() && noted.is_none() {
        return false;
    }
    if !is_read(&places.root) {
        report.note("[board] has no effect on this system".to_owned());
        return false;
    }
    let ended = match boot::of_running(&places.root) {
        None => {
            Err("the boot partition of the running system is not found, so [board] has no effect".to_owned())
        }
        Some(place) => {
            let text = wanted.map(rendered).unwrap_or_default();
            let note = format!("{}\n{text}", place.number).into_bytes();
            let tried = noted.as_ref() == Some(&note);
            if wanted.is_none() && tried {
                return false;
            }
            Work { places, disk, place, text: text.into_bytes(), note, tried }.settle(wanted, report)
        }
    };
    let (restart, fault) = match ended {
        Ok((restart, fault)) => (restart, fault),
        Err(sentence) => (false, Some(sentence)),
    };
    report.fault_of_its_own(FAULT, fault);
    restart
}

struct Work<'a> {
    places: &'a Places,
    disk: &'a Disk<'a>,
    place: Place,
    text: Vec<u8>,
    note: Vec<u8>,
    /// Whether the machine has restarted for this text before.
    tried: bool,
}

impl Work<'_> {
    /// Whether to restart, and what is wrong all the same.
    fn settle(
        &self,
        wanted: Option<&Settings>,
        report: &mut Report<'_>,
    ) -> Result<(bool, Option<String>), String> {
        let boot = report.boot();
        let unread = |error: io::Error| {
            format!(
                "the boot partition cannot be read, so [board] has no effect: {}",
                os::sentence(&error, Doing::Reading)
            )
        };
        let (found, fault) = self
            .mounted(boot, false, |folder| {
                let names = wanted.map(overlays).unwrap_or_default();
                Ok((disk::read(&folder.join(FILE), BYTES_MAX).ok(), without_effect(folder, &names)))
            })
            .map_err(unread)?;
        if found.as_ref() == Some(&self.text) {
            if let (false, Err(error)) = (self.tried, self.take_note(report)) {
                report.note(format!("that [board] is in force cannot be noted: {error}"));
            }
            return Ok((false, fault));
        }
        let unwritten = |error: io::Error| {
            format!(
                "[board] cannot be written to the boot partition, so the settings before it stay: {}",
                os::sentence(&error, Doing::Writing)
            )
        };
        boot.check(&self.place.device).map_err(unwritten)?;
        let by_hand = found.filter(|bytes| !bytes.is_empty() && !is_ours(bytes));
        self.mounted(boot, true, |folder| {
            if let Some(bytes) = &by_hand {
                self.disk.replace(&folder.join(KEPT), bytes, Mode::Open)?;
            }
            self.disk.replace(&folder.join(FILE), &self.text, Mode::Open)
        })
        .map_err(unwritten)?;
        if by_hand.is_some() {
            report.note(format!("{FILE} on the boot partition was written by hand; it is kept as {KEPT}"));
        }
        let read_back =
            self.mounted(boot, false, |folder| Ok(disk::read(&folder.join(FILE), BYTES_MAX).ok()));
        if read_back.map_err(unread)?.as_ref() != Some(&self.text) {
            return Err("the boot partition does not keep what is written to it, so [board] has no effect; the card may be at its end: replace it".to_owned());
        }
        if self.tried {
            return Err(format!(
                "{FILE} on the boot partition was not what [board] had made of it: somebody changed it, or the card forgets. It is written again and takes effect at the next restart"
            ));
        }
        self.take_note(report).map_err(|error| {
            format!("[board] takes effect at the next restart, which is not made by itself because the configuration partition cannot be written: {error}")
        })?;
        if !boot.stays(&self.places.root.join(BACKEND)) {
            report.note(
                "[board] has changed; it takes effect at the next restart, which is not made by itself: an update is on trial, or the boot loader does not say which system it starts"
                    .to_owned(),
            );
            return Ok((false, fault));
        }
        report
            .note("[board] has changed: the machine restarts once, so that its firmware takes it".to_owned());
        Ok((true, fault))
    }

    /// Does something with the boot partition, mounted for so long.
    fn mounted<T>(
        &self,
        boot: &dyn super::BootPartition,
        writable: bool,
        work: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        let folder: PathBuf = self.places.run.join(FOLDER);
        fs::create_dir_all(&folder)?;
        boot.mount(&self.place.device, &folder, writable)?;
        let done = work(&folder);
        let unmounted = boot.unmount(&folder);
        let done = done?;
        unmounted.map(|()| done)
    }

    fn take_note(&self, report: &Report<'_>) -> io::Result<()> {
        let writable = Writable::open(&self.places.config, report.mounts())?;
        self.disk.replace(&self.places.config.join(NOTE), &self.note, Mode::Open)?;
        writable.close()
    }
}

/// Names of overlays that the firmware is to find.
fn overlays(settings: &Settings) -> Vec<String> {
    let uarts = settings.uarts.iter().map(|number| format!("uart{number}"));
    settings.overlays.iter().map(|overlay| overlay.name().to_owned()).chain(uarts).collect()
}

/// Why the firmware would pass over something in silence.
fn without_effect(folder: &Path, overlays: &[String]) -> Option<String> {
    let config = disk::read(&folder.join("config.txt"), BYTES_MAX).unwrap_or_default();
    let includes = |line: &[u8]| line.trim_ascii() == INCLUDE.as_bytes();
    if !config.split(|byte| *byte == b'\n').any(includes) {
        return Some(format!(
            "config.txt on the boot partition has no line `{INCLUDE}`, so [board] has no effect: add it at the end"
        ));
    }
    // The map has a node for each name that an overlay had, or has on some board.
    let map = disk::read(&folder.join("overlays/overlay_map.dtb"), BYTES_MAX).unwrap_or_default();
    let known = |name: &str| {
        let node = [b"\x01", name.as_bytes(), b"\0"].concat();
        folder.join(format!("overlays/{name}.dtbo")).exists()
            || map.windows(node.len()).any(|window| window == node)
    };
    let unknown: Vec<&str> = overlays.iter().map(String::as_str).filter(|name| !known(name)).collect();
    (!unknown.is_empty()).then(|| {
        format!("[board] names an overlay that this system does not have, so the firmware passes over it: {}; correct its name", unknown.join(", "))
    })
}
