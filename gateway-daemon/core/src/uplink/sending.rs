//! What the machine does next: the order of its actions, and its own messages.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, State};
use super::flights::{Cargo, Flights};
use super::link::Will;
use super::machine::Uplink;
use super::queue::{Lane, Taken};
use super::row::Qos;
use super::settings::Drain;
use super::share::Waiting;
use super::status;

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
        self.next_announcement().or_else(|| self.next_row())
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
            self.state = State::Idle;
            self.queue.detach(self.now);
            self.flights = Flights::default();
            return Some(Action::Disconnect { epoch: self.epoch, clean: true });
        }
        stop.done = true;
        Some(Action::Stopped { left: self.queue.ledger().in_memory })
    }

    fn next_announcement(&mut self) -> Option<Action> {
        if self.birth_due {
            self.birth_due = false;
            let next = self.queue.next_seq();
            let losses = status::Losses { down: self.last_down.as_ref(), last: self.last_loss.as_ref() };
            let payload = status::birth(&self.identity, self.counters.connects_total, next, losses);
            let topic = Arc::clone(&self.settings.status_topic);
            return Some(self.announce(Cargo::Birth, topic, payload, true));
        }
        if let Some(stop) = &self.stop {
            if stop.said || self.flights.holds_stopped() {
                return None;
            }
            let payload = status::stopped(&self.identity, self.queue.next_seq());
            let topic = Arc::clone(&self.settings.status_topic);
            return Some(self.announce(Cargo::Stopped, topic, payload, true));
        }
        if self.now >= self.ledger_at && !self.flights.holds_ledger() {
            self.ledger_at = self.now.plus(self.settings.ledger_every.max(Duration::from_secs(1)));
            let next = self.queue.next_seq();
            let payload = status::ledger(&self.identity, self.now, next, self.queue.ledger());
            let topic = Arc::clone(&self.settings.ledger_topic);
            return Some(self.announce(Cargo::Ledger, topic, payload, false));
        }
        None
    }

    fn announce(&mut self, cargo: Cargo, topic: Arc<str>, payload: Vec<u8>, retain: bool) -> Action {
        let qos = self.status_qos();
        self.counters.announcements_total += 1;
        let token = self.flights.depart(self.now, cargo, qos != Qos::AtMostOnce);
        Action::Announce { epoch: self.epoch, token, topic, payload, qos, retain }
    }

    fn next_row(&mut self) -> Option<Action> {
        if self.stop.is_some() {
            return None;
        }
        // Each turn without a row has dropped an expired one, so this ends.
        loop {
            let lane = self.next_lane()?;
            let Some(Taken { row, again }) = self.queue.take(self.now, lane) else { continue };
            match lane {
                Lane::Live => self.counters.live_rows_total += 1,
                Lane::Backlog => self.counters.backlog_rows_total += 1,
            }
            let cargo = Cargo::Row(row.seq, lane);
            let token = self.flights.depart(self.now, cargo, row.qos != Qos::AtMostOnce);
            return Some(Action::Send { epoch: self.epoch, token, row, lane, again });
        }
    }

    fn next_lane(&mut self) -> Option<Lane> {
        let flight = self.flights.lanes();
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
