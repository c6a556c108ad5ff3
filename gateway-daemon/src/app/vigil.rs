//! What the core loop looks at once a second besides its work: whether every room goes round, and what is wrong with the machine below.

use std::sync::Arc;

use gateway_core::broker::Gauges;
use gateway_core::tag::{BootNs, WallClock as _, WallMs};
use gateway_core::uplink::machine::State;
use gateway_core::uplink::queue::Ledger;

use super::drops::{self, Drops};
use super::gateway::Gateway;
use super::picture::words;
use super::progress::{ENDED_MAX, STORE_MAX, Sign};
use super::upstream::Upstream;
use super::{backlog, faults, survey};

impl Gateway {
    /// Feeds the watchdog if every room goes round; says whether. Otherwise systemd starts the gateway again, and the log has the name of the room.
    pub(super) fn feed(&mut self, now: BootNs) -> bool {
        let signs: Vec<Sign> = self.signs();
        match self.progress.look(now, signs) {
            None => {
                self.stuck = None;
                self.notify.progress();
                true
            }
            Some((room, silent)) => {
                if self.stuck.as_ref() != Some(&room) {
                    let silent_s = silent.as_secs();
                    log::error!(room = room.as_str(), silent_s, reason = "stuck"; "{room}: no progress for {silent_s} s; the watchdog is not fed any more, so that systemd starts the gateway again");
                    self.stuck = Some(room);
                }
                false
            }
        }
    }

    fn signs(&self) -> Vec<Sign> {
        let ended = |room: String, ended: bool| Sign { room, busy: ended, mark: 0, bound: ENDED_MAX };
        let pace = self.store.pace();
        let store = Sign { room: "store".into(), busy: pace.busy, mark: pace.rounds, bound: STORE_MAX };
        let uplinks = self.upstreams.iter().chain(&self.leaving);
        let uplinks =
            uplinks.map(|upstream| ended(format!("uplink {}", upstream.name), upstream.has_ended()));
        let local = ended("local broker".into(), self.local.has_ended());
        self.lines.signs().chain(uplinks).chain([store, local]).collect()
    }

    /// Tells the log which faults of the machine have come and gone.
    pub(super) fn observe_faults(&mut self) {
        let mut present = Arc::clone(&self.faults.borrow_and_update());
        if !self.own_faults.is_empty() {
            Arc::make_mut(&mut present).extend(self.own_faults.clone());
        }
        if present == self.known_faults {
            return;
        }
        let (come, gone) = faults::changes(&self.known_faults, &present);
        for (fault, text) in come {
            log::warn!(fault, reason = text; "fault {fault}: {text}");
        }
        for fault in gone {
            log::info!(fault; "fault {fault}: gone");
        }
        self.known_faults = present;
    }

    /// Tells the log which uplinks have begun to drop messages, and which have stopped.
    pub(super) fn observe_drops(&mut self, now: BootNs) {
        let since = self.moment(now);
        for upstream in self.upstreams.iter_mut().chain(&mut self.leaving) {
            // One that is about to go is not looked at again.
            let how = if upstream.left.is_some() { Drops::end } else { Drops::observe };
            tell_drops(upstream, now, &since, how);
        }
    }

    /// Tells the log what begins, and what was found of the run before.
    pub(super) fn tell_start(&self) {
        let (version, config) = (env!("CARGO_PKG_VERSION"), self.config.hash.as_str());
        let buses = words::counted(self.field.buses.len() as u64, "bus").replace("buss", "buses");
        let tags = words::counted(self.field.tags.len() as u64, "tag");
        let restored = restored(self.upstreams.iter().map(of_queue), &self.local.broker.gauges());
        log::info!(event = "start", version, config; "running: version {version}, configuration {config}, {buses}, {tags}; {restored}");
    }

    /// Tells the log which uplinks have sent what waited on disk.
    pub(super) fn observe_backlogs(&mut self, now: BootNs) {
        for upstream in &mut self.upstreams {
            let queue = upstream.uplink.queue();
            let ledger = queue.ledger();
            let seen = backlog::Seen {
                up_since: matches!(upstream.uplink.state(), State::Up { .. })
                    .then(|| upstream.uplink.link_since()),
                waiting: ledger.stored.rows.saturating_sub(queue.aside_total().rows),
                acknowledged: ledger.acknowledged.rows,
                dropped: ledger.dropped_total().rows,
            };
            if let Some(gone) = upstream.backlog.observe(now, seen) {
                backlog::log(upstream.name.as_str(), gone);
            }
        }
    }

    /// The gateway stops: what uplinks drop is told as far as it has come.
    pub(super) fn end_drops(&mut self, now: BootNs) {
        let since = self.moment(now);
        for upstream in self.upstreams.iter_mut().chain(&mut self.leaving) {
            tell_drops(upstream, now, &since, Drops::end);
        }
    }

    /// A moment as a person says it: with the wall time, if that is known.
    fn moment(&self, now: BootNs) -> String {
        match self.walls.boot_wall(self.run.boot) {
            Some(WallMs(began)) => {
                survey::iso(WallMs(began.saturating_add(i64::try_from(now.ms()).unwrap_or(i64::MAX))))
            }
            None => format!("{} after the boot", words::duration(now.ms())),
        }
    }
}

