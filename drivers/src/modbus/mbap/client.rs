//! Requests in flight on one connection.

use std::collections::VecDeque;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request};
use gateway_core::tag::BootNs;

use super::{FRAME_BYTES_MAX, Frame, Head, PIPELINE_MAX, RESYNC_BYTES_MAX, append_frame, head};
use crate::modbus::pdu::{self, QueryError};

/// The stream holds no frames any more; only a fresh connection helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{RESYNC_BYTES_MAX} bytes without a Modbus TCP frame")]
pub struct Lost;

/// What happened since the client was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests sent.
    pub requests: u64,
    /// Answers that matched, exceptions included.
    pub answers: u64,
    /// Of these: exceptions.
    pub exceptions: u64,
    /// Requests without an answer in time.
    pub silent: u64,
    /// Answers of another unit than asked.
    pub foreign: u64,
    /// Answers of a wrong function, length or echo.
    pub mismatch: u64,
    /// Answers whose transaction id was not in flight: late ones.
    pub late_answers: u64,
    /// Bytes skipped because no frame can begin there.
    pub skipped_bytes: u64,
    /// Requests that ended with their connection.
    pub abandoned: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

#[derive(Debug)]
struct Flight {
    id: u16,
    key: u64,
    unit: u8,
    query: Query,
    asked_at: BootNs,
    /// Its time begins here: when it was asked, or when the gateway was done with one before it.
    begins_at: BootNs,
    timeout: Duration,
    /// Nothing had come by its deadline: what comes now is no value.
    is_late: bool,
    /// What came instead of its answer while it was in flight.
    seen: Option<LineFault>,
}

impl Flight {
    fn deadline(&self) -> BootNs {
        self.begins_at.plus(self.timeout)
    }

    /// When it is given up, behind a gateway that waits for so long.
    fn ends_at(&self, hold: Duration) -> BootNs {
        self.begins_at.plus(self.timeout.max(hold))
    }
}

/// Longest time that a gateway is known to wait for a device: most wait one to three seconds. And the longest time that a request may wait
/// at the gateway behind others before its own begins.
const HOLD_MAX: Duration = Duration::from_secs(5);

/// Ids of requests that timed out, whose answers may still come: those of some seconds, however many are in flight.
const EXPIRED_MAX: usize = 64;

/// Requests in flight and their answers. `key` is the caller's name for a request.
///
/// A gateway to a serial line says only after its own time-out that a device did not answer (exception 10 or 11), and does nothing else meanwhile. Where that is
/// longer than the time-out of the request, the next one would wait behind it and time out as well, although its device answers. So the client learns
/// from such exceptions how long the gateway holds the line, and keeps a request that was not answered in flight for so long; what comes after its
/// time-out is still no value. The time of what was asked behind one that is given up begins when that is told: once for each, and at most
/// five seconds late.
#[derive(Debug, Default)]
pub struct Client {
    next_id: u16,
    in_flight: Vec<Flight>,
    /// Ids of the last requests that timed out on this connection, and when they were asked; `None` after the gateway has told that it gives one up.
    expired: VecDeque<(u16, Option<BootNs>)>,
    /// When the last frame came: the gateway was busy with something else until then.
    last_frame: BootNs,
    /// For how long the gateway waits for a device that does not answer, as far as it is known.
    hold: Duration,
    done: VecDeque<(u64, Result<Answer, LineFault>)>,
    input: Vec<u8>,
    skipped: usize,
    silent_in_row: u32,
    counters: Counters,
}

impl Client {
    /// A client without a connection yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests without an answer yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Timeouts since the last byte came: a device that accepts bytes and says nothing.
    #[must_use]
    pub fn silent_in_row(&self) -> u32 {
        self.silent_in_row
    }

    /// Appends a request to `out` and waits for its answer until `timeout` after `now`.
    ///
    /// # Errors
    /// The query breaks a limit of the specification.
    ///
    /// A request beyond [`PIPELINE_MAX`] is not sent and ends at once with [`LineFault::Down`].
    pub fn send(
        &mut self,
        now: BootNs,
        key: u64,
        request: &Request,
        timeout: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), QueryError> {
        let mut pdu = Vec::new();
        pdu::encode(&request.query, &mut pdu)?;
        if self.in_flight.len() >= PIPELINE_MAX {
            self.done.push_back((key, Err(LineFault::Down)));
            return Ok(());
        }
        self.next_id = self.next_id.wrapping_add(1);
        let (id, unit) = (self.next_id, request.unit.get());
        let before = out.len();
        append_frame(id, unit, &pdu, out);
        self.counters.requests += 1;
        self.counters.sent_bytes += (out.len() - before) as u64;
        self.in_flight.push(Flight {
            id,
            key,
            unit,
            query: request.query.clone(),
            asked_at: now,
            begins_at: now,
            timeout,
            is_late: false,
            seen: None,
        });
        Ok(())
    }

    /// Takes bytes of the connection that were read at `now`.
    ///
    /// # Errors
    /// [`Lost`]: call [`Self::abandon`] and connect again.
    pub fn received(&mut self, now: BootNs, bytes: &[u8]) -> Result<(), Lost> {
        if !bytes.is_empty() {
            self.silent_in_row = 0;
        }
        self.counters.received_bytes = self.counters.received_bytes.saturating_add(bytes.len() as u64);
        for chunk in bytes.chunks(FRAME_BYTES_MAX) {
            self.input.extend_from_slice(chunk);
            self.take_frames(now)?;
        }
        Ok(())
    }

