//! Which units may still have an answer under way, and how that is found out.

use std::time::Duration;

use gateway_core::tag::BootNs;

use super::LATE_GUARD;

/// After so many requests that were answered right after an unanswered fence, a unit counts as ignoring fences.
const FENCE_MISSES_MAX: u8 = 2;

/// A unit that seems to ignore fences gets one again after so many debts: bad luck may have hidden its answers.
const DEAF_RETRY_DEBTS: u32 = 16;

/// What a late answer would look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Function code of the request.
    pub(super) function: u8,
    /// Bytes of the whole normal answer, if the request fixes them.
    pub(super) bytes: Option<usize>,
}

/// Answers that a unit may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Debt {
    /// None.
    #[default]
    None,
    /// At most one, of this shape.
    One(Shape),
    /// More than one.
    Many,
}

/// How the next request to a unit may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// At once.
    Ask,
    /// Only after a fence was answered.
    Fence,
    /// Not before this moment, which forgives the debt.
    NotBefore(BootNs),
}

/// What is known about one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Unit {
    debt: Debt,
    /// End of the last thing sent to it.
    sent: BootNs,
    /// It has answered a fence at least once, so an unanswered one proves that it is silent.
    hears_fences: bool,
    /// The last fence was not answered.
    fence_missed: bool,
    /// Requests without an answer so far.
    debts: u32,
    /// Requests answered right after an unanswered fence.
    misses: u8,
    /// Fences sent before the last request without an answer: a refusal may still come and proves nothing about that request.
    stale_fences: u32,
    /// Fences sent since the last request without an answer: any refusal of these proves that the request is done with.
    open_fences: u32,
}

impl Unit {
    /// How the next request with this timeout may go out.
    pub(super) fn way(&self, timeout: Duration, fences: bool) -> Way {
        if self.debt == Debt::None {
            return Way::Ask;
        }
        let tried_lately = self.fence_missed || !self.debts.is_multiple_of(DEAF_RETRY_DEBTS);
        let ignores = if self.misses >= FENCE_MISSES_MAX { tried_lately } else { self.fence_missed };
        if fences && (self.hears_fences || !ignores) {
            return Way::Fence;
        }
        Way::NotBefore(self.sent.plus(LATE_GUARD.max(timeout.saturating_mul(2))))
    }

    /// A request to this unit ends at `end`.
    pub(super) fn request_sent(&mut self, end: BootNs) {
        self.sent = end;
        self.stale_fences = self.stale_fences.saturating_add(self.open_fences);
        self.open_fences = 0;
    }

    /// A fence to this unit ends at `end`.
    pub(super) fn fence_sent(&mut self, end: BootNs) {
        self.sent = end;
        self.open_fences = self.open_fences.saturating_add(1);
    }

    /// Its request ended without an answer that was read completely.
    pub(super) fn owes(&mut self, shape: Shape) {
        self.debt = if self.debt == Debt::None { Debt::One(shape) } else { Debt::Many };
        self.fence_missed = false;
        self.debts = self.debts.wrapping_add(1);
    }

    /// A frame of the fence's function came from it, whatever it answers: it knows fences.
    pub(super) fn hears(&mut self) {
        self.hears_fences = true;
    }

    /// Its request was answered.
    pub(super) fn answered(&mut self) {
        if self.fence_missed && !self.hears_fences {
            self.misses = self.misses.saturating_add(1);
        }
        self.clear();
    }

    /// A frame of this unit came that answers nothing that is being asked. Returns whether it was the answer it owed.
    pub(super) fn pay(&mut self, function: u8, bytes: usize) -> bool {
        let Debt::One(shape) = self.debt else { return false };
        let normal = function == shape.function && shape.bytes.is_none_or(|owed| owed == bytes);
        let exception = function == shape.function | 0x80 && bytes == EXCEPTION_FRAME_BYTES;
        if normal || exception {
            self.debt = Debt::None;
        }
        normal || exception
    }

    /// A fence was not answered in time.
    pub(super) fn fence_missed(&mut self) {
        self.fence_missed = true;
    }

    /// A fence came back with the number it was sent with: everything before it has been answered or never will be.
    pub(super) fn fence_returned(&mut self) {
        self.hears_fences = true;
        self.clear();
    }

    /// A fence was refused. Exceptions carry no number: those of fences before the last request come first and prove nothing
    /// about it. Returns whether this one clears the debt.
    pub(super) fn fence_refused(&mut self) -> bool {
        if self.stale_fences > 0 {
            self.stale_fences -= 1;
            return false;
        }
        let open = self.open_fences.saturating_sub(1);
        self.fence_returned();
        self.open_fences = open;
        true
    }

    /// Enough time has passed to believe that nothing comes any more.
    pub(super) fn forgive(&mut self) {
        let (missed, misses) = (self.fence_missed, self.misses);
        self.clear();
        (self.fence_missed, self.misses) = (missed, misses);
    }

    fn clear(&mut self) {
        self.debt = Debt::None;
        self.fence_missed = false;
        self.stale_fences = 0;
        self.open_fences = 0;
    }
}

/// Unit, function, code, CRC.
const EXCEPTION_FRAME_BYTES: usize = 5;
