//! Deeds in the log: what people and commands do, such as writes. Each is told until there are more of one kind within [`INTERVAL`] than people make; the rest is
//! counted, and the count is told with the last of them at the end of the interval, so that a script that writes 50 times a second fills no journal.
//!
//! The first of each kind is told even in a flood of others: a write to another tag, by another user, or with another result. What makes a kind is said by whoever writes
//! the record, in fields that come from the configuration or the kernel. Pure: the time is an argument. Bounded: within an interval an event makes at most
//! [`LINES_MAX`] lines, [`KINDS_MAX`] first ones and as many counts, and [`EVENTS_MAX`] events are known.

use gateway_core::tag::BootNs;

use super::limiter::{Counted, INTERVAL, Kind, Summary};

/// Records of one kind that pass within [`INTERVAL`]: more than a person makes; a script that writes a tag every 30 s has each of its lines.
pub(super) const BURST_MAX: u32 = 20;
/// Records of one event that pass within [`INTERVAL`], whatever their kinds, beside the first of each.
const LINES_MAX: u32 = 200;
/// Kinds of one event that are counted by themselves, such as the tags that are written; the others are counted together.
const KINDS_MAX: usize = 64;
/// Events at once: the words of this program; what were beyond would be counted as one.
const EVENTS_MAX: usize = 16;

#[derive(Debug)]
struct Event {
    name: String,
    ends: BootNs,
    lines: u32,
    kinds: Vec<Counted>,
    /// What has no place among the kinds.
    others: Option<Counted>,
}

/// Counts of the events.
#[derive(Debug, Default)]
pub(super) struct Events {
    events: Vec<Event>,
    summaries: Vec<Summary>,
}

impl Events {
    /// Whether a record of this event and kind may pass at this moment; `sentence` is what it says.
    pub(super) fn passes(&mut self, now: BootNs, name: &str, kind: Kind, sentence: &str) -> bool {
        self.expire(now);
        let known = self.events.iter().position(|event| event.name == name);
        let index = known.unwrap_or_else(|| {
            if self.events.len() < EVENTS_MAX {
                let ends = now.plus(INTERVAL);
                let name = name.to_owned();
                self.events.push(Event { name, ends, lines: 0, kinds: Vec::new(), others: None });
            }
            self.events.len() - 1
        });
        self.events.get_mut(index).is_none_or(|event| event.passes(kind, sentence))
    }

    /// What is to be told: kinds whose interval is over and of which something was left out.
    pub(super) fn summaries(&mut self, now: BootNs) -> Vec<Summary> {
        self.expire(now);
        std::mem::take(&mut self.summaries)
    }

    fn expire(&mut self, now: BootNs) {
        let is_over = |event: &mut Event| event.ends <= now;
        for event in self.events.extract_if(.., is_over) {
            // Bounded by the kinds of all events: they are taken with every record.
            let counted = event.kinds.into_iter().chain(event.others);
            self.summaries.extend(counted.filter_map(Counted::summary));
        }
    }
}

impl Event {
    fn passes(&mut self, kind: Kind, sentence: &str) -> bool {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            if known.passed < BURST_MAX && self.lines < LINES_MAX {
                known.passed += 1;
                self.lines += 1;
                return true;
            }
            known.leave_out(sentence);
            return false;
        }
        if self.kinds.len() < KINDS_MAX {
            self.kinds.push(Counted::first(kind));
            return true;
        }
        if self.lines < LINES_MAX {
            self.lines += 1;
            return true;
        }
        self.others.get_or_insert_with(|| Counted::first(kind)).leave_out(sentence);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootNs {
        BootNs(ms * 1_000_000)
    }

    fn write(about: &str) -> Kind {
        Kind::new(log::Level::Info, "gateway_daemon::app", about, "write")
    }

    #[test]
    fn a_script_that_writes_50_times_a_second_fills_no_journal_and_its_last_value_is_told() {
        let mut events = Events::default();
        let (mut passed, mut counts, mut counted) = (0_u64, 0_u64, 0_u64);
        let mut last = String::new();
        let writes = 3600_u64 * 50;
        for number in 0..writes {
            let now = at(number * 20);
            passed += u64::from(events.passes(now, "write", write("a/b"), &format!("a/b = {number}")));
            for summary in events.summaries(now) {
                counts += 1;
                counted += summary.left_out;
                last = summary.last;
            }
        }
        assert_eq!(last, format!("a/b = {}", writes / 6 * 5 - 1), "of the last whole interval");
        for summary in events.summaries(at(3_600_000)) {
            counts += 1;
            counted += summary.left_out;
            last = summary.last;
        }
        assert_eq!(passed + counted, writes, "every write was told or counted");
        assert_eq!((passed, counts), (6 * u64::from(BURST_MAX), 6));
        assert_eq!(last, format!("a/b = {}", writes - 1), "the value that the tag has");
    }

    #[test]
    fn in_a_flood_the_first_write_to_another_tag_and_by_another_user_is_told() {
        let mut events = Events::default();
        for number in 0..10_000 {
            events.passes(at(number), "write", write("tag=a/b uid=0"), "");
        }
        assert!(events.passes(at(10_000), "write", write("tag=a/c uid=0"), ""));
        assert!(events.passes(at(10_000), "write", write("tag=a/b uid=7"), ""));
        assert!(events.passes(at(10_000), "reload", write(""), ""), "another event");
        let warned = Kind::new(log::Level::Warn, "gateway_daemon::app", "tag=a/b uid=0", "write");
        assert!(events.passes(at(10_000), "write", warned, ""), "another level");
    }

    #[test]
    fn writes_all_over_the_addresses_are_bounded_and_every_one_is_told_or_counted() {
        let mut events = Events::default();
        let mut passed = 0_u64;
        for number in 0..100_000_u64 {
            let address = format!("point={}", number % 65_536);
            passed += u64::from(events.passes(at(1), "write", write(&address), &address));
        }
        let told = events.summaries(at(700_000));
        assert_eq!(passed, u64::from(LINES_MAX) + KINDS_MAX as u64);
        assert!(told.len() <= KINDS_MAX + 1, "{}", told.len());
        assert_eq!(passed + told.iter().map(|summary| summary.left_out).sum::<u64>(), 100_000);
        assert_eq!(told.last().unwrap().last, format!("point={}", 99_999 % 65_536));
    }

    #[test]
    fn events_without_number_are_bounded() {
        let mut events = Events::default();
        for number in 0..1000 {
            events.passes(at(1), &number.to_string(), write(""), "");
        }
        assert_eq!(events.events.len(), EVENTS_MAX);
    }
}
