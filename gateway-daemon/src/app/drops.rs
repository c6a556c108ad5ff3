//! Queues of uplinks that drop messages, for the log: a line when it begins and a line when it has stopped, for each reason by itself.
//!
//! Looks at what the ledger has counted, once a tick. A full queue drops in bursts, because a trim frees a little more than it must: it has stopped when
//! nothing was dropped for [`QUIET`]. So there are two lines in that time at most, however much is dropped. Bounds: one episode for each of [`WATCHED`].

use std::time::Duration;

use gateway_core::tag::BootNs;
use gateway_core::uplink::queue::{DropReason, Ledger};
use gateway_core::uplink::row::Tally;
use gateway_core::uplink::settings::{Limits, WhenFull};

use super::picture::words;

/// How long nothing was dropped when it has stopped.
const QUIET: Duration = Duration::from_secs(60);

/// What limits drop. What else is dropped has a line of its own where it happens.
const WATCHED: [DropReason; 6] = [
    DropReason::Oldest,
    DropReason::Newest,
    DropReason::Thinned,
    DropReason::Expired,
    DropReason::MemoryFull,
    DropReason::Oversize,
];

/// What happened to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It drops messages.
    Began(DropReason),
    /// It does not any more.
    Stopped {
        /// Why it did.
        reason: DropReason,
        /// What it has dropped since that began.
        dropped: Tally,
        /// From the first to the last.
        within: Duration,
    },
}

/// An episode: when it was seen to begin and to go on last, and what was dropped before it.
#[derive(Debug, Clone, Copy)]
struct Episode {
    since: BootNs,
    last: BootNs,
    before: Tally,
}

/// What one queue drops, as far as was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Drops {
    seen: [Tally; WATCHED.len()],
    episodes: [Option<Episode>; WATCHED.len()],
}

impl Drops {
    /// Takes a look at the counts: what has changed since the last one.
    pub(super) fn observe(&mut self, now: BootNs, ledger: &Ledger) -> Vec<Change> {
        self.look(now, |reason| ledger.dropped(reason))
    }

    /// What it drops at present, and since when; of several reasons the first of [`WATCHED`].
    pub(super) fn going_on(&self) -> Option<(DropReason, BootNs)> {
        WATCHED
            .into_iter()
            .zip(&self.episodes)
            .find_map(|(reason, episode)| Some((reason, (*episode)?.since)))
    }

    /// Nobody looks any more: what has not stopped yet is told as it is.
    pub(super) fn end(&mut self, now: BootNs, ledger: &Ledger) -> Vec<Change> {
        let mut changes = self.observe(now, ledger);
        changes.extend(self.give_up());
        changes
    }

    fn look(&mut self, now: BootNs, dropped: impl Fn(DropReason) -> Tally) -> Vec<Change> {
        let mut changes = Vec::new();
        for (place, reason) in WATCHED.into_iter().enumerate() {
            let count = dropped(reason);
            let before = std::mem::replace(&mut self.seen[place], count);
            let episode = &mut self.episodes[place];
            match episode {
                Some(known) if count.rows > before.rows => known.last = now,
                Some(known) if now.since(known.last) >= QUIET => {
                    changes.push(stopped(reason, known, count));
                    *episode = None;
                }
                None if count.rows > before.rows => {
                    *episode = Some(Episode { since: now, last: now, before });
                    changes.push(Change::Began(reason));
                }
                _ => {}
            }
        }
        changes
    }

    fn give_up(&mut self) -> Vec<Change> {
        let told = WATCHED.into_iter().enumerate().filter_map(|(place, reason)| {
            Some(stopped(reason, &self.episodes[place].take()?, self.seen[place]))
        });
        told.collect()
    }
}

fn stopped(reason: DropReason, episode: &Episode, count: Tally) -> Change {
    let mut dropped = count;
    dropped.take(episode.before);
    Change::Stopped { reason, dropped, within: episode.last.since(episode.since) }
}

