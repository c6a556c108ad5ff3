//! What a scan says.

use gateway_core::text::is_hidden;

use super::{Attempt, Course, Found, Said};
use crate::app::picture::words::duration;
use gateway_core::poll::words::meaning;

/// Longest piece of a device's own text that is printed.
const TEXT_CHARS_MAX: usize = 60;

/// Where the scan is, and how long it takes at most.
pub(super) fn progress(attempt: &Attempt, unit: u8, course: &Course, found: usize) -> String {
    let left = duration(u64::try_from(course.left_max().as_millis()).unwrap_or(u64::MAX));
    format!(
        "{}  asking unit {unit}  {} %, at most {left} left, {found} found",
        attempt.label,
        course.percent()
    )
}

/// A unit that said something.
pub(super) fn unit(attempt: &Attempt, found: &Found) -> String {
    if found.is_device() { device(attempt, found) } else { garbled(attempt, found) }
}

fn device(attempt: &Attempt, found: &Found) -> String {
    let mut text = format!(
        "unit {:>3}  {}  holding 0: {}, input 0: {}",
        found.unit,
        attempt.label,
        said(&found.holding),
        said(&found.input)
    );
    if !found.identity.is_empty() {
        text.push_str(&format!("  \"{}\"", found.identity.join(", ")));
    }
    text
}

fn garbled(attempt: &Attempt, found: &Found) -> String {
    format!(
        "unit {:>3}  {}  something answers, but not in Modbus: two devices with this unit, another baud rate or parity, \
         or a disturbed line",
        found.unit, attempt.label
    )
}

pub(super) fn all_answer(attempt: &Attempt) -> String {
    format!(
        "{}: every unit answers. This device does not look at the unit: use any, usually 1",
        attempt.label
    )
}

pub(super) fn summary(found: usize, attempts: usize, units: usize) -> String {
    match found {
        0 => format!(
            "no answer from {units} units with {attempts} setting{}: check A and B, the ground wire and the power, try \
             --baud 9600,19200,38400,57600,115200 and --parity even,none,odd, or a longer --timeout",
            if attempts == 1 { "" } else { "s" }
        ),
        1 => "1 device found; put it into the configuration as [device.NAME] with this unit".to_owned(),
        found => {
            format!("{found} devices found; put each into the configuration as [device.NAME] with its unit")
        }
    }
}

fn said(said: &Said) -> String {
    match said {
        Said::Value(value) => format!("{value}"),
        Said::Refused(code) => match meaning(*code) {
            Some(meaning) => format!("refused ({code}, {meaning})"),
            None => format!("refused ({code})"),
        },
        Said::Nothing => "no answer".to_owned(),
        Said::Garbled(fault) => fault.to_string(),
    }
}

/// A device's own text, without what could move the cursor.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !is_hidden(*c))
        .take(TEXT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}
