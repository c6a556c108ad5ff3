//! What the machine does next: the order of its actions, and its own messages.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, State};
use super::flights::{Cargo, Flights};
use super::link::Will;
use super::machine::Uplink;
use super::queue::{Lane, Taken};
use super::row::{Blame, Qos, Row, Seq};
use super::settings::Drain;
use super::share::Waiting;
use super::status;
use super::suspects::{Accused, Kind, Way};
use super::topic;

/// So long a row that has to go alone waits while rows of the other lane are sent. Every one of them may cost the line a round trip without other
/// rows, at most once in this time.
const ALONE_WAIT_MAX: Duration = Duration::from_secs(1);

impl Uplink {
    pub(super) fn next_action(&mut self) -> Option<Action> {
        if let Some((epoch, clean)) = self.ending.take() {
            return Some(Action::Disconnect { epoch, clean });
        }
        if let Some(receipt) = self.queue.poll_receipt() {
            return Some(Action::Receipt(receipt));
        }
        if let Some(op) = self.queue.poll_op(self.now) {
            return Some(Action::Store(op));
        }
        if std::mem::take(&mut self.connect_due) {
            self.counters.connects_total += 1;
            let (epoch, server) = (self.epoch, self.servers.current());
            return Some(Action::Connect { epoch, server, will: self.will() });
        }
        if let Some(stopped) = self.finish_stop() {
            return Some(stopped);
        }
        let State::Up { .. } = self.state else { return None };
        if self.stop.is_some() {
            // No time to find out anything.
            self.suspects.given_up();
        }
        if self.suspects.wants_proof() {
            return self.send_other(true);
        }
        if !self.may_announce() {
            return None;
        }
        let next = self.next_announcement().or_else(|| self.next_row());
        let waits = self.birth_due || self.bulletin_waits();
        if next.is_some() || self.stop.is_some() || !(waits && self.may_announce()) {
            return next;
        }
        // Only messages of the uplink itself are left, and they are suspected.
        let rows_come = self.queue.has_live() || self.queue.backlog_exists();
        if rows_come { None } else { self.send_other(false) }
    }

    /// Whether a message may be sent at all: what is tried is alone in flight.
    pub(super) fn may_announce(&self) -> bool {
        let tried = self.suspects.is_careful(self.window()) && !self.flights.is_empty();
        self.stop.is_some() || !(self.suspects.is_alone() || tried)
    }

    fn window(&self) -> usize {
        usize::from(self.settings.window.max(1))
    }

    pub(super) fn own_way(&self, own: Accused) -> Way {
        self.suspects.way_of_own(self.now, self.servers.current(), own, self.window())
    }

    /// The stop is complete when nothing is left to write and the status has arrived (or there is no link), or at its deadline.
    fn finish_stop(&mut self) -> Option<Action> {
        let stop = self.stop.as_mut().filter(|stop| !stop.done)?;
        let up = matches!(self.state, State::Up { .. });
        let complete = self.queue.is_flushed() && (stop.said || !up);
        if !complete && self.now < stop.deadline {
            return None;
        }
        if up {
            self.enter(State::Idle);
            self.queue.detach(self.now);
            self.flights = Flights::default();
            return Some(Action::Disconnect { epoch: self.epoch, clean: true });
        }
        stop.done = true;
        Some(Action::Stopped { left: self.queue.ledger().in_memory })
    }

    fn next_announcement(&mut self) -> Option<Action> {
        if self.birth_due {
            // There is no time left to find out anything.
            let stops = self.stop.is_some();
            match self.own_way(Accused::Birth) {
                Way::Not(_) => self.birth_due = false,
                // Something else first, to find out whether it is this that the server will not take.
                Way::Later if !stops && self.other() == Some((Accused::Ledger, true)) => {
                    return self.send_other(false);
                }
                // Rows, alone. The message stays due.
                Way::Later if !stops => {}
                Way::Later | Way::Free | Way::Alone { .. } => {
                    self.birth_due = false;
                    return Some(self.birth());
                }
            }
        }
        if let Some(stop) = &mut self.stop {
            if stop.said || self.flights.holds_stopped() {
                return None;
            }
            let server = self.servers.current();
            if self.suspects.is_silent(self.now, server, Accused::Birth) {
                stop.said = true;
                return self.finish_stop();
            }
            let payload = status::stopped(&self.identity, self.queue.next_seq());
            let topic = Arc::clone(&self.settings.status_topic);
            return Some(self.announce(Cargo::Stopped, topic, payload, true));
        }
        if self.now >= self.ledger_at && !self.flights.holds_ledger() {
            self.ledger_is_said();
            if matches!(self.own_way(Accused::Ledger), Way::Free | Way::Alone { .. }) {
                return Some(self.ledger());
            }
        }
        self.next_bulletin()
    }

