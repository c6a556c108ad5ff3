//! What the machine makes of the suspicions of [`super::suspects`].

use std::sync::Arc;
use std::time::Duration;

use super::action::Action;
use super::flights::{Cargo, Flight};
use super::link::Token;
use super::loss::Loss;
use super::machine::Uplink;
use super::row::{Blame, Qos, Seq};
use super::suspects::{Accused, Death, End};

impl Uplink {
    /// What an acknowledgement says about this message and those before it. Gives the token of a message of QoS 0 that it proves.
    pub(super) fn clear_suspicion(&mut self, token: Token, flight: Flight) -> Option<u64> {
        let row = match flight.cargo {
            Cargo::Row(seq, _) => self.queue.row(seq),
            Cargo::Birth | Cargo::Ledger | Cargo::Bulletin | Cargo::Stopped => None,
        };
        if flight.acked_by_cloud {
            let accused = accused_of(flight.cargo);
            return self.suspects.acked(self.servers.current(), token.0, accused, row.as_deref());
        }
        if let Some(row) = row.filter(|_| self.suspects_anything()) {
            self.suspects.unproven(token.0, &row);
        }
        None
    }

    /// Whether messages are tried: where nothing is ever acknowledged nothing can be shown, and nothing is sent twice.
    fn suspects_anything(&self) -> bool {
        self.settings.qos != Qos::AtMostOnce
    }

    /// Looks at what was in flight when a connection ended: what is proved to be the cause is set aside.
    pub(super) fn accuse(&mut self, loss: &Loss, up_for: Option<Duration>) -> End {
        let by_message = !matches!(loss, Loss::Overrun | Loss::IncomingOversize { .. } | Loss::Stopped);
        let excused = std::mem::take(&mut self.excused);
        if excused || up_for.is_none() || !by_message || !self.suspects_anything() {
            self.suspects.given_up();
            return if excused { End::Excused } else { End::Unclear };
        }

        let in_flight: Vec<Accused> = self.flights.cargos().filter_map(accused_of).collect();
        let server = self.servers.current();
        let worked = self.servers.has_worked();
        let death = Death { now: self.now, server, worked, in_flight: &in_flight, faults: self.faults };
        let end = self.suspects.lost(&death);
        match end {
            End::Blamed(Accused::Row(seq), blame) => self.set_aside(seq, blame),
            End::Blamed(Accused::Birth, _) => self.silence(Arc::clone(&self.settings.status_topic)),
            End::Blamed(Accused::Ledger, _) => self.silence(Arc::clone(&self.settings.ledger_topic)),
            End::Blamed(Accused::Bulletin, _) => {
                self.silence(self.bulletins.topic().cloned().unwrap_or_default());
            }
            End::Unclear | End::Excused | End::Suspicious | End::Trial => {}
        }
        end
    }

    /// Sets a row aside that waits or is in flight.
    pub(super) fn set_aside(&mut self, seq: Seq, blame: Blame) {
        let server = self.server_name();
        if let Some(mark) = self.queue.set_aside(self.now, seq, blame, &server) {
            self.notices.push_back(Action::SetAside { mark });
        }
    }

    fn silence(&mut self, topic: Arc<str>) {
        self.counters.silenced_total += 1;
        let server = self.server_name();
        self.notices.push_back(Action::Silenced { topic, server });
    }

    fn server_name(&self) -> Arc<str> {
        self.server_names.get(self.servers.current()).cloned().unwrap_or_default()
    }
}

/// What is accused when this is in flight; the last message of all is of no interest.
pub(super) fn accused_of(cargo: Cargo) -> Option<Accused> {
    match cargo {
        Cargo::Row(seq, _) => Some(Accused::Row(seq)),
        Cargo::Birth => Some(Accused::Birth),
        Cargo::Ledger => Some(Accused::Ledger),
        Cargo::Bulletin => Some(Accused::Bulletin),
        Cargo::Stopped => None,
    }
}
