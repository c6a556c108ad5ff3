//! What the connections so far say about a bus: whether the end of one is part of life or a fault.

/// Connections without an answer in a row after which a bus that has worked is down: one may end in the middle of a request, one more by bad luck.
pub(super) const FRUITLESS_MAX: u32 = 3;
/// The same for a bus that has not answered since it was down.
pub(super) const FRUITLESS_UNPROVEN_MAX: u32 = 2;

/// What is known from the connections so far.
#[derive(Debug, Default)]
pub(super) struct History {
    /// This connection has brought an answer.
    answered: bool,
    /// One has, since the bus was last down.
    proven: bool,
    /// Connections in a row that ended without one.
    fruitless: u32,
    /// The unit whose request was lost with each of them, as long as it was the same.
    suspect: Option<u8>,
    /// The unit that answered last.
    last_answer_of: Option<u8>,
    /// A connection was given up because nothing came on it, and nothing has come since.
    silent: bool,
}

impl History {
    /// A connection is open.
    pub(super) fn opened(&mut self) {
        self.answered = false;
    }

    /// A unit has answered.
    pub(super) fn answered(&mut self, unit: u8) {
        (self.answered, self.proven) = (true, true);
        (self.fruitless, self.suspect, self.silent) = (0, None, false);
        self.last_answer_of = Some(unit);
    }

    /// The connection is given up because nothing comes on it.
    pub(super) fn silent(&mut self) {
        self.silent = true;
    }

    /// Whether that was the end of a connection, and nothing has come since.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The bus is down.
    pub(super) fn down(&mut self) {
        (self.answered, self.proven) = (false, false);
        (self.fruitless, self.suspect) = (0, None);
    }

    /// Whether this connection has brought an answer.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether a connection has brought an answer since the bus was last down.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The other side has closed the connection, and requests to these units were lost or could not be sent. Returns whether the bus goes on.
    ///
    /// Some gateways close the connection instead of telling that one of their units is silent: as long as only requests to one unit are lost while
    /// another answers, that is the unit's fault, and the schedule finds it dead.
    pub(super) fn goes_on(&mut self, units: &[u8]) -> bool {
        if self.answered || units.is_empty() {
            return true;
        }
        let first = self.fruitless == 0;
        self.fruitless = self.fruitless.saturating_add(1);
        let same = units.iter().all(|unit| *unit == units[0]);
        let suspect = same.then_some(units[0]).filter(|unit| first || self.suspect == Some(*unit));
        self.suspect = suspect;
        let others_answer =
            suspect.is_some() && self.last_answer_of.is_some_and(|other| Some(other) != suspect);
        let max = if self.proven { FRUITLESS_MAX } else { FRUITLESS_UNPROVEN_MAX };
        self.fruitless < max || (self.proven && others_answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_without_an_answer_in_a_row_end_a_bus() {
        let mut history = History::default();
        history.opened();
        assert!(history.goes_on(&[]), "an idle end is no fault");
        history.answered(1);
        assert!(history.goes_on(&[1]), "it was good");
        for _ in 1..FRUITLESS_MAX {
            history.opened();
            assert!(history.goes_on(&[1]));
        }
        history.opened();
        assert!(!history.goes_on(&[1]));
        history.down();
        history.opened();
        assert!(history.goes_on(&[1]));
        history.opened();
        assert!(!history.goes_on(&[1]), "sooner where nothing has answered");
    }

    #[test]
    fn one_unit_alone_does_not_end_a_bus_on_which_another_answers() {
        let mut history = History::default();
        history.answered(1);
        for _ in 0..100 {
            history.opened();
            assert!(history.goes_on(&[2]));
        }
        history.opened();
        assert!(!history.goes_on(&[3]), "but two of them do");
    }
}
