//! Which requests of a device give no values although it is asked, and why.
//!
//! A request counts as failing when it failed in two cycles of its group one after the other in which it was asked: an answer that was lost to noise is no fault of
//! its address, and a refused block that is being cut is not at its end. A group that is asked seldom ([`SLOW`]) speaks after one. So does a request for addresses
//! of one that counts already: it was cut or joined meanwhile.
//!
//! It counts until its addresses are answered. What ends without being asked, because its device is given up or the bus is down, proves nothing.
//!
//! A request that gives no answer while others of its device do would cost the line a time-out in every cycle, and would make a device of it that fails. It is
//! asked, one after the other, when that costs nobody any time or within the share of dead devices; until then its tags keep their reason. Its failure tells nothing
//! of its device unless none of its requests is known to answer: otherwise requests in a row that are never answered would kill their device again in each of its
//! lives. After the device or the bus was away:
//!
//! - One that failed although its device answered then is asked once more before any of them is asked twice, under the same conditions: of a device with eight of
//!   them each reconnect would cost the line eight time-outs otherwise.
//! - One that failed only while its device was dying is asked at once, one time.
//! - Where no request of the device is known to answer all are asked at once: nothing else would tell that the device is dead.

use std::time::Duration;

use crate::poll::plan::Block;
use crate::poll::request::{LineFault, Table};
use crate::tag::{Reason, TagId};

/// Groups with this interval or a longer one are believed at once.
const SLOW: Duration = Duration::from_secs(60);

/// Most failing requests of a device that are named; the others are counted.
pub const NAMED_MAX: usize = 8;

/// Most tags of a failing request that are named; the others are counted.
pub const NAMED_TAGS_MAX: usize = 3;

/// Why a request gave no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The device refused, with this exception code.
    Exception(u8),
    /// No proper answer came.
    Line(LineFault),
}

impl Cause {
    /// What the tags of the request carry.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Exception(code) => Reason::Exception(code),
            Self::Line(LineFault::Silence) => Reason::Timeout,
            Self::Line(LineFault::Down) => Reason::BusDown,
            Self::Line(_) => Reason::BadAnswer,
        }
    }

    /// How a person would call it.
    #[must_use]
    pub fn sort(self) -> Sort {
        match self {
            Self::Exception(10 | 11) | Self::Line(LineFault::Silence | LineFault::Down) => Sort::Unanswered,
            Self::Exception(_) => Sort::Refused,
            Self::Line(_) => Sort::Wrong,
        }
    }
}

/// What happens to a request that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// An exception came.
    Refused,
    /// Nothing came.
    Unanswered,
    /// Something came that is no answer to it.
    Wrong,
}

/// A request that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which table.
    pub table: Table,
    /// First address, zero-based.
    pub address: u16,
    /// Registers or bits.
    pub count: u16,
    /// Its first tags, at most [`NAMED_TAGS_MAX`].
    pub tags: Vec<TagId>,
    /// How many tags it has.
    pub tags_len: usize,
    /// Why.
    pub cause: Cause,
}

/// The addresses of a request: table, first address, count.
type Place = (Table, u16, u16);

impl Failure {
    fn place(&self) -> Place {
        (self.table, self.address, self.count)
    }

    /// Whether it has addresses of another place.
    fn meets(&self, place: Place) -> bool {
        meet(self.place(), place)
    }

    fn is_unanswered(&self) -> bool {
        self.cause.sort() != Sort::Refused
    }
}

fn place_of(block: &Block) -> Place {
    (block.table, block.address, block.count)
}

/// Whether two places have an address in common.
fn meet(one: Place, other: Place) -> bool {
    let end = |(_, address, count): Place| u32::from(address) + u32::from(count);
    one.0 == other.0 && u32::from(one.1) < end(other) && u32::from(other.1) < end(one)
}

/// The requests of a device, and those of them that fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Requests it takes to read all of its groups once.
    pub asked: usize,
    /// The same by the plan, before anything was refused.
    pub planned: usize,
    /// Of those that are asked: refused.
    pub refused: usize,
    /// Without an answer.
    pub unanswered: usize,
    /// Answered by something else.
    pub wrong: usize,
    /// Of all these: failed only while the device or the bus went away, and not asked since. Whether they answer now is not known.
    pub unproven: usize,
    /// The first of those, at most [`NAMED_MAX`].
    pub named: Vec<Failure>,
}

