//! What a person does while a command shows something: keys, Ctrl-C, another size of the window.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::screen;

/// Bytes read at once from the keyboard; a person types less between two looks.
const KEYS_BYTES_MAX: usize = 64;
/// Keys that wait for the command; what is typed faster waits in the terminal.
const KEYS_MAX: usize = 16;
/// How often the thread that reads the keyboard looks whether anybody still wants keys.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it leaves the keyboard alone while it is nobody's.
const PAUSE: Duration = Duration::from_millis(50);

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// End: `q`.
    Quit,
    /// A line further: Down, `j`.
    Down,
    /// A line back: Up, `k`.
    Up,
    /// A page further: Page Down, space.
    PageDown,
    /// A page back: Page Up, `b`.
    PageUp,
}

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A key.
    Key(Key),
    /// The terminal has another size.
    Resized,
    /// Ctrl-C, or the system asks for an end.
    Stop,
    /// The terminal is gone, or an end at once is asked for (Ctrl-\).
    Gone,
}

/// Everything that a person does.
#[derive(Debug)]
pub struct Events {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    resized: Signal,
    keyboard: Option<mpsc::Receiver<Key>>,
}

impl Events {
    /// Listens; to the keyboard only while a picture is shown. Called inside a tokio runtime.
    ///
    /// # Errors
    /// The system gives no signals.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            resized: signal(SignalKind::window_change())?,
            keyboard: None,
        })
    }

    /// The next one. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self) -> Event {
        if self.keyboard.is_none() && screen::has_keyboard() {
            let (send, keys) = mpsc::channel(KEYS_MAX);
            std::thread::spawn(move || read_keys(&send));
            self.keyboard = Some(keys);
        }
        tokio::select! {
            biased;
            _ = self.hang_up.recv() => Event::Gone,
            _ = self.quit.recv() => Event::Gone,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.terminate.recv() => Event::Stop,
            _ = self.resized.recv() => Event::Resized,
            key = typed(self.keyboard.as_mut()) => Event::Key(key),
        }
    }
}

/// Waits for a key; for ever without a keyboard.
async fn typed(keyboard: Option<&mut mpsc::Receiver<Key>>) -> Key {
    let key = match keyboard {
        Some(keys) => keys.recv().await,
        None => None,
    };
    match key {
        Some(key) => key,
        None => std::future::pending().await,
    }
}

/// Reads the keyboard while it is this command's, on a thread of its own: whatever else reads a terminal without waiting for it would change how the
/// shell reads it. Ends when nobody wants keys any more, or the terminal is gone.
fn read_keys(send: &mpsc::Sender<Key>) {
    let stdin = io::stdin();
    let wait = Timespec::try_from(LOOK_EVERY).ok();
    while !send.is_closed() {
        if !screen::has_keyboard() {
            std::thread::park_timeout(PAUSE);
            continue;
        }
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        let waiting = poll(&mut polled, wait.as_ref()).is_ok_and(|number| number > 0);
        if !waiting {
            continue;
        }
        if polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return;
        }
        let mut bytes = [0; KEYS_BYTES_MAX];
        // Never waits, as the keyboard is set.
        let read = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
        for key in keys(&bytes[..read]) {
            if send.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

/// Keys in what a terminal sends; what means nothing here is left out.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    /// Sequences as xterm, the console of Linux and screen send them.
    const SEQUENCES: [(&[u8], Key); 6] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
    ];
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        if let Some((sequence, key)) = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence)) {
            keys.push(*key);
            bytes = &bytes[sequence.len()..];
            continue;
        }
        bytes = match first {
            // Another key that sends a sequence: its letters are no keys.
            0x1b if rest.first() == Some(&b'[') => {
                let end = rest.iter().skip(1).position(|byte| (0x40..=0x7E).contains(byte));
                end.map_or(&[], |end| &rest[end + 2..])
            }
            _ => rest,
        };
        keys.extend(match first {
            b'q' | b'Q' => Some(Key::Quit),
            b'j' => Some(Key::Down),
            b'k' => Some(Key::Up),
            b' ' => Some(Key::PageDown),
            b'b' => Some(Key::PageUp),
            _ => None,
        });
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_what_a_terminal_sends() {
        for (bytes, wanted) in [
            (&b"q"[..], &[Key::Quit][..]),
            (b"jk b", &[Key::Down, Key::Up, Key::PageDown, Key::PageUp]),
            (b"\x1b[A\x1b[B\x1b[5~\x1b[6~", &[Key::Up, Key::Down, Key::PageUp, Key::PageDown]),
            (b"\x1bOB", &[Key::Down]),
            (b"\x1b[1;5qx", &[]),
            (b"\x1b[15~q", &[Key::Quit]),
            (b"\x1b", &[]),
            (b"\x1b[", &[]),
            (b"xyz\r\n\x00\xff", &[]),
        ] {
            assert_eq!(keys(bytes), wanted, "{}", bytes.escape_ascii());
        }
    }
}
