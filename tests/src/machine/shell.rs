//! The root shell on the virtual console hvc0, which only the image of the test machine has.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{BOOT_MAX, STEP_MAX};

/// Ends every answer of the guest's side (`tests/qemu/overlay/usr/lib/tidegate-test/shell`).
const END: char = '\u{1e}';

/// Stands for the word that the guest's side says when it starts; no exit code of a program.
const READY: i32 = -1;

/// What a command said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Standard output and error.
    pub text: String,
    /// Exit code.
    pub code: i32,
}

/// The connection to it.
pub struct Shell {
    stream: UnixStream,
    rest: String,
    ready: bool,
}

impl Shell {
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("the socket of the test shell")?;
        Ok(Self { stream, rest: String::new(), ready: false })
    }

    /// Runs one line of bash and gives what it said, whatever its exit code.
    ///
    /// # Errors
    /// The machine ended, or there was no answer in time.
    pub async fn ask(&mut self, line: &str) -> Result<Said> {
        ensure!(!line.contains('\n'), "one line at a time");
        if !self.ready {
            self.answer(BOOT_MAX).await.context("the test shell does not start")?;
            self.ready = true;
        }
        self.stream.write_all(format!("{line}\n").as_bytes()).await?;
        loop {
            let said = self.answer(STEP_MAX).await.with_context(|| format!("in the guest: {line}"))?;
            // A guest that has restarted has a shell of its own, which says so once.
            if said.code != READY {
                return Ok(said);
            }
        }
    }

    /// Runs one line of bash that must succeed, and gives what it said.
    ///
    /// # Errors
    /// It failed, the machine ended, or there was no answer in time.
    pub async fn run(&mut self, line: &str) -> Result<String> {
        let said = self.ask(line).await?;
        ensure!(said.code == 0, "in the guest, `{line}` ended with {}: {}", said.code, said.text);
        Ok(said.text)
    }

    async fn answer(&mut self, limit: Duration) -> Result<Said> {
        let answer = tokio::time::timeout(limit, async {
            loop {
                if let Some(said) = self.take() {
                    return Ok(said);
                }
                let mut bytes = [0; 4096];
                let count = self.stream.read(&mut bytes).await?;
                ensure!(count > 0, "the machine has ended");
                self.rest.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        match answer.await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {limit:?}"),
        }
    }

    /// The answer that is complete, if one is: text, the end sign, a status and the end of the line.
    fn take(&mut self) -> Option<Said> {
        let end = self.rest.find(END)?;
        let line = self.rest[end..].find('\n')? + end;
        let status = self.rest[end + END.len_utf8()..line].trim().to_owned();
        let text = self.rest[..end].replace('\r', "");
        self.rest.drain(..=line);
        Some(Said { text, code: status.parse().unwrap_or(READY) })
    }
}
