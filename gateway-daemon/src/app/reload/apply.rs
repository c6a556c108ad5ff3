//! Puts a prepared configuration in force, within one round of the core loop.
//!
//! In this order: what can still be refused; the buses that end, and what they have read under the former configuration; the field; the uplinks; the local
//! broker. What stays the same is not touched: its tasks, connections, counters and schedules go on.

use std::sync::Arc;

use drivers::clock;
use gateway_config::{Config, Problem};
use gateway_core::settings::LinkSettings;
use gateway_core::tag::BootNs;
use gateway_core::uplink::Uplink;
use gateway_core::uplink::settings::Settings;

use super::delta::{Changed, Course, Delta};
use super::prepare::{Bridge, Prepared};
use super::{RETIRED_MAX, Refusal, told};
use crate::app::fitting;
use crate::app::gateway::{Gateway, STOP_MAX};
use crate::app::picture::words;
use crate::app::start::{jitter_seed, open_bridge};
use crate::app::upstream::{self, UplinkId, Upstream};

impl Gateway {
    /// Puts a configuration in force; its warnings come back, and what it changes.
    ///
    /// # Errors
    /// Why it cannot; nothing has changed then.
    pub(super) async fn apply(&mut self, prepared: Prepared) -> Result<(Vec<Problem>, String), Refusal> {
        let Prepared { mut config, warnings, delta, encoder, mut bridges } = prepared;
        self.keep_what_is_queued(&mut config, &delta);
        // Whatever was decided so far leaves under the rules under which it was decided.
        self.settle(clock::now());
        if self.reload.retired.len() + delta.gone.len() > RETIRED_MAX {
            return Err(Refusal::Retired);
        }
        if !self.known.has_room(&encoder) {
            return Err(Refusal::Schemas);
        }
        self.open_sessions(&config, &delta, &mut bridges)?;
        self.lines.stop(|index| delta.ended.contains(&index)).await;
        while let Ok(cycle) = self.cycles.try_recv() {
            self.cycle(cycle);
        }
        let now = clock::now();
        self.settle(now);
        let changes = told::sentence(&self.config, &config);
        say(&self.config, &config, &delta);
        self.replace_field(now, &config, &delta);
        self.encoder = encoder.counting_from(self.encoder.counters());
        self.known.learn(&self.encoder);
        self.replace_uplinks(now, &config, &delta, bridges);
        upstream::reserve_own(&mut self.local.broker, &mut self.upstreams, &config, &self.encoder);
        if let (true, Some(broker)) = (delta.access, &config.broker) {
            self.local.broker.replace_access(now, broker.access.clone());
        }
        self.telling.replace(&config, &self.encoder);
        // The file was mended.
        self.own_faults.remove(fitting::FAULT);
        self.certificates.replace(&config);
        self.config = config;
        self.settle(now);
        Ok((warnings, changes))
    }

    /// An uplink whose share of the database becomes smaller because another one came keeps what it holds; a limit of the file is a limit.
    fn keep_what_is_queued(&self, config: &mut Config, delta: &Delta) {
        for (((settings, _), share), course) in
            config.uplinks.iter_mut().zip(&config.plan.uplinks).zip(&delta.uplinks)
        {
            let (Course::Change(Changed { from, .. }) | Course::Keep(from)) = course else { continue };
            if let (false, Some(running)) = (share.said, self.upstreams.get(*from)) {
                let before = self.config.uplinks[*from].0.limits.bytes_max;
                let held = running.uplink.queue().ledger().kept().bytes;
                settings.limits.bytes_max = settings.limits.bytes_max.max(held.min(before));
            }
        }
    }

    /// Sessions of the broker for the uplinks that want others than they have.
    fn open_sessions(
        &mut self,
        config: &Config,
        delta: &Delta,
        bridges: &mut [Bridge],
    ) -> Result<(), Refusal> {
        for index in 0..bridges.len() {
            let wanted =
                matches!(delta.uplinks[index], Course::Open | Course::Change(Changed { forward: true, .. }));
            if !wanted {
                continue;
            }
            match open_bridge(&mut self.local, &config.uplinks[index].0, &bridges[index].up) {
                Ok(session) => bridges[index].session = Some(session),
                Err(fault) => {
                    for session in bridges.iter().filter_map(|bridge| bridge.session) {
                        self.local.broker.close_bridge(session);
                    }
                    return Err(fault.into());
                }
            }
        }
        Ok(())
    }

    fn replace_field(&mut self, now: BootNs, config: &Config, delta: &Delta) {
        self.processor = self.processor.succeed(&self.field, &config.field, !delta.message, now);
        self.field = Arc::new(config.field.clone());
        // Tags have other numbers; requests under way keep the former ones.
        self.last_writes = Arc::default();
        self.lines.replace(&self.field, &delta.kept);
    }

