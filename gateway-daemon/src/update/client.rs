//! A client's end of the agent's socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use gateway_core::update::wire::{LINE_BYTES_MAX, Reply, Request};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::job::JOB_MAX;
use super::lines;

/// Connecting and asking takes no longer, also when systemd has to start the agent first.
const ASK_MAX: Duration = Duration::from_secs(30);

/// Why the agent gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not to us.
    #[error("{0}")]
    Unreachable(io::Error),
    /// It was there and is gone.
    #[error("the update agent hung up")]
    Gone,
    /// It says what is not understood.
    #[error("the update agent says what is not understood: {0}")]
    Strange(serde_json::Error),
}

/// One request and its replies.
#[derive(Debug)]
pub struct Client {
    read: BufReader<OwnedReadHalf>,
    /// Open until the last reply has come.
    _write: OwnedWriteHalf,
}

impl Client {
    /// Asks the agent that listens on `path`.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let ask = async {
            let stream = UnixStream::connect(path).await?;
            let (read, mut write) = stream.into_split();
            let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
            line.push(b'\n');
            write.write_all(&line).await?;
            Ok(Self { read: BufReader::new(read), _write: write })
        };
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        timeout(ASK_MAX, ask).await.unwrap_or_else(late).map_err(ClientError::Unreachable)
    }

    /// The next reply.
    ///
    /// # Errors
    /// There is none, although there should be.
    pub async fn reply(&mut self) -> Result<Reply, ClientError> {
        let line = timeout(JOB_MAX, lines::next(&mut self.read, LINE_BYTES_MAX)).await;
        let line = line.ok().flatten().ok_or(ClientError::Gone)?;
        serde_json::from_slice(&line).map_err(ClientError::Strange)
    }
}
