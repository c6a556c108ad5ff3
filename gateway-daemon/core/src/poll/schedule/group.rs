//! One poll group: its grid of due moments, its requests, and the cycle that is running.

use std::time::Duration;

use crate::poll::decode;
use crate::poll::plan::{Block, Limits, Span};
use crate::poll::request::{Answer, Table};
use crate::poll::settings::{Device, Group as Settings, Kind, Tag};
use crate::tag::{BootNs, Cycle, GroupId, Reading, Reason, Sample, TagId, Value};

use super::counters::GroupCounters;
use super::failures::{Cause, Failures, Requests, Turn};
use super::refusals::Refusals;

/// A block of a running cycle that has to be asked (again).
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) block: usize,
    pub(super) attempt: u8,
    /// Not before this moment: a busy device wants to be left alone.
    pub(super) after: BootNs,
}

/// How likely a request tells that its device answers, the likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    /// It did not fail the last time.
    Good,
    /// It failed the last time.
    Failed,
    /// It is known to give no answer although its device does.
    Mute,
}

/// One cycle between its due moment and its delivery.
#[derive(Debug)]
pub(super) struct Run {
    due: BootNs,
    /// Number of the grid moment; `None` for a cycle in between.
    index: Option<u64>,
    /// Whoever has the lowest is asked first: the deadline.
    pub(super) key: BootNs,
    begun: bool,
    readings: Vec<Reading>,
    next_block: usize,
    again: Vec<Again>,
    in_flight: usize,
    /// Whether the group is in the ready queue, waits at its device, or sleeps until a retry.
    pub(super) queued: bool,
}

/// One poll group of the bus.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    /// Index in the schedule's own list.
    pub(super) device: usize,
    every_ns: u64,
    /// The grid: this moment and every interval after it.
    first_due: BootNs,
    /// First grid moment that is neither delivered nor skipped.
    next_index: u64,
    tags_start: u32,
    points: Box<[(u16, Kind)]>,
    refusals: Refusals,
    failures: Failures,
    blocks: Vec<Block>,
    pub(super) run: Option<Run>,
    /// Entries of the schedule's queues with another number are void.
    pub(super) nap: u32,
    pub(super) counters: GroupCounters,
}

impl Group {
    pub(super) fn new(
        id: GroupId,
        settings: &Settings,
        tags: &[Tag],
        device: &Device,
        first_due: BootNs,
    ) -> Self {
        let spans = tags.iter().map(|tag| Span::from(&tag.point)).collect();
        let mut refusals = Refusals::new(spans, Limits::of(device));
        let blocks = refusals.plan();
        Self {
            id,
            device: 0,
            every_ns: u64::try_from(settings.every.as_nanos()).unwrap_or(u64::MAX).max(1),
            first_due,
            next_index: 0,
            tags_start: u32::try_from(settings.tags_start).unwrap_or(u32::MAX),
            points: tags.iter().map(|tag| (tag.point.address, tag.point.kind)).collect(),
            failures: Failures::new(blocks.len()),
            blocks,
            refusals,
            run: None,
            nap: 0,
            counters: GroupCounters::default(),
        }
    }

    /// For each request the shortest point of it, which tells whether the device answers: how likely, its length, and the point.
    pub(super) fn signs(&self) -> impl Iterator<Item = (Sign, u32, u32)> {
        let length =
            |point: &u32| self.refusals.spans().get(*point as usize).map(|span| span.end - span.start);
        self.blocks.iter().filter_map(move |block| {
            let point = *block.points.iter().min_by_key(|point| length(point))?;
            let sign = match (self.failures.is_mute(block), self.failures.has_failed(block)) {
                (true, _) => Sign::Mute,
                (false, true) => Sign::Failed,
                (false, false) => Sign::Good,
            };
            Some((sign, length(&point)?, point))
        })
    }

    /// The request for one point alone.
    pub(super) fn around(&self, point: u32) -> Option<Block> {
        Block::around(self.refusals.spans(), vec![point])
    }

