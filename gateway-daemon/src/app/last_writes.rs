//! What was written last to each tag, for the value before in the log of writes: newer than what the last poll has read.
//!
//! A write that may have arrived or not, and one that reaches registers of other tags, make those values unknown until the next poll reads them.
//! Bounded by the tags of the configuration.

use std::collections::BTreeMap;

use drivers::bus::CommandError;
use gateway_core::poll::request::Answer;
use gateway_core::poll::settings::Settings;
use gateway_core::tag::{BootNs, Reading, Reason, Sample, TagId};

use super::errand::{Errand, leaves_open};

/// The values that writes have left, and when; `None` for one that is not known.
#[derive(Debug, Default)]
pub(super) struct LastWrites(BTreeMap<TagId, (BootNs, Option<Sample>)>);

impl LastWrites {
    /// The newest value that is known of a tag: of the last write or of the last poll.
    pub(super) fn before(&self, tag: TagId, polled: Option<&Reading>) -> Option<Sample> {
        let polled = polled.filter(|reading| reading.sample != Sample::Bad(Reason::NotPolled));
        match self.0.get(&tag) {
            Some((at, written)) if polled.is_none_or(|reading| reading.at < *at) => written.clone(),
            _ => polled.map(|reading| reading.sample.clone()),
        }
    }

    /// A request has ended at `now`: takes what it has changed.
    pub(super) fn ended(
        &mut self,
        now: BootNs,
        field: &Settings,
        errand: &Errand,
        outcome: &Result<Answer, CommandError>,
    ) {
        let held = match outcome {
            Ok(Answer::Done) => errand.held(),
            // Refused, or never sent.
            Ok(Answer::Exception(code)) if !leaves_open(*code) => return,
            Err(
                CommandError::Query(_)
                | CommandError::Down(_)
                | CommandError::NotSent(_)
                | CommandError::Full
                | CommandError::Stopped,
            ) => return,
            _ => None,
        };
        for tag in errand.reached(field) {
            let sample = held.filter(|(written, _)| *written == tag).map(|(_, sample)| sample.clone());
            self.0.insert(tag, (now, sample));
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::poll::request::LineFault;
    use gateway_core::tag::Value;

    use super::super::errand::tests::{at, field, write, write_raw};
    use super::*;

    fn polled(at: u64, value: i64) -> Reading {
        Reading { tag: TagId(0), at: BootNs(at), sample: Sample::Good(Value::Int(value)) }
    }

    #[test]
    fn the_value_before_a_write_is_that_of_the_last_write_or_of_the_last_poll_whichever_is_newer() {
        let (field, mut last) = (field(), LastWrites::default());
        let ten = write("u16", "10").unwrap();
        let tag = ten.written().unwrap();
        let before = |last: &LastWrites, reading: Reading| last.before(tag, Some(&reading));
        assert_eq!(before(&last, polled(5, 21)), Some(Sample::Good(Value::Int(21))));
        last.ended(BootNs(7), &field, &ten, &Ok(Answer::Done));
        assert_eq!(before(&last, polled(5, 21)), Some(Sample::Good(Value::UInt(10))));
        assert_eq!(before(&last, polled(8, 11)), Some(Sample::Good(Value::Int(11))));
        let never = Reading { sample: Sample::Bad(Reason::NotPolled), ..polled(9, 0) };
        assert_eq!(before(&last, never.clone()), Some(Sample::Good(Value::UInt(10))));
        assert_eq!(before(&LastWrites::default(), never), None);
        last.ended(BootNs(20), &field, &write("u16", "12").unwrap(), &Ok(Answer::Exception(4)));
        assert_eq!(before(&last, polled(5, 21)), Some(Sample::Good(Value::UInt(10))), "refused");
    }

    #[test]
    fn a_value_that_may_have_been_overwritten_is_not_known_before_the_next_poll() {
        let (field, mut last) = (field(), LastWrites::default());
        let ten = write("u16", "10").unwrap();
        let tag = ten.written().unwrap();
        last.ended(BootNs(7), &field, &ten, &Err(LineFault::Silence.into()));
        assert_eq!(last.before(tag, Some(&polled(5, 21))), None, "perhaps it has arrived");
        assert!(last.before(tag, Some(&polled(8, 21))).is_some());
        last.ended(BootNs(10), &field, &ten, &Ok(Answer::Done));
        let raw = write_raw(at("line", 17, "holding", 11), vec![1, 2]).unwrap();
        last.ended(BootNs(11), &field, &raw, &Ok(Answer::Done));
        assert_eq!(last.before(tag, Some(&polled(5, 21))), None, "a raw write to 11 and 12");
        let elsewhere = write_raw(at("line", 17, "coil", 12), vec![1]).unwrap();
        last.ended(BootNs(10), &field, &ten, &Ok(Answer::Done));
        last.ended(BootNs(11), &field, &elsewhere, &Ok(Answer::Done));
        assert!(last.before(tag, None).is_some());
    }
}