    fn replace_uplinks(&mut self, now: BootNs, config: &Config, delta: &Delta, bridges: Vec<Bridge>) {
        let mut former: Vec<Option<Upstream>> =
            std::mem::take(&mut self.upstreams).into_iter().map(Some).collect();
        let mut take = |from: usize| former.get_mut(from).and_then(Option::take);
        for ((uplink, course), bridge) in config.uplinks.iter().zip(&delta.uplinks).zip(bridges) {
            let upstream = match *course {
                Course::Keep(from) => take(from),
                Course::Change(changed) => {
                    let upstream = take(changed.from);
                    upstream.map(|upstream| self.change_uplink(now, upstream, uplink, changed, bridge))
                }
                Course::Open => self.open_uplink(now, config, uplink, bridge),
            };
            if let Some(mut upstream) = upstream {
                let identity = self.identity_for(config, upstream.name.as_str());
                upstream.uplink.replace_identity(identity);
                self.upstreams.push(upstream);
            }
        }
        for mut upstream in former.into_iter().flatten() {
            self.local.broker.close_bridge(upstream.session);
            upstream.uplink.stop(now, now.plus(STOP_MAX));
            self.leaving.push(upstream);
        }
        upstream::introduce(&mut self.upstreams, config.update.as_ref());
    }

    fn change_uplink(
        &mut self,
        now: BootNs,
        mut upstream: Upstream,
        (settings, link): &(Settings, LinkSettings),
        changed: Changed,
        bridge: Bridge,
    ) -> Upstream {
        if let Some(session) = bridge.session {
            let before = upstream.replace_up(session, bridge.up);
            self.local.broker.close_bridge(before);
        }
        upstream.replace_down(bridge.down);
        upstream.uplink.replace_settings(now, settings.clone());
        if changed.reconnect {
            upstream.reconnect(now, link.clone());
        }
        upstream
    }

    /// `None` is never: whoever is to be opened was given a queue and a session.
    fn open_uplink(
        &mut self,
        now: BootNs,
        config: &Config,
        (settings, link): &(Settings, LinkSettings),
        bridge: Bridge,
    ) -> Option<Upstream> {
        let (queue, stored) = bridge.queue?;
        let mut uplink = Uplink::new(
            settings.clone(),
            self.identity_for(config, settings.name.as_str()),
            stored,
            jitter_seed(),
        );
        uplink.restore_aside(&bridge.aside);
        let id = UplinkId(self.reload.next_uplink);
        self.reload.next_uplink += 1;
        let machine = (id, settings.name.clone(), uplink);
        let place = (Arc::clone(&self.store), queue);
        let rules = (bridge.session?, bridge.up, bridge.down);
        let mut upstream = Upstream::new(machine, link.clone(), rules, place, self.happened.clone());
        if let Some(next) = self.reload.retired.remove(&settings.name) {
            upstream.uplink.continue_at(next);
        }
        self.walls.tell(self.run.boot, upstream.uplink.queue_mut());
        upstream.uplink.start(now);
        Some(upstream)
    }

    /// Parts from uplinks that have nothing left to do.
    pub(in super::super) fn part_from_leaving(&mut self) {
        for mut upstream in self.leaving.extract_if(.., |upstream| upstream.left.is_some()) {
            let (name, stored) = (upstream.name.to_string(), upstream.uplink.queue().ledger().stored.rows);
            let left = upstream.left.map_or(0, |left| left.rows);
            if left > 0 {
                log::error!(uplink = name.as_str(), rows = left, reason = "stopped"; "uplink {name}: gone; {} lost: only in memory at the end", words::counted(left, "message"));
            }
            log::info!(uplink = name.as_str(), rows = stored; "uplink {name}: gone; {} in the database until an uplink of this name is there again", words::counted(stored, "message"));
            self.reload.retired.insert(upstream.name.clone(), upstream.uplink.queue().next_seq());
            // Waits for the goodbye, within the limits of the link.
            tokio::spawn(async move { upstream.left_link().await });
        }
    }
}

/// Tells the log what changes.
fn say(before: &Config, after: &Config, delta: &Delta) {
    let field = |config: &Config, index: usize| config.field.buses[index].name.to_string();
    for (index, _) in delta.kept.iter().enumerate().filter(|(_, kept)| kept.is_none()) {
        let name = field(after, index);
        log::info!(event = "reload", bus = name.as_str(); "bus {name}: started with its changed settings");
    }
    for index in &delta.ended {
        let name = field(before, *index);
        if !after.field.buses.iter().any(|bus| bus.name.as_str() == name) {
            log::info!(event = "reload", bus = name.as_str(); "bus {name}: not configured any more");
        }
    }
    for ((settings, _), course) in after.uplinks.iter().zip(&delta.uplinks) {
        let name = settings.name.as_str();
        match course {
            Course::Keep(_) => {}
            Course::Open => log::info!(event = "reload", uplink = name; "uplink {name}: opened"),
            Course::Change(Changed { reconnect: true, .. }) => {
                log::info!(event = "reload", uplink = name; "uplink {name}: connects anew with its changed settings");
            }
            Course::Change(_) => {
                log::info!(event = "reload", uplink = name; "uplink {name}: has changed settings")
            }
        }
    }
    for index in &delta.gone {
        let name = before.uplinks[*index].0.name.as_str();
        log::info!(event = "reload", uplink = name; "uplink {name}: not configured any more");
    }
}
