//! What people do through the control socket, for the log: each deed leaves one line with who, what, the value before where it is known, and what came of it.
//! What a script does faster than a person is counted there (`status::events`).

use std::fmt::Write as _;

use gateway_core::tag::{Sample, Value};
use gateway_core::text::marked;

use super::control::{Ask, Peer, Reply};
use super::errand::json;
use super::picture::words;

/// Values of one raw write that a line names.
const VALUES_NAMED_MAX: usize = 8;
/// Longest text of a value in a line, characters.
const TEXT_CHARS_MAX: usize = 80;

/// A write that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// The bus to which it goes, if it does.
    bus: Option<String>,
    /// The tag, if one is set.
    tag: Option<String>,
    /// Where the first register or coil is, if no tag is set.
    point: Option<String>,
    /// What is set to what.
    what: String,
    before: Option<String>,
    by: Peer,
}

impl Write {
    /// The write that a client asks for, if it asks for one; `bus`: where it goes, unless it is refused before it goes anywhere.
    pub(super) fn of(ask: &Ask, bus: Option<&str>, by: Peer) -> Option<Self> {
        let (mut tag, mut point) = (None, None);
        let what = match ask {
            Ask::Write { device, tag: name, value } => {
                tag = Some(format!("{device}/{name}"));
                format!("{}/{} = {}", cut(device), cut(name), cut(value))
            }
            Ask::WriteRaw { at, values } => {
                let mut list = String::new();
                for value in values.iter().take(VALUES_NAMED_MAX) {
                    let _ = write!(list, "{}{value}", if list.is_empty() { "" } else { ", " });
                }
                if let Some(more) = values.len().checked_sub(VALUES_NAMED_MAX).filter(|more| *more > 0) {
                    let _ = write!(list, " and {more} more");
                }
                let place = format!("unit {} {} {}", at.unit, cut(&at.table), at.address);
                let elsewhere = bus.map_or_else(|| format!(" of bus {}", cut(&at.bus)), |_| String::new());
                let what = format!("{place}{elsewhere} = {list}");
                point = Some(place);
                what
            }
            _ => return None,
        };
        Some(Self { bus: bus.map(cut), tag, point, what, before: None, by })
    }

    /// With what the tag was, where that is known.
    pub(super) fn over(self, before: Option<&Sample>) -> Self {
        let before = before.map(|sample| match sample {
            Sample::Good(value) => shown(value),
            Sample::Bad(reason) => format!("bad: {reason}"),
        });
        Self { before, ..self }
    }

    /// The line: what came of it.
    pub(super) fn sentence(&self, reply: &Reply) -> String {
        let Self { what, by, .. } = self;
        let before = self.before.as_ref().map_or_else(String::new, |before| format!(" (was {before})"));
        match reply {
            Reply::Refused(why) | Reply::Unknown(why) => {
                let (why, outcome) = (self.without_tag(why), outcome(reply));
                format!("write of {what}{before}, by {by}: {outcome}: {why}")
            }
            Reply::Written(written) if written.asked.is_some() => {
                let held = written.tag.value.as_ref().map(words::value).unwrap_or_default();
                let why = written.rounded().unwrap_or_default();
                format!("write of {what}{before}, by {by}: done: it holds {} ({why})", cut(&held))
            }
            _ => format!("write of {what}{before}, by {by}: done"),
        }
    }

    /// A sentence about the tag that is named already.
    fn without_tag(&self, sentence: &str) -> String {
        let rest = self.tag.as_ref().and_then(|tag| sentence.strip_prefix(tag.as_str()));
        let own = rest.and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned);
        let about = rest.filter(|rest| rest.starts_with(' ')).map(|rest| format!("it{rest}"));
        own.or(about).unwrap_or_else(|| sentence.to_owned())
    }

    /// Puts the line into the log. Its fields say which writes are counted together in a flood: what exists only in the words of a client is no field.
    pub(super) fn log(&self, reply: &Reply) {
        let (sentence, by, result) = (self.sentence(reply), self.by.to_string(), outcome(reply));
        let (by, uid) = (by.as_str(), self.by.uid.unwrap_or_default());
        match &self.bus {
            None => log::info!(event = "write", by, uid, result; "{sentence}"),
            Some(bus) => {
                let bus = bus.as_str();
                let tag = self.tag.as_deref().unwrap_or_default();
                let point = self.point.as_deref().unwrap_or_default();
                log::info!(event = "write", bus, tag, point, by, uid, result; "{sentence}");
            }
        }
    }
}

