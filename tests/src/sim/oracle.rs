//! What the design promises, checked after every step from the outside: by what reaches the disk and the cloud, not by what the
//! machine believes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use gateway_core::settings::Durability;
use gateway_core::tag::{BootNs, RunId};
use gateway_core::uplink::machine::State;
use gateway_core::uplink::pace::Pace;
use gateway_core::uplink::queue::{ASIDE_ROWS_MAX, DropReason, FETCH_ROWS_MAX, Fate, Lane, Receipt};
use gateway_core::uplink::row::{Mark, Qos, Row, Seq, StoreOp};
use gateway_core::uplink::settings::{Drain, WhenFull};
use gateway_core::uplink::{Action, Uplink};

use super::disk::{Disk, Effect};
use super::facts::{ACKED, ASIDE, DROPPED, Facts, HOSTILE, LOST, RECEIVED, REFUSED, STORE_LOST, TOLD};
use super::pace::{BackoffModel, LiveWatch, ns};
use super::plan::{MS, Plan, S};

/// On a healthy and fast line every acknowledgement is back by then.
const FORGOTTEN_AFTER: u64 = S;

/// A broken promise, in words.
pub type Verdict = Result<(), String>;

/// What the oracle saw go out on the current connection.
#[derive(Debug, Clone)]
struct Out {
    row: Option<Arc<Row>>,
    sent: u64,
    live: bool,
}

/// Everything the oracle knows.
#[derive(Debug)]
pub struct Oracle {
    /// Rows.
    pub facts: Facts,
    /// Pauses.
    pub backoff: BackoffModel,
    /// Live rows.
    pub live: LiveWatch,
    /// Drops that this run of the gateway has to have counted, by policy.
    dropped: u64,
    /// On the current connection, by token.
    out: BTreeMap<u64, Out>,
    in_flight: HashMap<(RunId, Seq), u64>,
    last: BTreeMap<Lane, Seq>,
    /// Rows of this run whose publishers are held up and have not been told yet.
    urgent: BTreeSet<Seq>,
    /// Refused in this run.
    refused: HashSet<(RunId, Seq)>,
    progress: u64,
    /// How fast the cloud answers rows in this run.
    pace: Pace,
    /// Virtual time of the boot.
    boot: u64,
    publishes: u64,
    /// The store was replaced in this run: how many rows it holds is known only once all are loaded.
    pub replaced: bool,
    /// Rows lost with it in this run.
    store_lost: u64,
    /// Store ops asked for, ever.
    pub ops: u64,
    /// Rows received by the cloud for the first time.
    pub received: u64,
    /// Rows received again.
    pub repeated: u64,
    /// Rows set aside.
    pub asides: u64,
    /// As many as may be set aside were: the oldest are deleted.
    aside_full: bool,
}

macro_rules! promise {
    ($right:expr, $($words:tt)*) => {
        if !$right {
            return Err(format!($($words)*));
        }
    };
}

