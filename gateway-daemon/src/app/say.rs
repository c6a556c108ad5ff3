//! What commands print. A reader that has gone (`| head`) or a closed terminal is no fault of the command: what cannot be printed is
//! left out, and the exit code says the same as it would have.

use std::fmt::Display;
use std::io::Write as _;

use super::terminal;

/// A line on standard output.
pub(crate) fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Whole lines on standard output.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line on standard error.
pub(crate) fn complaint(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What went wrong, as a line on standard error.
pub(crate) fn error(text: impl Display) {
    complaint(terminal::paper_of_errors().wrap(&format!("error: {text}")).trim_end());
}
