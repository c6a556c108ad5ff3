//! The terminal of a demo: pictures in place on a terminal, lines elsewhere. The terminal is given back on every way out.

use std::io::{self, IsTerminal as _, Write as _};

use super::picture::fit;
use crate::app::picture::Ink;

/// Alternate screen, cursor hidden.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// Cursor shown, screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Size assumed when a terminal does not tell.
const SIZE: (usize, usize) = (80, 24);

/// Standard output, drawn on or written to. What cannot be written is not retried: nobody looks.
#[derive(Debug)]
pub struct Screen {
    drawn: bool,
    terminal: bool,
}

impl Screen {
    /// Takes standard output as it is.
    #[must_use]
    pub fn new() -> Self {
        Self { drawn: false, terminal: io::stdout().is_terminal() }
    }

    /// Whether pictures can be drawn in place.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// What text may be made of.
    #[must_use]
    pub fn ink(&self) -> Ink {
        if self.terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
            Ink::Ansi
        } else {
            Ink::Plain
        }
    }

    /// Shows a picture in place of the last one.
    pub fn draw(&mut self, picture: &str) {
        if !self.drawn {
            self.drawn = true;
            write(ENTER);
        }
        let (columns, rows) = size();
        let fitted = fit(picture, columns, rows).replace('\n', "\x1b[K\n");
        write(&format!("\x1b[H{fitted}\x1b[J"));
    }

    /// Writes text that stays.
    pub fn say(&mut self, text: &str) {
        self.leave();
        write(text);
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.drawn) {
            write(LEAVE);
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}