    fn birth(&mut self) -> Action {
        let next = self.queue.next_seq();
        let connects = self.counters.ups_total;
        let losses = status::Losses { down: self.last_down.as_ref(), last: self.last_loss.as_ref() };
        let payload = status::birth(&self.identity, connects, next, self.queue.aside_total(), losses);
        let topic = Arc::clone(&self.settings.status_topic);
        self.announce(Cargo::Birth, topic, payload, true)
    }

    /// The next ledger that nobody asks for: by the clock, however often the connection is made again meanwhile.
    fn ledger_is_said(&mut self) {
        self.ledger_at = self.now.plus(self.settings.ledger_every.max(Duration::from_secs(1)));
    }

    fn ledger(&mut self) -> Action {
        self.ledger_is_said();
        let next = self.queue.next_seq();
        let payload =
            status::ledger(&self.identity, self.now, next, self.queue.aside_total(), self.queue.ledger());
        let topic = Arc::clone(&self.settings.ledger_topic);
        self.announce(Cargo::Ledger, topic, payload, false)
    }

    /// The message of the uplink itself that is sent for the sake of others, if there is one, and whether nothing is said against it.
    fn other(&self) -> Option<(Accused, bool)> {
        self.suspects.other(self.now, self.servers.current())
    }

    /// Sends it: alone, or as the proof that what was written before it has been read.
    fn send_other(&mut self, proof: bool) -> Option<Action> {
        // Where the server takes neither, the status message has to do as a proof.
        let other = self.other().map(|(own, _)| own).or(proof.then_some(Accused::Birth))?;
        let action = if other == Accused::Birth { self.birth() } else { self.ledger() };
        self.birth_due &= other != Accused::Birth;
        if proof && let Action::Announce { token, .. } = &action {
            self.suspects.sent_proof(token.0);
        }
        Some(action)
    }

    pub(super) fn announce(
        &mut self,
        cargo: Cargo,
        topic: Arc<str>,
        payload: Vec<u8>,
        retain: bool,
    ) -> Action {
        let qos = self.status_qos();
        self.counters.announcements_total += 1;
        let token = self.flights.depart(self.now, cargo, qos != Qos::AtMostOnce);
        let accused = match cargo {
            Cargo::Birth => Some(Accused::Birth),
            Cargo::Ledger => Some(Accused::Ledger),
            Cargo::Bulletin => Some(Accused::Bulletin),
            Cargo::Row(..) | Cargo::Stopped => None,
        };
        if let Some(accused) = accused.filter(|_| self.is_careful() && !self.suspects.is_alone()) {
            self.counters.sent_alone_total += 1;
            self.suspects.sent_alone(accused, token.0, None, false, qos);
        }
        Action::Announce { epoch: self.epoch, token, topic, payload, qos, retain }
    }

    fn next_row(&mut self) -> Option<Action> {
        if self.stop.is_some() {
            return None;
        }
        // Each turn without a row has dropped an expired one or set one aside, so this ends.
        loop {
            let overdue = self.overdue_lane();
            if overdue.is_some() && !self.flights.is_empty() {
                return None;
            }
            let lane = overdue.or_else(|| self.next_lane())?;
            let way = self.way_of_first(lane);
            let way = match way {
                Some((seq, Way::Not(blame))) => {
                    self.set_aside(seq, blame);
                    continue;
                }
                Some((_, Way::Alone { .. })) if !self.flights.is_empty() => {
                    self.alone_wait.get_or_insert((lane, self.now));
                    return None;
                }
                Some((seq, Way::Later)) => return self.others_first(lane, seq),
                Some((_, way)) => way,
                None => Way::Free,
            };
            if let Some(taken) = self.queue.take(self.now, lane) {
                return Some(self.send(lane, taken, way));
            }
        }
    }

    /// The lane whose first row has to go alone and has waited for that long enough: nothing else is sent until nothing is in flight.
    fn overdue_lane(&mut self) -> Option<Lane> {
        let (lane, since) = self.alone_wait?;
        // It may have expired, or been sent, dropped, set aside or acquitted meanwhile.
        if !matches!(self.way_of_first(lane), Some((_, Way::Alone { .. }))) {
            self.alone_wait = None;
            return None;
        }
        (self.now >= since.plus(ALONE_WAIT_MAX)).then_some(lane)
    }

