//! What comes from outside of an update: commands of the cloud, requests at the agent's socket, what RAUC says, and records read after a power cut.

use crate::update::order::{Heard, ORDER_BYTES_MAX};
use crate::update::output::{Exit, Output};
use crate::update::record::{Last, Trial, status};
use crate::update::slots::Slots;
use crate::update::source::Source;
use crate::update::wire::{Request, is_key};

/// Commands lead to nothing but encrypted URLs; what was understood is understood again when it is said again; nothing panics.
///
/// # Panics
/// A promise does not hold.
pub fn fuzz_update(bytes: &[u8]) {
    match Heard::of(bytes, false, false) {
        Heard::Order(order) => {
            assert!(bytes.len() <= ORDER_BYTES_MAX, "a command has no limit");
            let text = order.source.as_str();
            assert!(text.starts_with("https://") && !text.contains(char::is_control), "{text:?}");
            assert!(order.id.is_none_or(|id| is_key(&id)), "an id that cannot be kept");
        }
        Heard::Refused(id, _) => assert!(id.is_none_or(|id| is_key(&id)), "an id that cannot be told"),
        Heard::Nothing => assert!(bytes.is_empty()),
    }
    let retained = Heard::of(bytes, true, true);
    assert!(!matches!(retained, Heard::Order(_)), "a retained command would be carried out again and again");
    if let Ok(request) = Request::parse(bytes) {
        // What a request is made of can be said with serde, whatever it holds.
        let line = serde_json::to_vec(&request).expect("a request is JSON");
        assert_eq!(Request::parse(&line).as_ref(), Ok(&request));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(source) = Source::new(text) {
        assert!(!text.starts_with('-') && source.as_str() == text, "an option of the program");
    }
    let mut output = Output::default();
    for line in text.lines() {
        assert!(output.said(line).is_none_or(|step| step.percent <= 100));
        output.complained(line);
    }
    assert!(output.end(Exit::Signal).is_err(), "a killed installation passes as one");
    if let Ok(slots) = Slots::parse(text) {
        let _ = (slots.booted(), slots.primary_version());
    }
    let (trial, last) = (serde_json::from_str::<Trial>(text).ok(), serde_json::from_str::<Last>(text).ok());
    let _ = status(trial.as_ref(), last.as_ref(), "this boot");
}