/// Name, restored messages and those of them that are set aside.
fn of_queue(upstream: &Upstream) -> (&str, u64, u64) {
    let queue = upstream.uplink.queue();
    (upstream.name.as_str(), queue.ledger().restored.rows, queue.aside_total().rows)
}

/// What was found of the run before, in words.
fn restored<'a>(queues: impl Iterator<Item = (&'a str, u64, u64)>, broker: &Gauges) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, rows, aside) in queues.filter(|(_, rows, aside)| rows + aside > 0) {
        let aside = if aside > 0 { format!(" ({aside} of them set aside)") } else { String::new() };
        parts.push(format!("{} of uplink {name}{aside}", words::counted(rows, "message")));
    }
    let counts = [
        (broker.stored_messages, "message", " for local clients"),
        (broker.retained_messages as u64, "retained message", ""),
    ];
    for (count, what, of) in counts.into_iter().filter(|(count, _, _)| *count > 0) {
        parts.push(format!("{}{of}", words::counted(count, what)));
    }
    if parts.is_empty() {
        "nothing had to be restored".to_owned()
    } else {
        format!("restored {}", parts.join(", "))
    }
}

fn tell_drops(
    upstream: &mut Upstream,
    now: BootNs,
    since: &str,
    look: fn(&mut Drops, BootNs, &Ledger) -> Vec<drops::Change>,
) {
    let queue = upstream.uplink.queue();
    for change in look(&mut upstream.drops, now, queue.ledger()) {
        drops::log(upstream.name.as_str(), queue.limits(), since, change);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use gateway_config::{Environment, parse};
    use gateway_core::uplink::row::{QueueId, Seq, StoreOp};

    use super::*;

    async fn gateway(folder: &Path) -> Gateway {
        let place = folder.display();
        let text = format!(
            "[gateway]\nid = \"gw\"\nsocket = \"{place}/c.sock\"\n[store]\npath = \"{place}/q.db\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1\"\n"
        );
        let (config, _) = parse(&text, "a.toml", folder, &Environment::default()).unwrap();
        Gateway::start(config).await.unwrap()
    }

    /// Looks once a second for so long, from `from` on; the seconds in which the watchdog was fed.
    fn fed(gateway: &mut Gateway, seconds: std::ops::Range<u64>) -> u64 {
        seconds.filter(|second| gateway.feed(BootNs(second * 1_000_000_000))).count() as u64
    }

    #[test]
    fn a_restart_says_what_was_restored() {
        let none = Gauges::default();
        assert_eq!(restored([("cloud", 0, 0)].into_iter(), &none), "nothing had to be restored");
        let broker = Gauges { stored_messages: 1, retained_messages: 12, ..none };
        assert_eq!(
            restored([("cloud", 1387, 3), ("office", 0, 0), ("other", 1, 0)].into_iter(), &broker),
            "restored 1 387 messages of uplink cloud (3 of them set aside), 1 message of uplink other, 1 message for local clients, 12 retained messages"
        );
    }

    #[tokio::test]
    async fn a_store_whose_writer_is_blocked_stops_the_feed_and_one_that_goes_on_is_fed_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = gateway(folder.path()).await;
        assert_eq!(fed(&mut gateway, 0..5000), 5000, "nothing is asked of the store");
        let release = gateway.store.hold().await;
        let store = Arc::clone(&gateway.store);
        let fetch = StoreOp::Fetch { op: 1, after: Seq(0), until: Seq(9), rows_max: 1, bytes_max: 100 };
        let waits = tokio::spawn(async move { store.apply(QueueId(0), fetch).await });
        while !gateway.store.pace().busy {
            tokio::task::yield_now().await;
        }
        let fed_before = fed(&mut gateway, 5000..7000);
        // A round that was not over when the writer was held may end after the first look.
        assert!((900..=901).contains(&fed_before), "fed until the bound and not longer: {fed_before}");
        assert_eq!(gateway.stuck.as_deref(), Some("store"));
        drop(release);
        waits.await.unwrap();
        assert_eq!(fed(&mut gateway, 7000..7100), 100);
        assert_eq!(gateway.stuck, None);
    }

    #[tokio::test]
    async fn a_link_task_that_ends_without_a_word_stops_the_feed() {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = gateway(folder.path()).await;
        gateway.upstreams[0].uplink.start(BootNs(0));
        gateway.upstreams[0].uplink.timeout(BootNs(0).plus(Duration::from_secs(3600)));
        gateway.settle(BootNs(0).plus(Duration::from_secs(3600)));
        assert!(!gateway.upstreams[0].has_ended());
        // Its word of the end is never heard.
        gateway.upstreams[0].break_link();
        while !gateway.upstreams[0].has_ended() {
            tokio::task::yield_now().await;
        }
        assert_eq!(fed(&mut gateway, 4000..4100), 61);
        assert_eq!(gateway.stuck.as_deref(), Some("uplink cloud"));
    }
}
