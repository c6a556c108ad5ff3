//! What a group knows of addresses that its device refuses (exceptions 2 and 3), and who is asked together with whom because of it.
//!
//! A refused block is cut in two within its cycle until the bad points stand alone. From the next cycle on:
//!
//! - A bad point among good ones is asked alone in every cycle. When it answers it joins its neighbours again.
//! - A stretch of which every point is refused, as by a device that still boots, is asked as a whole, and one point of it alone, each cycle another. When
//!   the whole answers, all is as before; when only the one does, the whole is cut again to find out which are bad. In a stretch that gave values
//!   before, the first [`ALONE_MAX`] points that are refused alone speak for the others.
//! - A stretch that was cut although no point of it is refused (the device takes fewer registers at once, or may not be read over a gap) is tried as a
//!   whole now and then: so seldom that what is refused costs at most a twentieth of the group's requests.
//! - After the device or the bus was away, everything is tried as it was planned.
//!
//! A point that comes and goes is believed for longer each time, up to [`PATIENCE_MAX`] cycles, before it joins its neighbours: each time costs some
//! requests to find it again.

use crate::poll::plan::{Block, Limits, Span, blocks};

/// So many points refused alone, and no value, in a stretch that gave values before: all of it is refused.
pub(super) const ALONE_MAX: u32 = 3;

/// Longest wait of a point that comes and goes, in cycles; after so many without a change its past is forgotten.
pub(super) const PATIENCE_MAX: u32 = 1024;

/// Of so many requests one may be spent on trying cut blocks as a whole.
const TRIAL_SHARE: u32 = 20;

/// Least and most cycles between two trials of cut blocks.
pub(super) const TRIAL_CYCLES: (u32, u32) = (16, 1024);

/// A block of the plan as it would be without refusals.
#[derive(Debug, Default)]
struct Stretch {
    points: Vec<u32>,
    /// It has several addresses, so that it can be cut.
    is_long: bool,
    /// It has given a value at some time.
    answers: bool,
    /// It is to be cut down to its last point.
    thorough: bool,
    /// It has given a value in the running cycle, and so many points were found refused alone.
    values: bool,
    alone: u32,
}

