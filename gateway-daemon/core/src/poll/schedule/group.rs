//! One poll group: its grid of due moments, its requests, and the cycle that is running.

use crate::poll::decode;
use crate::poll::plan::{Block, Limits, Span, blocks};
use crate::poll::request::{Answer, Table};
use crate::poll::settings::{Device, Group as Settings, Kind, Tag};
use crate::tag::{BootNs, Cycle, GroupId, Reading, Reason, Sample, TagId, Value};

use super::counters::GroupCounters;

/// A block of a running cycle that has to be asked (again).
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) block: usize,
    pub(super) attempt: u8,
    /// Not before this moment: a busy device wants to be left alone.
    pub(super) after: BootNs,
}

/// One cycle between its due moment and its delivery.
#[derive(Debug)]
pub(super) struct Run {
    due: BootNs,
    /// Number of the grid moment; `None` for a cycle in between.
    index: Option<u64>,
    /// Whoever has the lowest is asked first: the deadline, put off when a request fails.
    pub(super) key: BootNs,
    begun: bool,
    readings: Vec<Reading>,
    next_block: usize,
    again: Vec<Again>,
    in_flight: usize,
    /// Whether a device refused a point that it was not known to refuse.
    refused: bool,
    /// Whether the group is in the ready queue, parked at its device, or asleep until a retry.
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
    spans: Box<[Span]>,
    limits: Limits,
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
        let spans: Box<[Span]> = tags.iter().map(|tag| Span::from(&tag.point)).collect();
        let limits = Limits::of(device);
        Self {
            id,
            device: 0,
            every_ns: u64::try_from(settings.every.as_nanos()).unwrap_or(u64::MAX).max(1),
            first_due,
            next_index: 0,
            tags_start: u32::try_from(settings.tags_start).unwrap_or(u32::MAX),
            points: tags.iter().map(|tag| (tag.point.address, tag.point.kind)).collect(),
            blocks: blocks(&spans, &limits),
            spans,
            limits,
            run: None,
            nap: 0,
            counters: GroupCounters::default(),
        }
    }

    /// The cheapest request that tells whether the device answers: its length and itself.
    pub(super) fn probe(&self) -> Option<(u32, Block)> {
        let (point, span) = (0..).zip(&self.spans).min_by_key(|(_, span)| span.end - span.start)?;
        Some((span.end - span.start, Block::around(&self.spans, vec![point])?))
    }

    /// The next grid moment.
    pub(super) fn next_due(&self) -> BootNs {
        self.due_at(self.next_index)
    }

    fn due_at(&self, index: u64) -> BootNs {
        BootNs(self.first_due.0.saturating_add(index.saturating_mul(self.every_ns)))
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
            refused: false,
            queued: false,
        });
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
        Some(picked)
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

    /// Lets everyone with as short an interval who is due or falls due within the next interval go first, so that a
    /// device in doubt costs its neighbours one timeout at a time.
    pub(super) fn put_off(&mut self, now: BootNs) {
        let later = self.one_interval_after(self.one_interval_after(now));
        if let Some(run) = &mut self.run {
            run.key = run.key.max(later);
        }
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

    /// Marks the readings of a block.
    pub(super) fn mark(&mut self, index: usize, reason: Reason, now: BootNs) {
        let (Some(block), Some(run)) = (self.blocks.get(index), &mut self.run) else { return };
        mark(&mut run.readings, block, reason, now);
    }

    /// Marks everything that is not asked yet and asks no more.
    pub(super) fn abandon(&mut self, reason: Reason, now: BootNs) {
        let Some(run) = &mut self.run else { return };
        for again in run.again.drain(..) {
            if let Some(block) = self.blocks.get(again.block) {
                mark(&mut run.readings, block, reason, now);
            }
        }
        for block in self.blocks.get(run.next_block..).unwrap_or_default() {
            mark(&mut run.readings, block, reason, now);
        }
        run.next_block = self.blocks.len();
    }

    /// Cuts a refused block in two, both of which are asked in the same cycle and kept apart from then on. False if
    /// there is nothing to cut.
    pub(super) fn split(&mut self, index: usize, now: BootNs) -> bool {
        let Some((left, right)) = self.blocks.get(index).and_then(|block| block.cut(&self.spans)) else {
            return false;
        };
        self.blocks[index] = left;
        self.blocks.push(right);
        self.ask_again(Again { block: index, attempt: 0, after: now });
        true
    }

    /// Remembers that the device refuses the addresses of a block that cannot be cut any further.
    pub(super) fn refuse(&mut self, index: usize) {
        let Some(block) = self.blocks.get(index) else { return };
        for &point in &block.points {
            let Some(span) = self.spans.get_mut(point as usize) else { continue };
            if let Some(run) = self.run.as_mut().filter(|_| !span.refused) {
                run.refused = true;
            }
            span.refused = true;
        }
    }

    /// Ends the running cycle. If it found refused points, the requests are planned afresh around them: cutting in two
    /// leaves more pieces than needed. Each point is found once, so that this cannot go on for ever.
    pub(super) fn finish(&mut self) -> Option<Cycle> {
        let run = self.run.take()?;
        if run.refused {
            self.blocks = blocks(&self.spans, &self.limits);
        }
        match run.index {
            Some(index) => {
                self.next_index = index + 1;
                self.counters.cycles += 1;
            }
            None => self.counters.refreshes += 1,
        }
        Some(Cycle { group: self.id, due: run.due, readings: run.readings })
    }

    /// Whether the running cycle belongs to a grid moment.
    pub(super) fn runs_on_grid(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.index.is_some())
    }
}

fn mark(readings: &mut [Reading], block: &Block, reason: Reason, now: BootNs) {
    for &point in &block.points {
        if let Some(reading) = readings.get_mut(point as usize) {
            reading.at = now;
            reading.sample = Sample::Bad(reason);
        }
    }
}
