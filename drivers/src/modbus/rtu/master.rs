//! One exchange at a time on one line: silence, request, echo, answer or fault. See the module for the rules.

use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, UnitId};
use gateway_core::tag::BootNs;

use super::debt::{Unit, Way};
use super::exchange::{Echo, Exchange, Phase, Step, shape};
use super::judge::{self, FENCE_FUNCTION, Good, Verdict};
use super::receiver::Receiver;
use super::{Ask, Counters, JUNK_BYTES_MAX, QUARANTINE_MAX, Timing, append_crc};
use crate::modbus::pdu::{self, QueryError};

/// Characters of the longest frame and its echo: what may still be coming in at the end of a timeout.
const BURST_CHARACTERS_MAX: u32 = 512;

/// A Modbus RTU master without I/O; see the module for its rules and [`Step`] for how it is driven.
#[derive(Debug)]
pub struct Master {
    timing: Timing,
    receiver: Receiver,
    last_byte: BootNs,
    /// End of the last byte of either direction.
    quiet_since: BootNs,
    echo: Echo,
    /// Bytes travel faster than the baud rate says: pseudo terminals and native USB ports have none.
    no_rate: bool,
    units: Vec<Unit>,
    fence_number: u16,
    exchange: Option<Exchange>,
    counters: Counters,
}

