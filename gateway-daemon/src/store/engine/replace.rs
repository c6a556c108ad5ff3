//! A database that cannot be used, or whose files are gone: salvaged into a fresh one beside it, moved aside, replaced.
//!
//! ```text
//! damaged   copied to .building, renamed to .salvage; the old one moved aside; .salvage put in its place
//! gone      copied to .building, renamed to .rescue; whatever is in its place moved aside; .rescue put there
//! ```
//!
//! A crash in between finds the old one, or finishes at the next start.

use std::fs::File;
use std::sync::Arc;

use gateway_core::uplink::row::StoreFault;

use super::Engine;
use super::known::KnownStored;
use crate::store::aside;
use crate::store::db::{Db, Unusable};
use crate::store::evidence::Evidence;
use crate::store::fault::Trouble;
use crate::store::held::{Held, Standing};
use crate::store::pages::{Bytes, Disk, Image};
use crate::store::salvage::{self, Lost, Salvage};

/// Files to which no path leads any more, with all that was stored.
#[derive(Debug)]
pub(super) struct Remains {
    files: Held,
    /// What became of them, for a sentence.
    word: &'static str,
}

impl Engine {
    /// Opens the database; one that cannot be used is replaced by a fresh one with what is whole of it.
    pub(super) fn open_or_replace(&mut self) -> Result<Db, (StoreFault, String)> {
        let path = self.settings.path.clone();
        self.finish_replacing().map_err(as_io_fault)?;
        self.rescue()?;
        let evidence = Evidence::look(&path);
        let (why, text) = match self.open_by(&evidence) {
            Ok(db) => {
                self.tell_doubt(&evidence);
                return Ok(db);
            }
            Err(Unusable::Fault(fault, text)) => {
                // What an open that failed leaves behind was nobody's database.
                self.fresh_place |= evidence.is_first();
                return Err((fault, text));
            }
            Err(Unusable::Damaged(text)) => ("damaged", text),
            Err(Unusable::Newer(version)) => ("newer", format!("format version {version}")),
            Err(Unusable::Foreign(text)) => ("foreign", text),
        };
        log::error!(path:% = path.display(), why = text.as_str(); "the queue database is {why}: it is replaced");
        // Held until the fresh database is in place, so that no other process touches the file; another one holding it was told above.
        let _lock = aside::Lock::take(&path).map_err(as_io_fault)?;
        let (salvage, left) = {
            let open = |path| File::open(path).ok();
            let (database, log) = (open(path.clone()), open(aside::beside(&path, "-wal")));
            // A foreign file that is much longer than ours may be was never ours, and would take long to read.
            let length =
                database.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
            let database =
                database.filter(|_| why != "foreign" || length / 2 <= self.settings.file_bytes_max);
            self.salvage(&Disk::of(database.as_ref()), &Disk::of(log.as_ref())).map_err(as_fault)?
        };
        let building = aside::beside(&path, ".building");
        let why = if why == "foreign" && salvage.ours { "damaged" } else { why };
        if why == "foreign" {
            aside::remove(&building).map_err(as_io_fault)?;
        } else {
            aside::rename(&building, &aside::salvage_path(&path)).map_err(as_io_fault)?;
        }
        let place = aside::move_aside(&path, why).map_err(as_io_fault)?;
        self.counters.moved_aside = self.counters.moved_aside.saturating_add(1);
        let lost = self.count_salvage(&salvage, &left, why);
        self.opened.log_cut = false;
        let what =
            format!("was {why} ({text}): {}; the old file is {}", summary(&salvage, lost), place.display());
        self.aside = Some(place);
        self.notice(true, &what);
        self.finish_replacing().map_err(as_io_fault)?;
        self.open_fresh()
    }

    fn open_fresh(&self) -> Result<Db, (StoreFault, String)> {
        Db::open(&self.settings.path, self.settings.file_bytes_max).map_err(|unusable| match unusable {
            Unusable::Fault(fault, text) => (fault, text),
            other => (StoreFault::Corrupt, format!("the fresh database cannot be used: {other:?}")),
        })
    }

    /// Opens the database unless the files say that SQLite would drop something without a word.
    fn open_by(&self, evidence: &Evidence) -> Result<Db, Unusable> {
        if self.opened.log_cut {
            return Err(Unusable::Damaged("its log was cut short while it was open".to_owned()));
        }
        if evidence.only_log() {
            return Err(Unusable::Damaged("only its log is there".to_owned()));
        }
        let db = Db::open(&self.settings.path, self.settings.file_bytes_max)?;
        if evidence.has_gap() && db.lacks_what_is_behind_a_gap() {
            db.leave();
            return Err(Unusable::Damaged("its log is damaged in the middle".to_owned()));
        }
        Ok(db)
    }

