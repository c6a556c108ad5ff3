//! The terminal that a command runs on: what it can show, pictures that are drawn in place, and what is typed.
//!
//! Pipes and files get plain text of any width. A terminal gets colours unless `NO_COLOR` is set, and text that fits its width; one that cannot move its
//! cursor (`TERM=dumb`) is written to line by line.

pub mod events;
pub mod screen;

use std::io::{self, IsTerminal as _};

use super::picture::{Ink, Paper};

/// Size assumed when a terminal does not tell, as a serial console: columns and rows.
const SIZE: (usize, usize) = (80, 24);

/// Whether standard output is a terminal that pictures can be drawn on in place.
#[must_use]
pub(super) fn can_draw() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// Whether a line on standard error can be written over.
#[must_use]
pub(super) fn can_overwrite_errors() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// What text on standard output may be made of.
#[must_use]
pub(super) fn ink() -> Ink {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if unwanted || !can_draw() { Ink::Plain } else { Ink::Ansi }
}

/// Standard output for text that is printed once.
#[must_use]
pub(super) fn paper() -> Paper {
    if io::stdout().is_terminal() { Paper::scroll(ink(), size().0) } else { Ink::Plain.into() }
}

/// Standard error; without colours.
#[must_use]
pub(super) fn paper_of_errors() -> Paper {
    if io::stderr().is_terminal() { Paper::scroll(Ink::Plain, size().0) } else { Ink::Plain.into() }
}

/// Columns and rows of the terminal.
#[must_use]
pub(super) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb" || term == "unknown")
}
