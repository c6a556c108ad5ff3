//! What the cloud is told of an update, and how often: each change of state or step at once, progress in between at most every
//! [`PAUSE_MIN`].

use std::time::Duration;

use super::wire::Status;
use crate::tag::BootNs;

/// Least time between two messages that differ in the percentage only: a slow line carries readings, too.
pub const PAUSE_MIN: Duration = Duration::from_secs(2);

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Herald {
    told: Option<(BootNs, Status)>,
}

impl Herald {
    /// The message to publish, if there is something to tell.
    pub fn tell(&mut self, now: BootNs, status: &Status) -> Option<Vec<u8>> {
        if let Some((at, told)) = &self.told {
            let same = Status { percent: None, ..told.clone() } == Status { percent: None, ..status.clone() };
            if same && (told.percent == status.percent || now < at.plus(PAUSE_MIN)) {
                return None;
            }
        }
        Some(self.answer(now, status))
    }

    /// The message to publish as the answer to a command: each command has one, also if it says what was told before.
    pub fn answer(&mut self, now: BootNs, status: &Status) -> Vec<u8> {
        self.told = Some((now, status.clone()));
        json(status)
    }

    /// What was told last.
    #[must_use]
    pub fn told(&self) -> Option<&Status> {
        self.told.as_ref().map(|(_, status)| status)
    }
}

fn json(status: &Status) -> Vec<u8> {
    serde_json::to_vec(status).expect("structs of numbers and texts always have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::wire::State;

    fn at(ms: u64) -> BootNs {
        BootNs(0).plus(Duration::from_millis(ms))
    }

    fn status(percent: u8, text: &str) -> Status {
        Status { percent: Some(percent), text: Some(text.into()), ..Status::of(State::Installing) }
    }

    #[test]
    fn steps_are_told_at_once_and_percentages_every_two_seconds() {
        let mut herald = Herald::default();
        for (ms, percent, text, expected) in [
            (0, 0, "a", true),
            (10, 1, "a", false),
            (20, 1, "b", true),
            (30, 1, "b", false),
            (2010, 2, "b", false),
            (2020, 3, "b", true),
            (9000, 3, "b", false),
            (9000, 3, "c", true),
        ] {
            assert_eq!(
                herald.tell(at(ms), &status(percent, text)).is_some(),
                expected,
                "{ms} {percent} {text}"
            );
        }
        assert_eq!(herald.told(), Some(&status(3, "c")));
        assert!(!herald.answer(at(9000), &status(3, "c")).is_empty());
    }

    #[test]
    fn the_message_holds_what_is_known_and_nothing_else() {
        let json =
            |status: &Status| String::from_utf8(Herald::default().tell(at(0), status).unwrap()).unwrap();
        assert_eq!(json(&status(42, "x")), r#"{"state":"installing","percent":42,"text":"x"}"#);
        assert_eq!(json(&Status::of(State::Good).with_id(Some("7".into()))), r#"{"state":"good","id":"7"}"#);
    }
}