    /// The next grid moment.
    pub(super) fn next_due(&self) -> BootNs {
        self.due_at(self.next_index)
    }

    fn due_at(&self, index: u64) -> BootNs {
        BootNs(self.first_due.0.saturating_add(index.saturating_mul(self.every_ns)))
    }

    /// Its interval.
    pub(super) fn every(&self) -> Duration {
        Duration::from_nanos(self.every_ns)
    }

    /// How many requests a cycle has.
    pub(super) fn requests(&self) -> usize {
        self.blocks.len()
    }

    /// One interval after `now`.
    pub(super) fn one_interval_after(&self, now: BootNs) -> BootNs {
        BootNs(now.0.saturating_add(self.every_ns))
    }

    /// Takes up the latest grid moment that is due, or a moment in between, and returns how many were skipped.
    pub(super) fn start(&mut self, now: BootNs, in_between: bool) -> u64 {
        let (index, skipped) = if in_between { (None, 0) } else { self.latest(self.next_index, now) };
        let due = index.map_or(now, |index| self.due_at(index));
        let tags = (self.tags_start..).take(self.points.len()).map(TagId);
        self.run = Some(Run {
            due,
            index,
            key: self.one_interval_after(due),
            begun: false,
            readings: tags
                .map(|tag| Reading { tag, at: now, sample: Sample::Bad(Reason::NotPolled) })
                .collect(),
            next_block: 0,
            again: Vec::new(),
            in_flight: 0,
            queued: false,
        });
        if self.refusals.begin() {
            self.blocks = self.refusals.plan();
        }
        self.counters.overruns += skipped;
        skipped
    }

    /// The latest grid moment not after `now` and not before number `from`, and how many lie between.
    fn latest(&self, from: u64, now: BootNs) -> (Option<u64>, u64) {
        let passed = now.0.saturating_sub(self.first_due.0) / self.every_ns;
        let index = passed.max(from);
        (Some(index), index - from)
    }

    /// Called right before the first request of a cycle: if the bus had no time for a whole interval, the cycle becomes
    /// that of a later grid moment. Its place in the queue stays, so that it is not starved. Returns how many were skipped.
    pub(super) fn begin(&mut self, now: BootNs) -> u64 {
        let Some(index) = self.run.as_ref().filter(|run| !run.begun).and_then(|run| run.index) else {
            return 0;
        };
        let (latest, skipped) = self.latest(index, now);
        let due = self.due_at(index + skipped);
        if let Some(run) = &mut self.run {
            (run.begun, run.index, run.due) = (true, latest, due);
        }
        self.counters.overruns += skipped;
        skipped
    }

    /// Takes the next block to ask at this moment, with the number of its try.
    pub(super) fn pick(&mut self, now: BootNs) -> Option<(usize, u8)> {
        let run = self.run.as_mut()?;
        let picked = match run.again.iter().position(|again| again.after <= now) {
            Some(at) => {
                let again = run.again.swap_remove(at);
                (again.block, again.attempt)
            }
            None if run.next_block < self.blocks.len() => {
                run.next_block += 1;
                (run.next_block - 1, 0)
            }
            None => return None,
        };
        run.in_flight += 1;
        self.refusals.asked();
        Some(picked)
    }

    /// What is known of a request that gives no answer: why, and when it is asked again.
    pub(super) fn known(&self, index: usize) -> Option<(Cause, Turn)> {
        self.failures.known(self.blocks.get(index)?)
    }

    /// Whether it has a request of which nothing like that is known.
    pub(super) fn may_answer(&self) -> bool {
        self.blocks.iter().any(|block| !self.failures.is_unanswered(block))
    }

    /// Such a request is asked.
    pub(super) fn tried(&mut self, index: usize) {
        if let Some(block) = self.blocks.get(index) {
            self.failures.tried(block);
        }
    }

    /// Such a request is not asked in this cycle: its tags keep their reason.
    pub(super) fn pass_over(&mut self, index: usize, cause: Cause, now: BootNs) {
        if let Some(block) = self.blocks.get(index) {
            self.failures.passed(block);
        }
        self.landed();
        self.mark(index, cause, now);
    }

