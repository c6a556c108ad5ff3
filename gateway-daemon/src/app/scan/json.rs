//! What `scan --json` prints: one object a line, as soon as a unit was heard.

use serde::Serialize;

use super::{Attempt, Found, Said};

/// A unit that said something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// How the line was set: `19200 8E1`, or the address of a TCP server.
    pub line: String,
    /// Its address on the line.
    pub unit: u8,
    /// Whether it is a device; if not, something answers that is no Modbus.
    pub device: bool,
    /// What it said of holding register 0; `null` without an answer.
    pub holding: Option<Answer>,
    /// What it said of input register 0; `null` without an answer.
    pub input: Option<Answer>,
    /// What it says about itself: vendor, product, revision and more.
    pub identity: Vec<String>,
}

/// One answer; one of its fields is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Answer {
    /// The value of the register.
    pub value: Option<u16>,
    /// The exception code of a refusal.
    pub exception: Option<u8>,
    /// What was wrong with the answer.
    pub fault: Option<String>,
}

impl Unit {
    pub(super) fn new(attempt: &Attempt, found: &Found) -> Self {
        Self {
            line: attempt.label.clone(),
            unit: found.unit,
            device: found.is_device(),
            holding: answer(&found.holding),
            input: answer(&found.input),
            identity: found.identity.clone(),
        }
    }
}

fn answer(said: &Said) -> Option<Answer> {
    let none = Answer::default();
    match said {
        Said::Value(value) => Some(Answer { value: Some(*value), ..none }),
        Said::Refused(code) => Some(Answer { exception: Some(*code), ..none }),
        Said::Garbled(fault) => Some(Answer { fault: Some(fault.to_string()), ..none }),
        Said::Nothing => None,
    }
}
