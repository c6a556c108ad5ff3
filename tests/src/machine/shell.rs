//! The root shell on the virtual console hvc0: that of the test machine's image, or systemd's debug shell on an image for gateways.

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

/// Turns a debug shell into what the test machine's image has (its script has the same lines).
const TAME: &str = r#"SYSTEMD_PAGER=cat exec sh -c 'stty raw -echo; printf "\036 ready\n"; while IFS= read -r line; do (eval "$line") 2>&1 </dev/null; printf "\036 %s\n" "$?"; done'"#;

/// What a debug shell says when it listens.
const PROMPT: char = '#';

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
    /// Whether it has to be tamed first.
    debug: bool,
}

impl Shell {
    pub(super) async fn connect(socket: &Path, debug: bool) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("the socket of the test shell")?;
        Ok(Self { stream, rest: String::new(), ready: false, debug })
    }

    /// Runs one line of bash and gives what it said, whatever its exit code.
    ///
    /// # Errors
    /// The machine ended, or there was no answer in time.
    pub async fn ask(&mut self, line: &str) -> Result<Said> {
        ensure!(!line.contains('\n'), "one line at a time");
        if !self.ready {
            if self.debug {
                let prompt = self.until(BOOT_MAX, |rest| rest.contains(PROMPT).then_some(()));
                prompt.await.context("the debug shell does not start")?;
                self.rest.clear();
                self.stream.write_all(format!("{TAME}\n").as_bytes()).await?;
            }
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
        self.until(limit, take).await
    }

    /// Reads until `take` finds something in what has come.
    async fn until<T>(&mut self, limit: Duration, take: impl Fn(&mut String) -> Option<T>) -> Result<T> {
        let found = tokio::time::timeout(limit, async {
            loop {
                if let Some(found) = take(&mut self.rest) {
                    return Ok(found);
                }
                let mut bytes = [0; 4096];
                let count = self.stream.read(&mut bytes).await?;
                ensure!(count > 0, "the machine has ended");
                self.rest.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => bail!("no answer within {limit:?}"),
        }
    }
}

/// The answer that is complete, if one is: text, the end sign, a status and the end of the line.
fn take(rest: &mut String) -> Option<Said> {
    let end = rest.find(END)?;
    let line = rest[end..].find('\n')? + end;
    let status = rest[end + END.len_utf8()..line].trim().to_owned();
    let text = rest[..end].replace('\r', "");
    rest.drain(..=line);
    Some(Said { text, code: status.parse().unwrap_or(READY) })
}