    fn send(&mut self, lane: Lane, Taken { row, again }: Taken, way: Way) -> Action {
        match lane {
            Lane::Live => self.counters.live_rows_total += 1,
            Lane::Backlog => self.counters.backlog_rows_total += 1,
        }
        self.last_lane = lane;
        self.bulletins.other_sent();
        let cargo = Cargo::Row(row.seq, lane);
        let token = self.flights.depart(self.now, cargo, row.qos != Qos::AtMostOnce);
        if let Way::Alone { alike } = way {
            self.alone_wait.take_if(|(waiting, _)| *waiting == lane);
            self.counters.sent_alone_total += 1;
            let (accused, kind) = (Accused::Row(row.seq), Some(Kind::of(&row)));
            self.suspects.sent_alone(accused, token.0, kind, alike, row.qos);
        }
        Action::Send { epoch: self.epoch, token, row, lane, again }
    }

    fn way_of_first(&self, lane: Lane) -> Option<(Seq, Way)> {
        self.queue.peek(lane).map(|row| (row.seq, self.way_of(row)))
    }

    fn way_of(&self, row: &Row) -> Way {
        if self.settings.qos == Qos::AtMostOnce {
            return Way::Free;
        }
        if !topic::is_fit(&row.topic) {
            return Way::Not(Blame::Topic);
        }
        self.suspects.way_of(self.now, self.servers.current(), row, self.window())
    }

    /// Sends something else than the first row of a lane, alone: of the other lane, else of the uplink itself, else of the rows behind. If there is
    /// nothing else, nobody waits behind it.
    fn others_first(&mut self, lane: Lane, first: Seq) -> Option<Action> {
        let other_lane = if lane == Lane::Live { Lane::Backlog } else { Lane::Live };
        if self.settings.drain == Drain::LiveFirst
            && let Some((_, way @ Way::Alone { .. })) = self.way_of_first(other_lane)
            && let Some(taken) = self.queue.take(self.now, other_lane)
        {
            return Some(self.send(other_lane, taken, way));
        }
        if self.other().is_some() {
            return self.send_other(false);
        }
        let behind = self.queue.peek_behind(lane, first).map(|row| (row.seq, self.way_of(row)));
        let (seq, way) = match behind {
            Some((seq, way @ Way::Alone { .. })) => (seq, way),
            _ => (first, Way::Alone { alike: false }),
        };
        let taken = self.queue.take_this(self.now, lane, seq)?;
        Some(self.send(lane, taken, way))
    }

    /// Whether a message is being tried, so that everything is sent alone and awaited.
    #[must_use]
    pub fn is_careful(&self) -> bool {
        self.suspects.is_careful(self.window())
    }

    /// Whether fewer rows are sent at a time than the window has, because connections with rows in flight have ended one after the other.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.suspects.window(self.window()) < self.window()
    }

    fn next_lane(&mut self) -> Option<Lane> {
        let flight = self.flights.lanes();
        let window = self.suspects.window(self.window());
        if self.is_narrow() {
            let room = flight.live + flight.backlog < window;
            return if room { self.lane_in_turn() } else { None };
        }
        match self.settings.drain {
            Drain::Fifo => {
                let room = flight.live + flight.backlog < usize::from(self.settings.window.max(1));
                if room { self.queue.next_in_order() } else { None }
            }
            Drain::LiveFirst => {
                let waiting = Waiting {
                    live: self.queue.has_live(),
                    backlog: self.queue.has_backlog(),
                    backlog_exists: self.queue.backlog_exists(),
                };
                self.share.pick(flight, waiting, self.faults)
            }
        }
    }

    /// While something is suspected both lanes are served in turn: it may be in either.
    fn lane_in_turn(&self) -> Option<Lane> {
        if self.settings.drain == Drain::Fifo {
            return self.queue.next_in_order();
        }
        match (self.queue.has_live(), self.queue.has_backlog()) {
            (true, true) if self.last_lane == Lane::Live => Some(Lane::Backlog),
            (true, _) => Some(Lane::Live),
            (false, backlog) => backlog.then_some(Lane::Backlog),
        }
    }

    /// Clouds that never acknowledge get everything with QoS 0.
    fn status_qos(&self) -> Qos {
        self.settings.qos.min(Qos::AtLeastOnce)
    }

    fn will(&self) -> Will {
        Will {
            topic: Arc::clone(&self.settings.status_topic),
            payload: status::will(&self.identity),
            qos: self.status_qos(),
            retain: true,
        }
    }
}
