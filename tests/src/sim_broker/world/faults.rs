//! What goes wrong: cuts, crashes, a slow or failing disk, another database, an uplink that answers late or never.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::access::{Access, User};
use gateway_core::broker::settings::WhenFull;
use gateway_core::broker::{Broker, Limits, Mutant, Settings, TopicFilter};
use gateway_core::settings::ListenerSettings;
use gateway_core::tag::{BootId, Name, RunId};
use gateway_core::uplink::row::Qos;

use super::net::Who;
use super::store::Op;
use super::{Event, MS, S, World};
use crate::sim_broker::uplink::{FORWARD, Mood};

/// Rows of one session, and of all, where queues are small.
const TIGHT_ROWS: (u64, u64) = (25, 60);

impl World {
    pub(super) fn go_wrong(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.chance.around(4 * S);
        self.after(pause, Event::Fault);
        match self.chance.of(0..=24) {
            0..=9 => {
                let me = usize::try_from(self.chance.of(0..=5)).unwrap_or(0);
                self.cut(me);
            }
            10..=13 => self.crash(),
            14 => self.disk_delay = self.chance.of(1..=400) * MS,
            15 | 16 => self.disk_delay = 5 * MS,
            17 => self.turns_fail = true,
            18 | 19 => self.turns_fail = false,
            20 => self.after(0, Event::Reset { run: self.run }),
            _ => {
                let moods = [Mood::Prompt, Mood::Prompt, Mood::Late, Mood::Silent, Mood::Drops];
                self.oracle.uplink.mood = self.chance.pick(&moods);
            }
        }
    }

    /// The daemon is killed. The turn under way reached the disk or did not.
    fn crash(&mut self) {
        if self.broker.is_none() {
            return;
        }
        self.count_dropped();
        self.broker = None;
        self.report.crashes += 1;
        self.run += 1;
        self.epoch += 1;
        if let Some(Op::Turn(turn)) = self.ops.pop_front()
            && self.chance.one_in(2)
        {
            self.write(&turn);
        }
        self.ops.clear();
        self.answers.clear();
        (self.busy, self.timer, self.stepping) = (false, None, false);
        for (_, line) in std::mem::take(&mut self.lines) {
            match line.who {
                Who::Client(me) => self.clients[me].lost(&mut self.oracle),
                Who::Attacker(me) => self.attackers[me].conn = None,
            }
        }
        self.oracle.wills.crash();
        self.oracle.uplink.crash();
        if self.chance.one_in(3) {
            self.boot = (self.now, self.boot.1 + 1);
        }
        let delay = self.chance.around(2 * S);
        self.after(delay, Event::Start);
    }

    pub(super) fn start(&mut self) {
        let run = RunId { boot: BootId(self.boot.1), start_ms: self.run };
        let (rows, total) = if self.case.tight.is_some() { TIGHT_ROWS } else { (u64::MAX, u64::MAX) };
        let limits = Limits {
            commit_interval: Duration::from_secs(1),
            inflight_max: 8,
            stored_rows_max: rows,
            stored_rows_total_max: total,
            when_full: self.case.tight.unwrap_or(WhenFull::DropNewest),
            // With every other seed nearly everything is put down once.
            turn_work_max: if self.case.seed % 2 == 1 { 150 } else { Limits::default().turn_work_max },
            ..Limits::default()
        };
        let settings = Settings { listeners: listeners(), access: access(), limits, ..Settings::default() };
        let mutant: Option<Mutant> = self.case.mutant;
        let mut broker = Broker::with_mutant(self.boot_now(), settings, run, self.disk.found(), mutant);
        // One of a few fixed filters: it cannot be refused.
        let filter = TopicFilter::new(FORWARD).ok().map(|filter| (filter, Qos::AtLeastOnce));
        self.oracle.uplink.session = broker.open_bridge(filter).ok();
        self.broker = Some(broker);
        // The cloud's session sends again what was not acknowledged, in order.
        for number in self.oracle.uplink.unanswered() {
            self.send_down(number);
        }
    }
}

/// One for everybody, with a name or without.
fn listeners() -> Vec<ListenerSettings> {
    let name = Name::new("all").ok();
    let listener = |name| ListenerSettings {
        name,
        address: (std::net::Ipv4Addr::LOCALHOST, 1883).into(),
        websocket: None,
        origins: Vec::new(),
        hosts: Vec::new(),
        tls: None,
        anonymous: true,
    };
    name.map(listener).into_iter().collect()
}

/// A user for each honest client.
fn access() -> Access {
    let user =
        |me: usize| (Arc::from(format!("user-{me}")), User { hash: Some("hash".into()), rules: Vec::new() });
    Access { users: (0..6).map(user).collect(), ..Access::default() }
}
