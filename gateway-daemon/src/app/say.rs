//! What commands print. A reader that has gone (`| head`) or a closed terminal is no fault of the command: what cannot be printed is
//! left out, and the exit code says the same as it would have.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use gateway_core::text::{escaped_json, marked};

use super::terminal;

/// What a text without colours may hold of what is hidden.
const KEPT: [char; 2] = ['\n', '\t'];
/// A picture has colours, too.
pub(super) const KEPT_IN_PICTURES: [char; 3] = ['\n', '\t', '\x1b'];

/// A line on standard output.
pub(crate) fn line(text: impl Display) {
    put(&format!("{}\n", marked(&text.to_string(), &KEPT)));
}

/// Whole lines on standard output, which may have colours.
pub(crate) fn text(text: &str) {
    put(&marked(text, &KEPT_IN_PICTURES));
}

/// A line of JSON on standard output.
pub(crate) fn json(value: &serde_json::Value) {
    put(&format!("{}\n", escaped_json(&value.to_string())));
}

/// JSON on standard output, laid out to be read.
pub(crate) fn json_page(value: &serde_json::Value) {
    put(&format!("{}\n", escaped_json(&format!("{value:#}"))));
}

/// A payload on standard output: as it is, but for what a terminal would obey.
pub(crate) fn payload(payload: &str) {
    if std::io::stdout().is_terminal() {
        line(payload);
    } else {
        put(&format!("{payload}\n"));
    }
}

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line on standard error.
pub(crate) fn complaint(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", marked(&text.to_string(), &KEPT));
}

/// What went wrong, as a line on standard error.
pub(crate) fn error(text: impl Display) {
    complaint(terminal::paper_of_errors().wrap(&format!("error: {text}")).trim_end());
}