    /// The next request that has ended, by its key. To be called whenever bytes have come.
    pub fn poll(&mut self, now: BootNs) -> Option<(u64, Result<Answer, LineFault>)> {
        if let Some(done) = self.done.pop_front() {
            return Some(done);
        }
        self.in_flight.iter_mut().for_each(|flight| flight.is_late |= flight.deadline() <= now);
        let place = self.in_flight.iter().position(|flight| flight.ends_at(self.hold) <= now)?;
        self.counters.silent += 1;
        self.silent_in_row = self.silent_in_row.saturating_add(1);
        let flight = self.in_flight.remove(place);
        if self.expired.len() >= EXPIRED_MAX {
            self.expired.pop_front();
        }
        self.expired.push_back((flight.id, Some(flight.asked_at)));
        Some((flight.key, Err(flight.seen.unwrap_or(LineFault::Silence))))
    }

    /// When [`Self::poll`] is to be called even if nothing comes, after what can be read was read.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        let moment =
            |flight: &Flight| if flight.is_late { flight.ends_at(self.hold) } else { flight.deadline() };
        self.in_flight.iter().map(moment).min()
    }

    /// What came after the time-out of its request is no value any more; that the device does not answer is true all the same.
    fn late(&mut self, outcome: Result<Answer, LineFault>) -> Result<Answer, LineFault> {
        if matches!(outcome, Ok(Answer::Exception(10 | 11))) {
            return outcome;
        }
        self.counters.silent += 1;
        self.counters.late_answers += 1;
        Err(LineFault::Silence)
    }

    /// The gateway has given a device up: what was asked behind that request has waited for it until now. How long the gateway waits counts from
    /// when it can have begun.
    fn given_up(&mut self, now: BootNs, asked_at: BootNs) {
        self.hold = self.hold.max(now.since(asked_at.max(self.last_frame))).min(HOLD_MAX);
        for flight in self.in_flight.iter_mut().filter(|flight| flight.asked_at >= asked_at) {
            let begins_at = now.min(flight.asked_at.plus(HOLD_MAX));
            if begins_at > flight.begins_at {
                flight.begins_at = begins_at;
                flight.is_late &= flight.deadline() <= now;
            }
        }
    }

    /// The connection is gone: ends what is in flight with [`LineFault::Down`] and forgets half a frame.
    pub fn abandon(&mut self) {
        self.counters.abandoned += self.in_flight.len() as u64;
        self.done.extend(self.in_flight.drain(..).map(|flight| (flight.key, Err(LineFault::Down))));
        self.input.clear();
        self.expired.clear();
        self.skipped = 0;
        self.silent_in_row = 0;
    }

    fn take_frames(&mut self, now: BootNs) -> Result<(), Lost> {
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        loop {
            match head(rest) {
                Head::Incomplete => break,
                Head::Frame(frame, len) => {
                    self.skipped = 0;
                    self.answered(now, frame);
                    self.last_frame = now;
                    rest = &rest[len..];
                }
                Head::Garbage => {
                    self.seen(LineFault::Garbage);
                    self.skipped += 1;
                    self.counters.skipped_bytes += 1;
                    rest = &rest[1..];
                    if self.skipped > RESYNC_BYTES_MAX {
                        return Err(Lost);
                    }
                }
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    /// What came is no answer to anything in flight, and may be all that comes.
    fn seen(&mut self, fault: LineFault) {
        for flight in &mut self.in_flight {
            flight.seen = Some(fault);
        }
    }

    fn answered(&mut self, now: BootNs, Frame { id, unit, pdu }: Frame<'_>) {
        let Some(place) = self.in_flight.iter().position(|flight| flight.id == id) else {
            self.counters.late_answers += 1;
            match self.expired.iter_mut().find(|(expired, _)| *expired == id) {
                None => self.seen(LineFault::Transaction(id)),
                Some((_, asked_at)) if is_given_up(pdu) => {
                    if let Some(asked_at) = asked_at.take() {
                        self.given_up(now, asked_at);
                    }
                }
                Some(_) => {}
            }
            return;
        };
        let flight = self.in_flight.remove(place);
        let outcome = if unit == flight.unit {
            pdu::match_answer(&flight.query, pdu)
        } else {
            Err(LineFault::ForeignUnit(unit))
        };
        match &outcome {
            Ok(answer) => {
                self.counters.answers += 1;
                self.counters.exceptions += u64::from(matches!(answer, Answer::Exception(_)));
            }
            Err(LineFault::ForeignUnit(_)) => self.counters.foreign += 1,
            Err(_) => self.counters.mismatch += 1,
        }
        if is_given_up(pdu) && unit == flight.unit {
            self.given_up(now, flight.asked_at);
        }
        let outcome = if flight.is_late { self.late(outcome) } else { outcome };
        self.done.push_back((flight.key, outcome));
    }
}

/// Whether an answer says that a gateway could not reach the device.
fn is_given_up(pdu: &[u8]) -> bool {
    matches!(pdu, [function, 10 | 11] if function & 0x80 != 0)
}
