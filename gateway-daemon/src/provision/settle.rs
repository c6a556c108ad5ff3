//! Which configuration is in use when nobody dropped another: the newest that can be read, and in the end one of our own.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::drop::CONFIG;
use super::partition::Writable;
use super::report::Report;
use super::versions::{self, ADOPTED, KEYS, OWN, Piece, STAGED, Set};
use super::{Judged, ProvisionError, Work, identity, words};
use gateway_core::os::{self, Doing};

/// A configuration that can be used.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) judged: Judged,
    /// Its number; `None` when a person laid it there by hand.
    pub(super) version: Option<u32>,
}

/// Where a configuration goes that was laid there by hand and cannot be used.
pub(super) const WRONG: &str = "gateway.toml.wrong";

/// The right to change the configuration, until this is dropped.
pub(super) struct Alone(File);

impl Drop for Alone {
    fn drop(&mut self) {
        // Closing is not enough: a child that has not come to its own program yet holds the file as well.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the right to change the configuration; `None` on a file system that knows none.
///
/// # Errors
/// Somebody else has it, or there is no such folder.
pub(super) fn alone(folder: &Path) -> Result<Option<Alone>, ProvisionError> {
    let open =
        File::open(folder).map_err(|source| ProvisionError::Folder { folder: folder.to_owned(), source })?;
    match flock(&open, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Alone(open))),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ProvisionError::Busy),
        // A file system without locks has no second writer either.
        Err(_) => Ok(None),
    }
}

impl Work<'_> {
    /// Finds the configuration to use, and puts it into use where a power cut or damage has kept it from being.
    pub(super) fn settle(&self, report: &mut Report<'_>) -> Option<InUse> {
        if self.versions.is_by_hand() {
            match self.world.judge.judge(&self.places.config) {
                Ok(judged) => return Some(InUse { judged, version: None }),
                Err(problems) => {
                    let first = problems.first().map_or("", String::as_str);
                    report.note(format!("the installed configuration cannot be used: {first}"));
                    let aside = || {
                        let writable = Writable::open(&self.places.config, self.world.mounts)?;
                        let disk = self.versions.disk;
                        disk.rename(&self.places.config.join(CONFIG), &self.places.config.join(WRONG))?;
                        disk.sync(&self.places.config)?;
                        writable.close()
                    };
                    if let Err(error) = aside() {
                        report.fault(format!(
                            "the configuration partition cannot be written: {}",
                            os::sentence(&error, Doing::Writing)
                        ));
                        return None;
                    }
                }
            }
        }
        if self.places.config.join(WRONG).exists() {
            report.fault(format!(
                "the installed configuration could not be used and was set aside as {WRONG}: `gateway-daemon check` says what is wrong with it"
            ));
        }
        for version in self.versions.list() {
            match self.world.judge.judge(&self.versions.path(version)) {
                Ok(judged) => return self.put_into_use(InUse { judged, version: Some(version) }, report),
                Err(problems) => {
                    let first = problems.first().map_or("", String::as_str);
                    report.fault(format!(
                        "the newest configuration (version {version}) cannot be used, so the one before it is: {first}"
                    ));
                }
            }
        }
        None
    }

    /// Brings to its end what a power cut has ended.
    fn put_into_use(&self, found: InUse, report: &mut Report<'_>) -> Option<InUse> {
        let version = found.version.unwrap_or(OWN);
        if self.versions.is_settled(version) {
            return Some(found);
        }
        let finish = || {
            let writable = Writable::open(&self.places.config, self.world.mounts)?;
            self.versions.activate(version)?;
            self.versions.unstage()?;
            self.versions.tidy_links()?;
            writable.close()
        };
        match finish() {
            Ok(()) => Some(found),
            Err(error) => {
                report.fault(format!(
                    "the configuration partition cannot be written: {}",
                    os::sentence(&error, Doing::Writing)
                ));
                // What is in use may be another version, and whole all the same.
                let version = self.versions.current();
                self.world.judge.judge(&self.places.config).ok().map(|judged| InUse { judged, version })
            }
        }
    }

    /// Makes the configuration of a gateway that has none, named after its hardware: another one when the card was put into another.
    pub(super) fn own(&self, in_use: Option<InUse>, report: &mut Report<'_>) -> Option<InUse> {
        let hardware = identity::unique_id(&self.places.root);
        if let Some(own) = in_use.as_ref()
            && hardware.as_ref().is_none_or(|id| *id == own.judged.id)
        {
            return in_use;
        }
        let Some(id) = hardware.or_else(identity::drawn_id) else {
            report
                .fault("this machine has no number of its own and the system gives no random one".to_owned());
            return in_use;
        };
        let make = || {
            let writable = Writable::open(&self.places.config, self.world.mounts)?;
            self.versions
                .stage(STAGED, &Set { config: words::own_config(&id).into_bytes(), pieces: Vec::new() })?;
            self.versions.number(STAGED, OWN)?;
            self.versions.activate(OWN)?;
            self.versions.tidy_links()?;
            writable.close()
        };
        if let Err(error) = make() {
            report.fault(format!(
                "the configuration partition cannot be written: {}",
                os::sentence(&error, Doing::Writing)
            ));
            return in_use;
        }
        match self.world.judge.judge(&self.versions.path(OWN)) {
            Ok(judged) => Some(InUse { judged, version: Some(OWN) }),
            Err(problems) => {
                report.fault(format!("the gateway's own configuration is refused: {}", problems.join("; ")));
                in_use
            }
        }
    }

    /// Makes a version of what a person has laid here by hand, so that it can be gone back to; its number.
    pub(super) fn adopt(&self) -> std::io::Result<u32> {
        let folder = &self.places.config;
        let mut set = versions::read_set(folder, self.world.judge)
            .ok_or_else(|| std::io::Error::other("the installed gateway.toml cannot be read"))?;
        // Units may hand keys to the daemon that the file does not name.
        for entry in fs::read_dir(folder.join(KEYS)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let known = set.pieces.iter().any(|piece| piece.name == name);
            if let (false, Some(bytes)) = (known, versions::installed(folder, &name, true)) {
                set.pieces.push(Piece { name, bytes, secret: true });
            }
        }
        let version = self.versions.next();
        self.versions.stage(ADOPTED, &set)?;
        self.versions.number(ADOPTED, version)?;
        self.versions.activate(version)?;
        Ok(version)
    }
}