    /// Says what may be lost although the database can be opened.
    fn tell_doubt(&mut self, evidence: &Evidence) {
        let fresh_place = std::mem::take(&mut self.fresh_place);
        if let Some(doubt) = evidence.doubt().filter(|_| !fresh_place) {
            self.counters.losses_unknown = self.counters.losses_unknown.saturating_add(1);
            self.notice(doubt.bad, doubt.text);
        }
    }

    /// Tells the log, and `status`, what was found wrong with the files.
    fn notice(&mut self, bad: bool, what: &str) {
        let path = self.settings.path.display();
        let text = format!("the queue database {path} {what}");
        if bad {
            log::error!(path:%; "{text}");
        } else {
            log::warn!(path:%; "{text}");
        }
        self.notice = Some(text);
    }

    /// Copies what is whole of a database into a fresh one beside it. Says what came of it, and what the fresh one has.
    fn salvage(&self, database: &dyn Bytes, log: &dyn Bytes) -> Result<(Salvage, KnownStored), Trouble> {
        let building = aside::beside(&self.settings.path, ".building");
        aside::remove(&building)?;
        let fresh = Db::open(&building, self.settings.file_bytes_max);
        let mut fresh = fresh.map_err(|unusable| Trouble::Disk(StoreFault::Io, format!("{unusable:?}")))?;
        let known = self.known.iter().flat_map(|known| &known.queues);
        let names = known.filter_map(|(name, queue)| Some((queue.key?, Arc::clone(name)))).collect();
        let image = Image::new(database, log);
        let copied = fresh.begin_bulk().and_then(|()| salvage::salvage(&image, &mut fresh, &names));
        let salvage = match copied {
            Ok(salvage) => salvage,
            Err(trouble) => {
                drop(fresh);
                // Room for others; the damaged database stays and is tried again.
                aside::remove(&building)?;
                return Err(trouble);
            }
        };
        let left = KnownStored::of(&fresh);
        fresh.end_bulk()?;
        // Its log is empty then; it must not be found beside a database it does not belong to.
        fresh.close()?;
        Ok((salvage, left))
    }

    /// Losses are exact for queues that were counted before the damage; not where a log was cut: what it had deleted is back, and hides as many of the rows
    /// that it had added. Says what is lost, at least.
    fn count_salvage(&mut self, salvage: &Salvage, left: &KnownStored, why: &str) -> Lost {
        let mut lost = salvage.lost;
        // It may have been ours before its pages went: nobody can say.
        lost.unknown |= why == "foreign" || self.opened.log_cut;
        if let Some(known) = &self.known {
            lost.rows = known.rows().saturating_sub(left.rows());
            lost.facts = known.facts.saturating_sub(left.facts);
            lost.unknown = self.opened.log_cut && (known.rows_since(left) > lost.rows || known.facts > 0);
        }
        let counters = &mut self.counters;
        for (counter, count) in [
            (&mut counters.rows_salvaged, salvage.rows),
            (&mut counters.rows_unowned, salvage.unowned),
            (&mut counters.facts_salvaged, salvage.facts),
            (&mut counters.rows_lost, lost.rows),
            (&mut counters.facts_lost, lost.facts),
            (&mut counters.words_lost, lost.words),
            (&mut counters.losses_unknown, u64::from(lost.unknown)),
        ] {
            *counter = counter.saturating_add(count);
        }
        lost
    }

    /// Looks whether the files are still where they belong, and acts when not. Writes nothing while they are.
    pub(in crate::store) fn watch(&mut self) {
        let Some(db) = &self.db else { return };
        let path = self.settings.path.clone();
        match db.files.standing(&path, db.pages_in_log()) {
            Standing::Well => self.look_again(),
            Standing::Cut => {
                self.counters.vanished = self.counters.vanished.saturating_add(1);
                self.meet(StoreFault::Corrupt, "the file was cut short while it was open".to_owned());
            }
            Standing::LogCut => self.leave_cut_log(),
            Standing::DatabaseGone(gone) => {
                let word = gone.word();
                self.vanish(&format!("the database file was {word} while it was open"));
                let Some((files, _)) = self.db.take().map(Db::close_but_hold) else { return };
                self.remains = Some(Remains { files, word });
            }
            Standing::LogGone(gone) => {
                let word = gone.word();
                self.vanish(&format!("the log of the database was {word} while it was open"));
                let Some((files, closed)) = self.db.take().map(Db::close_but_hold) else { return };
                // The log that was open is in the database then; one that lies in its place is another's.
                let log = aside::beside(&path, "-wal");
                let settled = closed.is_ok()
                    && aside::remove_companions(&path).is_ok()
                    && aside::Lock::take(&log).is_ok();
                if settled {
                    self.notice(true, &format!("lost its log, which was {word} while it was open: nothing that was stored is lost"));
                } else {
                    self.remains = Some(Remains { files, word });
                }
            }
        }
    }

