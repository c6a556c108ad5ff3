//! A terminal that is drawn on in place, and given back on every way out.
//!
//! While a picture is shown the terminal has its second screen, no cursor, and gives each key at once without showing it. It is given back when the
//! [`Screen`] is dropped, before text that stays, and before a panic of any thread is told; the next picture takes it again.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, Once, PoisonError};

use gateway_core::text::marked;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

use crate::app::picture::Ink;
use crate::app::picture::paper::width;
use crate::app::say::KEPT_IN_PICTURES;

/// Second screen, cursor hidden, lines that are too long do not go on in the next one.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// Lines go on, cursor shown, screen as it was.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What the terminal was before; `None` while it is not taken. The thread that draws and one that panics contend for it, never for long.
static TAKEN: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    /// How the keyboard was set, if it is this command's.
    keyboard: Option<Termios>,
}

/// Standard output, drawn on or written to. What cannot be written is not retried: nobody looks.
#[derive(Debug)]
pub struct Screen {
    drawable: bool,
    ink: Ink,
}

impl Screen {
    /// Takes standard output as it is.
    #[must_use]
    pub fn new() -> Self {
        Self { drawable: super::can_draw(), ink: super::ink() }
    }

    /// Whether pictures can be drawn in place.
    #[must_use]
    pub fn can_draw(&self) -> bool {
        self.drawable
    }

    /// What text may be made of.
    #[must_use]
    pub fn ink(&self) -> Ink {
        self.ink
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        super::size()
    }

    /// Shows a picture in place of the last one; whether somebody may have seen it.
    pub fn draw(&mut self, picture: &str) -> bool {
        enter();
        write(&in_place(&marked(picture, &KEPT_IN_PICTURES), self.size().0))
    }

    /// Writes text that stays; whether somebody may have seen it.
    pub fn say(&mut self, text: &str) -> bool {
        leave();
        write(&marked(text, &KEPT_IN_PICTURES))
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// A picture as commands to a terminal: over the last one, without a line end behind its last line, which would move everything up. Nothing is erased behind
/// a line that fills its row: the cursor stands on its last character then.
fn in_place(picture: &str, columns: usize) -> String {
    let mut text = "\x1b[H".to_owned();
    let mut lines = picture.lines().peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none() {
            return text + "\x1b[J" + line;
        }
        text.push_str(line);
        text.push_str(if width(line) < columns { "\x1b[K\r\n" } else { "\r\n" });
    }
    text + "\x1b[J"
}

fn enter() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            former(panic);
        }));
    });
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.is_none() {
        *taken = Some(Before { keyboard: take_keyboard() });
        write(ENTER);
    }
}

fn leave() {
    let before = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Before { keyboard }) = before {
        write(LEAVE);
        if let Some(former) = keyboard {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &former);
        }
    }
}

/// Keys come at once and are not shown; Ctrl-C stays a signal, Ctrl-Z would leave a terminal behind that shows nothing. `None` when standard input is no
/// terminal, or belongs to another command, which is in the foreground.
fn take_keyboard() -> Option<Termios> {
    let stdin = io::stdin();
    let foreign = tcgetpgrp(&stdin).is_ok_and(|group| group != rustix::process::getpgrp());
    if !stdin.is_terminal() || foreign {
        return None;
    }
    let former = tcgetattr(&stdin).ok()?;
    let mut keys = former.clone();
    keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
    // Reading gives what is there and never waits.
    keys.special_codes[SpecialCodeIndex::VMIN] = 0;
    keys.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&stdin, OptionalActions::Now, &keys).ok()?;
    Some(former)
}

/// Whether this command may read from the keyboard.
pub(super) fn has_keyboard() -> bool {
    TAKEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .is_some_and(|taken| taken.keyboard.is_some())
}

fn write(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::Command;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Set for the process that is to panic.
    const PANICS: &str = "TIDEGATE_TEST_PANICS";

    #[test]
    fn a_picture_that_fills_the_screen_moves_nothing_up() {
        assert_eq!(in_place("a\nb\n", 80), "\x1b[Ha\x1b[K\r\n\x1b[Jb");
        assert_eq!(in_place("", 80), "\x1b[H\x1b[J");
    }

    #[test]
    fn a_line_that_fills_its_row_keeps_its_last_character() {
        assert_eq!(in_place("abc\nabc\n", 3), "\x1b[Habc\r\n\x1b[Jabc");
    }

    #[test]
    fn the_terminal_is_given_back_before_a_panic_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::new();
            assert!(screen.can_draw() && screen.draw("a picture"));
            assert!(has_keyboard());
            panic!("as the test wants it");
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let name = "app::terminal::screen::tests::the_terminal_is_given_back_before_a_panic_is_told";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .env(PANICS, "1")
            .env("TERM", "xterm")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let mut master = File::from(master);
        let mut shown = Vec::new();
        // Ends with an error when the last user of the terminal has left.
        let _ = master.read_to_end(&mut shown);
        assert!(!child.wait().unwrap().success());
        let shown = String::from_utf8_lossy(&shown);
        let place = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text:?} in {shown:?}"));
        assert!(place(ENTER) < place("a picture") && place("a picture") < place(LEAVE), "{shown:?}");
        assert!(place(LEAVE) < place("as the test wants it"), "{shown:?}");
        let modes = tcgetattr(&master).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
    }
}