/// What came of it, in a word.
fn outcome(reply: &Reply) -> &'static str {
    match reply {
        Reply::Refused(_) => "refused",
        Reply::Unknown(_) => "unknown",
        _ => "done",
    }
}

fn shown(value: &Value) -> String {
    cut(&words::value(&json(value)))
}

/// A text of a client, cut and without control characters.
fn cut(text: &str) -> String {
    let out: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let mut out = marked(&out, &[]).into_owned();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use gateway_core::tag::Reason;

    use super::*;
    use crate::app::control::{RawAt, Written};
    use crate::app::snapshot::Tag;

    fn peer() -> Peer {
        Peer { uid: Some(1000), pid: Some(77) }
    }

    #[test]
    fn a_write_says_who_what_the_value_before_and_the_result() {
        let ask = Ask::Write { device: "boiler".into(), tag: "setpoint".into(), value: "21.5".into() };
        let before = Sample::Good(Value::Float(20.0));
        let write = Write::of(&ask, Some("rs485-1"), peer()).unwrap().over(Some(&before));
        assert_eq!(
            write.sentence(&Reply::Values(Vec::new())),
            "write of boiler/setpoint = 21.5 (was 20), by uid 1000, pid 77: done"
        );
        let refused = write.sentence(&Reply::Refused("boiler/setpoint is read-only".into()));
        assert_eq!(
            refused,
            "write of boiler/setpoint = 21.5 (was 20), by uid 1000, pid 77: refused: it is read-only"
        );
        let refused = write.sentence(&Reply::Refused("boiler/setpoint: not a number".into()));
        assert!(refused.ends_with(": refused: not a number"), "{refused}");
    }

    #[test]
    fn a_write_of_which_nobody_knows_is_not_called_refused() {
        let ask = Ask::Write { device: "late".into(), tag: "w".into(), value: "7".into() };
        let write = Write::of(&ask, Some("late"), peer()).unwrap().over(Some(&Sample::Good(Value::UInt(42))));
        let reply = Reply::Unknown("unit 1: no answer: nobody knows whether it was written".into());
        assert_eq!(
            write.sentence(&reply),
            "write of late/w = 7 (was 42), by uid 1000, pid 77: unknown: unit 1: no answer: nobody knows whether it was written"
        );
        assert_eq!(outcome(&reply), "unknown");
    }

    #[test]
    fn a_write_that_the_register_cannot_hold_says_what_it_holds() {
        let ask = Ask::Write { device: "meter1".into(), tag: "setpoint".into(), value: "33.57".into() };
        let tag = Tag { value: Some(33.6.into()), quality: "good".into(), ..Tag::default() };
        let written = Written { tag, asked: Some(33.57.into()), step: Some(0.1) };
        assert_eq!(
            Write::of(&ask, None, peer()).unwrap().sentence(&Reply::Written(Box::new(written))),
            "write of meter1/setpoint = 33.57, by uid 1000, pid 77: done: it holds 33.6 (33.57 asked; the register holds steps of 0.1)"
        );
    }

    #[test]
    fn a_raw_write_names_bus_unit_table_address_and_the_first_values_and_a_read_is_no_deed() {
        let at = RawAt { bus: "plc".into(), unit: 17, table: "holding".into(), address: 40 };
        let ask = Ask::WriteRaw { at: at.clone(), values: (0..10).collect() };
        let write = Write::of(&ask, Some("plc"), Peer::default()).unwrap();
        assert_eq!((write.bus.as_deref(), write.point.as_deref()), (Some("plc"), Some("unit 17 holding 40")));
        assert_eq!(
            write.sentence(&Reply::Values(Vec::new())),
            "write of unit 17 holding 40 = 0, 1, 2, 3, 4, 5, 6, 7 and 2 more, by this program: done"
        );
        let lost = Write::of(&ask, None, Peer::default()).unwrap();
        assert_eq!(lost.bus, None);
        assert!(lost.what.starts_with("unit 17 holding 40 of bus plc = 0, 1"), "{}", lost.what);
        assert_eq!(Write::of(&Ask::ReadRaw { at, count: 3 }, None, peer()), None);
        assert_eq!(Write::of(&Ask::Status, None, peer()), None);
    }

    #[test]
    fn a_hostile_value_is_one_short_line() {
        let value = "x\n".repeat(2000);
        let ask = Ask::Write { device: "a".into(), tag: "b".into(), value };
        let bad = Sample::Bad(Reason::NotPolled);
        let line = Write::of(&ask, None, peer()).unwrap().over(Some(&bad));
        let line = line.sentence(&Reply::Values(Vec::new()));
        assert!(line.len() < 300 && !line.contains('\n'), "{line}");
    }
}