impl Master {
    /// A master on a line that was opened at `now`; what happened on it before is unknown, so silence counts from here.
    #[must_use]
    pub fn new(timing: Timing, now: BootNs) -> Self {
        Self {
            timing,
            receiver: Receiver::default(),
            last_byte: now,
            quiet_since: now,
            echo: Echo::UNKNOWN,
            no_rate: false,
            units: vec![Unit::default(); 256],
            fence_number: 0,
            exchange: None,
            counters: Counters::default(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Begins an exchange. One that is under way is given up, and its unit owes an answer.
    ///
    /// # Errors
    /// The query breaks a limit of the specification, or reads by broadcast.
    pub fn start(&mut self, now: BootNs, ask: Ask) -> Result<(), QueryError> {
        if ask.request.unit == UnitId::BROADCAST && !pdu::only_writes(&ask.request.query) {
            return Err(QueryError::BroadcastRead);
        }
        pdu::check(&ask.request.query)?;
        self.abandon();
        self.exchange = Some(Exchange {
            ask,
            started: now,
            fence: None,
            frame: Vec::new(),
            phase: Phase::Before,
            forgiven: false,
            seen: None,
        });
        Ok(())
    }

    /// Gives the exchange up that is under way, if any: the line broke or somebody else wants it. Its unit owes an answer.
    pub fn abandon(&mut self) {
        if let Some(exchange) = self.exchange.take()
            && matches!(exchange.phase, Phase::OnLine { .. })
            && exchange.fence.is_none()
        {
            self.units[usize::from(exchange.unit())].owes(shape(&exchange.ask.request.query));
        }
    }

    /// The line was opened again at `now`: what was under way on it is gone, who owes answers is not forgotten.
    pub fn reopened(&mut self, now: BootNs) {
        self.resumed(now);
        self.echo = Echo::UNKNOWN;
        self.no_rate = false;
    }

    /// The connection to the same line was made anew at `now`: as [`Self::reopened`], but whether the line echoes is known.
    pub fn resumed(&mut self, now: BootNs) {
        self.abandon();
        self.receiver.clear();
        self.last_byte = now;
        self.quiet_since = now;
    }

    /// The frame to write after [`Step::Send`].
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.exchange.as_ref().map_or(&[], |exchange| &exchange.frame)
    }

    /// Before this moment the answer that has begun cannot be whole: its owner may sleep until then instead of waking for every
    /// byte, and must read before it polls again. `None` while nothing or something else is coming in.
    #[must_use]
    pub fn whole_at(&self) -> Option<BootNs> {
        let exchange = self.exchange.as_ref()?;
        matches!(exchange.phase, Phase::OnLine { .. }).then_some(())?;
        let missing = judge::missing(exchange.unit(), exchange.asked(), self.receiver.bytes())?;
        let missing = u32::try_from(missing).ok()?;
        Some(self.last_byte.plus(self.timing.character.saturating_mul(missing.saturating_sub(1))))
    }

    /// The frame was written: it began between `begun` and `written`, as the thread may have been held up on both sides of the write. What may be too
    /// early for an answer is judged from the first, the timeout and the silence from the second.
    pub fn sent(&mut self, begun: BootNs, written: BootNs) {
        self.receiver.clear();
        let Some(exchange) = &mut self.exchange else { return };
        let bytes = u32::try_from(exchange.frame.len()).unwrap_or(u32::MAX);
        let duration = self.timing.character.saturating_mul(bytes);
        let end = written.max(begun).plus(duration);
        self.quiet_since = end;
        self.counters.sent_bytes = self.counters.sent_bytes.saturating_add(u64::from(bytes));
        let unit = &mut self.units[usize::from(exchange.unit())];
        if exchange.fence.is_some() {
            self.counters.fences += 1;
            unit.fence_sent(end);
        } else {
            self.counters.requests += 1;
            unit.request_sent(end);
        }
        exchange.phase = if exchange.ask.request.unit == UnitId::BROADCAST {
            self.counters.broadcasts += 1;
            Phase::Turnaround { until: end.plus(exchange.ask.turnaround) }
        } else {
            // Crystals differ: a sender may be up to 5 % faster than the nominal rate.
            let early_until = begun.plus(duration.mul_f64(0.95));
            Phase::OnLine { early_until, end, deadline: end.plus(exchange.ask.timeout), echo_seen: false }
        };
    }

    /// At `now` the port still held `bytes` unsent bytes: the request ends, and its timeout begins, that much later.
    pub fn still_sending(&mut self, now: BootNs, bytes: u32) {
        if bytes == 0 {
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        let later = now.plus(self.timing.character.saturating_mul(bytes));
        if let Phase::OnLine { end, deadline, .. } = &mut exchange.phase
            && later > *end
        {
            *end = later;
            *deadline = later.plus(exchange.ask.timeout);
            self.quiet_since = later;
        }
    }

    /// Whether the request itself (no fence before it) has been sent completely, so that its unit may act on it.
    #[must_use]
    pub fn request_is_out(&self) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| !matches!(exchange.phase, Phase::Before) && exchange.fence.is_none())
    }

    /// When the request that is on the line has been sent completely, as far as is known.
    #[must_use]
    pub fn sending_until(&self) -> Option<BootNs> {
        match self.exchange.as_ref()?.phase {
            Phase::OnLine { end, .. } => Some(end),
            _ => None,
        }
    }

    /// Bytes that were read at `now`.
    pub fn received(&mut self, now: BootNs, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.end_stray_burst(now);
        self.counters.received_bytes = self.counters.received_bytes.saturating_add(bytes.len() as u64);
        self.receiver.push(now, bytes, self.timing.character);
        self.last_byte = now;
        self.quiet_since = self.quiet_since.max(now);
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: BootNs) -> Step {
        let Some(exchange) = self.exchange.as_ref() else {
            self.end_stray_burst(now);
            return Step::Idle;
        };
        match exchange.phase {
            Phase::Before => self.before(now),
            Phase::OnLine { early_until, deadline, .. } => match self.on_line(now, early_until, deadline) {
                // A fence has come back and the silence after it has passed unseen, as the caller was late.
                Step::Wait(until) if until <= now => self.before(now),
                step => step,
            },
            Phase::Turnaround { until } if now < until => Step::Wait(until),
            Phase::Turnaround { .. } => {
                self.exchange = None;
                Step::Done(Ok(Answer::Done))
            }
        }
    }

    /// Waits for the silence (and for debts) before a request or fence, and prepares its frame.
    fn before(&mut self, now: BootNs) -> Step {
        self.end_stray_burst(now);
        let Some(exchange) = &mut self.exchange else { return Step::Idle };
        let unit = &mut self.units[usize::from(exchange.unit())];
        let mut due = self.quiet_since.plus(self.timing.silence + exchange.ask.delay_before);
        if !self.receiver.is_empty() {
            due = due.max(self.last_byte.plus(self.timing.gap));
            if now >= exchange.started.plus(QUARANTINE_MAX + exchange.ask.delay_before) {
                self.counters.babble += 1;
                return self.finish(Err(LineFault::Long), true);
            }
        }
        let way = unit.way(exchange.ask.timeout, self.timing.fences);
        if let Way::NotBefore(moment) = way {
            due = due.max(moment);
        }
        if now < due {
            return Step::Wait(due);
        }
        exchange.frame.clear();
        exchange.frame.push(exchange.ask.request.unit.get());
        exchange.fence = None;
        if way == Way::Fence {
            self.fence_number = self.fence_number.wrapping_add(1);
            exchange.fence = Some(self.fence_number);
            exchange.frame.extend_from_slice(&[FENCE_FUNCTION, 0, 0]);
            exchange.frame.extend_from_slice(&self.fence_number.to_be_bytes());
        } else {
            if matches!(way, Way::NotBefore(_)) {
                self.counters.debts_forgiven += 1;
                unit.forgive();
                exchange.forgiven = true;
            }
            if pdu::encode(&exchange.ask.request.query, &mut exchange.frame).is_err() {
                return self.finish(Err(LineFault::Mismatch), true);
            }
        }
        append_crc(&mut exchange.frame);
        Step::Send
    }

    fn on_line(&mut self, now: BootNs, early_until: BootNs, deadline: BootNs) -> Step {
        let maybe_echo = self.strip_echo();
        if let Some(step) = self.look(early_until, maybe_echo) {
            return step;
        }
        if self.receiver.is_empty() {
            if now < deadline {
                return Step::Wait(deadline);
            }
            let fault =
                self.exchange.as_ref().and_then(|exchange| exchange.seen).unwrap_or(LineFault::Silence);
            return self.finish(Err(fault), false);
        }
        let mut frame_ends = self.last_byte.plus(self.timing.gap);
        if self.echo.is_unknown() && !self.receiver.is_discarding() && !self.is_second_copy() {
            frame_ends = frame_ends.max(deadline);
        }
        if now < frame_ends {
            let longest = self.timing.character.saturating_mul(BURST_CHARACTERS_MAX);
            let give_up = deadline.plus(longest + self.timing.gap + Duration::from_secs(1));
            if now < give_up {
                return Step::Wait(frame_ends);
            }
            self.counters.babble += 1;
            return self.finish(Err(LineFault::Long), false);
        }
        self.burst_ended(now)
    }

    /// Looks at an unfinished burst: is it early, is it the answer?
    fn look(&mut self, early_until: BootNs, maybe_echo: bool) -> Option<Step> {
        if self.receiver.is_discarding() || maybe_echo {
            return None;
        }
        let exchange = self.exchange.as_ref()?;
        let early = self.receiver.first_arrived().is_some_and(|first| first < early_until);
        if early && exchange.forgiven && !self.no_rate {
            self.counters.early_frames += 1;
            self.receiver.discard();
            return None;
        }
        let asked = exchange.asked();
        let verdict = judge::complete(exchange.unit(), asked, self.receiver.bytes())?;
        let unproven = self.echo.is_unknown() && asked.answer_is_echo();
        if unproven && matches!(verdict, Verdict::Good { .. }) && !self.is_second_copy() {
            return None;
        }
        // Nothing else can have been under way (but the refusal of an older fence): this port does not take the time of its rate.
        let proof = matches!(verdict, Verdict::Good { good: Good::Answer(_) | Good::FenceReturned, .. });
        self.no_rate |= early && proof;
        self.act_on(verdict)
    }

    /// Until an answer that differs from its request has shown whether this line echoes, a copy of the request may be its echo as
    /// well as the answer: only a second one proves that the device spoke. A single one counts when the timeout is over.
    fn is_second_copy(&self) -> bool {
        let Some(Exchange { phase: Phase::OnLine { echo_seen, .. }, frame, .. }) = &self.exchange else {
            return true;
        };
        *echo_seen || !self.receiver.bytes().starts_with(frame)
    }

    /// The line was silent after a burst without an answer in it.
    fn burst_ended(&mut self, now: BootNs) -> Step {
        let Some(exchange) = self.exchange.as_ref() else { return Step::Idle };
        let verdict = if self.receiver.is_discarding() {
            Verdict::Noise
        } else {
            let verdict = judge::ended(exchange.unit(), exchange.asked(), self.receiver.bytes());
            let lone_copy = self.echo.is_unknown() && !self.is_second_copy();
            // A fence is a proof, and what may be its own echo proves nothing.
            if lone_copy && exchange.fence.is_some() { Verdict::Noise } else { verdict }
        };
        if let Some(step) = self.act_on(verdict) {
            return step;
        }
        self.receiver.clear();
        self.poll(now)
    }

    /// Ends the exchange if `verdict` does; `None` goes on waiting.
    fn act_on(&mut self, verdict: Verdict) -> Option<Step> {
        match verdict {
            Verdict::Good { good, salvaged } => {
                self.counters.salvaged += u64::from(salvaged);
                self.good(good)
            }
            Verdict::Fault { fault, whole } => {
                let fence = self.exchange.as_ref().is_some_and(|exchange| exchange.fence.is_some());
                if fence {
                    // A damaged fence proves nothing; the next may come through.
                    self.seen(fault);
                    self.counters.strays += 1;
                    self.receiver.clear();
                    return None;
                }
                Some(self.finish(Err(fault), whole))
            }
            Verdict::Other { unit, function, bytes } => {
                let asked = self.exchange.as_ref().map_or(0, Exchange::unit);
                self.seen(if unit == asked {
                    LineFault::Function(function)
                } else {
                    LineFault::ForeignUnit(unit)
                });
                self.other_frame(unit, function, bytes);
                None
            }
            Verdict::Noise => {
                self.seen(LineFault::Garbage);
                self.counters.strays += 1;
                None
            }
        }
    }

    fn good(&mut self, good: Good) -> Option<Step> {
        let exchange = self.exchange.as_mut()?;
        let unit = &mut self.units[usize::from(exchange.unit())];
        if let Phase::OnLine { echo_seen, .. } = exchange.phase
            && !echo_seen
            && !exchange.asked().answer_is_echo()
        {
            self.echo.missed();
        }
        let clear = match good {
            Good::Answer(answer) => return Some(self.finish(Ok(answer), true)),
            Good::FenceReturned => {
                unit.fence_returned();
                true
            }
            Good::FenceRefused => unit.fence_refused(),
        };
        self.receiver.clear();
        if clear {
            self.counters.fences_answered += 1;
            exchange.phase = Phase::Before;
            exchange.seen = None;
            let due = self.quiet_since.plus(self.timing.silence + exchange.ask.delay_before);
            return Some(Step::Wait(due));
        }
        None
    }

    /// Takes the echo of the request off. Returns whether what is there may still become the echo.
    fn strip_echo(&mut self) -> bool {
        let Some(exchange) = &mut self.exchange else { return false };
        let ambiguous = exchange.asked().answer_is_echo();
        let Phase::OnLine { echo_seen, .. } = &mut exchange.phase else { return false };
        let (burst, frame) = (self.receiver.bytes(), &exchange.frame);
        let same = burst.len().min(frame.len());
        if *echo_seen || same == 0 || burst[..same] != frame[..same] {
            return false;
        }
        // Behind an echo comes the answer, which has at least 5 bytes; behind an answer comes a little noise at most.
        let followed = burst.len() > same + JUNK_BYTES_MAX;
        let is_echo = !ambiguous || self.echo == Echo::Present || (self.echo.is_unknown() && followed);
        if same < frame.len() || !is_echo {
            return is_echo;
        }
        *echo_seen = true;
        if !ambiguous {
            self.echo.seen();
        }
        self.counters.echoes += 1;
        self.receiver.strip(same);
        false
    }

    /// Outside an exchange (or before its request) a burst has ended: it may be a late answer.
    fn end_stray_burst(&mut self, now: BootNs) {
        let waiting = self.exchange.as_ref().is_none_or(|exchange| matches!(exchange.phase, Phase::Before));
        if !waiting || self.receiver.is_empty() || now < self.last_byte.plus(self.timing.gap) {
            return;
        }
        let burst = self.receiver.bytes();
        match *burst {
            [unit, function, ..] if super::crc::crc_fits(burst) => {
                let bytes = burst.len();
                self.other_frame(unit, function, bytes);
            }
            _ => self.counters.strays += 1,
        }
        self.receiver.clear();
    }

    fn other_frame(&mut self, unit: u8, function: u8, bytes: usize) {
        if function & 0x7F == FENCE_FUNCTION {
            self.units[usize::from(unit)].hears();
        }
        if self.units[usize::from(unit)].pay(function, bytes) {
            self.counters.late_answers += 1;
        } else {
            self.counters.strays += 1;
        }
    }

    fn seen(&mut self, fault: LineFault) {
        if let Some(exchange) = &mut self.exchange {
            exchange.seen = Some(fault);
        }
    }

    /// Ends the exchange. `settled` says that nothing of an answer can still come.
    fn finish(&mut self, outcome: Result<Answer, LineFault>, settled: bool) -> Step {
        let Some(exchange) = self.exchange.take() else { return Step::Idle };
        let unit = &mut self.units[usize::from(exchange.unit())];
        let sent = matches!(exchange.phase, Phase::OnLine { .. });
        match (&outcome, exchange.fence) {
            (Ok(_), _) => unit.answered(),
            (Err(_), Some(_)) => unit.fence_missed(),
            (Err(_), None) if sent && !settled => unit.owes(shape(&exchange.ask.request.query)),
            (Err(_), None) => {}
        }
        if outcome.is_ok() {
            self.receiver.clear();
        }
        let counters = &mut self.counters;
        *match &outcome {
            Ok(answer) => {
                counters.exceptions += u64::from(matches!(answer, Answer::Exception(_)));
                &mut counters.answers
            }
            Err(LineFault::Silence | LineFault::Down) => &mut counters.silent,
            Err(LineFault::Short) => &mut counters.short,
            Err(LineFault::Long) => &mut counters.long,
            Err(LineFault::Checksum | LineFault::Garbage) => &mut counters.checksum,
            Err(LineFault::ForeignUnit(_)) => &mut counters.foreign,
            Err(LineFault::Function(_) | LineFault::Transaction(_) | LineFault::Mismatch) => {
                &mut counters.mismatch
            }
        } += 1;
        Step::Done(outcome)
    }
}
