//! A database that cannot be used: salvaged into a fresh one beside it, moved aside, replaced.

use std::sync::Arc;

use gateway_core::uplink::row::StoreFault;

use super::Engine;
use crate::store::aside;
use crate::store::db::{Db, Unusable};
use crate::store::fault::Trouble;
use crate::store::salvage::{self, Lost, Salvage};

impl Engine {
    /// Opens the database; one that cannot be used is replaced by a fresh one with what is whole of it.
    pub(super) fn open_or_replace(&mut self) -> Result<Db, (StoreFault, String)> {
        let path = self.settings.path.clone();
        self.finish_replacing().map_err(|error| as_fault(error.into()))?;
        let (why, text, ours) = match Db::open(&path, self.settings.file_bytes_max) {
            Ok(db) => return Ok(db),
            Err(Unusable::Fault(fault, text)) => return Err((fault, text)),
            Err(Unusable::Damaged(text)) => ("damaged", text, true),
            Err(Unusable::Newer(version)) => ("newer", format!("format version {version}"), true),
            Err(Unusable::Foreign(text)) => ("foreign", text, false),
        };
        log::error!(path:% = path.display(), why = text.as_str(); "the queue database is {why}: it is replaced");
        // Held until the fresh database is in place, so that no other process touches the file; another one holding it was told above.
        let _lock = aside::Lock::take(&path).map_err(|error| as_fault(error.into()))?;
        if ours {
            self.salvage(why == "damaged").map_err(as_fault)?;
        } else {
            // It may have been ours before its first page went: nobody can say.
            self.counters.losses_unknown = self.counters.losses_unknown.saturating_add(1);
        }
        let place = aside::move_aside(&path, why).map_err(|error| as_fault(error.into()))?;
        self.counters.moved_aside = self.counters.moved_aside.saturating_add(1);
        log::warn!(place:% = place.display(); "the old database was moved aside");
        self.aside = Some(place);
        self.finish_replacing().map_err(|error| as_fault(error.into()))?;
        Db::open(&path, self.settings.file_bytes_max).map_err(|unusable| match unusable {
            Unusable::Fault(fault, text) => (fault, text),
            other => (StoreFault::Corrupt, format!("the fresh database cannot be used: {other:?}")),
        })
    }

    /// Copies what is whole of the database in place into a fresh one beside it.
    fn salvage(&mut self, damaged: bool) -> Result<(), Trouble> {
        let path = &self.settings.path.clone();
        let building = aside::beside(path, ".building");
        aside::remove(&building)?;
        let fresh = Db::open(&building, self.settings.file_bytes_max);
        let mut fresh = fresh.map_err(|unusable| Trouble::Disk(StoreFault::Io, format!("{unusable:?}")))?;
        let known = self.known.iter().flat_map(|known| &known.queues);
        let names = known.filter_map(|(name, (key, _))| Some(((*key)?, Arc::clone(name)))).collect();
        fresh.begin_bulk()?;
        let salvage = match salvage::salvage(path, &mut fresh, &names) {
            Ok(salvage) => salvage,
            Err(trouble) => {
                drop(fresh);
                // Room for others; the damaged database stays and is tried again.
                aside::remove(&building)?;
                return Err(trouble);
            }
        };
        self.count_salvage(salvage, &fresh, damaged);
        fresh.end_bulk()?;
        fresh.close()?;
        // The log is empty; it must not be found beside a database it does not belong to.
        aside::rename(&building, &aside::salvage_path(path))?;
        Ok(())
    }

    /// Losses are exact for queues that were counted before the damage.
    fn count_salvage(&mut self, salvage: Salvage, fresh: &Db, damaged: bool) {
        let lost = match &self.known {
            Some(known) => {
                let rows: u64 = known.queues.values().map(|(_, rows)| *rows).sum();
                Lost {
                    rows: rows.saturating_sub(fresh.rows()),
                    facts: known.facts.saturating_sub(fresh.facts.len()),
                }
            }
            None => salvage.lost,
        };
        let unknown = self.known.is_none() && damaged;
        let counters = &mut self.counters;
        for (counter, count) in [
            (&mut counters.rows_salvaged, salvage.rows),
            (&mut counters.facts_salvaged, salvage.facts),
            (&mut counters.rows_lost, lost.rows),
            (&mut counters.facts_lost, lost.facts),
            (&mut counters.losses_unknown, u64::from(unknown)),
        ] {
            *counter = counter.saturating_add(count);
        }
        log::error!(rows = salvage.rows, facts = salvage.facts, rows_lost = lost.rows, facts_lost = lost.facts, more_may_be_lost = unknown; "rows and facts were copied out of a damaged database");
    }

    /// Puts a finished fresh database in place if the old one is gone.
    fn finish_replacing(&self) -> std::io::Result<()> {
        let fresh = aside::salvage_path(&self.settings.path);
        if !fresh.exists() {
            return Ok(());
        }
        if self.settings.path.exists() {
            aside::remove(&fresh)
        } else {
            aside::rename(&fresh, &self.settings.path)
        }
    }
}

fn as_fault(trouble: Trouble) -> (StoreFault, String) {
    (trouble.fault(), trouble.to_string())
}
