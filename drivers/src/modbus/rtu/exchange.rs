//! One exchange: what is asked, what of it is on the line, and what its owner does next.

use gateway_core::poll::request::{Answer, LineFault, Query};
use gateway_core::tag::BootNs;

use super::debt::Shape;
use super::judge::Asked;
use super::{Ask, FRAME_BYTES_MIN};
use crate::modbus::pdu;

/// What the owner of the line does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No exchange is under way: [`super::Master::start`] one.
    Idle,
    /// Hand over what can be read, or nothing if nothing comes until this moment; then ask again.
    Wait(BootNs),
    /// Flush the input, write [`super::Master::frame`] at once, call [`super::Master::sent`] with the moment before the write.
    Send,
    /// The exchange has ended.
    Done(Result<Answer, LineFault>),
}

/// Answers in a row without an echo before a line counts as one without: noise may have hidden one or two.
const ECHO_MISSED_MAX: u8 = 3;

/// How the line treats what is sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// Not known yet; so many answers came without one.
    Unknown(u8),
    /// It comes back. Wiring does not change while a port is open, so this stays.
    Present,
    /// It does not come back.
    Absent,
}

impl Echo {
    /// What is known when a line was opened.
    pub(super) const UNKNOWN: Self = Self::Unknown(0);

    /// A copy of a request came whose answer looks different: that was its echo, whatever was believed before.
    pub(super) fn seen(&mut self) {
        *self = Self::Present;
    }

    /// An answer came without an echo before it.
    pub(super) fn missed(&mut self) {
        *self = match *self {
            Self::Unknown(times) if times + 1 < ECHO_MISSED_MAX => Self::Unknown(times + 1),
            Self::Unknown(_) => Self::Absent,
            known => known,
        };
    }

    /// Whether it is not known.
    pub(super) fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting for the moment to send.
    Before,
    /// Sent; waiting for the answer.
    OnLine { early_until: BootNs, end: BootNs, deadline: BootNs, echo_seen: bool },
    /// Broadcast sent; waiting for the units to act.
    Turnaround { until: BootNs },
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) ask: Ask,
    pub(super) started: BootNs,
    /// What is on the line or goes out next: the request, or a fence before it.
    pub(super) fence: Option<u16>,
    pub(super) frame: Vec<u8>,
    pub(super) phase: Phase,
    /// A debt of the unit was forgiven by time alone: an old answer may still come.
    pub(super) forgiven: bool,
    /// The last thing seen that was not the answer.
    pub(super) seen: Option<LineFault>,
}

impl Exchange {
    pub(super) fn asked(&self) -> Asked<'_> {
        self.fence.map_or(Asked::Query(&self.ask.request.query), Asked::Fence)
    }

    pub(super) fn unit(&self) -> u8 {
        self.ask.request.unit.get()
    }
}

/// What a late answer to `query` would look like.
pub(super) fn shape(query: &Query) -> Shape {
    let bytes = pdu::normal_len(query).map(|len| len + FRAME_BYTES_MIN - 1);
    Shape { function: pdu::function(query), bytes }
}
