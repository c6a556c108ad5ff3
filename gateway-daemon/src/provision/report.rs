//! What is told, and where: on the drive, on the console, in the folder of faults, and to the journal.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::candidate::{Candidate, Taken};
use super::disk::{self, Disk, Mode};
use super::drop::{APPLIED, ERRORS, FILE_BYTES_MAX, Names, README};
use super::partition::Writable;
use super::settle::InUse;
use super::words::{self, Applied, Runs};
use super::{BootPartition, Judged, Mounts, Places, World, versions};
use gateway_core::os::{self, Doing};

/// The fault that is published while something is wrong, below /run.
const FAULT: &str = "tidegate-faults/provision";

/// Where faults are published, below /run.
const FAULTS: &str = "tidegate-faults";

/// What agetty shows above the log-in, below /run.
const ISSUE: &str = "issue.d/tidegate.issue";

/// Collects what is to be told.
pub(super) struct Report<'a> {
    places: &'a Places,
    world: &'a World<'a>,
    disk: &'a Disk<'a>,
    faults: Vec<String>,
    pub(super) told: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(places: &'a Places, world: &'a World<'a>, disk: &'a Disk<'a>) -> Self {
        Self { places, world, disk, faults: Vec::new(), told: Vec::new() }
    }

    /// For the journal alone.
    pub(super) fn note(&mut self, sentence: String) {
        self.told.push(sentence);
    }

    /// A person must act.
    pub(super) fn fault(&mut self, sentence: String) {
        if !self.faults.contains(&sentence) {
            self.faults.push(sentence.clone());
            self.told.push(sentence);
        }
    }

    /// A fault under a name of its own, or that there is none.
    pub(super) fn fault_of_its_own(&mut self, name: &str, sentence: Option<String>) {
        let path = self.places.run.join(FAULTS).join(name);
        let text = sentence.as_ref().map(|sentence| format!("{sentence}\n"));
        self.told.extend(sentence);
        if let Err(error) = self.in_run(&path, text.as_deref()) {
            self.told.push(format!(
                "{} cannot be written: {}",
                path.display(),
                os::sentence(&error, Doing::Writing)
            ));
        }
    }

    /// The boot partition of the running system.
    pub(super) fn boot(&self) -> &'a dyn BootPartition {
        self.world.boot
    }

    /// What makes partitions writable.
    pub(super) fn mounts(&self) -> &'a dyn Mounts {
        self.world.mounts
    }

    /// What was wrong with the configuration before is over.
    pub(super) fn forget_faults(&mut self) {
        self.faults.clear();
    }

    /// Removes what an earlier start that was cut off has left on the drive: it may be a key that was on its way out.
    pub(super) fn clear_rests(&mut self, names: &Names) {
        if names.parts.is_empty() {
            return;
        }
        let drop = &self.places.drop;
        let done = self.on_drive(|disk| {
            names.parts.iter().try_for_each(|name| {
                disk.wipe(&drop.join(name))?;
                disk.remove(&drop.join(name))
            })
        });
        if let Err(error) = done {
            self.fault(format!(
                "the rest of an earlier start cannot be removed from the drive TIDEGATE, and may hold a key ({}): {error}",
                names.parts.join(", ")
            ));
        }
    }

    /// Tells whoever finds the drive what it is for. A drive that cannot be written goes without.
    pub(super) fn explain(&mut self, names: &Names) {
        if names.find(README).is_none() {
            let path = self.places.drop.join(README);
            let _ = self.on_drive(|disk| put(disk, &path, &words::for_any_editor(words::README)));
        }
    }

    /// Nothing lies on the drive: what was written there about an earlier try is old.
    pub(super) fn nothing_dropped(&mut self, names: &Names) {
        if names.find(ERRORS).is_none() {
            return;
        }
        let old = self.places.drop.join(ERRORS);
        if let Err(error) = self.on_drive(|disk| disk.remove(&old)) {
            self.note(format!(
                "the drive TIDEGATE cannot be written: {}",
                os::sentence(&error, Doing::Writing)
            ));
        }
    }

    /// The files on the drive were refused.
    pub(super) fn refused(&mut self, problems: &[String], names: &Names, in_use: Option<&InUse>) {
        let runs = match in_use {
            Some(in_use) if in_use.version != Some(versions::OWN) => Runs::Former,
            _ => Runs::Own,
        };
        let on_drive: Vec<_> = names.certificates().map(super::drop::shown).collect();
        let text = words::for_any_editor(&words::errors(problems, &on_drive, runs));
        let drop = &self.places.drop;
        let written = self.on_drive(|disk| {
            put(disk, &drop.join(ERRORS), &text)?;
            disk.remove(&drop.join(APPLIED))
        });
        self.fault(words::refused(problems, written.is_ok()));
        self.told.extend(problems.iter().cloned());
        if let Err(error) = written {
            self.note(format!(
                "{ERRORS} cannot be written to the drive TIDEGATE: {}",
                os::sentence(&error, Doing::Writing)
            ));
        }
    }

    /// The files on the drive are in use, just taken over or before.
    pub(super) fn applied(&mut self, candidate: &Candidate, judged: Option<&Judged>, fresh: bool) {
        let Some(judged) = judged else { return };
        if fresh {
            self.note(format!(
                "the configuration on the drive TIDEGATE is in use: id {}, hash {}",
                judged.id, judged.hash
            ));
        }
        let drop = &self.places.drop;
        let files: Vec<_> = candidate.taken.iter().map(|taken| super::drop::shown(&taken.name)).collect();
        let text = |left: &[String]| {
            words::for_any_editor(&words::applied(&Applied {
                id: &judged.id,
                hash: &judged.hash,
                time: self.world.time.as_deref(),
                files: &files,
                warnings: &judged.warnings,
                unused: &candidate.unused,
                left,
            }))
        };
        let mut left = Vec::new();
        let done = self.on_drive(|disk| {
            disk.remove(&drop.join(ERRORS))?;
            // The configuration goes last: as long as it is there, a start that is cut off is begun again.
            let (last, first) =
                candidate.taken.split_last().map_or((None, &[][..]), |(last, first)| (Some(last), first));
            left.extend(first.iter().filter_map(|taken| clear(disk, drop, taken).err()));
            // A drive without room has it when the last file is gone.
            let early = put(disk, &drop.join(APPLIED), &text(&left));
            left.extend(last.and_then(|taken| clear(disk, drop, taken).err()));
            if early.is_err() || !left.is_empty() {
                put(disk, &drop.join(APPLIED), &text(&left))
            } else {
                Ok(())
            }
        });
        if let Err(error) = done {
            self.fault(format!(
                "the files on the drive TIDEGATE are in use but cannot be removed from it, private keys as well: {}", os::sentence(&error, Doing::Writing)
            ));
        } else if !left.is_empty() {
            self.fault(format!(
                "the files on the drive TIDEGATE are in use but some cannot be removed from it: {}",
                left.join(", ")
            ));
        }
    }

    /// Does something on the drive, writable for so long.
    fn on_drive(&self, work: impl FnOnce(&Disk<'_>) -> io::Result<()>) -> io::Result<()> {
        let writable = Writable::open(&self.places.drop, self.world.mounts)?;
        work(self.disk)?;
        writable.close()
    }

    /// Publishes what is left to say.
    pub(super) fn publish(&mut self, in_use: Option<&InUse>) {
        let mut console = String::new();
        match in_use {
            Some(in_use) if in_use.version == Some(versions::OWN) => {
                console.push_str(&words::welcome(&in_use.judged.id))
            }
            Some(_) => {}
            None => console.push_str("Tidegate has no configuration that can be used, and does not run.\n"),
        }
        for fault in &self.faults {
            console.push_str(&format!("Tidegate: {fault}\n"));
        }
        let fault = (!self.faults.is_empty()).then(|| format!("{}\n", self.faults.join("; ")));
        let run = &self.places.run;
        // A backslash is an order to agetty.
        let issue = (!console.is_empty()).then(|| format!("\n{}\n", console.replace('\\', "/")));
        for (path, text) in [(FAULT, fault), (ISSUE, issue)] {
            if let Err(error) = self.in_run(&run.join(path), text.as_deref()) {
                self.told.push(format!(
                    "{} cannot be written: {}",
                    run.join(path).display(),
                    os::sentence(&error, Doing::Writing)
                ));
            }
        }
        if !console.is_empty() {
            // Nobody may be there to read it, and a serial console may not take it.
            let _ = say(&self.places.root.join("dev/console"), &console);
        }
    }

    fn in_run(&self, path: &Path, text: Option<&str>) -> io::Result<()> {
        let Some(text) = text else { return self.disk.remove(path) };
        if let Some(folder) = path.parent() {
            self.disk.folder(folder, Mode::Open)?;
        }
        self.disk.replace(path, text.as_bytes(), Mode::Open)
    }
}