impl Oracle {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            facts: Facts::default(),
            backoff: BackoffModel::new(&plan.settings),
            live: LiveWatch::default(),
            dropped: 0,
            out: BTreeMap::new(),
            in_flight: HashMap::new(),
            last: BTreeMap::new(),
            urgent: BTreeSet::new(),
            refused: HashSet::new(),
            progress: 0,
            pace: Pace::default(),
            boot: 0,
            publishes: 0,
            replaced: false,
            store_lost: 0,
            ops: 0,
            received: 0,
            repeated: 0,
            asides: 0,
            aside_full: false,
        }
    }

    /// A run of the gateway begins: it knows of what was set aside as much as the disk does.
    pub fn begin(&mut self, run: RunId, first: Seq, disk: &Disk) {
        if self.asides > 0 {
            self.facts.forget_aside(|seq| disk.is_marked(seq));
        }
        self.facts.begin(run, first);
        self.backoff.restart();
        self.dropped = 0;
        self.replaced = false;
        self.store_lost = 0;
        self.refused.clear();
        self.urgent.clear();
        self.pace = Pace::default();
        self.link_gone();
    }

    /// A message was published.
    pub fn produced(&mut self, now: u64, seq: Seq, urgent: bool, hostile: bool) -> Verdict {
        if urgent {
            self.urgent.insert(seq);
        }
        let run = self.facts.current().ok_or("no run")?;
        promise!(run.seq(run.facts.len()) == seq, "seq {} is not the next one", seq.0);
        let bits = if hostile { HOSTILE } else { 0 };
        run.facts.push(super::facts::Fact { at: now, bits });
        Ok(())
    }

    /// A row is set aside.
    pub fn set_aside(&mut self, mark: &Mark, uplink: &Uplink) -> Verdict {
        let seq = mark.seq.0;
        let fact = self.facts.of_run(mark.run, mark.seq).ok_or("set aside a row that never was")?;
        promise!(fact.bits & HOSTILE != 0, "row {seq} is set aside although the cloud takes it");
        promise!(fact.bits & ACKED == 0, "row {seq} is set aside although it was acknowledged");
        fact.bits |= ASIDE;
        self.asides += 1;
        let queue = uplink.queue();
        self.aside_full |= queue.aside_total().rows == ASIDE_ROWS_MAX as u64;
        let kept = queue.aside().any(|mark| mark.seq.0 == seq) || self.aside_full;
        promise!(kept, "row {seq} is not kept although it is only set aside");
        Ok(())
    }

    /// A publisher is told what became of its message.
    pub fn receipt(&mut self, receipt: Receipt, disk: &Disk) -> Verdict {
        let run = self.facts.current().ok_or("no run")?;
        let id = run.id();
        let fact = run.get(receipt.seq).ok_or("a receipt for nothing")?;
        promise!(fact.bits & TOLD == 0, "a second receipt for {}", receipt.seq.0);
        fact.bits |= TOLD;
        self.urgent.remove(&receipt.seq);
        match receipt.fate {
            Fate::Safe => {
                let durable = disk.get(receipt.seq).is_some_and(|row| row.run == id);
                let safe = durable || fact.bits & (ACKED | DROPPED | STORE_LOST) != 0;
                promise!(
                    safe,
                    "row {} is called safe and is neither on disk nor acknowledged",
                    receipt.seq.0
                );
            }
            Fate::Dropped(reason) => {
                let aside = fact.bits & ASIDE != 0;
                promise!(
                    reason != DropReason::RefusedByCloud || aside,
                    "row {} is called refused by the cloud and was never set aside",
                    receipt.seq.0
                );
                fact.bits |= DROPPED;
                // What is deleted because too much is set aside is counted as refused, by no policy of the queue.
                self.dropped +=
                    u64::from(!matches!(reason, DropReason::Expired | DropReason::RefusedByCloud));
                self.live.left(receipt.seq);
            }
        }
        Ok(())
    }

    /// The queue asks for an op: is it needed?
    pub fn asked(
        &mut self,
        boot_now: u64,
        op: &StoreOp,
        uplink: &Uplink,
        plan: &Plan,
        stopping: bool,
    ) -> Verdict {
        self.ops += 1;
        let queue = uplink.queue();
        let memory = queue.ledger().in_memory;
        match op {
            StoreOp::Commit { rows, acked, .. } => {
                promise!(!rows.is_empty() || !acked.is_empty(), "a commit of nothing");
                let Some(oldest) = queue.oldest_in_memory().filter(|_| !rows.is_empty()) else {
                    return Ok(());
                };
                let due = boot_now >= oldest.0 + ns(plan.settings.commit_interval);
                let pressed =
                    memory.rows > plan.memory.rows_max / 2 || memory.bytes > plan.memory.bytes_max / 2;
                if pressed {
                    // More than memory may hold: they go to disk and wait behind the backlog.
                    rows.iter().for_each(|row| self.live.left(row.seq));
                }
                let strict = plan.settings.durability == Durability::Strict;
                let ahead = queue.ledger().stored.rows > 0;
                let hopeless = !flows(uplink, plan, ahead)
                    || self.is_slow(self.boot.wrapping_add(boot_now), uplink, plan);
                let urgent = !self.urgent.is_empty() && hopeless;
                let aside = queue.aside_total().rows > 0;
                promise!(
                    due || pressed || strict || stopping || urgent || aside,
                    "a commit before it is due wears the card"
                );
            }
            StoreOp::Fetch { .. } => {
                promise!(queue.ledger().stored.rows > 0, "a fetch although nothing is stored");
            }
            StoreOp::Trim { .. } | StoreOp::Replace { .. } | StoreOp::Mark { .. } => {}
        }
        Ok(())
    }

    /// The disk has carried an op out.
    pub fn carried_out(&mut self, boot_now: u64, op: &StoreOp, effect: &Effect, plan: &Plan) -> Verdict {
        for row in &effect.settled {
            let limit = expiry(row, plan);
            let other_boot = self.facts.current().is_none_or(|run| run.id().boot != row.run.boot);
            let expired = other_boot || boot_now >= row.at.0.saturating_add(limit);
            let fact = self.facts.of(row).ok_or("deleted a row that never was")?;
            let oldest = fact.bits & ASIDE != 0 && self.aside_full;
            let reason =
                fact.bits & (ACKED | REFUSED | DROPPED) != 0 || (limit != u64::MAX && expired) || oldest;
            promise!(reason, "row {} was deleted without an acknowledgement of its connection", row.seq.0);
            if fact.bits & ACKED == 0 {
                fact.bits |= DROPPED;
            }
        }
        for row in &effect.trimmed {
            let flying = self.in_flight.contains_key(&(row.run, row.seq));
            promise!(!flying, "row {} was trimmed while in flight", row.seq.0);
            let fact = self.facts.of(row).ok_or("trimmed a row that never was")?;
            promise!(
                fact.bits & ASIDE == 0 || self.replaced,
                "row {} was trimmed although it is set aside",
                row.seq.0
            );
            fact.bits |= DROPPED;
        }
        self.dropped += effect.trimmed.len() as u64;
        if let StoreOp::Replace { rows, .. } = op {
            self.replaced_rows(boot_now, rows, effect, plan)?;
        }
        Ok(())
    }

    fn replaced_rows(&mut self, boot_now: u64, rows: &[Arc<Row>], effect: &Effect, plan: &Plan) -> Verdict {
        for row in &effect.removed {
            if rows.iter().any(|kept| kept.seq == row.seq) {
                continue;
            }
            let flying = self.in_flight.contains_key(&(row.run, row.seq));
            promise!(!flying, "row {} was replaced while in flight", row.seq.0);
            // A replaced store may have brought back rows that are settled.
            let settled = self.facts.of(row).is_some_and(|fact| fact.bits & (ACKED | REFUSED | DROPPED) != 0);
            if self.replaced && settled {
                continue;
            }
            let thins = matches!(plan.settings.limits.when_full, WhenFull::ThinOut { .. });
            let other_boot = self.facts.current().is_none_or(|run| run.id().boot != row.run.boot);
            let old = boot_now >= row.at.0.saturating_add(expiry(row, plan));
            let thinned = thins && !rows.is_empty();
            promise!(thinned || old || other_boot, "row {} was replaced without a reason", row.seq.0);
            self.facts.of(row).ok_or("replaced a row that never was")?.bits |= DROPPED;
            self.dropped += u64::from(thinned);
        }
        Ok(())
    }

    /// A row goes out.
    pub fn sent(&mut self, now: u64, action: &Action, uplink: &Uplink, plan: &Plan, disk: &Disk) -> Verdict {
        let Action::Send { token, row, lane, .. } = action else {
            return self.announced(now, action, uplink);
        };
        let seq = row.seq.0;
        let first = self.publishes > 0 || uplink.is_careful();
        promise!(first, "row {seq} was sent before the birth");
        let refused = self.refused.contains(&(row.run, row.seq));
        promise!(!refused, "row {seq} was sent again although the link refuses it");
        let strict = plan.settings.durability == Durability::Strict;
        promise!(!strict || disk.holds(row) || self.replaced, "row {seq} was sent before it was on disk");
        let flying = self.in_flight.insert((row.run, row.seq), token.0);
        promise!(flying.is_none(), "row {seq} is in flight twice");
        let lane_key = if plan.settings.drain == Drain::Fifo { Lane::Live } else { *lane };
        let before = self.last.insert(lane_key, row.seq);
        promise!(before < Some(row.seq), "row {seq} was sent after {before:?} in the {lane:?} lane");
        let live = *lane == Lane::Live;
        self.out.insert(token.0, Out { row: Some(Arc::clone(row)), sent: now, live });
        self.live.left(row.seq);
        let window = usize::from(plan.settings.window);
        promise!(self.in_flight.len() <= window, "{} rows in flight", self.in_flight.len());
        let live_rows = self.out.values().filter(|out| out.row.is_some() && out.live).count();
        let half = window - window.div_ceil(2);
        let fair = plan.settings.drain == Drain::Fifo || !uplink.queue().backlog_exists() || !live;
        promise!(
            window == 1 || fair || live_rows <= half.max(1),
            "{live_rows} live rows leave the backlog less than half of a window of {window}"
        );
        Ok(())
    }

    fn announced(&mut self, now: u64, action: &Action, uplink: &Uplink) -> Verdict {
        let Action::Announce { token, payload, .. } = action else { return Ok(()) };
        let birth = payload.starts_with(br#"{"state":"online""#);
        promise!(
            birth == (self.publishes == 0) || uplink.is_careful(),
            "the first publish of a connection is its birth, and no other is"
        );
        self.publishes += 1;
        self.out.insert(token.0, Out { row: None, sent: now, live: false });
        Ok(())
    }

    /// An acknowledgement of the current connection is about to be delivered. Gives back whether it settles a row.
    pub fn acknowledged(&mut self, now: u64, token: u64, ends_backoff: bool) -> bool {
        let Some(out) = self.out.remove(&token) else { return false };
        self.progress = now;
        if ends_backoff {
            self.backoff.acknowledged();
        }
        let Some(row) = out.row else { return false };
        self.pace.answered(BootNs(now), BootNs(out.sent));
        self.in_flight.remove(&(row.run, row.seq));
        if let Some(fact) = self.facts.of(&row) {
            fact.bits |= ACKED;
        }
        true
    }

    /// The link says that it cannot send this.
    pub fn refused(&mut self, token: u64) {
        if let Some(Out { row: Some(row), .. }) = self.out.remove(&token) {
            self.in_flight.remove(&(row.run, row.seq));
            self.refused.insert((row.run, row.seq));
            let current = self.facts.current().is_some_and(|run| run.id() == row.run);
            if let Some(fact) = self.facts.of(&row) {
                fact.bits |= REFUSED | DROPPED;
                // Otherwise its publisher is told, and that is when it counts.
                self.dropped += u64::from(!current || fact.bits & TOLD != 0);
            }
        }
    }

    /// The cloud has a row.
    pub fn arrived(&mut self, row: &Row) {
        if let Some(fact) = self.facts.of(row) {
            let again = fact.bits & RECEIVED != 0;
            fact.bits |= RECEIVED;
            self.received += u64::from(!again);
            self.repeated += u64::from(again);
        }
    }

    /// The connection is gone.
    pub fn link_gone(&mut self) {
        self.out.clear();
        self.in_flight.clear();
        self.last.clear();
        self.live.forget();
        self.publishes = 0;
        self.progress = 0;
    }

    /// Rows were lost with the store's file.
    pub fn store_lost(&mut self, rows: &[Arc<Row>]) {
        self.replaced = true;
        self.store_lost += rows.len() as u64;
        for row in rows {
            if let Some(fact) = self.facts.of(row) {
                fact.bits |= STORE_LOST;
            }
        }
    }

    /// Holds after every step.
    pub fn check(&mut self, now: u64, boot_now: u64, uplink: &Uplink, plan: &Plan, disk: &Disk) -> Verdict {
        let queue = uplink.queue();
        queue.check().map_err(|imbalance| format!("kept or counted: {imbalance}"))?;
        let ledger = queue.ledger();
        if let Some(oldest) = queue.oldest_in_memory() {
            let age = boot_now.saturating_sub(oldest.0);
            let late = age > ns(plan.settings.commit_interval) && !store_was_busy(uplink, boot_now);
            promise!(!late, "a row is only in memory since {} ms and no commit was asked for", age / MS);
        }
        // The boot may have begun before the simulation.
        self.boot = now.wrapping_sub(boot_now);
        // What is sent in this moment may be slow in the next.
        let slow = self.is_sent_slow(now.saturating_sub(MS), plan);
        if !self.urgent.is_empty() && (!flows(uplink, plan, queue.backlog_exists()) || slow) {
            promise!(
                store_was_busy(uplink, boot_now),
                "a publisher is held up and no commit was asked for although the link gives no hope"
            );
        }
        let memory = &plan.memory;
        let bounded = ledger.in_memory.rows <= memory.rows_max && ledger.in_memory.bytes <= memory.bytes_max;
        promise!(bounded, "{:?} are in memory", ledger.in_memory);
        let loaded_max =
            memory.rows_max + u64::from(FETCH_ROWS_MAX) * 2 + u64::from(plan.settings.window) * 2;
        promise!(queue.loaded_rows() as u64 <= loaded_max, "{} rows are loaded", queue.loaded_rows());
        if let Some((_, oldest)) = self.out.first_key_value() {
            let due = oldest.sent.max(self.progress) + ns(plan.settings.ack_timeout);
            promise!(now <= due + MS, "a link without acknowledgements is kept");
            // An acknowledgement forgotten before everything healed blocks its slot of the window until the timeout.
            if now > oldest.sent + FORGOTTEN_AFTER {
                self.live.forget();
            }
        }
        if queue.is_idle() && queue.marks_are_written() {
            let unmarked = queue.aside().find(|mark| !disk.is_marked(mark.seq));
            promise!(unmarked.is_none(), "{unmarked:?} is set aside and the disk does not know");
        }
        if !self.replaced && queue.is_idle() {
            let kept = ledger.stored.rows + queue.deletes_waiting();
            promise!(disk.len() as u64 == kept, "{} rows on disk, {kept} are counted", disk.len());
            self.count_drops(uplink)?;
        }
        self.live.check(now)
    }

    /// Whether the oldest row that was sent has had four times what the cloud usually takes.
    fn is_sent_slow(&self, now: u64, plan: &Plan) -> bool {
        let oldest = self.out.values().find(|out| out.row.is_some());
        let patience = self.pace.patience(plan.settings.commit_interval);
        oldest.is_some_and(|out| now >= out.sent + ns(patience))
    }

    /// The same of the oldest that was sent or waits.
    fn is_slow(&self, now: u64, uplink: &Uplink, plan: &Plan) -> bool {
        let patience = ns(self.pace.patience(plan.settings.commit_interval));
        let queue = uplink.queue();
        let waiting = [queue.oldest_in_memory(), queue.oldest_waiting()].into_iter().flatten().min();
        let waits = waiting
            .filter(|_| self.in_flight.is_empty())
            .is_some_and(|BootNs(queued)| now >= self.boot.wrapping_add(queued).saturating_add(patience));
        waits || self.is_sent_slow(now, plan)
    }

    /// Every policy drop that was seen is counted, and no other.
    fn count_drops(&self, uplink: &Uplink) -> Verdict {
        use DropReason::{MemoryFull, Newest, Oldest, Oversize, Thinned};
        let ledger = uplink.queue().ledger();
        let counted: u64 = [Oldest, Newest, Thinned, MemoryFull, Oversize]
            .iter()
            .map(|reason| ledger.dropped(*reason).rows)
            .sum();
        promise!(
            counted == self.dropped,
            "{} drops were seen and {counted} counted in {ledger:?}",
            self.dropped
        );
        let lost = ledger.dropped(DropReason::StoreLost).rows;
        promise!(lost == 0, "{lost} rows count as lost by a store that lost nothing");
        Ok(())
    }

    /// Everything is quiet: no more rows count as lost by the store than it has really lost in this run.
    pub fn count_store_losses(&self, uplink: &Uplink) -> Verdict {
        let counted = uplink.queue().ledger().dropped(DropReason::StoreLost).rows;
        promise!(
            counted <= self.store_lost,
            "{counted} rows count as lost by the store, it lost {}",
            self.store_lost
        );
        Ok(())
    }

    /// The gateway was killed: what was only in memory is lost, and must be young unless the store failed.
    pub fn crashed(&mut self, now: u64, disk: &Disk, plan: &Plan, store_busy: bool) -> Verdict {
        self.backoff.restart();
        let Some(run) = self.facts.current() else { return Ok(()) };
        let id = run.id();
        for index in run.low..run.facts.len() {
            let seq = run.seq(index);
            let fact = &mut run.facts[index];
            let durable = disk.get(seq).is_some_and(|row| row.run == id);
            if durable || fact.bits & (ACKED | DROPPED | STORE_LOST) != 0 {
                continue;
            }
            let age = now - fact.at;
            let young = age <= ns(plan.settings.commit_interval) + MS || store_busy;
            promise!(young, "row {} was lost in a crash {} ms after it was produced", seq.0, age / MS);
            let told = fact.bits & TOLD != 0;
            promise!(!told, "row {} was called safe and was lost in a crash", seq.0);
            fact.bits |= LOST;
        }
        self.link_gone();
        Ok(())
    }

    /// Rows at the front that are dealt with need not be looked at again.
    pub fn sweep(&mut self) {
        if let Some(run) = self.facts.current() {
            let done = |bits: u16| bits & (ACKED | DROPPED | TOLD) != 0;
            while run.facts.get(run.low).is_some_and(|fact| done(fact.bits)) {
                run.low += 1;
            }
        }
    }

    /// The end: everything is quiet, so every row was received, or dropped by policy, or lost in a crash.
    pub fn finish(&mut self, plan: &Plan, disk: &Disk) -> Verdict {
        let marks = disk.marks().len();
        promise!(disk.len() == marks, "{} rows are left on disk, {marks} are set aside", disk.len());
        let received_is_known = plan.settings.qos == Qos::AtLeastOnce;
        for run in self.facts.runs() {
            for (index, fact) in run.facts.iter().enumerate() {
                let known = fact.bits & (RECEIVED | DROPPED | LOST | STORE_LOST | ASIDE) != 0;
                let written = !received_is_known && fact.bits & ACKED != 0;
                promise!(known || written, "row {} of run {} never arrived", run.seq(index).0, run.id());
            }
        }
        Ok(())
    }
}

/// Whether the link is up and, where rows keep strict order, nothing `ahead` of what is published last: then an acknowledgement can come soon.
fn flows(uplink: &Uplink, plan: &Plan, ahead: bool) -> bool {
    let up = matches!(uplink.state(), State::Up { .. });
    up && (plan.settings.drain == Drain::LiveFirst || !ahead)
}

/// Whether the store was at work or left alone until this moment. A pause that ends now leaves the rest of this moment for what it held up: other events
/// of the same moment may come before the timer.
pub(super) fn store_was_busy(uplink: &Uplink, boot_now: u64) -> bool {
    uplink.queue().store_busy(BootNs(boot_now.saturating_sub(1)))
}

/// After how many ns nobody wants a row.
fn expiry(row: &Row, plan: &Plan) -> u64 {
    let own = row.expiry_s.map_or(u64::MAX, |seconds| u64::from(seconds) * 1_000_000_000);
    plan.settings.limits.age_max.map_or(own, |limit| ns(limit).min(own))
}