/// When a request is asked again that is known to give no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not in this cycle.
    Later,
    /// When there is time for it.
    Next,
    /// Once more since the device or the bus was away: at once if no request of the device is known to answer; otherwise when there is time for it and it is
    /// its turn.
    Again { is_next: bool },
    /// At once: the device or the bus was away, and it may have failed for that only.
    AtOnce,
}

/// The failures of one group.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Of the running cycle.
    running: Vec<Failure>,
    /// Of the last cycle in which each was asked.
    last: Vec<Failure>,
    /// Of those: not asked in the running cycle.
    kept: Vec<Failure>,
    /// Those of it that count, in the order of their addresses.
    settled: Vec<Failure>,
    /// Requests of a complete cycle.
    asked: usize,
    /// Whose turn it is of those that give no answer: the first at this place or after it.
    turn: Option<Place>,
    /// Of those that count: without a proper answer although the device answered then. In order.
    mute: Vec<Place>,
    /// Of those that count: without a proper answer, and not asked since the device or the bus was away. In order.
    unsure: Vec<Place>,
    /// Asked at once in the running cycle, after the device or the bus was away: what they answer is known at its end.
    proving: Vec<Place>,
    /// Passed over in the running cycle.
    passed: Vec<Place>,
}

impl Failures {
    pub(super) fn new(asked: usize) -> Self {
        Self { asked, ..Self::default() }
    }

    /// A request of the running cycle has failed for good.
    pub(super) fn add(&mut self, block: &Block, tags_start: u32, cause: Cause) {
        let tags = block.points.iter().take(NAMED_TAGS_MAX).map(|point| TagId(tags_start + point)).collect();
        self.running.push(Failure {
            table: block.table,
            address: block.address,
            count: block.count,
            tags,
            tags_len: block.points.len(),
            cause,
        });
    }

    /// Why a request gives no proper answer while others of its device do, and when it is asked again; `None` if nothing is known of it.
    pub(super) fn known(&self, block: &Block) -> Option<(Cause, Turn)> {
        if self.settled.is_empty() {
            return None;
        }
        let place = place_of(block);
        let at = self.settled.binary_search_by_key(&place, Failure::place).ok()?;
        let failure = self.settled.get(at).filter(|failure| failure.is_unanswered())?;
        let is_unsure = self.unsure.binary_search(&place).is_ok();
        let turn = match (is_unsure, self.is_next(place)) {
            (true, _) if self.is_unproven(&place) => Turn::AtOnce,
            (true, is_next) => Turn::Again { is_next },
            (false, true) => Turn::Next,
            (false, false) => Turn::Later,
        };
        Some((failure.cause, turn))
    }

    /// Whether it is the turn of a request that gives no answer: of the first of them at `turn` or after it, and while some are not asked again since the
    /// device or the bus was away, of the first of these. So each has its turn, also where the bus comes and goes all the time.
    fn is_next(&self, place: Place) -> bool {
        let is_asked_again = |place: &Place| {
            self.unsure.is_empty()
                || (self.unsure.binary_search(place).is_ok() && self.mute.binary_search(place).is_ok())
        };
        let unanswered = self.settled.iter().filter(|failure| failure.is_unanswered()).map(Failure::place);
        let next = unanswered.filter(is_asked_again).min_by_key(|next| (Some(*next) < self.turn, *next));
        next == Some(place)
    }

    /// Whether a request counts as giving no proper answer.
    pub(super) fn is_unanswered(&self, block: &Block) -> bool {
        let at = self.settled.binary_search_by_key(&place_of(block), Failure::place);
        at.ok().and_then(|at| self.settled.get(at)).is_some_and(Failure::is_unanswered)
    }

    /// Whether a request, or a part of it, is known to give no proper answer although its device answers.
    pub(super) fn is_mute(&self, block: &Block) -> bool {
        self.mute.iter().any(|place| meet(*place, place_of(block)))
    }

    /// Whether a request, or a part of it, gave no proper answer when it was last asked.
    pub(super) fn has_failed(&self, block: &Block) -> bool {
        let place = place_of(block);
        self.last.iter().chain(&self.running).any(|failure| failure.meets(place))
    }