    /// When the running cycle has something to ask: at once, later, or not at all.
    pub(super) fn wants_at(&self) -> Option<BootNs> {
        let run = self.run.as_ref()?;
        if run.next_block < self.blocks.len() {
            return Some(BootNs(0));
        }
        run.again.iter().map(|again| again.after).min()
    }

    pub(super) fn block(&self, index: usize) -> Option<&Block> {
        self.blocks.get(index)
    }

    /// A request of the running cycle is off the line.
    pub(super) fn landed(&mut self) {
        if let Some(run) = &mut self.run {
            run.in_flight = run.in_flight.saturating_sub(1);
        }
    }

    pub(super) fn ask_again(&mut self, again: Again) {
        if let Some(run) = &mut self.run {
            run.again.push(again);
        }
    }

    /// Whether a request of the running cycle has failed and is to be tried again.
    pub(super) fn is_retrying(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.again.iter().any(|again| again.attempt > 0))
    }

    /// When the running cycle is late by a whole interval.
    pub(super) fn overdue_at(&self) -> Option<BootNs> {
        Some(self.one_interval_after(self.run.as_ref()?.due))
    }

    /// Whether nothing of the running cycle is left to ask or to wait for.
    pub(super) fn is_done(&self) -> bool {
        self.run.as_ref().is_some_and(|run| {
            run.in_flight == 0 && run.again.is_empty() && run.next_block >= self.blocks.len()
        })
    }

    /// Whether `answer` has what block `index` asks for.
    pub(super) fn answers(&self, index: usize, answer: &Answer) -> bool {
        let Some(block) = self.blocks.get(index) else { return false };
        let bits = matches!(block.table, Table::Coil | Table::Discrete);
        match answer {
            Answer::Bits(list) => bits && list.len() >= usize::from(block.count),
            Answer::Registers(list) => !bits && list.len() >= usize::from(block.count),
            Answer::Done | Answer::Identity { .. } | Answer::Exception(_) => false,
        }
    }

    /// Fills in the readings of a block.
    pub(super) fn fill(&mut self, index: usize, answer: &Answer, now: BootNs) {
        let (Some(block), Some(run)) = (self.blocks.get(index), &mut self.run) else { return };
        self.refusals.answered(index, block);
        for &point in &block.points {
            let point = point as usize;
            let (Some((address, kind)), Some(reading)) =
                (self.points.get(point), run.readings.get_mut(point))
            else {
                continue;
            };
            let offset = usize::from(address.saturating_sub(block.address));
            reading.at = now;
            reading.sample = match answer {
                Answer::Bits(bits) => bits
                    .get(offset)
                    .map_or(Sample::Bad(Reason::BadAnswer), |on| Sample::Good(Value::Bool(*on))),
                Answer::Registers(list) => decode::registers(*kind, list.get(offset..).unwrap_or_default()),
                Answer::Done | Answer::Identity { .. } | Answer::Exception(_) => {
                    Sample::Bad(Reason::BadAnswer)
                }
            };
        }
    }

    /// Marks the readings of a block, but for what was read alone where all is refused.
    pub(super) fn mark(&mut self, index: usize, cause: Cause, now: BootNs) {
        let (Some(block), Some(run)) = (self.blocks.get(index), &mut self.run) else { return };
        let reason = cause.reason();
        if !self.refusals.is_scout(index) {
            self.failures.add(block, self.tags_start, cause);
        }
        if self.refusals.is_whole(index) {
            let readings = &run.readings;
            let is_bad = |point: &u32| {
                readings.get(*point as usize).is_some_and(|reading| matches!(reading.sample, Sample::Bad(_)))
            };
            let points: Vec<u32> = block.points.iter().copied().filter(is_bad).collect();
            mark(&mut run.readings, &points, reason, now);
        } else {
            mark(&mut run.readings, &block.points, reason, now);
        }
    }

    /// Marks everything that is not asked yet and asks no more.
    pub(super) fn abandon(&mut self, reason: Reason, now: BootNs) {
        let Some(run) = &mut self.run else { return };
        let again = run.again.drain(..).filter_map(|again| self.blocks.get(again.block));
        for block in again.chain(self.blocks.get(run.next_block..).unwrap_or_default()) {
            self.failures.unasked(block);
            mark(&mut run.readings, &block.points, reason, now);
        }
        run.next_block = self.blocks.len();
    }

    /// There is no time for further tries of what has failed.
    pub(super) fn give_up_retries(&mut self, cause: Cause, now: BootNs) {
        let Some(run) = &mut self.run else { return };
        let tried: Vec<usize> =
            run.again.extract_if(.., |again| again.attempt > 0).map(|again| again.block).collect();
        for block in tried {
            self.mark(block, cause, now);
        }
    }

    /// Cuts a refused block in two, both of which are asked in the same cycle. False if there is nothing to cut, or all of it is known to be refused.
    pub(super) fn split(&mut self, index: usize, now: BootNs) -> bool {
        let Some(block) = self.blocks.get(index).filter(|_| !self.refusals.is_whole(index)) else {
            return false;
        };
        let Some((left, right)) = block.cut(self.refusals.spans()) else { return false };
        self.refusals.cut();
        self.blocks[index] = left;
        self.blocks.push(right);
        self.ask_again(Again { block: index, attempt: 0, after: now });
        true
    }

    /// Remembers that the device refuses the addresses of a block that cannot be cut any further; `reason` is what others of its stretch become that
    /// need not be asked any more.
    pub(super) fn refuse(&mut self, index: usize, reason: Reason, now: BootNs) {
        let Some(condemned) = self.blocks.get(index).and_then(|block| self.refusals.refused(block)) else {
            return;
        };
        let Some(run) = &mut self.run else { return };
        let is_one = |block: &Block| block.points.iter().all(|point| condemned.contains(point));
        let mut points = Vec::new();
        let blocks = &self.blocks;
        run.again.retain(|again| {
            let gone = blocks.get(again.block).filter(|block| is_one(block));
            points.extend(gone.into_iter().flat_map(|block| &block.points));
            gone.is_none()
        });
        // Nothing refers to blocks that were not asked yet.
        let waiting = self.blocks.split_off(run.next_block);
        for block in waiting {
            if is_one(&block) { points.extend(&block.points) } else { self.blocks.push(block) }
        }
        mark(&mut run.readings, &points, reason, now);
        self.refusals.condemn(&points);
    }

    /// Its device, or the bus, was away: whatever was refused is tried again as it was planned.
    pub(super) fn forget_refusals(&mut self) {
        self.refusals.forget();
        self.failures.forget();
        if let (None, Some(blocks)) = (&self.run, self.refusals.end()) {
            self.blocks = blocks;
        }
    }

    /// Ends the running cycle of a device that answers what it knows, or not. What it found about refused addresses changes the requests of the next ones.
    pub(super) fn finish(&mut self, answers: bool) -> Option<Cycle> {
        let run = self.run.take()?;
        if let Some(blocks) = self.refusals.end() {
            self.blocks = blocks;
        }
        let asked = self.blocks.len() - self.refusals.scouts();
        self.failures.end(self.every_ns, asked, answers);
        match run.index {
            Some(index) => {
                self.next_index = index + 1;
                self.counters.cycles += 1;
            }
            None => self.counters.refreshes += 1,
        }
        Some(Cycle { group: self.id, due: run.due, readings: run.readings })
    }

    /// Adds its requests to those of its device.
    pub(super) fn count_requests(&self, sum: &mut Requests) {
        sum.planned += self.refusals.planned();
        self.failures.add_to(sum);
    }

    /// Whether the running cycle belongs to a grid moment.
    pub(super) fn runs_on_grid(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.index.is_some())
    }
}

fn mark(readings: &mut [Reading], points: &[u32], reason: Reason, now: BootNs) {
    for &point in points {
        if let Some(reading) = readings.get_mut(point as usize) {
            reading.at = now;
            reading.sample = Sample::Bad(reason);
        }
    }
}
