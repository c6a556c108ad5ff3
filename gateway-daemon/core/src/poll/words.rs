//! What is wrong with a device, in sentences whose subject is the device: for the log, for `status` and for whoever else tells it.
//!
//! Addresses are counted as the file counts them.

use crate::poll::request::{LineFault, Table};
use crate::poll::schedule::{Cause, Failure, Requests, Sort};
use crate::poll::settings::{Device, Settings};
use crate::tag::{Reason, TagId};

/// Most requests or tags that a sentence names.
const NAMED_MAX: usize = 3;

/// What a device does that is given up: `does not answer (timeout)`.
#[must_use]
pub fn given_up(device: &Device, cause: Option<Cause>) -> String {
    match cause {
        None => "does not answer".to_owned(),
        Some(Cause::Line(LineFault::Silence)) => "does not answer (timeout)".to_owned(),
        Some(cause) if cause.sort() == Sort::Unanswered => {
            format!("does not answer ({})", why(device, cause))
        }
        Some(cause) => format!("answers wrongly ({})", why(device, cause)),
    }
}

/// What a device does that answers, but not everything: one sentence each for what it refuses, what it does not answer and what it answers wrongly.
#[must_use]
pub fn failing(field: &Settings, device: usize, requests: &Requests) -> Vec<String> {
    let Some(settings) = field.devices.get(device) else { return Vec::new() };
    let of = |number: usize| match requests.asked {
        1 => "its only request".to_owned(),
        asked if number >= asked => format!("all of its {asked} requests"),
        asked => format!("{number} of {asked} requests"),
    };
    let sorts = [
        (Sort::Refused, requests.refused, "refuses", ""),
        (Sort::Unanswered, requests.unanswered, "does not answer", ""),
        (Sort::Wrong, requests.wrong, "answers", " wrongly"),
    ];
    let failing = sorts.into_iter().filter(|(_, number, ..)| *number > 0);
    failing
        .map(|(sort, number, verb, how)| {
            let named: Vec<&Failure> = requests
                .named
                .iter()
                .filter(|failure| failure.cause.sort() == sort)
                .take(NAMED_MAX)
                .collect();
            let mut text = format!("{verb} {}{how}", of(number));
            let more = number - named.len().min(number);
            if !named.is_empty() {
                text.push_str(&format!(": {}", places(field, settings, &named)));
            }
            if more > 0 && !named.is_empty() {
                text.push_str(&format!("; and {more} more"));
            }
            text
        })
        .collect()
}

/// That a device is asked in more requests than planned, because it refuses some of those: `None` if it is not.
#[must_use]
pub fn apart(requests: &Requests) -> Option<String> {
    let (asked, planned) = (requests.asked, requests.planned);
    (asked > planned).then(|| {
        format!(
            "is asked in {asked} requests instead of {planned}, because it refuses longer ones; they are tried again now and then"
        )
    })
}

/// Which tags of a device have no good value although it answers; `None` if there are none of these. `of` is how many tags it has.
#[must_use]
pub fn bad_values(field: &Settings, device: usize, bad: &[(TagId, Reason)], of: usize) -> Option<String> {
    let base = field.devices.get(device)?.base;
    let mut text = match (bad.len(), of) {
        (0, _) => return None,
        (_, 1) => "its only tag is bad: ".to_owned(),
        (number, of) if number >= of => format!("all of its {of} tags are bad: "),
        (number, of) => format!("{number} of {of} tags are bad: "),
    };
    let named = bad.iter().filter_map(|(tag, reason)| {
        let tag = field.tags.get(tag.0 as usize)?;
        let place = place(tag.point.table, tag.point.address, 1, base);
        let why = match reason {
            Reason::NotANumber => "not a number",
            Reason::OutOfRange => "outside its limits",
            other => other.word(),
        };
        Some(format!("{} ({place}): {why}", tag.name))
    });
    text.push_str(&named.take(NAMED_MAX).collect::<Vec<_>>().join(", "));
    if bad.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", bad.len() - NAMED_MAX));
    }
    Some(text)
}

/// Why a request has no values.
fn why(device: &Device, cause: Cause) -> String {
    match cause {
        Cause::Line(LineFault::Silence) => format!("no answer within {} ms", device.timeout.as_millis()),
        Cause::Line(LineFault::ForeignUnit(unit)) => {
            format!("answer of unit {unit} instead of unit {}", device.unit)
        }
        Cause::Line(fault) => fault.to_string(),
        Cause::Exception(code) => match meaning(code) {
            Some(meaning) => format!("exception {code} ({meaning})"),
            None => format!("exception {code}"),
        },
    }
}

/// What an exception says; `None` where the standard does not know it ("MODBUS Application Protocol V1.1b3", 7).
#[must_use]
pub fn meaning(code: u8) -> Option<&'static str> {
    Some(match code {
        1 => "no such function",
        2 => "no such address",
        3 => "such a request is not allowed",
        4 => "the device has a fault",
        5 => "not done yet",
        6 => "busy",
        8 => "the device's memory has a fault",
        10 => "the gateway before it has no way to it",
        11 => "the gateway before it got no answer",
        _ => return None,
    })
}

/// Requests with their tags, those of one cause behind one another together.
fn places(field: &Settings, device: &Device, failures: &[&Failure]) -> String {
    let mut groups: Vec<(Cause, Vec<String>)> = Vec::new();
    for failure in failures {
        let place = place(failure.table, failure.address, failure.count, device.base);
        let name = |tag: &TagId| field.tags.get(tag.0 as usize).map(|tag| tag.name.to_string());
        let names: Vec<String> = failure.tags.iter().filter_map(name).collect();
        let more = failure.tags_len.saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("{place} ({}{more})", names.join(", "));
        match groups.last_mut().filter(|(cause, _)| *cause == failure.cause) {
            Some((_, places)) => places.push(text),
            None => groups.push((failure.cause, vec![text])),
        }
    }
    let texts =
        groups.iter().map(|(cause, places)| format!("{}: {}", places.join(", "), why(device, *cause)));
    texts.collect::<Vec<_>>().join("; ")
}

/// `holding 610`, `input 0 to 59`.
fn place(table: Table, address: u16, count: u16, base: u16) -> String {
    let table = match table {
        Table::Coil => "coil",
        Table::Discrete => "discrete",
        Table::Holding => "holding",
        Table::Input => "input",
    };
    let first = u32::from(address) + u32::from(base);
    match u32::from(count) {
        0 | 1 => format!("{table} {first}"),
        count => format!("{table} {first} to {}", first + count - 1),
    }
}
