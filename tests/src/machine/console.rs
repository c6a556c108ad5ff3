//! The serial console: every line with the moment it came, and waiting for one. With `TIDEGATE_CONSOLE` set, lines are shown as they come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// Lines of a console that are shown when something that was waited for did not come.
const TAIL: usize = 40;

/// What came over the console so far.
#[derive(Clone)]
pub struct Console {
    // The reading task appends and tests look; both hold it for a moment only.
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    count: watch::Receiver<usize>,
}

impl Console {
    /// Reads `stream` to its end.
    pub(super) fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        tokio::spawn(read(stream, Arc::clone(&lines), sender));
        Self { lines, count }
    }

    /// All lines so far, with their moments.
    #[must_use]
    pub fn lines(&self) -> Vec<(Instant, String)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All lines as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// How many lines there are: where a later [`Console::wait_after`] begins to look.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until a line holds `part`, also among those that came already; gives the moment it came and the line.
    ///
    /// # Errors
    /// Not within `limit`, or the console ended; the error holds its last lines.
    pub async fn wait(&self, part: &str, limit: Duration) -> Result<(Instant, String)> {
        self.wait_after(0, part, limit).await
    }

    /// As [`Console::wait`], without looking at the first `mark` lines.
    ///
    /// # Errors
    /// Not within `limit`, or the console ended; the error holds its last lines.
    pub async fn wait_after(&self, mark: usize, part: &str, limit: Duration) -> Result<(Instant, String)> {
        let mut count = self.count.clone();
        let found = tokio::time::timeout(limit, async {
            loop {
                count.borrow_and_update();
                let found = self.find(mark, part);
                if found.is_some() || count.changed().await.is_err() {
                    return found;
                }
            }
        });
        match found.await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                bail!("the machine ended and its console had no {part:?}; the end of it:\n{}", self.tail())
            }
            Err(_) => bail!("no {part:?} on the console within {limit:?}; the end of it:\n{}", self.tail()),
        }
    }

    fn find(&self, mark: usize, part: &str) -> Option<(Instant, String)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(mark).find(|(_, line)| line.contains(part)).cloned()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines.iter().skip(lines.len().saturating_sub(TAIL)).map(|(_, line)| format!("    {line}\n")).collect()
    }
}

async fn read(
    mut stream: impl AsyncRead + Send + Unpin,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    count: watch::Sender<usize>,
) {
    let shown = std::env::var_os("TIDEGATE_CONSOLE").is_some();
    let mut rest = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut rest).await {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = without_colours(&String::from_utf8_lossy(&line));
            if shown {
                println!("  | {line}");
            }
            lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
            count.send_modify(|count| *count += 1);
        }
    }
}

/// A line as a person reads it: without escape sequences and ends of lines.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // "[", parameters, and a letter that ends it.
            let _ = chars.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Console, without_colours};
    use std::time::Duration;

    #[test]
    fn colours_and_returns_are_taken_out() {
        assert_eq!(without_colours("a\u{1b}[0;1;31mred\u{1b}[0m\r\n"), "ared");
    }

    #[tokio::test]
    async fn what_did_not_come_is_said_with_what_came() {
        let console = Console::of(&b"one\r\ntwo\n"[..]);
        assert_eq!(console.wait("tw", Duration::from_secs(9)).await.unwrap().1, "two");
        let error = console.wait("three", Duration::from_secs(9)).await.unwrap_err().to_string();
        assert!(error.contains("three") && error.contains("two"), "{error}");
    }
}