    /// Looks whether the log is as long as what is in it. What is committed behind the end of one that was cut would leave a hole, and no cut to be seen.
    pub(in crate::store) fn watch_log(&mut self) {
        if self.db.as_ref().is_some_and(|db| db.files.log_is_cut(db.pages_in_log())) {
            self.leave_cut_log();
        }
    }

    /// Closes a database whose log was cut. Nothing is copied from it: half of a commit would get into the database.
    fn leave_cut_log(&mut self) {
        self.vanish("the log of the database was cut short while it was open");
        self.opened.log_cut = true;
        if let Some(db) = self.db.take() {
            db.leave();
        }
    }

    fn vanish(&mut self, text: &str) {
        self.counters.vanished = self.counters.vanished.saturating_add(1);
        self.remember();
        self.fault = Some((StoreFault::Io, text.to_owned()));
        self.reopen = true;
    }

    /// Puts a fresh database with all that was stored in the place of files that are gone, and whatever is there aside.
    fn rescue(&mut self) -> Result<(), (StoreFault, String)> {
        let Some(remains) = &self.remains else { return Ok(()) };
        let path = self.settings.path.clone();
        std::fs::create_dir_all(aside::folder(&path)).map_err(as_io_fault)?;
        let taken = path.exists();
        // Not from a gateway that has made a database of its own there meanwhile.
        let lock = taken.then(|| aside::Lock::take(&path)).transpose().map_err(as_io_fault)?;
        let (database, log) = remains.files.disks();
        let (salvage, left) = self.salvage(&database, &log).map_err(as_fault)?;
        aside::rename(&aside::beside(&path, ".building"), &aside::rescue_path(&path)).map_err(as_io_fault)?;
        let word = remains.word;
        self.remains = None;
        let lost = self.count_salvage(&salvage, &left, "gone");
        self.finish_replacing().map_err(as_io_fault)?;
        drop(lock);
        let place = self.aside.as_ref().filter(|_| taken);
        let place = place.map(|place| format!("; what was in its place is {}", place.display()));
        let what = summary(&salvage, lost);
        self.notice(true, &format!("was {word} while it was open: {what}{}", place.unwrap_or_default()));
        Ok(())
    }

    /// Puts a finished fresh database in place if the old one is gone.
    fn finish_replacing(&mut self) -> std::io::Result<()> {
        let path = &self.settings.path;
        let rescued = aside::rescue_path(path);
        if rescued.exists() {
            if path.exists() {
                self.aside = Some(aside::move_aside(path, "replaced")?);
                self.counters.moved_aside = self.counters.moved_aside.saturating_add(1);
            }
            aside::remove_companions(path)?;
            return aside::rename(&rescued, path);
        }
        let fresh = aside::salvage_path(path);
        if !fresh.exists() {
            return Ok(());
        }
        if path.exists() { aside::remove(&fresh) } else { aside::rename(&fresh, path) }
    }
}

/// What was saved and what was not, for a sentence.
fn summary(salvage: &Salvage, lost: Lost) -> String {
    let saved = format!("{} rows and {} facts were saved", salvage.rows, salvage.facts);
    let unowned = match salvage.unowned {
        0 => String::new(),
        rows => {
            format!(" ({rows} of these rows have lost the name of their queue: they are kept and not sent)")
        }
    };
    let lost = match (lost.rows, lost.facts, lost.unknown) {
        (0, 0, false) => "nothing is lost".to_owned(),
        (0, 0, true) => "how many are lost is unknown".to_owned(),
        (rows, facts, false) => format!("{rows} rows and {facts} facts are lost"),
        (rows, facts, true) => {
            format!("{rows} rows and {facts} facts are lost, and how many more is unknown")
        }
    };
    format!("{saved}{unowned}, {lost}")
}

fn as_fault(trouble: Trouble) -> (StoreFault, String) {
    (trouble.fault(), trouble.to_string())
}

fn as_io_fault(error: std::io::Error) -> (StoreFault, String) {
    as_fault(error.into())
}