/// Makes the folder of a file.
pub(super) fn in_folder(disk: &Disk<'_>, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.folder(folder, Mode::Open))
}

/// Writes a text to the drive unless it is there: a card is not worn by every start.
pub(super) fn put(disk: &Disk<'_>, path: &Path, text: &str) -> io::Result<()> {
    if disk::read(path, FILE_BYTES_MAX).is_ok_and(|is| is == text.as_bytes()) {
        return Ok(());
    }
    disk.replace(path, text.as_bytes(), Mode::Open)
}

/// Removes a file that is installed; its name when that does not work. A secret is called away from its name first, so that a start that is
/// cut off in the middle does not take its rest for a key.
fn clear(disk: &Disk<'_>, folder: &Path, taken: &Taken) -> Result<(), String> {
    let path = folder.join(&taken.name);
    let gone = || -> io::Result<()> {
        if !taken.secret {
            disk.remove(&path)?;
            return disk.sync(folder);
        }
        let away = folder.join("~secret.tmp");
        disk.rename(&path, &away)?;
        disk.sync(folder)?;
        disk.wipe(&away)?;
        disk.remove(&away)?;
        disk.sync(folder)
    };
    gone().map_err(|_| super::drop::shown(&taken.name))
}

/// Writes to a terminal without waiting for it.
pub(super) fn say(console: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let mut console = fs::OpenOptions::new().write(true).custom_flags(flags).open(console)?;
    console.write_all(text.replace('\n', "\r\n").as_bytes())
}

/// Number of the gateway's group, when we may give files to it.
pub(super) fn group(root: &Path) -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let text = fs::read_to_string(root.join("etc/group")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("tidegate:")?.split(':').nth(1)?.parse().ok())
}