/// What a reason means for a person.
fn why(reason: DropReason, limits: &Limits) -> String {
    match reason {
        DropReason::Expired => {
            return "they are older than `age_max` of its queue, or than their publishers allow".to_owned();
        }
        DropReason::MemoryFull => {
            return "the store takes nothing, and there is no more room in memory".to_owned();
        }
        DropReason::Oversize => {
            return "they are larger than its queue, or than the largest packet".to_owned();
        }
        _ => {}
    }
    let policy = match (limits.when_full, reason) {
        (WhenFull::DropNewest, _) => "when_full = \"drop-newest\" drops what arrives",
        (WhenFull::DropOldest, _) => "when_full = \"drop-oldest\" drops the oldest",
        (WhenFull::ThinOut { .. }, DropReason::Thinned) => "when_full = \"thin-out\" thins readings out",
        (WhenFull::ThinOut { .. }, _) => "when_full = \"thin-out\" is not enough and drops the oldest",
    };
    let (rows, bytes) = (words::count(limits.rows_max), words::bytes(limits.bytes_max));
    format!("its queue is full ({rows} messages or {bytes}) and {policy}")
}

/// Puts a change into the log. `since` is the present moment as a person says it.
pub(super) fn log(uplink: &str, limits: &Limits, since: &str, change: Change) {
    match change {
        Change::Began(reason) => {
            let (word, why) = (reason.word(), why(reason, limits));
            log::warn!(
                uplink, reason = word, since;
                "uplink {uplink}: drops messages since {since} ({word}): {why}; `gateway-daemon status` counts them"
            );
        }
        Change::Stopped { reason, dropped, within } => {
            let (word, rows, readings) = (reason.word(), dropped.rows, dropped.readings);
            let time = words::duration(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
            log::info!(
                uplink, reason = word, messages = rows, readings, within_s = within.as_secs();
                "uplink {uplink}: has stopped dropping messages: {rows} with {readings} readings went within {time} ({word})"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    fn rows(rows: u64) -> Tally {
        Tally { rows, readings: 2 * rows, bytes: 100 * rows }
    }

    /// So many of one reason, none of others.
    fn only(reason: DropReason, count: u64) -> impl Fn(DropReason) -> Tally {
        move |asked| if asked == reason { rows(count) } else { Tally::default() }
    }

    #[test]
    fn the_beginning_is_told_once_and_the_end_with_the_count() {
        let mut drops = Drops::default();
        assert_eq!(drops.look(at(0), only(DropReason::Oldest, 0)), []);
        assert_eq!(drops.look(at(10), only(DropReason::Oldest, 1)), [Change::Began(DropReason::Oldest)]);
        for second in 11..100 {
            // In bursts with pauses of half a minute.
            let changes = drops.look(at(second), only(DropReason::Oldest, 1 + second / 30));
            assert_eq!(changes, [], "{second}");
        }
        for second in 100..150 {
            assert_eq!(drops.look(at(second), only(DropReason::Oldest, 4)), [], "{second}");
        }
        let stopped =
            Change::Stopped { reason: DropReason::Oldest, dropped: rows(4), within: Duration::from_secs(80) };
        assert_eq!(drops.look(at(150), only(DropReason::Oldest, 4)), [stopped]);
        assert_eq!(drops.look(at(500), only(DropReason::Oldest, 4)), []);
        assert_eq!(drops.look(at(501), only(DropReason::Oldest, 6)), [Change::Began(DropReason::Oldest)]);
        let again = Change::Stopped { reason: DropReason::Oldest, dropped: rows(2), within: Duration::ZERO };
        assert_eq!(drops.look(at(561), only(DropReason::Oldest, 6)), [again]);
    }

    #[test]
    fn each_reason_is_told_by_itself_and_what_has_no_limit_here_is_left_to_others() {
        let mut drops = Drops::default();
        let changes = drops.look(at(1), |_| rows(1));
        assert_eq!(changes, WATCHED.map(Change::Began));
        assert_eq!(Drops::default().look(at(1), only(DropReason::Unreadable, 7)), []);
    }

    #[test]
    fn what_goes_on_at_the_stop_is_told_with_its_count() {
        let mut drops = Drops::default();
        drops.look(at(1), only(DropReason::Newest, 1));
        let stopped =
            Change::Stopped { reason: DropReason::Newest, dropped: rows(3), within: Duration::from_secs(1) };
        assert_eq!(drops.look(at(2), only(DropReason::Newest, 3)), []);
        assert_eq!(drops.give_up(), [stopped]);
        assert_eq!(drops.end(at(3), &Ledger::default()), []);
    }
}
