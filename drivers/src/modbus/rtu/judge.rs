//! What a burst of bytes is, seen from what was asked.

use gateway_core::poll::request::{Answer, LineFault, Query};

use super::crc::crc_fits;
use super::{FRAME_BYTES_MIN, JUNK_BYTES_MAX};
use crate::modbus::pdu::{self, Expect};

/// Function of a fence: diagnostics, sub-function 0 "return query data" (V1.1b3, 6.8).
pub(super) const FENCE_FUNCTION: u8 = 8;
/// Unit, function, sub-function, data, CRC: a fence and its echo.
pub(super) const FENCE_FRAME_BYTES: usize = 8;

/// What the frame on the line asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A request.
    Query(&'a Query),
    /// A fence with this number.
    Fence(u16),
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Good {
    /// To a request.
    Answer(Answer),
    /// The fence came back.
    FenceReturned,
    /// The fence was refused.
    FenceRefused,
}

/// What a burst that has ended is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The answer; `salvaged` when there was noise around it.
    Good {
        /// The answer.
        good: Good,
        /// Whether there was noise around it.
        salvaged: bool,
    },
    /// The answer, damaged or of the wrong kind: no better one will follow. `whole` when its length was right, so that
    /// nothing of it is left to come.
    Fault {
        /// Why.
        fault: LineFault,
        /// Nothing of it is left to come.
        whole: bool,
    },
    /// A correct frame that answers something else: its unit, function and length.
    Other {
        /// Unit.
        unit: u8,
        /// Function byte.
        function: u8,
        /// Bytes of the frame.
        bytes: usize,
    },
    /// Noise.
    Noise,
}

impl Asked<'_> {
    /// Whether a good answer looks exactly like the request, so that it can be mistaken for its echo.
    pub(super) fn answer_is_echo(&self) -> bool {
        match self {
            Self::Fence(_) => true,
            Self::Query(query) => {
                matches!(
                    query,
                    Query::WriteCoil { .. } | Query::WriteRegister { .. } | Query::MaskWrite { .. }
                )
            }
        }
    }

    fn expect(&self, head: &[u8]) -> Expect {
        match self {
            Self::Query(query) => pdu::expect(query, head),
            Self::Fence(_) => match head.first() {
                None => Expect::AtLeast(2),
                Some(&FENCE_FUNCTION) => Expect::Exactly(FENCE_FRAME_BYTES - 3),
                Some(&code) if code == FENCE_FUNCTION | pdu::EXCEPTION_BIT => Expect::Exactly(2),
                Some(_) => Expect::Never,
            },
        }
    }

    fn function(&self) -> u8 {
        match self {
            Self::Query(query) => pdu::function(query),
            Self::Fence(_) => FENCE_FUNCTION,
        }
    }

    fn read(&self, pdu: &[u8]) -> Result<Good, LineFault> {
        match self {
            Self::Query(query) => pdu::match_answer(query, pdu).map(Good::Answer),
            Self::Fence(_) if pdu.first().is_some_and(|code| code & pdu::EXCEPTION_BIT != 0) => {
                Ok(Good::FenceRefused)
            }
            Self::Fence(number) => {
                let [high, low] = number.to_be_bytes();
                let back = pdu == [FENCE_FUNCTION, 0, 0, high, low];
                if back { Ok(Good::FenceReturned) } else { Err(LineFault::Mismatch) }
            }
        }
    }
}

/// Looks whether `burst` already holds the whole answer of `unit`, so that silence need not be waited for.
pub(super) fn complete(unit: u8, asked: Asked<'_>, burst: &[u8]) -> Option<Verdict> {
    let [first, head @ ..] = burst else { return None };
    let Expect::Exactly(len) = asked.expect(head) else { return None };
    let (frame, behind) = burst.split_at_checked(len.saturating_add(3))?;
    if *first != unit || !crc_fits(frame) || behind.len() > JUNK_BYTES_MAX {
        return None;
    }
    Some(match asked.read(&frame[1..frame.len() - 2]) {
        Ok(good) => Verdict::Good { good, salvaged: !behind.is_empty() },
        Err(fault) => Verdict::Fault { fault, whole: true },
    })
}

/// How many bytes the answer lacks that has begun, if it is one and says its length.
pub(super) fn missing(unit: u8, asked: Asked<'_>, burst: &[u8]) -> Option<usize> {
    let [first, head @ ..] = burst else { return None };
    let Expect::Exactly(len) = asked.expect(head) else { return None };
    (*first == unit && !head.is_empty()).then(|| (len + 3).saturating_sub(burst.len()))
}

/// Judges a burst after which the line was silent.
pub(super) fn ended(unit: u8, asked: Asked<'_>, burst: &[u8]) -> Verdict {
    if let Some(verdict) = complete(unit, asked, burst) {
        return verdict;
    }
    for junk in 1..=JUNK_BYTES_MAX.min(burst.len()) {
        if let Some(Verdict::Good { good, .. }) = complete(unit, asked, &burst[junk..]) {
            return Verdict::Good { good, salvaged: true };
        }
    }
    let [first, function, ..] = *burst else { return Verdict::Noise };
    let asked_function = function & !pdu::EXCEPTION_BIT == asked.function();
    if crc_fits(burst) {
        return if first == unit && asked_function {
            let fault = asked.read(&burst[1..burst.len() - 2]).err().unwrap_or(LineFault::Mismatch);
            Verdict::Fault { fault, whole: true }
        } else {
            Verdict::Other { unit: first, function, bytes: burst.len() }
        };
    }
    if first != unit || !asked_function || burst.len() < FRAME_BYTES_MIN - 1 {
        return Verdict::Noise;
    }
    match asked.expect(&burst[1..]) {
        Expect::Exactly(len) if burst.len() == len + 3 => {
            Verdict::Fault { fault: LineFault::Checksum, whole: true }
        }
        Expect::Exactly(len) if burst.len() > len + 3 => {
            Verdict::Fault { fault: LineFault::Long, whole: false }
        }
        Expect::Exactly(_) | Expect::AtLeast(_) => Verdict::Fault { fault: LineFault::Short, whole: false },
        Expect::Never => Verdict::Fault { fault: LineFault::Checksum, whole: false },
    }
}