/// What the running cycle found.
#[derive(Debug, Default)]
struct Found {
    refused: bool,
    cuts: u32,
    requests: u32,
    /// Points that are known as refused and gave a value.
    back: Vec<u32>,
    /// Stretches that were refused as a whole and answered as a whole.
    whole_back: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Refusals {
    spans: Box<[Span]>,
    limits: Limits,
    stretches: Vec<Stretch>,
    /// The stretch of each point.
    stretch_of: Box<[u32]>,
    /// Some point may be refused.
    any_refused: bool,
    /// Blocks of the plan that are asked as a whole although all of it is refused, and their stretches.
    whole: Vec<(usize, usize)>,
    /// Which point of such a stretch is asked alone.
    turn: usize,
    found: Found,
    /// Cycles since a point came back or was found refused, and how many it takes to be believed.
    calm: u32,
    patience: u32,
    /// Cycles until cut blocks are tried as a whole, and the pause after that.
    trial: Option<u32>,
    trial_pause: u32,
    /// They are tried in the running cycle.
    trying: bool,
    /// The device was away: everything is tried as planned.
    anew: bool,
}

impl Refusals {
    pub(super) fn new(spans: Box<[Span]>, limits: Limits) -> Self {
        let mut stretch_of = vec![0; spans.len()].into_boxed_slice();
        let stretches = (0..)
            .zip(blocks(&spans, &limits))
            .map(|(number, block)| {
                for &point in &block.points {
                    stretch_of[point as usize] = number;
                }
                let is_long = block.cut(&spans).is_some();
                Stretch { points: block.points, is_long, ..Stretch::default() }
            })
            .collect();
        Self {
            spans,
            limits,
            stretches,
            stretch_of,
            any_refused: false,
            whole: Vec::new(),
            turn: 0,
            found: Found::default(),
            calm: 0,
            patience: 0,
            trial: None,
            trial_pause: TRIAL_CYCLES.0,
            trying: false,
            anew: false,
        }
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The requests of the next cycles.
    pub(super) fn plan(&mut self) -> Vec<Block> {
        self.whole.clear();
        self.any_refused = self.spans.iter().any(|span| span.refused);
        let mut plan = blocks(&self.spans, &self.limits);
        let all_refused = |stretch: &Stretch| {
            stretch.is_long && stretch.points.iter().all(|point| self.spans[*point as usize].refused)
        };
        let whole: Vec<usize> = self
            .stretches
            .iter()
            .enumerate()
            .filter(|(_, stretch)| all_refused(stretch))
            .map(|(at, _)| at)
            .collect();
        if whole.is_empty() {
            return plan;
        }
        // Refused points share a block with those of the same addresses only, which are of the same stretch.
        plan.retain(|block| block.points.first().is_none_or(|point| !whole.contains(&self.stretch(*point))));
        for number in whole {
            let points = &self.stretches[number].points;
            let alone = &self.spans[points[self.turn % points.len()] as usize];
            let scout =
                points.iter().copied().filter(|point| self.spans[*point as usize].same_addresses(alone));
            let blocks =
                [Block::around(&self.spans, points.clone()), Block::around(&self.spans, scout.collect())];
            self.whole.push((plan.len(), number));
            plan.extend(blocks.into_iter().flatten());
        }
        self.turn = self.turn.wrapping_add(1);
        plan
    }

    fn stretch(&self, point: u32) -> usize {
        self.stretch_of.get(point as usize).map_or(usize::MAX, |number| *number as usize)
    }

    /// Whether cut blocks are to be tried as a whole in the cycle that begins.
    pub(super) fn begin(&mut self) -> bool {
        self.found = Found::default();
        for stretch in &mut self.stretches {
            (stretch.values, stretch.alone) = (false, 0);
        }
        self.trying = self.trial == Some(0);
        self.trying
    }

    /// A request of the plan is sent.
    pub(super) fn asked(&mut self) {
        self.found.requests += 1;
    }

    /// Whether a block is refused as a whole and not to be cut.
    pub(super) fn is_whole(&self, index: usize) -> bool {
        self.whole.iter().any(|(block, _)| *block == index)
    }

    /// Whether a block is asked beside such a one, for one of its points alone.
    pub(super) fn is_scout(&self, index: usize) -> bool {
        self.whole.iter().any(|(block, _)| block + 1 == index)
    }

    /// How many of those are in the plan.
    pub(super) fn scouts(&self) -> usize {
        self.whole.len()
    }

    /// Requests of the plan without refusals.
    pub(super) fn planned(&self) -> usize {
        self.stretches.len()
    }

    pub(super) fn cut(&mut self) {
        self.found.cuts += 1;
    }

    /// A block gave values. Where nothing is refused, all of it lies in one stretch, and nothing more has to be looked at.
    pub(super) fn answered(&mut self, index: usize, block: &Block) {
        if !self.any_refused {
            let number = block.points.first().map_or(usize::MAX, |point| self.stretch(*point));
            if let Some(stretch) = self.stretches.get_mut(number) {
                (stretch.values, stretch.answers) = (true, true);
            }
            return;
        }
        if let Some((_, number)) = self.whole.iter().find(|(whole, _)| *whole == index) {
            self.found.whole_back.push(*number);
        }
        for &point in &block.points {
            let number = self.stretch(point);
            if let Some(stretch) = self.stretches.get_mut(number) {
                (stretch.values, stretch.answers) = (true, true);
            }
            if self.spans.get(point as usize).is_some_and(|span| span.refused) {
                self.found.back.push(point);
            }
        }
    }

    /// The device refuses a block that cannot be cut. Gives its stretch if all of that is now taken for refused.
    pub(super) fn refused(&mut self, block: &Block) -> Option<Vec<u32>> {
        let mut new = false;
        for &point in &block.points {
            if let Some(span) = self.spans.get_mut(point as usize) {
                new |= !std::mem::replace(&mut span.refused, true);
            }
        }
        if !new {
            return None;
        }
        (self.any_refused, self.found.refused) = (true, true);
        let number = self.stretch(*block.points.first()?);
        let stretch = self.stretches.get_mut(number)?;
        stretch.alone += 1;
        let all = stretch.answers && !stretch.values && !stretch.thorough && stretch.alone >= ALONE_MAX;
        all.then(|| stretch.points.clone())
    }

    /// Takes points for refused that were not asked.
    pub(super) fn condemn(&mut self, points: &[u32]) {
        for &point in points {
            if let Some(span) = self.spans.get_mut(point as usize) {
                span.refused = true;
            }
        }
    }

    /// The device or the bus was away.
    pub(super) fn forget(&mut self) {
        self.anew = true;
    }

    /// The cycle is over. Gives the plan if it is another from now on. A cycle in which nothing was asked tells nothing.
    pub(super) fn end(&mut self) -> Option<Vec<Block>> {
        let found = std::mem::take(&mut self.found);
        let tried = std::mem::take(&mut self.trying);
        for stretch in &mut self.stretches {
            stretch.thorough &= !stretch.values;
        }
        if std::mem::take(&mut self.anew) {
            return Some(self.start_anew());
        }
        if found.requests == 0 {
            return None;
        }
        self.trial = self.trial.map(|cycles| cycles.saturating_sub(1));
        self.calm = self.calm.saturating_add(1);
        if self.calm > PATIENCE_MAX {
            self.patience = 0;
        }
        let mut changed = found.refused;
        for number in &found.whole_back {
            changed |= self.clear(*number);
        }
        if !found.back.is_empty() && self.calm > self.patience {
            self.patience = (self.patience * 2).clamp(1, PATIENCE_MAX);
            changed = true;
            self.join(&found.back);
        }
        if changed {
            self.calm = 0;
            self.trial = None;
        } else if found.cuts > 0 {
            // What a trial costs are the requests that were refused and cut; the others are asked in every cycle.
            let usual = found.requests.saturating_sub(found.cuts).max(1);
            let apart = found.cuts.saturating_mul(TRIAL_SHARE).div_ceil(usual);
            self.trial = Some(apart.max(self.trial_pause));
            self.trial_pause = (self.trial_pause * 2).min(TRIAL_CYCLES.1);
            // They stay cut.
            return None;
        } else if tried {
            (self.trial, self.trial_pause) = (None, TRIAL_CYCLES.0);
        }
        // Where all is refused another point is asked alone each time.
        (changed || !self.whole.is_empty()).then(|| self.plan())
    }

    fn start_anew(&mut self) -> Vec<Block> {
        for span in &mut self.spans {
            span.refused = false;
        }
        (self.calm, self.patience) = (0, 0);
        (self.trial, self.trial_pause) = (None, TRIAL_CYCLES.0);
        self.plan()
    }

    /// Nothing of a stretch is refused any more. Says whether something was.
    fn clear(&mut self, number: usize) -> bool {
        let mut changed = false;
        for &point in self.stretches.get(number).map(|stretch| &stretch.points[..]).unwrap_or_default() {
            changed |= std::mem::take(&mut self.spans[point as usize].refused);
        }
        changed
    }

    /// Points that came back join their neighbours; where all was refused, all of it is tried.
    fn join(&mut self, back: &[u32]) {
        for &point in back {
            self.spans[point as usize].refused = false;
            let number = self.stretch(point);
            if self.whole.iter().any(|(_, whole)| *whole == number) {
                self.clear(number);
                self.stretches[number].thorough = true;
            }
        }
    }
}