    /// A request that is known to give no answer is asked.
    pub(super) fn tried(&mut self, block: &Block) {
        let place = place_of(block);
        if self.is_unproven(&place) {
            self.proving.push(place);
        }
        self.unsure.retain(|one| *one != place);
        // The first place after it.
        self.turn = Some((block.table, block.address, block.count.saturating_add(1)));
    }

    /// A request that is known to give no answer is not asked in the running cycle.
    pub(super) fn passed(&mut self, block: &Block) {
        self.passed.push(place_of(block));
    }

    /// A request of the running cycle is not asked.
    pub(super) fn unasked(&mut self, block: &Block) {
        let place = place_of(block);
        self.kept.extend(self.last.iter().filter(|failure| failure.meets(place)).cloned());
    }

    /// The running cycle is over, and the device answers what it knows or not. The next ones have so many requests.
    pub(super) fn end(&mut self, every_ns: u64, asked: usize, answers: bool) {
        let mut failed = std::mem::take(&mut self.running);
        failed.sort_by_key(Failure::place);
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by_key(Failure::place);
        kept.dedup_by_key(|failure| failure.place());
        // A part of it was asked, and failed.
        kept.retain(|one| !failed.iter().any(|failure| failure.meets(one.place())));
        self.asked = asked;
        self.proving.clear();
        let passed = std::mem::take(&mut self.passed);
        if failed.is_empty() && kept.is_empty() {
            self.last.clear();
            self.settled.clear();
            self.mute.clear();
            self.unsure.clear();
            return;
        }
        let was_asked = |failure: &&Failure| answers && !passed.contains(&failure.place());
        self.mute.extend(failed.iter().filter(was_asked).map(Failure::place));
        let slow = u128::from(every_ns) >= SLOW.as_nanos();
        let settled = |failure: &&Failure| {
            slow || self.last.binary_search_by_key(&failure.place(), Failure::place).is_ok()
                || self.settled.iter().any(|one| one.meets(failure.place()))
        };
        let mut settled: Vec<Failure> = failed.iter().filter(settled).cloned().collect();
        if !kept.is_empty() {
            let before = |failure: &&Failure| {
                self.settled.binary_search_by_key(&failure.place(), Failure::place).is_ok()
            };
            settled.extend(kept.iter().filter(before).cloned());
            settled.sort_by_key(Failure::place);
            failed.extend(kept);
            failed.sort_by_key(Failure::place);
        }
        self.settled = settled;
        self.last = failed;
        let unanswered = self.unanswered();
        self.mute.sort_unstable();
        self.mute.dedup();
        self.mute.retain(|place| unanswered.binary_search(place).is_ok());
        self.unsure.retain(|place| unanswered.binary_search(place).is_ok());
    }

    /// Those that count and are without a proper answer, in order.
    fn unanswered(&self) -> Vec<Place> {
        self.settled.iter().filter(|failure| failure.is_unanswered()).map(Failure::place).collect()
    }

    /// Whether a request failed only while the device or the bus went away, as far as is known by the last cycle that has ended.
    fn is_unproven(&self, place: &Place) -> bool {
        let is_unsure = self.unsure.binary_search(place).is_ok() && self.mute.binary_search(place).is_err();
        is_unsure || self.proving.contains(place)
    }

    /// Its device or the bus was away: what failed may answer by now.
    pub(super) fn forget(&mut self) {
        self.proving.clear();
        self.unsure = self.unanswered();
    }

    /// Adds this group to the requests of its device.
    pub(super) fn add_to(&self, sum: &mut Requests) {
        sum.asked += self.asked;
        for failure in &self.settled {
            *match failure.cause.sort() {
                Sort::Refused => &mut sum.refused,
                Sort::Unanswered => &mut sum.unanswered,
                Sort::Wrong => &mut sum.wrong,
            } += 1;
        }
        sum.unproven += self.settled.iter().filter(|failure| self.is_unproven(&failure.place())).count();
        let room = NAMED_MAX.saturating_sub(sum.named.len());
        sum.named.extend(self.settled.iter().take(room).cloned());
    }
}
